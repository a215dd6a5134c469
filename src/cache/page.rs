//! What travels to and from the shared tier, and when.
//!
//! A *page* is a slot, or a section of one (a sixteenth, where steps are fine). While a slot still grows only its sections
//! travel, each when no more instants can come into it; when the slot has ended it travels once more, whole. So a slot that
//! grows at every refresh is written about twice in all, in whatever steps it grew, and what one replica learnt reaches the
//! others at the latest when a section ends. What is asked again, or in small windows, is paid for likewise: a page is
//! written again only when as many instants are new in it as were written before, or when it has become complete.

use std::fmt;
use std::time::Duration;

use super::extent::{Reads, Slot};
use super::key::Slots;
use crate::model::grid::StepGrid;
use crate::model::time::Timestamp;

/// A slot has at most this many sections …
const MOST_SECTIONS: i64 = 16;
/// … and a section at least this many instants: labels are repeated in each.
const FEWEST_INSTANTS: i64 = 64;
/// What could not be written is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// A slot or a section of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Page {
    /// Which slot of the time line.
    pub slot: i64,
    /// Which section of it; none is all of it.
    pub section: Option<u8>,
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.section {
            None => write!(f, "{}", self.slot),
            Some(section) => write!(f, "{}.{section}", self.slot),
        }
    }
}

/// How the pages of one query lie, and which of them have ended.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    slots: Slots,
    /// Any grid of the query's lattice.
    lattice: StepGrid,
    reads: Reads,
    /// What is older is final.
    horizon: Timestamp,
}

impl Pages {
    /// The pages of a query whose instants lie on the lattice of `grid`, and are final up to `horizon`.
    pub fn new(slots: Slots, grid: &StepGrid, reads: Reads, horizon: Timestamp) -> Self {
        Self { slots, lattice: *grid, reads, horizon }
    }

    fn sections(&self) -> i64 {
        (self.slots.width_ms() / self.lattice.step().ms() / FEWEST_INSTANTS).clamp(1, MOST_SECTIONS)
    }

    /// The instants of a page; none if it has none, or lies at the edge of time.
    pub fn grid(&self, page: Page) -> Option<StepGrid> {
        let (width, sections) = (self.slots.width_ms(), self.sections());
        let begin = page.slot.checked_mul(width)?;
        let boundary = |i: i64| i128::from(begin) + i128::from(width) * i128::from(i) / i128::from(sections);
        let (from, to) = match page.section {
            None => (boundary(0), boundary(sections)),
            Some(section) => (boundary(section.into()), boundary(i64::from(section) + 1)),
        };
        let (step, phase) = (self.lattice.step(), self.lattice.phase_ms());
        let (from, to) = (i64::try_from(from).ok()?, i64::try_from(to).ok()?);
        let first = from.checked_add(phase.checked_sub(from.rem_euclid(step.ms()))?.rem_euclid(step.ms()))?;
        StepGrid::new(Timestamp::from_ms(first), step, Timestamp::from_ms(to.checked_sub(1)?))
    }

    fn has_ended(&self, grid: &StepGrid, horizon: Timestamp) -> bool {
        self.reads.settled(grid, horizon).as_ref() == Some(grid)
    }

    /// The sections of a slot that have ended, each with its instants.
    fn ended_sections(&self, slot: i64) -> impl Iterator<Item = (Page, StepGrid)> + '_ {
        (0..self.sections())
            .filter_map(move |i| {
                let page = Page { slot, section: Some(u8::try_from(i).ok()?) };
                Some((page, self.grid(page)?))
            })
            .filter(|(_, grid)| self.has_ended(grid, self.horizon))
    }

    /// The pages that may hold something of `missing`, which lies in one slot.
    ///
    /// A slot that ended a short while ago may have been written only in sections so far: both are looked for.
    pub fn to_read(&self, slot: i64, missing: &StepGrid) -> Vec<Page> {
        let whole = Page { slot, section: None };
        let Some(all) = self.grid(whole) else { return Vec::new() };
        let mut pages = Vec::new();
        if self.has_ended(&all, self.horizon) {
            pages.push(whole);
            let one_width_ago = self.horizon.ms().saturating_sub(self.slots.width_ms());
            if self.has_ended(&all, Timestamp::from_ms(one_width_ago)) {
                return pages;
            }
        }
        let touched = self.ended_sections(slot).filter(|(_, grid)| grid.overlap(missing).is_some());
        pages.extend(touched.map(|(page, _)| page));
        pages
    }
}

