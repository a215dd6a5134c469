//! Questions to DNS, and what goes wrong with them.
//!
//! The need: what DNS says of a name now, or why it says nothing. The rule: no answer is kept here, each question has its time,
//! and what one answer leaves open is asked for once more. The system's files are read again when they change, so that nobody
//! has to start anew.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use parking_lot::Mutex;

use super::Options;

/// What the system's resolver is told by. When one of them changes it is read again.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The resolver of all addresses. It keeps no answers.
#[derive(Debug)]
pub(super) struct SharedResolver {
    pub options: Options,
    built: Mutex<Option<(SystemState, TokioResolver)>>,
}

type SystemState = [Option<Vec<u8>>; 2];

impl SharedResolver {
    pub fn new(options: Options) -> Self {
        Self { options, built: Mutex::default() }
    }

    /// The addresses of a host: those that DNS says, and of `before` what it did not speak of.
    pub async fn resolve_host(&self, host: &str, before: BTreeSet<IpAddr>) -> (BTreeSet<IpAddr>, Option<Trouble>) {
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
    pub async fn ask<T, F>(&self, question: impl FnOnce(TokioResolver) -> F) -> Result<T, Trouble>
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

/// Why an address was not resolved, or not as it should be.
#[derive(Debug)]
pub(super) struct Trouble {
    pub kind: Kind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// DNS says that there is nothing under the name.
    Nothing,
    /// DNS does not say what there is.
    Unanswered,
    /// There is more than anybody needs.
    TooMany,
}

impl Kind {
    pub fn outcome(self) -> &'static str {
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
    pub fn nothing(text: &str) -> Self {
        Self { kind: Kind::Nothing, text: text.to_owned() }
    }
}
