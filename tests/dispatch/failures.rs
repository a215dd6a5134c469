//! Tries that fail: which are tried again, how often, at whose cost, and what the client hears in the end.

use promfront::error::ErrorKind;
use promfront::sched::dispatch::Job;

use super::world::*;

/// Prometheus while it starts.
const NOT_READY: &str = r#"{"status":"error","errorType":"unavailable","error":"TSDB not ready"}"#;

/// How a try may fail so that another querier may fare better.
const FAILURES: [fn(Job); 5] = [
    |job| job.declined("connection refused"),
    |job| job.vanished("connection reset"),
    |job| job.answer_whole(answer(502, "<html>bad gateway</html>"), None),
    |job| job.answer_whole(answer(503, NOT_READY), None),
    |job| job.answer_whole(answer(504, "<html>504 Gateway Time-out</html>"), None),
];

/// What lies with the querier is tried at another one, and the client does not notice.
#[tokio::test(start_paused = true)]
async fn what_lies_with_the_querier_is_tried_elsewhere() {
    for fail in FAILURES {
        let world = World::new();
        let mut slots = [world.slot("a"), world.slot("a"), world.slot("b")];
        // The querier that is asked first is busy beside it, so that it is known who is asked.
        let asked = world.ask(request("a"));
        let [first, beside, other] = &mut slots;
        fail(at_once(first).await);
        let (again, idle, idle_too) = (at_once(other), nothing(first, 50 * MS), nothing(beside, 50 * MS));
        let (job, (), ()) = tokio::join!(again, idle, idle_too);
        job.answer_whole(answer(200, "from b"), None);
        assert_eq!(answered(asked).await, (200, "from b".to_owned()));
        assert_eq!(world.failed_tries("tried_again"), 1);
        world.is_at_rest().await;
    }
}

/// With one querier alone it is tried there again.
#[tokio::test(start_paused = true)]
async fn a_querier_that_is_alone_is_tried_twice() {
    for fail in FAILURES {
        let world = World::new();
        let mut slot = world.slot("a");
        let asked = world.ask(request("a"));
        fail(at_once(&mut slot).await);
        soon(&mut slot).await.answer_whole(answer(200, "after all"), None);
        assert_eq!(answered(asked).await, (200, "after all".to_owned()));
        world.is_at_rest().await;
    }
}

/// After two failures the client has the last one: the server's own answer, or why there was none.
#[tokio::test(start_paused = true)]
async fn after_two_failures_the_client_has_the_last() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked = world.ask(request("answers"));
    at_once(&mut first).await.answer_whole(not_ready("a is not ready"), None);
    at_once(&mut second).await.answer_whole(answer(502, "b is not ready"), None);
    assert_eq!(answered(asked).await, (502, "b is not ready".to_owned()));
    assert_eq!((world.failed_tries("tried_again"), world.failed_tries("attempts_spent")), (1, 1));
    world.is_at_rest().await;

    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked = world.ask(request("no answers"));
    at_once(&mut first).await.declined("a refused");
    at_once(&mut second).await.declined("b refused");
    let (kind, message) = refused(asked).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(message.contains("b refused"), "{message}");
    nothing(&mut first, SECOND).await;
    assert_eq!(world.dropped("attempts_spent"), 1);
    world.is_at_rest().await;
}

/// Everything that is the query's own doing is handed on at once.
#[tokio::test(start_paused = true)]
async fn what_lies_with_the_query_is_handed_on() {
    let timed_out = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
    let cases = [
        (400, "bad"),
        (404, "no page"),
        (408, ""),
        (422, "execution"),
        (429, "slow down"),
        (500, "broken"),
        (501, ""),
        (505, ""),
        (503, timed_out),
        (504, timed_out),
    ];
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    for (status, body) in cases {
        let asked = world.ask(request(&format!("{status} {body}")));
        at_once(&mut first).await.answer_whole(answer(status, body), None);
        assert_eq!(answered(asked).await, (status, body.to_owned()));
        nothing(&mut second, MS).await;
        assert_eq!(world.counts(), (0, 0), "{status}");
    }
    assert!(!world.metrics.encode().contains("failed_tries_total{"), "none of them is a failed try");
    world.is_at_rest().await;
}