/// What of a slot has not been written yet, page by page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dues {
    /// By page: the whole slot first, then its sections. Empty while nothing is known.
    pages: Vec<Due>,
    failed_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Due {
    /// Instants that were in it when it was last written or read.
    written: u64,
    /// Instants that were fetched since.
    unwritten: u64,
    /// Whether it was ever written complete: what expires of it and is fetched again does not complete it once more.
    was_complete: bool,
}

fn place(page: Page) -> usize {
    page.section.map_or(0, |section| usize::from(section) + 1)
}

impl Dues {
    fn at(&mut self, page: Page) -> &mut Due {
        let place = place(page);
        if self.pages.len() <= place {
            self.pages.resize(place + 1, Due::default());
        }
        &mut self.pages[place]
    }

    /// `fresh` was fetched and is held now.
    pub fn fetched(&mut self, pages: &Pages, slot: i64, fresh: &StepGrid) {
        let sections = (0..pages.sections()).map(|i| u8::try_from(i).ok());
        for section in std::iter::once(None).chain(sections) {
            let page = Page { slot, section };
            let overlap = pages.grid(page).and_then(|grid| grid.overlap(fresh));
            self.at(page).unwritten += overlap.map_or(0, |instants| instants.len());
        }
    }

    /// The shared tier holds `instants` instants of a page, and we hold `held`, these among them.
    pub fn seen(&mut self, page: Page, instants: u64, held: u64) {
        let due = self.at(page);
        // Somebody else wrote, or it was evicted, or some of it expired there and here.
        (due.written, due.unwritten) = (instants, held.saturating_sub(instants));
    }

    /// A page that was due could not be written.
    pub fn failed(&mut self, page: Page, now: Timestamp) {
        let due = self.at(page);
        due.unwritten += due.written;
        due.written = 0;
        self.failed_at = Some(now);
    }

    /// Whether something was due that could not be written, and it is time to try again.
    pub fn are_overdue(&self, now: Timestamp) -> bool {
        self.failed_at.is_some_and(|at| now.since(at) >= RETRY_AFTER)
    }

    /// The pages that are to be written now; from now on they count as written.
    pub fn take(&mut self, pages: &Pages, index: i64, slot: &Slot) -> Vec<Page> {
        self.failed_at = None;
        let whole = Page { slot: index, section: None };
        let Some(all) = pages.grid(whole) else { return Vec::new() };
        let candidates = if pages.has_ended(&all, pages.horizon) {
            vec![(whole, all)]
        } else {
            pages.ended_sections(index).collect()
        };
        candidates.into_iter().filter(|(page, grid)| self.is_taken(*page, grid, slot)).map(|(page, _)| page).collect()
    }

