//! Requests that wait: for how long, for whom, and what those are told who waited in vain.

use promfront::config::{FullStatus, Sched};
use promfront::error::ErrorKind;
use promfront::sched::queue::words::Lane;
use tokio::time::Instant;

use super::world::*;

/// A request that waits does not keep the clock task busy. With one that spins no other test here would end, and neither
/// would this one: so it runs beside a watch.
#[test]
fn the_clock_sleeps_while_a_request_waits() {
    let (done, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let asked = World::new().ask(request("a").within(SECOND));
            assert_eq!(refused(asked).await.0, ErrorKind::Timeout);
        });
        let _ = done.send(());
    });
    ends.recv_timeout(60 * SECOND).expect("a second on a paused clock is over within a minute");
}

/// Who leaves while he waits is out of the queue at once, and no slot gets what he asked.
#[tokio::test(start_paused = true)]
async fn who_leaves_while_he_waits_leaves_the_queue() {
    let world = World::new();
    let mut asked = Box::pin(world.dispatcher.ask(request("gone").submission()));
    assert!(futures::poll!(&mut asked).is_pending());
    assert_eq!(world.counts(), (1, 0));
    drop(asked);
    assert_eq!(world.counts(), (0, 0), "at once");
    nothing(&mut world.slot("a"), SECOND).await;
    world.is_at_rest().await;
}

/// Who leaves while his request runs is told of to the slot; what it does then is up to it, and the slot is free after.
#[tokio::test(start_paused = true)]
async fn who_leaves_while_it_runs_abandons_it() {
    let world = World::new();
    let mut slot = world.slot("a");
    let asked = world.ask(request("a"));
    let mut job = at_once(&mut slot).await;
    assert!(tokio::time::timeout(SECOND, job.abandoned()).await.is_err(), "somebody waits");
    asked.abort();
    tokio::time::timeout(MS, job.abandoned()).await.expect("nobody waits any more");
    calm().await;
    assert_eq!(world.counts(), (0, 1), "until the slot says so it is busy");
    job.given_up();
    assert_eq!(world.counts(), (0, 0));
    let asked = world.ask(request("b"));
    at_once(&mut slot).await.answer_whole(answer(200, "b"), None);
    assert_eq!(answered(asked).await.0, 200);
    world.is_at_rest().await;
}

/// What an abandoned job's slot says last is heard by nobody and tried by nobody, whatever it is.
#[tokio::test(start_paused = true)]
async fn what_was_abandoned_is_never_tried_again() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("b"));
    for end in 0..5 {
        let asked = world.ask(request(&format!("request {end}")));
        let job = soon(&mut first).await;
        asked.abort();
        calm().await;
        match end {
            0 => job.declined("refused"),
            1 => job.vanished("reset"),
            2 => job.answer_whole(not_ready(""), None),
            3 => job.unsent(),
            _ => drop(job),
        }
        nothing(&mut second, SECOND).await;
        assert_eq!(world.counts(), (0, 0));
    }
    assert_eq!(world.failed_tries("tried_again"), 0, "nothing was tried again");
    world.is_at_rest().await;
}

/// A request whose time passes while it waits is not given out, and its client is told that it waited in the queue.
#[tokio::test(start_paused = true)]
async fn a_request_whose_time_is_over_is_not_given_out() {
    let world = World::new();
    let mut slot = world.slot("a");
    let busy = world.ask(request("busy"));
    let job = at_once(&mut slot).await;
    let began = Instant::now();
    let late = world.ask(request("late").within(30 * SECOND));
    let (kind, message) = refused(late).await;
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(message.contains("waited in the queue"), "{message}");
    assert!((30 * SECOND..31 * SECOND).contains(&began.elapsed()), "at its time: {:?}", began.elapsed());
    job.answer_whole(answer(200, ""), None);
    assert_eq!(answered(busy).await.0, 200);
    nothing(&mut slot, SECOND).await;
    assert_eq!(world.dropped("expired"), 1, "it left unanswered");
    world.is_at_rest().await;
}