/// What was never sent is no try: as often as it takes, and both real tries are left.
#[tokio::test(start_paused = true)]
async fn what_was_never_sent_does_not_count() {
    let world = World::new();
    let mut slot = world.slot("a");
    let asked = world.ask(request("a"));
    for _ in 0..50 {
        at_once(&mut slot).await.unsent();
        assert_eq!(world.counts(), (1, 0));
    }
    at_once(&mut slot).await.declined("refused");
    for _ in 0..50 {
        soon(&mut slot).await.unsent();
    }
    at_once(&mut slot).await.answer_whole(answer(200, "at last"), None);
    assert_eq!(answered(asked).await, (200, "at last".to_owned()));
    assert_eq!(world.failed_tries("tried_again"), 1);
    assert_eq!(world.metric("promfront_downstream_requests_total{code=\"0\"}"), 1, "what was not sent is not counted");
    world.is_at_rest().await;
}

/// Retries are a reserve of twenty and then a tenth of the traffic; beyond it the first failure is handed on.
#[tokio::test(start_paused = true)]
async fn retries_are_a_tenth_of_the_traffic() {
    const REQUESTS: i64 = 1000;
    let world = World::new();
    let mut slot = world.slot("a");
    let mut tries = 0;
    for i in 0..REQUESTS {
        let asked = world.ask(request(&format!("{i}")));
        while !asked.is_finished() {
            if let Ok(job) = tokio::time::timeout(SECOND, slot.next()).await {
                tries += 1;
                job.answer_whole(not_ready("down"), None);
                calm().await;
            }
        }
        assert_eq!(answered(asked).await, (503, "down".to_owned()), "in the server's own words");
    }
    let retries = tries - REQUESTS;
    assert!((REQUESTS / 10..=REQUESTS / 10 + 23).contains(&retries), "{retries} of {REQUESTS}");
    assert_eq!(world.failed_tries("tried_again"), retries);
    assert_eq!(world.failed_tries("attempts_spent"), retries);
    assert_eq!(world.failed_tries("budget_spent"), REQUESTS - retries);
    world.is_at_rest().await;
}

/// What nobody waits for any more costs nothing of what others may have tried again.
#[tokio::test(start_paused = true)]
async fn what_is_not_tried_again_costs_no_budget() {
    let world = World::new();
    let mut slot = world.slot("a");
    // More than the reserve, and too few to earn another retry.
    for i in 0..25 {
        let asked = world.ask(request(&format!("gone {i}")));
        let job = soon(&mut slot).await;
        asked.abort();
        calm().await;
        job.declined("refused");
    }
    let asked = world.ask(request("a"));
    soon(&mut slot).await.declined("refused");
    soon(&mut slot).await.answer_whole(answer(200, "again"), None);
    assert_eq!(answered(asked).await, (200, "again".to_owned()));
    assert_eq!(world.failed_tries("tried_again"), 1);
    world.is_at_rest().await;
}

