//! Answers as they were sent, for as long as they are asked for again: what many who look at the same panel share.
//!
//! Most windows move on and are asked for once. So of an answer that is asked for first only the name is remembered, and it is kept
//! when it is asked for again. Then it stays for as long as others are not asked for later, however large it is.
//!
//! An answer is told by the pieces it is made of, and by nothing else: if a look-up gives the very same pieces, the answer is the
//! same bytes. So this decides nothing. What has expired, was purged or belongs to another tenant is never among the pieces that a
//! look-up gives, and an answer whose pieces are given up is not found any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use prometheus_client::metrics::counter::Counter;
use xxhash_rust::xxh3::Xxh3;

use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::response::{Piece, RangeAnswer};
use crate::model::whole::Packing;

/// What nobody has asked for so long is let go.
const IDLE: Duration = Duration::from_mins(10);
/// What an entry costs besides its bytes and its pieces.
const OVERHEAD: usize = 256;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its bytes.
    pub chunks: Arc<[Bytes]>,
    /// How many they are.
    pub length: u64,
    /// How they are packed: short ones are not, whatever the client takes.
    pub packing: Packing,
}

impl Finished {
    /// Of these bytes.
    pub fn new(chunks: Vec<Bytes>, packing: Packing) -> Self {
        Self { length: chunks.iter().map(|chunk| chunk.len() as u64).sum(), chunks: chunks.into(), packing }
    }
}

/// What is known of an answer that is asked for.
#[derive(Clone, Debug)]
pub enum Known {
    /// It is kept.
    Whole(Finished),
    /// It was asked for before: it is worth keeping.
    Name,
    /// Nothing until now.
    Nothing,
}

/// One piece of an answer. It does not keep the piece alive, but its place in memory is not used again.
#[derive(Debug)]
struct Part {
    answer: Weak<RangeAnswer>,
    grid: StepGrid,
}

#[derive(Debug)]
struct Entry {
    parts: Box<[Part]>,
    /// None if it was asked for once.
    finished: Option<Finished>,
}

impl Entry {
    fn new(pieces: &[Piece], finished: Option<Finished>) -> Arc<Self> {
        let part = |piece: &Piece| Part { answer: Arc::downgrade(&piece.answer), grid: piece.grid };
        Arc::new(Self { parts: pieces.iter().map(part).collect(), finished })
    }

    fn is_of(&self, pieces: &[Piece]) -> bool {
        let is_same = |(part, piece): (&Part, &Piece)| {
            std::ptr::eq(part.answer.as_ptr(), Arc::as_ptr(&piece.answer)) && part.grid == piece.grid
        };
        self.parts.len() == pieces.len() && self.parts.iter().zip(pieces).all(is_same)
    }

    fn weight(&self) -> u32 {
        let length = self.finished.as_ref().map_or(0, |finished| finished.length);
        let bytes = length + (self.parts.len() * size_of::<Part>() + OVERHEAD) as u64;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// Answers as they were sent.
#[derive(Debug)]
pub struct FinishedAnswers {
    answers: Cache<u64, Arc<Entry>>,
    max_bytes: u64,
    /// Of answers that are being sent.
    collected: AtomicU64,
    sent_again: Counter,
}

impl FinishedAnswers {
    /// None yet; of at most so many bytes.
    pub fn new(max_bytes: u64, metrics: &Metrics) -> Self {
        let answers = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .time_to_idle(IDLE)
            // By how often each was asked for, a new name would wait until it was asked for oftener than those that nobody asks for any more.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { answers, max_bytes, collected: AtomicU64::new(0), sent_again: metrics.cache_sent_again.clone() }
    }

    /// What is known of the answer that is made of `pieces`. From now on its name is.
    pub fn ask(&self, packing: Packing, pieces: &[Piece]) -> Known {
        let key = key(packing, pieces);
        let Some(entry) = self.answers.get(&key).filter(|entry| entry.is_of(pieces)) else {
            self.answers.insert(key, Entry::new(pieces, None));
            return Known::Nothing;
        };
        let Some(finished) = &entry.finished else { return Known::Name };
        self.sent_again.inc();
        Known::Whole(finished.clone())
    }

    /// Keeps an answer that was sent to somebody who takes `packing`.
    pub fn keep(&self, packing: Packing, pieces: &[Piece], finished: Finished) {
        if finished.length <= self.max_bytes {
            self.answers.insert(key(packing, pieces), Entry::new(pieces, Some(finished)));
        }
    }

    /// How many bytes all answers have.
    pub fn size(&self) -> u64 {
        self.answers.run_pending_tasks();
        self.answers.weighted_size()
    }
}

/// The chunks of an answer that is being sent. Those of all answers together are bounded: their clients may be slow.
#[derive(Debug)]
pub struct Collected {
    finished: Arc<FinishedAnswers>,
    chunks: Vec<Bytes>,
    length: u64,
}

impl Collected {
    /// None yet.
    pub fn new(finished: &Arc<FinishedAnswers>) -> Self {
        Self { finished: Arc::clone(finished), chunks: Vec::new(), length: 0 }
    }

    /// Adds a chunk. Whether there is room for it.
    pub fn add(&mut self, chunk: &Bytes) -> bool {
        let length = chunk.len() as u64;
        self.length += length;
        self.chunks.push(chunk.clone());
        self.finished.collected.fetch_add(length, Ordering::Relaxed) + length <= self.finished.max_bytes
    }

    /// Keeps them all as the answer that is made of `pieces`.
    pub fn keep(mut self, packing: Packing, pieces: &[Piece]) {
        let chunks = std::mem::take(&mut self.chunks);
        self.finished.keep(packing, pieces, Finished::new(chunks, packing));
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        self.finished.collected.fetch_sub(self.length, Ordering::Relaxed);
    }
}

fn key(packing: Packing, pieces: &[Piece]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&[u8::from(packing == Packing::Gzip)]);
    for piece in pieces {
        hash.update(&Arc::as_ptr(&piece.answer).addr().to_le_bytes());
        hash.update(&piece.grid.start().ms().to_le_bytes());
        hash.update(&piece.grid.last().ms().to_le_bytes());
    }
    hash.digest()
}
