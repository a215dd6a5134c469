//! Which node of a cluster has a key.
//!
//! Every node has connections and a breaker of its own, so one that hangs or is gone concerns its own keys only. The map of
//! slots is learned in the background: at the start, when something points to a change (a redirect, a lost connection, a
//! cluster that is not whole), and now and then; at most about once a second. A call uses the map as it is, follows a
//! redirect to a node that is known, and waits for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use redis::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::jitter::jittered;

use super::super::{Loss, Server};
use super::address::Address;
use super::dial::Dialer;
use super::pool::{Log, Place, Pool};
use super::reply::{Question, Redirect, SlotRange, is_cluster_down, slot_ranges};

/// How many slots there are.
const SLOTS: u16 = 16_384;
/// Between two looks at the map, at least.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// And at most.
const LONGEST_TRUST: Duration = Duration::from_secs(10);
/// A node that has not told the map by then is not waited for.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// A question is sent on at most this often.
const MOST_REDIRECTS: usize = 2;

/// The nodes of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    seeds: Vec<Address>,
    dialer: Dialer,
    map: RwLock<Arc<Map>>,
    /// Something points to a change.
    is_stale: Arc<Notify>,
    /// Which node is asked for the map next.
    turn: AtomicUsize,
}

/// The masters and their slots.
#[derive(Debug, Default)]
struct Map {
    nodes: BTreeMap<Address, Arc<Pool>>,
    ranges: Vec<SlotRange>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<(&Address, &Arc<Pool>)> {
        let after = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges[..after].last().filter(|range| slot <= range.last)?;
        self.nodes.get_key_value(&range.master)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Cluster {
    /// Begins to learn the map from `seeds`.
    pub fn new(seeds: Vec<Address>, dialer: Dialer) -> Self {
        let shared = Arc::new(Shared {
            seeds,
            dialer,
            map: RwLock::default(),
            is_stale: Arc::default(),
            turn: AtomicUsize::new(0),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared))).abort_handle();
        Self { shared, keeper }
    }

    /// The masters that are known.
    pub fn servers(&self) -> Vec<Server> {
        self.shared.map.read().nodes.values().map(|pool| pool.server()).collect()
    }

    /// Asks the node that has `key`; all questions must concern its slot.
    pub async fn ask(&self, key: &str, questions: &[Question<'_>], deadline: Instant) -> Result<Vec<Value>, Loss> {
        let map = Arc::clone(&self.shared.map.read());
        let (asked, pool) = map.owner(slot(key)).ok_or(Loss::Unavailable)?;
        let mut asked = asked;
        let mut replies = pool.ask(questions, deadline).await?;
        for _ in 0..MOST_REDIRECTS {
            let Some(redirect) = replies.iter().find_map(|reply| Redirect::of(reply, asked)) else { break };
            if !redirect.is_asking {
                self.shared.is_stale.notify_one();
            }
            let Some((address, pool)) = map.nodes.get_key_value(&redirect.address) else { break };
            follow(&redirect, pool, asked, questions, &mut replies, deadline).await;
            asked = address;
        }
        if replies.iter().any(is_cluster_down) {
            self.shared.is_stale.notify_one();
        }
        Ok(replies)
    }
}

/// Asks another node what was redirected to it, and puts its replies in place. What it does not answer stays refused.
async fn follow(
    redirect: &Redirect,
    pool: &Pool,
    asked: &Address,
    questions: &[Question<'_>],
    replies: &mut [Value],
    deadline: Instant,
) {
    let is_redirected = |place: &usize| Redirect::of(&replies[*place], asked).as_ref() == Some(redirect);
    let places: Vec<usize> = (0..replies.len()).filter(is_redirected).collect();
    let again = places.iter().flat_map(|place| {
        let asking = redirect.is_asking.then_some(Question::Asking);
        asking.into_iter().chain([questions[*place]])
    });
    let again: Vec<_> = again.collect();
    let Ok(answers) = pool.ask(&again, deadline).await else { return };
    let answers = again.iter().zip(answers).filter(|(question, _)| !matches!(question, Question::Asking));
    for (place, (_, answer)) in places.into_iter().zip(answers) {
        replies[place] = answer;
    }
}

/// The task in the background.
async fn keep(shared: Arc<Shared>) {
    let mut log = Log::default();
    loop {
        let next = Instant::now() + jittered(BETWEEN_LOOKS);
        let is_settled = match shared.look().await {
            Ok(ranges) => {
                if log.is_news(true) {
                    tracing::info!("redis: the cluster's slots are known again");
                }
                shared.adopt(ranges)
            }
            Err(problem) => {
                if log.is_news(false) {
                    tracing::warn!(problem, "redis: can't learn the cluster's slots");
                }
                false
            }
        };
        tokio::time::sleep_until(next).await;
        if is_settled {
            let _ = tokio::time::timeout(LONGEST_TRUST, shared.is_stale.notified()).await;
        }
    }
}

impl Shared {
    /// Learns the map from the first node that tells it: one that is connected, or one of the seeds.
    async fn look(&self) -> Result<Vec<SlotRange>, String> {
        let nodes: Vec<_> = {
            let map = self.map.read();
            map.nodes.iter().map(|(address, pool)| (address.clone(), Arc::clone(pool))).collect()
        };
        // Not always the same one first: it may be the one that knows least.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for step in 0..nodes.len() {
            let (address, pool) = &nodes[turn.wrapping_add(step) % nodes.len()];
            let Ok(replies) = pool.ask(&[Question::Slots], Instant::now() + LOOK_TIMEOUT).await else { continue };
            if let Some(Ok(ranges)) = replies.first().map(|reply| slot_ranges(reply, address)) {
                return Ok(ranges);
            }
        }
        let mut problem = "no node is known".to_owned();
        for step in 0..self.seeds.len() {
            match self.ask_seed(&self.seeds[turn.wrapping_add(step) % self.seeds.len()]).await {
                Ok(ranges) => return Ok(ranges),
                Err(new) => problem = new,
            }
        }
        Err(problem)
    }

    async fn ask_seed(&self, seed: &Address) -> Result<Vec<SlotRange>, String> {
        let credentials = self.dialer.credentials().await?;
        let (mut connection, driver) = self.dialer.connect(seed, &credentials).await?;
        let command = Question::Slots.command();
        let asked = async {
            tokio::select! {
                reply = connection.send_packed_command(&command) => reply.map_err(|error| error.to_string()),
                () = driver => Err("the node closed the connection".to_owned()),
            }
        };
        let reply = tokio::time::timeout(LOOK_TIMEOUT, asked).await;
        let reply = reply.unwrap_or_else(|_| Err(format!("no answer within {LOOK_TIMEOUT:?}")));
        reply.and_then(|reply| slot_ranges(&reply, seed)).map_err(|problem| format!("{seed}: {problem}"))
    }

    /// Takes a map. Nodes that stay keep their connections. Says whether all of them are there.
    fn adopt(&self, ranges: Vec<SlotRange>) -> bool {
        let old = Arc::clone(&self.map.read());
        let mut nodes = BTreeMap::new();
        for SlotRange { master, .. } in &ranges {
            let pool = || match old.nodes.get(master) {
                Some(pool) => Arc::clone(pool),
                None => Arc::new(self.connect(master)),
            };
            nodes.entry(master.clone()).or_insert_with(pool);
        }
        if !nodes.keys().eq(old.nodes.keys()) {
            let names: Vec<_> = nodes.keys().map(ToString::to_string).collect();
            tracing::info!(masters = names.join(","), "redis: the masters of the cluster");
        }
        let is_settled = nodes.values().all(|pool| pool.is_connected());
        *self.map.write() = Arc::new(Map { nodes, ranges });
        is_settled
    }

    fn connect(&self, master: &Address) -> Pool {
        Pool::new(master.to_string(), Place::Fixed(master.clone()), self.dialer.clone(), Arc::clone(&self.is_stale))
    }
}

/// The slot of a key: of what stands in its first braces, if anything does.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` tells them.
        for (key, want) in [("123456789", 12_739), ("foo", 12_182), ("bar", 5061), ("", 0)] {
            assert_eq!(slot(key), want, "{key}");
        }
        assert_eq!(slot("a{foo}b"), slot("foo"));
        assert_eq!(slot("{foo}{bar}"), slot("foo"));
        assert_eq!(slot("a{{foo}}b"), slot("{foo"));
        assert_ne!(slot("a{}b"), slot(""), "empty braces do not count");
        assert_ne!(slot("a{foo"), slot("foo"));
    }

    #[tokio::test]
    async fn a_slot_belongs_to_the_range_around_it() {
        let address = |port| Address { host: "127.0.0.1".to_owned(), port };
        let dialer = Dialer { login: super::super::dial::Login::default(), tls: None, db: 0, must_be_master: false };
        let range = |first, last, port| SlotRange { first, last, master: address(port) };
        let ranges = vec![range(0, 5, 1), range(7, 7, 2), range(8, 20, 1)];
        let pool =
            |port| Arc::new(Pool::new(String::new(), Place::Fixed(address(port)), dialer.clone(), Arc::default()));
        let nodes = [(address(1), pool(1)), (address(2), pool(2))].into();
        let map = Map { nodes, ranges };
        let owner = |slot| map.owner(slot).map(|(address, _)| address.port);
        assert_eq!([0, 5, 6, 7, 8, 20, 21].map(owner), [Some(1), Some(1), None, Some(2), Some(1), Some(1), None]);
        assert_eq!(Map::default().owner(0).map(|(address, _)| address.port), None);
    }
}
