//! An extent: an answer to some instants of one query, and when it was fetched.
//!
//! Its age, not the last write of the entry it lies in, decides how long it holds: an answer that was wrong or incomplete
//! when it was fetched dies at its own end of life, however often its neighbours are refreshed. So where extents are
//! merged the older fetch time stays, and extents whose ages differ much are not merged at all.

use std::sync::Arc;
use std::time::Duration;

use crate::merge::merge_series;
use crate::model::grid::StepGrid;
use crate::model::packed::Builder;
use crate::model::response::{Piece, RangeAnswer};
use crate::model::series::Matrix;
use crate::model::time::Timestamp;

/// An answer and when it was asked for.
#[derive(Clone, Debug)]
pub struct Extent {
    /// What was answered, for which instants.
    pub answer: Arc<RangeAnswer>,
    /// The wall clock at the door when the query came in that it was fetched for.
    pub fetched_at: Timestamp,
    /// What its instants read.
    pub reads: Reads,
}

/// The latest data that the evaluation of an instant reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// How far past the instant, in milliseconds.
    pub ahead_ms: i64,
    /// Whichever the instant, if there is such a time.
    pub nailed: Option<Timestamp>,
}

impl Reads {
    /// The instants of `grid` that read nothing after `horizon`: the first ones, up to some point.
    pub fn settled(self, grid: &StepGrid, horizon: Timestamp) -> Option<StepGrid> {
        if self.nailed.is_some_and(|nailed| nailed > horizon) {
            return None;
        }
        grid.until(Timestamp::from_ms(horizon.ms().saturating_sub(self.ahead_ms)))
    }
}

/// How long extents hold.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of what was final when it was fetched.
    pub ttl: Duration,
    /// Samples may still arrive for instants this much in the past.
    pub out_of_order_window: Duration,
    /// Of instants that lay inside that window when they were fetched.
    pub out_of_order_ttl: Duration,
}

impl Lifetimes {
    /// The instants of `extent` that still hold at `now`.
    pub fn alive(&self, extent: &Extent, now: Timestamp) -> Option<StepGrid> {
        let (age, grid) = (now.since(extent.fetched_at), extent.answer.grid);
        if age >= self.ttl {
            return None;
        }
        if age < self.out_of_order_ttl || self.out_of_order_window.is_zero() {
            return Some(grid);
        }
        extent.reads.settled(&grid, extent.fetched_at.before(self.out_of_order_window))
    }

    /// How far apart the ages of two extents may be so that one of `grid`, with the older age, holds about as long as they
    /// would: if part of it was unsettled at the older fetch, that part lives shorter.
    fn mergeable_within(&self, older: &Extent, grid: &StepGrid) -> Duration {
        let window_begins = older.fetched_at.before(self.out_of_order_window);
        let is_settled =
            self.out_of_order_window.is_zero() || older.reads.settled(grid, window_begins).as_ref() == Some(grid);
        if is_settled { self.ttl / 8 } else { self.ttl.min(self.out_of_order_ttl) / 8 }
    }
}

/// Extents are not merged into one of more bytes of text: it is unpacked and packed, while others wait for the slot.
const MOST_MERGED_BYTES: usize = 8 << 20;
/// More extents than this in one slot are merged whatever their ages.
const MOST_EXTENTS: usize = 32;

/// The extents of one query in one slot: disjoint and in order.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    extents: Vec<Extent>,
}

impl Slot {
    /// The extents, in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// How much memory it holds, in bytes.
    pub fn weight(&self) -> usize {
        self.extents.iter().map(|extent| extent.answer.weight() + size_of::<Extent>()).sum()
    }

    /// How many instants of `grid` it holds, whatever their age.
    pub fn instants_in(&self, grid: &StepGrid) -> u64 {
        let overlaps = self.extents.iter().filter_map(|extent| extent.answer.grid.overlap(grid));
        overlaps.map(|instants| instants.len()).sum()
    }

    /// The extents of `grid`, cut where they reach beyond it. One that cannot be cut is left out.
    #[must_use]
    pub fn part(&self, grid: &StepGrid) -> Self {
        let cut = |extent: &Extent| {
            let overlap = extent.answer.grid.overlap(grid)?;
            if overlap == extent.answer.grid {
                return Some(extent.clone());
            }
            extent.answer.is_divisible().then(|| extent.part(&overlap))
        };
        Self { extents: self.extents.iter().filter_map(cut).collect() }
    }

    /// This slot, and what of `other` it has no living answer for.
    #[must_use]
    pub fn filled_with(&self, other: &Self, now: Timestamp, lifetimes: &Lifetimes) -> Self {
        let mut slot = self.clone();
        for extent in &other.extents {
            let mut rest: Vec<StepGrid> = lifetimes.alive(extent, now).into_iter().collect();
            for held in &self.extents {
                let Some(held) = lifetimes.alive(held, now) else { continue };
                rest = rest.iter().flat_map(|grid| grid.minus(&held)).flatten().collect();
            }
            for grid in rest {
                if grid == extent.answer.grid {
                    slot = slot.with(extent.clone(), now, lifetimes);
                } else if extent.answer.is_divisible() {
                    slot = slot.with(extent.part(&grid), now, lifetimes);
                }
            }
        }
        slot
    }

    /// With `now` in the place of the answer `before`; none if that is not held.
    pub fn with_answer_replaced(&self, before: &Arc<RangeAnswer>, now: &Arc<RangeAnswer>) -> Option<Self> {
        let at = self.extents.iter().position(|extent| Arc::ptr_eq(&extent.answer, before))?;
        let mut slot = self.clone();
        slot.extents[at].answer = Arc::clone(now);
        Some(slot)
    }

