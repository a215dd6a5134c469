//! Slots that wait, stop waiting, and go: nothing is lost with them, and nobody is woken in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::{ArcWake, waker};
use promfront::error::ErrorKind;
use promfront::sched::dispatch::{Job, Slot};

use super::world::*;

/// Counts how often it is woken.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl ArcWake for Count {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A slot that is dropped while it is parked loses nothing: what comes goes to others.
#[tokio::test(start_paused = true)]
async fn a_parked_slot_that_is_dropped_is_forgotten() {
    let world = World::new();
    let (mut first, mut second) = (world.slot("a"), world.slot("a"));
    for _ in 0..3 {
        nothing(&mut first, MS).await;
    }
    let mut parked = Box::pin(first.next());
    assert!(futures::poll!(&mut parked).is_pending());
    drop(parked);
    drop(first);
    assert_eq!(world.dispatcher.snapshot().slots, 1);
    let asked = world.ask(request("a"));
    at_once(&mut second).await.answer_whole(answer(200, ""), None);
    assert_eq!(answered(asked).await.0, 200);
    world.is_at_rest().await;
}

/// A slot that stops waiting after it was given something and before it looked, gives it back: another one takes it.
#[tokio::test(start_paused = true)]
async fn what_a_slot_was_given_and_did_not_fetch_is_not_lost() {
    for goes_wholly in [false, true] {
        for other_waits in [false, true] {
            let world = World::new();
            let (mut first, mut other) = (world.slot("a"), world.slot("b"));
            let mut parked = Box::pin(first.next());
            assert!(futures::poll!(&mut parked).is_pending());
            let mut asked = Box::pin(world.dispatcher.ask(request("a").submission()));
            // From here on it is the slot's, which does not know yet.
            assert!(futures::poll!(&mut asked).is_pending());
            assert_eq!(world.counts(), (0, 1));
            assert_eq!(world.metric("promfront_downstream_requests_in_flight"), 1);
            let mut waits = Box::pin(other.next());
            if other_waits {
                assert!(futures::poll!(&mut waits).is_pending());
            }
            drop(parked);
            if goes_wholly {
                drop(first);
            }
            assert_eq!(world.counts(), if other_waits { (0, 1) } else { (1, 0) }, "at once");
            let Poll::Ready(job) = futures::poll!(&mut waits) else { panic!("another one takes it") };
            drop(waits);
            job.answer_whole(answer(200, "not lost"), None);
            let (head, _) = asked.await.expect("an answer").into_parts();
            assert_eq!(head.status, 200);
            assert!(!world.metrics.encode().contains("failed_tries_total{"), "it is no failed try");
            world.is_at_rest().await;
        }
    }
}

/// A slot that looks now and then, beside something that is always ready, loses nothing: in either order.
#[tokio::test(start_paused = true)]
async fn a_slot_in_a_select_with_something_ready_loses_nothing() {
    async fn glance(slot: &mut Slot, slot_first: bool) -> Option<Job> {
        if slot_first {
            tokio::select! { biased; job = slot.next() => Some(job), () = std::future::ready(()) => None }
        } else {
            tokio::select! { biased; () = std::future::ready(()) => None, job = slot.next() => Some(job) }
        }
    }
    let world = World::new();
    let (mut hasty, mut steady) = (world.slot("a"), world.slot("a"));
    let mut by_hasty = 0;
    for i in 0..200 {
        let asked = world.ask(request(&format!("{i}")));
        if i % 3 == 0 {
            tokio::task::yield_now().await;
        }
        if let Some(job) = glance(&mut hasty, i % 2 == 0).await {
            by_hasty += 1;
            job.answer_whole(answer(200, ""), None);
        } else {
            at_once(&mut steady).await.answer_whole(answer(200, ""), None);
        }
        assert_eq!(answered(asked).await.0, 200);
    }
    assert!(by_hasty > 0, "it came to look when there was something");
    world.is_at_rest().await;
}

