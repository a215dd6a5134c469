//! Addresses that change: a name in DNS stands for the servers that it resolves to now.
//!
//! Names are resolved in the background, again and again, and never by who asks for the servers. A trouble is told when it
//! begins, changes or ends, not in each round. The list is sorted and has no server twice, so that all replicas see the same
//! one.

mod address;
mod held;
mod resolver;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config;
use crate::jitter::jittered;

pub use address::Address;
use held::Held;
use resolver::{Kind, SharedResolver, Trouble};

/// An address that never resolved is tried again after this, if its turn is not sooner.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

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

/// Resolves each address again and again, none of them waiting for another.
async fn follow_all(addresses: Vec<(usize, Address)>, options: Options, current: Arc<Current>) {
    let resolver = SharedResolver::new(options);
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