    /// Without the extents for which `is_gone` holds.
    #[must_use]
    pub fn without(&self, is_gone: impl Fn(&Extent) -> bool) -> Self {
        Self { extents: self.extents.iter().filter(|extent| !is_gone(extent)).cloned().collect() }
    }

    /// A slot of extents that come from elsewhere; none unless they are disjoint, in order, few, and in `grid`.
    pub fn from_extents(extents: Vec<Extent>, grid: &StepGrid) -> Option<Self> {
        let is_ordered = extents.windows(2).all(|pair| pair[0].answer.grid.last() < pair[1].answer.grid.start());
        let is_inside = extents.iter().all(|extent| grid.covers(&extent.answer.grid));
        (is_ordered && is_inside && extents.len() <= MOST_EXTENTS).then_some(Self { extents })
    }

    /// This slot with `fresh` in it, which replaces what was held for its instants.
    ///
    /// A longer one that is held and cannot be divided (it has annotations) is not given up for it: then nothing changes.
    #[must_use]
    pub fn with(&self, fresh: Extent, now: Timestamp, lifetimes: &Lifetimes) -> Self {
        let grid = fresh.answer.grid;
        let mut extents: Vec<Extent> = Vec::with_capacity(self.extents.len() + 2);
        for held in &self.extents {
            let Some(alive) = lifetimes.alive(held, now) else { continue };
            let overlaps = held.answer.grid.overlap(&grid).is_some();
            if !overlaps && alive == held.answer.grid {
                extents.push(held.clone());
            } else if held.answer.is_divisible() {
                extents.extend(alive.minus(&grid).into_iter().flatten().map(|rest| held.part(&rest)));
            } else if overlaps && alive.len() > grid.len() && alive == held.answer.grid {
                return self.clone();
            }
        }
        let at = extents.partition_point(|held| held.answer.grid.start() < grid.start());
        extents.insert(at, fresh);
        let mut slot = Self { extents };
        slot.compact(lifetimes);
        slot.check();
        slot
    }

    /// Merges neighbours so that each instant is copied only about as often as the slot doubles, and the number of extents
    /// stays small.
    fn compact(&mut self, lifetimes: &Lifetimes) {
        let mut i = self.extents.len().saturating_sub(1);
        while i > 0 {
            let (left, right) = (&self.extents[i - 1], &self.extents[i]);
            let is_due = left.answer.grid.len() <= 2 * right.answer.grid.len();
            let older = if left.fetched_at <= right.fetched_at { left } else { right };
            let apart = left.fetched_at.max(right.fetched_at).since(older.fetched_at);
            let grid = left.answer.grid.hull(&right.answer.grid);
            if is_due && apart <= lifetimes.mergeable_within(older, &grid) {
                self.merge_at(i);
            }
            i -= 1;
        }
        let mut i = self.extents.len().saturating_sub(1);
        while self.extents.len() > MOST_EXTENTS && i > 0 {
            self.merge_at(i);
            i -= 1;
        }
        if self.extents.len() > MOST_EXTENTS {
            self.extents.drain(..self.extents.len() - MOST_EXTENTS);
        }
    }

    /// Makes one of the extents `i - 1` and `i`, if they are neighbours and alike.
    fn merge_at(&mut self, i: usize) {
        let (left, right) = (&self.extents[i - 1], &self.extents[i]);
        // Two that say the same about themselves still say it together.
        let is_alike = left.answer.annotations == right.answer.annotations && left.reads == right.reads;
        let has_stats = left.answer.stats.is_some() || right.answer.stats.is_some();
        let bytes = left.answer.matrix.text_bytes() + right.answer.matrix.text_bytes();
        let is_mergeable = is_alike && !has_stats && bytes <= MOST_MERGED_BYTES;
        let Some(grid) = left.answer.grid.join(&right.answer.grid).filter(|_| is_mergeable) else { return };
        let merged = Extent {
            fetched_at: left.fetched_at.min(right.fetched_at),
            reads: left.reads,
            answer: Arc::new(concatenate(grid, [left, right])),
        };
        self.extents.splice(i - 1..=i, [merged]);
    }

    /// Panics if the extents are not what a slot promises: disjoint, in order, of one lattice.
    pub fn check(&self) {
        for pair in self.extents.windows(2) {
            let (left, right) = (&pair[0].answer.grid, &pair[1].answer.grid);
            debug_assert!(left.is_congruent(right) && left.last() < right.start(), "{left:?} then {right:?}");
        }
        debug_assert!(self.extents.len() <= MOST_EXTENTS, "a slot grew past its bound");
    }
}

impl Extent {
    fn part(&self, grid: &StepGrid) -> Self {
        Self { answer: Arc::new(self.answer.packed_part(grid)), ..self.clone() }
    }
}

/// One answer with the series of all `extents`, packed anew: what begins a piece is written out, and pieces may be small.
fn concatenate(grid: StepGrid, extents: [&Extent; 2]) -> RangeAnswer {
    let pieces = extents.map(|extent| Piece { grid: extent.answer.grid, answer: Arc::clone(&extent.answer) });
    let (mut builder, mut floats, mut histograms) = (Builder::default(), Vec::new(), Vec::new());
    merge_series(&pieces, |merged| {
        for (stretches, text) in [(&merged.floats, &mut floats), (&merged.histograms, &mut histograms)] {
            text.clear();
            for (i, stretch) in stretches.iter().enumerate() {
                if i > 0 {
                    text.push(b',');
                }
                stretch.append_to(text);
            }
        }
        builder.add(merged.metric, &floats, &histograms);
    });
    let annotations = extents[0].answer.annotations.clone();
    RangeAnswer { grid, matrix: Matrix::Packed(builder.finish()), annotations, stats: None }
}
