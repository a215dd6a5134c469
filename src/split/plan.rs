//! Which sub-requests a set of missing instants becomes.
//!
//! The cut follows whole intervals (a day) since the epoch, on the query's own grid and in its own phase. Three things
//! bend it: a query whose own range is long (`rate(x[30d])`) is cut into parts at least that long, for shorter ones would
//! all read the same month again; the number of parts is bounded; and holes that lie close together are asked for in one
//! go, as long as at most as much is asked for again as is missing.

use crate::model::grid::StepGrid;

/// What the cut depends on besides the grid.
#[derive(Clone, Copy, Debug)]
pub struct SplitPolicy {
    /// The interval at whose multiples a query is cut.
    pub interval_ms: i64,
    /// At most this many parts for one query.
    pub max_parts: usize,
}

impl SplitPolicy {
    /// The interval for a query that reads `widest_range_ms` of data for each instant.
    fn interval_for(&self, missing: &[StepGrid], widest_range_ms: i64) -> i64 {
        let span = match (missing.first(), missing.last()) {
            (Some(first), Some(last)) => last.last().ms().saturating_sub(first.start().ms()),
            _ => 0,
        };
        let most = i64::try_from(self.max_parts).unwrap_or(i64::MAX).max(1);
        // One interval more than fits evenly, because the first and the last are seldom whole.
        let fewest_for_bound = (span / self.interval_ms) / most + 1;
        let fewest_for_range = widest_range_ms.saturating_sub(1).max(0) / self.interval_ms + 1;
        self.interval_ms.saturating_mul(fewest_for_bound.max(fewest_for_range))
    }
}

/// The sub-requests for `missing`, which is in order and disjoint: in order, disjoint, and covering it (invariant *cover*).
pub fn plan_parts(missing: &[StepGrid], widest_range_ms: i64, policy: &SplitPolicy) -> Vec<StepGrid> {
    let interval_ms = policy.interval_for(missing, widest_range_ms);
    let pieces = missing.iter().flat_map(|grid| grid.cut(interval_ms));
    let mut parts: Vec<Part> = Vec::new();
    for grid in pieces {
        let gathered = parts.last().and_then(|part| part.gather(&grid, interval_ms));
        match (gathered, parts.last_mut()) {
            (Some(gathered), Some(last)) => *last = gathered,
            _ => parts.push(Part { grid, missing: grid.len() }),
        }
    }
    bound(parts, policy.max_parts.max(1)).into_iter().map(|part| part.grid).collect()
}

/// A sub-request and how many of its instants are really missing.
#[derive(Clone, Copy, Debug)]
struct Part {
    grid: StepGrid,
    missing: u64,
}

impl Part {
    /// This part and the hole after it in one, if they lie in one interval and no more is asked for again than is missing.
    fn gather(&self, hole: &StepGrid, interval_ms: i64) -> Option<Self> {
        let same_interval = self.grid.start().ms().div_euclid(interval_ms) == hole.start().ms().div_euclid(interval_ms);
        let joined = self.join(hole);
        (same_interval && joined.grid.len() <= 2 * joined.missing).then_some(joined)
    }

    fn join(&self, hole: &StepGrid) -> Self {
        Self { grid: self.grid.hull(hole), missing: self.missing + hole.len() }
    }
}

/// Joins neighbours, closest first, until at most `most` parts are left: scattered holes are the one way to exceed it.
fn bound(mut parts: Vec<Part>, most: usize) -> Vec<Part> {
    while parts.len() > most {
        let gap = |i: &usize| parts[i + 1].grid.start().ms() - parts[*i].grid.last().ms();
        let closest = (0..parts.len() - 1).min_by_key(gap).expect("more than one part");
        let next = parts.remove(closest + 1);
        parts[closest] =
            Part { missing: parts[closest].missing + next.missing, grid: parts[closest].grid.hull(&next.grid) };
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{Step, Timestamp};
    use proptest::prelude::*;

    fn grid(start: i64, step: i64, end: i64) -> StepGrid {
        let step = Step::from_ms(step).expect("a test names a step");
        StepGrid::new(Timestamp::from_ms(start), step, Timestamp::from_ms(end)).expect("a test names a grid")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_are_ordered_disjoint_bounded_and_cover_what_is_missing(
            start in -300_i64..300, step in 1_i64..30,
            holes in proptest::collection::vec((0_i64..20, 1_i64..30), 1..12),
            interval in 1_i64..400, widest in 0_i64..900, max_parts in 1_usize..9,
        ) {
            let (mut missing, mut at) = (Vec::new(), start);
            for (gap, len) in holes {
                let first = at + gap * step;
                missing.push(grid(first, step, first + (len - 1) * step));
                at = first + len * step;
            }
            let policy = SplitPolicy { interval_ms: interval, max_parts };
            let parts = plan_parts(&missing, widest, &policy);
            prop_assert!(parts.len() <= max_parts);
            prop_assert!(parts.windows(2).all(|pair| pair[0].last() < pair[1].start()));
            for hole in &missing {
                let covered: u64 = parts.iter().filter_map(|part| part.overlap(hole)).map(|common| common.len()).sum();
                prop_assert_eq!(covered, hole.len());
            }
        }
    }
}
