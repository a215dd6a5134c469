//! The queriers: their slots, who of them may be given work, and who of them is only remembered.
//!
//! A querier whose last slot is gone without a word has crashed, for all that is known: it keeps its place in the shards for
//! a while, so that a query that kills queriers is not led to the next one. A querier that announces that it leaves is given
//! nothing more and has no place from then on; should its slots still wait for work some seconds later, then it did not leave.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::account::Tag;
use super::rules::Rules;
use super::slab::{Place, Slab};
use super::words::{Lane, PerLane, QuerierId};
use crate::sched::shuffle::name_hash;

/// Who announced that it leaves and still waits for work after this, stays.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);

/// Whether a querier is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has slots.
    Serving,
    /// It announced that it leaves.
    Leaving {
        /// When it did.
        since: Instant,
    },
    /// Its last slot went without a word.
    Vanished {
        /// When it did.
        since: Instant,
    },
    /// It vanished long ago; nobody has said yet what became of something that it ran.
    Forgotten,
}

impl Standing {
    /// As it stands in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Leaving { .. } => "leaving",
            Self::Vanished { .. } => "vanished",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Tenants whose turn comes at one querier, or at all of them.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub turns: PerLane<BTreeSet<(Tag, Place)>>,
    /// Tenants that wait and hold as much as they may.
    pub bench: BTreeSet<Place>,
}

impl Group {
    pub fn move_turn(&mut self, lane: Lane, tenant: Place, from: Option<Tag>, to: Option<Tag>) {
        if let Some(from) = from {
            self.turns[lane].remove(&(from, tenant));
        }
        if let Some(to) = to {
            self.turns[lane].insert((to, tenant));
        }
    }

    /// Where that tenant is that has had least.
    pub fn least(&self) -> Option<Tag> {
        self.turns.values().iter().filter_map(BTreeSet::first).map(|&(tag, _)| tag).min()
    }

    pub fn is_empty(&self) -> bool {
        self.bench.is_empty() && self.turns.values().iter().all(BTreeSet::is_empty)
    }
}

/// Which tenants were seen last, by the hashes of their names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    begun: Instant,
    last: Option<(u64, Instant)>,
    /// The last one beside that.
    other: Option<(u64, Instant)>,
}

impl Activity {
    pub fn new(now: Instant) -> Self {
        Self { begun: now, last: None, other: None }
    }

    pub fn saw(&mut self, tenant: u64, now: Instant) {
        if self.last.is_some_and(|(last, _)| last != tenant) {
            self.other = self.last;
        }
        self.last = Some((tenant, now));
    }

    /// Since when nobody but this tenant was seen.
    pub fn alone_since(&self, tenant: u64) -> Instant {
        let seen = if self.last.is_some_and(|(last, _)| last != tenant) { self.last } else { self.other };
        seen.map_or(self.begun, |(_, at)| at)
    }
}

/// One querier.
#[derive(Debug)]
pub(super) struct Querier {
    pub id: QuerierId,
    pub hash: u64,
    pub standing: Standing,
    pub slots: usize,
    /// Slots that wait for work.
    pub parked: usize,
    pub running: PerLane<usize>,
    /// Tenants that are confined and have this one among their queriers.
    pub own: Group,
    pub activity: Activity,
    /// With which key it stands among those that have a parked slot, and among those that have one for the normal lane.
    listed: [Option<usize>; 2],
}

impl Querier {
    pub fn is_serving(&self) -> bool {
        self.standing == Standing::Serving
    }

    /// Whether it counts where shards are chosen.
    fn has_place(&self) -> bool {
        matches!(self.standing, Standing::Serving | Standing::Vanished { .. })
    }

    pub fn busy(&self) -> usize {
        self.running.values().iter().sum()
    }

    /// Whether a slot of it may be given something of this lane.
    pub fn takes(&self, lane: Lane, rules: &Rules) -> bool {
        lane != Lane::Normal || self.running[Lane::Normal] + rules.kept_for_small(self.slots) < self.slots
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub queriers: Slab<Querier>,
    places: HashMap<QuerierId, Place>,
    /// Slots of all that serve.
    pub slots: usize,
    /// Those that have a parked slot, and those that have one for the normal lane; the least busy ones first.
    pub free: [BTreeSet<(usize, Place)>; 2],
    /// When one of them is to be forgotten, or turns out to stay.
    pub due: Option<Instant>,
    /// Those whose parked slots have become open to the normal lane.
    pub opened: Vec<Place>,
}

/// Whether a change of a querier changes who may be whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Slots,
    Shards,
}

impl Fleet {
    pub fn place(&self, id: &QuerierId) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// A querier has one slot more.
    pub fn attach(&mut self, id: &QuerierId, rules: &Rules, now: Instant) -> (Place, Change) {
        let place = self.place(id).unwrap_or_else(|| {
            let place = self.queriers.insert(Querier {
                id: id.clone(),
                hash: name_hash(id.as_str()),
                standing: Standing::Vanished { since: now },
                slots: 0,
                parked: 0,
                running: PerLane::default(),
                own: Group::default(),
                activity: Activity::new(now),
                listed: [None; 2],
            });
            self.places.insert(id.clone(), place);
            place
        });
        let querier = &mut self.queriers[place];
        querier.slots += 1;
        let change = if querier.is_serving() { Change::Slots } else { Change::Shards };
        if querier.is_serving() {
            self.slots += 1;
        } else {
            querier.standing = Standing::Serving;
            self.slots += querier.slots;
        }
        self.relist(place, rules);
        (place, change)
    }

