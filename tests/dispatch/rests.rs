//! Queriers that fail: they rest while others are fit, are tried by one request, and come back by one answer.

use promfront::sched::dispatch::Slot;
use tokio::time::Instant;

use super::world::*;

/// Has a querier fail so often in a row, each time at something that began after the failure before it.
async fn fails(world: &World, slot: &mut Slot, other: &mut Slot, times: usize) {
    for i in 0..times {
        pass(MS).await;
        let asked = world.ask(request(&format!("fails {i} {:?}", Instant::now())));
        // The other one is busy with nothing: it asks only when this one has failed.
        let job = tokio::time::timeout(20 * SECOND, slot.next()).await.expect("it is tried again before long");
        job.declined("refused");
        soon(other).await.answer_whole(answer(200, ""), None);
        assert_eq!(answered(asked).await.0, 200);
    }
}

/// While another one is fit, all slots of a querier that failed get nothing for a moment, even of what is new.
#[tokio::test(start_paused = true)]
async fn who_fails_rests_for_a_moment() {
    let world = World::new();
    let (mut bad, mut bad_too, _good) = (world.slot("bad"), world.slot("bad"), world.slot("good"));
    // A slot that was parked before the failure rests as well.
    let mut parked = Box::pin(bad_too.next());
    assert!(futures::poll!(&mut parked).is_pending());
    let mut asked = vec![world.ask(request("first"))];
    let Ok(job) = tokio::time::timeout(MS, &mut parked).await else { panic!("it was the only one that waited") };
    job.declined("refused");
    asked.extend((0..5).map(|i| world.ask(request(&format!("new {i}")))));
    drop(parked);
    let began = Instant::now();
    tokio::join!(nothing(&mut bad, 50 * MS), nothing(&mut bad_too, 50 * MS));
    let job = soon(&mut bad).await;
    assert!(began.elapsed() < 200 * MS, "it was a moment: {:?}", began.elapsed());
    drop(job);
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    world.is_at_rest().await;
}

/// After three failures in a row one request alone is tried; its answer brings the querier back at once.
#[tokio::test(start_paused = true)]
async fn who_failed_three_times_is_probed_by_one() {
    let world = World::new();
    let (mut bad, mut good) = (world.slot("bad"), world.slot("good"));
    fails(&world, &mut bad, &mut good, 3).await;
    let mut slots: Vec<_> = (0..4).map(|_| world.slot("bad")).collect();
    let asked: Vec<_> = (0..8).map(|i| world.ask(request(&format!("waits {i}")))).collect();
    let probe = tokio::time::timeout(20 * SECOND, bad.next()).await.expect("it is tried by one");
    let others = futures::future::select_all(slots.iter_mut().map(|slot| Box::pin(slot.next())));
    let mut others = Box::pin(others);
    assert!(tokio::time::timeout(20 * SECOND, &mut others).await.is_err(), "one alone");
    probe.answer_whole(answer(200, ""), None);
    let (job, _, others) = tokio::time::timeout(MS, others).await.expect("it is back at once");
    let (another, _, _) = tokio::time::timeout(MS, futures::future::select_all(others)).await.expect("with all slots");
    drop((job, another));
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    world.is_at_rest().await;
}

/// What failed side by side is one failure: three at a time make nobody unfit.
#[tokio::test(start_paused = true)]
async fn failures_side_by_side_are_one() {
    let world = World::new();
    let mut slots: Vec<_> = (0..6).map(|_| world.slot("bad")).collect();
    let mut good = world.slot("good");
    let asked: Vec<_> = (0..6).map(|i| world.ask(request(&format!("{i}")))).collect();
    let mut jobs = Vec::new();
    for slot in &mut slots {
        jobs.push(at_once(slot).await);
    }
    for job in jobs {
        pass(2 * MS).await;
        job.declined("refused");
    }
    for _ in &asked {
        at_once(&mut good).await.answer_whole(answer(200, ""), None);
    }
    for asked in asked {
        assert_eq!(answered(asked).await.0, 200);
    }
    // Not one probe, but all of them, after a moment.
    let asked: Vec<_> = (0..6).map(|i| world.ask(request(&format!("later {i}")))).collect();
    let began = Instant::now();
    let jobs = futures::future::join_all(slots.iter_mut().map(soon)).await;
    assert!(began.elapsed() < 200 * MS, "{:?}", began.elapsed());
    drop(jobs);
    asked.iter().for_each(tokio::task::JoinHandle::abort);
    world.is_at_rest().await;
}

