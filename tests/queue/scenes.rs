//! Scenes: each promise in a few lines.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use promfront::sched::queue::rules::{Rules, TenantRules};
use promfront::sched::queue::words::{
    Cancelled, DropReason, Effect, Fingerprint, Job, Lane, Lost, NewRequest, QuerierKey, Refused, Source, Ticket, Turn,
};
use promfront::sched::queue::{Queue, Standing};
use promfront::sched::shuffle::Share;

use crate::{SECOND, WINDOW, querier, tenant};

/// A queue with people around it, for scenes of a few lines.
struct Scene {
    queue: Queue<&'static str>,
    now: Instant,
    parked: Vec<QuerierKey>,
}

#[derive(Clone, Copy)]
struct Sent {
    tenant: usize,
    source: u64,
    lane: Lane,
    cost: u64,
    ttl: Duration,
    fingerprint: Option<u64>,
}

const USUAL: Sent =
    Sent { tenant: 0, source: 0, lane: Lane::Normal, cost: 10, ttl: Duration::from_mins(30), fingerprint: None };

impl Scene {
    fn new(rules: Rules) -> Self {
        let now = Instant::now();
        Self { queue: Queue::new(rules, now), now, parked: Vec::new() }
    }

    fn attach(&mut self, q: usize, slots: usize) -> QuerierKey {
        let keys: Vec<_> = (0..slots).map(|_| self.queue.attach(&querier(q), self.now)).collect();
        keys[0]
    }

    fn send(&mut self, item: &'static str, sent: Sent) -> Ticket {
        self.try_send(item, sent).expect("it is let in")
    }

    fn send_many(&mut self, requests: usize, item: &'static str, sent: Sent) {
        for _ in 0..requests {
            self.send(item, sent);
        }
    }

    fn try_send(&mut self, item: &'static str, sent: Sent) -> Result<Ticket, Refused> {
        let Sent { tenant: t, source, lane, cost, ttl, fingerprint } = sent;
        let (tenant, source, expires) = (tenant(t), Source(source), self.now + ttl);
        let fingerprint = fingerprint.map(Fingerprint);
        let new = NewRequest { item, tenant, source, lane, cost, expires, fingerprint };
        self.queue.push(new, self.now).map_err(|(refused, _)| refused)
    }

    fn next(&mut self, key: QuerierKey) -> Option<Job<&'static str>> {
        let turn = self.queue.next(key, self.now);
        self.queue.check();
        match turn {
            Turn::Run(job) => Some(job),
            Turn::Wait => {
                self.parked.push(key);
                None
            }
        }
    }

    /// What one slot after another is given, until one waits.
    fn all(&mut self, key: QuerierKey, most: usize) -> Vec<Job<&'static str>> {
        (0..most).map_while(|_| self.next(key)).collect()
    }

    fn effects(&mut self) -> Vec<Effect<&'static str>> {
        let effects = std::iter::from_fn(|| self.queue.effect(self.now)).collect();
        self.queue.check();
        effects
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.queue.tick(self.now);
        self.queue.check();
    }
}

fn items(jobs: &[Job<&'static str>]) -> Vec<&'static str> {
    jobs.iter().map(|job| job.item).collect()
}

#[test]
fn a_flood_leaves_slots_free_until_it_has_been_alone_for_a_minute() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 16);
    scene.send_many(20, "flood", USUAL);
    assert_eq!(scene.all(q, 16).len(), 12, "three quarters of the slots");
    assert!(scene.all(q, 1).is_empty());
    assert_eq!(scene.effects(), []);
    scene.pass(SECOND * 59);
    assert_eq!(scene.effects(), []);
    assert_eq!(scene.queue.due(), Some(scene.now + SECOND), "the caller is told when to ask again");
    scene.pass(SECOND);
    let lent = scene.effects();
    assert_eq!(lent.len(), 2, "two slots wait: {lent:?}");
    scene.all(q, 2);
    let running = scene.queue.snapshot(scene.now).lanes[Lane::Normal].running;
    assert_eq!(running, 14, "two slots stay closed to what is not small");
}

