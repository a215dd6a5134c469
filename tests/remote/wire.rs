//! What networks and servers do to calls: they refuse, swallow, delay and garble them (rows 1 to 9 and 15).

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::cell::{Afterwards, Cache, Cell, Sign, cell, together};
use crate::support::faults::{Calls, Fault, Mode};
use crate::support::{Http, until};
use crate::truth::is_full;

/// A cell in which calls meet a fault, and then no longer.
fn calls_meet(
    name: &'static str,
    cache: Cache,
    (calls, fault): (Calls, Fault),
    signs: &'static [Sign],
) -> LocalBoxFuture<'static, ()> {
    async move {
        let inject = async |cell: &mut Cell| cell.set(Mode::Each(calls, fault)).await;
        let heal = async |cell: &mut Cell| cell.set(Mode::Pass).await;
        cell(name, cache, inject, signs, heal, Afterwards::Kept).await;
    }
    .boxed_local()
}

async fn nothing(_: &mut Cell) {}

/// Row 1 and 2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_not_there_at_the_start_is_not_waited_for() {
    let mut cells = Vec::new();
    let modes = [("refused", Mode::Refuse), ("black hole", Mode::BlackHole), ("no handshake", Mode::NoHandshake)];
    for (name, mode) in modes {
        for cache in Cache::both().await {
            cells.push(starts_under(name, cache, mode.clone()).boxed_local());
        }
    }
    together(cells).await;
}

async fn starts_under(name: &str, cache: Cache, mode: Mode) {
    let mut cell = Cell::taught(&format!("{name} at the start"), cache).await;
    cell.set(mode).await;
    let (began, http) = (Instant::now(), Http::new());
    cell.start_replicas();
    let url = format!("{}/-/ready", cell.reader().url);
    until("it is ready", async || http.try_get(&url).await.is_some_and(|answer| answer.status.is_success())).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{name}: ready after {took:?}");
    assert!(cell.ask_phase(0).await < 0.5, "{name}: nothing can come from there");
    cell.suffer(&[Sign::Miss("purges-unknown")]).await;
    cell.set(Mode::Pass).await;
    cell.recover(Afterwards::Kept).await;
    cell.end();
}

/// A little more than what is waited for where nobody waits: none of these replies is of use.
const SLOW: Duration = Duration::from_millis(1100);

/// Rows 3 to 5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_dies_or_falls_silent_is_left_alone() {
    const SIGNS: &[Sign] = &[Sign::Miss("timeout"), Sign::LeftAlone];
    let mut cells = Vec::new();
    let faults = [("slow", Fault::Slow(SLOW)), ("hangs", Fault::Hang), ("half a reply", Fault::Half)];
    for (name, fault) in faults {
        for cache in Cache::both().await {
            cells.push(calls_meet(name, cache, (Calls::Data, fault.clone()), SIGNS));
        }
    }
    for cache in Cache::both().await {
        let stopped = async move {
            let inject = async |cell: &mut Cell| cell.cache.pause().await;
            let heal = async |cell: &mut Cell| cell.cache.resume();
            cell("stopped", cache, inject, SIGNS, heal, Afterwards::Kept).await;
        };
        cells.push(stopped.boxed_local());
    }
    for cache in Cache::both().await {
        let killed = async move {
            let inject = async |cell: &mut Cell| cell.cache.kill();
            let heal = async |cell: &mut Cell| cell.cache.restart().await;
            cell("killed", cache, inject, &[Sign::Miss("unavailable")], heal, Afterwards::Lost).await;
        };
        cells.push(killed.boxed_local());
    }
    together(cells).await;
}

/// Row 6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_reply_is_nobody_elses() {
    let late = || (Calls::Reads, Fault::Late);
    let cells = Cache::both().await.map(|cache| calls_meet("late", cache, late(), &[Sign::Miss("timeout")]));
    together(cells).await;
}

/// Row 7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_is_a_miss() {
    const GARBLED: &[Sign] = &[Sign::MissOf(&["garbage", "unavailable", "timeout"])];
    let mut cells = Vec::new();
    for cache in Cache::both().await {
        cells.push(calls_meet("garbage", cache, (Calls::Data, Fault::Garbage), GARBLED));
    }
    for cache in Cache::both().await {
        cells.push(calls_meet("reset", cache, (Calls::Data, Fault::Reset), &[Sign::Miss("unavailable")]));
    }
    let of_another_type = async {
        let (cache, signs) = (Cache::redis(&[]).await, [Sign::Miss("absent")]);
        cell("wrong type", cache, make_lists, &signs, nothing, Afterwards::Lost).await;
    };
    cells.push(of_another_type.boxed_local());
    for cache in Cache::both().await {
        let emptied = async { cell("nil", cache, empty, &[Sign::Miss("absent")], nothing, Afterwards::Lost).await };
        cells.push(emptied.boxed_local());
    }
    together(cells).await;
}

async fn make_lists(cell: &mut Cell) {
    for (key, _) in cell.cache.pages().await {
        let Cache::Redis(redis) = &cell.cache else { panic!("it is a Redis") };
        redis.command(&["DEL", &key]).await;
        assert_eq!(redis.command(&["RPUSH", &key, "x"]).await, b":1\r\n");
    }
}