/// An answer of something that ran beside brings a querier back from its rest at once.
#[tokio::test(start_paused = true)]
async fn an_answer_ends_the_rest_at_once() {
    let world = World::new();
    let (mut bad, mut bad_too, mut good) = (world.slot("bad"), world.slot("bad"), world.slot("good"));
    let runs = world.ask(request("runs"));
    let running = at_once(&mut bad_too).await;
    fails(&world, &mut bad, &mut good, 2).await;
    let asked = world.ask(request("waits"));
    let mut resting = Box::pin(bad.next());
    assert!(tokio::time::timeout(50 * MS, &mut resting).await.is_err(), "it rests");
    running.answer_whole(answer(200, ""), None);
    let job = tokio::time::timeout(MS, resting).await.expect("it is back at once");
    job.answer_whole(answer(200, ""), None);
    assert_eq!((answered(asked).await.0, answered(runs).await.0), (200, 200));
    world.is_at_rest().await;
}

/// When all of them fail nobody is shut out for long: whoever asks is told by a server, and soon.
#[tokio::test(start_paused = true)]
async fn when_all_fail_nobody_is_shut_out() {
    let world = World::new();
    for querier in ["a", "b", "c"] {
        let mut slot = world.slot(querier);
        tokio::spawn(async move {
            loop {
                slot.next().await.answer_whole(not_ready("down"), None);
            }
        });
    }
    for i in 0..200 {
        let began = Instant::now();
        assert_eq!(answered(world.ask(request(&format!("{i}")))).await, (503, "down".to_owned()));
        assert!(began.elapsed() < SECOND, "request {i} took {:?}", began.elapsed());
    }
    world.is_at_rest().await;
}

/// How the last fit querier may stop being one.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Detached,
    Announced,
    /// It failed three times in a row, and is busy.
    Failed,
}

/// When the last fit querier is none any more, those that rest are needed at once, not when their rest is over.
#[tokio::test(start_paused = true)]
async fn who_rests_is_needed_when_nobody_else_is_left() {
    for loss in [Loss::Detached, Loss::Announced, Loss::Failed] {
        let world = World::new();
        let (mut bad, mut good) = (world.slot("bad"), world.slot("good"));
        fails(&world, &mut bad, &mut good, 8).await;
        let mut resting = Box::pin(bad.next());
        assert!(futures::poll!(&mut resting).is_pending());
        let (mut good, mut asked) = (Some(good), Vec::new());
        match loss {
            Loss::Detached => good = None,
            Loss::Announced => world.leaving("good"),
            Loss::Failed => {
                let good = good.as_mut().expect("it is there");
                for i in 0..3 {
                    asked.push(world.ask(request(&format!("fails at the other one {i}"))));
                    pass(MS).await;
                    soon(good).await.declined("refused");
                }
            }
        }
        asked.push(world.ask(request("a")));
        let began = Instant::now();
        let job = tokio::time::timeout(LONG, &mut resting).await.expect("in the end");
        assert!(began.elapsed() < SECOND, "{loss:?}: it rested for {:?} with nobody else fit", began.elapsed());
        drop((job, resting));
        drop((bad, good));
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        world.is_at_rest().await;
    }
}

