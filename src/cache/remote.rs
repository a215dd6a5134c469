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
/// More is not read for one query, in bytes of memory.
const MOST_READ_BYTES: usize = 1 << 30;
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
    /// It holds these extents, all of which still hold, at least in part.
    Found(Slot),
    /// There is nothing of use.
    Nothing,
    /// It is not known what there is.
    Lost,
}

/// What became of writing a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageWritten {
    /// It is written as far as the server says, or would never be.
    Settled,
    /// It is not; it may be tried again.
    Later,
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
        let began = Instant::now();
        let read = self.read_until(identity, pages, now, began + self.timeout).await;
        self.metrics.remote_took("read", began.elapsed());
        let outcome = |read: Result<Slot, Missing>| match read {
            Ok(slot) => PageRead::Found(slot),
            Err(missing) => {
                self.metrics.count_misses("remote", missing.reason(), 1);
                missing.into()
            }
        };
        read.into_iter().map(outcome).collect()
    }

    async fn read_until(
        &self,
        identity: &Identity,
        pages: &[(Page, StepGrid)],
        now: Timestamp,
        deadline: Instant,
    ) -> Vec<Result<Slot, Missing>> {
        if !self.purger.is_current() {
            return pages.iter().map(|_| Err(Missing::PurgesUnknown)).collect();
        }
        let keys: Vec<String> = pages.iter().map(|(page, _)| self.key(identity, *page)).collect();
        let values = self.read_values(identity.place(), &keys, deadline).await;
        let mut taken = 0;
        let judge = |(value, page): (Result<Bytes, Missing>, &(Page, StepGrid))| {
            if taken > MOST_READ_BYTES {
                return Err(Missing::TooMuch);
            }
            let slot = self.judge(&value?, identity, *page, now)?;
            taken += slot.weight();
            Ok(slot)
        };
        values.into_iter().zip(pages).map(judge).collect()
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
        // Where the first piece lies the others were written too: one that is gone is not nothing.
        let mut rest = rest.into_iter().map(|read| match read {
            Read::Absent => Err(Missing::Nothing("pieces")),
            read => piece(read),
        });
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
        value: &[u8],
        identity: &Identity,
        (page, grid): (Page, StepGrid),
        now: Timestamp,
    ) -> Result<Slot, Missing> {
        self.metrics.remote_bytes("read", value.len() as u64);
        let nothing = |reason| Err(Missing::Nothing(reason));
        let slot = match decode(self.version, value, identity.bytes(), page, &grid) {
            Ok(slot) => slot,
            Err(unreadable) => return nothing(unreadable.as_str()),
        };
        let latest = now.ms().saturating_add(millis(MOST_SKEW));
        if slot.extents().iter().any(|extent| extent.fetched_at.ms() > latest) {
            return nothing("future");
        }
        let slot = match self.purger.rules().purge(identity.bytes(), &slot) {
            Some(rest) if rest.extents().is_empty() => return nothing("purged"),
            Some(rest) => rest,
            None => slot,
        };
        let slot = slot.without(|extent| self.lifetimes.alive(extent, now).is_none());
        if slot.extents().is_empty() { nothing("expired") } else { Ok(slot) }
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
            self.metrics.remote_written("purges-unknown");
            return PageWritten::Later;
        }
        // What died while it waited is not held any more.
        let mut slot = Slot::default().filled_with(&slot.part(&grid), now, &self.lifetimes);
        if slot.instants_in(&grid) < grid.len() {
            match self.read_until(identity, &[(page, grid)], now, deadline).await.pop() {
                Some(Ok(theirs)) => slot = slot.filled_with(&theirs, now, &self.lifetimes),
                Some(Err(Missing::Nothing(_))) => {}
                Some(Err(_)) | None => {
                    self.metrics.remote_written("unread");
                    return PageWritten::Later;
                }
            }
        }
        let Some(items) = self.items(identity, page, slot, now).await else {
            self.metrics.remote_written("too-large");
            return PageWritten::Settled;
        };
        if items.is_empty() {
            return PageWritten::Settled;
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
        if loss.is_none() {
            self.metrics.remote_bytes("write", bytes as u64);
        }
        if matches!(loss, None | Some(Loss::Refused)) { PageWritten::Settled } else { PageWritten::Later }
    }

    /// The items of a page whose extents all hold. None at all if there are no extents; `None` if it is too large.
    async fn items(self: &Arc<Self>, identity: &Identity, page: Page, slot: Slot, now: Timestamp) -> Option<Vec<Item>> {
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

/// Why a page is not there.
#[derive(Clone, Copy, Debug)]
enum Missing {
    /// There is none of use.
    Nothing(&'static str),
    /// It is not known.
    Lost(Loss),
    /// It might have been purged.
    PurgesUnknown,
    /// More was read for this query than may be.
    TooMuch,
}

impl Missing {
    /// As it stands in metrics.
    fn reason(self) -> &'static str {
        match self {
            Self::Nothing(reason) => reason,
            Self::Lost(loss) => loss.as_str(),
            Self::PurgesUnknown => "purges-unknown",
            Self::TooMuch => "too-much",
        }
    }
}

impl From<Missing> for PageRead {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Nothing(_) => Self::Nothing,
            Missing::Lost(_) | Missing::PurgesUnknown | Missing::TooMuch => Self::Lost,
        }
    }
}

fn piece(read: Read) -> Result<PieceOfValue, Missing> {
    match read {
        Read::Value(bytes) => PieceOfValue::read(bytes).ok_or(Missing::Nothing("pieces")),
        Read::Absent => Err(Missing::Nothing("absent")),
        Read::Lost(loss) => Err(Missing::Lost(loss)),
    }
}