#[test]
fn what_was_lent_is_returned_when_somebody_else_is_there() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 16);
    scene.send_many(30, "flood", Sent { lane: Lane::Small, ..USUAL });
    let mut running = scene.all(q, 12);
    scene.pass(SECOND * 60);
    running.extend(scene.all(q, 4));
    assert_eq!(running.len(), 16, "alone, it has all");
    scene.send("other", Sent { tenant: 1, lane: Lane::Small, ..USUAL });
    assert_eq!(scene.effects(), [], "nothing is interrupted");
    for expected in [Some("other"), None, None, None] {
        let job = running.pop().expect("it runs");
        scene.queue.finished(job.ticket, Some(10), scene.now);
        let next = scene.next(q).map(|job| job.item);
        assert_eq!(next, expected, "the flood holds more than it may");
    }
    let job = running.pop().expect("it runs");
    scene.queue.finished(job.ticket, Some(10), scene.now);
    assert_eq!(scene.effects().len(), 1, "it holds eleven now and may have twelve");
}

#[test]
fn who_runs_one_long_query_is_there() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 8);
    let small = Sent { lane: Lane::Small, ..USUAL };
    let long = scene.send("long", Sent { tenant: 1, ..small });
    scene.next(q);
    scene.send_many(20, "flood", small);
    assert_eq!(scene.all(q, 7).len(), 6, "its cap");
    scene.pass(SECOND * 600);
    assert_eq!(scene.effects(), [], "somebody else is there");
    scene.queue.finished(long, Some(10), scene.now);
    assert_eq!(scene.effects(), [], "and was a moment ago");
    assert_eq!(scene.queue.due(), Some(scene.now + SECOND * 60));
    scene.pass(SECOND * 60);
    assert_eq!(scene.effects().len(), 1);
}

#[test]
fn two_that_wait_on_one_querier_are_not_alone() {
    let tenth = TenantRules { max_in_flight: Share::from_thousandths(100).expect("a share"), ..TenantRules::default() };
    let mut scene = Scene::new(Rules { default_tenant: tenth.confined_to(1), ..Rules::default() });
    let keys = [scene.attach(0, 8), scene.attach(1, 8)];
    for t in 0..8 {
        scene.send_many(2, "one", Sent { tenant: t, lane: Lane::Small, ..USUAL });
    }
    for key in keys {
        assert!(scene.all(key, 8).len() >= 2, "each of its tenants has one slot");
    }
    scene.pass(SECOND * 600);
    assert_eq!(scene.effects(), []);
}

#[test]
fn small_requests_have_slots_that_big_ones_cannot_take() {
    let rules = Rules::default();
    assert_eq!([1, 3, 4, 8, 9, 16].map(|slots| rules.kept_for_small(slots)), [0, 0, 1, 1, 2, 2]);
    let greedy = Rules { small_share: Share::ALL, ..Rules::default() };
    assert_eq!(greedy.kept_for_small(8), 7, "one is left for the others");
    let mut scene = Scene::new(rules);
    let q = scene.attach(0, 16);
    for t in 0..4 {
        scene.send_many(10, "big", Sent { tenant: t, cost: 30_000, ..USUAL });
    }
    assert_eq!(scene.all(q, 16).len(), 14);
    scene.send("big", Sent { tenant: 5, ..USUAL });
    assert_eq!(scene.effects(), [], "also not for somebody new");
    scene.send("small", Sent { tenant: 0, lane: Lane::Small, ..USUAL });
    let effects = scene.effects();
    let [Effect::Give { querier, job }] = &effects[..] else { panic!("one slot and no other: {effects:?}") };
    assert_eq!((*querier, job.item), (q, "small"));
}

#[test]
fn alerts_go_first_within_their_share_and_then_in_turn() {
    let all = TenantRules { max_in_flight: Share::ALL, ..TenantRules::default() };
    let mut scene = Scene::new(Rules { default_tenant: all, ..Rules::default() });
    let q = scene.attach(0, 8);
    for _ in 0..8 {
        scene.send("dashboard", Sent { tenant: 0, lane: Lane::Small, ..USUAL });
        scene.send("alert", Sent { tenant: 1, lane: Lane::Alert, ..USUAL });
    }
    let given = items(&scene.all(q, 8));
    assert_eq!(given[..2], ["alert", "alert"], "a quarter of eight");
    assert_eq!(
        given.iter().filter(|&&item| item == "alert").count(),
        4,
        "and no more than its share in all: {given:?}"
    );
}

