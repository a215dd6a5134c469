//! A random history: clients that leave, deadlines that pass, queriers that fail, vanish, leave and come back. Every step is held
//! against what may happen to a request. `PROMFRONT_SEED` plays another one; the pauses of queriers that rest are random beside.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::channel::mpsc;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use promfront::config::Sched;
use promfront::error::{ApiError, ErrorKind};
use promfront::sched::dispatch::{Job, Slot};
use promfront::sched::queue::words::Lane;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::support::Random;
use super::world::*;

const REQUESTS: usize = 2000;
const QUERIERS: usize = 4;
/// So many queries are of death: queriers are fond of vanishing under them.
const POISONS: usize = 4;

/// Every twentieth request is one of them.
fn poison(id: usize) -> Option<usize> {
    id.is_multiple_of(20).then_some(id / 20 % POISONS)
}

/// What is known of a request.
#[derive(Debug)]
struct Trace {
    deadline: Instant,
    left: Option<Instant>,
    is_running: bool,
    /// Tries that count: those that failed.
    failed: u32,
    strikes: u32,
    /// What it was answered with, by a slot that did not want it tried again.
    answered: Option<u16>,
    last_failure: Option<u16>,
    was_let_fall: bool,
}

/// What a querier does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Serves,
    Leaves,
    Vanishes,
}

/// All that the actors share.
#[derive(Clone, Debug)]
struct Play {
    world: World,
    random: Arc<Mutex<Random>>,
    traces: Arc<Mutex<Vec<Trace>>>,
    strikes_of_poison: Arc<Mutex<[u32; POISONS]>>,
    is_over: watch::Receiver<bool>,
}

impl Play {
    fn below(&self, bound: usize) -> usize {
        self.random.lock().below(bound)
    }

    fn up_to(&self, most: Duration) -> Duration {
        let most = usize::try_from(most.as_millis()).expect("a short time");
        Duration::from_millis(self.below(most + 1) as u64)
    }

    fn with<R>(&self, id: usize, work: impl FnOnce(&mut Trace) -> R) -> R {
        work(&mut self.traces.lock()[id])
    }

    // ---- Clients.

