//! A nemesis among queriers and servers that are under load: right answers, all of them, and few errors, each of them explained.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join3;

use super::load::{CLIENTS, Load, Tally};
use crate::frontend;
use crate::support::querier::{GRACE, Querier};
use crate::support::{Metrics, Prometheus, Promfront, Random};

/// Streams of each querier.
const SLOTS: usize = 4;

/// What the nemesis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A querier is gone at once, and back soon.
    Kill,
    /// A querier is told to end, does, and is back.
    Terminate,
    /// A querier stands still for a while, its connections open.
    Pause,
    /// A querier's server is gone at once, and back soon; the querier stays.
    KillServer,
}

/// Two queriers, each beside a server of its own, which have the same data; and one that nothing is done to.
struct Fleet {
    promfront: Promfront,
    queriers: [Querier; 2],
    servers: [Prometheus; 2],
    truth: Prometheus,
}

impl Fleet {
    async fn start() -> Self {
        let one = Prometheus::with_test_data;
        let (truth, first, second) = join3(one(), one(), one()).await;
        let (promfront, address) = frontend("").await;
        let beside = |id, server: &Prometheus| Querier::start(id, &address, &server.url, SLOTS);
        let queriers = [beside("first", &first), beside("second", &second)];
        let fleet = Self { promfront, queriers, servers: [first, second], truth };
        fleet.all_serve().await;
        fleet
    }

    async fn all_serve(&self) {
        for querier in &self.queriers {
            self.promfront.until_serves(&querier.id, SLOTS).await;
        }
    }

    /// Strikes, and mends.
    async fn strike(&mut self, fault: Fault, target: usize, random: &mut Random) {
        let (querier, server) = (&mut self.queriers[target], &mut self.servers[target]);
        match fault {
            Fault::Kill => {
                querier.kill();
                pause(random, 200, 1000).await;
                querier.restart();
            }
            Fault::Terminate => {
                terminated(querier).await;
                querier.restart();
            }
            Fault::Pause => {
                querier.process().signal("STOP");
                pause(random, 1000, 3000).await;
                querier.process().signal("CONT");
            }
            Fault::KillServer => {
                server.kill();
                pause(random, 0, 500).await;
                server.restart().await;
            }
        }
    }

    /// Ends the load, and looks whether anything is left over.
    async fn end(&self, load: Load) -> (Tally, Metrics) {
        let tally = load.end().await;
        self.all_serve().await;
        self.promfront.until_idle().await;
        let metrics = self.promfront.metrics().await;
        assert!(metrics.sum("promfront_downstream_requests_in_flight", &[]).abs() < 0.1, "nothing is in flight");
        assert!(metrics.sum("promfront_queue_length", &[]).abs() < 0.1, "nothing waits");
        assert!(metrics.sum("promfront_queue_tenant_requests", &[]).abs() < 0.1, "nobody waits");
        (tally, metrics)
    }
}

