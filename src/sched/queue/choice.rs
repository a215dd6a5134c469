//! Whose turn it is when a slot of a querier is free.

use std::time::Instant;

use super::Queue;
use super::account::Tag;
use super::quarantine::Admission;
use super::requests::{End, State};
use super::slab::Place;
use super::words::{DropReason, Job, Lane, PerLane};

impl<T> Queue<T> {
    /// Takes the request out whose turn it is at a querier.
    pub(super) fn pick(&mut self, querier: Place, now: Instant) -> Option<Job<T>> {
        loop {
            let (tenant, lane) = self.choose(querier, now)?;
            let (_, _, place) = self.tenants[tenant].head(&self.requests, lane)?;
            match self.requests[place].fingerprint.map(|fingerprint| self.quarantine.admit(fingerprint, now)) {
                None | Some(Admission::Free) => return Some(self.give(place, querier, now)),
                Some(Admission::Hold) => self.hold(place),
                Some(Admission::Locked(until)) => self.discard(place, DropReason::Quarantined { until }),
            }
        }
    }

    /// The tenant and the lane whose turn it is at a querier.
    fn choose(&mut self, querier: Place, now: Instant) -> Option<(Place, Lane)> {
        if !self.fleet.queriers[querier].is_serving() {
            return None;
        }
        let heads = PerLane(Lane::ALL.map(|lane| self.head(querier, lane)));
        let Some(least) = heads.values().iter().flatten().map(|&(tag, _)| tag).min() else {
            return self.choose_from_bench(querier, now);
        };
        // Also of a lane that is closed here: who comes new is not to wait behind those who could use what others could not.
        self.clock.advance(least);
        let open = |lane: Lane| self.fleet.queriers[querier].takes(lane, &self.rules);
        let alerts_hold_few = self.running[Lane::Alert] < self.rules.alert_share.of(self.fleet.slots);
        if let Some((_, tenant)) = heads[Lane::Alert].filter(|_| alerts_hold_few) {
            return Some((tenant, Lane::Alert));
        }
        let candidates = Lane::ALL.into_iter().filter(|&lane| open(lane));
        let mut best: Option<(Tag, Place, Lane)> = None;
        for lane in candidates {
            let Some((tag, tenant)) = heads[lane] else { continue };
            let comes_first = best.is_none_or(|(other_tag, other, other_lane)| {
                if tenant == other { self.is_earlier(tenant, lane, other_lane) } else { tag < other_tag }
            });
            if comes_first {
                best = Some((tag, tenant, lane));
            }
        }
        best.map(|(_, tenant, lane)| (tenant, lane))
    }

    /// Which of a tenant's lanes is first: that of the source that has had least, or of the request that has waited longer.
    fn is_earlier(&self, tenant: Place, lane: Lane, other: Lane) -> bool {
        let head = |lane| self.tenants[tenant].head(&self.requests, lane).map(|(tag, since, _)| (tag, since));
        head(lane) < head(other)
    }

    /// The tenant whose turn it is in a lane; those that hold as much as they may are put on the bench.
    fn head(&mut self, querier: Place, lane: Lane) -> Option<(Tag, Place)> {
        loop {
            let all = self.shared.turns[lane].first();
            let own = self.fleet.queriers[querier].own.turns[lane].first();
            let &(tag, tenant) = all.into_iter().chain(own).min()?;
            if self.has_room(tenant, lane) {
                return Some((tag, tenant));
            }
            self.tenants[tenant].benched[lane] = true;
            self.refresh(tenant);
        }
    }

    /// Whether a tenant holds less than it may.
    pub(super) fn has_room(&self, tenant: Place, lane: Lane) -> bool {
        let tenant = &self.tenants[tenant];
        let reach = match &tenant.members {
            None => self.fleet.slots,
            Some(members) => members.iter().map(|&place| self.fleet.queriers[place].slots).sum(),
        };
        let extra = if lane == Lane::Alert { tenant.rules.alert_room(reach, self.rules.alert_share) } else { 0 };
        tenant.running < tenant.rules.room(reach).saturating_add(extra)
    }

    /// Nobody has a turn here: what the cap of the only one who waits keeps free is lent to it, if nobody else was seen lately.
    fn choose_from_bench(&mut self, querier: Place, now: Instant) -> Option<(Place, Lane)> {
        let place = &self.fleet.queriers[querier];
        let mut bench = self.shared.bench.iter().chain(&place.own.bench);
        let (&only, None) = (bench.next()?, bench.next()) else { return None };
        let tenant = &self.tenants[only];
        let lane = Lane::ALL.into_iter().find(|&lane| tenant.lined[lane] > 0 && place.takes(lane, &self.rules))?;
        let others_are_busy = self.tenants.len() - self.idle.len() > 1;
        let alone_since = match tenant.members {
            // Whoever shares a querier with one that is confined is seen there.
            Some(_) => place.activity.alone_since(tenant.hash),
            None if others_are_busy => return None,
            None => self.activity.alone_since(tenant.hash),
        };
        let lent_from = alone_since.checked_add(self.rules.lend_after)?;
        if lent_from <= now {
            return Some((only, lane));
        }
        self.lend_due = Some(self.lend_due.map_or(lent_from, |due| due.min(lent_from)));
        None
    }

    /// A request leaves its line for a querier, and is charged for.
    fn give(&mut self, place: Place, querier: Place, now: Instant) -> Job<T> {
        let request = &self.requests[place];
        let (at, source, lane, cost) = (request.tenant, request.source, request.lane, request.cost);
        self.expiries.remove(&(request.expires, place));
        let tenant = &mut self.tenants[at];
        tenant.charge(source, cost);
        tenant.leave(&mut self.requests, place);
        tenant.away(source, 1);
        tenant.running += 1;
        let charged = Tag::of(cost, tenant.rules.weight);
        tenant.tag = self.clock.charge(tenant.tag, charged);
        self.activity.saw(tenant.hash, now);
        self.fleet.queriers[querier].activity.saw(tenant.hash, now);
        self.running[lane] += 1;
        self.requests.join(&mut self.runs, place, End::Back);
        self.fleet.began(querier, lane, &self.rules);
        self.refresh(at);
        let ticket = self.requests.ticket(place);
        let request = &mut self.requests[place];
        if let Some(suspect) = self.quarantine.suspect(request.fingerprint) {
            suspect.running += 1;
        }
        request.state = State::Running { querier, charged };
        request.attempts += 1;
        let waited = now.saturating_duration_since(std::mem::replace(&mut request.since, now));
        let item = request.item.take().expect("a request that waits has its item: only `give` takes it");
        Job { ticket, item, waited, attempt: request.attempts }
    }

    /// A request steps aside until the one like it that runs is done.
    fn hold(&mut self, place: Place) {
        let request = &mut self.requests[place];
        let (at, source, fingerprint) = (request.tenant, request.source, request.fingerprint);
        self.tenants[at].leave(&mut self.requests, place);
        self.tenants[at].away(source, 1);
        self.tenants[at].held += 1;
        self.requests[place].state = State::Held;
        if let Some(suspect) = self.quarantine.suspect(fingerprint) {
            self.requests.join(&mut suspect.held, place, End::Back);
        }
        self.refresh(at);
    }
}
