//! Random histories, beside a model that knows everything, keeps nothing in order, and looks at all of it each time.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use promfront::sched::queue::Queue;
use promfront::sched::queue::account::Weight;
use promfront::sched::queue::rules::{Rules, TenantRules};
use promfront::sched::queue::words::{
    Cancelled, DropReason, Effect, Fingerprint, Job, Lane, Lost, NewRequest, QuerierKey, Refused, Source, Ticket, Turn,
};
use promfront::sched::shuffle::Share;
use promfront::sched::shuffle::{ShardSize, name_hash, shard};
use proptest::prelude::*;

use crate::{WINDOW, querier, tenant, thousandths};

/// Who announced that it leaves and still waits for work after this, stays.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running(usize),
    Gone,
}

#[derive(Clone, Debug)]
struct Request {
    ticket: Ticket,
    tenant: usize,
    source: u64,
    lane: Lane,
    expires: Instant,
    fingerprint: Option<u64>,
    attempts: u32,
    came_back: bool,
    /// When it was given out last.
    began: Instant,
    cancelled: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    No,
    Serving,
    Leaving(Instant),
    Vanished(Instant),
}

#[derive(Clone, Debug)]
struct Querier {
    there: There,
    key: Option<QuerierKey>,
    awake: usize,
    parked: usize,
}

impl Querier {
    fn slots(&self, running: usize) -> usize {
        self.awake + self.parked + running
    }
}

/// What is known against a fingerprint since it was last answered: who vanished under it, and when.
type Strikes = Vec<(usize, Instant)>;

struct Model {
    queue: Queue<usize>,
    begun: Instant,
    now: Instant,
    rules: Rules,
    requests: Vec<Request>,
    queriers: Vec<Querier>,
    strikes: HashMap<u64, Strikes>,
    /// Who was seen where and when.
    seen: Vec<(usize, usize, Instant)>,
    joined: HashMap<usize, Instant>,
    given: usize,
}

impl Model {
    fn new(rules: Rules) -> Self {
        let now = Instant::now();
        let nobody = Querier { there: There::No, key: None, awake: 0, parked: 0 };
        Self {
            queue: Queue::new(rules.clone(), now),
            begun: now,
            now,
            rules,
            requests: Vec::new(),
            queriers: vec![nobody; 5],
            strikes: HashMap::new(),
            seen: Vec::new(),
            joined: HashMap::new(),
            given: 0,
        }
    }