/// Time that passes under load.
async fn pause(random: &mut Random, least: usize, most: usize) {
    let millis = u64::try_from(least + random.below(most - least)).expect("small");
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Tells a querier to end, which it does in order and in its time.
async fn terminated(querier: &mut Querier) {
    let began = Instant::now();
    querier.stop().await;
    assert!(began.elapsed() < Duration::from_secs(GRACE), "{} ended after {:?}", querier.id, began.elapsed());
}

/// `PROMFRONT_SHARE=1` goes on for minutes.
fn duration() -> Duration {
    let is_full = std::env::var("PROMFRONT_SHARE").is_ok_and(|share| share == "1");
    Duration::from_secs(if is_full { 300 } else { 20 })
}

fn tries(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("promfront_downstream_failed_tries_total", &[&format!("result=\"{result}\"")])
}

/// Whatever happens to the queriers and their servers: no wrong answer, none lost, errors only where the tries ran out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queriers_that_come_and_go_cost_no_answer() {
    let mut fleet = Fleet::start().await;
    let load = Load::begin("chaos", &fleet.promfront, &fleet.truth.url);
    let (mut random, began) = (Random::named("nemesis"), Instant::now());
    let mut struck = BTreeMap::<Fault, usize>::new();
    let mut order = [Fault::Kill, Fault::Terminate, Fault::Pause, Fault::KillServer];
    while began.elapsed() < duration() || struck.len() < order.len() {
        random.shuffle(&mut order);
        for fault in order {
            pause(&mut random, 300, 1200).await;
            let target = random.below(2);
            fleet.strike(fault, target, &mut random).await;
            *struck.entry(fault).or_default() += 1;
        }
    }
    let (tally, metrics) = fleet.end(load).await;
    let [again, no_attempt, no_budget, same] =
        ["tried_again", "attempts_spent", "budget_spent", "same_attempt"].map(|result| tries(&metrics, result));
    let refused = metrics.sum("promfront_queue_refused_total", &["quarantined"]);
    println!(
        "{} requests, {} right, {} of them cached, errors {:?}; {struck:?}; tries: {again} again, {no_attempt} without \
         attempts left, {no_budget} without budget, {same} not begun; {refused} refused; dropped: {:?}",
        tally.asked,
        tally.right,
        tally.held,
        tally.errors,
        metrics.all("promfront_queue_dropped_total"),
    );
    tally.assert_sound();
    assert!(again > 0.5, "the nemesis hit something");
    assert!(tally.held > 0, "some of it came out of the cache");
    for kind in tally.errors.keys() {
        assert!(EXPLAINED.contains(&kind.as_str()), "{kind}");
    }
    // Of its own tries, or of one that came before it: each error is the last of some.
    let quarantined = tally.errors_with("quarantined");
    assert!(quarantined <= no_attempt + refused, "two queriers vanished under it: {:?}", tally.errors);
    assert!(tally.errors_with("") - quarantined <= no_attempt + no_budget, "it was tried again: {:?}", tally.errors);
    assert!(tally.errors() <= struck.values().sum::<usize>() * CLIENTS, "{:?}", tally.errors);
}

/// What a client may be told: what its last try ended with, or that it was locked away.
const EXPLAINED: [&str; 6] = [
    "422 execution: quarantined",
    "503 unavailable: the querier left before it answered",
    // The words of a querier whose server is gone, and of a server that starts.
    "502 internal: can't be reached",
    "502 internal: closed the connection",
    "502 internal: ended early",
    "503 : Service Unavailable",
];

/// Queriers that are told to end, one after the other, as in a rolling update: nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queriers_that_are_told_to_end_lose_nothing() {
    let mut fleet = Fleet::start().await;
    let load = Load::begin("rolling", &fleet.promfront, &fleet.truth.url);
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < 6 || began.elapsed() < duration() / 2 {
        let target = rounds % 2;
        let before = load.asked();
        let querier = &mut fleet.queriers[target];
        terminated(querier).await;
        // Under the same name, or under a new one.
        if rounds % 4 < 2 {
            querier.restart();
        } else {
            querier.restart_as(&format!("new-{rounds}"));
        }
        fleet.promfront.until_serves(&fleet.queriers[target].id, SLOTS).await;
        crate::support::until("the load goes on", async || load.asked() > before).await;
        rounds += 1;
    }
    let (tally, metrics) = fleet.end(load).await;
    println!(
        "{rounds} rounds, {} requests, {} right, {} of them cached; not begun: {}",
        tally.asked,
        tally.right,
        tally.held,
        tries(&metrics, "same_attempt")
    );
    tally.assert_sound();
    assert_eq!(tally.errors(), 0, "{:?}", tally.errors);
    for result in ["attempts_spent", "budget_spent", "tried_again"] {
        assert!(tries(&metrics, result) < 0.5, "{result}: {}", tries(&metrics, result));
    }
}