    async fn client(self, id: usize) -> &'static str {
        let time = 50 * MS + self.up_to(if self.below(3) == 0 { 400 * MS } else { 20 * SECOND });
        let lane = Lane::ALL[self.below(3)];
        let mut asks = request(&id.to_string()).within(time).in_lane(lane);
        if let Some(poison) = poison(id) {
            asks = asks.like(poison as u64);
        }
        let leaves_after = if self.below(6) == 0 { self.up_to(2 * SECOND) } else { 10 * LONG };
        self.with(id, |trace| trace.deadline = Instant::now() + time);
        let mut ask = Box::pin(self.world.dispatcher.ask(asks.submission()));
        let reply = tokio::select! {
            reply = &mut ask => reply,
            () = sleep(leaves_after) => {
                drop(ask);
                self.with(id, |trace| trace.left = Some(Instant::now()));
                return "left";
            }
        };
        match reply {
            Ok(response) => self.has_answer(id, response).await,
            Err(error) => self.has_error(id, &error),
        }
    }

    async fn has_answer(&self, id: usize, response: Response<Body>) -> &'static str {
        let (head, mut body) = response.into_parts();
        let status = head.status.as_u16();
        self.with(id, |trace| {
            assert_eq!(
                trace.answered.or(trace.last_failure),
                Some(status),
                "request {id}: some slot said so: {trace:?}"
            );
        });
        if self.below(10) == 0 {
            let _ = timeout(self.up_to(20 * MS), body.frame()).await;
            return "read in part";
        }
        let body = body.collect().await.expect("no body here breaks off").to_bytes();
        assert_eq!(body, format!("{status} for {id}"), "its own answer");
        if status == 200 { "answered" } else { "refused by the server" }
    }

    fn has_error(&self, id: usize, error: &ApiError) -> &'static str {
        let strikes_of_poison = poison(id).map_or(0, |poison| self.strikes_of_poison.lock()[poison]);
        self.with(id, |trace| {
            let (holds, what) = match error.kind {
                ErrorKind::Timeout => (Instant::now() >= trace.deadline, "too late"),
                ErrorKind::Unavailable if error.message.contains("sched.max_wait_for_querier") => (true, "no querier"),
                ErrorKind::Unavailable => (trace.failed > 0, "unreachable"),
                ErrorKind::Internal => (trace.was_let_fall, "let fall"),
                ErrorKind::Execution => (trace.strikes.max(strikes_of_poison) >= 2, "quarantined"),
                ErrorKind::BadGateway => (trace.answered == Some(0), "unusable"),
                _ => (false, "nothing that can be"),
            };
            assert!(holds, "request {id} ended with {error:?}: {trace:?}");
            assert!(
                trace.answered.is_none_or(|status| status == 0 || what == "too late"),
                "it was answered: {trace:?}"
            );
            what
        })
    }

    // ---- Queriers.

    async fn querier(self, number: usize) {
        let name = format!("querier-{number}");
        let mut is_over = self.is_over.clone();
        while !*is_over.borrow() {
            let (mood, moods) = watch::channel(Mood::Serves);
            let mut slots = JoinSet::new();
            for _ in 0..=self.below(4) {
                slots.spawn(self.clone().work(self.world.slot(&name), moods.clone()));
            }
            let _ = timeout(SECOND + self.up_to(8 * SECOND), is_over.wait_for(|&is_over| is_over)).await;
            if self.below(2) == 0 {
                self.world.leaving(&name);
                mood.send_replace(Mood::Leaves);
            } else {
                mood.send_replace(Mood::Vanishes);
            }
            while let Some(slot) = slots.join_next().await {
                slot.expect("no slot panics");
            }
            let _ = timeout(self.up_to(9 * SECOND), is_over.wait_for(|&is_over| is_over)).await;
        }
    }

    async fn work(self, mut slot: Slot, mut moods: watch::Receiver<Mood>) {
        while *moods.borrow() == Mood::Serves {
            // Now and then it stops waiting, and waits again.
            let patience = if self.below(4) == 0 { self.up_to(20 * MS) } else { LONG };
            let mut job = tokio::select! {
                job = slot.next() => job,
                _ = moods.changed() => return,
                () = sleep(patience) => continue,
            };
            let id: usize = name(&job).parse().expect("a number");
            self.with(id, |trace| {
                let now = Instant::now();
                assert!(!trace.is_running, "request {id} runs twice: {trace:?}");
                assert!(trace.deadline > now, "request {id} is given out too late: {trace:?}");
                assert!(trace.left.is_none_or(|left| left >= now), "request {id}: nobody waits for it: {trace:?}");
                assert!(trace.answered.is_none() && !trace.was_let_fall, "request {id} has ended: {trace:?}");
                assert!(trace.failed < 2, "request {id} is tried a third time: {trace:?}");
                trace.is_running = true;
            });
            let takes = self.up_to(400 * MS);
            tokio::select! {
                () = sleep(takes) => self.end(job, id).await,
                () = job.abandoned() => {
                    self.with(id, |trace| trace.is_running = false);
                    job.given_up();
                }
                _ = moods.changed() => {
                    let has_announced = *moods.borrow() == Mood::Leaves;
                    if has_announced && self.below(2) == 0 {
                        sleep(self.up_to(SECOND)).await;
                        self.answer(job, id, 200);
                    } else {
                        self.vanish(job, id, has_announced);
                    }
                }
            }
        }
    }

    fn vanish(&self, job: Job, id: usize, has_announced: bool) {
        self.with(id, |trace| {
            trace.is_running = false;
            trace.failed += u32::from(!has_announced);
            trace.strikes += u32::from(!has_announced);
            if !has_announced {
                trace.last_failure = None;
            }
        });
        if let Some(poison) = poison(id).filter(|_| !has_announced) {
            self.strikes_of_poison.lock()[poison] += 1;
        }
        job.vanished("it vanished");
    }

    fn answer(&self, job: Job, id: usize, status: u16) {
        self.with(id, |trace| (trace.is_running, trace.answered) = (false, Some(status)));
        job.answer_whole(answer(status, &format!("{status} for {id}")), None);
    }

    async fn end(&self, job: Job, id: usize) {
        let fails = |status| {
            self.with(id, |trace| {
                (trace.is_running, trace.last_failure) = (false, status);
                trace.failed += 1;
            });
        };
        match self.below(if poison(id).is_some() { 30 } else { 100 }) {
            0..4 => {
                fails(None);
                job.declined("refused");
            }
            4..7 => {
                fails(Some(503));
                job.answer_whole(answer(503, &format!("503 for {id}")), None);
            }
            7..10 => {
                self.with(id, |trace| trace.is_running = false);
                job.unsent();
            }
            10..12 => {
                self.with(id, |trace| (trace.is_running, trace.was_let_fall) = (false, true));
                drop(job);
            }
            12..14 => {
                self.with(id, |trace| (trace.is_running, trace.answered) = (false, Some(0)));
                job.unusable(ApiError::new(ErrorKind::BadGateway, "no answer"));
            }
            14..30 if poison(id).is_some() => self.vanish(job, id, false),
            14..16 => self.vanish(job, id, false),
            16..20 => self.answer(job, id, 422),
            20..40 => self.stream(job, id).await,
            _ => self.answer(job, id, 200),
        }
    }

    async fn stream(&self, job: Job, id: usize) {
        let (chunks, body) = mpsc::unbounded();
        let play = self.clone();
        let server = async move {
            for piece in ["200 ", "for ", &id.to_string()] {
                sleep(play.up_to(50 * MS)).await;
                let piece = Frame::data(Bytes::from(piece.to_owned()));
                // The client may have gone.
                let _ = chunks.unbounded_send(Ok::<_, std::io::Error>(piece));
            }
        };
        self.with(id, |trace| trace.answered = Some(200));
        tokio::join!(server, job.answer(Response::new(Body::new(StreamBody::new(body)))));
        self.with(id, |trace| trace.is_running = false);
    }
}

