//! One in flight: what several requests miss at the same time is asked for once.
//!
//! A flight is a task of its own, and whoever wants its outcome holds it. No one of them is its owner: when the first one
//! leaves the others go on, and when the last one leaves the task is aborted, which cancels the work downstream. Waiting
//! costs nothing while the flight is under way, and a flight that panics ends for its waiters without an outcome.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{ApiError, ErrorKind};

/// The flights that are under way, by what they fetch.
#[derive(Debug)]
pub struct Coalescer<K: Eq + Hash, V> {
    flights: Arc<Flights<K, V>>,
}

type Flights<K, V> = Mutex<HashMap<K, Weak<Flight<K, V>>>>;

/// What came of a flight.
#[derive(Debug)]
pub struct Shared<V> {
    /// Its outcome.
    pub outcome: V,
    /// Whether it was begun for who asks.
    pub is_own: bool,
}

/// Why there is no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It was not there in time.
    TooLate,
    /// The work panicked.
    Panicked,
}

impl From<Lost> for ApiError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::TooLate => Self::too_late(),
            Lost::Panicked => {
                let message = "the answer of the downstream could not be read, which is a fault of promfront's own";
                Self::new(ErrorKind::Internal, message)
            }
        }
    }
}

/// A place on a flight.
#[derive(Debug)]
pub struct Joined<K: Eq + Hash, V> {
    flight: Arc<Flight<K, V>>,
    /// Whether this call began the flight.
    pub is_first: bool,
}

/// One task and those who wait for it.
#[derive(Debug)]
struct Flight<K: Eq + Hash, V> {
    key: K,
    outcome: watch::Receiver<Option<V>>,
    task: AbortHandle,
    flights: Arc<Flights<K, V>>,
}

impl<K: Eq + Hash, V> Default for Coalescer<K, V> {
    fn default() -> Self {
        Self { flights: Arc::default() }
    }
}

impl<K, V> Coalescer<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the flight for `key`, or begins one with `work`.
    pub fn join<F>(&self, key: &K, work: impl FnOnce() -> F) -> Joined<K, V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        // Declared first, so that it is let go of after the lock: the last to let go of a flight takes the lock.
        let held;
        let mut flights = self.flights.lock();
        held = flights.get(key).and_then(Weak::upgrade);
        if let Some(flight) = &held
            && flight.is_under_way()
        {
            return Joined { flight: Arc::clone(flight), is_first: false };
        }
        let (tell, outcome) = watch::channel(None);
        let work = work();
        let task = tokio::spawn(async move { tell.send_replace(Some(work.await)) }).abort_handle();
        let flight = Arc::new(Flight { key: key.clone(), outcome, task, flights: Arc::clone(&self.flights) });
        flights.insert(key.clone(), Arc::downgrade(&flight));
        Joined { flight, is_first: true }
    }

    /// The outcome of one flight, begun here or joined, as long as somebody can wait for it. Who merely joined one that failed for a
    /// reason of the moment tries once more, together with the others. `joined` is called when a flight is joined.
    pub async fn share<F>(
        &self,
        key: &K,
        deadline: Instant,
        mut work: impl FnMut() -> F,
        is_of_the_moment: impl Fn(&V) -> bool,
        joined: impl Fn(),
    ) -> Result<Shared<V>, Lost>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut tries = 0;
        loop {
            let flight = self.join(key, &mut work);
            let is_own = flight.is_first;
            if !is_own {
                joined();
            }
            tries += 1;
            let landed = tokio::time::timeout_at(deadline.into(), flight.outcome()).await;
            let outcome = landed.map_err(|_| Lost::TooLate)?.ok_or(Lost::Panicked)?;
            if is_own || tries > 1 || !is_of_the_moment(&outcome) {
                return Ok(Shared { outcome, is_own });
            }
        }
    }

    /// How many flights somebody waits for.
    #[cfg(test)]
    fn in_flight(&self) -> usize {
        self.flights.lock().len()
    }
}