    fn with(&self, state: impl Fn(State) -> bool) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| state(request.state))
    }

    fn running_on(&self, q: usize, lane: Option<Lane>) -> usize {
        self.with(move |state| state == State::Running(q)).filter(|r| lane.is_none_or(|lane| r.lane == lane)).count()
    }

    fn slots(&self, q: usize) -> usize {
        self.queriers[q].slots(self.running_on(q, None))
    }

    fn tenant_rules(&self, t: usize) -> TenantRules {
        self.rules.tenants.get(&tenant(t)).copied().unwrap_or(self.rules.default_tenant)
    }

    /// The queriers that may serve a tenant.
    fn members(&self, t: usize) -> BTreeSet<usize> {
        let has_place = |q: &usize| matches!(self.queriers[*q].there, There::Serving | There::Vanished(_));
        let candidates: Vec<_> = (0..self.queriers.len()).filter(has_place).collect();
        let hashed: Vec<_> = candidates.iter().map(|&q| (name_hash(querier(q).as_str()), q)).collect();
        let chosen = shard(name_hash(tenant(t).as_str()), &hashed, self.tenant_rules(t).max_queriers);
        let serves = |q: &usize| self.queriers[*q].there == There::Serving;
        chosen.unwrap_or(candidates).into_iter().filter(serves).collect()
    }

    fn is_confined(&self, t: usize) -> bool {
        let has_place = |q: &Querier| matches!(q.there, There::Serving | There::Vanished(_));
        let n = self.queriers.iter().filter(|q| has_place(q)).count();
        self.tenant_rules(t).max_queriers.of(n).is_some()
    }

    /// Whether the cap of its tenant leaves room for a request.
    fn has_room(&self, r: &Request) -> bool {
        let rules = self.tenant_rules(r.tenant);
        let reach: usize = self.members(r.tenant).into_iter().map(|q| self.slots(q)).sum();
        let running =
            self.with(|state| matches!(state, State::Running(_))).filter(|other| other.tenant == r.tenant).count();
        let alert_room = rules.max_in_flight.of(self.rules.alert_share.of(reach));
        let is_capped = rules.max_in_flight != Share::ALL;
        !is_capped
            || running < rules.max_in_flight.of(reach).max(1) + if r.lane == Lane::Alert { alert_room } else { 0 }
    }

    /// Whether a querier may run a request, caps aside.
    fn is_open(&self, q: usize, r: &Request) -> bool {
        let slots = self.slots(q);
        let kept = if slots < 4 { 0 } else { self.rules.small_share.of(slots).min(slots - 1) };
        let lane_is_open = r.lane != Lane::Normal || self.running_on(q, Some(Lane::Normal)) + kept < slots;
        lane_is_open && self.members(r.tenant).contains(&q) && r.expires > self.now
    }

    fn runs_like(&self, r: &Request) -> bool {
        self.with(|state| matches!(state, State::Running(_)))
            .any(|o| o.ticket != r.ticket && o.fingerprint == r.fingerprint)
    }

    fn strikes_within(&self, r: Option<u64>, span: Duration) -> usize {
        let strikes = r.and_then(|fingerprint| self.strikes.get(&fingerprint));
        strikes.map_or(0, |strikes| strikes.iter().filter(|&&(_, at)| self.now < at + span).count())
    }

    /// Whether nothing that queriers vanished under stands in the way. In doubt it does.
    fn is_above_suspicion(&self, r: &Request) -> bool {
        self.strikes_within(r.fingerprint, 4 * WINDOW) == 0
    }

    /// Since when a tenant has been alone: everywhere, or at the querier that it is confined to.
    fn alone_since(&self, t: usize, q: usize) -> Instant {
        let here = |at: usize| !self.is_confined(t) || at == q;
        let begun = if self.is_confined(t) { self.joined[&q] } else { self.begun };
        self.seen
            .iter()
            .filter(|&&(other, at, _)| other != t && here(at))
            .map(|&(_, _, when)| when)
            .fold(begun, Instant::max)
    }

    fn is_lent(&self, q: usize, r: &Request) -> bool {
        let others_are_busy = self.with(|state| state != State::Gone).any(|other| other.tenant != r.tenant);
        self.alone_since(r.tenant, q) + self.rules.lend_after <= self.now
            && (self.is_confined(r.tenant) || !others_are_busy)
    }

    /// A querier was given a job: was it right?
    fn give(&mut self, q: usize, job: &Job<usize>) {
        let request = self.requests[job.item].clone();
        let r = &request;
        assert_eq!((r.state, r.cancelled), (State::Waiting, false), "given twice, or after its end: {r:?}");
        assert_eq!(self.queriers[q].there, There::Serving, "given to one who is not there");
        assert!(self.is_open(q, r), "given to a querier that must not have it: {q} {r:?}");
        assert_eq!((job.ticket, job.attempt), (r.ticket, r.attempts + 1));
        assert!(job.attempt <= self.rules.max_attempts);
        if !self.has_room(r) {
            assert!(self.is_lent(q, r), "over the cap, and not alone: {r:?}");
            for other in self.with(|state| state == State::Waiting) {
                let would_do = self.is_open(q, other) && self.has_room(other) && self.is_above_suspicion(other);
                assert!(!would_do, "lent while {other:?} could run");
            }
        }
        assert!(self.strikes_within(r.fingerprint, WINDOW) < 2, "two queriers vanished under it");
        assert!(self.strikes_within(r.fingerprint, WINDOW) == 0 || !self.runs_like(r), "a suspect is tried alone");
        if r.fingerprint.is_none() {
            let line = |o: &&Request| (o.tenant, o.source, o.lane) == (r.tenant, r.source, r.lane);
            for (id, other) in self.requests.iter().enumerate().filter(|(_, other)| line(other)) {
                let waits = other.state == State::Waiting && other.fingerprint.is_none();
                let is_later = id >= job.item && !other.came_back;
                assert!(!waits || r.came_back || is_later, "out of order: {other:?}");
            }
        }
        self.given += 1;
        let tenant = r.tenant;
        self.seen.push((tenant, q, self.now));
        let request = &mut self.requests[job.item];
        (request.state, request.attempts, request.began) = (State::Running(q), job.attempt, self.now);
    }

    fn dropped(&mut self, ticket: Ticket, id: usize, reason: DropReason) {
        let r = &self.requests[id];
        assert_eq!((r.ticket, r.state), (ticket, State::Waiting), "dropped twice, or after its end");
        match reason {
            DropReason::Cancelled => assert!(r.cancelled),
            DropReason::Expired => assert!(r.expires <= self.now, "dropped before its time"),
            DropReason::Quarantined { until } => {
                assert!(until > self.now);
                assert!(self.strikes_within(r.fingerprint, 4 * WINDOW) > 0, "nothing is known against it");
                assert!(self.strikes[&r.fingerprint.expect("it has one")].len() >= 2, "one is not enough");
            }
            DropReason::AttemptsSpent { attempts } => {
                assert_eq!((attempts, r.attempts), (self.rules.max_attempts, self.rules.max_attempts));
            }
        }
        self.requests[id].state = State::Gone;
    }

    /// Takes the effects, and sees that nothing is left undone.
    fn settle(&mut self) {
        while let Some(effect) = self.queue.effect(self.now) {
            match effect {
                Effect::Give { querier, job } => {
                    let q = self.queriers.iter().position(|q| q.key == Some(querier)).expect("somebody's key");
                    self.give(q, &job);
                    self.queriers[q].parked = self.queriers[q].parked.checked_sub(1).expect("it was parked");
                }
                Effect::Drop { ticket, item, reason } => self.dropped(ticket, item, reason),
            }
            self.queue.check();
        }
        self.queue.check();
        assert_eq!(self.queue.waiting(), self.with(|state| state == State::Waiting).count());
        let serving = (0..self.queriers.len()).filter(|&q| self.queriers[q].there == There::Serving);
        assert_eq!(self.queue.slots(), serving.clone().map(|q| self.slots(q)).sum::<usize>());
        for q in serving.filter(|&q| self.queriers[q].parked > 0) {
            for r in self.with(|state| state == State::Waiting) {
                let free = self.is_open(q, r) && self.is_above_suspicion(r);
                assert!(!free || !self.has_room(r), "a slot of {q} waits, and so does {r:?}");
                let alone = !self.with(|state| state != State::Gone).any(|other| other.tenant != r.tenant);
                assert!(!free || !alone || !self.is_lent(q, r), "not lent: {q} {r:?}");
            }
        }
    }

    // ---- What happens to both.

    fn push(&mut self, t: usize, source: u64, lane: Lane, cost: u64, ttl: Duration, fingerprint: Option<u64>) {
        let (id, expires) = (self.requests.len(), self.now + ttl);
        let new = NewRequest {
            item: id,
            tenant: tenant(t),
            source: Source(source),
            lane,
            cost,
            expires,
            fingerprint: fingerprint.map(Fingerprint),
        };
        let waiting = |t: Option<usize>| {
            self.with(|state| state == State::Waiting).filter(|r| t.is_none_or(|t| r.tenant == t)).count()
        };
        let (of_tenant, in_all) = (waiting(Some(t)), waiting(None));
        match self.queue.push(new, self.now) {
            Ok(ticket) => {
                assert!(
                    of_tenant < self.tenant_rules(t).max_queued && in_all < self.rules.max_queued && expires > self.now
                );
                let (state, came_back, began) = (State::Waiting, false, self.now);
                self.requests.push(Request {
                    ticket,
                    tenant: t,
                    source,
                    lane,
                    expires,
                    fingerprint,
                    attempts: 0,
                    came_back,
                    began,
                    cancelled: false,
                    state,
                });
            }
            Err((refused, item)) => {
                assert_eq!(item, id);
                match refused {
                    Refused::TenantFull { limit, waiting } => {
                        assert_eq!((limit, waiting), (self.tenant_rules(t).max_queued, of_tenant));
                        assert!(waiting >= limit);
                    }
                    Refused::QueueFull { limit, waiting } => {
                        assert_eq!((limit, waiting), (self.rules.max_queued, in_all));
                        assert!(waiting >= limit);
                    }
                    Refused::Expired => assert_eq!(ttl, Duration::ZERO),
                    Refused::Quarantined { until } => {
                        assert!(until > self.now && self.strikes_within(fingerprint, 2 * WINDOW) > 0);
                    }
                }
            }
        }
        if self.strikes_within(fingerprint, WINDOW) >= 2 {
            assert_eq!(self.requests.len(), id, "two queriers vanished under it: it is not let in");
        }
    }

    fn next(&mut self, q: usize) {
        if self.queriers[q].awake == 0 {
            return;
        }
        let key = self.queriers[q].key.expect("who has slots has a key");
        self.let_time_pass();
        // Those whose time is over leave the queue now, and are told of afterwards.
        self.queriers[q].awake -= 1;
        match self.queue.next(key, self.now) {
            Turn::Run(job) => {
                self.queriers[q].awake += 1;
                self.give(q, &job);
                self.queriers[q].awake -= 1;
            }
            Turn::Wait => self.queriers[q].parked += 1,
        }
    }

    fn nth_running(&self, nth: usize) -> Option<usize> {
        let running: Vec<_> =
            (0..self.requests.len()).filter(|&id| matches!(self.requests[id].state, State::Running(_))).collect();
        (!running.is_empty()).then(|| running[nth % running.len()])
    }

    fn finish(&mut self, nth: usize, measured: Option<u64>) {
        let Some(id) = self.nth_running(nth) else { return };
        let State::Running(q) = self.requests[id].state else { return };
        let (ticket, t) = (self.requests[id].ticket, self.requests[id].tenant);
        self.queue.finished(ticket, measured, self.now);
        if let (Some(fingerprint), Some(_)) = (self.requests[id].fingerprint, measured) {
            self.strikes.remove(&fingerprint);
        }
        self.requests[id].state = State::Gone;
        self.seen.push((t, q, self.now));
        self.queriers[q].awake += 1;
        self.queue.finished(ticket, measured, self.now);
    }

    /// A request comes back; the slot is awake then.
    fn give_back(&mut self, id: usize, lost: Lost) {
        let State::Running(q) = self.requests[id].state else { return };
        let announced = matches!(self.queriers[q].there, There::Leaving(_));
        let (ticket, t) = (self.requests[id].ticket, self.requests[id].tenant);
        if lost == Lost::Unsent || announced {
            self.requests[id].attempts -= 1;
        } else if lost == Lost::Declined {
            // Somebody who is there cannot have been killed by it.
        } else if let Some(fingerprint) = self.requests[id].fingerprint {
            // What ran side by side on one that vanished is one strike.
            let (began, strikes) = (self.requests[id].began, self.strikes.entry(fingerprint).or_default());
            if !strikes.iter().any(|&(by, at)| by == q && began < at) {
                strikes.push((q, self.now));
            }
        }
        self.queue.returned(ticket, id, lost, self.now);
        (self.requests[id].state, self.requests[id].came_back) = (State::Waiting, true);
        self.seen.push((t, q, self.now));
        self.queriers[q].awake += 1;
    }

    fn cancel(&mut self, nth: usize) {
        if self.requests.is_empty() {
            return;
        }
        let id = nth % self.requests.len();
        match self.queue.cancel(self.requests[id].ticket) {
            Cancelled::Waiting(item) => {
                assert_eq!((item, self.requests[id].state), (id, State::Waiting));
                self.requests[id].state = State::Gone;
            }
            Cancelled::Running(key) => {
                let State::Running(q) = self.requests[id].state else { panic!("it does not run") };
                assert_eq!(self.queriers[q].key, Some(key));
                self.requests[id].cancelled = true;
            }
            Cancelled::Gone => assert_eq!(self.requests[id].state, State::Gone),
        }
    }

    fn attach(&mut self, q: usize) {
        if self.slots(q) >= 9 {
            return;
        }
        if self.queriers[q].there == There::No {
            self.joined.insert(q, self.now);
        }
        let key = self.queue.attach(&querier(q), self.now);
        self.queriers[q].key = Some(key);
        self.queriers[q].there = There::Serving;
        self.queriers[q].awake += 1;
    }

    fn detach(&mut self, q: usize) {
        let querier = &mut self.queriers[q];
        let Some(key) = querier.key.filter(|_| querier.awake + querier.parked > 0) else { return };
        if querier.awake == 0 {
            self.queue.withdraw_slot(key);
            querier.parked -= 1;
            querier.awake += 1;
        }
        querier.awake -= 1;
        self.queue.detach(key, self.now);
        if self.slots(q) == 0 {
            let querier = &mut self.queriers[q];
            match querier.there {
                There::Serving => querier.there = There::Vanished(self.now),
                There::Leaving(_) => *querier = Querier { there: There::No, key: None, awake: 0, parked: 0 },
                There::No | There::Vanished(_) => panic!("it had no slots"),
            }
        }
        self.let_time_pass();
    }

    /// Everything that a querier runs comes back, and it has no slots any more.
    fn crash(&mut self, q: usize) {
        for id in 0..self.requests.len() {
            if self.requests[id].state == State::Running(q) {
                self.give_back(id, Lost::InFlight);
            }
        }
        while self.slots(q) > 0 {
            self.detach(q);
        }
    }

    fn leave(&mut self, q: usize) {
        self.queue.leaving(&querier(q), self.now);
        let slots = self.slots(q);
        let querier = &mut self.queriers[q];
        match querier.there {
            There::Serving | There::Leaving(_) => querier.there = There::Leaving(self.now),
            There::Vanished(_) => {
                assert_eq!(slots, 0);
                *querier = Querier { there: There::No, key: None, awake: 0, parked: 0 };
            }
            There::No => {}
        }
    }

    /// Those that are forgotten, and those that did not leave.
    fn let_time_pass(&mut self) {
        for querier in &mut self.queriers {
            match querier.there {
                There::Vanished(since) if since + self.rules.querier_forget_delay <= self.now => {
                    *querier = Querier { there: There::No, key: None, awake: 0, parked: 0 };
                }
                There::Leaving(since) if querier.parked > 0 && since + LEAVES_WITHIN <= self.now => {
                    querier.there = There::Serving;
                }
                _ => {}
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.let_time_pass();
        self.queue.tick(self.now);
        assert!(self.queue.due().is_none_or(|due| due > self.now), "what is due is done");
    }

    /// Everybody comes to an end.
    fn drain(&mut self) {
        for q in 0..self.queriers.len() {
            (0..4).for_each(|_| self.attach(q));
        }
        self.settle();
        for _ in 0..10_000 {
            if self.with(|state| state != State::Gone).next().is_none() {
                return;
            }
            for q in 0..self.queriers.len() {
                (0..9).for_each(|_| self.next(q));
                self.settle();
            }
            self.finish(0, Some(1));
            self.settle();
        }
        let left: Vec<_> = self.with(|state| state != State::Gone).collect();
        panic!("these never ended: {left:#?}");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push { tenant: usize, source: u64, lane: Lane, cost: u64, ttl: Duration, fingerprint: Option<u64> },
    Next(usize),
    Finish(usize, Option<u64>),
    Cancel(usize),
    Advance(Duration),
    Attach(usize),
    Detach(usize),
    Crash(usize),
    Declined(usize),
    Unsent(usize),
    Leave(usize),
    Reload(Box<Rules>),
}

fn lanes() -> impl Strategy<Value = Lane> {
    prop_oneof![1 => Just(Lane::Alert), 2 => Just(Lane::Small), 3 => Just(Lane::Normal)]
}

fn tenant_rules() -> impl Strategy<Value = TenantRules> {
    let sizes = prop_oneof![
        3 => Just(ShardSize::All),
        2 => (1_usize..4).prop_map(|n| ShardSize::Count(NonZeroUsize::new(n).expect("not zero"))),
        1 => (1_u16..=1000).prop_map(|n| ShardSize::Share(thousandths(n))),
    ];
    (1_u32..5000, 0_usize..12, 100_u16..=1000, sizes).prop_map(|(weight, max_queued, max_in_flight, max_queriers)| {
        TenantRules {
            weight: Weight::from_thousandths(weight).expect("a weight"),
            max_queued,
            max_in_flight: thousandths(max_in_flight),
            max_queriers,
        }
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let tenants = prop::collection::hash_map(0_usize..5, tenant_rules(), 0..4);
    let times = (0_u64..90, 0_u64..90);
    (tenant_rules(), tenants, 5_usize..40, 1_u16..500, 1_u16..500, times).prop_map(
        |(default_tenant, tenants, max_queued, alert_share, small_share, (lend_after, forget))| Rules {
            max_queued,
            default_tenant,
            tenants: tenants.into_iter().map(|(t, rules)| (tenant(t), rules)).collect(),
            alert_share: thousandths(alert_share),
            small_share: thousandths(small_share),
            lend_after: Duration::from_secs(lend_after),
            querier_forget_delay: Duration::from_secs(forget),
            ..Rules::default()
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let ttl = prop_oneof![1 => 0_u64..3, 6 => 3_u64..100, 6 => 1000_u64..5000].prop_map(Duration::from_secs);
    let fingerprint = prop_oneof![3 => Just(None), 2 => (0_u64..3).prop_map(Some)];
    let push = (0_usize..5, 0_u64..3, lanes(), 0_u64..2000, ttl, fingerprint);
    let push = push.prop_map(|(tenant, source, lane, cost, ttl, fingerprint)| Op::Push {
        tenant,
        source,
        lane,
        cost,
        ttl,
        fingerprint,
    });
    let time = prop_oneof![4 => 0_u64..2000, 2 => 2_000_u64..70_000, 1 => 100_000_u64..400_000];
    prop_oneof![
        30 => push,
        30 => (0_usize..5).prop_map(Op::Next),
        15 => (0_usize..40, prop::option::weighted(0.8, 0_u64..20_000)).prop_map(|(nth, cost)| Op::Finish(nth, cost)),
        4 => (0_usize..400).prop_map(Op::Cancel),
        6 => time.prop_map(|ms| Op::Advance(Duration::from_millis(ms))),
        8 => (0_usize..5).prop_map(Op::Attach),
        2 => (0_usize..5).prop_map(Op::Detach),
        2 => (0_usize..5).prop_map(Op::Crash),
        2 => (0_usize..40).prop_map(Op::Unsent),
        2 => (0_usize..40).prop_map(Op::Declined),
        1 => (0_usize..5).prop_map(Op::Leave),
        1 => rules().prop_map(|rules| Op::Reload(Box::new(rules))),
    ]
}

fn play(rules: Rules, ops: Vec<Op>) -> usize {
    let mut model = Model::new(rules);
    for op in ops {
        match op {
            Op::Push { tenant, source, lane, cost, ttl, fingerprint } => {
                model.push(tenant, source, lane, cost, ttl, fingerprint);
            }
            Op::Next(q) => model.next(q),
            Op::Finish(nth, measured) => model.finish(nth, measured),
            Op::Cancel(nth) => model.cancel(nth),
            Op::Advance(by) => model.advance(by),
            Op::Attach(q) => model.attach(q),
            Op::Detach(q) => model.detach(q),
            Op::Crash(q) => model.crash(q),
            Op::Declined(nth) => {
                if let Some(id) = model.nth_running(nth) {
                    model.give_back(id, Lost::Declined);
                }
            }
            Op::Unsent(nth) => {
                if let Some(id) = model.nth_running(nth) {
                    model.give_back(id, Lost::Unsent);
                }
            }
            Op::Leave(q) => model.leave(q),
            Op::Reload(rules) => {
                model.rules = (*rules).clone();
                model.queue.reload(*rules, model.now);
                model.let_time_pass();
            }
        }
        model.settle();
    }
    model.drain();
    model.given
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is lost, nothing is given twice or after its end, no limit is broken, and no slot waits beside work for it.
    #[test]
    fn the_queue_does_what_the_naive_model_allows(rules in rules(), ops in prop::collection::vec(op(), 1..120)) {
        play(rules, ops);
    }
}

/// A tenant that is confined is lent what its cap keeps free at one of its queriers, if somebody else was seen lately at another. (Found
/// at random.)
#[test]
fn what_is_not_lent_at_one_querier_is_lent_at_another() {
    let of_tenant = |max_queued, max_queriers| TenantRules {
        weight: Weight::from_thousandths(1).expect("a weight"),
        max_queued,
        max_in_flight: thousandths(100),
        max_queriers,
    };
    let of_all = |default_tenant, tenants, lend_after| Rules {
        max_queued: 5,
        default_tenant,
        tenants,
        alert_share: thousandths(1),
        small_share: thousandths(1),
        lend_after: Duration::from_secs(lend_after),
        querier_forget_delay: Duration::ZERO,
        ..Rules::default()
    };
    let push = |tenant, source, lane, seconds| Op::Push {
        tenant,
        source,
        lane,
        cost: 0,
        ttl: Duration::from_secs(seconds),
        fingerprint: None,
    };
    let own = [(tenant(4), of_tenant(4, ShardSize::All))].into_iter().collect();
    let first = of_all(of_tenant(0, ShardSize::All), own, 0);
    let two = ShardSize::Count(NonZeroUsize::new(2).expect("not zero"));
    let then = of_all(of_tenant(1, two), [].into_iter().collect(), 1);
    play(
        first,
        vec![
            push(4, 0, Lane::Alert, 1),
            Op::Attach(0),
            push(0, 0, Lane::Alert, 0),
            push(4, 0, Lane::Alert, 3),
            Op::Cancel(0),
            push(4, 0, Lane::Normal, 1),
            push(4, 0, Lane::Alert, 1),
            Op::Attach(2),
            Op::Cancel(29),
            push(4, 1, Lane::Alert, 1),
            Op::Attach(1),
            Op::Next(0),
            Op::Next(2),
            Op::Attach(4),
            Op::Next(4),
            Op::Finish(9, None),
            Op::Finish(14, None),
            push(0, 0, Lane::Alert, 0),
            push(4, 0, Lane::Alert, 1),
            Op::Attach(4),
            Op::Attach(2),
            push(4, 0, Lane::Alert, 1),
            Op::Next(0),
            Op::Next(1),
            Op::Next(2),
            Op::Reload(Box::new(then)),
            Op::Next(4),
            push(0, 0, Lane::Alert, 0),
            push(0, 0, Lane::Alert, 1),
            Op::Advance(Duration::from_secs(2)),
            Op::Next(4),
            Op::Finish(11, None),
            push(4, 0, Lane::Alert, 1),
        ],
    );
}
