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

    /// The shared tier holds `instants` instants of a page.
    pub fn seen(&mut self, page: Page, instants: u64) {
        let due = self.at(page);
        // Somebody else wrote less there since, or it was evicted.
        due.unwritten += due.written.saturating_sub(instants);
        due.written = instants;
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
        let has_become_complete = held == grid.len() && due.written < held;
        if !has_become_complete && due.unwritten < due.written {
            return false;
        }
        *due = Due { written: held, unwritten: 0 };
        held > 0
    }
}
