//! The cache as the pipeline sees it: look a query up, keep an answer. Neither can fail.
//!
//! The first tier is in this process. What it lacks and a shared tier may have is read from there, once for all who ask the same,
//! and put into the first tier with the age that it has; what was fetched is kept in the first tier, and goes to the
//! shared one behind the answer's back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::extent::{Extent, Lifetimes, Slot};
use super::finished::FinishedAnswers;
use super::key::{Identity, Slots};
use super::packer::ExtentPacker;
use super::page::{Page, Pages};
use super::plan::{Lookup, NotKept, admit, final_instants, look_up, reads};
use super::purger::Purger;
use super::shared::{Scope, Shared, SharedTier};
use super::store::memory::{Entry, MemoryStore};
use crate::config;
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::response::RangeAnswer;
use crate::model::series::Matrix;
use crate::model::time::Timestamp;
use crate::request::PlannedQuery;

/// What the shared tier has of a slot is asked again after this at the earliest, if the first tier still lacks something.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);
/// So many pages are read for one query at most; a query of more slots is one that needs its server anyway.
const MOST_PAGES: usize = 512;

/// One of so many parts of the memory is for answers as they were sent.
const SHARE_OF_FINISHED: u64 = 8;

/// How long a process that ends waits for what it still has to write.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Extents by query and slot, in one tier or two.
#[derive(Debug)]
pub struct ExtentCache {
    memory: Arc<MemoryStore>,
    packer: Arc<ExtentPacker>,
    finished: Arc<FinishedAnswers>,
    shared: Option<Arc<Shared>>,
    purger: Arc<Purger>,
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

/// A query on its way through the tiers.
struct Query<'q> {
    planned: &'q PlannedQuery,
    scope: Scope<'q>,
}

/// What the first tier has of one slot, and which instants of it are wanted.
struct Looked {
    index: i64,
    part: StepGrid,
    entry: Option<Arc<Entry>>,
}

impl Looked {
    fn slot(&self) -> Option<&Slot> {
        self.entry.as_ref().map(|entry| &entry.held().slot)
    }
}

impl ExtentCache {
    /// An empty cache. With a shared tier it has to be made inside of a tokio runtime.
    pub fn new(options: &config::Cache, shared: Option<SharedTier>, metrics: Arc<Metrics>) -> Self {
        let lifetimes = Lifetimes {
            ttl: options.ttl,
            out_of_order_window: options.out_of_order_window,
            out_of_order_ttl: options.out_of_order_ttl,
        };
        let for_finished = options.memory.max_bytes / SHARE_OF_FINISHED;
        let memory = Arc::new(MemoryStore::new(options.memory.max_bytes - for_finished, options.ttl, &metrics));
        let finished = Arc::new(FinishedAnswers::new(for_finished, &metrics));
        let purger = Arc::new(Purger::new(Arc::clone(&memory), options.ttl));
        let shared = shared.map(|tier| Arc::new(Shared::new(tier, lifetimes, &purger, &memory, &metrics)));
        let packer = Arc::new(ExtentPacker::start(&memory));
        Self { memory, packer, finished, shared, purger, lifetimes, freshness: options.freshness, metrics }
    }

    /// The same tiers, for other options, as far as [`keeps_tiers`](Self::keeps_tiers) allows.
    #[must_use]
    pub fn with_options(&self, options: &config::Cache) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
            packer: Arc::clone(&self.packer),
            finished: Arc::clone(&self.finished),
            shared: self.shared.clone(),
            purger: Arc::clone(&self.purger),
            lifetimes: self.lifetimes,
            freshness: options.freshness,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Whether what is held stays when the options change from `old` to `new`: how much, how long and where is the same.
    pub fn keeps_tiers(old: &config::Cache, new: &config::Cache) -> bool {
        old.memory == new.memory
            && old.remote == new.remote
            && old.ttl == new.ttl
            // What was kept too early is not kept on.
            && old.freshness >= new.freshness
            && old.out_of_order_window == new.out_of_order_window
            && old.out_of_order_ttl == new.out_of_order_ttl
    }