#[test]
fn alerts_do_not_wait_behind_what_else_their_tenant_runs() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 16);
    scene.send_many(20, "flood", Sent { lane: Lane::Small, ..USUAL });
    assert_eq!(scene.all(q, 16).len(), 12);
    scene.send_many(20, "alert", Sent { lane: Lane::Alert, ..USUAL });
    scene.all(q, 3);
    scene.effects();
    let lanes = scene.queue.snapshot(scene.now).lanes;
    assert_eq!((lanes[Lane::Alert].running, lanes[Lane::Small].running), (3, 12), "one slot stays free for others");
}

#[test]
fn one_dashboard_does_not_starve_another() {
    let mut scene = Scene::new(Rules::default());
    scene.send_many(9, "much", Sent { source: 1, ..USUAL });
    scene.send("little", Sent { source: 2, ..USUAL });
    let q = scene.attach(0, 2);
    assert_eq!(items(&scene.all(q, 2)), ["much", "little"]);
}

#[test]
fn inside_one_source_small_requests_do_not_starve_big_ones() {
    let mut scene = Scene::new(Rules::default());
    scene.send("big", USUAL);
    scene.pass(SECOND);
    scene.send("small", Sent { lane: Lane::Small, ..USUAL });
    let q = scene.attach(0, 4);
    assert_eq!(scene.next(q).map(|job| job.item), Some("big"), "it has waited longer");
}

#[test]
fn a_push_wakes_exactly_one_slot_of_the_least_busy_querier() {
    let mut scene = Scene::new(Rules::default());
    let (a, b) = (scene.attach(0, 8), scene.attach(1, 8));
    for key in [a, b] {
        assert!((0..3).all(|_| scene.next(key).is_none()));
    }
    let mut givens = Vec::new();
    for _ in 0..4 {
        scene.send("one", USUAL);
        let effects = scene.effects();
        let [Effect::Give { querier, .. }] = &effects[..] else { panic!("one and no other: {effects:?}") };
        givens.push(*querier);
    }
    givens.sort_unstable();
    assert_eq!(givens, [a, a, b, b]);
}

#[test]
fn a_push_of_a_confined_tenant_wakes_one_of_its_queriers() {
    let confined = TenantRules::default().confined_to(1);
    let mut scene = Scene::new(Rules { default_tenant: confined, ..Rules::default() });
    let keys: Vec<_> = (0..10).map(|q| scene.attach(q, 4)).collect();
    for &key in &keys {
        assert!((0..4).all(|_| scene.next(key).is_none()));
    }
    let mut seen = BTreeSet::new();
    for t in 0..10 {
        for _ in 0..3 {
            scene.send("one", Sent { tenant: t, lane: Lane::Small, ..USUAL });
        }
        let effects = scene.effects();
        let queriers: BTreeSet<_> = effects
            .iter()
            .filter_map(|e| if let Effect::Give { querier, .. } = e { Some(*querier) } else { None })
            .collect();
        assert_eq!(queriers.len(), 1, "all on its own querier: {effects:?}");
        seen.extend(queriers);
    }
    assert!(seen.len() > 3, "not all on the same one");
}

