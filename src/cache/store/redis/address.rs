//! Which servers are meant: the options, read and checked once.
//!
//! A URL names hosts, a port and a database, never a secret: it stands in logs and metrics. What cannot be meant is refused
//! with the words that would be right, and a refusal never repeats what stands where a password might.

use std::fmt;

use crate::config::Redis as Options;

/// Where a server listens if the URL does not say.
const REDIS_PORT: u16 = 6379;
/// The same for a sentinel.
const SENTINEL_PORT: u16 = 26_379;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How the servers belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One server.
    Single(Address),
    /// One master with replicas, and the sentinels that know which is the master now.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<Address>,
        /// The name under which they know it.
        master: String,
    },
    /// Several masters, of which each has a share of the keys. Some nodes are enough: they name the others.
    Cluster(Vec<Address>),
}

/// What the options mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The servers.
    pub kind: Kind,
    /// Whether to speak TLS, and nothing else.
    pub is_tls: bool,
    /// The number of the database.
    pub db: u32,
}

impl Target {
    /// Reads the options.
    pub fn new(options: &Options) -> Result<Self, String> {
        let (is_tls, rest) = scheme(&options.url)?;
        if rest.contains('@') {
            return Err("url must not hold a user or a password; set username and password_file".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err("url must not hold ? or #; write redis://host:port/db".to_owned());
        }
        let (hosts, db) = rest.split_once('/').unwrap_or((rest, ""));
        let db = match db.trim_end_matches('/') {
            "" => 0,
            db => db.parse().map_err(|_| {
                format!("url: {db:?} is not the number of a database; write redis://host:port/0, for example")
            })?,
        };
        let is_sentinel = !options.sentinel_master.is_empty();
        let port = if is_sentinel { SENTINEL_PORT } else { REDIS_PORT };
        let mut hosts = hosts.split(',').map(|host| address(host, port)).collect::<Result<Vec<_>, _>>()?;
        let kind = match (options.cluster, is_sentinel) {
            (true, true) => {
                return Err("cluster and sentinel_master exclude each other: a cluster fails over by itself".to_owned());
            }
            (true, false) if db != 0 => {
                return Err(format!("url: a cluster has database 0 only; leave out /{db}"));
            }
            (true, false) => Kind::Cluster(hosts),
            (false, true) => Kind::Sentinel { sentinels: hosts, master: options.sentinel_master.clone() },
            (false, false) if hosts.len() == 1 => Kind::Single(hosts.remove(0)),
            (false, false) => {
                return Err(format!(
                    "url names {} hosts; set cluster: true if they are nodes of a cluster, or sentinel_master if they \
                     are sentinels",
                    hosts.len()
                ));
            }
        };
        check_login(options)?;
        check_tls(options, is_tls)?;
        Ok(Self { kind, is_tls, db })
    }
}

fn scheme(url: &str) -> Result<(bool, &str), String> {
    const RIGHT: &str = "write redis://host:port, or rediss://host:port for TLS";
    match url.split_once("://") {
        Some(("redis", rest)) => Ok((false, rest)),
        Some(("rediss", rest)) => Ok((true, rest)),
        Some(("unix" | "redis+unix" | "redis-socket", _)) => {
            Err(format!("url: unix sockets are not supported; {RIGHT}"))
        }
        Some((scheme, _)) if scheme.contains("sentinel") => {
            Err(format!("url: {scheme:?} is not a known scheme; {RIGHT}, and set sentinel_master"))
        }
        Some((scheme, _)) if scheme.contains("cluster") => {
            Err(format!("url: {scheme:?} is not a known scheme; {RIGHT}, and set cluster: true"))
        }
        Some((scheme, _)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+') => {
            Err(format!("url: {scheme:?} is not a known scheme; {RIGHT}"))
        }
        _ if url.is_empty() => Err(format!("url is empty; {RIGHT}")),
        _ => Err(format!("url has no scheme; {RIGHT}")),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn address(text: &str, default_port: u16) -> Result<Address, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(|| format!("url: a ] is missing in {text:?}"))?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!("url: write an IPv6 address in brackets: [{text}]:{default_port}"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(format!("url: {text:?} is not a host; write redis://host:port"));
    }
    let port = match port {
        Some("") => Some(default_port),
        Some(port) => port.parse().ok().filter(|port| *port != 0),
        None => None,
    };
    let port = port.ok_or_else(|| format!("url: the port in {text:?} is not one from 1 to 65535"))?;
    Ok(Address { host: host.to_owned(), port })
}

fn check_login(options: &Options) -> Result<(), String> {
    if !options.username.is_empty() && options.password_file.as_os_str().is_empty() {
        return Err("username needs password_file: the path of a file with the password".to_owned());
    }
    if !options.sentinel_username.is_empty() && options.sentinel_password_file.as_os_str().is_empty() {
        return Err("sentinel_username needs sentinel_password_file: the path of a file with the password".to_owned());
    }
    if options.sentinel_master.is_empty() && !options.sentinel_password_file.as_os_str().is_empty() {
        return Err("sentinel_password_file needs sentinel_master: the name under which the sentinels know the master"
            .to_owned());
    }
    Ok(())
}

fn check_tls(options: &Options, is_tls: bool) -> Result<(), String> {
    let files = [("ca_file", &options.ca_file), ("cert_file", &options.cert_file), ("key_file", &options.key_file)];
    if let Some((name, _)) = files.iter().find(|(_, path)| !is_tls && !path.as_os_str().is_empty()) {
        return Err(format!("{name} is for TLS; write rediss:// in url, or leave it out"));
    }
    match (options.cert_file.as_os_str().is_empty(), options.key_file.as_os_str().is_empty()) {
        (true, false) => Err("key_file needs cert_file: the client certificate, in PEM".to_owned()),
        (false, true) => Err("cert_file needs key_file: the key of the client certificate, in PEM".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    fn url(url: &str) -> Options {
        Options { url: url.to_owned(), ..Options::default() }
    }

    #[test]
    fn urls_name_hosts_ports_and_a_database() {
        let single = |text: &str| Target::new(&url(text)).expect("a sound URL");
        let want = |host, port, is_tls, db| Target { kind: Kind::Single(at(host, port)), is_tls, db };
        assert_eq!(single("redis://localhost"), want("localhost", 6379, false, 0));
        assert_eq!(single("redis://10.0.0.1:7000/3"), want("10.0.0.1", 7000, false, 3));
        assert_eq!(single("rediss://cache.example.org:6380/"), want("cache.example.org", 6380, true, 0));
        assert_eq!(single("redis://[::1]:7000/2"), want("::1", 7000, false, 2));
        assert_eq!(single("redis://[::1]").kind, Kind::Single(at("::1", 6379)));
        assert_eq!(at("::1", 7000).to_string(), "[::1]:7000");

        let sentinel = Options { sentinel_master: "main".to_owned(), ..url("redis://a,b:1234/1") };
        assert_eq!(
            Target::new(&sentinel).expect("sound"),
            Target {
                kind: Kind::Sentinel { sentinels: vec![at("a", 26_379), at("b", 1234)], master: "main".to_owned() },
                is_tls: false,
                db: 1
            }
        );
        let cluster = Options { cluster: true, ..url("rediss://a:7000,b") };
        assert_eq!(Target::new(&cluster).expect("sound").kind, Kind::Cluster(vec![at("a", 7000), at("b", 6379)]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_right_words() {
        for (text, word) in [
            ("", "url is empty"),
            ("localhost:6379", "no scheme"),
            ("http://localhost", "write redis://"),
            ("unix:///run/redis.sock", "unix sockets are not supported"),
            ("redis+sentinel://a", "sentinel_master"),
            ("redis-cluster://a", "cluster: true"),
            ("redis://a,b", "2 hosts"),
            ("redis://a/x", "\"x\" is not the number"),
            ("redis://a/-1", "not the number"),
            ("redis://a:70000", "1 to 65535"),
            ("redis://a:0", "1 to 65535"),
            ("redis://::1", "brackets"),
            ("redis://[::1", "]"),
            ("redis://[::1]7000", "1 to 65535"),
            ("redis://", "not a host"),
            ("redis://a,", "not a host"),
            ("redis://a b", "not a host"),
            ("redis://a?db=1", "?"),
        ] {
            let message = Target::new(&url(text)).expect_err(text);
            assert!(message.contains(word), "{text}: {message}");
        }
        let sound = || url("rediss://a");
        for (options, word) in [
            (Options { cluster: true, ..url("redis://a/1") }, "database 0 only"),
            (Options { cluster: true, sentinel_master: "m".to_owned(), ..sound() }, "exclude"),
            (Options { username: "u".to_owned(), ..sound() }, "password_file"),
            (Options { sentinel_username: "u".to_owned(), ..sound() }, "sentinel_password_file"),
            (Options { sentinel_password_file: "f".into(), ..sound() }, "sentinel_master"),
            (Options { ca_file: "f".into(), ..url("redis://a") }, "rediss://"),
            (Options { cert_file: "f".into(), ..sound() }, "key_file"),
            (Options { key_file: "f".into(), ..sound() }, "cert_file"),
        ] {
            let message = Target::new(&options).expect_err(word);
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_a_password() {
        for text in [
            "redis://user:hunter2@a",
            "redis://:hunter2@a,b/x",
            "rediss://hunter2@a?hunter2",
            "redis://a,user:hunter2@b",
            "redis://a/hunter2@b",
            "user:hunter2@a",
            "user:hunter2://a",
        ] {
            let message = Target::new(&url(text)).expect_err(text);
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(Target::new(&url("redis://u:p@a")).expect_err("a secret").contains("username and password_file"));
    }
}
