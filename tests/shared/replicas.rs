//! Replicas of one shared tier answer as the server does, serve what the others fetched, and give nothing a new life.

use std::cell::RefCell;
use std::sync::Arc;

use promfront::cache::store::Loss;
use promfront::model::time::Timestamp;
use promfront::split::plan::SplitPolicy;
use promfront::{cache::extent::Lifetimes, model::grid::StepGrid};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::model::{
    DAY, EPOCH_MS, HOUR, MINUTE, Outcome, QUERIES, Replica, Request, SECOND, Server, Settings, Speech, check_stamps,
    mix, runtime, span, stamps, usual,
};
use super::store::{Fault, Items, Op};

/// How many histories: 60, unless the environment asks for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|digits| digits.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(60), failure_persistence: None, ..ProptestConfig::default() }
}

// Random histories.

/// A panel of a dashboard.
#[derive(Clone, Copy, Debug)]
struct Panel {
    text: &'static str,
    step_ms: i64,
    phase_ms: i64,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    One(usize),
    /// Two at the same time: they race for the same pages.
    Both,
}

/// One request of a history, and what happens before it.
#[derive(Clone, Copy, Debug)]
struct Turn {
    who: Who,
    panel: prop::sample::Index,
    /// The window begins so many steps from now, and has so many instants.
    first: i64,
    length: i64,
    forward_ms: i64,
    /// The replica's clock is so much behind the server's.
    behind_ms: i64,
    /// It begins anew.
    restarts: bool,
    /// With this lifetime.
    ttl_ms: Option<i64>,
    /// Items whose key hashes so are evicted.
    evicts: Option<u64>,
    /// Whether what is being written is waited for.
    settles: bool,
    /// Calls fail with this weight out of 16, in ways that this number decides.
    failing: (u64, i64),
}

const FAULTS: [Fault; 11] = [
    Fault::Lost(Loss::Timeout),
    Fault::Lost(Loss::Refused),
    Fault::Lost(Loss::Breaker),
    Fault::Unheard,
    Fault::Forgotten,
    Fault::Garbage,
    Fault::Another,
    Fault::Older,
    Fault::Older,
    Fault::Damaged,
    Fault::Cut,
];

fn fault(seed: i64, weight: u64, op: Op<'_>) -> Fault {
    let chance = mix(&[seed, op.call.cast_signed(), i64::try_from(op.key.len()).expect("short"), key_number(op.key)]);
    if chance % 16 < weight { FAULTS[usize::try_from(chance >> 8).unwrap_or(0) % FAULTS.len()] } else { Fault::None }
}

fn key_number(key: &str) -> i64 {
    key.bytes().fold(0, |hash, byte| mix(&[hash, byte.into()]).cast_signed())
}

fn settings() -> impl Strategy<Value = Settings> {
    let interval = prop::sample::select(vec![HOUR, 6 * HOUR, DAY]);
    let ttl = prop::sample::select(vec![20 * MINUTE, 2 * HOUR, 7 * DAY, 7 * DAY]);
    let window = prop::sample::select(vec![0, 0, 0, 15 * MINUTE, HOUR]);
    let late_ttl = prop::sample::select(vec![2 * MINUTE, 10 * MINUTE, 3 * HOUR]);
    let freshness = prop::sample::select(vec![0, MINUTE, 10 * MINUTE]);
    let longest = prop::sample::select(vec![700, 4096, 1 << 20]);
    let memory = prop::sample::select(vec![20 << 10, 1 << 30]);
    (interval, ttl, window, late_ttl, freshness, longest, memory).prop_map(
        |(interval_ms, ttl, window, late_ttl, freshness_ms, longest, memory_bytes)| Settings {
            policy: SplitPolicy { interval_ms, max_parts: 64 },
            lifetimes: Lifetimes {
                ttl: span(ttl),
                out_of_order_window: span(window),
                out_of_order_ttl: span(late_ttl),
            },
            freshness_ms,
            longest,
            memory_bytes,
            ..usual()
        },
    )
}

fn panels() -> impl Strategy<Value = Vec<Panel>> {
    let steps = vec![15 * SECOND, 37 * SECOND, MINUTE, MINUTE, 7 * MINUTE, 61 * MINUTE];
    let one = || {
        let parts = (prop::sample::select(&QUERIES[..]), prop::sample::select(steps.clone()));
        (parts, prop::sample::select(vec![0, 7 * SECOND, 250])).prop_map(|((text, step_ms), phase_ms)| Panel {
            text,
            step_ms,
            phase_ms,
        })
    };
    prop::collection::vec(one(), 1..3)
}