#[test]
fn a_vanished_querier_keeps_its_place_for_a_while_and_one_that_left_does_not() {
    let confined = TenantRules::default().confined_to(1);
    for announced in [false, true] {
        let mut scene = Scene::new(Rules { default_tenant: confined, ..Rules::default() });
        let keys: Vec<_> = (0..4).map(|q| scene.attach(q, 1)).collect();
        let first = scene.send("one", USUAL);
        let waiting: Vec<_> = keys.iter().filter(|&&key| scene.next(key).is_none()).copied().collect();
        let home = *keys.iter().find(|key| !waiting.contains(key)).expect("one has it");
        let ticket = scene.send("two", USUAL);
        scene.queue.finished(first, Some(10), scene.now);
        assert_eq!(scene.effects(), [], "the slot that is free now has yet to ask");
        let at_home = keys.iter().position(|&key| key == home).expect("one of them");
        if announced {
            scene.queue.leaving(&querier(at_home), scene.now);
            assert_eq!(scene.effects().len(), 1, "somebody else has it at once");
            continue;
        }
        scene.queue.detach(home, scene.now);
        assert_eq!(scene.effects(), [], "it is not led to the next one");
        scene.pass(SECOND * 59);
        assert_eq!(scene.effects(), []);
        scene.pass(SECOND);
        let effects = scene.effects();
        let [Effect::Give { job, .. }] = &effects[..] else { panic!("it does not starve: {effects:?}") };
        assert_eq!(job.ticket, ticket);
    }
}

#[test]
fn shorter_delays_hold_at_once() {
    let confined = TenantRules::default().confined_to(1);
    let mut rules = Rules { default_tenant: confined, ..Rules::default() };
    let mut scene = Scene::new(rules.clone());
    let keys = [scene.attach(0, 1), scene.attach(1, 1)];
    scene.send("one", USUAL);
    let given = [scene.next(keys[0]), scene.next(keys[1])];
    let home = given.iter().position(Option::is_some).expect("one has it");
    let ticket = given.into_iter().flatten().next().expect("one has it").ticket;
    scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
    scene.queue.detach(keys[home], scene.now);
    assert_eq!(scene.effects(), []);
    scene.pass(SECOND * 5);
    rules.querier_forget_delay = SECOND * 3;
    scene.queue.reload(rules, scene.now);
    assert_eq!(scene.effects().len(), 1, "the one that vanished is forgotten");
}

#[test]
fn a_querier_that_announced_and_stays_is_given_work_again() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 1);
    assert!(scene.next(q).is_none());
    scene.queue.leaving(&querier(0), scene.now);
    scene.send("one", USUAL);
    assert_eq!(scene.effects(), []);
    assert_eq!(scene.queue.snapshot(scene.now).queriers[0].standing, Standing::Leaving { since: scene.now });
    scene.pass(SECOND * 5);
    assert_eq!(scene.effects().len(), 1, "the notice concerned another connection");
}

#[test]
fn a_query_that_kills_two_queriers_is_locked_away() {
    let mut scene = Scene::new(Rules { max_attempts: 5, ..Rules::default() });
    let poison = Sent { fingerprint: Some(1), ..USUAL };
    let keys: Vec<_> = (0..4).map(|q| scene.attach(q, 4)).collect();
    let first = scene.send("poison", poison);
    scene.send_many(3, "again", poison);
    assert_eq!(scene.next(keys[0]).map(|job| job.ticket), Some(first));
    scene.queue.returned(first, "poison", Lost::InFlight, scene.now);
    (0..4).for_each(|_| scene.queue.detach(keys[0], scene.now));
    scene.send("other", USUAL);
    let retried = scene.next(keys[1]).expect("it is tried once more");
    assert_eq!((retried.ticket, retried.attempt), (first, 2), "it went to the front");
    assert_eq!(scene.next(keys[2]).map(|job| job.item), Some("other"), "one like it is tried at a time");
    assert_eq!(scene.next(keys[2]).map(|job| job.item), None);
    assert_eq!(scene.queue.snapshot(scene.now).tenants[0].held, 3);
    scene.pass(SECOND * 299);
    scene.queue.returned(first, "poison", Lost::InFlight, scene.now);
    let until = scene.now + WINDOW;
    let quarantined = DropReason::Quarantined { until };
    let drops = scene.effects();
    assert_eq!(drops.len(), 4, "{drops:?}");
    assert!(drops.iter().all(|e| matches!(e, Effect::Drop { reason, .. } if *reason == quarantined)));
    assert_eq!(scene.try_send("again", poison), Err(Refused::Quarantined { until }));
    scene.pass(WINDOW);
    let later = scene.send("again", poison);
    assert_eq!(scene.effects().len(), 1, "it may be tried once more");
    scene.queue.returned(later, "again", Lost::InFlight, scene.now);
    let until = scene.now + WINDOW * 2;
    assert_eq!(scene.try_send("again", poison), Err(Refused::Quarantined { until }), "for twice as long");
}

