//! What was purged dies in memory, in the shared tier and at the other replicas, whatever order things happen in; what is
//! fetched later lives.

use std::cell::Cell;

use promfront::cache::purge::{EFFECTIVE_WITHIN, PurgeError, Rule};
use promfront::cache::purger::Found;
use promfront::cache::store::Loss;
use promfront::model::time::millis;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::model::{
    DAY, EPOCH_MS, HOUR, MINUTE, Replica, Request, SECOND, Server, Speech, at, mix, runtime, stamps, usual,
};
use super::store::{Fault, Items, RULES};

const NOON: i64 = EPOCH_MS + DAY + 12 * HOUR;
/// As long as after this what is fetched is fetched after the purge.
const GRACE_MS: i64 = 15 * SECOND;

/// A purge, and what it is about.
#[derive(Clone, Copy, Debug)]
struct Purge {
    tenant: Option<&'static str>,
    query: Option<&'static str>,
    range: Option<(i64, i64)>,
}

const EVERYTHING: Purge = Purge { tenant: None, query: None, range: None };

impl Purge {
    fn rule(&self, now_ms: i64) -> Rule {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let range = (self.range.map(|range| at(range.0)), self.range.map(|range| at(range.1)));
        Rule::new(owned(self.tenant), owned(self.query), range, at(now_ms)).expect("it is short")
    }

    fn is_about(&self, request: &Request, t: i64) -> bool {
        self.tenant.is_none_or(|tenant| tenant == "anonymous")
            && self.query.is_none_or(|query| query == request.text)
            && self.range.is_none_or(|(start, end)| start <= t && t <= end)
    }
}

async fn stamped(replica: &Replica, request: &Request, now_ms: i64) -> Vec<(i64, i64)> {
    let server = Server { now_ms, settles_within_ms: 0, speech: Speech::Stamp };
    stamps(&replica.answer(request, now_ms, &server).await.body, &request.grid())
}

#[test]
fn the_grace_is_what_it_is_said_to_be() {
    assert_eq!(millis(EFFECTIVE_WITHIN), GRACE_MS);
}

#[test]
fn a_purge_is_of_what_it_names() {
    let (middle, day) = ((EPOCH_MS + 6 * HOUR, EPOCH_MS + 7 * HOUR), (EPOCH_MS, EPOCH_MS + DAY));
    let before = (EPOCH_MS - DAY, EPOCH_MS - 1);
    let after = (EPOCH_MS + DAY, EPOCH_MS + 2 * DAY);
    for (purge, is_gone) in [
        (EVERYTHING, true),
        (Purge { tenant: Some("anonymous"), ..EVERYTHING }, true),
        (Purge { tenant: Some("anonymou"), ..EVERYTHING }, false),
        (Purge { query: Some("up"), ..EVERYTHING }, true),
        (Purge { query: Some("up "), ..EVERYTHING }, false),
        (Purge { range: Some(middle), ..EVERYTHING }, true),
        (Purge { range: Some(day), ..EVERYTHING }, true),
        (Purge { range: Some((EPOCH_MS - DAY, EPOCH_MS)), ..EVERYTHING }, true),
        (Purge { range: Some((EPOCH_MS + DAY - MINUTE, EPOCH_MS + DAY)), ..EVERYTHING }, true),
        (Purge { range: Some((EPOCH_MS + DAY - MINUTE + 1, EPOCH_MS + DAY)), ..EVERYTHING }, false),
        (Purge { range: Some(before), ..EVERYTHING }, false),
        (Purge { range: Some(after), ..EVERYTHING }, false),
        (Purge { tenant: Some("anonymous"), query: Some("up"), range: Some(middle) }, true),
        (Purge { tenant: Some("other"), query: Some("up"), range: Some(middle) }, false),
    ] {
        runtime().block_on(async {
            let items = Items::new();
            items.set_clock(NOON);
            let request = Request::up(0, 1439);
            let (a, b) = (Replica::start(usual(), &items, NOON).await, Replica::start(usual(), &items, NOON).await);
            stamped(&a, &request, NOON).await;
            items.settle().await;
            stamped(&b, &request, NOON).await;
            let now_ms = NOON + MINUTE;
            items.set_clock(now_ms);
            let rule = purge.rule(now_ms);
            let preview = a.cache.purger().preview(&rule, at(now_ms));
            assert_eq!(preview.extents > 0, is_gone, "{purge:?}: {preview:?}");
            assert!(
                stamped(&a, &request, now_ms).await.iter().all(|(_, stamp)| *stamp == NOON),
                "a look takes nothing"
            );
            assert_eq!(a.cache.purger().accept(&rule, at(now_ms)), Ok(preview));
            assert!(a.exchange(now_ms).await);
            assert!(b.exchange(now_ms).await);
            b.cache.report();
            assert_eq!(b.metrics.cache_entries.get() == 0, is_gone, "what is empty is no entry");
            let c = Replica::start(usual(), &items, now_ms).await;
            // First tier, another's first tier, and the shared one; in each all that it held or nothing.
            for (replica, place) in [(&a, "here"), (&b, "elsewhere"), (&c, "shared")] {
                items.fail(|op| if op.is_write { Fault::Forgotten } else { Fault::None });
                let old = stamped(replica, &request, now_ms).await.iter().filter(|(_, stamp)| *stamp == NOON).count();
                assert_eq!(old == 0, is_gone, "{purge:?} {place}: {old}");
                items.settle().await;
            }
            assert_eq!(c.misses("purged") > 0, is_gone);
            items.check();
        });
    }
}

