//! What an address is, and how it is read.
//!
//! The need: people write where servers are in one line, be it a name, an IP address or what DNS keeps for either. The rule:
//! what is read can be meant, and what cannot is refused when the configuration is read, with what to write instead; never
//! later, by DNS.

use std::fmt;
use std::net::IpAddr;

use super::Server;

/// Where servers are, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: Box<str>,
    pub(super) form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `host:port`: one server of this name; the system resolves it when it connects.
    Plain { host: Box<str> },
    /// `dns+host:port`: a server for each A and AAAA record.
    Dns { host: Box<str>, port: u16 },
    /// `dnssrv+name`: the servers for each SRV record.
    Srv { name: Box<str>, targets: Targets },
}

/// What is made of the target of an SRV record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Targets {
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
    pub(super) fn plain(&self) -> Option<Server> {
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

#[cfg(test)]
mod tests {
    use super::super::{Discovery, Options};
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