/// Each request whose time passes while it waits is counted as such, whichever clock notices first.
#[tokio::test(start_paused = true)]
async fn all_whose_time_is_over_are_counted() {
    let world = World::new();
    let mut slot = world.slot("a");
    let _busy = world.ask(request("busy"));
    let job = at_once(&mut slot).await;
    let mut asked = Vec::new();
    for i in 0..20 {
        asked.push(world.ask(request(&format!("late {i}")).within((30 - i % 7) * SECOND)));
        pass(u32::from(i % 3 == 0) * SECOND / 2).await;
    }
    for asked in asked {
        let (kind, message) = refused(asked).await;
        assert!(kind == ErrorKind::Timeout && message.contains("waited in the queue"), "{message}");
    }
    assert_eq!(world.dropped("expired"), 20);
    drop(job);
    world.is_at_rest().await;
}

/// A slot that comes in the very moment in which a request's time ends gets nothing, in whatever order both are looked at.
#[tokio::test(start_paused = true)]
async fn at_the_end_of_its_time_a_request_is_over() {
    let world = World::new();
    let mut asked = Box::pin(world.dispatcher.ask(request("late").within(SECOND).submission()));
    assert!(futures::poll!(&mut asked).is_pending());
    // The clock alone moves: nobody has looked at the queue when the slot comes.
    tokio::time::advance(SECOND).await;
    let mut slot = world.slot("a");
    nothing(&mut slot, SECOND).await;
    let error = asked.await.expect_err("its time is over");
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.contains("waited in the queue"), "{}", error.message);
    world.is_at_rest().await;
}

/// Room that comes in the very moment in which a request's time ends is not given to it, whichever of both is noticed first.
#[tokio::test(start_paused = true)]
async fn room_that_comes_when_the_time_is_over_comes_too_late() {
    for is_noticed_first in [true, false] {
        let world = World::new();
        // One of four slots is closed to the normal lane: it is parked while the request waits.
        let mut slots: Vec<_> = (0..4).map(|_| world.slot("a")).collect();
        let normal = |name: &str| request(name).in_lane(Lane::Normal);
        let asked: Vec<_> = (0..3).map(|i| world.ask(normal(&format!("busy {i}")))).collect();
        let mut jobs = Vec::new();
        for slot in &mut slots[..3] {
            jobs.push(at_once(slot).await);
        }
        let mut parked = Box::pin(slots[3].next());
        assert!(futures::poll!(&mut parked).is_pending());
        let over = Instant::now() + 5 * SECOND;
        let ends = async |job: promfront::sched::dispatch::Job| {
            tokio::time::sleep_until(over).await;
            job.answer_whole(answer(200, ""), None);
        };
        let mut late = Box::pin(world.dispatcher.ask(normal("late").within(5 * SECOND).submission()));
        let mut end = Box::pin(ends(jobs.pop().expect("three run")));
        if is_noticed_first {
            assert!(futures::poll!(&mut end).is_pending());
        }
        assert!(futures::poll!(&mut late).is_pending());
        assert_eq!(world.counts(), (1, 3), "it waits, though a slot is parked");
        end.await;
        if let Ok(job) = tokio::time::timeout(SECOND, parked).await {
            panic!(
                "first: {is_noticed_first}; it was given out {:?} too late",
                Instant::now().into_std() - job.deadline()
            );
        }
        assert_eq!(late.await.expect_err("its time is over").kind, ErrorKind::Timeout);
        drop(jobs);
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        world.is_at_rest().await;
    }
}

/// A request that came too late is not let in.
#[tokio::test(start_paused = true)]
async fn a_request_without_time_is_refused() {
    let world = World::new();
    let (kind, _) = refused(world.ask(request("late").within(std::time::Duration::ZERO))).await;
    assert_eq!(kind, ErrorKind::Timeout);
    assert_eq!(world.metric("promfront_queue_refused_total{reason=\"expired\"}"), 1);
    world.is_at_rest().await;
}

