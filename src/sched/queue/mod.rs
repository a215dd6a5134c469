//! The fair queue that everything going downstream waits in.
//!
//! A free slot of a querier asks `next` and is given the request whose turn it is, or is parked. Turns go by start-time fair
//! queuing (`account`): the tenant that has had least for its weight, and inside it the source that has had least, is served
//! next, and is charged what the request is estimated to cost; when it is answered the measured cost takes the estimate's place.
//! Because a query cannot be interrupted, fair turns alone do not keep a slot free for who comes next. So a tenant holds at most
//! a share of the slots it may reach, unless nobody else was seen for a while; some slots of each querier are closed to all but
//! small requests and alerts; and alerts go first while they hold few slots.
//!
//! It is all decision: the time is an argument, and what follows from a call for others is told as an [`Effect`]. After each call
//! the caller takes the effects until there are none. Each call costs O(log n), times the queriers of a tenant that is confined;
//! only queriers that come and go, and new rules, touch all tenants.

pub mod account;
mod check;
mod choice;
mod fleet;
mod lines;
mod quarantine;
mod requests;
pub mod rules;
mod slab;
pub mod snapshot;
mod tenant;
mod turns;
pub mod words;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use self::account::{Clock, Tag, believed};
pub use self::fleet::Standing;
use self::fleet::{Activity, Fleet, Group};
use self::quarantine::Quarantine;
use self::requests::{End, Line, Request, Requests, State};
use self::rules::Rules;
use self::slab::{Place, Slab};
use self::tenant::Tenant;
use self::words::{
    Cancelled, DropReason, Effect, Lane, Lost, NewRequest, NextTry, PerLane, QuerierId, QuerierKey, Refused, Ticket,
    Turn,
};
use crate::model::tenant::TenantId;

