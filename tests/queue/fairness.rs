//! Fairness in the terms of the theory: between those that always have something waiting, what they are served differs by a bound.

use std::time::Instant;

use promfront::sched::queue::Queue;
use promfront::sched::queue::account::Weight;
use promfront::sched::queue::rules::{Rules, TenantRules};
use promfront::sched::queue::words::{Job, Lane, NewRequest, QuerierKey, Source, Turn};
use promfront::sched::shuffle::Share;
use proptest::prelude::*;

use crate::{WINDOW, querier, tenant};

/// One querier, tenants that always have something waiting, and what each was served.
struct Race {
    queue: Queue<(usize, u64)>,
    now: Instant,
    keys: Vec<QuerierKey>,
    running: Vec<(QuerierKey, Job<(usize, u64)>)>,
    /// What each was given so far, by true cost.
    served: Vec<u64>,
}

impl Race {
    fn new(slots: usize, weights: &[u32]) -> Self {
        let weight = |&weight: &u32| Weight::from_thousandths(weight * 1000).expect("a weight");
        let all = TenantRules { max_in_flight: Share::ALL, ..TenantRules::default() };
        let tenants =
            weights.iter().map(weight).enumerate().map(|(t, w)| (tenant(t), TenantRules { weight: w, ..all }));
        let rules = Rules { default_tenant: all, tenants: tenants.collect(), ..Rules::default() };
        let now = Instant::now();
        let mut queue = Queue::new(rules, now);
        let keys = (0..slots).map(|_| queue.attach(&querier(0), now)).collect();
        Self { queue, now, keys, running: Vec::new(), served: vec![0; weights.len()] }
    }

    fn push(&mut self, t: usize, source: u64, cost: u64, estimate: u64) {
        let (tenant, source, expires) = (tenant(t), Source(source), self.now + WINDOW);
        let (lane, fingerprint) = (Lane::Small, None);
        let new = NewRequest { item: (t, cost), tenant, source, lane, cost: estimate, expires, fingerprint };
        self.queue.push(new, self.now).expect("there is room");
    }

    /// Fills the free slots; whose requests were taken.
    fn fill(&mut self) -> Vec<usize> {
        let mut taken = Vec::new();
        while let Some(key) = self.keys.pop() {
            let Turn::Run(job) = self.queue.next(key, self.now) else { panic!("there is something for everybody") };
            self.served[job.item.0] += job.item.1;
            taken.push(job.item.0);
            self.running.push((key, job));
        }
        taken
    }

    fn finish(&mut self, nth: usize) {
        let (key, job) = self.running.swap_remove(nth % self.running.len());
        self.queue.finished(job.ticket, Some(job.item.1), self.now);
        self.keys.push(key);
    }
}

/// Cost and the factor, in hundredths, by which the estimate is wrong.
fn work(wrong_by: u64) -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
    let factor = prop_oneof![10_000 / wrong_by.max(100)..=100, 100..=wrong_by.max(100)];
    prop::collection::vec((100_u64..2_000, factor, 0_usize..16), 50..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// |Sᵢ/wᵢ − Sⱼ/wⱼ| ≤ cᵢ/wᵢ + cⱼ/wⱼ, whatever the slots do, and from whenever both have something waiting.
    #[test]
    fn what_two_tenants_are_served_differs_by_one_query_of_each(
        work in work(100), slots in 1_usize..8, weights in prop::array::uniform2(1_u32..5), alone_for in 0_usize..40,
    ) {
        let mut costs = work.iter().cycle();
        let mut next = || costs.next().expect("it cycles").0;
        // The first one alone; what it gets then does not count against it.
        let mut race = Race::new(slots, &weights);
        for _ in 0..slots + 2 {
            let cost = next();
            race.push(0, 0, cost, cost);
        }
        let mut base = 0;
        for (i, &(_, _, nth)) in work.iter().enumerate() {
            for t in race.fill() {
                let cost = next();
                race.push(t, 0, cost, cost);
            }
            if i == alone_for {
                base = race.served[0];
                for _ in 0..slots + 2 {
                    let cost = next();
                    race.push(1, 0, cost, cost);
                }
            }
            if i > alone_for {
                let [a, b] = [(race.served[0] - base, weights[0]), (race.served[1], weights[1])]
                    .map(|(served, weight)| served.cast_signed() * 60 / i64::from(weight));
                let bound = weights.map(|weight| 2_000 * 60 / i64::from(weight)).iter().sum::<i64>();
                prop_assert!((a - b).abs() <= bound, "{a} and {b} differ by more than {bound}");
            }
            race.finish(nth);
        }
    }

    /// Wrong estimates are put right when the answers come: what is wrong is only what is in flight.
    #[test]
    fn wrong_estimates_do_not_pay(work in work(1000), slots in 1_usize..8, liar in 0_usize..2) {
        let mut race = Race::new(slots, &[1, 1]);
        let mut costs = work.iter().cycle();
        let mut add = |race: &mut Race, t| {
            let &(cost, factor, _) = costs.next().expect("it cycles");
            // One of them always says that it is cheap.
            race.push(t, 0, cost, if t == liar { cost / 10 } else { cost * factor / 100 });
        };
        for t in [0, 1] {
            (0..slots + 2).for_each(|_| add(&mut race, t));
        }
        for &(_, _, nth) in &work {
            for t in race.fill() {
                add(&mut race, t);
            }
            let bound = (slots as u64 * 2 + 2) * 20_000 / 2;
            prop_assert!(race.served[0].abs_diff(race.served[1]) <= bound, "{:?}: more than {bound}", race.served);
            race.finish(nth);
        }
        let (all, apart) = (race.served[0] + race.served[1], race.served[0].abs_diff(race.served[1]));
        prop_assert!(apart <= all / 3 + slots as u64 * 12_000, "{:?}", race.served);
    }

    /// Inside a tenant the sources share likewise: a dashboard that asks for much waits for itself.
    #[test]
    fn what_two_sources_are_served_differs_by_one_query_of_each(work in work(100), slots in 1_usize..8) {
        let mut race = Race::new(slots, &[1]);
        let mut served = [0_u64; 2];
        let mut costs = work.iter().cycle();
        let mut push = |race: &mut Race, source: usize| {
            // The second one asks for twenty times as much.
            let cost = costs.next().expect("it cycles").0 / if source == 0 { 20 } else { 1 };
            let (tenant, expires, lane) = (tenant(0), race.now + WINDOW, Lane::Small);
            let (item, source, fingerprint) = ((source, cost), Source(source as u64), None);
            race.queue
                .push(NewRequest { item, tenant, source, lane, cost, expires, fingerprint }, race.now)
                .expect("there is room");
        };
        for source in [0, 1] {
            (0..slots + 2).for_each(|_| push(&mut race, source));
        }
        race.served = vec![0; 2];
        for &(_, _, nth) in &work {
            for source in race.fill() {
                push(&mut race, source);
            }
            served.copy_from_slice(&race.served);
            prop_assert!(served[0].abs_diff(served[1]) <= 2_100, "{served:?}");
            race.finish(nth);
        }
    }
}
