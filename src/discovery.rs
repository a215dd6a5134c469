//! Addresses that change: a name in DNS stands for the servers that it resolves to now.
//!
//! Names are resolved in the background, again and again, and never by who asks for the servers. DNS has good days and bad
//! days, so **the last good answer is kept, for each name**: one that resolves to nothing, does not exist or is not
//! answered leaves the servers as they were. A trouble is told when it begins, changes or ends, not in each round. The
//! list is sorted and has no server twice, so that all replicas see the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, future, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config;
use crate::jitter::jittered;

/// One address has at most so many servers.
const MAX_SERVERS: usize = 1_000;
/// The targets of an SRV record are resolved at most so many at a time.
const MAX_LOOKUPS: usize = 16;
/// An address that never resolved is tried again after this, if its turn is not sooner.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// What the system's resolver is told by. When one of them changes it is read again.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The servers, sorted by address, each address once.
pub type Servers = Arc<[Server]>;

/// A server that an address stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Where to connect, as `host:port`.
    pub address: Box<str>,
    /// The host that it is one of, without brackets: what stands in the address or in the SRV record. It is the name that a
    /// certificate bears and that virtual hosts go by.
    pub host: Box<str>,
}

/// Where servers are, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: Box<str>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `host:port`: one server of this name; the system resolves it when it connects.
    Plain { host: Box<str> },
    /// `dns+host:port`: a server for each A and AAAA record.
    Dns { host: Box<str>, port: u16 },
    /// `dnssrv+name`: the servers for each SRV record.
    Srv { name: Box<str>, targets: Targets },
}

/// What is made of the target of an SRV record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Targets {
    /// `dnssrv+`: its A and AAAA records.
    Resolved,
    /// `dnssrvnoa+`: itself.
    Named,
}

impl Address {
    /// Reads `host:port`, `dns+host:port`, `dnssrv+name` or `dnssrvnoa+name`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = match text.split_once('+') {
            None => Form::Plain { host: host_and_port(text, text)?.0.into() },
            Some(("dns", rest)) => {
                let (host, port) = host_and_port(text, rest)?;
                Form::Dns { host: host.into(), port }
            }
            Some(("dnssrv", rest)) => Form::Srv { name: srv_name(text, rest)?.into(), targets: Targets::Resolved },
            Some(("dnssrvnoa", rest)) => Form::Srv { name: srv_name(text, rest)?.into(), targets: Targets::Named },
            Some((prefix, _)) => {
                return Err(format!(
                    "{text:?} begins with {prefix}+, which is not known; write host:port, dns+host:port, \
                     dnssrv+_service._proto.name or dnssrvnoa+_service._proto.name"
                ));
            }
        };
        Ok(Self { text: text.into(), form })
    }

    /// The one server of an address that is not resolved.
    fn plain(&self) -> Option<Server> {
        match &self.form {
            Form::Plain { host } => Some(Server { address: self.text.clone(), host: host.clone() }),
            Form::Dns { .. } | Form::Srv { .. } => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The host of `rest` without brackets, and the port.
fn host_and_port<'a>(text: &str, rest: &'a str) -> Result<(&'a str, u16), String> {
    if rest.is_empty() {
        return Err(format!("{text:?} names no server; write host:port, for example {text}cache:11211"));
    }
    let no_port = || format!("{text:?} has no port; write {text}:11211, for example");
    if rest.ends_with(']') || rest.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) {
        return Err(no_port());
    }
    let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(ip) if ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => ip,
        None if host.contains(':') && host.bytes().all(|byte| byte == b':' || byte.is_ascii_hexdigit()) => {
            let ip = if rest.parse::<IpAddr>().is_ok() { rest } else { host };
            return Err(format!("{text:?} has no port, or an IPv6 address without brackets; write [{ip}]:11211"));
        }
        _ => named(text, host)?,
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port @ 1..) if is_number => Ok((host, port)),
        _ => Err(format!("{text:?} has the port {port:?}; it must be a number from 1 to 65535")),
    }
}