fn turn() -> impl Strategy<Value = Turn> {
    let who = prop_oneof![4 => (0..2_usize).prop_map(Who::One), 1 => Just(Who::Both)];
    let first = prop_oneof![3 => -12_i64..4, 8 => -70_i64..0, 8 => -300_i64..-50];
    let window = (first, 0_i64..=1000).prop_map(|(first, share)| (first, 1 + (3 - first).min(150) * share / 1000));
    let forward = prop_oneof![
        40 => Just(0),
        30 => Just(15 * SECOND),
        30 => 0..3 * MINUTE,
        8 => 0..20 * MINUTE,
        4 => 0..3 * HOUR,
        1 => 0..9 * DAY,
    ];
    let behind = prop_oneof![12 => Just(0), 1 => 0..3 * MINUTE, 1 => 0..2 * HOUR];
    let ttl = prop_oneof![3 => Just(None), 1 => (MINUTE..DAY).prop_map(Some)];
    let restarts = (prop::bool::weighted(0.17), ttl);
    let evicts = prop_oneof![10 => Just(None), 1 => (0..3_u64).prop_map(Some)];
    let failing = (prop_oneof![4 => Just(0_u64), 2 => Just(3), 1 => Just(8)], any::<i64>());
    (who, any::<prop::sample::Index>(), window, forward, (behind, restarts, evicts), any::<bool>(), failing).prop_map(
        |(who, panel, (first, length), forward_ms, (behind_ms, (restarts, ttl_ms), evicts), settles, failing)| Turn {
            who,
            panel,
            first,
            length,
            forward_ms,
            behind_ms,
            restarts,
            ttl_ms,
            evicts,
            settles,
            failing,
        },
    )
}

impl Turn {
    fn request(&self, panels: &[Panel], now_ms: i64) -> Request {
        let Panel { text, step_ms, phase_ms } = *self.panel.get(panels);
        let start_ms = ((now_ms - phase_ms).div_euclid(step_ms) + self.first) * step_ms + phase_ms;
        Request { text, start_ms, end_ms: start_ms + (self.length - 1) * step_ms, step_ms }
    }
}

/// How often the paths that matter were taken.
#[derive(Debug, Default)]
struct Tally {
    histories: u64,
    held: u64,
    fetched: u64,
    shared: u64,
    written: u64,
    failed: u64,
}

/// What faults make of reads.
const FAILED: [&str; 6] = ["timeout", "refused", "breaker", "pieces", "checksum", "key"];

/// The fleet and its clocks.
struct Fleet {
    items: Arc<Items>,
    replicas: Vec<Replica>,
    now_ms: i64,
}

impl Fleet {
    async fn start(settings: Settings) -> Self {
        let items = Items::new();
        items.set_clock(EPOCH_MS);
        items.lag(3);
        let mut replicas = Vec::new();
        for _ in 0..2 {
            replicas.push(Replica::start(settings, &items, EPOCH_MS).await);
        }
        Self { items, replicas, now_ms: EPOCH_MS }
    }

    async fn prepare(&mut self, turn: &Turn) {
        self.now_ms += turn.forward_ms;
        self.items.set_clock(self.now_ms);
        if let (true, Who::One(number)) = (turn.restarts, turn.who) {
            let mut settings = self.replicas[number].settings;
            settings.lifetimes.ttl = turn.ttl_ms.map_or(settings.lifetimes.ttl, span);
            self.replicas[number] = Replica::start(settings, &self.items, self.now_ms).await;
        }
        if let Some(third) = turn.evicts {
            self.items.forget(|key| key_number(key).cast_unsigned() % 3 == third);
        }
        let (weight, seed) = turn.failing;
        self.items.fail(move |op| fault(seed, weight, op));
    }

    /// Answers to a turn's request, with what each was asked at.
    async fn answer(&self, turn: &Turn, request: &Request, server: &Server) -> Vec<(usize, i64, Outcome)> {
        let [one, other] = [self.now_ms - turn.behind_ms, self.now_ms];
        match turn.who {
            Who::One(number) => vec![(number, one, self.replicas[number].answer(request, one, server).await)],
            Who::Both => {
                let (a, b) = futures::join!(
                    self.replicas[0].answer(request, one, server),
                    self.replicas[1].answer(request, other, server)
                );
                vec![(0, one, a), (1, other, b)]
            }
        }
    }
}