/// What was fetched up to the grace after the purge dies, and what is fetched later lives, here and elsewhere.
#[test]
fn what_is_fetched_after_the_grace_lives() {
    for (after_ms, lives) in [(0, false), (GRACE_MS, false), (GRACE_MS + 1, true)] {
        runtime().block_on(async {
            let items = Items::new();
            items.set_clock(NOON);
            let (a, b) = (Replica::start(usual(), &items, NOON).await, Replica::start(usual(), &items, NOON).await);
            a.cache.purger().accept(&EVERYTHING.rule(NOON), at(NOON)).expect("there is room");
            a.exchange(NOON).await;
            let (request, fetched_ms) = (Request::up(0, 1439), NOON + after_ms);
            items.set_clock(fetched_ms);
            stamped(&b, &request, fetched_ms).await;
            items.settle().await;
            let later = fetched_ms + 2 * MINUTE;
            items.set_clock(later);
            for replica in [&a, &b] {
                replica.exchange(later).await;
                let kept = stamped(replica, &request, later).await.iter().all(|(_, stamp)| *stamp == fetched_ms);
                assert_eq!(kept, lives, "{after_ms}");
                items.settle().await;
            }
        });
    }
}

/// A replica that was away when something was purged does not bring it back: neither by what it holds nor by what it writes.
#[test]
fn who_was_away_brings_nothing_back() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let (a, b) = (Replica::start(usual(), &items, NOON).await, Replica::start(usual(), &items, NOON).await);
        let request = Request::up(0, 1439);
        // B holds it, and could not write it.
        items.fail(|op| if op.is_write { Fault::Lost(Loss::Unavailable) } else { Fault::None });
        stamped(&b, &request, NOON).await;
        items.settle().await;
        let now_ms = NOON + MINUTE;
        items.set_clock(now_ms);
        a.cache.purger().accept(&EVERYTHING.rule(now_ms), at(now_ms)).expect("there is room");
        assert!(a.exchange(now_ms).await);
        // It is written only now, by who does not know yet.
        items.recover();
        stamped(&b, &request, now_ms).await;
        items.settle().await;
        assert!(!items.pages().is_empty());
        let later = now_ms + MINUTE;
        items.set_clock(later);
        assert!(stamped(&a, &request, later).await.iter().all(|(_, stamp)| *stamp == later), "a knows");
        b.exchange(later).await;
        let c = Replica::start(usual(), &items, later).await;
        for replica in [&b, &c] {
            assert!(stamped(replica, &request, later).await.iter().all(|(_, stamp)| *stamp == later));
        }
    });
}