/// The name that SRV records are asked for.
fn srv_name<'a>(text: &str, rest: &'a str) -> Result<&'a str, String> {
    match rest.rsplit_once(':') {
        Some((name, _)) => {
            Err(format!("{text:?} has a port, but SRV records say the port; write {name:?} after the +"))
        }
        None => named(text, rest),
    }
}

fn named<'a>(text: &str, host: &'a str) -> Result<&'a str, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') || !byte.is_ascii();
    let labels = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 255 || labels.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(format!("{text:?} has no host name in it; write cache.example.org, for example"));
    }
    if !host.bytes().all(is_name) {
        return Err(format!(
            "{text:?} has {host:?} where a host name must be; write a name alone, without a scheme or a path"
        ));
    }
    Ok(host)
}

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// After so long a name is resolved again; a tenth more or less, so that replicas do not ask at once.
    pub interval: Duration,
    /// One question may take this long, with all its retries.
    pub timeout: Duration,
    /// Who is asked; the system's name servers if empty.
    pub name_servers: Vec<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(10), name_servers: Vec::new() }
    }
}

impl Options {
    /// As they are configured.
    pub fn configured(options: &config::Discovery) -> Result<Self, String> {
        let name_server = |text: &String| {
            let problem = |error| format!("discovery.nameservers: {text:?} is not ip:port: {error}");
            text.parse().map_err(problem)
        };
        let name_servers: Result<_, String> = options.nameservers.iter().map(name_server).collect();
        Ok(Self { interval: options.interval, name_servers: name_servers?, ..Self::default() })
    }
}

/// The servers that a list of addresses stands for, kept up to date until it is dropped.
#[derive(Debug)]
pub struct Discovery {
    current: Arc<Current>,
    task: Option<AbortHandle>,
}

/// What is known now.
#[derive(Debug)]
struct Current {
    /// The servers of each address.
    parts: Mutex<Vec<BTreeSet<Server>>>,
    servers: watch::Sender<Servers>,
    failures: AtomicU64,
}

impl Discovery {
    /// Begins with the plain addresses; the others follow when DNS has answered. If there are any, it must be called
    /// within a tokio runtime.
    pub fn new(addresses: Vec<Address>, options: Options) -> Self {
        let parts: Vec<_> = addresses.iter().map(|address| address.plain().into_iter().collect()).collect();
        let servers = watch::Sender::new(united(&parts));
        let current = Arc::new(Current { parts: Mutex::new(parts), servers, failures: AtomicU64::new(0) });
        let mut names: Vec<_> = addresses.into_iter().enumerate().collect();
        names.retain(|(_, address)| address.plain().is_none());
        let task = (!names.is_empty()).then(|| tokio::spawn(follow_all(names, options, Arc::clone(&current))));
        Self { current, task: task.map(|task| task.abort_handle()) }
    }

    /// The servers as they are now.
    pub fn servers(&self) -> Servers {
        Arc::clone(&self.current.servers.borrow())
    }

    /// The servers as they are now, and word of each change.
    pub fn subscribe(&self) -> watch::Receiver<Servers> {
        self.current.servers.subscribe()
    }

