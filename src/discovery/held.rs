//! What is held of the names in one address.
//!
//! DNS has good days and bad days, so **the last good answer is kept, for each name**: one that resolves to nothing, does not
//! exist or is not answered leaves the servers as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use futures::{StreamExt, stream};
use hickory_resolver::proto::rr::RData;

use super::Server;
use super::address::{Address, Form, Targets};
use super::resolver::{Kind, SharedResolver, Trouble};

/// One address has at most so many servers.
const MAX_SERVERS: usize = 1_000;
/// The targets of an SRV record are resolved at most so many at a time.
const MAX_LOOKUPS: usize = 16;

/// The last good answers to the questions of one address.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The targets of its SRV records.
    targets: BTreeSet<(String, u16)>,
    /// The addresses of each host.
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
}

impl Held {
    /// The servers of `address` as far as they are known after asking again, and what went wrong, if anything.
    pub async fn resolve(
        &mut self,
        address: &Address,
        resolver: &SharedResolver,
    ) -> (BTreeSet<Server>, Option<Trouble>) {
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

fn keep_first<T: Ord + Clone>(set: &mut BTreeSet<T>, count: usize) {
    if let Some(beyond) = set.iter().nth(count).cloned() {
        set.split_off(&beyond);
    }
}
