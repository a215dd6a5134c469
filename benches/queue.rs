//! The fair queue on one core: what one request costs from its push to its end, at few and at many tenants; and the dispatcher
//! around it, from `ask` through a parked slot that wakes to the answer.
//!
//! The queue is kept as full as it was: every request that ends is followed by another of the same tenant. Each round is three
//! operations (push, next, finished), and that is what is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::ItemsCount;
use http::{HeaderMap, Method, Response};
use promfront::config::Config;
use promfront::metrics::Metrics;
use promfront::model::tenant::TenantId;
use promfront::request::Outgoing;
use promfront::sched::dispatch::{Dispatcher, Standing, Submission};
use promfront::sched::queue::Queue;
use promfront::sched::queue::rules::{Rules, TenantRules};
use promfront::sched::queue::words::{Fingerprint, Lane, NewRequest, QuerierId, QuerierKey, Source, Ticket, Turn};

fn main() {
    divan::main();
}

const ROUNDS: usize = 10_000;

struct Bench {
    queue: Queue<usize>,
    tenants: Vec<TenantId>,
    keys: Vec<QuerierKey>,
    now: Instant,
    turn: usize,
    slot: usize,
    /// What each slot runs.
    running: Vec<Option<Ticket>>,
}

impl Bench {
    /// Two requests of each tenant wait, from two sources.
    fn new(tenants: usize, queriers: usize, confined_to: usize) -> Self {
        let now = Instant::now();
        let default_tenant = TenantRules { max_queued: 10_000, ..TenantRules::default() }.confined_to(confined_to);
        let mut queue = Queue::new(Rules { default_tenant, ..Rules::default() }, now);
        let tenants: Vec<_> = (0..tenants).map(|i| TenantId::named(&format!("tenant-{i}"))).collect();
        let name = |i| QuerierId::named(&format!("querier-{i}"));
        let keys: Vec<_> = (0..queriers * 8).map(|i| queue.attach(&name(i % queriers), now)).collect();
        let running = vec![None; keys.len()];
        let mut bench = Self { queue, tenants, keys, now, turn: 0, slot: 0, running };
        for tenant in 0..bench.tenants.len() * 2 {
            bench.push(tenant % bench.tenants.len());
        }
        bench
    }

    fn push(&mut self, tenant: usize) -> Ticket {
        self.turn += 1;
        // Time passes, and clients have one of a few timeouts.
        self.now += Duration::from_micros(1);
        let expires = self.now + Duration::from_secs([10, 30, 120][self.turn % 3]);
        let new = NewRequest {
            item: tenant,
            tenant: self.tenants[tenant].clone(),
            source: Source(self.turn as u64 % 2),
            lane: if self.turn.is_multiple_of(3) { Lane::Small } else { Lane::Normal },
            cost: 1000 + self.turn as u64 * 31 % 1000,
            expires,
            fingerprint: None,
        };
        self.queue.push(new, self.now).expect("there is room")
    }

    /// The next slot asks, and is soon done with what it is given.
    fn round(&mut self) {
        self.slot = (self.slot + 1) % self.keys.len();
        let key = self.keys[self.slot];
        if let Some(ticket) = self.running[self.slot].take() {
            self.queue.finished(ticket, Some(1400), self.now);
        }
        match self.queue.next(key, self.now) {
            Turn::Run(job) => {
                self.running[self.slot] = Some(job.ticket);
                self.push(job.item);
            }
            // All that its tenants may hold is running elsewhere.
            Turn::Wait => self.queue.withdraw_slot(key),
        }
        assert!(self.queue.effect(self.now).is_none(), "nobody waits");
    }
}

/// Nobody is confined; ten queriers of eight slots.
#[divan::bench(args = [10, 1_000, 10_000])]
fn push_next_finish(bencher: Bencher<'_, '_>, tenants: usize) {
    let mut bench = Bench::new(tenants, 10, 0);
    bencher.counter(ItemsCount::new(ROUNDS * 3)).bench_local(|| (0..ROUNDS).for_each(|_| bench.round()));
}

