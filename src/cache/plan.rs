//! What of a query is held, what is missing, and what of an answer may be kept.
//!
//! All of it is judged by reach: a point may be kept when everything that its evaluation reads is older than the freshness
//! window, for then it is final (invariant *freshness*). Whether a *query* may be kept at all is decided once, before the lookup, with a
//! reason from a closed list: the same word in the response header, the metric and the log.

use std::time::Duration;

use super::extent::{Extent, Lifetimes, Reads, Slot};
use crate::model::grid::StepGrid;
use crate::model::response::{Piece, RangeAnswer};
use crate::model::time::Timestamp;
use crate::request::PlannedQuery;

/// What of `grid` the slots hold at `now`: pieces in order, and the instants that are missing, in order.
pub fn look_up(slots: &[(StepGrid, Option<&Slot>)], now: Timestamp, lifetimes: &Lifetimes) -> Lookup {
    let mut lookup = Lookup::default();
    for (grid, slot) in slots {
        let mut rest = Some(*grid);
        let mut held_points = 0;
        for extent in slot.map_or(&[][..], Slot::extents) {
            let Some(wanted) = rest else { break };
            let Some(held) = usable(extent, &wanted, now, lifetimes) else { continue };
            let [before, after] = wanted.minus(&held);
            lookup.miss(before);
            held_points += held.len();
            lookup.held.push(Piece { grid: held, answer: std::sync::Arc::clone(&extent.answer) });
            rest = after;
        }
        lookup.miss(rest);
        match held_points {
            0 => lookup.missed_slots += 1,
            all if all == grid.len() => lookup.hit_slots += 1,
            _ => lookup.partial_slots += 1,
        }
    }
    lookup
}

/// The part of `wanted` that `extent` answers; one that cannot be divided answers wholly or not at all.
fn usable(extent: &Extent, wanted: &StepGrid, now: Timestamp, lifetimes: &Lifetimes) -> Option<StepGrid> {
    let held = lifetimes.alive(extent, now)?.overlap(wanted)?;
    (extent.answer.is_divisible() || held == extent.answer.grid).then_some(held)
}

/// What a lookup found.
#[derive(Debug, Default)]
pub struct Lookup {
    /// What is held, in order.
    pub held: Vec<Piece>,
    /// What is not, in order; neighbours joined.
    pub missing: Vec<StepGrid>,
    /// Slots that held all that was wanted of them.
    pub hit_slots: u64,
    /// Slots that held some of it.
    pub partial_slots: u64,
    /// Slots that held nothing of it.
    pub missed_slots: u64,
}

impl Lookup {
    /// Nothing is held: what a query that bypasses the cache finds.
    pub fn all_missing(grid: StepGrid) -> Self {
        Self { missing: vec![grid], ..Self::default() }
    }

    fn miss(&mut self, grid: Option<StepGrid>) {
        let Some(grid) = grid else { return };
        let joined = self.missing.last().and_then(|last| last.join(&grid));
        match (joined, self.missing.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => self.missing.push(grid),
        }
    }
}

/// The pieces that answer a query: what was fetched, and of what is held the rest. In order, disjoint, covering.
pub fn assemble(held: Vec<Piece>, fetched: Vec<Piece>) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(held.len() + fetched.len());
    for piece in held {
        let mut rest = vec![piece.grid];
        for part in &fetched {
            rest = rest.iter().flat_map(|grid| grid.minus(&part.grid)).flatten().collect();
        }
        pieces.extend(rest.into_iter().map(|grid| Piece { grid, answer: std::sync::Arc::clone(&piece.answer) }));
    }
    pieces.extend(fetched);
    pieces.sort_by_key(|piece| piece.grid.start());
    pieces
}

/// What the instants of a query read.
pub fn reads(planned: &PlannedQuery) -> Reads {
    let (facts, query) = (&planned.facts, &planned.query);
    let nailed_ms = facts.nailed_ms(query.start.ms(), query.end.ms()).max();
    Reads { ahead_ms: facts.ahead_ms(), nailed: nailed_ms.map(Timestamp::from_ms) }
}

/// The instants of `grid` whose answers are final at `now`: all they read is older than `freshness`.
pub fn final_instants(
    planned: &PlannedQuery,
    grid: &StepGrid,
    now: Timestamp,
    freshness: Duration,
) -> Option<StepGrid> {
    reads(planned).settled(grid, now.before(freshness))
}

/// Why an answer was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// All of it may still change.
    Fresh,
    /// The server said `Cache-Control: no-store`.
    NoStore,
    /// It came with warnings of the moment.
    Warnings,
    /// It came with annotations that speak of more than one slot.
    Indivisible,
}

impl NotKept {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::NoStore => "no-store",
            Self::Warnings => "warnings",
            Self::Indivisible => "indivisible",
        }
    }
}

/// Whether, and for which instants, an answer may be kept.
pub fn admit(
    answer: &RangeAnswer,
    finals: Option<StepGrid>,
    no_store: bool,
    slots_touched: usize,
) -> Result<StepGrid, NotKept> {
    if no_store {
        return Err(NotKept::NoStore);
    }
    if !answer.annotations.come_from_promql() {
        return Err(NotKept::Warnings);
    }
    let finals = finals.ok_or(NotKept::Fresh)?;
    if !answer.is_divisible() && (finals != answer.grid || slots_touched > 1) {
        return Err(NotKept::Indivisible);
    }
    Ok(finals)
}