/// Who announced that he leaves gets nothing more, and takes nobody's try with him: neither the request's nor the budget's.
#[tokio::test(start_paused = true)]
async fn what_a_leaving_querier_had_is_nobodys_fault() {
    let world = World::new();
    let asked = world.ask(request("moves"));
    for i in 0..60 {
        let (mut slot, mut idle) = (world.slot(&format!("old-{i}")), world.slot(&format!("old-{i}")));
        let job = at_once(&mut slot).await;
        world.leaving(&format!("old-{i}"));
        let other = world.ask(request(&format!("not for who leaves {i}")));
        let (mut parked, mut asks) = (Box::pin(idle.next()), Box::pin(slot.next()));
        calm().await;
        assert!(futures::poll!(&mut parked).is_pending() && futures::poll!(&mut asks).is_pending());
        other.abort();
        job.vanished("it left");
        calm().await;
        assert!(futures::poll!(&mut parked).is_pending() && futures::poll!(&mut asks).is_pending());
    }
    assert_eq!((world.failed_tries("same_attempt"), world.failed_tries("tried_again")), (60, 0));
    // Both tries are left, and the budget too.
    let (mut first, mut second) = (world.slot("new"), world.slot("newer"));
    at_once(&mut first).await.declined("refused");
    at_once(&mut second).await.answer_whole(answer(200, "new"), None);
    assert_eq!(answered(asked).await, (200, "new".to_owned()));
    world.is_at_rest().await;
}

/// A successor of the same name does not make its predecessor's farewell a crash.
#[tokio::test(start_paused = true)]
async fn who_left_may_be_followed_by_one_of_his_name() {
    let world = World::new();
    let mut old = world.slot("pod-0");
    let asked = world.ask(request("a"));
    let job = at_once(&mut old).await;
    world.leaving("pod-0");
    pass(SECOND).await;
    let mut new = world.slot("pod-0");
    job.vanished("it left");
    drop(old);
    soon(&mut new).await.answer_whole(answer(200, "new"), None);
    assert_eq!(answered(asked).await, (200, "new".to_owned()));
    assert_eq!(world.failed_tries("same_attempt"), 1);
    world.is_at_rest().await;
}

/// A query under which two queriers vanished is locked away for five minutes, and nobody else is.
#[tokio::test(start_paused = true)]
async fn a_query_of_death_is_locked_away() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked = world.ask(request("of death").like(7));
    at_once(&mut first).await.vanished("reset");
    at_once(&mut second).await.vanished("reset");
    let (kind, message) = refused(asked).await;
    assert_eq!(kind, ErrorKind::Execution);
    assert!(message.contains("quarantined"), "{message}");
    let locked = tokio::time::Instant::now();
    assert_eq!(world.dropped("quarantined"), 1);

    pass(SECOND).await;
    while locked.elapsed() < 299 * SECOND {
        let began = tokio::time::Instant::now();
        let (kind, message) = refused(world.ask(request("of death again").like(7))).await;
        assert!(kind == ErrorKind::Execution && message.contains("quarantined"), "{message}");
        assert!(began.elapsed() < SECOND, "at once");
        let asked = world.ask(request("another").like(8));
        soon(&mut first).await.answer_whole(answer(200, ""), None);
        assert_eq!(answered(asked).await.0, 200, "others are served");
        pass(30 * SECOND).await;
    }
    pass((301 * SECOND).saturating_sub(locked.elapsed())).await;
    let asked = world.ask(request("of death once more").like(7));
    soon(&mut first).await.answer_whole(answer(200, "it was not at fault"), None);
    assert_eq!(answered(asked).await.0, 200);
    assert!(world.metric("promfront_queue_refused_total{reason=\"quarantined\"}") >= 9);
    world.is_at_rest().await;
}

/// Whoever waits with the same query when it is locked away is told so too, and takes no querier with him.
#[tokio::test(start_paused = true)]
async fn what_waits_with_a_query_of_death_is_told_too() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked: Vec<_> = (0..5).map(|i| world.ask(request(&format!("{i}")).like(7))).collect();
    at_once(&mut first).await.vanished("reset");
    at_once(&mut second).await.vanished("reset");
    let told = async {
        for asked in asked {
            let (kind, message) = refused(asked).await;
            assert!(kind == ErrorKind::Execution && message.contains("quarantined"), "{message}");
        }
    };
    let told = tokio::time::timeout(SECOND, told);
    let (told, (), ()) = tokio::join!(told, nothing(&mut first, SECOND), nothing(&mut second, SECOND));
    told.expect("before long");
    world.is_at_rest().await;
}