    /// A querier has one slot less, which neither ran nor was parked.
    pub fn detach(&mut self, place: Place, rules: &Rules, now: Instant) -> Change {
        let querier = &mut self.queriers[place];
        querier.slots = querier.slots.checked_sub(1).expect("a slot that is detached was attached");
        let was_serving = querier.is_serving();
        self.slots -= usize::from(was_serving);
        let mut change = Change::Slots;
        if querier.slots == 0 && was_serving {
            querier.standing = Standing::Vanished { since: now };
            self.due_at(now.checked_add(rules.querier_forget_delay));
            change = Change::Shards;
        }
        self.relist(place, rules);
        self.forget(place);
        change
    }

    /// A querier announced that it leaves.
    pub fn leaving(&mut self, place: Place, rules: &Rules, now: Instant) {
        let querier = &mut self.queriers[place];
        if querier.is_serving() {
            self.slots -= querier.slots;
        }
        querier.standing = Standing::Leaving { since: now };
        self.due_at(now.checked_add(LEAVES_WITHIN));
        self.relist(place, rules);
        self.forget(place);
    }

    /// Something is due then; at none, never.
    fn due_at(&mut self, at: Option<Instant>) {
        self.due = self.due.into_iter().chain(at).min();
    }

    /// Forgets those whose time is over, and takes those back that did not leave. Whether there were any.
    pub fn tick(&mut self, rules: &Rules, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        let mut changed = false;
        for place in self.queriers.places() {
            let querier = &mut self.queriers[place];
            let due = match querier.standing {
                Standing::Leaving { since } if querier.parked > 0 => since.checked_add(LEAVES_WITHIN),
                Standing::Vanished { since } => since.checked_add(rules.querier_forget_delay),
                Standing::Serving | Standing::Leaving { .. } | Standing::Forgotten => continue,
            };
            if due.is_none_or(|due| due > now) {
                self.due_at(due);
                continue;
            }
            changed = true;
            if querier.slots > 0 {
                querier.standing = Standing::Serving;
                self.slots += querier.slots;
                self.relist(place, rules);
            } else {
                querier.standing = Standing::Forgotten;
                self.forget(place);
            }
        }
        changed
    }

    /// Forgets a querier that has left and on which nothing runs.
    fn forget(&mut self, place: Place) {
        let querier = &self.queriers[place];
        if querier.slots == 0 && querier.busy() == 0 && !querier.has_place() {
            self.places.remove(&querier.id);
            self.queriers.remove(place);
        }
    }

    pub fn park(&mut self, place: Place, rules: &Rules) {
        self.queriers[place].parked += 1;
        if let Standing::Leaving { since } = self.queriers[place].standing {
            self.due_at(since.checked_add(LEAVES_WITHIN));
        }
        self.relist(place, rules);
    }

    pub fn unpark(&mut self, place: Place, rules: &Rules) {
        let querier = &mut self.queriers[place];
        querier.parked = querier.parked.checked_sub(1).expect("a slot that is withdrawn was parked");
        self.relist(place, rules);
    }

    pub fn began(&mut self, place: Place, lane: Lane, rules: &Rules) {
        self.queriers[place].running[lane] += 1;
        self.relist(place, rules);
    }

    pub fn ended(&mut self, place: Place, lane: Lane, rules: &Rules) {
        self.queriers[place].running[lane] -= 1;
        self.relist(place, rules);
        self.forget(place);
    }

    /// Brings the lists of those with parked slots up to date.
    pub fn relist(&mut self, place: Place, rules: &Rules) {
        let querier = &mut self.queriers[place];
        let is_free = querier.is_serving() && querier.parked > 0;
        let key = querier.busy();
        let wanted = [is_free, is_free && querier.takes(Lane::Normal, rules)].map(|is_free| is_free.then_some(key));
        if querier.listed[0].is_some() && querier.listed[1].is_none() && wanted[1].is_some() {
            self.opened.push(place);
        }
        for ((free, listed), wanted) in self.free.iter_mut().zip(&mut querier.listed).zip(wanted) {
            if *listed != wanted {
                listed.map(|key| free.remove(&(key, place)));
                wanted.map(|key| free.insert((key, place)));
                *listed = wanted;
            }
        }
    }

    /// The parked slot that suits best, among `members` or all: on the least busy querier.
    pub fn parked(&self, members: Option<&[Place]>, for_normal: bool, rules: &Rules) -> Option<Place> {
        let Some(members) = members else {
            return self.free[usize::from(for_normal)].first().map(|&(_, place)| place);
        };
        let suits = |place: &Place| {
            let querier = &self.queriers[*place];
            querier.parked > 0 && (!for_normal || querier.takes(Lane::Normal, rules))
        };
        members.iter().copied().filter(suits).min_by_key(|&place| self.queriers[place].busy())
    }

    /// Those that have a place in the shards: they serve, or are remembered.
    pub fn candidates(&self) -> Vec<(u64, Place)> {
        self.queriers.iter().filter(|(_, querier)| querier.has_place()).map(|(place, q)| (q.hash, place)).collect()
    }
}