/// Plays a history; `check` is given the outcomes of each turn.
async fn play(
    settings: Settings,
    panels: &[Panel],
    turns: &[Turn],
    server: impl Fn(i64) -> Server,
    check: impl Fn(&Request, &Replica, i64, &Outcome, &Server),
) -> Tally {
    let mut fleet = Fleet::start(settings).await;
    let mut tally = Tally { histories: 1, ..Tally::default() };
    for turn in turns {
        fleet.prepare(turn).await;
        let (request, server) = (turn.request(panels, fleet.now_ms), server(fleet.now_ms));
        for (number, now_ms, outcome) in fleet.answer(turn, &request, &server).await {
            check(&request, &fleet.replicas[number], now_ms, &outcome, &server);
            tally.held += outcome.held;
            tally.fetched += outcome.parts.iter().map(StepGrid::len).sum::<u64>();
        }
        if turn.settles {
            fleet.items.settle().await;
        }
    }
    fleet.items.settle().await;
    fleet.items.check();
    check_sizes(&fleet, panels);
    for replica in &fleet.replicas {
        let hits = |outcome| {
            let labels = promfront::metrics::OutcomeLabels {
                tier: promfront::metrics::Word("remote"),
                outcome: promfront::metrics::Word(outcome),
            };
            replica.metrics.cache_slots.get_or_create(&labels).get()
        };
        tally.shared += hits("hit") + hits("partial");
        tally.written += replica.door.tally().writes;
        tally.failed += FAILED.iter().map(|reason| replica.misses(reason)).sum::<u64>();
    }
    tally
}

/// No page grows without a bound: none is larger than its instants, each once, and a few extents' labels.
fn check_sizes(fleet: &Fleet, panels: &[Panel]) {
    let mut pages: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (key, value) in fleet.items.pages() {
        let page = key.split_once('/').map_or(key.as_str(), |(page, _)| page);
        *pages.entry(page.to_owned()).or_default() += value.len();
    }
    let finest_ms = panels.iter().map(|panel| panel.step_ms).min().expect("there is one");
    let width_ms = DAY.max(panels.iter().map(|panel| panel.step_ms * 128).max().expect("there is one") * 2);
    let instants = usize::try_from(width_ms / finest_ms).expect("few");
    // A sample takes at most 100 bytes before it is compressed; there are 4 series, and at most 32 extents.
    for (page, bytes) in pages {
        assert!(bytes < 400 * instants + 32 * 1000, "{page} has {bytes} bytes for {instants} instants");
    }
}

