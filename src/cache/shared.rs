//! The second tier: what replicas share, read through into the first tier and written behind it.

use std::sync::Arc;
use std::time::Duration;

use super::behind::{Job, WriteBehind};
use super::coalesce::Coalescer;
use super::codec;
use super::extent::{Lifetimes, Slot};
use super::key::Identity;
use super::page::{Page, Pages};
use super::purger::Purger;
use super::remote::{PageRead, Remote};
use super::store::memory::MemoryStore;
use super::store::{Server, Store};
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::time::Timestamp;

/// A shared tier to put behind the first one.
#[derive(Debug)]
pub struct SharedTier {
    /// Where its items lie.
    pub store: Arc<dyn Store>,
    /// How long reading may take, for one query in all.
    pub timeout: Duration,
    /// How much may wait to be written, in bytes.
    pub max_queued_bytes: u64,
    /// What data the answers are made from.
    pub namespace: String,
    /// The form of its entries.
    pub version: u8,
}

impl SharedTier {
    /// With the form of this version.
    pub fn new(store: Arc<dyn Store>, timeout: Duration, max_queued_bytes: u64, namespace: String) -> Self {
        Self { store, timeout, max_queued_bytes, namespace, version: codec::VERSION }
    }
}

/// The second tier.
#[derive(Debug)]
pub struct Shared {
    remote: Arc<Remote>,
    behind: WriteBehind,
    reading: Coalescer<ReadKey, Arc<[(i64, Slot)]>>,
    memory: Arc<MemoryStore>,
    lifetimes: Lifetimes,
    purger: Arc<Purger>,
    namespace: String,
}

/// Whose pages are read or written, how they lie, and when.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'q> {
    /// Of which query.
    pub identity: &'q Identity,
    /// How its pages lie.
    pub pages: Pages,
    /// The clock of the request.
    pub now: Timestamp,
}

/// Who asks for the same pages waits for the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ReadKey {
    identity: Arc<[u8]>,
    pages: Vec<Page>,
}

impl Shared {
    /// Behind `memory`, inside of a tokio runtime.
    pub fn new(
        tier: SharedTier,
        lifetimes: Lifetimes,
        purger: &Arc<Purger>,
        memory: &Arc<MemoryStore>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let SharedTier { store, timeout, max_queued_bytes, namespace, version } = tier;
        let (keeper, kept, of) = (Arc::downgrade(purger), Arc::downgrade(&store), namespace.clone());
        tokio::spawn(async move { Purger::keep_current(keeper, kept, &of).await });
        let remote = Remote::new(store, version, timeout, lifetimes, Arc::clone(purger), Arc::clone(metrics));
        let (remote, purger, memory) = (Arc::new(remote), Arc::clone(purger), Arc::clone(memory));
        let behind = WriteBehind::new(Arc::clone(&remote), Arc::clone(&memory), max_queued_bytes, Arc::clone(metrics));
        Self { remote, behind, reading: Coalescer::default(), memory, lifetimes, purger, namespace }
    }

    /// Has pages of a slot written.
    pub fn put(&self, scope: Scope<'_>, due: Vec<Page>, slot: Slot) {
        if !due.is_empty() {
            let Scope { identity, pages, now } = scope;
            self.behind.put(Job { identity: identity.clone(), pages, due, slot, now });
        }
    }

    /// Reads pages into the first tier; what their slots hold then.
    pub async fn fill(&self, scope: Scope<'_>, wanted: Vec<(Page, StepGrid)>) -> Arc<[(i64, Slot)]> {
        let pages = wanted.iter().map(|(page, _)| *page).collect();
        let read = ReadKey { identity: Arc::clone(scope.identity.bytes()), pages };
        let fill = || {
            let filling = Filling {
                remote: Arc::clone(&self.remote),
                memory: Arc::clone(&self.memory),
                lifetimes: self.lifetimes,
                identity: scope.identity.clone(),
                pages: scope.pages,
                now: scope.now,
            };
            filling.run(wanted)
        };
        self.reading.join(&read, fill).outcome().await.unwrap_or_default()
    }

    /// Tells the other replicas what was purged. Whether all of it was told.
    pub async fn tell_purges(&self, now: Timestamp) -> bool {
        self.purger.exchange(&**self.remote.store(), &self.namespace, now).await.1
    }

    /// Waits until what is to be written now is written, or given up.
    pub async fn emptied(&self) {
        self.behind.emptied().await;
    }

    /// The servers, and whether each is left alone.
    pub fn servers(&self) -> Vec<Server> {
        self.remote.store().servers()
    }
}

/// Reading pages into the first tier.
struct Filling {
    remote: Arc<Remote>,
    memory: Arc<MemoryStore>,
    lifetimes: Lifetimes,
    identity: Identity,
    pages: Pages,
    now: Timestamp,
}

impl Filling {
    async fn run(self, wanted: Vec<(Page, StepGrid)>) -> Arc<[(i64, Slot)]> {
        let read = self.remote.read(&self.identity, &wanted, self.now).await;
        let read: Vec<(Page, PageRead)> = wanted.into_iter().map(|(page, _)| page).zip(read).collect();
        read.chunk_by(|(a, _), (b, _)| a.slot == b.slot).map(|of_slot| self.fill_slot(of_slot)).collect()
    }

    fn fill_slot(&self, read: &[(Page, PageRead)]) -> (i64, Slot) {
        let slot = read[0].0.slot;
        let filled = self.memory.update(&self.identity, slot, |held| {
            for (_, read) in read {
                if let PageRead::Found(theirs) = read {
                    held.slot = held.slot.filled_with(theirs, self.now, &self.lifetimes);
                }
            }
            for (page, read) in read {
                let instants = |slot: &Slot| self.pages.grid(*page).map_or(0, |grid| slot.instants_in(&grid));
                match read {
                    PageRead::Found(theirs) => held.dues.seen(*page, instants(theirs), instants(&held.slot)),
                    PageRead::Nothing => held.dues.seen(*page, 0, instants(&held.slot)),
                    PageRead::Lost => {}
                }
            }
            if read.iter().all(|(_, read)| !matches!(read, PageRead::Lost)) {
                held.asked_at = Some(self.now);
            }
            held.slot.clone()
        });
        (slot, filled)
    }
}