#[test]
fn a_query_that_is_answered_is_acquitted() {
    let mut scene = Scene::new(Rules { max_attempts: 9, ..Rules::default() });
    let q = scene.attach(0, 8);
    let suspect = Sent { fingerprint: Some(1), ..USUAL };
    for _ in 0..3 {
        let ticket = scene.send("one", suspect);
        scene.next(q);
        scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
        assert_eq!(scene.next(q).map(|job| job.ticket), Some(ticket));
        scene.send_many(2, "held", suspect);
        assert_eq!(scene.next(q), None, "they are held");
        scene.queue.finished(ticket, Some(10), scene.now);
        let freed = scene.effects();
        let [Effect::Give { job, .. }] = &freed[..] else { panic!("one slot waits: {freed:?}") };
        let other = scene.next(q).expect("the other one");
        assert_eq!(scene.queue.snapshot(scene.now).suspects, 0);
        for ticket in [job.ticket, other.ticket] {
            scene.queue.finished(ticket, None, scene.now);
        }
    }
}

#[test]
fn a_suspect_that_was_not_answered_lets_the_next_one_try() {
    let mut scene = Scene::new(Rules { max_attempts: 9, ..Rules::default() });
    let q = scene.attach(0, 8);
    let suspect = Sent { fingerprint: Some(1), ..USUAL };
    let ticket = scene.send("one", suspect);
    scene.next(q);
    scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
    scene.next(q);
    scene.send_many(3, "held", suspect);
    assert_eq!(scene.next(q), None);
    scene.queue.finished(ticket, None, scene.now);
    assert_eq!(scene.effects().len(), 1, "its client went away, which proves nothing");
    assert_eq!(scene.next(q), None, "the others are held beside the next one");
    assert_eq!(scene.queue.snapshot(scene.now).tenants[0].held, 2);
}

#[test]
fn queriers_that_vanish_long_after_one_another_prove_nothing() {
    let mut scene = Scene::new(Rules { max_attempts: 9, ..Rules::default() });
    let q = scene.attach(0, 1);
    let ticket = scene.send("one", Sent { fingerprint: Some(1), ..USUAL });
    for attempt in 1..=4 {
        assert_eq!(scene.next(q).map(|job| job.attempt), Some(attempt));
        scene.pass(WINDOW);
        scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
    }
    assert_eq!(scene.effects(), []);
}

#[test]
fn a_source_pays_what_its_queries_turned_out_to_cost() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 2);
    scene.send_many(5, "underestimated", Sent { source: 1, ..USUAL });
    scene.send_many(60, "other", Sent { source: 2, ..USUAL });
    let first = scene.next(q).expect("something");
    assert_eq!(first.item, "underestimated");
    scene.queue.finished(first.ticket, Some(500), scene.now);
    for i in 0..50 {
        let job = scene.next(q).expect("something");
        assert_eq!(job.item, "other", "after {i} of them");
        scene.queue.finished(job.ticket, Some(10), scene.now);
    }
    assert_eq!(scene.next(q).map(|job| job.item), Some("underestimated"));
}

#[test]
fn a_source_that_sends_one_at_a_time_pays_too() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 2);
    scene.send_many(60, "other", Sent { source: 2, ..USUAL });
    scene.send("underestimated", Sent { source: 1, ..USUAL });
    for turn in 0..50 {
        let job = scene.next(q).expect("something");
        let is_underestimated = job.item == "underestimated";
        assert!(!is_underestimated || turn < 2, "it has not paid yet");
        scene.queue.finished(job.ticket, Some(if is_underestimated { 900 } else { 10 }), scene.now);
        if is_underestimated {
            scene.send("underestimated", Sent { source: 1, ..USUAL });
        }
    }
}