/// Every request ends in one way that its history explains, and nothing is left in the end.
#[tokio::test(start_paused = true)]
async fn whatever_happens_every_request_ends_once() {
    let (over, is_over) = watch::channel(false);
    let play = Play {
        world: World::with(Sched { max_wait_for_querier: SECOND, ..Sched::default() }),
        random: Arc::new(Mutex::new(Random::seeded("dispatch"))),
        traces: Arc::default(),
        strikes_of_poison: Arc::default(),
        is_over,
    };
    let mut queriers = JoinSet::new();
    let mut clients = Vec::new();
    for id in 0..REQUESTS {
        // At first nobody is there.
        if id == REQUESTS / 20 {
            sleep(2 * SECOND).await;
            for number in 0..QUERIERS {
                queriers.spawn(play.clone().querier(number));
            }
        }
        play.traces.lock().push(Trace {
            deadline: Instant::now(),
            left: None,
            is_running: false,
            failed: 0,
            strikes: 0,
            answered: None,
            last_failure: None,
            was_let_fall: false,
        });
        clients.push(tokio::spawn(play.clone().client(id)));
        // Now a few at once, now none for a while.
        if play.below(3) > 0 {
            sleep(play.up_to(100 * MS)).await;
        }
    }
    let mut outcomes = std::collections::BTreeMap::<_, usize>::new();
    for client in clients {
        let outcome = timeout(LONG, client).await.expect("every ask ends").expect("as its history explains");
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{outcomes:?}");
    over.send_replace(true);
    while let Some(querier) = timeout(LONG, queriers.join_next()).await.expect("every slot is freed") {
        querier.expect("no querier panics");
    }
    play.world.is_at_rest().await;
    let snapshot = play.world.dispatcher.snapshot();
    assert_eq!(snapshot.slots, 0);
    // The play had all of it.
    for outcome in [
        "answered",
        "left",
        "let fall",
        "no querier",
        "quarantined",
        "read in part",
        "refused by the server",
        "too late",
        "unusable",
    ] {
        assert!(outcomes.contains_key(outcome), "nothing was {outcome}: {outcomes:?}");
    }
}
