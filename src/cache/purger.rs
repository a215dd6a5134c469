//! Carries purges between replicas, and out on what this one holds.
//!
//! The rules lie with the shared entries, in several copies on different servers. Every replica reads them every few seconds,
//! adds what it knows, and writes back where a copy knows less: so a rule reaches every replica that reaches the shared tier,
//! whatever order things happen in, and survives the loss of a server. A replica that has not read them for a while does
//! not use the shared tier: it could not know what was purged. A copy that is damaged is not read; who knows the rules puts it
//! right, and somebody who does not only if nobody else has for a while.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::purge::{PurgeError, Rule, Rules};
use super::store::memory::MemoryStore;
use super::store::{Item, Read, Store, Write};
use crate::model::time::Timestamp;

/// So many copies, each on the server that its place falls to.
const COPIES: u8 = 8;
/// How often they are read …
const INTERVAL: Duration = Duration::from_secs(5);
/// … how soon again if none could be …
const RETRY: Duration = Duration::from_secs(1);
/// … and if none was ever: at the start, connections come up meanwhile.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// How long reading and writing one may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Rules that were read longer ago than this may have been added to.
const CURRENT_FOR: Duration = Duration::from_secs(10);
/// By then a replica that knows the rules, if there is one, has put damaged copies right.
const MENDED_WITHIN: Duration = Duration::from_secs(7);

/// The purges that this replica knows of.
#[derive(Debug)]
pub struct Purger {
    memory: Arc<MemoryStore>,
    ttl: Duration,
    rules: RwLock<Rules>,
    read_at: Mutex<Option<Instant>>,
    /// Since when all copies that could be read were damaged, although none had been read before.
    damaged_since: Mutex<Option<Instant>>,
}

/// What became of reading a copy.
enum Copy {
    /// It holds these.
    Sound(Vec<Rule>),
    /// It holds something else.
    Damaged,
    /// It is not known what it holds.
    Lost,
}

/// What a purge finds in the first tier of this replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Extents.
    pub extents: usize,
    /// What they weigh, in bytes.
    pub bytes: usize,
}

impl Purger {
    /// Of extents that live for `ttl`, in `memory` and elsewhere.
    pub fn new(memory: Arc<MemoryStore>, ttl: Duration) -> Self {
        Self { memory, ttl, rules: RwLock::default(), read_at: Mutex::default(), damaged_since: Mutex::default() }
    }

    /// Takes over what another one knows, some of which may not have been told to anybody yet.
    pub fn learn_from(&self, other: &Self, now: Timestamp) {
        let mut rules = self.rules.write();
        *rules = rules.with(other.rules().all(), now, self.ttl);
    }

    /// The rules that are known.
    pub fn rules(&self) -> Rules {
        self.rules.read().clone()
    }

    /// Whether they are known well enough to use the shared tier.
    pub fn is_current(&self) -> bool {
        self.read_at.lock().is_some_and(|at| at.elapsed() < CURRENT_FOR)
    }

    /// What a purge would find here.
    pub fn preview(&self, rule: &Rule, now: Timestamp) -> Found {
        let only = Rules::default().with(std::slice::from_ref(rule), now, self.ttl);
        let mut found = Found::default();
        self.memory.each(|identity, slot| {
            if let Some(left) = only.purge(identity, slot) {
                found.extents += slot.extents().len() - left.extents().len();
                found.bytes += slot.weight() - left.weight();
            }
        });
        found
    }

    /// Takes a purge: it holds here from now on.
    pub fn accept(&self, rule: &Rule, now: Timestamp) -> Result<Found, PurgeError> {
        let found = self.preview(rule, now);
        {
            let mut rules = self.rules.write();
            *rules = rules.accept(rule, now, self.ttl)?;
        }
        self.sweep();
        Ok(found)
    }

    fn sweep(&self) {
        let rules = self.rules();
        self.memory.sweep(|identity, slot| rules.purge(identity, slot));
    }

    /// Reads the copies, takes what is new, and writes back what they lack. Whether any could be read, and all that could
    /// be hold everything now.
    pub async fn exchange(&self, store: &dyn Store, namespace: &str, now: Timestamp) -> (bool, bool) {
        let deadline = Instant::now() + PATIENCE;
        let copies = (0..COPIES).map(|number| async move {
            let (place, key) = copy(namespace, number);
            let read = store.read(place, std::slice::from_ref(&key), deadline).await.pop();
            let copy = match read {
                Some(Read::Value(bytes)) => Rules::decode(&bytes).map_or(Copy::Damaged, Copy::Sound),
                Some(Read::Absent) => Copy::Sound(Vec::new()),
                Some(Read::Lost(_)) | None => Copy::Lost,
            };
            (place, key, copy)
        });
        let copies = futures::future::join_all(copies).await;
        let mut is_read = false;
        for (.., copy) in &copies {
            if let Copy::Sound(rules) = copy {
                let mut known = self.rules.write();
                *known = known.with(rules, now, self.ttl);
                is_read = true;
            }
        }
        let known = self.rules();
        if !known.all().is_empty() {
            // Each time, not only for what is new: an entry may just have been put in by who did not know of it yet.
            self.sweep();
        }
        if is_read {
            *self.read_at.lock() = Some(Instant::now());
        }
        let (mut is_told, may_mend) = (is_read, self.may_mend(&copies));
        for (place, key, copy) in copies {
            let lacks = match copy {
                Copy::Sound(rules) => known.all().iter().any(|rule| !rules.contains(rule)),
                Copy::Damaged => may_mend,
                Copy::Lost => false,
            };
            if lacks {
                let item = Item { key, value: known.encode().into(), ttl: self.ttl };
                let written = store.write(place, vec![item], Instant::now() + PATIENCE).await;
                is_told &= written.into_iter().all(|written| written == Write::Stored);
            }
        }
        (is_read, is_told)
    }

    /// Whether damaged copies may be replaced by what is known here.
    fn may_mend<T, U>(&self, copies: &[(T, U, Copy)]) -> bool {
        let mut since = self.damaged_since.lock();
        if self.read_at.lock().is_some() {
            return true;
        }
        let is_damaged = copies.iter().any(|(.., copy)| matches!(copy, Copy::Damaged));
        *since = is_damaged.then(|| since.unwrap_or_else(Instant::now));
        since.is_some_and(|since| since.elapsed() >= MENDED_WITHIN)
    }

    /// Does so every few seconds, for as long as there are both.
    pub async fn keep_current(purger: Weak<Self>, store: Weak<dyn Store>, namespace: &str) {
        loop {
            let (Some(purger), Some(store)) = (purger.upgrade(), store.upgrade()) else { return };
            let (is_read, _) = purger.exchange(&*store, namespace, Timestamp::now()).await;
            let pause = match (is_read, *purger.read_at.lock()) {
                (true, _) => INTERVAL,
                (false, Some(_)) => RETRY,
                (false, None) => FIRST_RETRY,
            };
            drop((purger, store));
            tokio::time::sleep(pause).await;
        }
    }
}

/// Where a copy lies.
fn copy(namespace: &str, number: u8) -> (u128, String) {
    let place = xxh3_128(format!("{number}:{namespace}").as_bytes());
    (place, format!("promfront:purges:{{{place:032x}}}"))
}