/// Plays random histories; together they must have taken the paths that they are about.
fn histories(server: impl Fn(&Settings, i64) -> Server, check: impl Fn(&Request, &Replica, i64, &Outcome, &Server)) {
    let total = RefCell::new(Tally::default());
    let runtime = runtime();
    let history = (settings(), panels(), prop::collection::vec(turn(), 1..30));
    let outcome = TestRunner::new(cases()).run(&history, |(settings, panels, turns)| {
        let tally = runtime.block_on(play(settings, &panels, &turns, |now_ms| server(&settings, now_ms), &check));
        let mut total = total.borrow_mut();
        total.histories += 1;
        total.held += tally.held;
        total.fetched += tally.fetched;
        total.shared += tally.shared;
        total.written += tally.written;
        total.failed += tally.failed;
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let total = total.into_inner();
    assert!(total.held > total.fetched / 8, "{total:?}");
    assert!(total.shared > total.histories / 4, "{total:?}");
    assert!(total.written > total.histories, "{total:?}");
    assert!(total.failed > total.histories / 6, "{total:?}");
}

#[test]
fn every_answer_is_the_servers_whatever_the_shared_tier_does() {
    let server =
        |settings: &Settings, now_ms| Server { now_ms, settles_within_ms: settings.freshness_ms, speech: Speech::Data };
    histories(server, |request, _, now_ms, outcome, server| {
        let whole = server.body(request.text, &request.grid());
        let (ours, theirs) = (super::model::shown(&outcome.body), super::model::shown(&whole));
        assert!(outcome.body == whole, "{request:?} at {now_ms}, server at {}\n{ours}\nnot\n{theirs}", server.now_ms);
    });
}

/// Every sample tells when it was fetched: none is served before it was final or after its end of life, through however
/// many hands it went, and under the options that its last replica has.
#[test]
fn nothing_is_shared_too_early_or_too_long() {
    let server = |_: &Settings, now_ms| Server { now_ms, settles_within_ms: 0, speech: Speech::Stamp };
    histories(server, |request, replica, now_ms, outcome, server| {
        // A clock that is behind takes for younger what it is; by the clock that is right nothing is younger than it may be.
        if now_ms == server.now_ms && request.text != "noisy" && request.text != "nothing" {
            check_stamps(&outcome.body, request, now_ms, &replica.settings);
        }
    });
}

// What must come to pass.

const NOON: i64 = EPOCH_MS + DAY + 12 * HOUR;

#[test]
fn what_one_fetched_the_other_is_served() {
    for longest in [300, 1 << 20] {
        runtime().block_on(async {
            let items = Items::new();
            items.set_clock(NOON);
            let settings = Settings { longest, ..usual() };
            let a = Replica::start(settings, &items, NOON).await;
            let b = Replica::start(settings, &items, NOON).await;
            for text in ["up", "max_over_time(up[2h])", "nothing", "up offset -7m", "up @ 3455996400"] {
                let request = Request { text, ..Request::up(-60, 600) };
                let first = a.answer_rightly(&request, NOON).await;
                assert!(first.held == 0 && first.final_fetched == 661, "{text}: {first:?}");
                items.settle().await;
                let second = b.answer_rightly(&request, NOON).await;
                assert!(second.parts.is_empty(), "{text}: {:?}", second.parts);
                let again = b.door.tally();
                b.answer_rightly(&request, NOON).await;
                assert_eq!(b.door.tally().reads, again.reads, "{text}: from the first tier");
            }
            items.check();
        });
    }
}

/// A window that ends now, at two replicas in turn: what only the other fetched is not fetched again when its section has
/// ended.
#[test]
fn a_slot_that_grows_is_shared_section_by_section() {
    runtime().block_on(async {
        let items = Items::new();
        let now_ms = EPOCH_MS + 20 * HOUR;
        items.set_clock(now_ms);
        let (a, b) = (Replica::start(usual(), &items, now_ms).await, Replica::start(usual(), &items, now_ms).await);
        let request = Request::up(0, 20 * 60);
        a.answer_rightly(&request, now_ms).await;
        items.settle().await;
        let second = b.answer_rightly(&request, now_ms).await;
        // 90-minute sections: thirteen have ended at 19:50, at 19:30.
        let first_part = second.parts.first().expect("the end is fresh");
        assert_eq!(first_part.start().ms(), EPOCH_MS + 19 * HOUR + 30 * MINUTE, "{:?}", second.parts);
        assert_eq!(second.held, 13 * 90);
    });
}

/// Two race for a page: the one who wrote last has overwritten what the other wrote. It is asked for once more, and then all
/// of it is there.
#[test]
fn what_a_race_lost_is_back_after_the_next_miss() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let (a, b) = (Replica::start(usual(), &items, NOON).await, Replica::start(usual(), &items, NOON).await);
        let (morning, evening) = (Request::up(0, 700), Request::up(701, 1439));
        // Both read that there is nothing before either writes.
        items.fail(|op| if op.is_write { Fault::None } else { Fault::Forgotten });
        futures::join!(a.answer_rightly(&morning, NOON), b.answer_rightly(&evening, NOON));
        items.settle().await;
        items.recover();
        let c = Replica::start(usual(), &items, NOON).await;
        let day = Request::up(0, 1439);
        let outcome = c.answer_rightly(&day, NOON).await;
        assert!(outcome.final_fetched > 600 && outcome.held > 600, "one half was lost: {outcome:?}");
        items.settle().await;
        let d = Replica::start(usual(), &items, NOON).await;
        assert!(d.answer_rightly(&day, NOON).await.parts.is_empty(), "and is back");
        // Those who raced are not the worse for it.
        for replica in [&a, &b] {
            let later = NOON + 2 * MINUTE;
            items.set_clock(later);
            assert!(replica.answer_rightly(&day, later).await.parts.is_empty());
        }
    });
}

/// Two who write different parts of a page, one after the other, make one page of both.
#[test]
fn who_writes_a_page_keeps_what_the_others_wrote() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let (a, b) = (Replica::start(usual(), &items, NOON).await, Replica::start(usual(), &items, NOON).await);
        a.answer_rightly(&Request::up(0, 700), NOON).await;
        items.settle().await;
        b.answer_rightly(&Request::up(701, 1439), NOON).await;
        items.settle().await;
        let c = Replica::start(usual(), &items, NOON).await;
        assert!(c.answer_rightly(&Request::up(0, 1439), NOON).await.parts.is_empty());
        assert_eq!(items.pages().len(), 1);
    });
}