    /// How many times an address was resolved without a whole answer.
    pub fn failures(&self) -> u64 {
        self.current.failures.load(Ordering::Relaxed)
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Current {
    fn put(&self, index: usize, part: BTreeSet<Server>) {
        let mut parts = self.parts.lock();
        if parts[index] == part {
            return;
        }
        parts[index] = part;
        let united = united(&parts);
        self.servers.send_if_modified(|servers| {
            let is_new = *servers != united;
            *servers = united;
            is_new
        });
    }
}

fn united(parts: &[BTreeSet<Server>]) -> Servers {
    let servers: BTreeSet<_> = parts.iter().flatten().collect();
    let mut servers: Vec<_> = servers.into_iter().cloned().collect();
    servers.dedup_by(|next, first| next.address == first.address);
    servers.into()
}

fn keep_first<T: Ord + Clone>(set: &mut BTreeSet<T>, count: usize) {
    if let Some(beyond) = set.iter().nth(count).cloned() {
        set.split_off(&beyond);
    }
}

/// Resolves each address again and again, none of them waiting for another.
async fn follow_all(addresses: Vec<(usize, Address)>, options: Options, current: Arc<Current>) {
    let resolver = SharedResolver { options, built: Mutex::default() };
    future::join_all(addresses.iter().map(|(index, address)| follow(*index, address, &resolver, &current))).await;
}

async fn follow(index: usize, address: &Address, resolver: &SharedResolver, current: &Current) {
    let (mut held, mut told) = (Held::default(), None);
    loop {
        let (servers, trouble) = held.resolve(address, resolver).await;
        if trouble.is_some() {
            current.failures.fetch_add(1, Ordering::Relaxed);
        }
        tell(address, servers.len(), trouble.as_ref(), told);
        told = trouble.map(|trouble| trouble.kind);
        let interval = resolver.options.interval;
        let pause = if servers.is_empty() { interval.min(FIRST_ANSWER) } else { interval };
        current.put(index, servers);
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Says what is new about a trouble.
fn tell(address: &Address, servers: usize, trouble: Option<&Trouble>, told: Option<Kind>) {
    match trouble {
        Some(trouble) if Some(trouble.kind) != told => {
            let (why, outcome) = (&trouble.text, trouble.kind.outcome());
            tracing::warn!(%address, servers, %why, "a name was not resolved: {outcome}");
        }
        None if told.is_some() => tracing::info!(%address, servers, "the name is resolved again"),
        _ => {}
    }
}

/// Why an address was not resolved, or not as it should be.
#[derive(Debug)]
struct Trouble {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// DNS says that there is nothing under the name.
    Nothing,
    /// DNS does not say what there is.
    Unanswered,
    /// There is more than anybody needs.
    TooMany,
}

impl Kind {
    fn outcome(self) -> &'static str {
        match self {
            Self::Nothing | Self::Unanswered => "what it resolved to before stays",
            Self::TooMany => "the first servers in their order are taken",
        }
    }
}

impl From<NetError> for Trouble {
    fn from(error: NetError) -> Self {
        match error {
            error if error.is_nx_domain() => Self::nothing("there is no such name"),
            error if error.is_no_records_found() => Self::nothing("the name has no such records"),
            error => Self { kind: Kind::Unanswered, text: error.to_string() },
        }
    }
}

impl Trouble {
    fn nothing(text: &str) -> Self {
        Self { kind: Kind::Nothing, text: text.to_owned() }
    }
}

/// The last good answers to the questions of one address.
#[derive(Debug, Default)]
struct Held {
    /// The targets of its SRV records.
    targets: BTreeSet<(String, u16)>,
    /// The addresses of each host.
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Held {
    /// The servers of `address` as far as they are known after asking again, and what went wrong, if anything.
    async fn resolve(&mut self, address: &Address, resolver: &SharedResolver) -> (BTreeSet<Server>, Option<Trouble>) {
        let (mut servers, mut trouble) = match &address.form {
            Form::Plain { .. } => (address.plain().into_iter().collect(), None),
            Form::Dns { host, port } => {
                let targets = BTreeSet::from([(host.to_string(), *port)]);
                self.resolve_hosts(&targets, resolver).await
            }
            Form::Srv { name, targets } => {
                let trouble = self.resolve_targets(name, resolver).await;
                match targets {
                    Targets::Named => {
                        let named = |(host, port): &(String, u16)| Server {
                            address: format!("{host}:{port}").into(),
                            host: host.as_str().into(),
                        };
                        (self.targets.iter().map(named).collect(), trouble)
                    }
                    Targets::Resolved => {
                        let targets = self.targets.clone();
                        let (servers, other) = self.resolve_hosts(&targets, resolver).await;
                        (servers, trouble.or(other))
                    }
                }
            }
        };
        if servers.len() > MAX_SERVERS {
            let text = format!("it stands for more than {MAX_SERVERS} servers");
            trouble = trouble.or(Some(Trouble { kind: Kind::TooMany, text }));
            keep_first(&mut servers, MAX_SERVERS);
        }
        (servers, trouble)
    }

    /// Asks for the SRV records.
    async fn resolve_targets(&mut self, name: &str, resolver: &SharedResolver) -> Option<Trouble> {
        let answer = resolver.ask(|dns| async move { dns.srv_lookup(name).await }).await;
        let targets = answer.map(|lookup| {
            let records = lookup.answers().iter().filter_map(|record| match &record.data {
                // The root as target says that there is no such service.
                RData::SRV(srv) if !srv.target.is_root() => Some(srv),
                _ => None,
            });
            let target = |host: &str| host.strip_suffix('.').unwrap_or(host).to_owned();
            let mut targets = records.map(|srv| (target(&srv.target.to_ascii()), srv.port)).collect();
            // One more than may be, so that it shows.
            keep_first(&mut targets, MAX_SERVERS + 1);
            targets
        });
        match targets {
            Ok(targets) if targets.is_empty() => Some(Trouble::nothing("the name has no such records")),
            Ok(targets) => {
                self.targets = targets;
                None
            }
            Err(trouble) => Some(trouble),
        }
    }

    /// Asks for the addresses of all hosts, and forgets those of all others.
    async fn resolve_hosts(
        &mut self,
        targets: &BTreeSet<(String, u16)>,
        resolver: &SharedResolver,
    ) -> (BTreeSet<Server>, Option<Trouble>) {
        let hosts: BTreeSet<&String> = targets.iter().map(|(host, _)| host).collect();
        let held = std::mem::take(&mut self.hosts);
        let ask = |host: &String| {
            let (host, before) = (host.clone(), held.get(host).cloned().unwrap_or_default());
            async move {
                let (ips, trouble) = resolver.resolve_host(&host, before).await;
                (host, ips, trouble)
            }
        };
        let questions: Vec<_> = hosts.into_iter().map(ask).collect();
        let answers: Vec<_> = stream::iter(questions).buffer_unordered(MAX_LOOKUPS).collect().await;
        let mut first_trouble = None;
        for (host, ips, trouble) in answers {
            first_trouble = first_trouble
                .or(trouble.map(|Trouble { kind, text }| Trouble { kind, text: format!("{host}: {text}") }));
            self.hosts.insert(host, ips);
        }
        let servers = targets.iter().flat_map(|(host, port)| {
            let ips = self.hosts.get(host).into_iter().flatten();
            ips.map(|ip| Server { address: SocketAddr::new(*ip, *port).to_string().into(), host: host.as_str().into() })
        });
        (servers.collect(), first_trouble)
    }
}

/// The resolver of all addresses. It keeps no answers.
#[derive(Debug)]
struct SharedResolver {
    options: Options,
    built: Mutex<Option<(SystemState, TokioResolver)>>,
}

type SystemState = [Option<Vec<u8>>; 2];

impl SharedResolver {
    /// The addresses of a host: those that DNS says, and of `before` what it did not speak of.
    async fn resolve_host(&self, host: &str, before: BTreeSet<IpAddr>) -> (BTreeSet<IpAddr>, Option<Trouble>) {
        if let Ok(ip) = host.parse() {
            return (BTreeSet::from([ip]), None);
        }
        let lookup = match self.ask(|dns| async move { dns.lookup_ip(host).await }).await {
            Ok(lookup) => lookup,
            Err(trouble) => return (before, Some(trouble)),
        };
        let mut ips: BTreeSet<IpAddr> = lookup.iter().collect();
        if ips.is_empty() {
            return (before, Some(Trouble::nothing("the name has no such records")));
        }
        // A lookup succeeds when one family was answered, and does not say what became of the other one.
        let mut trouble = None;
        for (family, is_family) in
            [(RecordType::A, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (RecordType::AAAA, IpAddr::is_ipv6)]
        {
            if ips.iter().any(is_family) || !before.iter().any(is_family) {
                continue;
            }
            let name = lookup.query().name().clone();
            match self.ask(|dns| async move { dns.lookup(name, family).await }).await {
                Ok(more) => ips.extend(more.answers().iter().filter_map(|record| record.data.ip_addr())),
                Err(Trouble { kind: Kind::Nothing, .. }) => {}
                Err(unanswered) => {
                    ips.extend(before.iter().copied().filter(is_family));
                    trouble = Some(unanswered);
                }
            }
        }
        (ips, trouble)
    }

    /// Asks one question, in time.
    async fn ask<T, F>(&self, question: impl FnOnce(TokioResolver) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, NetError>>,
    {
        let answer = tokio::time::timeout(self.options.timeout, question(self.resolver()?)).await;
        Ok(answer.unwrap_or(Err(NetError::Timeout))?)
    }

    /// The resolver, built anew when the system's files are no longer those it was built from.
    fn resolver(&self) -> Result<TokioResolver, Trouble> {
        let state = if self.options.name_servers.is_empty() {
            SYSTEM_FILES.map(|file| fs::read(file).ok())
        } else {
            SystemState::default()
        };
        let mut built = self.built.lock();
        if let Some((from, resolver)) = &*built
            && *from == state
        {
            return Ok(resolver.clone());
        }
        let resolver = self.build()?;
        *built = Some((state, resolver.clone()));
        Ok(resolver)
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.options.name_servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.options.name_servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        // Asked twice, and in time to say of two families the one that was answered.
        options.timeout = self.options.timeout / 3;
        options.attempts = 1;
        // What is asked again is to be answered again.
        options.cache_size = 0;
        options.positive_max_ttl = Some(Duration::ZERO);
        options.negative_max_ttl = Some(Duration::ZERO);
        builder.build()
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Form {
        Address::parse(text).expect(text).form
    }

    #[test]
    fn the_four_forms() {
        for plain in ["cache:11211", "10.0.0.1:1", "[::1]:65535", "cache-0.cache.svc.:11211"] {
            let host = plain.rsplit_once(':').expect("it has a port").0.trim_matches(['[', ']']);
            assert_eq!(parsed(plain), Form::Plain { host: host.into() }, "{plain}");
            assert_eq!(
                *Discovery::new(vec![Address::parse(plain).expect(plain)], Options::default()).servers(),
                [Server { address: plain.into(), host: host.into() }]
            );
        }
        assert_eq!(parsed("dns+cache:11211"), Form::Dns { host: "cache".into(), port: 11211 });
        assert_eq!(parsed("dns+[::1]:11211"), Form::Dns { host: "::1".into(), port: 11211 });
        let name = "_memcache._tcp.cache.svc";
        let srv = |targets| Form::Srv { name: name.into(), targets };
        assert_eq!(parsed(&format!("dnssrv+{name}")), srv(Targets::Resolved));
        assert_eq!(parsed(&format!("dnssrvnoa+{name}")), srv(Targets::Named));
    }

    #[test]
    fn an_address_that_is_none_says_what_to_write() {
        let long = format!("{}:1", "a".repeat(64));
        for (text, hint) in [
            ("", "write host:port"),
            ("dns+", "write host:port"),
            ("cache", "write cache:11211"),
            ("dns+cache", "write dns+cache:11211"),
            ("10.0.0.1", "write 10.0.0.1:11211"),
            ("[::1]", "write [::1]:11211"),
            ("::1", "write [::1]:11211"),
            ("dns+fe80::1:11211", "write [fe80::1]:11211"),
            ("cache:", "from 1 to 65535"),
            ("cache:0", "from 1 to 65535"),
            ("cache:65536", "from 1 to 65535"),
            ("cache:memcache", "from 1 to 65535"),
            ("cache:+80", "write host:port"),
            (":11211", "write cache.example.org"),
            ("a..b:11211", "write cache.example.org"),
            (&long, "write cache.example.org"),
            ("http://cache:11211", "without a scheme"),
            ("ca che:11211", "without a scheme"),
            ("[cache]:11211", "without a scheme"),
            ("dnsx+cache:11211", "write host:port, dns+host:port"),
            ("+cache:11211", "write host:port, dns+host:port"),
            ("dnssrv+", "write cache.example.org"),
            ("dnssrv+_memcache._tcp.cache:11211", "SRV records say the port"),
        ] {
            let message = Address::parse(text).expect_err(text);
            assert!(message.contains(hint) && message.contains(&format!("{text:?}")), "{text}: {message}");
        }
    }
}