#[test]
fn what_never_ran_is_not_charged() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 1);
    for t in 0..2 {
        (1..3).for_each(|source| scene.send_many(2, "one", Sent { tenant: t, source, cost: 1000, ..USUAL }));
    }
    let first = scene.next(q).expect("something");
    scene.queue.returned(first.ticket, first.item, Lost::Unsent, scene.now);
    assert_eq!(
        scene.next(q).map(|job| job.ticket),
        Some(first.ticket),
        "its tenant and its source are where they were"
    );
}

#[test]
fn what_is_remembered_of_debts_has_a_bound() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 4);
    scene.send("runs", USUAL);
    scene.next(q);
    let source = |i| Sent { source: i, lane: Lane::Small, ..USUAL };
    let other = |i| Sent { tenant: 1 + usize::try_from(i).expect("small"), ..source(i) };
    // Many sources of one tenant, and then many tenants. Each pays for one query and is not seen again.
    for sent in (0..200).map(source).chain((0..11_000).map(other)) {
        scene.send("one", sent);
        let Turn::Run(job) = scene.queue.next(q, scene.now) else { panic!("there is one") };
        scene.queue.finished(job.ticket, Some(1000), scene.now);
    }
    scene.queue.check();
}

#[test]
fn what_never_reached_a_querier_is_no_attempt() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 1);
    let ticket = scene.send("one", Sent { fingerprint: Some(1), ..USUAL });
    for _ in 0..9 {
        assert_eq!(scene.next(q).map(|job| job.attempt), Some(1));
        scene.queue.returned(ticket, "one", Lost::Unsent, scene.now);
    }
    scene.next(q);
    scene.queue.leaving(&querier(0), scene.now);
    scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
    let other = scene.attach(1, 1);
    assert_eq!(scene.next(other).map(|job| job.attempt), Some(1), "one that announced that it leaves kills nothing");
    assert_eq!(scene.queue.snapshot(scene.now).suspects, 0);
}

#[test]
fn attempts_have_an_end() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 1);
    let ticket = scene.send("one", USUAL);
    for _ in 0..2 {
        assert!(scene.next(q).is_some());
        scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
    }
    let reason = DropReason::AttemptsSpent { attempts: 2 };
    assert_eq!(scene.effects(), [Effect::Drop { ticket, item: "one", reason }]);
}

#[test]
fn limits_say_which_they_are_and_a_lowered_one_stops_nothing() {
    let mut rules = Rules { max_queued: 4, ..Rules::default() };
    rules.default_tenant.max_queued = 3;
    let mut scene = Scene::new(rules.clone());
    scene.send_many(3, "one", USUAL);
    assert_eq!(scene.try_send("one", USUAL), Err(Refused::TenantFull { limit: 3, waiting: 3 }));
    scene.send("other", Sent { tenant: 1, ..USUAL });
    assert_eq!(scene.try_send("other", Sent { tenant: 1, ..USUAL }), Err(Refused::QueueFull { limit: 4, waiting: 4 }));
    assert_eq!(scene.try_send("late", Sent { ttl: Duration::ZERO, ..USUAL }), Err(Refused::Expired));
    rules.default_tenant.max_queued = 1;
    scene.queue.reload(rules, scene.now);
    assert_eq!(scene.try_send("one", USUAL), Err(Refused::TenantFull { limit: 1, waiting: 3 }));
    let q = scene.attach(0, 8);
    assert_eq!(scene.all(q, 4).len(), 4, "what waits is served");
}

#[test]
fn who_was_idle_has_no_credit_and_who_lied_has_no_lasting_one() {
    let all = TenantRules { max_in_flight: Share::ALL, ..TenantRules::default() };
    let mut scene = Scene::new(Rules { default_tenant: all, ..Rules::default() });
    let q = scene.attach(0, 2);
    let busy = Sent { lane: Lane::Small, cost: 100, ..USUAL };
    scene.send("busy", busy);
    for _ in 0..1000 {
        scene.send("busy", busy);
        let job = scene.next(q).expect("something");
        scene.queue.finished(job.ticket, Some(100), scene.now);
    }
    scene.send_many(20, "busy", busy);
    scene.send_many(20, "idle", Sent { tenant: 1, ..busy });
    let mut given = Vec::new();
    for _ in 0..20 {
        let job = scene.next(q).expect("something");
        scene.queue.finished(job.ticket, Some(100), scene.now);
        given.push(job.item);
    }
    let of_idle = given.iter().filter(|&&item| item == "idle").count();
    assert!((9..=11).contains(&of_idle), "half and half: {given:?}");
}