/// A request whose time passes while it runs: its client is told in time, the slot is told too.
#[tokio::test(start_paused = true)]
async fn a_request_whose_time_passes_while_it_runs_is_abandoned() {
    let world = World::new();
    let mut slot = world.slot("a");
    let began = Instant::now();
    let asked = world.ask(request("long").within(30 * SECOND));
    let mut job = at_once(&mut slot).await;
    let abandoned = async {
        job.abandoned().await;
        assert!((30 * SECOND..31 * SECOND).contains(&began.elapsed()), "at its time: {:?}", began.elapsed());
        job.given_up();
    };
    let ((kind, message), ()) = tokio::join!(refused(asked), abandoned);
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(!message.contains("waited in the queue"), "it ran: {message}");
    nothing(&mut slot, SECOND).await;
    world.is_at_rest().await;
}

/// With nobody there a request waits as long as the option says, and its text names the option.
#[tokio::test(start_paused = true)]
async fn without_a_querier_a_request_waits_a_while() {
    let world = World::with(Sched { max_wait_for_querier: 7 * SECOND, ..Sched::default() });
    let began = Instant::now();
    let (kind, message) = refused(world.ask(request("a"))).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(message.contains("sched.max_wait_for_querier") && message.contains("7s"), "{message}");
    assert!((7 * SECOND..8 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(world.dropped("no_querier"), 1);
    world.is_at_rest().await;

    let asked = world.ask(request("b"));
    pass(6990 * MS).await;
    at_once(&mut world.slot("a")).await.answer_whole(answer(200, "in time"), None);
    assert_eq!(answered(asked).await, (200, "in time".to_owned()));
    world.is_at_rest().await;
}

/// Its own time is over before that: then it is that which it is told.
#[tokio::test(start_paused = true)]
async fn a_short_timeout_comes_before_the_wait_for_a_querier() {
    let world = World::new();
    let (kind, _) = refused(world.ask(request("a").within(SECOND))).await;
    assert_eq!(kind, ErrorKind::Timeout);
    world.is_at_rest().await;
}

/// A querier that is busy is a querier.
#[tokio::test(start_paused = true)]
async fn a_busy_querier_is_waited_for() {
    let world = World::new();
    let mut slot = world.slot("a");
    let busy = world.ask(request("busy"));
    let job = at_once(&mut slot).await;
    let waits = world.ask(request("waits"));
    pass(100 * SECOND).await;
    assert!(!waits.is_finished(), "ten times as long as it would wait for a querier");
    job.answer_whole(answer(200, ""), None);
    at_once(&mut slot).await.answer_whole(answer(200, ""), None);
    assert_eq!((answered(busy).await.0, answered(waits).await.0), (200, 200));
    world.is_at_rest().await;
}

/// When all queriers go, those who wait are told within the option's time.
#[tokio::test(start_paused = true)]
async fn when_the_last_querier_goes_the_wait_begins() {
    let world = World::new();
    let mut slot = world.slot("a");
    let _busy = world.ask(request("busy"));
    let job = at_once(&mut slot).await;
    let waits = world.ask(request("waits"));
    pass(25 * SECOND).await;
    drop(job);
    drop(slot);
    let gone = Instant::now();
    let (kind, message) = refused(waits).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{message}");
    assert!(gone.elapsed() <= 11 * SECOND, "{:?}", gone.elapsed());
    world.is_at_rest().await;
}

/// A request that runs where somebody leaves is not taken from him because nobody else is there yet.
#[tokio::test(start_paused = true)]
async fn what_runs_at_a_leaving_querier_is_still_tried_elsewhere_after_the_wait() {
    let world = World::new();
    let mut slot = world.slot("a");
    let asked = world.ask(request("a"));
    let job = at_once(&mut slot).await;
    world.leaving("a");
    // It goes on for longer than a request waits for a querier.
    pass(15 * SECOND).await;
    let mut next = world.slot("b");
    job.vanished("the querier is gone");
    drop(slot);
    at_once(&mut next).await.answer_whole(answer(200, "from b"), None);
    assert_eq!(answered(asked).await, (200, "from b".to_owned()));
    world.is_at_rest().await;
}

/// Each limit refuses at once, by the kind that the option wants, and names itself and its value.
#[tokio::test(start_paused = true)]
async fn a_full_queue_says_which_limit_it_is() {
    for (full_status, expected) in
        [(FullStatus::Unavailable, ErrorKind::Overloaded), (FullStatus::TooManyRequests, ErrorKind::TooManyRequests)]
    {
        let options = Sched { max_queued: 5, max_queued_per_tenant: 3, full_status, ..Sched::default() };
        let world = World::with(options);
        let mut waiting: Vec<_> = (0..3).map(|i| world.ask(request(&format!("a{i}")).of("one"))).collect();
        calm().await;
        let (kind, message) = refused(world.ask(request("too many").of("one"))).await;
        assert_eq!(kind, expected);
        assert!(message.contains("sched.max_queued_per_tenant") && message.contains('3'), "{message}");
        assert!(message.contains("one"), "whose they are: {message}");
        waiting.extend((0..2).map(|i| world.ask(request(&format!("b{i}")).of("other"))));
        calm().await;
        let (kind, message) = refused(world.ask(request("too many").of("other"))).await;
        assert_eq!(kind, expected);
        assert!(message.contains("sched.max_queued)") && message.contains('5'), "{message}");
        assert_eq!(world.counts(), (5, 0), "who was let in stays");
        for reason in ["tenant_full", "queue_full"] {
            assert_eq!(world.metric(&format!("promfront_queue_refused_total{{reason=\"{reason}\"}}")), 1);
        }
        // What runs does not wait: there is room again.
        let mut slot = world.slot("a");
        let job = at_once(&mut slot).await;
        waiting.push(world.ask(request("fits")));
        calm().await;
        assert_eq!(world.counts(), (5, 1));
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        job.given_up();
        world.is_at_rest().await;
    }
}

/// The length of the queue is shown by lane when it is reported.
#[tokio::test(start_paused = true)]
async fn the_queue_is_shown_in_the_metrics() {
    let world = World::new();
    let lanes = [(Lane::Alert, 1), (Lane::Small, 2), (Lane::Normal, 3)];
    let mut asked = Vec::new();
    for (lane, count) in lanes {
        asked.extend((0..count).map(|i| world.ask(request(&format!("{lane:?}{i}")).in_lane(lane))));
    }
    calm().await;
    world.dispatcher.report();
    for (lane, count) in lanes {
        assert_eq!(world.metric(&format!("promfront_queue_length{{lane=\"{}\"}}", lane.as_str())), count);
    }
    let mut slot = world.slot("a");
    let job = at_once(&mut slot).await;
    assert_eq!(world.metric("promfront_downstream_requests_in_flight"), 1);
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    drop(job);
    world.is_at_rest().await;
}

/// Alerts overtake what came before them while slots are scarce.
#[tokio::test(start_paused = true)]
async fn alerts_overtake() {
    for querier_slots in [1, 3] {
        let world = World::new();
        let mut slots: Vec<_> = (0..querier_slots).map(|_| world.slot("a")).collect();
        let mut jobs = Vec::new();
        let mut asked: Vec<_> =
            (0..20).map(|i| world.ask(request(&format!("normal {i}")).in_lane(Lane::Normal))).collect();
        for slot in &mut slots {
            jobs.push(at_once(slot).await);
        }
        asked.push(world.ask(request("alert").in_lane(Lane::Alert)));
        calm().await;
        jobs.pop().expect("one runs").answer_whole(answer(200, ""), None);
        let alert = at_once(&mut slots[querier_slots - 1]).await;
        assert_eq!(name(&alert), "alert");
        assert_eq!(alert.tenant().as_str(), "anonymous");
        drop((alert, jobs));
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        world.is_at_rest().await;
    }
}
