//! Where downstream servers are, as configured: a URL, or one whose host stands for the servers that DNS says.
//!
//! Rule: everything that is wrong with a URL is told before anything is connected, with what to write instead; a URL that may
//! hold a password is not repeated.

use std::fmt;

use http::Uri;

use crate::discovery::{Address, Server};

/// A base URL: `http://host:port/prefix`, and `dns+`, `dnssrv+` or `dnssrvnoa+` before it for a name whose servers change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamUrl {
    text: Box<str>,
    pub(super) scheme: Scheme,
    pub(super) address: Address,
    /// What comes before the client's path; without a slash at its end.
    pub(super) prefix: String,
}

/// How a server is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl DownstreamUrl {
    /// Reads one. After `dns+` and its like the scheme may be missing, and is `http` then.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return Err("a URL must not hold a user or a password; write basic_auth".to_owned());
        }
        let (lookup, url) = split_lookup(text)?;
        let uri: Uri = match lookup {
            Some(_) if !url.contains("://") => format!("http://{url}").parse(),
            _ => url.parse(),
        }
        .map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(format!("{text:?} must begin with http:// or https://")),
        };
        // The parser of URLs drops a fragment without a word.
        if uri.query().is_some() || url.contains('#') {
            return Err(format!("{text:?} must not have a query or a fragment"));
        }
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let port = Port::read(authority).ok_or_else(|| {
            format!("{text:?} has a port that is none; it must be a number from 1 to 65535, or left out")
        })?;
        let host = authority[..authority.len() - port.length].to_ascii_lowercase();
        let address = match (lookup, port.number) {
            (Some("dnssrv" | "dnssrvnoa"), Some(_)) => {
                return Err(format!("{text:?} has a port, but SRV records say the port; leave it out"));
            }
            (Some(lookup @ ("dnssrv" | "dnssrvnoa")), None) => format!("{lookup}+{host}"),
            (Some(lookup), port) => format!("{lookup}+{host}:{}", port.unwrap_or(scheme.default_port())),
            (None, port) => format!("{host}:{}", port.unwrap_or(scheme.default_port())),
        };
        let address = Address::parse(&address)
            .map_err(|_| format!("{text:?} has no host name in it; write prometheus.example.org, for example"))?;
        Ok(Self { text: text.into(), scheme, address, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// What a server of it is called in messages: its own URL.
    pub(super) fn name_of(&self, server: &Server) -> String {
        format!("{}://{}{}", self.scheme.name(), self.without_default_port(&server.address), self.prefix)
    }

    /// What a server of it is called by requests: the host that it is one of, not its address, since virtual hosts go by it.
    /// So for `dns+` it is that of the URL, and with SRV records that of the record.
    pub(super) fn host_of(&self, server: &Server) -> String {
        let host = server.host.trim_end_matches('.');
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = server.address.rsplit_once(':').map(|(_, port)| port).unwrap_or_default();
        self.without_default_port(&format!("{host}:{port}")).to_owned()
    }

    fn without_default_port<'a>(&self, authority: &'a str) -> &'a str {
        let port = self.scheme.default_port().to_string();
        authority.strip_suffix(&port).and_then(|rest| rest.strip_suffix(':')).unwrap_or(authority)
    }
}

impl fmt::Display for DownstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the host is looked up, if not by the system when it is connected; and the rest.
fn split_lookup(text: &str) -> Result<(Option<&str>, &str), String> {
    let before_host = text.split(['/', ':', '[', '?', '#']).next().unwrap_or_default();
    match before_host.split_once('+') {
        None => Ok((None, text)),
        Some((lookup @ ("dns" | "dnssrv" | "dnssrvnoa"), _)) => Ok((Some(lookup), &text[lookup.len() + 1..])),
        Some((lookup, _)) => Err(format!(
            "{text:?} begins with {lookup}+, which is not known; write http://, https://, or before it dns+, dnssrv+ or \
             dnssrvnoa+"
        )),
    }
}