/// What could not be read is not overwritten: it may be more than what we have.
#[test]
fn a_page_that_could_not_be_read_is_not_overwritten() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        a.answer_rightly(&Request::up(0, 1000), NOON).await;
        items.settle().await;
        let before = items.pages();
        let b = Replica::start(usual(), &items, NOON).await;
        items.fail(|op| if op.is_write { Fault::None } else { Fault::Lost(Loss::Timeout) });
        b.answer_rightly(&Request::up(900, 1100), NOON).await;
        items.settle().await;
        assert_eq!(items.pages(), before);
        // When reading works again it is written together with what was there.
        items.recover();
        let later = NOON + 11 * SECOND;
        items.set_clock(later);
        b.answer_rightly(&Request::up(900, 1100), later).await;
        items.settle().await;
        let c = Replica::start(usual(), &items, later).await;
        assert!(c.answer_rightly(&Request::up(0, 1100), later).await.parts.is_empty());
    });
}

/// What was not written is written later, though nothing is added to it, and not before ten seconds have passed.
#[test]
fn what_was_not_written_is_tried_again() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        let request = Request::up(0, 1439);
        items.fail(|op| if op.is_write { Fault::Lost(Loss::Unavailable) } else { Fault::None });
        a.answer_rightly(&request, NOON).await;
        items.settle().await;
        items.recover();
        for (seconds, pages) in [(0, 0), (9, 0), (10, 1), (30, 1)] {
            let now_ms = NOON + seconds * SECOND;
            items.set_clock(now_ms);
            assert!(a.answer_rightly(&request, now_ms).await.parts.is_empty());
            items.settle().await;
            assert_eq!(items.pages().len(), pages, "after {seconds} s");
        }
        assert_eq!(a.door.tally().writes, 2, "once in vain, once not");
    });
}

/// What does not fit into the queue is dropped and counted, and is due again.
#[test]
fn what_the_queue_has_no_room_for_is_tried_again() {
    runtime().block_on(async {
        let items = Items::new();
        let a = Replica::start(Settings { queued_bytes: 8 << 10, ..usual() }, &items, NOON).await;
        let mut full = Vec::new();
        for seconds in [0, 9, 10, 11, 20] {
            let now_ms = NOON + seconds * SECOND;
            items.set_clock(now_ms);
            a.answer_rightly(&Request::up(0, 1439), now_ms).await;
            items.settle().await;
            let labels = promfront::metrics::ResultOf { result: promfront::metrics::Word("queue-full") };
            full.push(a.metrics.remote_writes.get_or_create(&labels).get());
        }
        assert_eq!((full, a.door.tally().writes), (vec![1, 1, 2, 2, 3], 0));
    });
}

/// What was evicted is written again with the next that is fetched, however little that is.
#[test]
fn what_was_evicted_is_written_again() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        a.answer_rightly(&Request::up(0, 700), NOON).await;
        items.settle().await;
        items.forget(|_| true);
        let later = NOON + 2 * MINUTE;
        items.set_clock(later);
        a.answer_rightly(&Request::up(0, 710), later).await;
        items.settle().await;
        let b = Replica::start(usual(), &items, later).await;
        assert!(b.answer_rightly(&Request::up(0, 710), later).await.parts.is_empty());
    });
}

/// What a server has refused it would refuse again.
#[test]
fn what_was_refused_is_not_tried_again() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        let request = Request::up(0, 1439);
        items.fail(|op| if op.is_write { Fault::Lost(Loss::Refused) } else { Fault::None });
        for seconds in [0, 30, 60] {
            let now_ms = NOON + seconds * SECOND;
            items.set_clock(now_ms);
            a.answer_rightly(&request, now_ms).await;
            items.settle().await;
        }
        assert_eq!(a.door.tally().writes, 1);
    });
}