    fn is_taken(&mut self, page: Page, grid: &StepGrid, slot: &Slot) -> bool {
        let due = self.at(page);
        if due.unwritten == 0 {
            return false;
        }
        let held = slot.instants_in(grid);
        let is_complete = held == grid.len();
        let has_become_complete = is_complete && !due.was_complete && due.written < held;
        if !has_become_complete && due.unwritten < due.written {
            return false;
        }
        *due = Due { written: held, unwritten: 0, was_complete: due.was_complete || is_complete };
        held > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::extent::{Extent, Lifetimes};
    use crate::model::response::{Annotations, RangeAnswer};
    use crate::model::series::{Matrix, TextMatrix};
    use crate::model::time::Step;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    /// A grid of one instant says what the lattice is.
    fn lattice(step_ms: i64, phase_ms: i64) -> StepGrid {
        StepGrid::new(at(phase_ms), Step::from_ms(step_ms).expect("a step"), at(phase_ms)).expect("one instant")
    }

    fn pages(step_ms: i64, phase_ms: i64, interval_ms: i64, horizon_ms: i64) -> Pages {
        let lattice = lattice(step_ms, phase_ms);
        Pages::new(Slots::new(&lattice, interval_ms), &lattice, Reads::default(), at(horizon_ms))
    }

    fn page(slot: i64, section: i64) -> Page {
        Page { slot, section: Some(u8::try_from(section).expect("few")) }
    }

    fn any_lattice() -> impl Strategy<Value = (i64, i64, i64)> {
        let step = prop_oneof![
            prop::sample::select(vec![1, 15_000, 37_000, MINUTE, 5 * MINUTE, 61 * MINUTE, HOUR, DAY, 7 * DAY]),
            1..3 * DAY,
        ];
        let interval = prop_oneof![prop::sample::select(vec![MINUTE, HOUR, 6 * HOUR, DAY]), MINUTE..3 * DAY];
        (step, interval, any::<prop::sample::Index>()).prop_map(|(step_ms, interval_ms, phase)| {
            (step_ms, phase.index(usize::try_from(step_ms).expect("positive")).try_into().expect("small"), interval_ms)
        })
    }

    fn checked_sections(pages: &Pages, slot: i64) {
        let (width, step) = (pages.slots.width_ms(), pages.lattice.step().ms());
        let all = pages.grid(Page { slot, section: None }).expect("it is not at the edge");
        // All instants of the lattice in the slot: none before the first, none after the last.
        assert!(all.is_congruent(&pages.lattice));
        let (begin, end) = (slot * width, (slot + 1) * width);
        assert!(begin <= all.start().ms() && all.start().ms() < begin + step, "{all:?} begins at {begin}");
        assert!(end - step <= all.last().ms() && all.last().ms() < end, "{all:?} ends at {end}");
        assert!((1..=16).contains(&pages.sections()));
        let sections: Vec<StepGrid> =
            (0..pages.sections()).map(|i| pages.grid(page(slot, i)).expect("a section has instants")).collect();
        let joined = sections.iter().copied().reduce(|whole, next| whole.join(&next).expect("they follow one another"));
        assert_eq!(joined, Some(all), "each instant in one section");
        assert!(
            sections.iter().all(|section| section.len() >= 63 || sections.len() == 1),
            "labels are repeated in each"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sections_partition_a_slot(
            (step_ms, phase_ms, interval_ms) in any_lattice(),
            slot in prop_oneof![-3_i64..4, -40_000_i64..40_000],
        ) {
            checked_sections(&pages(step_ms, phase_ms, interval_ms, 0), slot);
        }

        #[test]
        fn the_pages_are_those_of_the_slots(
            (step_ms, phase_ms, interval_ms) in any_lattice(),
            start in -1_000_i64..1_000,
            length in 0_i64..5_000,
        ) {
            let pages = pages(step_ms, phase_ms, interval_ms, i64::MAX);
            let start_ms = start * step_ms + phase_ms;
            let step = pages.lattice.step();
            let grid = StepGrid::new(at(start_ms), step, at(start_ms + length * step_ms)).expect("a grid");
            for (slot, part) in pages.slots.of(&grid) {
                let all = pages.grid(Page { slot, section: None }).expect("it has instants");
                prop_assert!(all.covers(&part), "{all:?} of {part:?}");
            }
        }

        #[test]
        fn the_edges_of_time_do_not_overflow(
            (step_ms, phase_ms, interval_ms) in any_lattice(),
            edge in prop::sample::select(vec![i64::MIN, i64::MAX]),
            beside in -3_i64..4,
            section in prop::option::of(any::<u8>()),
            horizon_ms in any::<i64>(),
            ahead_ms in any::<i64>(),
            nailed in prop::option::of(any::<i64>()),
        ) {
            let reads = Reads { ahead_ms, nailed: nailed.map(at) };
            let pages = Pages { reads, ..pages(step_ms, phase_ms, interval_ms, horizon_ms) };
            for slot in [edge, edge / pages.slots.width_ms()].map(|slot| slot.saturating_add(beside)) {
                let grid = pages.grid(Page { slot, section });
                if let Some(grid) = grid {
                    pages.to_read(slot, &grid);
                    Dues::default().fetched(&pages, slot, &grid);
                    Dues::default().take(&pages, slot, &Slot::default());
                }
            }
        }

        /// What a replica wrote of a slot is looked for by who asks then, or up to one width later, whatever he lacks of it.
        #[test]
        fn whatever_was_written_is_looked_for(
            (step_ms, phase_ms, interval_ms) in any_lattice(),
            steps in prop::collection::vec((1_u64..300, 0_i64..200), 1..12),
            slot in -3_i64..30,
            later in 0_i64..=1000,
            (ahead_ms, nailed) in (prop_oneof![2 => Just(0), 1 => 0..2 * DAY], prop::option::weighted(0.2, -DAY..20 * DAY)),
        ) {
            let mut pages = pages(step_ms, phase_ms, interval_ms, 0);
            pages.reads = Reads { ahead_ms, nailed: nailed.map(at) };
            let all = pages.grid(Page { slot, section: None }).expect("it has instants");
            let width = pages.slots.width_ms();
            let (mut dues, mut held, mut horizon) = (Dues::default(), None::<StepGrid>, all.start().ms() + ahead_ms);
            let mut written: BTreeMap<Page, StepGrid> = BTreeMap::new();
            for (instants, idle) in steps {
                horizon += instants.cast_signed() * step_ms;
                pages.horizon = at(horizon);
                let Some(settled) = pages.reads.settled(&all, pages.horizon) else { continue };
                let fresh = held.map_or(Some(settled), |held| settled.minus(&held)[1]);
                if let Some(fresh) = fresh {
                    dues.fetched(&pages, slot, &fresh);
                    held = Some(settled);
                }
                for page in dues.take(&pages, slot, &held_slot(settled)) {
                    let grid = pages.grid(page).expect("it has instants").overlap(&settled).expect("some are held");
                    written.insert(page, grid);
                }
                // Somebody else, now and later.
                horizon += width / 1000 * idle / 200;
                for reader_ms in [horizon, horizon.saturating_add(width / 1000 * later)] {
                    let reader = Pages { horizon: at(reader_ms), ..pages };
                    for (page, grid) in written.iter().filter(|_| reader_ms - pages.horizon.ms() <= width) {
                        for missing in [*grid, lattice_point(grid.start(), grid), lattice_point(grid.last(), grid)] {
                            let read = reader.to_read(slot, &missing);
                            let is_whole_there = written.contains_key(&Page { slot, section: None });
                            prop_assert!(read.contains(page) || is_whole_there, "{page:?} of {grid:?} in {read:?}");
                            prop_assert!(page.section.is_some() || read.contains(page), "{read:?}");
                        }
                    }
                }
            }
        }

        /// Instants that are fetched once each, in any order, are written thrice at most, in sections and again in the whole.
        #[test]
        fn pages_double(
            order in prop::collection::vec((0_u64..1440, 1_u64..200), 1..400),
            is_growing in any::<bool>(),
        ) {
            let mut pages = pages(MINUTE, 0, DAY, if is_growing { DAY - 2 * MINUTE } else { 2 * DAY });
            let all = pages.grid(Page { slot: 0, section: None }).expect("a day");
            let (mut dues, mut slot, mut fetched) = (Dues::default(), Slot::default(), BTreeSet::new());
            let mut written = 0;
            let until = if is_growing { 1439 } else { 1440 };
            for (first, length) in order.into_iter().chain([(0, 1440)]) {
                let wanted = (first..(first + length).min(until)).filter(|i| !fetched.contains(i)).collect::<Vec<_>>();
                for run in runs(&wanted) {
                    let grid = minutes(*run.start(), *run.end());
                    fetched.extend(run);
                    slot = slot.with(extent(grid), at(0), &forever());
                    dues.fetched(&pages, 0, &grid);
                    for page in dues.take(&pages, 0, &slot) {
                        written += slot.instants_in(&pages.grid(page).expect("it has instants"));
                    }
                }
            }
            prop_assert!(written <= 3 * fetched.len() as u64, "{written} of {}", fetched.len());
            prop_assert!(is_growing || written >= all.len());
            // The whole is written once more when it has ended, and not again.
            pages.horizon = at(2 * DAY);
            let last = minutes(1439, 1439);
            if is_growing {
                slot = slot.with(extent(last), at(0), &forever());
                dues.fetched(&pages, 0, &last);
                let whole = Page { slot: 0, section: None };
                prop_assert_eq!(dues.take(&pages, 0, &slot), vec![whole]);
            }
            prop_assert_eq!(dues.take(&pages, 0, &slot), vec![]);
        }
    }

    fn lattice_point(t: Timestamp, of: &StepGrid) -> StepGrid {
        StepGrid::new(t, of.step(), t).expect("one instant")
    }

    fn minutes(first: u64, last: u64) -> StepGrid {
        let step = Step::from_ms(MINUTE).expect("a step");
        StepGrid::new(at(first.cast_signed() * MINUTE), step, at(last.cast_signed() * MINUTE)).expect("a grid")
    }

    fn runs(numbers: &[u64]) -> Vec<std::ops::RangeInclusive<u64>> {
        numbers.chunk_by(|a, b| a + 1 == *b).map(|run| run[0]..=run[run.len() - 1]).collect()
    }

    fn forever() -> Lifetimes {
        Lifetimes { ttl: Duration::MAX, out_of_order_window: Duration::ZERO, out_of_order_ttl: Duration::ZERO }
    }

    /// An extent without series.
    fn extent(grid: StepGrid) -> Extent {
        let matrix = Matrix::Text(TextMatrix::new(Bytes::new(), Vec::new()));
        let answer = RangeAnswer { grid, matrix, annotations: Annotations::default(), stats: None };
        Extent { answer: Arc::new(answer), fetched_at: at(0), reads: Reads::default() }
    }

    fn held_slot(grid: StepGrid) -> Slot {
        Slot::default().with(extent(grid), at(0), &forever())
    }

    fn whole_and_sections(pages: &[Page]) -> (bool, Vec<u8>) {
        (pages.iter().any(|page| page.section.is_none()), pages.iter().filter_map(|page| page.section).collect())
    }

    /// A day of minutes has sections of 90 minutes. What has ended is asked for, one width after the end only the whole.
    #[test]
    fn what_is_read_at_the_boundaries() {
        let all = minutes(0, 1439);
        let read =
            |horizon_ms, missing: &StepGrid| whole_and_sections(&pages(MINUTE, 0, DAY, horizon_ms).to_read(0, missing));
        assert_eq!(read(89 * MINUTE - 1, &all), (false, vec![]));
        assert_eq!(read(89 * MINUTE, &all), (false, vec![0]));
        assert_eq!(read(179 * MINUTE, &minutes(90, 90)), (false, vec![1]));
        assert_eq!(read(179 * MINUTE, &minutes(89, 89)), (false, vec![0]));
        assert_eq!(read(179 * MINUTE, &minutes(180, 200)), (false, vec![]));
        assert_eq!(read(1439 * MINUTE - 1, &all), (false, (0..15).collect()));
        assert_eq!(read(1439 * MINUTE, &all), (true, (0..16).collect()));
        assert_eq!(read(1439 * MINUTE + DAY - 1, &minutes(100, 200)), (true, vec![1, 2]));
        assert_eq!(read(1439 * MINUTE + DAY, &all), (true, vec![]));
        // What reads ahead ends later; what is nailed to a time ends then.
        let reads = |ahead_ms, nailed| Reads { ahead_ms, nailed };
        let with = |reads, horizon_ms| Pages { reads, ..pages(MINUTE, 0, DAY, horizon_ms) }.to_read(0, &all).len();
        assert_eq!(with(reads(HOUR, None), 149 * MINUTE - 1), 0);
        assert_eq!(with(reads(HOUR, None), 149 * MINUTE), 1);
        assert_eq!(with(reads(0, Some(at(3 * DAY))), 3 * DAY - 1), 0);
        assert_eq!(with(reads(0, Some(at(3 * DAY))), 3 * DAY), 17);
        assert_eq!(with(reads(0, Some(at(3 * DAY))), 4 * DAY), 1);
    }

    /// How many sections there are: sixteen, and fewer where steps are coarse.
    #[test]
    fn coarse_steps_have_fewer_sections() {
        for (step_ms, sections) in
            [(1000, 16), (15_000, 16), (84_000, 16), (85_000, 15), (MINUTE * 5, 4), (HOUR, 2), (DAY, 2), (7 * DAY, 2)]
        {
            assert_eq!(pages(step_ms, 0, DAY, 0).sections(), sections, "{step_ms}");
        }
        assert_eq!(pages(MINUTE, 0, HOUR, 0).sections(), 2, "three hours, so that there are enough instants");
        assert_eq!(pages(1, 0, 63, 0).sections(), 1 + 1);
    }

    #[test]
    fn what_failed_is_due_again_after_a_while() {
        let whole = Page { slot: 0, section: None };
        let (pages, slot) = (pages(MINUTE, 0, DAY, 2 * DAY), held_slot(minutes(0, 99)));
        let mut dues = Dues::default();
        dues.fetched(&pages, 0, &minutes(0, 99));
        assert_eq!(dues.take(&pages, 0, &slot), [whole]);
        assert!(!dues.are_overdue(at(DAY)), "nothing failed");
        dues.failed(whole, at(0));
        assert!(!dues.are_overdue(at(9_999)) && dues.are_overdue(at(10_000)));
        assert_eq!(dues.take(&pages, 0, &slot), [whole], "though nothing was added");
        assert!(!dues.are_overdue(at(DAY)));
        assert_eq!(dues.take(&pages, 0, &slot), [], "once");
    }

    /// Written again when as many instants are new as are there, or when it has become complete, but not each time that it
    /// becomes complete once more.
    #[test]
    fn when_a_page_is_written_again() {
        let whole = Page { slot: 0, section: None };
        let pages = pages(MINUTE, 0, DAY, 2 * DAY);
        let mut dues = Dues::default();
        let fetch = |dues: &mut Dues, first, last, held| {
            dues.fetched(&pages, 0, &minutes(first, last));
            dues.take(&pages, 0, &held_slot(minutes(0, held))).len()
        };
        assert_eq!(fetch(&mut dues, 0, 99, 99), 1);
        assert_eq!(fetch(&mut dues, 100, 198, 198), 0, "99 are new and 100 are there");
        assert_eq!(fetch(&mut dues, 199, 199, 199), 1);
        assert_eq!(fetch(&mut dues, 200, 1200, 1200), 1);
        assert_eq!(fetch(&mut dues, 1201, 1438, 1438), 0);
        assert_eq!(fetch(&mut dues, 1439, 1439, 1439), 1, "it is complete");
        assert_eq!(fetch(&mut dues, 0, 100, 1439), 0, "they expired and were fetched again");
        dues.seen(whole, 1339, 1439);
        assert_eq!(fetch(&mut dues, 101, 101, 1439), 0, "it was complete before");
        dues.seen(whole, 0, 1439);
        assert_eq!(dues.take(&pages, 0, &held_slot(minutes(0, 1439))), [whole], "it was evicted");
        dues.seen(whole, 700, 1439);
        assert_eq!(dues.take(&pages, 0, &held_slot(minutes(0, 1439))), [whole], "somebody wrote half of it");
        dues.seen(whole, 1439, 1439);
        assert_eq!(fetch(&mut dues, 5, 5, 1439), 0, "somebody wrote all of it");
    }

    /// A slot of which nothing is held is not written.
    #[test]
    fn nothing_is_not_written() {
        let pages = pages(MINUTE, 0, DAY, 2 * DAY);
        let mut dues = Dues::default();
        dues.fetched(&pages, 0, &minutes(0, 99));
        assert_eq!(dues.take(&pages, 0, &Slot::default()), []);
    }

    #[test]
    fn a_page_has_a_name_of_its_own() {
        let names: BTreeSet<String> = [-11, -1, 0, 1, 11]
            .into_iter()
            .flat_map(|slot| (0..16).map(move |i| page(slot, i)).chain([Page { slot, section: None }]))
            .map(|page| page.to_string())
            .collect();
        assert_eq!(names.len(), 5 * 17);
    }
}