/// Each replica that exchanged after the purge was told knows it, and who knows it shows nothing that it is about: in any
/// order of requests, exchanges, purges, restarts and losses of copies.
#[test]
fn what_is_known_to_be_purged_is_never_shown() {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|digits| digits.parse().ok());
    let config = ProptestConfig { cases: asked.unwrap_or(40), failure_persistence: None, ..ProptestConfig::default() };
    let turn = (0..10_u8, 0..3_usize, prop_oneof![Just(0), 0..20 * SECOND, 0..10 * MINUTE], any::<i64>());
    let (runtime, purged, shown) = (runtime(), Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&prop::collection::vec(turn, 1..60), |turns| {
        runtime.block_on(play(&turns, &purged, &shown));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(purged.get() > 20 && shown.get() > 1000, "{} purges, {} old samples", purged.get(), shown.get());
}

async fn play(turns: &[(u8, usize, i64, i64)], purged: &Cell<u64>, shown: &Cell<u64>) {
    let (items, mut now_ms) = (Items::new(), NOON);
    items.set_clock(now_ms);
    items.lag(2);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(usual(), &items, now_ms).await);
    }
    // Each purge with its time, and who knows it; the last bit says that the shared tier does.
    let mut made: Vec<(Purge, i64, [bool; 4])> = Vec::new();
    for &(what, who, after_ms, seed) in turns {
        now_ms += after_ms;
        items.set_clock(now_ms);
        let first = (mix(&[seed]) % 1000).cast_signed();
        match what {
            0..=4 => {
                let request = Request {
                    text: ["up", "max_over_time(up[2h])"][usize::from(what % 2)],
                    ..Request::up(first, (first + 400).min(1439))
                };
                for (t, stamp) in stamped(&replicas[who], &request, now_ms).await {
                    for (purge, at_ms, known) in &made {
                        let is_gone = purge.is_about(&request, t) && stamp <= at_ms + GRACE_MS && stamp != now_ms;
                        assert!(!(known[who] && is_gone), "{purge:?} at {at_ms}: {t} of {stamp} at {now_ms}");
                    }
                    shown.set(shown.get() + u64::from(stamp != now_ms));
                }
            }
            5 | 6 => {
                assert!(replicas[who].exchange(now_ms).await);
                for (_, _, known) in &mut made {
                    let either = known[who] || known[3];
                    (known[who], known[3]) = (either, either);
                }
            }
            7 => {
                let range = (EPOCH_MS + first * MINUTE, EPOCH_MS + (first + 100) * MINUTE);
                let purge = [
                    EVERYTHING,
                    Purge { query: Some("up"), ..EVERYTHING },
                    Purge { range: Some(range), ..EVERYTHING },
                    Purge { tenant: Some("anonymous"), range: Some(range), ..EVERYTHING },
                ][usize::try_from(mix(&[seed, 1]) % 4).expect("one of four")];
                replicas[who].cache.purger().accept(&purge.rule(now_ms), at(now_ms)).expect("there is room");
                let mut known = [false; 4];
                known[who] = true;
                made.push((purge, now_ms, known));
                purged.set(purged.get() + 1);
            }
            8 => {
                // All copies but one are lost: what lies there is enough.
                let kept = items.rules().into_keys().nth(usize::from(seed % 2 == 0));
                items.forget(|key| key.starts_with(RULES) && kept.as_deref().is_some_and(|kept| kept != key));
            }
            _ => {
                replicas[who] = Replica::start(usual(), &items, now_ms).await;
                for (_, _, known) in &mut made {
                    known[who] = known[3];
                }
            }
        }
        if seed % 3 != 0 {
            items.settle().await;
        }
    }
    items.settle().await;
}