/// A page whose extents have died is not written over one that lives, whichever half has died.
#[test]
fn what_died_while_it_waited_replaces_nothing() {
    let halves = [Request::up(0, 1000), Request::up(1001, 1439)];
    for (first, second) in [(halves[0], halves[1]), (halves[1], halves[0])] {
        runtime().block_on(async {
            let items = Items::new();
            let lifetimes = Lifetimes { ttl: span(2 * HOUR), ..usual().lifetimes };
            let settings = Settings { lifetimes, ..usual() };
            items.set_clock(NOON);
            let a = Replica::start(settings, &items, NOON).await;
            items.fail(|op| if op.is_write { Fault::Lost(Loss::Unavailable) } else { Fault::None });
            a.answer_rightly(&first, NOON).await;
            let soon = NOON + 100 * MINUTE;
            items.set_clock(soon);
            a.answer_rightly(&second, soon).await;
            items.settle().await;
            items.recover();
            // Now half of it has died here, and another replica writes all of it.
            let later = NOON + 125 * MINUTE;
            items.set_clock(later);
            let b = Replica::start(settings, &items, later).await;
            b.answer_rightly(&Request::up(0, 1439), later).await;
            items.settle().await;
            // What was due here is tried again.
            a.answer_rightly(&Request { start_ms: second.end_ms - 5 * MINUTE, ..second }, later).await;
            items.settle().await;
            let c = Replica::start(settings, &items, later).await;
            let outcome = c.answer_rightly(&Request::up(0, 1439), later).await;
            assert!(outcome.parts.is_empty(), "{:?} were lost", outcome.parts);
        });
    }
}

/// What died here does not stand before what lives elsewhere.
#[test]
fn what_others_fetched_replaces_what_died() {
    runtime().block_on(async {
        let items = Items::new();
        let settings = Settings { lifetimes: Lifetimes { ttl: span(2 * HOUR), ..usual().lifetimes }, ..usual() };
        items.set_clock(NOON);
        let (a, request) = (Replica::start(settings, &items, NOON).await, Request::up(0, 1439));
        a.answer_rightly(&request, NOON).await;
        items.settle().await;
        let later = NOON + 2 * HOUR;
        items.set_clock(later);
        let b = Replica::start(settings, &items, later).await;
        assert_eq!(b.answer_rightly(&request, later).await.held, 0);
        items.settle().await;
        assert!(a.answer_rightly(&request, later).await.parts.is_empty());
    });
}

/// What has annotations speaks of all its instants: no section is cut out of it.
#[test]
fn what_cannot_be_cut_is_not_shared_in_sections() {
    runtime().block_on(async {
        let items = Items::new();
        let now_ms = EPOCH_MS + 20 * HOUR;
        items.set_clock(now_ms);
        let (a, b) = (Replica::start(usual(), &items, now_ms).await, Replica::start(usual(), &items, now_ms).await);
        let noisy = |first, last| Request { text: "noisy", ..Request::up(first, last) };
        let whole = a.answer_rightly(&noisy(0, 1100), now_ms).await;
        assert!(super::model::shown(&whole.body).contains("PromQL "), "it has something to say");
        assert_eq!(a.answer_rightly(&noisy(0, 1100), now_ms).await.held, 1101, "and is kept");
        items.settle().await;
        for section in 0..12 {
            b.answer_rightly(&noisy(section * 90, section * 90 + 89), now_ms).await;
        }
        items.settle().await;
    });
}

/// Poisoned data dies at its own end of life though it went from hand to hand, and an item does not outlive what is in it.
#[test]
fn a_fill_keeps_the_age_of_what_it_fills() {
    let ttl_ms = 2 * HOUR;
    let lifetimes = Lifetimes { ttl: span(ttl_ms), ..usual().lifetimes };
    let settings = Settings { lifetimes, ..usual() };
    runtime().block_on(async {
        let items = Items::new();
        let (request, mut number) = (Request::up(0, 700), 0);
        let (mut most_old_ms, mut served_of_the_first) = (0, 0);
        let mut now_ms = NOON;
        while now_ms <= NOON + 3 * HOUR {
            items.set_clock(now_ms);
            // Each time another replica, which has nothing of its own.
            let replica = Replica::start(settings, &items, now_ms).await;
            let part = Request { start_ms: request.start_ms + number % 7 * MINUTE, ..request };
            let server = Server { now_ms, settles_within_ms: 0, speech: Speech::Stamp };
            let outcome = replica.answer(&part, now_ms, &server).await;
            items.settle().await;
            check_stamps(&outcome.body, &part, now_ms, &settings);
            for (_, stamp) in stamps(&outcome.body, &part.grid()) {
                most_old_ms = most_old_ms.max(now_ms - stamp);
                served_of_the_first += i64::from(stamp == NOON && now_ms > NOON + ttl_ms - 6 * MINUTE);
            }
            for key in items.pages().keys() {
                assert!(items.expiry(key) <= Some(now_ms + ttl_ms), "{key}");
            }
            (now_ms, number) = (now_ms + 5 * MINUTE, number + 1);
        }
        assert!(most_old_ms < ttl_ms, "{most_old_ms}");
        assert!(served_of_the_first > 600, "and it lived until then: {served_of_the_first}");
    });
}