/// Each tenant is confined to four of a hundred queriers.
#[divan::bench(args = [10, 1_000, 10_000])]
fn push_next_finish_confined(bencher: Bencher<'_, '_>, tenants: usize) {
    let mut bench = Bench::new(tenants, 100, 4);
    bencher.counter(ItemsCount::new(ROUNDS * 3)).bench_local(|| (0..ROUNDS).for_each(|_| bench.round()));
}

/// What is cancelled while it waits.
#[divan::bench(args = [10, 1_000, 10_000])]
fn push_cancel(bencher: Bencher<'_, '_>, tenants: usize) {
    let mut bench = Bench::new(tenants, 10, 0);
    bencher.counter(ItemsCount::new(ROUNDS * 2)).bench_local(|| {
        for i in 0..ROUNDS {
            let ticket = bench.push(i % bench.tenants.len());
            while bench.queue.effect(bench.now).is_some() {}
            bench.queue.cancel(ticket);
        }
    });
}

/// A querier comes and one goes, with all tenants confined: the only thing that touches all of them.
#[divan::bench(args = [10, 1_000, 10_000])]
fn querier_comes_and_goes(bencher: Bencher<'_, '_>, tenants: usize) {
    let mut bench = Bench::new(tenants, 100, 4);
    bencher.bench_local(|| {
        let key = bench.queue.attach(&QuerierId::named("another"), bench.now);
        while bench.queue.effect(bench.now).is_some() {}
        bench.queue.leaving(&QuerierId::named("another"), bench.now);
        bench.queue.detach(key, bench.now);
        while bench.queue.effect(bench.now).is_some() {}
    });
}

fn submission() -> Submission {
    let outgoing = Outgoing {
        method: Method::GET,
        path: "/api/v1/query".to_owned(),
        query: "query=up".to_owned(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let standing = Standing {
        tenant: TenantId::anonymous(),
        source: Source(1),
        lane: Lane::Small,
        cost: 1_000,
        fingerprint: Fingerprint(1),
    };
    Submission { outgoing, deadline: Instant::now() + Duration::from_mins(1), standing }
}

/// A dispatcher whose slots answer at once.
fn dispatcher(slots: usize) -> Arc<Dispatcher> {
    let dispatcher = Dispatcher::new(&Config::default(), Arc::new(Metrics::new()));
    for _ in 0..slots {
        let mut slot = dispatcher.attach(&QuerierId::named("querier"));
        tokio::spawn(async move {
            loop {
                slot.next().await.answer_whole(Response::new(bytes::Bytes::from_static(b"{}")), None);
            }
        });
    }
    dispatcher
}

/// One after the other on one thread, with so many slots parked: waking one does not depend on how many there are.
#[divan::bench(args = [1, 16, 1_000])]
fn ask_wake_answer(bencher: Bencher<'_, '_>, slots: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let dispatcher = runtime.block_on(async { dispatcher(slots) });
    bencher.counter(ItemsCount::new(ROUNDS)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..ROUNDS {
                dispatcher.ask(submission()).await.expect("an answer");
            }
        });
    });
}

/// So many clients at the same time, sixteen slots, two threads.
#[divan::bench(args = [16, 256])]
fn ask_wake_answer_together(bencher: Bencher<'_, '_>, clients: usize) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let dispatcher = runtime.block_on(async { dispatcher(16) });
    bencher.counter(ItemsCount::new(ROUNDS / clients * clients)).bench_local(|| {
        runtime.block_on(async {
            let clients: Vec<_> = (0..clients)
                .map(|_| {
                    let dispatcher = Arc::clone(&dispatcher);
                    tokio::spawn(async move {
                        for _ in 0..ROUNDS / clients {
                            dispatcher.ask(submission()).await.expect("an answer");
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.expect("no panic");
            }
        });
    });
}
