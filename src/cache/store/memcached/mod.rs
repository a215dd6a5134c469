//! Items on memcached servers, over the classic text protocol.
//!
//! A place belongs to the server with the highest hash of both ([`Node::score`]), so that a server that comes or goes moves
//! only its own share, and all replicas agree as long as they name the servers alike. Nobody stands in for a server that is
//! gone: its items are misses.

mod node;
mod protocol;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use tokio::time::Instant;

use self::node::Node;
use self::protocol::{Batch, Gets, Sets};
use super::{Item, Loss, Read, Server, Store, Write};
use crate::discovery::{self, Address, Discovery, Servers};

/// A value that others wrote may be longer than ours by this, in bytes.
const SLACK: usize = 1024;

/// How memcached is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// No value may be longer than this. The server's own limit, 1 MiB unless it was started with another one, is for the
    /// value, its key and up to 59 bytes of its own together.
    pub max_value_bytes: usize,
    /// Connections to each server that are kept while nobody uses them.
    pub max_idle: usize,
    /// Connections to each server in all; further calls wait for one, until their deadline.
    pub max_connections: usize,
    /// How the names of the servers are resolved.
    pub discovery: discovery::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_value_bytes: (1 << 20) - 1024,
            max_idle: 16,
            max_connections: 128,
            discovery: discovery::Options::default(),
        }
    }
}

/// The servers behind a list of addresses.
#[derive(Debug)]
pub struct Memcached {
    discovery: Discovery,
    known: RwLock<Known>,
    options: Options,
}

/// The nodes for a list of servers.
#[derive(Debug)]
struct Known {
    servers: Servers,
    nodes: Arc<[Arc<Node>]>,
}

impl Memcached {
    /// The servers behind `addresses`. Nothing is connected yet. To be called within a tokio runtime.
    pub fn new(addresses: Vec<Address>, options: Options) -> Self {
        let discovery = Discovery::new(addresses, options.discovery.clone());
        let servers = discovery.servers();
        let nodes = servers.iter().map(|server| Arc::new(Node::new(&server.address, &options))).collect();
        Self { discovery, known: RwLock::new(Known { servers, nodes }), options }
    }

    /// A node for each server. One that stays in the list keeps its breaker and its connections, one that left loses them.
    fn nodes(&self) -> Arc<[Arc<Node>]> {
        let servers = self.discovery.servers();
        let known = self.known.read();
        if Arc::ptr_eq(&known.servers, &servers) {
            return Arc::clone(&known.nodes);
        }
        drop(known);
        let mut known = self.known.write();
        let servers = self.discovery.servers();
        let node = |name: &str| {
            let kept = known.nodes.iter().find(|node| node.name() == name);
            kept.map_or_else(|| Arc::new(Node::new(name, &self.options)), Arc::clone)
        };
        let nodes: Arc<[_]> = servers.iter().map(|server| node(&server.address)).collect();
        *known = Known { servers, nodes: Arc::clone(&nodes) };
        nodes
    }

    /// Has `batch` answered by the server of `place`.
    async fn ask(&self, place: u128, batch: &mut impl Batch, deadline: Instant) -> Result<(), Loss> {
        let node = owner(&self.nodes(), place).ok_or(Loss::Unavailable)?;
        node.ask(batch, deadline).await
    }
}

impl Store for Memcached {
    fn read<'a>(&'a self, place: u128, keys: &'a [String], deadline: Instant) -> BoxFuture<'a, Vec<Read>> {
        async move {
            let mut gets = Gets::new(keys, self.options.max_value_bytes + SLACK);
            let outcome = if keys.is_empty() { Ok(()) } else { self.ask(place, &mut gets, deadline).await };
            gets.outcomes(outcome)
        }
        .boxed()
    }

    fn write(&self, place: u128, items: Vec<Item>, deadline: Instant) -> BoxFuture<'_, Vec<Write>> {
        async move {
            let mut sets = Sets::new(&items, self.options.max_value_bytes);
            let outcome = if sets.is_empty() { Ok(()) } else { self.ask(place, &mut sets, deadline).await };
            sets.outcomes(outcome)
        }
        .boxed()
    }

    fn max_value_bytes(&self) -> usize {
        self.options.max_value_bytes
    }

    fn servers(&self) -> Vec<Server> {
        let server = |node: &Arc<Node>| Server { name: node.name().to_owned(), is_open: node.is_open() };
        self.nodes().iter().map(server).collect()
    }
}

/// The node that a place belongs to.
fn owner(nodes: &[Arc<Node>], place: u128) -> Option<Arc<Node>> {
    nodes.iter().max_by_key(|node| node.score(place)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashMap;

    use proptest::prelude::*;

    fn nodes(names: &[String]) -> Vec<Arc<Node>> {
        names.iter().map(|name| Arc::new(Node::new(name, &Options::default()))).collect()
    }

    #[test]
    fn places_are_shared_evenly_and_for_ever() {
        let names: Vec<_> = (0..4).map(|n| format!("10.0.0.{n}:11211")).collect();
        let (nodes, mut shares) = (nodes(&names), HashMap::new());
        for place in 0..10_000_u128 {
            let owner = owner(&nodes, place << 64 | place).expect("there are nodes");
            *shares.entry(owner.name().to_owned()).or_insert(0) += 1;
        }
        assert!(shares.len() == 4 && shares.values().all(|share| (2_300..2_700).contains(share)), "{shares:?}");
        // Another hash would lose every replica its cache during an upgrade.
        let owners: Vec<_> = (0..8)
            .map(|place| owner(&nodes, place).map_or_else(String::new, |node| node.name()[7..8].to_owned()))
            .collect();
        assert_eq!(owners.concat(), "03012010");
    }

    proptest! {
        #[test]
        fn a_server_that_leaves_moves_only_its_own_places(
            names in prop::collection::btree_set("[a-z]{1,8}:[1-9][0-9]{0,3}", 2..20),
            places in prop::collection::vec(any::<u128>(), 1..50),
            leaving in any::<prop::sample::Index>(),
        ) {
            let mut names: Vec<_> = names.into_iter().collect();
            let before = nodes(&names);
            let left = names.remove(leaving.index(names.len()));
            let after = nodes(&names);
            for place in places {
                let (was, is) = (owner(&before, place).expect("some"), owner(&after, place).expect("some"));
                prop_assert!(was.name() == is.name() || was.name() == left);
            }
        }
    }
}