/// An item's life ends with the youngest of its extents, not a whole lifetime after it was written.
#[test]
fn an_item_lives_as_long_as_what_is_in_it() {
    runtime().block_on(async {
        let items = Items::new();
        let settings = Settings { lifetimes: Lifetimes { ttl: span(2 * HOUR), ..usual().lifetimes }, ..usual() };
        items.set_clock(NOON);
        let a = Replica::start(settings, &items, NOON).await;
        items.fail(|op| if op.is_write { Fault::Lost(Loss::Unavailable) } else { Fault::None });
        a.answer_rightly(&Request::up(0, 1439), NOON).await;
        items.settle().await;
        items.recover();
        let later = NOON + HOUR;
        items.set_clock(later);
        a.answer_rightly(&Request::up(0, 1439), later).await;
        items.settle().await;
        let expiries = || items.pages().keys().map(|key| items.expiry(key)).collect::<Vec<_>>();
        assert_eq!(expiries(), [Some(NOON + 2 * HOUR)]);
        // The next day: half of it now, and half of it an hour later.
        let morning = NOON + DAY;
        items.set_clock(morning);
        a.answer_rightly(&Request::up(1440, 2100), morning).await;
        items.settle().await;
        assert_eq!(expiries(), [Some(morning + 2 * HOUR)]);
        let noon = morning + HOUR;
        items.set_clock(noon);
        a.answer_rightly(&Request::up(2101, 2879), noon).await;
        items.settle().await;
        assert_eq!(expiries(), [Some(noon + 2 * HOUR)], "of the youngest of two");
    });
}

/// A shorter lifetime holds for what others wrote under a longer one.
#[test]
fn other_lifetimes_apply_to_what_is_stored() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let request = Request::up(0, 1439);
        let a = Replica::start(usual(), &items, NOON).await;
        a.answer_rightly(&request, NOON).await;
        items.settle().await;
        for (ttl_ms, age_ms, is_served) in
            [(HOUR, HOUR - 1, true), (HOUR, HOUR, false), (6 * DAY, 6 * DAY - 1, true), (6 * DAY, 6 * DAY, false)]
        {
            let now_ms = NOON + age_ms;
            items.set_clock(now_ms);
            let lifetimes = Lifetimes { ttl: span(ttl_ms), ..usual().lifetimes };
            let b = Replica::start(Settings { lifetimes, ..usual() }, &items, now_ms).await;
            items.fail(|op| if op.is_write { Fault::Lost(Loss::Refused) } else { Fault::None });
            let outcome = b.answer_rightly(&request, now_ms).await;
            assert_eq!(outcome.parts.is_empty(), is_served, "{age_ms} of {ttl_ms}");
            assert_eq!(b.misses("expired") == 0, is_served);
            items.recover();
        }
    });
}

/// What lay inside of the out-of-order window when it was fetched lives shorter, at whichever replica.
#[test]
fn the_out_of_order_window_applies_to_what_is_stored() {
    runtime().block_on(async {
        let items = Items::new();
        let now_ms = EPOCH_MS + DAY + 30 * MINUTE;
        items.set_clock(now_ms);
        let lifetimes = Lifetimes { out_of_order_window: span(HOUR), ..usual().lifetimes };
        let settings = Settings { lifetimes, ..usual() };
        let request = Request::up(0, 1439);
        Replica::start(usual(), &items, now_ms).await.answer_rightly(&request, now_ms).await;
        items.settle().await;
        for (later_ms, refetched) in [(10 * MINUTE - 1, 0), (10 * MINUTE, 29)] {
            let now_ms = now_ms + later_ms;
            items.set_clock(now_ms);
            let b = Replica::start(settings, &items, now_ms).await;
            let outcome = b.answer_rightly(&request, now_ms).await;
            assert_eq!(outcome.final_fetched, refetched, "after {later_ms} ms: {:?}", outcome.parts);
            items.settle().await;
        }
    });
}

