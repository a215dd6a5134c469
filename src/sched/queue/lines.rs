//! How requests and tenants come into the queue and out of it.

use std::time::Instant;

use super::Queue;
use super::account::{Clock, Tag};
use super::fleet::Standing;
use super::requests::{End, Line, State};
use super::slab::{Place, Slab};
use super::tenant::Tenant;
use super::words::{DropReason, Fingerprint, Source, Ticket};
use crate::model::tenant::TenantId;

/// A tenant with nothing left is remembered for its debt, unless there are more than so many.
pub(super) const MOST_IDLE: usize = 10_000;

/// What is known of a run when it is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedRun {
    pub querier: Place,
    /// When it began.
    pub since: Instant,
    /// What its tenant was charged.
    pub charged: Tag,
    pub querier_had_announced: bool,
}

impl<T> Queue<T> {
    /// The tenant's place; a new one has no history.
    pub(super) fn tenant(&mut self, id: TenantId) -> Place {
        if let Some(&place) = self.places.get(&id) {
            self.idle.remove(&(self.tenants[place].tag, place));
            return place;
        }
        let mut tenant = Tenant::new(id.clone(), self.rules.of(&id), self.clock.now());
        tenant.members = self.members(&tenant, None);
        let place = self.tenants.insert(tenant);
        self.places.insert(id, place);
        place
    }

    pub(super) fn line_up(&mut self, place: Place, end: End) {
        let at = self.requests[place].tenant;
        let tenant = &mut self.tenants[at];
        if tenant.in_line() == 0 {
            let own = tenant.members.iter().flatten().filter_map(|&place| self.fleet.queriers[place].own.least());
            let least = own.chain(self.shared.least()).min();
            tenant.tag = self.clock.enter(tenant.tag, least);
        }
        tenant.line_up(&mut self.requests, place, end);
        self.refresh(at);
        self.call(at);
    }

    pub(super) fn call(&mut self, tenant: Place) {
        if !std::mem::replace(&mut self.tenants[tenant].called, true) {
            self.calls.push_back(tenant);
        }
    }

    /// A request that waits is taken out.
    pub(super) fn withdraw(&mut self, place: Place) -> Option<T> {
        let request = &self.requests[place];
        let (at, source, state, fingerprint) = (request.tenant, request.source, request.state, request.fingerprint);
        self.expiries.remove(&(request.expires, place));
        let tenant = &mut self.tenants[at];
        if state == State::Held {
            tenant.held -= 1;
            tenant.away(source, -1);
            if let Some(suspect) = self.quarantine.suspect(fingerprint) {
                self.requests.leave(&mut suspect.held, place);
            }
        } else {
            tenant.leave(&mut self.requests, place);
        }
        tenant.rest(source);
        self.refresh(at);
        self.rest(at);
        self.requests.remove(place)?.item
    }

    pub(super) fn discard(&mut self, place: Place, reason: DropReason) {
        let ticket = self.requests.ticket(place);
        if let Some(item) = self.withdraw(place) {
            self.dropped.push_back((ticket, item, reason));
        }
    }

    /// A run is over and the slot is free. The request still is in its place, and still counts for its tenant.
    pub(super) fn end_run(&mut self, ticket: Ticket, now: Instant) -> Option<EndedRun> {
        let request = self.requests.of(ticket)?;
        let State::Running { querier, charged } = request.state else { return None };
        let (lane, fingerprint, since) = (request.lane, request.fingerprint, request.since);
        let tenant = self.tenants[request.tenant].hash;
        self.activity.saw(tenant, now);
        self.fleet.queriers[querier].activity.saw(tenant, now);
        self.running[lane] -= 1;
        self.requests.leave(&mut self.runs, ticket.place);
        let querier_had_announced = matches!(self.fleet.queriers[querier].standing, Standing::Leaving { .. });
        self.fleet.ended(querier, lane, &self.rules);
        if let Some(suspect) = self.quarantine.suspect(fingerprint) {
            suspect.running = suspect.running.saturating_sub(1);
        }
        Some(EndedRun { querier, since, charged, querier_had_announced })
    }

    /// After a run, when its request is out of the way: the tenant may have a turn again, or nothing left.
    pub(super) fn after_run(&mut self, at: Place, source: Source) {
        let tenant = &mut self.tenants[at];
        tenant.running -= 1;
        tenant.away(source, -1);
        tenant.rest(source);
        self.unbench(at);
        self.refresh(at);
        self.rest(at);
    }

    /// A tenant that has nothing left is forgotten, or remembered for its debt.
    pub(super) fn rest(&mut self, place: Place) {
        let tenant = &self.tenants[place];
        if !tenant.is_idle() {
            return;
        }
        self.idle.insert((tenant.tag, place));
        if self.tenants.len() - self.idle.len() == 1 {
            // The one that is left may be lent something, once it has been alone for long enough.
            self.bench.clone().into_iter().for_each(|tenant| self.call(tenant));
        }
        if self.idle.len() == self.tenants.len() {
            // Nobody waits and nothing runs: nobody owes anybody anything.
            (self.tenants, self.clock) = (Slab::default(), Clock::default());
            self.places.clear();
            self.idle.clear();
            self.calls.clear();
            return;
        }
        while let Some(&(tag, place)) = self.idle.first()
            && (tag <= self.clock.now() || self.idle.len() > MOST_IDLE)
        {
            self.idle.pop_first();
            if let Some(tenant) = self.tenants.remove(place) {
                self.places.remove(&tenant.id);
            }
        }
    }

    pub(super) fn strike(&mut self, fingerprint: Fingerprint, run: &EndedRun, now: Instant) {
        if self.quarantine.is_counted(fingerprint, run) {
            self.release_if_none_runs(fingerprint);
            return;
        }
        let running =
            self.requests.stand(self.runs).filter(|&place| self.requests[place].fingerprint == Some(fingerprint));
        let running = running.count();
        self.quarantine.strike(fingerprint, run.querier, running, self.rules.quarantine_after, now);
        let Some(until) = self.quarantine.locked(Some(fingerprint), now) else {
            self.release_if_none_runs(fingerprint);
            return;
        };
        // Those that are held, and those that stand in line and would be found only when their turn comes.
        let alike = self.expiries.iter().map(|&(_, place)| place);
        let alike = alike.filter(|&place| self.requests[place].fingerprint == Some(fingerprint));
        for place in alike.collect::<Vec<_>>() {
            self.discard(place, DropReason::Quarantined { until });
        }
    }

    pub(super) fn release_if_none_runs(&mut self, fingerprint: Fingerprint) {
        if let Some(suspect) = self.quarantine.suspect(Some(fingerprint))
            && suspect.running == 0
        {
            let held = std::mem::take(&mut suspect.held);
            self.release(held);
        }
    }

    /// Those that were held go back to the front of their lines, in their order.
    pub(super) fn release(&mut self, mut held: Line) {
        let places: Vec<_> = self.requests.stand(held).collect();
        for place in places.into_iter().rev() {
            self.requests.leave(&mut held, place);
            let request = &self.requests[place];
            let (tenant, source) = (request.tenant, request.source);
            self.tenants[tenant].held -= 1;
            self.tenants[tenant].away(source, -1);
            self.line_up(place, End::Front);
        }
    }
}