/// A replica that does not know what was purged neither reads nor writes the shared tier; when it knows again it does.
#[test]
fn who_cannot_read_the_rules_does_not_use_the_store() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let request = Request::up(0, 1439);
        let a = Replica::start(usual(), &items, NOON).await;
        a.answer_rightly(&request, NOON).await;
        items.settle().await;
        let before = items.pages();
        items.lose_rules();
        let b = Replica::new(usual(), &items);
        assert!(!b.exchange(NOON).await, "nobody was told");
        assert!(!b.cache.purger().is_current());
        let other = Request { text: "max_over_time(up[2h])", ..request };
        assert_eq!(b.answer_rightly(&request, NOON).await.held, 0);
        b.answer_rightly(&other, NOON).await;
        items.settle().await;
        assert!(b.misses("purges-unknown") > 0);
        assert_eq!((b.door.tally().reads, b.door.tally().writes), (0, 0));
        assert_eq!(items.pages(), before);
        // What it could not write it writes when it may again.
        items.recover();
        let later = NOON + MINUTE;
        items.set_clock(later);
        assert!(b.exchange(later).await);
        b.answer_rightly(&other, later).await;
        items.settle().await;
        assert_eq!(items.pages().len(), 2 * before.len());
    });
}

/// Who was told and who was not is said truly.
#[test]
fn a_purge_that_was_not_told_is_said_not_to_be() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        items.lose_rules();
        a.cache.purger().accept(&EVERYTHING.rule(NOON), at(NOON)).expect("there is room");
        assert!(!a.exchange(NOON).await);
        items.recover();
        assert!(a.exchange(NOON).await);
        let b = Replica::start(usual(), &items, NOON).await;
        assert_eq!(b.cache.purger().rules(), a.cache.purger().rules());
        assert_eq!(b.cache.purger().rules().all().len(), 1);
    });
}

/// Copies that were damaged are neither believed nor kept.
#[test]
fn damaged_copies_of_the_rules_are_not_believed() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        a.cache
            .purger()
            .accept(&Purge { query: Some("up"), ..EVERYTHING }.rule(NOON), at(NOON))
            .expect("there is room");
        a.exchange(NOON).await;
        let (key, sound) = items.rules().into_iter().next().expect("there are copies");
        for bit in (0..sound.len() * 8).step_by(7) {
            let mut damaged = sound.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            items.put(&key, damaged.into());
            let b = Replica::start(usual(), &items, NOON).await;
            assert_eq!(b.cache.purger().rules(), a.cache.purger().rules(), "bit {bit}");
            assert_eq!(items.rules()[&key], sound, "bit {bit}: it is written anew");
        }
    });
}

/// Rules are bounded: too many are refused, a purge of everything makes room, and so does time.
#[test]
fn rules_are_bounded_and_expire_with_the_lifetime() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        let (purger, ttl_ms) = (a.cache.purger(), 7 * DAY);
        let one = |number: i64| Purge { range: Some((number, number + 1)), ..EVERYTHING };
        for number in 0..256 {
            purger.accept(&one(number).rule(NOON + number), at(NOON + number)).expect("there is room");
        }
        assert_eq!(purger.accept(&one(999).rule(NOON), at(NOON + 999)), Err(PurgeError::TooMany));
        a.exchange(NOON).await;
        let copies = items.rules();
        assert!(copies.len() > 1 && copies.values().all(|copy| copy.len() < 64 << 10));
        // Time makes room: a rule goes when nothing can be left that it is about.
        let last_ms = NOON + GRACE_MS + ttl_ms;
        a.exchange(last_ms).await;
        assert_eq!(purger.rules().all().len(), 256);
        a.exchange(last_ms + 1).await;
        assert_eq!(purger.rules().all().len(), 255);
        assert_eq!(purger.accept(&one(999).rule(last_ms), at(last_ms + 1)), Ok(Found::default()));
        // So does a purge of everything, and any number of them.
        for number in 0..300 {
            purger.accept(&EVERYTHING.rule(last_ms + number), at(last_ms + number)).expect("it replaces the others");
        }
        assert_eq!(purger.rules().all().len(), 1, "the last one says it all");
    });
}

