//! The cache as the pipeline sees it: look a query up, keep an answer. Neither can fail.

use std::sync::Arc;
use std::time::Duration;

use super::extent::{Extent, Lifetimes, Slot};
use super::key::{Identity, Slots};
use super::plan::{Lookup, NotKept, admit, final_instants, look_up, reads};
use super::store::memory::MemoryStore;
use crate::config;
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::response::RangeAnswer;
use crate::model::time::Timestamp;
use crate::request::PlannedQuery;

/// Extents by query and slot.
#[derive(Debug)]
pub struct ExtentCache {
    store: MemoryStore,
    lifetimes: Lifetimes,
    freshness: Duration,
    metrics: Arc<Metrics>,
}

/// Under what a query's extents are kept.
#[derive(Clone, Debug)]
pub struct CacheKey {
    /// All that decides its answers.
    pub identity: Identity,
    /// How the time line is divided for it.
    pub slots: Slots,
}

impl ExtentCache {
    /// An empty cache.
    pub fn new(options: &config::Cache, metrics: Arc<Metrics>) -> Self {
        Self {
            store: MemoryStore::new(options.memory.max_bytes, options.ttl, &metrics),
            lifetimes: Lifetimes {
                ttl: options.ttl,
                out_of_order_window: options.out_of_order_window,
                out_of_order_ttl: options.out_of_order_ttl,
            },
            freshness: options.freshness,
            metrics,
        }
    }

    /// What of `grid` is held, and what is missing.
    pub fn look_up(&self, key: &CacheKey, grid: &StepGrid, now: Timestamp) -> Lookup {
        let slots: Vec<(StepGrid, Option<Slot>)> =
            key.slots.of(grid).into_iter().map(|(index, part)| (part, self.store.get(&key.identity, index))).collect();
        let slots: Vec<_> = slots.iter().map(|(part, slot)| (*part, slot.as_ref())).collect();
        let lookup = look_up(&slots, now, &self.lifetimes);
        self.metrics.count_slots(&lookup_counts(&lookup));
        lookup
    }

    /// The instants of `grid` that are final at `now`.
    pub fn finals(&self, planned: &PlannedQuery, grid: &StepGrid, now: Timestamp) -> Option<StepGrid> {
        final_instants(planned, grid, now, self.freshness)
    }

    /// Keeps what of `answer` is final. `is_no_store`: the server forbids it.
    pub fn keep(
        &self,
        key: &CacheKey,
        planned: &PlannedQuery,
        answer: &RangeAnswer,
        is_no_store: bool,
        now: Timestamp,
    ) {
        let finals = self.finals(planned, &answer.grid, now);
        let touched = key.slots.of(&answer.grid).len();
        let finals = match admit(answer, finals, is_no_store, touched) {
            Ok(finals) => finals,
            Err(why) => return Metrics::count(&self.metrics.cache_not_kept, why.as_str()),
        };
        if finals != answer.grid {
            Metrics::count(&self.metrics.cache_not_kept, NotKept::Fresh.as_str());
        }
        let reads = reads(planned);
        for (index, part) in key.slots.of(&finals) {
            let fresh = Extent { answer: Arc::new(answer.extract(&part)), fetched_at: now, reads };
            self.store.update(&key.identity, index, |slot| slot.with(fresh, now, &self.lifetimes));
            self.metrics.cache_kept.inc();
        }
    }

    /// Brings the gauges up to date before they are read.
    pub fn report(&self) {
        let (entries, bytes) = self.store.size();
        self.metrics.cache_entries.set(entries.cast_signed());
        self.metrics.cache_bytes.set(bytes.cast_signed());
    }
}

fn lookup_counts(lookup: &Lookup) -> [(&'static str, u64); 3] {
    [("hit", lookup.hit_slots), ("partial", lookup.partial_slots), ("miss", lookup.missed_slots)]
}