#[test]
fn who_has_something_running_and_nothing_waiting_has_no_credit_either() {
    let all = TenantRules { max_in_flight: Share::ALL, ..TenantRules::default() };
    let mut scene = Scene::new(Rules { default_tenant: all, ..Rules::default() });
    let q = scene.attach(0, 3);
    let small = Sent { lane: Lane::Small, cost: 100, ..USUAL };
    // Two tenants, and inside the first of them two sources, of which one has one long query running all the time.
    let (patient, hasty) = (Sent { tenant: 1, ..small }, Sent { source: 1, ..small });
    scene.send("runs", patient);
    scene.next(q);
    scene.send("runs", small);
    scene.next(q);
    scene.send("hasty", hasty);
    for _ in 0..1000 {
        scene.send("hasty", hasty);
        let job = scene.next(q).expect("something");
        scene.queue.finished(job.ticket, Some(100), scene.now);
    }
    scene.send_many(40, "hasty", hasty);
    scene.send_many(40, "quiet", small);
    scene.send_many(40, "patient", patient);
    let given: Vec<_> = (0..40)
        .map(|_| {
            let job = scene.next(q).expect("something");
            scene.queue.finished(job.ticket, Some(100), scene.now);
            job.item
        })
        .collect();
    let of = |wanted| given.iter().filter(|&&item| item == wanted).count();
    assert!(
        of("patient").abs_diff(20) <= 1 && of("hasty").abs_diff(10) <= 1 && of("quiet").abs_diff(10) <= 1,
        "{given:?}"
    );
}

#[test]
fn what_is_cancelled_while_it_runs_is_not_run_again() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 1);
    let ticket = scene.send("one", USUAL);
    scene.next(q);
    assert_eq!(scene.queue.cancel(ticket), Cancelled::Running(q));
    scene.queue.returned(ticket, "one", Lost::InFlight, scene.now);
    assert_eq!(scene.effects(), [Effect::Drop { ticket, item: "one", reason: DropReason::Cancelled }]);
    assert_eq!(scene.queue.cancel(ticket), Cancelled::Gone);
}

#[test]
fn an_empty_queue_remembers_nothing() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 4);
    for t in 0..1000 {
        let ticket = scene.send("one", Sent { tenant: t, source: t as u64, ..USUAL });
        if t % 2 == 0 {
            scene.queue.cancel(ticket);
        } else {
            let job = scene.next(q).expect("something");
            scene.queue.finished(job.ticket, Some(1000), scene.now);
        }
    }
    let snapshot = scene.queue.snapshot(scene.now);
    assert_eq!((snapshot.tenants.len(), scene.queue.waiting(), scene.queue.due()), (0, 0, None));
    assert!(!format!("{:?}", scene.queue).contains("tenant-"), "no name is left behind");
}

#[test]
fn a_snapshot_shows_what_waits_and_runs() {
    let mut scene = Scene::new(Rules::default());
    let q = scene.attach(0, 2);
    scene.send("runs", USUAL);
    scene.send("waits", Sent { tenant: 1, lane: Lane::Alert, ..USUAL });
    scene.pass(SECOND);
    scene.next(q);
    scene.pass(SECOND * 2);
    let snapshot = scene.queue.snapshot(scene.now);
    assert_eq!(snapshot.tenants.len(), 2);
    assert_eq!((snapshot.lanes[Lane::Alert].running, snapshot.lanes[Lane::Normal].waiting), (1, 1));
    assert_eq!(snapshot.tenants[0].total().oldest_wait, SECOND * 3);
    assert_eq!((snapshot.slots, snapshot.queriers[0].slots, snapshot.queriers[0].running[Lane::Alert]), (2, 2, 1));
}