async fn empty(cell: &mut Cell) {
    match &cell.cache {
        Cache::Redis(server) => drop(server.command(&["FLUSHALL"]).await),
        Cache::Memcached(server) => drop(server.command("flush_all\r\n").await),
        Cache::Several(..) => {}
    }
}

/// Row 8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_are_a_miss() {
    let flips = || (Calls::Reads, Fault::BitFlips(2000));
    let cells = Cache::both().await.map(|cache| calls_meet("bit flips", cache, flips(), &[Sign::Miss("checksum")]));
    together(cells).await;
}

/// Row 9; every length is shown where pages are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncated_values_are_a_miss() {
    let lengths = [0, 1, 13, 14, 15, 17, 18, 25, 26, 30, 100, 150];
    let faults = lengths.map(Fault::Truncated);
    let mut cells = Vec::new();
    for cache in Cache::both().await {
        cells.push(
            meets_each("truncated".to_owned(), cache, (Calls::Data, &faults), &[Sign::Miss("pieces")]).boxed_local(),
        );
    }
    together(cells).await;
}

/// A cell in which calls meet one fault after the other.
async fn meets_each(name: String, cache: Cache, (calls, faults): (Calls, &[Fault]), signs: &[Sign]) {
    let mut cell = Cell::taught(&name, cache).await;
    cell.begin().await;
    for (number, fault) in faults.iter().enumerate() {
        cell.set(Mode::Each(calls, fault.clone())).await;
        let each = cell.questions[1].len().div_ceil(faults.len());
        let questions: Vec<_> = cell.questions[1].iter().skip(number * each).take(each).cloned().collect();
        cell.suffer_with(&questions, signs).await;
        // Who is refused for long does not ask any more.
        cell.set(Mode::Pass).await;
        cell.until_shared(crate::cell::BACK_WITHIN).await;
    }
    cell.recover(Afterwards::Kept).await;
    cell.end();
}

/// Row 15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_cache_are_misses_and_nobody_elses_errors() {
    const SIGNS: &[Sign] = &[Sign::Miss("refused")];
    let redis = [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "EXECABORT Transaction discarded because of previous errors.",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR unknown command",
        "BUSY Redis is busy running a script.",
    ];
    let memcached = [
        "SERVER_ERROR out of memory storing object",
        "SERVER_ERROR temporary failure",
        "ERROR",
        "CLIENT_ERROR bad data chunk",
    ];
    let faults = |texts: &[&str]| texts.iter().map(|text| Fault::Error((*text).to_owned())).collect::<Vec<_>>();
    let (redis, memcached) = (faults(&redis), faults(&memcached));
    // All of them in one cell each, or each of them in its own.
    let at_once = if is_full() { 1 } else { 100 };
    let mut cells = Vec::new();
    for faults in redis.chunks(at_once) {
        let cache = Cache::redis(&[]).await;
        cells.push(meets_each(format!("error {:?}", faults[0]), cache, (Calls::Data, faults), SIGNS).boxed_local());
    }
    for faults in memcached.chunks(at_once) {
        let cache = Cache::memcached(&[]).await;
        cells.push(meets_each(format!("error {:?}", faults[0]), cache, (Calls::Data, faults), SIGNS).boxed_local());
    }
    let full = [
        ("OOM command not allowed", Cache::redis(&[]).await),
        ("SERVER_ERROR out of memory", Cache::memcached(&[]).await),
    ];
    for (text, cache) in full {
        let fault = (Calls::Writes, Fault::Error(text.to_owned()));
        cells.push(calls_meet("writes are refused", cache, fault, &[Sign::Written("refused")]));
    }
    together(cells).await;
}

/// Whatever call fails, and how: the n-th, for every n until there are not so many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_call_fails_the_answers_are_right() {
    let faults = [
        ("reset", Fault::Reset),
        ("hang", Fault::Hang),
        ("garbage", Fault::Garbage),
        ("error", Fault::Error("SERVER_ERROR no".to_owned())),
    ];
    let mut cells = Vec::new();
    for (name, fault) in faults {
        for cache in Cache::both().await {
            cells.push(each_call_fails(name, cache, fault.clone()).boxed_local());
        }
    }
    together(cells).await;
}

async fn each_call_fails(name: &str, cache: Cache, fault: Fault) {
    let mut cell = Cell::taught(&format!("n-th call: {name}"), cache).await;
    let few: Vec<_> = cell.questions[0].iter().take(4).cloned().collect();
    let (mut number, mut fired) = (1, 0);
    loop {
        cell.set(Mode::Nth(number, Calls::DataAndConnects, fault.clone())).await;
        // It reads what was taught, and learns something that it writes.
        let replica = cell.start_one(Duration::from_secs(3)).await;
        cell.all_same(&replica, &few).await;
        replica.stop().await;
        if !cell.proxy.fired() {
            break;
        }
        fired += 1;
        number += if is_full() { 1 } else { 1 + number / 4 };
    }
    assert!(fired >= 8, "{name}: {fired} calls failed");
    cell.note(format_args!("{fired} calls failed, the last of them the last of {number}"));
    cell.end_of_few();
}
