//! The connections to one server.
//!
//! Calls take turns on those that are there; connecting is the work of a task in the background, so a call to a server that
//! is not there costs nothing. A connection on which something went wrong is not used again, so a late reply finds nobody
//! whom it could deceive. The task connects at once, then ever more slowly, and tells once that it cannot and once that it
//! can again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, Value};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::jitter::jittered;

use super::super::breaker::Breaker;
use super::super::{Loss, Server};
use super::address::Address;
use super::dial::{Credentials, Dialer, Driver, locate_master};
use super::reply::{Question, is_moved_away};

/// Connections to one server: a big value holds up only those behind it on the same one.
const LINKS: usize = 4;
/// The pause before the second attempt in a row; it doubles.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// And the longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After this long without an attempt the next one is made at once.
const CALM: Duration = Duration::from_secs(10);
/// A connection that is older than this is made anew when the server says that it is not the one to talk to. A younger one
/// is not, or every write to a replica would make a connection.
const YOUTH: Duration = Duration::from_secs(5);

/// Where the server is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Always there.
    Fixed(Address),
    /// Where the sentinels say.
    Master {
        /// How to connect to them.
        dialer: Dialer,
        /// Where they are.
        sentinels: Vec<Address>,
        /// The name under which they know it.
        name: String,
    },
}

impl Place {
    async fn locate(&self) -> Result<Address, String> {
        match self {
            Self::Fixed(address) => Ok(address.clone()),
            Self::Master { dialer, sentinels, name } => locate_master(dialer, sentinels, name).await,
        }
    }
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    name: String,
    breaker: Breaker,
    links: Mutex<[Option<Arc<Link>>; LINKS]>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// How many connections there have been.
    count: AtomicU64,
    /// Wakes the task in the background.
    missing: Notify,
    /// Wakes who else wants to know that a connection was lost.
    lost: Arc<Notify>,
}

/// One connection. It ends when the last call that uses it lets go.
#[derive(Debug)]
struct Link {
    number: u64,
    address: Address,
    connection: MultiplexedConnection,
    driver: AbortHandle,
    since: Instant,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Pool {
    /// Begins to connect. `lost` is woken whenever a connection is lost.
    pub fn new(name: String, place: Place, dialer: Dialer, lost: Arc<Notify>) -> Self {
        let shared = Arc::new(Shared {
            name,
            breaker: Breaker::default(),
            links: Mutex::default(),
            turn: AtomicUsize::new(0),
            count: AtomicU64::new(0),
            missing: Notify::new(),
            lost,
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), place, dialer)).abort_handle();
        Self { shared, keeper }
    }

    /// As it stands in metrics.
    pub fn server(&self) -> Server {
        Server { name: self.shared.name.clone(), is_open: self.shared.breaker.is_open() }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.shared.links.lock().iter().any(Option::is_some)
    }