impl<K: Eq + Hash, V: Clone> Joined<K, V> {
    /// The outcome; none if the flight panicked.
    pub async fn outcome(self) -> Option<V> {
        let mut outcome = self.flight.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await.ok()?;
        ended.clone()
    }
}

impl<K: Eq + Hash, V> Flight<K, V> {
    /// Whether it has neither an outcome nor panicked. One that has ended is not joined, though some still hold it.
    fn is_under_way(&self) -> bool {
        self.outcome.borrow().is_none() && self.outcome.has_changed().is_ok()
    }
}

/// Everybody left: the task ends, if it has not, and is forgotten.
impl<K: Eq + Hash, V> Drop for Flight<K, V> {
    fn drop(&mut self) {
        self.task.abort();
        let mut flights = self.flights.lock();
        // Somebody may have begun the next flight for the key since the last one left this one.
        if flights.get(&self.key).is_some_and(|flight| flight.strong_count() == 0) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_hundred_waiters_make_one_flight_and_survive_the_first_ones_death() {
        let (coalescer, begun) = (Coalescer::<u8, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = oneshot::channel::<()>();
        let gate = Mutex::new(Some(gate));
        let join = || {
            coalescer.join(&1, || {
                let (begun, gate) = (Arc::clone(&begun), gate.lock().take());
                async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    gate.expect("begun once").await.expect("opened");
                    42
                }
            })
        };
        let first = join();
        assert!(first.is_first);
        let mut first = Box::pin(first.outcome());
        assert!(futures::poll!(&mut first).is_pending(), "the first one waits");
        let others: Vec<_> = (0..99).map(|_| join()).collect();
        assert!(others.iter().all(|joined| !joined.is_first));
        let others = futures::future::join_all(others.into_iter().map(Joined::outcome));
        let waiting = tokio::spawn(others);
        drop(first);
        open.send(()).expect("somebody waits");
        assert!(waiting.await.expect("no panic").into_iter().all(|outcome| outcome == Some(42)));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert_eq!(coalescer.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_flight_that_everybody_left_is_cancelled_and_forgotten() {
        struct Cancelled(Option<oneshot::Sender<()>>);
        impl Drop for Cancelled {
            fn drop(&mut self) {
                let _ = self.0.take().map(|tell| tell.send(()));
            }
        }
        let coalescer = Coalescer::<u8, usize>::default();
        let (tell, mut cancelled) = oneshot::channel();
        let mark = Cancelled(Some(tell));
        let work = || async move {
            let _mark = mark;
            std::future::pending().await
        };
        let one = coalescer.join(&1, work);
        let two = coalescer.join(&1, std::future::pending);
        assert!(one.is_first && !two.is_first);
        drop(one);
        assert!(cancelled.try_recv().is_err(), "the second one still waits");
        drop(two);
        cancelled.await.expect("the work was dropped");
        assert_eq!(coalescer.in_flight(), 0);
        assert!(coalescer.join(&1, std::future::pending).is_first, "the next one begins anew");
    }

    #[tokio::test]
    async fn a_flight_that_ended_is_not_joined() {
        let coalescer = Coalescer::<u8, usize>::default();
        let (one, held) = (coalescer.join(&1, || async { 1 }), coalescer.join(&1, || async { 0 }));
        assert_eq!(one.outcome().await, Some(1));
        let next = coalescer.join(&1, || async { 2 });
        assert!(next.is_first);
        drop(held);
        assert_eq!(coalescer.in_flight(), 1, "the end of the one before is not its end");
        assert_eq!(next.outcome().await, Some(2));
    }

    #[tokio::test]
    async fn a_flight_that_panics_leaves_nobody_waiting() {
        let coalescer = Coalescer::<u8, usize>::default();
        let one = coalescer.join(&1, || async { panic!("a flight fell from the sky (this is a test)") });
        let two = coalescer.join(&1, std::future::pending);
        assert_eq!(futures::join!(one.outcome(), two.outcome()), (None, None));
        assert_eq!(coalescer.in_flight(), 0);
    }
}