/// What a clock that runs ahead has written is not used by those whose clock is right; nor does it disturb them.
#[test]
fn extents_from_the_future_are_not_used() {
    for (ahead_ms, is_used) in [(MINUTE, true), (MINUTE + 1, false), (HOUR, false)] {
        runtime().block_on(async {
            let items = Items::new();
            items.set_clock(NOON);
            let request = Request::up(0, 600);
            let ahead = Replica::start(usual(), &items, NOON + ahead_ms).await;
            ahead.answer_behind(&request, NOON + ahead_ms, NOON).await;
            items.settle().await;
            let right = Replica::start(usual(), &items, NOON).await;
            let outcome = right.answer_rightly(&request, NOON).await;
            assert_eq!((outcome.parts.is_empty(), right.misses("future") == 0), (is_used, is_used), "{ahead_ms}");
            items.settle().await;
            let second = Replica::start(usual(), &items, NOON).await;
            assert!(second.answer_rightly(&request, NOON).await.parts.is_empty());
        });
    }
}

/// A tier that never answers costs a query its budget of time, and the answer is right.
#[test]
fn a_tier_that_hangs_costs_its_budget_and_no_more() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        items.fail(|_| Fault::Hangs);
        let began = tokio::time::Instant::now();
        a.answer_rightly(&Request::up(0, 600), NOON).await;
        assert!(began.elapsed() < span(5 * SECOND), "{:?}", began.elapsed());
        assert!(a.misses("timeout") > 0);
        items.recover();
    });
}

/// What the first tier lacks is not asked of the shared one again and again.
#[test]
fn the_shared_tier_is_asked_once_a_minute_at_most() {
    runtime().block_on(async {
        let items = Items::new();
        let a = Replica::start(usual(), &items, NOON).await;
        // What has annotations and cannot be cut is not kept, so it is missing each time.
        let request = Request { text: "noisy", ..Request::up(0, 1439) };
        let mut reads = Vec::new();
        for seconds in [0, 15, 59, 60, 61, 119, 120] {
            let now_ms = NOON + seconds * SECOND;
            items.set_clock(now_ms);
            let part = Request { start_ms: request.start_ms + seconds * MINUTE, ..request };
            a.answer_rightly(&part, now_ms).await;
            items.settle().await;
            reads.push(a.door.tally().reads);
        }
        let asked: Vec<u64> = reads.iter().map(|count| count - reads[0]).collect();
        assert!(asked[2] <= asked[0] + 1 && asked[6] > asked[2], "{asked:?}");
    });
}

/// What comes of two who ask the same at the same time: the shared tier is read once.
#[test]
fn who_asks_the_same_waits_for_the_same_read() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let request = Request::up(0, 1439);
        Replica::start(usual(), &items, NOON).await.answer_rightly(&request, NOON).await;
        items.settle().await;
        let b = Replica::start(usual(), &items, NOON).await;
        let before = b.door.tally().reads;
        let many = (0..20).map(|_| b.answer_rightly(&request, NOON));
        let outcomes = futures::future::join_all(many).await;
        assert!(outcomes.iter().all(|outcome| outcome.parts.is_empty()));
        assert_eq!(b.door.tally().reads - before, 1);
    });
}

/// A query of two slots is one question to the store, whatever it holds of them.
#[test]
fn the_pages_of_a_query_are_one_batch() {
    runtime().block_on(async {
        let items = Items::new();
        let now_ms = EPOCH_MS + 5 * DAY + 12 * HOUR;
        items.set_clock(now_ms);
        let a = Replica::start(usual(), &items, now_ms).await;
        a.answer_rightly(&Request::up(0, 4 * 1440), now_ms).await;
        let tally = a.door.tally();
        assert_eq!((tally.reads, tally.keys_read >= 5), (1, true), "{tally:?}");
        items.settle().await;
    });
}

#[test]
fn there_are_not_more_pages_asked_for_than_are_bounded() {
    runtime().block_on(async {
        let items = Items::new();
        let now_ms = EPOCH_MS + 2 * DAY;
        items.set_clock(now_ms);
        let settings = Settings { policy: SplitPolicy { interval_ms: MINUTE, max_parts: 64 }, ..usual() };
        let a = Replica::start(settings, &items, now_ms).await;
        let request = Request { step_ms: 100, ..Request::up(0, 600) };
        let asked = super::model::read(&request, &settings);
        assert!(asked.key.slots.of(&asked.planned.query.grid).len() > 512);
        a.cache.look_up(&asked.key, &asked.planned, Timestamp::from_ms(now_ms)).await;
        assert_eq!(a.door.tally().keys_read, 512);
    });
}