/// The same while no slot is free: nothing is waited for that will not be given.
#[tokio::test(start_paused = true)]
async fn what_waits_with_a_query_of_death_is_told_though_nobody_is_free() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    let asked: Vec<_> = (0..2).map(|i| world.ask(request(&format!("{i}")).like(7))).collect();
    at_once(&mut first).await.vanished("reset");
    at_once(&mut second).await.vanished("reset");
    for asked in asked {
        let (kind, message) = refused(asked).await;
        assert!(kind == ErrorKind::Execution && message.contains("quarantined"), "{message}");
    }
    world.is_at_rest().await;
}

/// Vanishing twice more than five minutes apart locks nothing away.
#[tokio::test(start_paused = true)]
async fn two_that_vanish_long_after_each_other_lock_nothing_away() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    for _ in 0..3 {
        let asked = world.ask(request("a").like(7).within(LONG));
        let job = soon(&mut first).await;
        job.vanished("reset");
        let again = soon(&mut second).await;
        again.answer_whole(not_ready("declined, not vanished"), None);
        assert_eq!(answered(asked).await.0, 503);
        pass(301 * SECOND).await;
    }
    world.is_at_rest().await;
}

/// A failed try that ends in quarantine was not tried again, and is not counted so.
#[tokio::test(start_paused = true)]
async fn what_is_locked_away_was_not_tried_again() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    // Both run the same query at the same time, for two clients.
    let asked = [world.ask(request("one").like(7)), world.ask(request("two").like(7))];
    let (one, two) = (at_once(&mut first).await, at_once(&mut second).await);
    one.vanished("reset");
    two.vanished("reset");
    tokio::join!(nothing(&mut first, SECOND), nothing(&mut second, SECOND));
    for asked in asked {
        assert_eq!(refused(asked).await.0, ErrorKind::Execution);
    }
    assert_eq!(world.failed_tries("tried_again"), 1, "the first; with the second it was locked away");
    world.is_at_rest().await;
}

/// Those who failed once and then wait in vain are told so in one way, whichever clock notices first.
#[tokio::test(start_paused = true)]
async fn what_failed_and_waits_in_vain_ends_in_one_way() {
    for lost in FAILURES {
        let world = World::new();
        let mut outcomes = std::collections::BTreeSet::new();
        let (mut asked, mut slots, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..10 {
            let mut slot = world.slot(&format!("of {i}"));
            jobs.push({
                asked.push(world.ask(request(&format!("{i}")).within((30 - i % 4) * SECOND)));
                at_once(&mut slot).await
            });
            slots.push(slot);
            pass(u32::from(i % 3 == 0) * SECOND / 2).await;
        }
        jobs.into_iter().for_each(lost);
        // The slots are there, and ask for nothing.
        for asked in asked {
            outcomes.insert(match reply(asked).await {
                Ok(response) => response.status().to_string(),
                Err(error) => format!("{:?}: {}", error.kind, error.message),
            });
        }
        assert_eq!(outcomes.len(), 1, "{outcomes:#?}");
        world.is_at_rest().await;
    }
}

/// What a leaving querier had and nobody takes up is no failure: it waited in vain, and is told so.
#[tokio::test(start_paused = true)]
async fn what_a_leaving_querier_had_and_nobody_takes_up_waited_in_vain() {
    for has_other in [false, true] {
        let world = World::new();
        let mut slot = world.slot("a");
        let asked = world.ask(request("a"));
        let job = at_once(&mut slot).await;
        // Somebody else is there, but asks for nothing.
        let _other = has_other.then(|| world.slot("b"));
        world.leaving("a");
        job.vanished("it left");
        drop(slot);
        let (kind, message) = refused(asked).await;
        if has_other {
            assert!(kind == ErrorKind::Timeout && message.contains("waited in the queue"), "{kind:?} {message}");
        } else {
            assert!(message.contains("sched.max_wait_for_querier"), "{kind:?} {message}");
        }
        world.is_at_rest().await;
    }
}
