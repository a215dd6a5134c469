//! One tenant: its sources, whose turn it is among them, and what it holds.
//!
//! Inside a tenant the sources share as tenants share among one another, at equal weights: a dashboard that asks for much waits
//! for its own queries and not the others for it.

use std::collections::BTreeSet;

use super::account::{Clock, Tag, Weight, believed};
use super::requests::{End, Line, Requests, State};
use super::rules::TenantRules;
use super::slab::Place;
use super::words::{Lane, PerLane, Source};
use crate::model::tenant::TenantId;
use crate::sched::shuffle::name_hash;

/// A source that rests is remembered for its debt, unless the tenant has more than so many.
pub(super) const MOST_SOURCES: usize = 64;

/// One tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    pub id: TenantId,
    pub hash: u64,
    pub rules: TenantRules,
    pub tag: Tag,
    /// Its requests in line, by lane.
    pub lined: PerLane<usize>,
    /// Its requests that are held beside a suspect.
    pub held: usize,
    pub running: usize,
    /// The queriers that it is confined to and that can be given something; none if it is not confined.
    pub members: Option<Vec<Place>>,
    /// In which lanes it has a turn …
    pub listed: PerLane<bool>,
    /// … and with which tag.
    pub listed_tag: Tag,
    /// In which lanes it has no turn, because it holds as much as it may.
    pub benched: PerLane<bool>,
    /// Whether it stands on the benches of its groups.
    pub on_bench: bool,
    /// Whether it is in the list of those that may have something for a parked slot.
    pub called: bool,
    /// In order. A tenant has a few; at the most that its limit allows, making room for one more moves some ten kilobytes.
    pub(super) sources: Vec<(Source, Account)>,
    pub(super) turns: PerLane<Turns>,
    clock: Clock,
}

/// The sources that have requests in line, by what they have had. Most often there is one, which is kept at hand.
#[derive(Debug, Default)]
pub(super) struct Turns {
    first: Option<(Tag, Source)>,
    others: BTreeSet<(Tag, Source)>,
}

impl Turns {
    fn insert(&mut self, turn: (Tag, Source)) {
        match &mut self.first {
            None => self.first = Some(turn),
            Some(first) if turn < *first => {
                self.others.insert(std::mem::replace(first, turn));
            }
            Some(_) => {
                self.others.insert(turn);
            }
        }
    }

    fn remove(&mut self, turn: (Tag, Source)) {
        if self.first == Some(turn) {
            self.first = self.others.pop_first();
        } else {
            self.others.remove(&turn);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Tag, Source)> {
        self.first.iter().chain(&self.others).copied()
    }
}

/// One source.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub tag: Tag,
    pub lines: PerLane<Line>,
    /// Its requests that are held or run.
    pub away: usize,
}

impl Account {
    pub fn is_busy(&self) -> bool {
        self.away > 0 || !self.has_nobody_in_line()
    }

    fn has_nobody_in_line(&self) -> bool {
        self.lines.values().iter().all(Line::is_empty)
    }
}

impl Tenant {
    pub fn new(id: TenantId, rules: TenantRules, tag: Tag) -> Self {
        Self {
            hash: name_hash(id.as_str()),
            id,
            rules,
            tag,
            lined: PerLane::default(),
            held: 0,
            running: 0,
            members: None,
            listed: PerLane::default(),
            listed_tag: tag,
            benched: PerLane::default(),
            on_bench: false,
            called: false,
            sources: Vec::new(),
            turns: PerLane::default(),
            clock: Clock::default(),
        }
    }

    pub fn in_line(&self) -> usize {
        self.lined.values().iter().sum()
    }

    pub fn waiting(&self) -> usize {
        self.in_line() + self.held
    }

