//! The exhaustive loop: in a fixed history the n-th call to the store fails, for each n until there is no n-th call, and for
//! each way to fail. The answers are always those of the server, and what was lost is learnt again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use promfront::cache::store::Loss;

use super::model::{
    DAY, EPOCH_MS, HOUR, MINUTE, Replica, Request, SECOND, Server, Settings, Speech, is_thorough, runtime, usual,
};
use super::store::{Fault, Items};

/// When the history begins: the second section of the day's slot ends while it is refreshed.
const BEGIN_MS: i64 = EPOCH_MS + 14 * HOUR + 30 * MINUTE;

/// Which replica is asked what, and what the server would say.
struct Turn {
    who: usize,
    now_ms: i64,
    request: Request,
    answer: Bytes,
}

impl Turn {
    fn server(&self) -> Server {
        Server { now_ms: self.now_ms, settles_within_ms: settings().freshness_ms, speech: Speech::Data }
    }
}

fn history() -> Vec<Turn> {
    let (mut turns, mut now_ms) = (Vec::new(), BEGIN_MS);
    let mut turn = |who, after_ms, request: Request| {
        now_ms += after_ms;
        let mut turn = Turn { who, now_ms, request, answer: Bytes::new() };
        turn.answer = turn.server().body(request.text, &request.grid());
        turns.push(turn);
    };
    let up = |text, first: i64, last: i64| Request { text, step_ms: 7 * MINUTE, ..Request::up(7 * first, 7 * last) };
    // A dashboard at both, in a slot that grows over the end of a section, with a minute and more between refreshes.
    for refresh in 0..6 {
        turn(usize::from(refresh % 2 == 1), 21 * MINUTE, up("up", 90 + 3 * refresh, 124 + 3 * refresh));
    }
    // The past, in pieces at both, the same at both, and at one that begins anew.
    for (who, first, last) in [(0, -80, -50), (1, -60, -30), (0, -30, 0), (1, -80, 0), (2, -80, 0), (2, -100, 0)] {
        turn(who, 61 * SECOND, up("max_over_time(up[2h])", first, last));
    }
    // What has annotations, what has no answer, and what reads ahead.
    for text in ["noisy", "nothing", "up offset -7m"] {
        for who in [0, 1, 2] {
            turn(who, 30 * SECOND, up(text, -40, -10));
        }
    }
    // The same again after the end of most lives.
    for who in [0, 1, 2, 0] {
        turn(who, DAY / 2, up("up", 60, 130));
    }
    // Coarse steps.
    for who in [1, 0, 2] {
        turn(who, 61 * SECOND, Request { step_ms: HOUR, ..Request::up(-3000, 0) });
    }
    turns
}

fn settings() -> Settings {
    // Small items, so that most pages are cut.
    Settings { longest: 1500, ..usual() }
}

/// Plays the history; whether the fault fired, and why the shared tier did not have what was wanted.
async fn play(
    (fault, [is_of_writes, is_of_pieces], call): (Fault, [bool; 2], u64),
    history: &[Turn],
) -> (bool, BTreeSet<&'static str>) {
    let items = Items::new();
    let fired = Arc::new(AtomicBool::new(false));
    items.set_clock(BEGIN_MS);
    let tell = Arc::clone(&fired);
    items.fail(move |op| {
        let is_due = op.call == call && op.is_write == is_of_writes && (!is_of_pieces || op.key.ends_with("/1"));
        tell.fetch_or(op.call == call && op.is_write == is_of_writes, Ordering::Relaxed);
        if is_due { fault } else { Fault::None }
    });
    let mut now_ms = BEGIN_MS;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(settings(), &items, now_ms).await);
    }
    for turn in history {
        now_ms = turn.now_ms;
        items.set_clock(now_ms);
        let outcome = replicas[turn.who].answer(&turn.request, now_ms, &turn.server()).await;
        assert!(outcome.body == turn.answer, "{fault:?} of call {call}: {:?}", turn.request);
        items.settle().await;
    }
    items.recover();
    // Whatever failed: who needs all of it asks for what is missing, and the next one is served.
    let past = Request { text: "up", step_ms: 7 * MINUTE, ..Request::up(-7 * 205, 7 * 205) };
    for attempt in 0..2 {
        let late = Replica::start(settings(), &items, now_ms).await;
        let outcome = late.answer_rightly(&past, now_ms).await;
        assert!(attempt == 0 || outcome.parts.is_empty(), "{fault:?} of call {call}: {:?}", outcome.parts);
        items.settle().await;
    }
    items.check();
    let reasons = ["absent", "timeout", "unavailable", "refused", "garbage", "pieces", "checksum", "key", "length"];
    let seen = |reason: &&'static str| replicas.iter().any(|replica| replica.misses(reason) > 0);
    (fired.load(Ordering::Relaxed), reasons.into_iter().filter(seen).collect())
}

/// Fails each call in turn, of reads or of writes, wholly or one piece of a value; what came of it, and how many there are.
///
/// Unless the environment asks for all of them, a way to fail meets every third call, and each call a third of the ways.
fn fail_each(fault: Fault, lane: u64, calls_of: [bool; 2]) -> (BTreeSet<&'static str>, u64) {
    let runtime = runtime();
    let (mut seen, mut call, history) = (BTreeSet::new(), 1, history());
    loop {
        if !is_thorough() && !(call + lane).is_multiple_of(3) {
            call += 1;
            continue;
        }
        let (fired, reasons) = runtime.block_on(play((fault, calls_of, call), &history));
        if !fired {
            return (seen, call);
        }
        seen.extend(reasons);
        call += 1;
    }
}

#[test]
fn any_read_may_fail_in_any_way() {
    for (lane, (fault, reason)) in (0..).zip([
        (Fault::Lost(Loss::Timeout), "timeout"),
        (Fault::Lost(Loss::Unavailable), "unavailable"),
        (Fault::Lost(Loss::Garbage), "garbage"),
        (Fault::Forgotten, "absent"),
        (Fault::Garbage, "pieces"),
        (Fault::Another, "pieces"),
        (Fault::Older, "absent"),
        (Fault::Damaged, "checksum"),
        (Fault::Cut, "pieces"),
    ]) {
        let (seen, calls) = fail_each(fault, lane, [false, false]);
        assert!(seen.contains(reason), "{fault:?}: {seen:?}");
        assert!(calls > 15, "{calls}");
    }
}

#[test]
fn any_write_may_fail_in_any_way() {
    let faults = [Fault::Lost(Loss::Timeout), Fault::Lost(Loss::Refused), Fault::Unheard, Fault::Forgotten];
    for (lane, fault) in (0..).zip(faults) {
        let (_, calls) = fail_each(fault, lane, [true, false]);
        assert!(calls > 8, "{calls}");
    }
}

/// The first piece of a value and the others do not always have the same luck.
#[test]
fn a_piece_of_any_call_may_fail() {
    for (fault, is_of_writes) in [(Fault::Forgotten, true), (Fault::Older, false), (Fault::Another, false)] {
        let (seen, _) = fail_each(fault, 0, [is_of_writes, true]);
        assert!(is_of_writes || seen.contains("pieces") || seen.contains("absent"), "{fault:?}: {seen:?}");
    }
}
