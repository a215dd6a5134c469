//! Entries in this process, weighed in bytes: the first tier.
//!
//! The store decides only about room: which entry goes when it is full. Whether an extent still holds is judged by its own
//! age at each lookup. An entry repeats the identity that it was written for, so a hash collision is a miss.

use std::sync::Arc;
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::cache::extent::Slot;
use crate::cache::key::{Identity, SlotKey};
use crate::cache::page::Dues;
use crate::metrics::Metrics;
use crate::model::time::Timestamp;

/// The unit of weight: a weight is a `u32`, and an entry may be larger than 4 GiB / 1024.
const UNIT: usize = 1024;
/// What an entry costs besides its extents.
const OVERHEAD: usize = 256;

/// What is held of one slot of a query.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The extents.
    pub slot: Slot,
    /// What of them the shared tier does not have yet.
    pub dues: Dues,
    /// When the shared tier was last asked what it has.
    pub asked_at: Option<Timestamp>,
}

/// An entry: what is held, and of which query.
#[derive(Debug)]
pub struct Entry {
    identity: Arc<[u8]>,
    held: Held,
}

impl Entry {
    /// What is held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    fn units(&self) -> u32 {
        let bytes = self.held.slot.weight() + self.identity.len() + OVERHEAD;
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
    }
}

/// The in-process tier.
#[derive(Debug)]
pub struct MemoryStore {
    cache: Cache<SlotKey, Arc<Entry>>,
}

impl MemoryStore {
    /// An empty store for `max_bytes`, whose entries are dropped `ttl` after their last write at the latest.
    pub fn new(max_bytes: u64, ttl: Duration, metrics: &Arc<Metrics>) -> Self {
        let evictions = metrics.cache_evictions.clone();
        let cache = Cache::builder()
            .max_capacity(max_bytes / UNIT as u64)
            .weigher(|_, entry: &Arc<Entry>| entry.units())
            .time_to_live(ttl.min(Duration::from_hours(365 * 24)))
            .eviction_listener(move |_, _, cause| {
                if matches!(cause, RemovalCause::Size | RemovalCause::Expired) {
                    evictions.inc();
                }
            })
            .build();
        Self { cache }
    }

    /// What is held of the slot `index` of a query.
    pub fn get(&self, identity: &Identity, index: i64) -> Option<Arc<Entry>> {
        self.cache.get(&identity.slot(index)).filter(|entry| entry.identity == *identity.bytes())
    }

    /// Changes what is held of the slot `index` of a query; nobody else changes it meanwhile.
    pub fn update<T>(&self, identity: &Identity, index: i64, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut outcome = None;
        self.cache.entry(identity.slot(index)).and_compute_with(|held| {
            let held = held.map(moka::Entry::into_value).filter(|entry| entry.identity == *identity.bytes());
            let mut held = held.map(|entry| entry.held.clone()).unwrap_or_default();
            outcome = Some(change(&mut held));
            Op::Put(Arc::new(Entry { identity: Arc::clone(identity.bytes()), held }))
        });
        outcome.expect("the store calls its function once")
    }

    /// Changes the extents that are held of the slot `index` of a query, if there are any and `change` makes others of them.
    pub fn amend(&self, identity: &Identity, index: i64, change: impl FnOnce(&Slot) -> Option<Slot>) {
        self.cache.entry(identity.slot(index)).and_compute_with(|held| {
            let held = held.map(moka::Entry::into_value).filter(|entry| entry.identity == *identity.bytes());
            let Some(entry) = held else { return Op::Nop };
            let Some(slot) = change(&entry.held.slot) else { return Op::Nop };
            let held = Held { slot, ..entry.held.clone() };
            Op::Put(Arc::new(Entry { identity: Arc::clone(&entry.identity), held }))
        });
    }

    /// Gives every entry to `change`, which makes another slot of it or lets it be.
    pub fn sweep(&self, mut change: impl FnMut(&[u8], &Slot) -> Option<Slot>) {
        for (key, seen) in &self.cache {
            if change(&seen.identity, &seen.held.slot).is_none() {
                continue;
            }
            self.cache.entry(*key).and_compute_with(|held| {
                let Some(entry) = held.map(moka::Entry::into_value) else { return Op::Nop };
                match change(&entry.identity, &entry.held.slot) {
                    None => Op::Nop,
                    Some(slot) if slot.extents().is_empty() => Op::Remove,
                    Some(slot) => {
                        let held = Held { slot, ..entry.held.clone() };
                        Op::Put(Arc::new(Entry { identity: Arc::clone(&entry.identity), held }))
                    }
                }
            });
        }
    }

    /// Gives every entry's identity and extents to `see`.
    pub fn each(&self, mut see: impl FnMut(&[u8], &Slot)) {
        for (_, entry) in &self.cache {
            see(&entry.identity, &entry.held.slot);
        }
    }

    /// How many entries there are, and how many bytes they weigh.
    pub fn size(&self) -> (u64, u64) {
        self.cache.run_pending_tasks();
        (self.cache.entry_count(), self.cache.weighted_size() * UNIT as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_another_query_under_the_same_hash_is_a_miss() {
        let metrics = Arc::new(Metrics::new());
        let store = MemoryStore::new(1 << 20, Duration::from_mins(1), &metrics);
        let (mine, other) = (Identity::colliding(b"mine"), Identity::colliding(b"other"));
        store.update(&mine, 0, |_| ());
        assert!(store.get(&mine, 0).is_some());
        assert!(store.get(&other, 0).is_none());
        store.update(&other, 0, |_| ());
        assert!(store.get(&mine, 0).is_none(), "the last one to write has the place");
    }
}