/// Slots whose waiting is cut off again and again at the moment in which requests come, on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slots_that_are_cut_off_at_any_moment_lose_nothing() {
    let world = World::new();
    let mut workers = Vec::new();
    for i in 0..4 {
        let mut slot = world.slot(&format!("querier-{}", i % 2));
        let world = world.clone();
        workers.push(tokio::spawn(async move {
            for round in 0_u32.. {
                let cut = async {
                    for _ in 0..round % 5 {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    biased;
                    job = slot.next() => job.answer_whole(answer(200, ""), None),
                    () = cut => tokio::task::yield_now().await,
                }
                if round % 100 == 99 {
                    slot = world.slot(slot.querier().as_str());
                }
            }
        }));
    }
    let clients = (0..4).map(|client| {
        let world = world.clone();
        tokio::spawn(async move {
            for i in 0..500 {
                assert_eq!(answered(world.ask(request(&format!("{client} {i}")))).await.0, 200);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("every request is answered");
    }
    for worker in workers {
        worker.abort();
        assert!(worker.await.expect_err("it was cut off").is_cancelled(), "no worker panicked");
    }
    world.is_at_rest().await;
}

/// A job that is dropped without a word is a fault of our own to its client, and its slot is free.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_dropped_without_a_word_is_told() {
    let world = World::new();
    let mut slot = world.slot("a");
    let asked = world.ask(request("a"));
    drop(at_once(&mut slot).await);
    assert_eq!(refused(asked).await.0, ErrorKind::Internal);
    assert_eq!(world.counts(), (0, 0));
    let asked = world.ask(request("b"));
    let panics = tokio::spawn(async move {
        let _job = at_once(&mut slot).await;
        std::panic::resume_unwind(Box::new("a fault"));
    });
    assert!(panics.await.expect_err("it panicked").is_panic());
    assert_eq!(refused(asked).await.0, ErrorKind::Internal);
    assert_eq!(world.dispatcher.snapshot().slots, 0, "the slot went with its task");
    world.is_at_rest().await;
}

/// One push wakes one slot of those that are parked, whoever they are.
#[tokio::test(start_paused = true)]
async fn one_push_wakes_one_slot() {
    const SLOTS: usize = 30;
    const PUSHES: usize = 7;
    let world = World::new();
    let mut slots: Vec<_> = (0..SLOTS).map(|i| world.slot(&format!("querier-{}", i % 5))).collect();
    let counts: Vec<Arc<Count>> = slots.iter().map(|_| Arc::default()).collect();
    let mut parked: Vec<_> = slots.iter_mut().map(|slot| slot.next().boxed()).collect();
    let poll = |i: usize, next: &mut BoxFuture<'_, Job>| {
        let waker = waker(Arc::clone(&counts[i]));
        next.poll_unpin(&mut Context::from_waker(&waker))
    };
    for (i, next) in parked.iter_mut().enumerate() {
        assert!(poll(i, next).is_pending());
    }
    let woken = || counts.iter().map(|count| count.0.load(Ordering::SeqCst)).collect::<Vec<_>>();
    let mut asked = Vec::new();
    for pushes in 1..=PUSHES {
        asked.push(world.ask(request(&format!("{pushes}"))));
        calm().await;
        assert_eq!(woken().iter().sum::<usize>(), pushes, "{:?}", woken());
    }
    assert!(woken().iter().all(|&times| times <= 1), "each of them once: {:?}", woken());
    for (i, next) in parked.iter_mut().enumerate() {
        let times = counts[i].0.load(Ordering::SeqCst);
        match poll(i, next) {
            Poll::Ready(job) => {
                assert_eq!(times, 1, "who is given something is woken");
                job.answer_whole(answer(200, ""), None);
            }
            Poll::Pending => assert_eq!(times, 0, "nobody else is"),
        }
    }
    drop(parked);
    for asked in asked {
        assert_eq!(answered(asked).await.0, 200);
    }
    world.is_at_rest().await;
}

/// Slots of a querier come and go while others of it stay.
#[tokio::test(start_paused = true)]
async fn slots_are_counted_as_they_come_and_go() {
    let world = World::new();
    let mut slots: Vec<_> = (0..3).map(|_| world.slot("a")).collect();
    slots.extend((0..2).map(|_| world.slot("b")));
    assert_eq!(world.dispatcher.snapshot().slots, 5);
    slots.truncate(1);
    assert_eq!(world.dispatcher.snapshot().slots, 1);
    world.dispatcher.report();
    assert_eq!(world.metric("promfront_querier_slots"), 1);
    assert_eq!(world.metric("promfront_queriers{standing=\"serving\"}"), 1);
    assert_eq!(world.metric("promfront_queriers{standing=\"vanished\"}"), 1);
    slots.clear();
    assert_eq!(world.dispatcher.snapshot().slots, 0);
    world.is_at_rest().await;
}