    /// What of a query's grid is held, and what is missing.
    pub async fn look_up(&self, key: &CacheKey, planned: &PlannedQuery, now: Timestamp) -> Lookup {
        let pages = Pages::new(key.slots, &planned.query.grid, reads(planned), now.before(self.freshness));
        let query = Query { planned, scope: Scope { identity: &key.identity, pages, now } };
        let look = |(index, part)| Looked { index, part, entry: self.memory.get(&key.identity, index) };
        let slots: Vec<Looked> = key.slots.of(&planned.query.grid).into_iter().map(look).collect();
        let in_memory: Vec<_> = slots.iter().map(|looked| (looked.part, looked.slot())).collect();
        let lookup = look_up(&in_memory, now, &self.lifetimes);
        self.metrics.count_slots("memory", &lookup_counts(&lookup));
        self.count_misses(&in_memory, &lookup, now);
        let Some(shared) = &self.shared else { return lookup };
        self.write_overdue(shared, &query, &slots);
        let wanted = self.wanted(&query, &slots, &lookup);
        if wanted.is_empty() {
            return lookup;
        }
        let filled = shared.fill(query.scope, wanted).await;
        let filled_slot = |index| filled.iter().find(|(of, _)| *of == index).map(|(_, slot)| slot);
        for looked in &slots {
            if let Some(filled) = filled_slot(looked.index) {
                self.count_fill(&query, looked, filled);
            }
        }
        let now_held: Vec<_> =
            slots.iter().map(|looked| (looked.part, filled_slot(looked.index).or(looked.slot()))).collect();
        look_up(&now_held, now, &self.lifetimes)
    }

    /// Why slots of the first tier did not have all that was wanted.
    fn count_misses(&self, slots: &[(StepGrid, Option<&Slot>)], lookup: &Lookup, now: Timestamp) {
        for (part, slot) in slots {
            if !lookup.missing.iter().any(|missing| missing.overlap(part).is_some()) {
                continue;
            }
            let touching = slot.map_or(&[][..], Slot::extents);
            let mut touching = touching.iter().filter(|extent| extent.answer.grid.overlap(part).is_some());
            let is_expired = |extent: &Extent| self.lifetimes.alive(extent, now) != Some(extent.answer.grid);
            let reason = match slot {
                None => "absent",
                Some(_) if touching.any(is_expired) => "expired",
                Some(_) => "uncovered",
            };
            self.metrics.count_misses("memory", reason, 1);
        }
    }

    /// What the shared tier added to a slot.
    fn count_fill(&self, query: &Query<'_>, looked: &Looked, filled: &Slot) {
        let missing = |slot: Option<&Slot>| -> u64 {
            let lookup = look_up(&[(looked.part, slot)], query.scope.now, &self.lifetimes);
            let finals = lookup.missing.iter().filter_map(|grid| self.finals(query.planned, grid, query.scope.now));
            finals.map(|grid| grid.len()).sum()
        };
        let (before, after) = (missing(looked.slot()), missing(Some(filled)));
        let outcome = match after {
            0 => "hit",
            after if after < before => "partial",
            _ => "miss",
        };
        self.metrics.count_slots("remote", &[(outcome, 1)]);
    }

    /// The pages that may have what is missing and final, and about which the shared tier was not asked a moment ago.
    fn wanted(&self, query: &Query<'_>, slots: &[Looked], lookup: &Lookup) -> Vec<(Page, StepGrid)> {
        let (mut wanted, mut seen) = (Vec::new(), HashSet::new());
        for looked in slots {
            let asked_at = looked.entry.as_ref().and_then(|entry| entry.held().asked_at);
            if asked_at.is_some_and(|at| query.scope.now.since(at) < ASK_AGAIN_AFTER) {
                continue;
            }
            let missing = lookup.missing.iter().filter_map(|missing| missing.overlap(&looked.part));
            let finals = missing.filter_map(|missing| self.finals(query.planned, &missing, query.scope.now));
            for page in finals.flat_map(|missing| query.scope.pages.to_read(looked.index, &missing)) {
                let grid = query.scope.pages.grid(page).filter(|_| seen.insert(page));
                wanted.extend(grid.map(|grid| (page, grid)));
            }
        }
        wanted.truncate(MOST_PAGES);
        wanted
    }

