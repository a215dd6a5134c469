//! Entries in this process, weighed in bytes.
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
use crate::metrics::Metrics;

/// The unit of weight: a weight is a `u32`, and an entry may be larger than 4 GiB / 1024.
const UNIT: usize = 1024;
/// What an entry costs besides its extents.
const OVERHEAD: usize = 256;

#[derive(Debug)]
struct Entry {
    identity: Arc<[u8]>,
    slot: Slot,
}

impl Entry {
    fn units(&self) -> u32 {
        let bytes = self.slot.weight() + self.identity.len() + OVERHEAD;
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

    /// What the slot `index` of a query holds.
    pub fn get(&self, identity: &Identity, index: i64) -> Option<Slot> {
        let entry = self.cache.get(&identity.slot(index))?;
        (entry.identity == *identity.bytes()).then(|| entry.slot.clone())
    }

    /// Replaces what the slot `index` of a query holds by what `change` makes of it; nobody else changes it meanwhile.
    pub fn update(&self, identity: &Identity, index: i64, change: impl FnOnce(&Slot) -> Slot) {
        self.cache.entry(identity.slot(index)).and_compute_with(|held| {
            let held = held.map(moka::Entry::into_value).filter(|entry| entry.identity == *identity.bytes());
            let slot = change(&held.map(|entry| entry.slot.clone()).unwrap_or_default());
            Op::Put(Arc::new(Entry { identity: Arc::clone(identity.bytes()), slot }))
        });
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
        store.update(&mine, 0, Slot::clone);
        assert!(store.get(&mine, 0).is_some());
        assert!(store.get(&other, 0).is_none());
        store.update(&other, 0, Slot::clone);
        assert!(store.get(&mine, 0).is_none(), "the last one to write has the place");
    }
}
