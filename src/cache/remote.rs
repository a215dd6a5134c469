//! Pages in the shared tier: from pages to items and back.
//!
//! Reading is one batch for all pages of a query, and one more for the rest of values that were cut, within one budget of time.
//! Whatever did not come, or is not what was asked for, is a miss with its reason. Writing is nobody's wait: see [`behind`].
//!
//! [`behind`]: super::behind

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::codec::{decode, encode};
use super::extent::{Lifetimes, Slot};
use super::key::Identity;
use super::page::Page;
use super::purger::Purger;
use super::store::chunks::{self, PieceOfValue};
use super::store::{Item, Loss, Read, Store, Write};
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::time::{Timestamp, millis};

/// What was fetched later than this from now comes from a clock that is wrong, ours or the writer's.
const MOST_SKEW: Duration = Duration::from_mins(1);
/// Writing waits this much longer than reading: nobody waits for it.
const WRITE_PATIENCE: u32 = 20;

/// The shared tier.
#[derive(Debug)]
pub struct Remote {
    store: Arc<dyn Store>,
    version: u8,
    timeout: Duration,
    lifetimes: Lifetimes,
    purger: Arc<Purger>,
    metrics: Arc<Metrics>,
}

/// What became of reading a page.
#[derive(Debug)]
pub enum PageRead {
    /// It holds these extents, some of which may no longer hold.
    Found(Slot),
    /// There is nothing of use.
    Nothing,
    /// It is not known what there is.
    Lost,
}

/// What became of writing a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageWritten {
    /// It is written, as far as the server says.
    Yes,
    /// It is not; it may be tried again.
    Later,
    /// It is not, and would not be.
    Never,
}