    /// Asks questions together on one connection: as many replies as questions, each of the right shape or an error reply.
    pub async fn ask(&self, questions: &[Question<'_>], deadline: Instant) -> Result<Vec<Value>, Loss> {
        let now = Instant::now();
        if now >= deadline {
            return Err(Loss::Timeout);
        }
        let link = self.shared.pick().ok_or(Loss::Unavailable)?;
        if !self.shared.breaker.lets_through(now) {
            return Err(Loss::Breaker);
        }
        let outcome = link.ask(questions, deadline).await;
        let server = &self.shared.name;
        if let Ok(replies) = &outcome {
            if self.shared.breaker.succeeded() {
                tracing::info!(server, "redis: answers again");
            }
            if replies.iter().any(is_moved_away) && link.since.elapsed() >= YOUTH {
                self.shared.discard(link.number);
            }
        } else {
            if self.shared.breaker.failed(Instant::now()) {
                tracing::warn!(server, "redis: does not answer; it is left alone for a while");
            }
            self.shared.discard(link.number);
        }
        outcome
    }
}

impl Link {
    async fn ask(&self, questions: &[Question<'_>], deadline: Instant) -> Result<Vec<Value>, Loss> {
        match tokio::time::timeout_at(deadline, self.send(questions)).await {
            Err(_) => Err(Loss::Timeout),
            Ok(Err(error)) if error.kind() == ErrorKind::Parse => Err(Loss::Garbage),
            Ok(Err(_)) => Err(Loss::Unavailable),
            Ok(Ok(replies)) => {
                let is_sound = replies.len() == questions.len()
                    && questions.iter().zip(&replies).all(|(question, reply)| question.is_answered_by(reply));
                if is_sound { Ok(replies) } else { Err(Loss::Garbage) }
            }
        }
    }

    async fn send(&self, questions: &[Question<'_>]) -> redis::RedisResult<Vec<Value>> {
        let mut connection = self.connection.clone();
        // What cannot be parsed is told for a single command; within a pipeline it looks like a connection that broke.
        if let [question] = questions {
            return Ok(vec![connection.send_packed_command(&question.command()).await?]);
        }
        let mut pipeline = redis::Pipeline::with_capacity(questions.len());
        for question in questions {
            pipeline.add_command(question.command());
        }
        connection.send_packed_commands(&pipeline, 0, questions.len()).await
    }
}

impl Shared {
    /// The next connection that is there.
    fn pick(&self) -> Option<Arc<Link>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let links = self.links.lock();
        (0..LINKS).find_map(|step| links[turn.wrapping_add(step) % LINKS].clone())
    }

    /// Does not use a connection again.
    fn discard(&self, number: u64) {
        let discarded = {
            let mut links = self.links.lock();
            links.iter_mut().find(|link| link.as_ref().is_some_and(|link| link.number == number)).and_then(Option::take)
        };
        if discarded.is_some() {
            self.missing.notify_one();
            self.lost.notify_one();
        }
    }

    async fn until_one_is_missing(&self) {
        while self.links.lock().iter().all(Option::is_some) {
            self.missing.notified().await;
        }
    }

    /// Makes what is missing.
    async fn connect(self: &Arc<Self>, place: &Place, dialer: &Dialer) -> Result<(), String> {
        let address = place.locate().await?;
        let credentials = dialer.credentials().await?;
        let empty: Vec<_> = {
            let mut links = self.links.lock();
            for link in links.iter_mut() {
                // The master has moved: what is connected to the old one goes.
                drop(link.take_if(|link| link.address != address));
            }
            (0..LINKS).filter(|place| links[*place].is_none()).collect()
        };
        let attempts = empty.into_iter().map(|place| self.connect_one(place, &address, dialer, &credentials));
        join_all(attempts).await.into_iter().collect()
    }

    async fn connect_one(
        self: &Arc<Self>,
        place: usize,
        address: &Address,
        dialer: &Dialer,
        credentials: &Credentials,
    ) -> Result<(), String> {
        let (connection, driver) = dialer.connect(address, credentials).await?;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (placed, is_placed) = oneshot::channel();
        let driver = tokio::spawn(drive(driver, is_placed, Arc::downgrade(self), number)).abort_handle();
        let link = Link { number, address: address.clone(), connection, driver, since: Instant::now() };
        self.links.lock()[place] = Some(Arc::new(link));
        let _ = placed.send(());
        Ok(())
    }
}

/// Moves the bytes of a connection, and tells when it has ended.
async fn drive(driver: Driver, is_placed: oneshot::Receiver<()>, shared: Weak<Shared>, number: u64) {
    driver.await;
    // It may have ended before it was in its place: then it is taken from there.
    let _ = is_placed.await;
    if let Some(shared) = shared.upgrade() {
        shared.discard(number);
    }
}

/// The task in the background.
async fn keep(shared: Arc<Shared>, place: Place, dialer: Dialer) {
    let (mut pause, mut log) = (Pause::default(), Log::default());
    loop {
        shared.until_one_is_missing().await;
        pause.wait().await;
        match shared.connect(&place, &dialer).await {
            Ok(()) => {
                if log.is_news(true) {
                    tracing::info!(server = shared.name, "redis: connected again");
                }
            }
            Err(problem) => {
                if log.is_news(false) {
                    tracing::warn!(server = shared.name, problem, "redis: can't connect");
                }
            }
        }
    }
}

/// What was told last, so that it is told once.
#[derive(Debug, Default)]
pub(super) struct Log {
    is_failing: bool,
}

impl Log {
    /// Whether this differs from what was told. At first nobody expects anything but success.
    pub fn is_news(&mut self, is_well: bool) -> bool {
        std::mem::replace(&mut self.is_failing, !is_well) == is_well
    }
}

/// The time between attempts.
#[derive(Debug)]
struct Pause {
    last: Option<Instant>,
    next: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { last: None, next: SHORTEST_PAUSE }
    }
}

impl Pause {
    async fn wait(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= CALM) {
            self.next = SHORTEST_PAUSE;
        } else {
            tokio::time::sleep(jittered(self.next)).await;
            self.next = (self.next * 2).min(LONGEST_PAUSE);
        }
        self.last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_second_and_begin_anew_after_calm() {
        let mut pause = Pause::default();
        let mut took = Vec::new();
        for _ in 0..10 {
            let began = Instant::now();
            pause.wait().await;
            took.push(began.elapsed());
        }
        assert_eq!(took[0], Duration::ZERO, "at once");
        for (want, took) in [50, 100, 200, 400, 800, 1000, 1000].into_iter().zip(&took[1..]) {
            let want = Duration::from_millis(want);
            assert!(*took >= want * 3 / 4 && *took <= want * 5 / 4 + Duration::from_millis(1), "{want:?}: {took:?}");
        }
        tokio::time::advance(CALM).await;
        let began = Instant::now();
        pause.wait().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "at once again");
    }

    #[test]
    fn each_change_is_told_once() {
        let mut log = Log::default();
        let told: Vec<_> = [true, false, false, false, true, true, false].map(|is_well| log.is_news(is_well)).into();
        assert_eq!(told, [false, true, false, false, true, false, true]);
    }
}