    /// What could not be written is due again, even if nothing is added to it any more.
    fn write_overdue(&self, shared: &Shared, query: &Query<'_>, slots: &[Looked]) {
        let is_overdue =
            |entry: &Arc<Entry>| entry.held().dues.are_overdue(query.scope.now) && self.purger.is_current();
        for looked in slots.iter().filter(|looked| looked.entry.as_ref().is_some_and(is_overdue)) {
            let (due, slot) = self.memory.update(query.scope.identity, looked.index, |held| {
                (held.dues.take(&query.scope.pages, looked.index, &held.slot), held.slot.clone())
            });
            shared.put(query.scope, due, slot);
        }
    }

    /// The instants of `grid` that are final at `now`.
    pub fn finals(&self, planned: &PlannedQuery, grid: &StepGrid, now: Timestamp) -> Option<StepGrid> {
        final_instants(planned, grid, now, self.freshness)
    }

    /// Whether all of `answer` will be kept, and in one slot.
    pub fn keeps_whole(
        &self,
        key: &CacheKey,
        planned: &PlannedQuery,
        answer: &RangeAnswer,
        is_no_store: bool,
        now: Timestamp,
    ) -> bool {
        let (finals, touched) = (self.finals(planned, &answer.grid, now), key.slots.of(&answer.grid).len());
        touched == 1 && admit(answer, finals, is_no_store, touched) == Ok(answer.grid)
    }

    /// Keeps what of `answer` is final. `is_no_store`: the server forbids it.
    pub fn keep(
        &self,
        key: &CacheKey,
        planned: &PlannedQuery,
        answer: &Arc<RangeAnswer>,
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
        let pages = Pages::new(key.slots, &answer.grid, reads, now.before(self.freshness));
        for (index, part) in key.slots.of(&finals) {
            // A text that is mostly not kept is not held for the rest of it.
            let is_most = finals.len() * 4 >= answer.grid.len();
            let kept = match part {
                part if part == answer.grid => Arc::clone(answer),
                part => Arc::new(if is_most { answer.part(&part) } else { answer.packed_part(&part) }),
            };
            let fresh = Extent { answer: Arc::clone(&kept), fetched_at: now, reads };
            let (due, slot) = self.memory.update(&key.identity, index, |held| {
                held.slot = held.slot.with(fresh, now, &self.lifetimes);
                if let Some(rest) = self.purger.rules().purge(key.identity.bytes(), &held.slot) {
                    held.slot = rest;
                }
                if self.shared.is_none() {
                    return (Vec::new(), Slot::default());
                }
                held.dues.fetched(&pages, index, &part);
                (held.dues.take(&pages, index, &held.slot), held.slot.clone())
            });
            self.metrics.cache_kept.inc();
            if let Matrix::Text(_) = kept.matrix {
                self.packer.pack(&key.identity, index, kept);
            }
            if let Some(shared) = &self.shared {
                shared.put(Scope { identity: &key.identity, pages, now }, due, slot);
            }
        }
    }

    /// Answers as they were sent.
    pub fn finished(&self) -> &Arc<FinishedAnswers> {
        &self.finished
    }

    /// What was purged, here and elsewhere.
    pub fn purger(&self) -> &Arc<Purger> {
        &self.purger
    }

    /// Tells the other replicas what was purged. Whether it was told, if there is anybody to tell.
    pub async fn tell_purges(&self, now: Timestamp) -> Option<bool> {
        Some(self.shared.as_ref()?.tell_purges(now).await)
    }

    /// Waits until what is to be written to the shared tier is written, but not long.
    pub async fn finish_writing(&self) {
        if let Some(shared) = &self.shared {
            let _ = tokio::time::timeout(LAST_WRITES, shared.emptied()).await;
        }
    }

    /// Brings the gauges up to date before they are read.
    pub fn report(&self) {
        self.metrics.cache_sent_bytes.set(self.finished.size().cast_signed());
        let (entries, bytes) = self.memory.size();
        self.metrics.cache_entries.set(entries.cast_signed());
        self.metrics.cache_bytes.set(bytes.cast_signed());
        if let Some(shared) = &self.shared {
            self.metrics.remote_servers(shared.servers().into_iter().map(|server| (server.name, server.is_open)));
        }
    }
}

fn lookup_counts(lookup: &Lookup) -> [(&'static str, u64); 3] {
    [("hit", lookup.hit_slots), ("partial", lookup.partial_slots), ("miss", lookup.missed_slots)]
}