impl Remote {
    /// Pages of the form `version` in a store.
    pub fn new(
        store: Arc<dyn Store>,
        version: u8,
        timeout: Duration,
        lifetimes: Lifetimes,
        purger: Arc<Purger>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, version, timeout, lifetimes, purger, metrics }
    }

    /// Where the items lie.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn key(&self, identity: &Identity, page: Page) -> String {
        format!("promfront:{}:{{{:032x}}}:{page}", self.version, identity.place())
    }

    /// Reads pages of a query, each with its instants.
    pub async fn read(&self, identity: &Identity, pages: &[(Page, StepGrid)], now: Timestamp) -> Vec<PageRead> {
        let deadline = Instant::now() + self.timeout;
        self.read_until(identity, pages, now, deadline).await
    }

    async fn read_until(
        &self,
        identity: &Identity,
        pages: &[(Page, StepGrid)],
        now: Timestamp,
        deadline: Instant,
    ) -> Vec<PageRead> {
        if !self.purger.is_current() {
            self.metrics.count_misses("remote", "purges-unknown", pages.len() as u64);
            return pages.iter().map(|_| PageRead::Lost).collect();
        }
        let began = Instant::now();
        let keys: Vec<String> = pages.iter().map(|(page, _)| self.key(identity, *page)).collect();
        let values = self.read_values(identity.place(), &keys, deadline).await;
        self.metrics.remote_took("read", began.elapsed());
        let judged = values.into_iter().zip(pages).map(|(value, page)| self.judge(value, identity, page, now));
        judged.collect()
    }

    /// Values by key, put together where they were cut.
    async fn read_values(&self, place: u128, keys: &[String], deadline: Instant) -> Vec<Result<Bytes, Missing>> {
        let firsts: Vec<Result<PieceOfValue, Missing>> =
            self.store.read(place, keys, deadline).await.into_iter().map(piece).collect();
        let rest_of = |piece: &Result<PieceOfValue, Missing>| piece.as_ref().ok().and_then(PieceOfValue::rest);
        let rest_keys: Vec<String> = firsts
            .iter()
            .zip(keys)
            .flat_map(|(first, key)| (1..=rest_of(first).unwrap_or(0)).map(move |number| chunks::key(key, number)))
            .collect();
        let rest = if rest_keys.is_empty() { Vec::new() } else { self.store.read(place, &rest_keys, deadline).await };
        let mut rest = rest.into_iter().map(piece);
        let whole = |first: Result<PieceOfValue, Missing>| {
            let count = rest_of(&first).unwrap_or(0);
            let rest: Vec<_> = rest.by_ref().take(count).collect();
            let pieces: Vec<PieceOfValue> = std::iter::once(first).chain(rest).collect::<Result<_, _>>()?;
            chunks::join(&pieces).ok_or(Missing::Nothing("pieces"))
        };
        firsts.into_iter().map(whole).collect()
    }

    /// What is to be made of a value that was read for a page.
    fn judge(
        &self,
        value: Result<Bytes, Missing>,
        identity: &Identity,
        (page, grid): &(Page, StepGrid),
        now: Timestamp,
    ) -> PageRead {
        let nothing = |reason| {
            self.metrics.count_misses("remote", reason, 1);
            PageRead::Nothing
        };
        let value = match value {
            Ok(value) => value,
            Err(Missing::Nothing(reason)) => return nothing(reason),
            Err(Missing::Lost(loss)) => {
                self.metrics.count_misses("remote", loss.as_str(), 1);
                return PageRead::Lost;
            }
        };
        self.metrics.remote_bytes("read", value.len() as u64);
        let slot = match decode(self.version, &value, identity.bytes(), *page, grid) {
            Ok(slot) => slot,
            Err(unreadable) => return nothing(unreadable.as_str()),
        };
        let latest = now.ms().saturating_add(millis(MOST_SKEW));
        let is_believable = slot.without(|extent| extent.fetched_at.ms() > latest);
        if is_believable.extents().len() < slot.extents().len() {
            return nothing("future");
        }
        let slot = match self.purger.rules().purge(identity.bytes(), &slot) {
            Some(rest) if rest.extents().is_empty() => return nothing("purged"),
            Some(rest) => rest,
            None => slot,
        };
        let slot = slot.without(|extent| self.lifetimes.alive(extent, now).is_none());
        if slot.extents().is_empty() { nothing("expired") } else { PageRead::Found(slot) }
    }

    /// Writes a page of a slot, together with what others may have written of it that we do not hold.
    pub async fn write(
        self: &Arc<Self>,
        identity: &Identity,
        (page, grid): (Page, StepGrid),
        slot: &Slot,
        now: Timestamp,
    ) -> PageWritten {
        let deadline = Instant::now() + self.timeout * WRITE_PATIENCE;
        if !self.purger.is_current() {
            return PageWritten::Later;
        }
        let mut slot = slot.part(&grid);
        if slot.instants_in(&grid) < grid.len() {
            match self.read_until(identity, &[(page, grid)], now, deadline).await.pop() {
                Some(PageRead::Found(theirs)) => slot = slot.filled_with(&theirs, now, &self.lifetimes),
                Some(PageRead::Nothing) => {}
                Some(PageRead::Lost) | None => return PageWritten::Later,
            }
        }
        let Some(items) = self.items(identity, page, slot, now).await else {
            self.metrics.remote_written("too-large");
            return PageWritten::Never;
        };
        if items.is_empty() {
            return PageWritten::Yes;
        }
        let began = Instant::now();
        let bytes: usize = items.iter().map(|item| item.value.len()).sum();
        let written = self.store.write(identity.place(), items, deadline).await;
        self.metrics.remote_took("write", began.elapsed());
        let loss = written.into_iter().find_map(|written| match written {
            Write::Stored => None,
            Write::Lost(loss) => Some(loss),
        });
        self.metrics.remote_written(loss.map_or("stored", Loss::as_str));
        match loss {
            None => {
                self.metrics.remote_bytes("write", bytes as u64);
                PageWritten::Yes
            }
            Some(Loss::Refused) => PageWritten::Never,
            Some(_) => PageWritten::Later,
        }
    }

    /// The items of a page. None at all if nothing of it is worth writing any more; `None` if it is too large.
    async fn items(self: &Arc<Self>, identity: &Identity, page: Page, slot: Slot, now: Timestamp) -> Option<Vec<Item>> {
        let slot = slot.without(|extent| extent.answer.stats.is_some() || self.lifetimes.alive(extent, now).is_none());
        let ages = slot.extents().iter().map(|extent| now.since(extent.fetched_at));
        let Some(youngest) = ages.min() else { return Some(Vec::new()) };
        let ttl = self.lifetimes.ttl.saturating_sub(youngest).max(Duration::from_secs(1));
        let (remote, identity) = (Arc::clone(self), identity.clone());
        let encoding = tokio::task::spawn_blocking(move || {
            let value = encode(remote.version, identity.bytes(), page, &slot)?;
            let pieces = chunks::cut(&value, remote.store.max_value_bytes())?;
            let key = remote.key(&identity, page);
            // The first piece last: who finds it finds the others.
            let items = pieces.into_iter().enumerate().rev();
            Some(items.map(|(number, value)| Item { key: chunks::key(&key, number), value, ttl }).collect())
        });
        encoding.await.ok().flatten()
    }
}

/// Why a value is not there.
#[derive(Clone, Copy, Debug)]
enum Missing {
    /// There is none of use.
    Nothing(&'static str),
    /// It is not known.
    Lost(Loss),
}

fn piece(read: Read) -> Result<PieceOfValue, Missing> {
    match read {
        Read::Value(bytes) => PieceOfValue::read(bytes).ok_or(Missing::Nothing("pieces")),
        Read::Absent => Err(Missing::Nothing("absent")),
        Read::Lost(loss) => Err(Missing::Lost(loss)),
    }
}
