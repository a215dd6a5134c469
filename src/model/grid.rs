//! The law: a range query is a finite grid of instants. Limits narrow it, splitting cuts it, the cache subtracts what
//! it holds, and merging concatenates what came back.
//!
//! PromQL evaluates each instant of a range query on its own, so any cut of the grid is sound as long as no instant is
//! lost, doubled or moved. That is all this file is about: whole milliseconds, no clock, no I/O. A grid is never empty;
//! an operation whose result may be empty says so in its type.

use super::time::{Step, Timestamp};

/// The instants `start, start + step, …`, `len` of them and at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepGrid {
    start: Timestamp,
    step: Step,
    last: Timestamp,
}

impl StepGrid {
    /// The grid of a range query: from `start`, by `step`, as far as `end`; none if `end` comes first.
    ///
    /// `None` also if an instant would leave the range of milliseconds.
    pub fn new(start: Timestamp, step: Step, end: Timestamp) -> Option<Self> {
        let span = end.ms().checked_sub(start.ms()).filter(|&span| span >= 0)?;
        let last = Timestamp::from_ms(start.ms() + span - span % step.ms());
        Some(Self { start, step, last })
    }

    /// The first instant.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The last instant: not later than the `end` that was asked for.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// The distance between instants.
    pub fn step(&self) -> Step {
        self.step
    }

    /// How many instants there are, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a grid is never empty")]
    pub fn len(&self) -> u64 {
        (self.last.ms() - self.start.ms()).unsigned_abs() / self.step.ms().unsigned_abs() + 1
    }

    /// Where its instants lie between two multiples of the step: `start mod step`, in `0..step` milliseconds.
    ///
    /// Two grids of the same step share instants only if their phases are the same.
    pub fn phase_ms(&self) -> i64 {
        self.start.ms().rem_euclid(self.step.ms())
    }

    /// Whether both lie on the same endless lattice: same step, same phase.
    pub fn is_congruent(&self, other: &Self) -> bool {
        self.step == other.step && self.phase_ms() == other.phase_ms()
    }