/// The queue.
#[derive(Debug)]
pub struct Queue<T> {
    rules: Rules,
    requests: Requests<T>,
    /// Requests that wait, by the end of their time.
    expiries: BTreeSet<(Instant, Place)>,
    tenants: Slab<Tenant>,
    places: HashMap<TenantId, Place>,
    /// Tenants with nothing left but a debt, the smallest first.
    idle: BTreeSet<(Tag, Place)>,
    clock: Clock,
    fleet: Fleet,
    /// Tenants that are not confined.
    shared: Group,
    /// All tenants on any bench: they hold at least one slot each.
    bench: BTreeSet<Place>,
    /// When something on a bench may be lent what was refused to it.
    lend_due: Option<Instant>,
    activity: Activity,
    quarantine: Quarantine,
    /// Tenants that may have something for a parked slot.
    calls: VecDeque<Place>,
    dropped: VecDeque<(Ticket, T, DropReason)>,
    running: PerLane<usize>,
    /// All that queriers run.
    runs: Line,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            requests: Requests::default(),
            expiries: BTreeSet::new(),
            tenants: Slab::default(),
            places: HashMap::new(),
            idle: BTreeSet::new(),
            clock: Clock::default(),
            fleet: Fleet::default(),
            shared: Group::default(),
            bench: BTreeSet::new(),
            lend_due: None,
            activity: Activity::new(now),
            quarantine: Quarantine::default(),
            calls: VecDeque::new(),
            dropped: VecDeque::new(),
            running: PerLane::default(),
            runs: Line::default(),
        }
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.expiries.len()
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.fleet.slots
    }

    /// When `tick` is to be called at the latest.
    pub fn due(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|&(at, _)| at);
        [expiry, self.fleet.due, self.lend_due].into_iter().flatten().min()
    }

    // ---- Requests.

    /// A request is to wait for its turn, or is refused.
    pub fn push(&mut self, new: NewRequest<T>, now: Instant) -> Result<Ticket, (Refused, T)> {
        if let Err(refused) = self.admit(&new, now) {
            return Err((refused, new.item));
        }
        let NewRequest { item, tenant, source, lane, cost, expires, fingerprint } = new;
        let tenant = self.tenant(tenant);
        let ticket = self.requests.insert(Request {
            item: Some(item),
            tenant,
            source,
            lane,
            cost,
            fingerprint,
            expires,
            since: now,
            attempts: 0,
            state: State::Lined,
            cancelled: false,
            links: requests::Links::default(),
        });
        self.expiries.insert((expires, ticket.place));
        self.line_up(ticket.place, End::Back);
        Ok(ticket)
    }

    fn admit(&self, new: &NewRequest<T>, now: Instant) -> Result<(), Refused> {
        if new.expires <= now {
            return Err(Refused::Expired);
        }
        if let Some(until) = self.quarantine.locked(new.fingerprint, now) {
            return Err(Refused::Quarantined { until });
        }
        let known = self.places.get(&new.tenant).map(|&place| &self.tenants[place]);
        let waiting = known.map_or(0, Tenant::waiting);
        let limit = known.map_or_else(|| self.rules.of(&new.tenant), |tenant| tenant.rules).max_queued;
        if waiting >= limit {
            return Err(Refused::TenantFull { limit, waiting });
        }
        let (limit, waiting) = (self.rules.max_queued, self.waiting());
        if waiting >= limit { Err(Refused::QueueFull { limit, waiting }) } else { Ok(()) }
    }

    /// A request is of no more use. Whatever it was doing, it is not given out any more.
    pub fn cancel(&mut self, ticket: Ticket) -> Cancelled<T> {
        match self.requests.of(ticket).map(|request| request.state) {
            None => Cancelled::Gone,
            Some(State::Running { querier, .. }) => {
                self.requests[ticket.place].cancelled = true;
                Cancelled::Running(QuerierKey(querier))
            }
            Some(State::Lined | State::Held) => match self.withdraw(ticket.place) {
                None => Cancelled::Gone,
                Some(item) => Cancelled::Waiting(item),
            },
        }
    }

    /// Whether a request waits, and may be given out.
    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.requests.of(ticket).is_some_and(|request| !matches!(request.state, State::Running { .. }))
    }

    /// Whether a querier is there and did not announce that it leaves.
    pub fn serves(&self, querier: QuerierKey) -> bool {
        self.fleet.queriers[querier.0].is_serving()
    }

    /// Takes a request out that waits; one that runs is left alone.
    pub fn take_waiting(&mut self, ticket: Ticket) -> Option<T> {
        match self.requests.of(ticket)?.state {
            State::Running { .. } => None,
            State::Lined | State::Held => self.withdraw(ticket.place),
        }
    }

    /// A querier is done with a request, and its slot is free. Without a measured cost the estimate stands, and nothing is
    /// known of how the request ended.
    pub fn finished(&mut self, ticket: Ticket, measured: Option<u64>, now: Instant) {
        let Some(run) = self.end_run(ticket, now) else { return };
        let Some(request) = self.requests.remove(ticket.place) else { return };
        if let Some(measured) = measured {
            let tenant = &mut self.tenants[request.tenant];
            let cost = Tag::of(believed(measured, request.cost), tenant.rules.weight);
            tenant.tag = self.clock.correct(tenant.tag, run.charged, cost);
            tenant.correct(request.source, request.cost, Some(measured));
        }
        if let Some(fingerprint) = request.fingerprint.filter(|_| !self.quarantine.is_empty()) {
            if measured.is_some() {
                let held = self.quarantine.acquit(fingerprint);
                self.release(held);
            } else {
                self.release_if_none_runs(fingerprint);
            }
        }
        self.after_run(request.tenant, request.source);
    }

    /// What trying a lost request again would be.
    pub fn next_try(&self, ticket: Ticket, lost: Lost) -> NextTry {
        let Some(request) = self.requests.of(ticket) else { return NextTry::None };
        let has_announced = match request.state {
            State::Running { querier, .. } => matches!(self.fleet.queriers[querier].standing, Standing::Leaving { .. }),
            State::Lined | State::Held => false,
        };
        match lost {
            Lost::Unsent => NextTry::SameAttempt,
            Lost::InFlight | Lost::Declined if has_announced => NextTry::SameAttempt,
            Lost::InFlight | Lost::Declined if request.attempts < self.rules.max_attempts => NextTry::Retry,
            Lost::InFlight | Lost::Declined => NextTry::None,
        }
    }

    /// A request did not come back from a querier. It goes to the front of its line, or is dropped if it must not be tried again.
    pub fn returned(&mut self, ticket: Ticket, item: T, lost: Lost, now: Instant) {
        let Some(run) = self.end_run(ticket, now) else { return };
        let place = ticket.place;
        let request = &mut self.requests[place];
        let (tenant, source, cost) = (request.tenant, request.source, request.cost);
        let is_attempt = lost != Lost::Unsent && !run.querier_had_announced;
        let is_strike = is_attempt && lost == Lost::InFlight;
        if !is_attempt {
            request.attempts -= 1;
        }
        let (attempts, expires, fingerprint) = (request.attempts, request.expires, request.fingerprint);
        self.tenants[tenant].tag = self.clock.correct(self.tenants[tenant].tag, run.charged, Tag::default());
        self.tenants[tenant].correct(source, cost, None);
        if let Some(fingerprint) = fingerprint {
            if is_strike {
                self.strike(fingerprint, &run, now);
            } else {
                self.release_if_none_runs(fingerprint);
            }
        }
        let reason = if self.requests[place].cancelled {
            Some(DropReason::Cancelled)
        } else if expires <= now {
            Some(DropReason::Expired)
        } else if let Some(until) = self.quarantine.locked(fingerprint, now) {
            Some(DropReason::Quarantined { until })
        } else {
            (attempts >= self.rules.max_attempts).then_some(DropReason::AttemptsSpent { attempts })
        };
        if let Some(reason) = reason {
            self.requests.remove(place);
            self.dropped.push_back((ticket, item, reason));
        } else {
            let request = &mut self.requests[place];
            (request.item, request.since) = (Some(item), now);
            self.expiries.insert((expires, place));
            self.line_up(place, End::Front);
        }
        self.after_run(tenant, source);
    }

    /// What time alone brings about.
    pub fn tick(&mut self, now: Instant) {
        while let Some(&(expires, place)) = self.expiries.first()
            && expires <= now
        {
            self.discard(place, DropReason::Expired);
        }
        if self.fleet.tick(&self.rules, now) {
            self.reshard();
        }
        if self.lend_due.is_some_and(|due| due <= now) {
            self.lend_due = None;
            for tenant in self.bench.clone() {
                self.call(tenant);
            }
        }
    }

    /// The rules are others from now on.
    pub fn reload(&mut self, rules: Rules, now: Instant) {
        self.rules = rules;
        for (_, tenant) in self.tenants.iter_mut() {
            tenant.rules = self.rules.of(&tenant.id);
        }
        for place in self.fleet.queriers.places() {
            self.fleet.relist(place, &self.rules);
        }
        // Delays may be shorter now.
        (self.fleet.due, self.lend_due) = (Some(now), Some(now));
        self.reshard();
        self.tick(now);
    }

    // ---- Queriers.

    /// A querier has one slot more: a stream, a worker. The slot is free and may ask `next`.
    pub fn attach(&mut self, querier: &QuerierId, now: Instant) -> QuerierKey {
        let (place, change) = self.fleet.attach(querier, &self.rules, now);
        self.fleet_changed(change);
        QuerierKey(place)
    }

    /// A querier has one slot less. The slot is neither busy (`returned` or `finished` came before) nor parked (`withdraw_slot`).
    pub fn detach(&mut self, querier: QuerierKey, now: Instant) {
        let change = self.fleet.detach(querier.0, &self.rules, now);
        self.fleet_changed(change);
        self.tick(now);
    }

    /// A slot that was parked does not wait any more.
    pub fn withdraw_slot(&mut self, querier: QuerierKey) {
        self.fleet.unpark(querier.0, &self.rules);
    }

    /// A querier announced that it leaves: it is given nothing more, and what it has may come back without anybody's fault.
    pub fn leaving(&mut self, querier: &QuerierId, now: Instant) {
        if let Some(place) = self.fleet.place(querier) {
            self.fleet.leaving(place, &self.rules, now);
            self.reshard();
        }
    }

    /// A free slot asks for work.
    pub fn next(&mut self, querier: QuerierKey, now: Instant) -> Turn<T> {
        self.tick(now);
        if let Some(job) = self.pick(querier.0, now) {
            return Turn::Run(job);
        }
        self.fleet.park(querier.0, &self.rules);
        Turn::Wait
    }

    /// What is to be done after a call; to be asked until there is nothing.
    pub fn effect(&mut self, now: Instant) -> Option<Effect<T>> {
        loop {
            if let Some((ticket, item, reason)) = self.dropped.pop_front() {
                return Some(Effect::Drop { ticket, item, reason });
            }
            if let Some(&querier) = self.fleet.opened.last() {
                let given = self.give_parked(querier, now);
                if given.is_some() {
                    return given;
                }
                self.fleet.opened.pop();
                continue;
            }
            let &place = self.calls.front()?;
            let parked = self.tenants.get(place).and_then(|tenant| self.parked_for(tenant));
            let given = parked.and_then(|querier| self.give_parked(querier, now));
            if let Some(given) = given.or_else(|| self.lend_at_another(place, now)) {
                return Some(given);
            }
            // Nothing of this tenant can be given to anybody who waits.
            self.calls.pop_front();
            if let Some(tenant) = self.tenants.get_mut(place) {
                tenant.called = false;
            }
        }
    }

    fn give_parked(&mut self, querier: Place, now: Instant) -> Option<Effect<T>> {
        self.fleet.queriers.get(querier).filter(|querier| querier.parked > 0)?;
        let job = self.pick(querier, now)?;
        self.fleet.unpark(querier, &self.rules);
        Some(Effect::Give { querier: QuerierKey(querier), job })
    }

    /// Whether what the cap keeps free is lent to a tenant that is confined is seen at each of its queriers: at one of them somebody
    /// else may have been lately, and at another not.
    fn lend_at_another(&mut self, tenant: Place, now: Instant) -> Option<Effect<T>> {
        let tenant = self.tenants.get(tenant).filter(|tenant| tenant.on_bench && tenant.in_line() > 0)?;
        let members = tenant.members.clone()?;
        members.iter().find_map(|&querier| self.give_parked(querier, now))
    }

    fn parked_for(&self, tenant: &Tenant) -> Option<Place> {
        let members = tenant.members.as_deref();
        let for_normal = tenant.lined[Lane::Alert] + tenant.lined[Lane::Small] == 0;
        (tenant.in_line() > 0).then(|| self.fleet.parked(members, for_normal, &self.rules)).flatten()
    }
}
