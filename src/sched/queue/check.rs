//! The one consistency check: everything that is kept twice is the same both times.

use std::collections::{BTreeMap, BTreeSet};

use super::account::Tag;
use super::lines::MOST_IDLE;
use super::requests::State;
use super::slab::Place;
use super::tenant::MOST_SOURCES;
use super::words::Lane;
use super::{Queue, Standing, Tenant};

impl<T> Queue<T> {
    /// Panics if the queue contradicts itself. For tests, after each step: it looks at everything.
    pub fn check(&self) {
        self.check_requests();
        self.check_tenants();
        self.check_groups();
        self.check_queriers();
    }

    /// Each request is where it says it is, and nobody else is.
    fn check_requests(&self) {
        let mut expiries = BTreeSet::new();
        let mut held = BTreeMap::<_, BTreeSet<Place>>::new();
        let mut lines = BTreeMap::<_, BTreeSet<Place>>::new();
        for (place, request) in self.requests.iter() {
            assert_eq!(request.item.is_none(), matches!(request.state, State::Running { .. }), "who has the item");
            assert!(request.attempts <= self.rules.max_attempts.max(1), "given out too often");
            match request.state {
                State::Running { querier, .. } => {
                    assert!(self.fleet.queriers.get(querier).is_some(), "it runs somewhere");
                    continue;
                }
                State::Held => held.entry(request.fingerprint).or_default().insert(place),
                State::Lined => lines.entry((request.tenant, request.source, request.lane)).or_default().insert(place),
            };
            expiries.insert((request.expires, place));
        }
        let runs: BTreeSet<_> = self.requests.stand(self.runs).collect();
        let running = self.requests.iter().filter(|(_, r)| matches!(r.state, State::Running { .. }));
        assert_eq!(runs, running.map(|(place, _)| place).collect(), "all that run");
        assert_eq!(expiries, self.expiries, "all that wait have an end, and nothing else has");
        for (fingerprint, suspect) in &self.quarantine.suspects {
            let stand: Vec<_> = self.requests.stand(suspect.held).collect();
            let set: BTreeSet<_> = stand.iter().copied().collect();
            assert_eq!(set.len(), stand.len());
            assert_eq!(set, held.remove(&Some(*fingerprint)).unwrap_or_default(), "those held beside {fingerprint:?}");
            let runs = |state: State| matches!(state, State::Running { .. });
            let like_it = self.requests.iter().filter(|(_, r)| r.fingerprint == Some(*fingerprint) && runs(r.state));
            assert_eq!(suspect.running, like_it.count(), "those like {fingerprint:?} that run");
            assert!(suspect.running > 0 || stand.is_empty(), "held beside nothing");
        }
        assert!(held.is_empty(), "held without a suspect: {held:?}");
        for (at, tenant) in self.tenants.iter() {
            for (id, source) in &tenant.sources {
                for lane in Lane::ALL {
                    let stand: Vec<_> = self.requests.stand(source.lines[lane]).collect();
                    let set: BTreeSet<_> = stand.iter().copied().collect();
                    assert_eq!(set.len(), stand.len());
                    assert_eq!(set, lines.remove(&(at, *id, lane)).unwrap_or_default(), "the line of {id:?}, {lane:?}");
                    let in_turns = tenant.turns[lane].iter().any(|turn| turn == (source.tag, *id));
                    assert_eq!(in_turns, !stand.is_empty(), "the turn of {id:?}, {lane:?}");
                }
                let of_source = self.requests.iter().filter(|(_, r)| r.tenant == at && r.source == *id);
                assert_eq!(source.away, of_source.filter(|(_, r)| r.state != State::Lined).count(), "away from {id:?}");
            }
        }
        assert!(lines.is_empty(), "in a line of nobody: {lines:?}");
    }