    /// Whether `t` is one of its instants.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.start <= t && t <= self.last && (t.ms() - self.start.ms()) % self.step.ms() == 0
    }

    /// Whether every instant of `other` is one of its own.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_congruent(other) && self.start <= other.start && other.last <= self.last
    }

    /// Its instants, in order.
    pub fn instants(&self) -> impl Iterator<Item = Timestamp> + use<> {
        let (start, step) = (self.start.ms(), self.step.ms());
        (0..self.len()).map(move |i| Timestamp::from_ms(start + step * i.cast_signed()))
    }

    /// The instants at or after `t`.
    #[must_use]
    pub fn from(&self, t: Timestamp) -> Option<Self> {
        if t <= self.start {
            return Some(*self);
        }
        if t > self.last {
            return None;
        }
        let steps = (t.ms() - self.start.ms() - 1) / self.step.ms() + 1;
        Some(Self { start: Timestamp::from_ms(self.start.ms() + steps * self.step.ms()), ..*self })
    }

    /// The instants at or before `t`.
    #[must_use]
    pub fn until(&self, t: Timestamp) -> Option<Self> {
        if t >= self.last { Some(*self) } else { Self::new(self.start, self.step, t) }
    }

    /// The instants before `t`.
    #[must_use]
    pub fn before(&self, t: Timestamp) -> Option<Self> {
        self.until(Timestamp::from_ms(t.ms().checked_sub(1)?))
    }

    /// The instants that both have; none if they are not congruent.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<Self> {
        if !self.is_congruent(other) {
            return None;
        }
        let (start, last) = (self.start.max(other.start), self.last.min(other.last));
        (start <= last).then_some(Self { start, step: self.step, last })
    }

    /// The instants that `other` does not have: those before it and those after it.
    pub fn minus(&self, other: &Self) -> [Option<Self>; 2] {
        if self.overlap(other).is_none() {
            return [Some(*self), None];
        }
        [self.before(other.start), self.from(Timestamp::from_ms(other.last.ms().saturating_add(1)))]
    }

    /// The two joined into one, if `next` begins exactly one step after this ends.
    #[must_use]
    pub fn join(&self, next: &Self) -> Option<Self> {
        let adjacent = self.step == next.step && self.last.ms().checked_add(self.step.ms()) == Some(next.start.ms());
        adjacent.then_some(Self { last: next.last, ..*self })
    }

    /// The smallest grid that holds both; they must be congruent.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        debug_assert!(self.is_congruent(other), "a hull joins instants of one lattice");
        Self { start: self.start.min(other.start), step: self.step, last: self.last.max(other.last) }
    }

    /// Cuts where a new interval of `interval_ms` begins (multiples since the epoch): each part holds the instants of one
    /// interval, whatever the phase, and intervals without an instant yield no part.
    ///
    /// The parts are in order, disjoint, and their union is the grid (invariant *cover*).
    pub fn cut(&self, interval_ms: i64) -> Vec<Self> {
        assert!(interval_ms > 0, "an interval has a length");
        let mut parts = Vec::new();
        let mut rest = Some(*self);
        while let Some(grid) = rest {
            let boundary = (grid.start.ms().div_euclid(interval_ms) + 1).checked_mul(interval_ms);
            let Some(boundary) = boundary.map(Timestamp::from_ms).filter(|&b| b <= grid.last) else {
                parts.push(grid);
                break;
            };
            parts.extend(grid.before(boundary));
            rest = grid.from(boundary);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn grid(start: i64, step: i64, end: i64) -> StepGrid {
        let step = Step::from_ms(step).expect("a test names a step");
        StepGrid::new(Timestamp::from_ms(start), step, Timestamp::from_ms(end)).expect("a test names a grid")
    }

    /// The naive model: a grid is the set of its instants.
    fn set(grid: &StepGrid) -> BTreeSet<i64> {
        grid.instants().map(Timestamp::ms).collect()
    }

    fn union(parts: &[StepGrid]) -> BTreeSet<i64> {
        parts.iter().flat_map(set).collect()
    }

    fn any_grid() -> impl Strategy<Value = StepGrid> {
        (-500_i64..500, 1_i64..40, 0_i64..400).prop_map(|(start, step, span)| grid(start, step, start + span))
    }

    /// Congruent pairs are rare by chance and are what matters: half of the pairs share their lattice.
    fn pair() -> impl Strategy<Value = (StepGrid, StepGrid)> {
        (any_grid(), any_grid(), any::<bool>(), -10_i64..10).prop_map(|(a, b, congruent, shift)| {
            let step = a.step().ms();
            let start = a.start().ms() + shift * step;
            let b = if congruent { grid(start, step, start + (b.last().ms() - b.start().ms())) } else { b };
            (a, b)
        })
    }

    fn as_set(grid: Option<StepGrid>) -> BTreeSet<i64> {
        grid.iter().flat_map(set).collect()
    }

    /// Compares one operation of each kind with the sets; returns how many operations it compared.
    fn compare(a: &StepGrid, b: &StepGrid, t: i64, interval: i64) -> u64 {
        let (sa, sb) = (set(a), set(b));
        let common: BTreeSet<i64> = sa.intersection(&sb).copied().collect();
        assert_eq!(a.len(), sa.len() as u64);
        assert_eq!(sa.first().map(|t| t.rem_euclid(a.step().ms())), Some(a.phase_ms()));
        assert_eq!(a.contains(Timestamp::from_ms(t)), sa.contains(&t));
        assert_eq!(as_set(a.from(Timestamp::from_ms(t))), sa.range(t..).copied().collect());
        assert_eq!(as_set(a.until(Timestamp::from_ms(t))), sa.range(..=t).copied().collect());
        assert_eq!(as_set(a.before(Timestamp::from_ms(t))), sa.range(..t).copied().collect());
        if a.is_congruent(b) {
            assert_eq!(as_set(a.overlap(b)), common);
            assert_eq!(a.covers(b), sb.is_subset(&sa));
            let minus: Vec<StepGrid> = a.minus(b).into_iter().flatten().collect();
            assert_eq!(union(&minus), sa.difference(&sb).copied().collect());
            assert!(set(&a.hull(b)).is_superset(&union(&[*a, *b])));
        } else {
            assert_eq!(a.overlap(b), None);
            assert_eq!(a.minus(b), [Some(*a), None]);
        }
        let parts = a.cut(interval);
        assert_eq!(union(&parts), sa);
        assert_eq!(parts.iter().map(StepGrid::len).sum::<u64>(), a.len(), "parts overlap");
        for part in &parts {
            let intervals: BTreeSet<i64> = set(part).iter().map(|t| t.div_euclid(interval)).collect();
            assert_eq!(intervals.len(), 1, "a part crosses a boundary");
        }
        let joined = parts.iter().skip(1).try_fold(parts[0], |whole, part| whole.join(part));
        assert_eq!(joined, Some(*a), "the parts follow one another");
        12
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_algebra_is_that_of_sets_of_instants((a, b) in pair(), t in -600_i64..1000, interval in 1_i64..300) {
            compare(&a, &b, t, interval);
        }
    }

    #[test]
    fn edges_of_time_do_not_overflow() {
        let far = grid(i64::MAX - 10, 7, i64::MAX);
        assert_eq!(far.len(), 2);
        assert_eq!(far.cut(1000).iter().map(StepGrid::len).sum::<u64>(), 2);
        assert_eq!(far.minus(&far), [None, None]);
        let early = grid(i64::MIN, 7, i64::MIN + 10);
        assert_eq!(early.before(Timestamp::from_ms(i64::MIN)), None);
        let step = Step::from_ms(1).expect("positive");
        assert_eq!(StepGrid::new(Timestamp::from_ms(i64::MIN), step, Timestamp::from_ms(i64::MAX)), None);
    }
}
