//! The requests that the queue knows, each in its place, and the lines that they stand in.
//!
//! A line is a list through the places: joining it at either end and leaving it anywhere take no search.

use std::ops::{Index, IndexMut};
use std::time::Instant;

use super::account::Tag;
use super::slab::{Place, Slab};
use super::words::{Fingerprint, Lane, Source, Ticket};

/// One request.
#[derive(Debug)]
pub(super) struct Request<T> {
    /// None while a querier runs it.
    pub item: Option<T>,
    pub tenant: Place,
    pub source: Source,
    pub lane: Lane,
    pub cost: u64,
    pub fingerprint: Option<Fingerprint>,
    pub expires: Instant,
    /// Since when it has waited, or run.
    pub since: Instant,
    /// How often it was given out.
    pub attempts: u32,
    pub state: State,
    /// Cancelled while a querier runs it.
    pub cancelled: bool,
    /// Set by the queue: the serial of its ticket, and its neighbours in line.
    pub links: Links,
}

/// What a request is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It stands in the line of its source.
    Lined,
    /// It stands in the line of a suspect: it may be what killed a querier, and another like it is being tried.
    Held,
    /// A querier runs it, and its tenant was charged for that.
    Running { querier: Place, charged: Tag },
}

/// What ties a request to its ticket and its line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    serial: u64,
    before: Option<Place>,
    after: Option<Place>,
}

/// The two ends of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    first: Option<Place>,
    last: Option<Place>,
}

impl Line {
    pub fn first(&self) -> Option<Place> {
        self.first
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

/// Which end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Requests<T> {
    slab: Slab<Request<T>>,
    serials: u64,
}

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self { slab: Slab::default(), serials: 0 }
    }
}

impl<T> Requests<T> {
    /// Takes a new request up, which stands in no line yet.
    pub fn insert(&mut self, request: Request<T>) -> Ticket {
        self.serials += 1;
        let links = Links { serial: self.serials, ..Links::default() };
        let place = self.slab.insert(Request { links, ..request });
        Ticket { place, serial: self.serials }
    }

    /// Forgets one, which stands in no line any more.
    pub fn remove(&mut self, place: Place) -> Option<Request<T>> {
        self.slab.remove(place)
    }

    /// The request of a ticket, if it is still one of the queue's.
    pub fn of(&self, ticket: Ticket) -> Option<&Request<T>> {
        self.slab.get(ticket.place).filter(|request| request.links.serial == ticket.serial)
    }

    pub fn ticket(&self, place: Place) -> Ticket {
        Ticket { place, serial: self.slab[place].links.serial }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Place, &Request<T>)> {
        self.slab.iter()
    }

    pub fn join(&mut self, line: &mut Line, place: Place, end: End) {
        let neighbour = match end {
            End::Front => line.first.replace(place),
            End::Back => line.last.replace(place),
        };
        let Some(neighbour) = neighbour else {
            *line = Line { first: Some(place), last: Some(place) };
            return;
        };
        match end {
            End::Front => {
                self.slab[place].links.after = Some(neighbour);
                self.slab[neighbour].links.before = Some(place);
            }
            End::Back => {
                self.slab[place].links.before = Some(neighbour);
                self.slab[neighbour].links.after = Some(place);
            }
        }
    }

    pub fn leave(&mut self, line: &mut Line, place: Place) {
        let links = &mut self.slab[place].links;
        let (before, after) = (links.before.take(), links.after.take());
        match before {
            None => line.first = after,
            Some(before) => self.slab[before].links.after = after,
        }
        match after {
            None => line.last = before,
            Some(after) => self.slab[after].links.before = before,
        }
    }

    /// Those who stand in a line, first to last.
    pub fn stand(&self, line: Line) -> impl Iterator<Item = Place> {
        std::iter::successors(line.first, |&place| self.slab[place].links.after)
    }
}

impl<T> Index<Place> for Requests<T> {
    type Output = Request<T>;
    fn index(&self, place: Place) -> &Request<T> {
        &self.slab[place]
    }
}

impl<T> IndexMut<Place> for Requests<T> {
    fn index_mut(&mut self, place: Place) -> &mut Request<T> {
        &mut self.slab[place]
    }
}