/// A probe that goes with its slot is followed by another one.
#[tokio::test(start_paused = true)]
async fn a_probe_that_comes_to_nothing_is_followed_by_another() {
    for end in 0..5 {
        let world = World::new();
        let (mut bad, mut good) = (world.slot("bad"), world.slot("good"));
        let mut second = world.slot("bad");
        fails(&world, &mut bad, &mut good, 3).await;
        let asked = [world.ask(request("one")), world.ask(request("two"))];
        let mut first = Box::pin(bad.next());
        let probe = tokio::time::timeout(20 * SECOND, &mut first).await.expect("it is probed");
        drop(first);
        match end {
            0 => probe.unsent(),
            1 => probe.given_up(),
            2 => {
                // It announces that it leaves, and stays.
                world.leaving("bad");
                probe.vanished("gone");
                pass(6 * SECOND).await;
            }
            3 => {
                drop(bad);
                drop(probe);
            }
            _ => probe.answer_whole(answer(422, "an answer"), None),
        }
        let next = tokio::time::timeout(60 * SECOND, second.next()).await;
        assert!(next.is_ok(), "end {end}: the querier is shut out for good");
        drop(next);
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        world.is_at_rest().await;
    }
}

/// A probe that waits for work and stops waiting leaves its place to another one.
#[tokio::test(start_paused = true)]
async fn a_parked_probe_that_is_dropped_leaves_its_place() {
    let world = World::new();
    let (mut bad, mut bad_too, mut good) = (world.slot("bad"), world.slot("bad"), world.slot("good"));
    fails(&world, &mut bad, &mut good, 3).await;
    pass(20 * SECOND).await;
    nothing(&mut bad, MS).await;
    let asked = world.ask(request("a"));
    at_once(&mut bad_too).await.answer_whole(answer(200, ""), None);
    assert_eq!(answered(asked).await.0, 200);
    world.is_at_rest().await;
}

/// A slot that goes takes only its own probe with it, not another slot's.
#[tokio::test(start_paused = true)]
async fn a_slot_that_goes_does_not_end_anothers_probe() {
    let world = World::new();
    let (mut bad, mut good) = (world.slot("bad"), world.slot("good"));
    let (bystander, mut second) = (world.slot("bad"), world.slot("bad"));
    fails(&world, &mut bad, &mut good, 3).await;
    let asked = [world.ask(request("one")), world.ask(request("two"))];
    let probe = tokio::time::timeout(20 * SECOND, bad.next()).await.expect("it is probed");
    drop(bystander);
    nothing(&mut second, SECOND).await;
    probe.answer_whole(answer(200, ""), None);
    at_once(&mut second).await.answer_whole(answer(200, ""), None);
    for asked in asked {
        assert_eq!(answered(asked).await.0, 200);
    }
    world.is_at_rest().await;
}

/// A probe that waits for work when something older fails is not forgotten: the querier is probed again.
#[tokio::test(start_paused = true)]
async fn a_parked_probe_that_is_sent_to_rest_is_followed_by_another() {
    let world = World::new();
    let (mut bad, mut bad_too, mut good) = (world.slot("bad"), world.slot("bad"), world.slot("good"));
    let old = world.ask(request("old"));
    let oldest = at_once(&mut bad_too).await;
    fails(&world, &mut bad, &mut good, 3).await;
    pass(20 * SECOND).await;
    let mut probing = Box::pin(bad.next());
    assert!(futures::poll!(&mut probing).is_pending(), "it waits for something to be tried by");
    // It began before all the others failed, so it says nothing new of the querier.
    oldest.declined("refused");
    let busy = at_once(&mut good).await;
    let asked = world.ask(request("waits for the other one"));
    let job = tokio::time::timeout(20 * SECOND, probing).await.expect("it is probed");
    job.answer_whole(answer(200, ""), None);
    busy.answer_whole(answer(200, ""), None);
    assert_eq!((answered(asked).await.0, answered(old).await.0), (200, 200));
    world.is_at_rest().await;
}