    pub fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.running == 0
    }

    /// A request joins the line of its source.
    pub fn line_up<T>(&mut self, requests: &mut Requests<T>, place: Place, end: End) {
        let (id, lane) = (requests[place].source, requests[place].lane);
        requests[place].state = State::Lined;
        let least = self.least();
        let at = self.sources.binary_search_by_key(&id, |&(id, _)| id).unwrap_or_else(|at| {
            self.sources.insert(at, (id, Account::default()));
            at
        });
        let source = &mut self.sources[at].1;
        if source.has_nobody_in_line() {
            source.tag = self.clock.enter(source.tag, least);
        }
        if source.lines[lane].is_empty() {
            self.turns[lane].insert((source.tag, id));
        }
        requests.join(&mut source.lines[lane], place, end);
        self.lined[lane] += 1;
    }

    /// A request leaves the line of its source, and for good unless it is counted as away.
    pub fn leave<T>(&mut self, requests: &mut Requests<T>, place: Place) {
        let (id, lane) = (requests[place].source, requests[place].lane);
        let at = self.at(id).expect("a request in line has a source");
        let source = &mut self.sources[at].1;
        requests.leave(&mut source.lines[lane], place);
        if source.lines[lane].is_empty() {
            self.turns[lane].remove((source.tag, id));
        }
        self.lined[lane] -= 1;
    }

    /// A request that left its line comes back to it, or not at all (`by` is −1 then), or is away for now.
    pub fn away(&mut self, id: Source, by: isize) {
        let at = self.at(id).expect("a request has a source");
        let source = &mut self.sources[at].1;
        source.away = source.away.checked_add_signed(by).expect("what comes back was away");
    }

    /// Forgets a source that has nothing left and no debt.
    pub fn rest(&mut self, id: Source) {
        let crowded = self.sources.len() > MOST_SOURCES;
        let Some(at) = self.at(id) else { return };
        let source = &self.sources[at].1;
        if !source.is_busy() && (source.tag <= self.clock.now() || crowded) {
            self.sources.remove(at);
        }
    }

    /// The request whose turn it is in a lane, with the place of its source among the others.
    pub fn head<T>(&self, requests: &Requests<T>, lane: Lane) -> Option<(Tag, std::time::Instant, Place)> {
        let (tag, id) = self.turns[lane].first?;
        let place = self.sources[self.at(id)?].1.lines[lane].first()?;
        Some((tag, requests[place].since, place))
    }

    /// Where that source is that has had least, of those with requests in line.
    fn least(&self) -> Option<Tag> {
        self.turns.values().iter().filter_map(|turns| turns.first).map(|(tag, _)| tag).min()
    }

    /// The source of a request is charged for it.
    pub fn charge(&mut self, id: Source, cost: u64) {
        if let Some(least) = self.least() {
            self.clock.advance(least);
        }
        if let Some(at) = self.at(id) {
            let tag = self.clock.charge(self.sources[at].1.tag, Tag::of(cost, Weight::ONE));
            self.retag(at, tag);
        }
    }

    /// What a request cost its source turned out to be `measured`, or nothing.
    pub fn correct(&mut self, id: Source, cost: u64, measured: Option<u64>) {
        let charged = Tag::of(cost, Weight::ONE);
        let measured = measured.map(|measured| Tag::of(believed(measured, cost), Weight::ONE)).unwrap_or_default();
        if let Some(at) = self.at(id) {
            let tag = self.clock.correct(self.sources[at].1.tag, charged, measured);
            self.retag(at, tag);
        }
    }

    fn retag(&mut self, at: usize, tag: Tag) {
        let (id, source) = &mut self.sources[at];
        let old = std::mem::replace(&mut source.tag, tag);
        for lane in Lane::ALL {
            if !source.lines[lane].is_empty() {
                self.turns[lane].remove((old, *id));
                self.turns[lane].insert((tag, *id));
            }
        }
    }

    fn at(&self, id: Source) -> Option<usize> {
        self.sources.binary_search_by_key(&id, |&(id, _)| id).ok()
    }
}