    /// Each tenant has what its requests say, and is as near to the clock as it has to be.
    fn check_tenants(&self) {
        assert_eq!(self.places.len(), self.tenants.len());
        for (at, tenant) in self.tenants.iter() {
            assert_eq!(self.places.get(&tenant.id), Some(&at));
            let count = |state: fn(State) -> bool, lane: Option<Lane>| {
                let of_tenant =
                    self.requests.iter().filter(|(_, r)| r.tenant == at && lane.is_none_or(|l| l == r.lane));
                of_tenant.filter(|(_, r)| state(r.state)).count()
            };
            let turns: usize = tenant.turns.values().iter().map(|turns| turns.iter().count()).sum();
            let lines = tenant.sources.iter().flat_map(|(_, source)| source.lines.values());
            assert_eq!(turns, lines.filter(|line| !line.is_empty()).count(), "one turn for each line");
            let at_rest = tenant.sources.len() - tenant.sources.iter().filter(|(_, source)| source.is_busy()).count();
            assert!(at_rest <= MOST_SOURCES, "too many debts of sources are remembered");
            assert!(tenant.sources.is_sorted_by_key(|&(id, _)| id));
            assert!(tenant.turns.values().iter().all(|turns| turns.iter().is_sorted()));
            for lane in Lane::ALL {
                assert_eq!(tenant.lined[lane], count(|s| s == State::Lined, Some(lane)), "in line");
                let wanted = tenant.lined[lane] > 0 && !tenant.benched[lane];
                assert_eq!(tenant.listed[lane], wanted, "listed or benched");
                assert!(!tenant.benched[lane] || tenant.lined[lane] > 0, "benched for nothing");
                assert!(!tenant.benched[lane] || !self.has_room(at, lane), "benched though it has room");
            }
            assert_eq!(tenant.listed_tag, tenant.tag, "listed with its tag");
            assert_eq!(tenant.held, count(|s| s == State::Held, None), "held");
            assert_eq!(tenant.running, count(|s| matches!(s, State::Running { .. }), None), "running");
            assert_eq!(tenant.on_bench, tenant.benched.values().iter().any(|&benched| benched));
            assert_eq!(self.bench.contains(&at), tenant.on_bench);
            assert_eq!(self.idle.contains(&(tenant.tag, at)), tenant.is_idle(), "idle is idle");
            assert_eq!(tenant.members, self.members(tenant, None), "confined to the queriers that it should be");
            assert_eq!(tenant.rules, self.rules.of(&tenant.id));
            assert!(!tenant.called || self.calls.contains(&at), "called");
        }
        let idle = self.tenants.iter().filter(|(_, tenant)| tenant.is_idle()).count();
        assert_eq!(self.idle.len(), idle);
        assert!(idle <= MOST_IDLE, "too many debts are remembered");
        assert!(idle == 0 || idle < self.tenants.len(), "an empty queue forgets");
        let running: usize = self.running.values().iter().sum();
        assert_eq!(running, self.tenants.iter().map(|(_, tenant)| tenant.running).sum::<usize>());
        if self.tenants.len() == 0 {
            assert_eq!(self.clock.now(), Tag::default(), "an empty queue begins anew");
        }
    }

    /// The turns and benches hold exactly the tenants that belong there.
    fn check_groups(&self) {
        let belongs = |tenant: &Tenant, querier: Option<Place>| match (&tenant.members, querier) {
            (None, None) => true,
            (Some(members), Some(querier)) => members.contains(&querier),
            _ => false,
        };
        let own = self.fleet.queriers.iter().map(|(place, querier)| (Some(place), &querier.own));
        for (querier, group) in own.chain([(None, &self.shared)]) {
            let here: Vec<_> = self.tenants.iter().filter(|(_, tenant)| belongs(tenant, querier)).collect();
            for lane in Lane::ALL {
                let turns = here.iter().filter(|(_, tenant)| tenant.listed[lane]).map(|(at, tenant)| (tenant.tag, *at));
                assert_eq!(group.turns[lane], turns.collect(), "the turns of {lane:?} at {querier:?}");
            }
            let bench = here.iter().filter(|(_, tenant)| tenant.on_bench).map(|(at, _)| *at);
            assert_eq!(group.bench, bench.collect(), "the bench at {querier:?}");
        }
    }

    /// Each querier runs what its requests say, and is listed as it should be.
    fn check_queriers(&self) {
        let mut free = [BTreeSet::new(), BTreeSet::new()];
        for (place, querier) in self.fleet.queriers.iter() {
            assert_eq!(self.fleet.place(&querier.id), Some(place));
            for lane in Lane::ALL {
                let runs = |state: State| matches!(state, State::Running { querier, .. } if querier == place);
                let running = self.requests.iter().filter(|(_, r)| r.lane == lane && runs(r.state)).count();
                assert_eq!(querier.running[lane], running, "what {:?} runs", querier.id);
            }
            assert!(
                querier.parked + querier.busy() <= querier.slots || querier.slots == 0,
                "more at work than there are"
            );
            match querier.standing {
                Standing::Serving => assert!(querier.slots > 0),
                Standing::Vanished { .. } => assert!(querier.slots == 0),
                Standing::Leaving { .. } => assert!(querier.slots + querier.busy() > 0, "it left and is remembered"),
                Standing::Forgotten => {
                    assert!(querier.slots == 0 && querier.busy() > 0, "it is remembered for nothing");
                }
            }
            assert!(querier.is_serving() || querier.own.is_empty(), "work for one who is not there");
            if querier.is_serving() && querier.parked > 0 {
                free[0].insert((querier.busy(), place));
                if querier.takes(Lane::Normal, &self.rules) {
                    free[1].insert((querier.busy(), place));
                }
            }
        }
        assert_eq!(free, self.fleet.free, "who has a parked slot");
        let serving = self.fleet.queriers.iter().filter(|(_, querier)| querier.is_serving());
        assert_eq!(self.fleet.slots, serving.map(|(_, querier)| querier.slots).sum::<usize>());
    }
}