/// The port at the end of an authority.
struct Port {
    number: Option<u16>,
    /// Of its text and the colon before it.
    length: usize,
}

impl Port {
    /// `None` if there is one that is no port.
    fn read(authority: &str) -> Option<Self> {
        let Some((_, port)) = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) else {
            return Some(Self { number: None, length: 0 });
        };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse().ok().filter(|number| is_number && *number > 0)?;
        Some(Self { number: Some(number), length: port.len() + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address, and the name and the `Host` of a server at `10.0.0.1:port` that is `host`.
    fn read(text: &str, host: &str, port: u16) -> (String, String, String) {
        let url = DownstreamUrl::parse(text).unwrap_or_else(|problem| panic!("{problem}"));
        let server = Server { address: format!("10.0.0.1:{port}").into(), host: host.into() };
        (url.address.to_string(), url.name_of(&server), url.host_of(&server))
    }

    #[test]
    fn a_url_stands_for_servers() {
        for (text, host, port, want) in [
            ("http://a:9090", "a", 9090, ("a:9090", "http://10.0.0.1:9090", "a:9090")),
            ("http://A", "a", 80, ("a:80", "http://10.0.0.1", "a")),
            ("https://a/", "a", 443, ("a:443", "https://10.0.0.1", "a")),
            ("https://a:80/b/c/", "a", 80, ("a:80", "https://10.0.0.1:80/b/c", "a:80")),
            ("http://[::1]:9090", "::1", 9090, ("[::1]:9090", "http://10.0.0.1:9090", "[::1]:9090")),
            ("http://[::1]", "::1", 80, ("[::1]:80", "http://10.0.0.1", "[::1]")),
            ("dns+http://a.:9090/b", "a.", 9090, ("dns+a.:9090", "http://10.0.0.1:9090/b", "a:9090")),
            ("dns+a:9090", "a", 9090, ("dns+a:9090", "http://10.0.0.1:9090", "a:9090")),
            ("dns+a/b", "a", 80, ("dns+a:80", "http://10.0.0.1/b", "a")),
            ("dnssrv+https://_h._tcp.a/b", "c", 443, ("dnssrv+_h._tcp.a", "https://10.0.0.1/b", "c")),
            ("dnssrvnoa+_h._tcp.a", "c", 81, ("dnssrvnoa+_h._tcp.a", "http://10.0.0.1:81", "c:81")),
            ("http://a/b+c", "a", 80, ("a:80", "http://10.0.0.1/b+c", "a")),
        ] {
            let (address, name, called) = read(text, host, port);
            assert_eq!((&*address, &*name, &*called), want, "{text}");
        }
    }

    #[test]
    fn a_url_that_is_none_says_what_to_write() {
        for (text, hint) in [
            ("", "is not a URL"),
            ("prometheus:9090", "must begin with http://"),
            ("prometheus", "must begin with http://"),
            ("ftp://a", "must begin with http://"),
            ("dns+ftp://a", "must begin with http://"),
            ("unix:///run/a", "is not a URL"),
            ("dnsx+http://a", "before it dns+"),
            ("http+dns://a", "before it dns+"),
            ("http://a?b=c", "a query"),
            ("http://a/b#c", "a fragment"),
            ("http://a:0", "from 1 to 65535"),
            ("http://a:", "from 1 to 65535"),
            ("http://a:65536", "from 1 to 65535"),
            ("dns+a:x", "from 1 to 65535"),
            ("http://a..b", "no host name"),
            ("dns+http://a$b", "no host name"),
            ("dns+", "is not a URL"),
            ("dnssrv+http://_h._tcp.a:9090", "SRV records say the port"),
        ] {
            let message = DownstreamUrl::parse(text).expect_err(text);
            assert!(message.contains(hint) && message.contains(&format!("{text:?}")), "{text}: {message}");
        }
        let message = DownstreamUrl::parse("http://user:secret@a").expect_err("no user");
        assert!(message.contains("basic_auth") && !message.contains("secret"), "{message}");
    }
}
