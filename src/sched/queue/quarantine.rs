//! Queries of death: what was in flight on queriers when they vanished.
//!
//! One vanished querier makes a suspect of what it ran: from then on one such request is tried at a time, and others like it are
//! held. If it is answered it was not at fault; if a second querier vanishes under it within five minutes it is locked away
//! for five minutes, and for ten from the second time on. When that time is over it is a suspect again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lines::EndedRun;
use super::requests::Line;
use super::slab::Place;
use super::words::Fingerprint;

/// Strikes this far apart have nothing to do with each other, and a lock holds at least this long.
const WINDOW: Duration = Duration::from_mins(5);
/// A lock holds at most twice as long.
const MOST_DOUBLINGS: u32 = 1;
/// So many suspects are remembered; while there are more, a request's own attempts are the only bound.
const MOST_SUSPECTS: usize = 4096;

/// Something that queriers vanished under.
#[derive(Debug)]
pub(super) struct Suspect {
    /// Queriers that vanished under it within the window.
    strikes: u32,
    /// When the last one did.
    last: Instant,
    /// Which did, and when: what ran side by side on one of them is one strike, not many.
    by: Vec<(Place, Instant)>,
    locked_until: Option<Instant>,
    doublings: u32,
    /// Requests like it that run.
    pub running: usize,
    /// Requests like it that are held.
    pub held: Line,
}

impl Suspect {
    /// Whether nothing depends on it any more.
    fn is_stale(&self, now: Instant) -> bool {
        let last = self.locked_until.map_or(self.last, |until| until.max(self.last));
        self.running == 0 && self.held.is_empty() && last + WINDOW <= now
    }
}

/// Whether a request may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Free,
    /// Not while another like it runs.
    Hold,
    /// Not before this.
    Locked(Instant),
}

/// All suspects.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    pub suspects: HashMap<Fingerprint, Suspect>,
}

impl Quarantine {
    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty()
    }

    pub fn admit(&self, fingerprint: Fingerprint, now: Instant) -> Admission {
        match self.suspects.get(&fingerprint) {
            Some(Suspect { locked_until: Some(until), .. }) if *until > now => Admission::Locked(*until),
            Some(suspect) if suspect.running > 0 => Admission::Hold,
            _ => Admission::Free,
        }
    }

    /// Until when it is locked away.
    pub fn locked(&self, fingerprint: Option<Fingerprint>, now: Instant) -> Option<Instant> {
        match self.admit(fingerprint?, now) {
            Admission::Locked(until) => Some(until),
            Admission::Free | Admission::Hold => None,
        }
    }

    pub fn suspect(&mut self, fingerprint: Option<Fingerprint>) -> Option<&mut Suspect> {
        self.suspects.get_mut(&fingerprint?)
    }

    /// Whether this run ended when a querier vanished that has been counted already, for another run like it.
    pub fn is_counted(&self, fingerprint: Fingerprint, run: &EndedRun) -> bool {
        let counted = |&(querier, at): &(Place, Instant)| querier == run.querier && run.since < at;
        self.suspects.get(&fingerprint).is_some_and(|suspect| suspect.by.iter().any(counted))
    }

    /// A querier vanished with a request; `running` others like it run elsewhere. At `most` strikes it is locked away.
    pub fn strike(&mut self, fingerprint: Fingerprint, by: Place, running: usize, most: u32, now: Instant) {
        if self.suspects.len() >= MOST_SUSPECTS && !self.suspects.contains_key(&fingerprint) {
            self.suspects.retain(|_, suspect| !suspect.is_stale(now));
            if self.suspects.len() >= MOST_SUSPECTS {
                return;
            }
        }
        let new = Suspect {
            strikes: 0,
            last: now,
            by: Vec::new(),
            locked_until: None,
            doublings: 0,
            running,
            held: Line::default(),
        };
        let suspect = self.suspects.entry(fingerprint).or_insert(new);
        if suspect.is_stale(now) {
            (suspect.doublings, suspect.locked_until) = (0, None);
        }
        let on_probation = suspect.locked_until.is_some();
        if suspect.last + WINDOW <= now && !on_probation {
            suspect.strikes = 0;
        }
        suspect.strikes += 1;
        suspect.by.retain(|&(querier, _)| querier != by);
        suspect.by.push((by, now));
        suspect.last = now;
        if suspect.strikes >= most {
            suspect.locked_until = Some(now + WINDOW * (1 << suspect.doublings));
            suspect.doublings = (suspect.doublings + 1).min(MOST_DOUBLINGS);
            suspect.strikes = most.saturating_sub(1);
        }
    }

    /// A request was answered: whatever it was suspected of, it did not do it. Those that were held beside it are free.
    pub fn acquit(&mut self, fingerprint: Fingerprint) -> Line {
        self.suspects.remove(&fingerprint).map_or_else(Line::default, |suspect| suspect.held)
    }
}