/// Two replicas that each took as many purges as there may be lose none of them: what does not fit becomes a wider one.
#[test]
fn rules_that_do_not_fit_are_not_forgotten() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let (a, b) = (Replica::start(usual(), &items, NOON).await, Replica::start(usual(), &items, NOON).await);
        let request = Request::up(0, 1439);
        for replica in [&a, &b] {
            stamped(replica, &request, NOON).await;
            items.settle().await;
        }
        let now_ms = NOON + MINUTE;
        items.set_clock(now_ms);
        let up = Purge { query: Some("up"), ..EVERYTHING };
        a.cache.purger().accept(&up.rule(now_ms), at(now_ms)).expect("there is room");
        for (replica, from) in [(&a, 0), (&b, 1000)] {
            for number in from..from + 200 {
                let elsewhere = Purge { range: Some((number, number)), ..EVERYTHING };
                let at_ms = now_ms + 1 + number;
                replica.cache.purger().accept(&elsewhere.rule(at_ms), at(at_ms)).expect("there is room");
            }
        }
        let later = now_ms + MINUTE;
        items.set_clock(later);
        for replica in [&a, &b, &a, &b] {
            replica.exchange(later).await;
            assert!(replica.cache.purger().rules().all().len() <= 256);
        }
        for replica in [&a, &b, &Replica::start(usual(), &items, later).await] {
            assert!(stamped(replica, &request, later).await.iter().all(|(_, stamp)| *stamp == later));
            items.settle().await;
        }
    });
}

/// A purge of a stretch of time takes what touches it and leaves the rest.
#[test]
fn the_rest_of_a_slot_is_left() {
    runtime().block_on(async {
        let items = Items::new();
        items.set_clock(NOON);
        let a = Replica::start(usual(), &items, NOON).await;
        // Extents of very different ages are not merged.
        stamped(&a, &Request::up(0, 600), NOON).await;
        let now_ms = NOON + 2 * DAY;
        items.set_clock(now_ms);
        stamped(&a, &Request::up(0, 1439), now_ms).await;
        items.settle().await;
        let middle = Purge { range: Some((EPOCH_MS, EPOCH_MS + HOUR)), ..EVERYTHING };
        let found = a.cache.purger().accept(&middle.rule(now_ms), at(now_ms)).expect("there is room");
        assert_eq!(found.extents, 1, "{found:?}");
        a.exchange(now_ms).await;
        let later = now_ms + MINUTE;
        items.set_clock(later);
        let b = Replica::start(usual(), &items, later).await;
        for replica in [&b, &a] {
            let shown = stamped(replica, &Request::up(0, 1439), later).await;
            assert!(shown[..601].iter().all(|(_, stamp)| *stamp == later), "purged");
            assert!(shown[601..].iter().all(|(_, stamp)| *stamp == now_ms), "left");
        }
    });
}

#[test]
fn a_purge_that_makes_no_sense_is_refused() {
    let long = "x".repeat(2049);
    let range = |start, end| (Some(at(start)), Some(at(end)));
    let refused = |query: &str, range| Rule::new(None, Some(query.to_owned()), range, at(NOON)).err();
    assert_eq!(refused(&long, (None, None)), Some(PurgeError::QueryTooLong(2049)));
    assert_eq!(refused(&long[1..], (None, None)), None);
    assert_eq!(refused("up", range(2, 1)), Some(PurgeError::EmptyRange));
    assert_eq!(refused("up", range(1, 1)), None);
}
