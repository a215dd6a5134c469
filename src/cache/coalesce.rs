//! One in flight: what several requests miss at the same time is asked for once.
//!
//! A flight is one future that all who want its outcome hold and poll. No one of them is its owner, so when the first one
//! leaves the others go on, and when the last one leaves the future is dropped, which cancels the work downstream.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;

type Flight<V> = Shared<BoxFuture<'static, V>>;

/// The flights that are under way, by what they fetch.
#[derive(Debug)]
pub struct Coalescer<K, V: Clone> {
    flights: Arc<Mutex<Flights<K, V>>>,
}

#[derive(Debug)]
struct Flights<K, V: Clone> {
    next_number: u64,
    by_key: HashMap<K, (u64, WeakShared<BoxFuture<'static, V>>)>,
}

/// A place on a flight.
#[derive(Debug)]
pub struct Joined<V: Clone> {
    /// Resolves to the outcome.
    pub outcome: Flight<V>,
    /// Whether this call began the flight.
    pub is_first: bool,
}

impl<K, V: Clone> Default for Coalescer<K, V> {
    fn default() -> Self {
        Self { flights: Arc::new(Mutex::new(Flights { next_number: 0, by_key: HashMap::new() })) }
    }
}

impl<K, V> Coalescer<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the flight for `key`, or begins one with `work`.
    pub fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Joined<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(outcome) = flights.by_key.get(&key).and_then(|(_, flight)| flight.upgrade()) {
            return Joined { outcome, is_first: false };
        }
        let number = flights.next_number;
        flights.next_number += 1;
        let ended = Ended { flights: Arc::clone(&self.flights), key: key.clone(), number };
        let work = work();
        let outcome = async move {
            let _ended = ended;
            work.await
        }
        .boxed()
        .shared();
        let weak = outcome.downgrade().expect("it was not polled yet");
        flights.by_key.insert(key, (number, weak));
        Joined { outcome, is_first: true }
    }

    /// How many flights are known; none once all have ended or were left by everybody.
    pub fn in_flight(&self) -> usize {
        self.flights.lock().by_key.len()
    }
}

/// Forgets a flight when its future ends or is dropped.
struct Ended<K: Eq + Hash, V: Clone> {
    flights: Arc<Mutex<Flights<K, V>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, V: Clone> Drop for Ended<K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // Somebody may have begun the next flight for the key since the last one left this one.
        if flights.by_key.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            flights.by_key.remove(&self.key);
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
            coalescer.join(1, || {
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
        let mut first = Box::pin(first.outcome);
        assert!(futures::poll!(&mut first).is_pending(), "the first one drives it");
        let others: Vec<_> = (0..99).map(|_| join()).collect();
        assert!(others.iter().all(|joined| !joined.is_first));
        let others = futures::future::join_all(others.into_iter().map(|joined| joined.outcome));
        let waiting = tokio::spawn(others);
        drop(first);
        open.send(()).expect("somebody waits");
        assert!(waiting.await.expect("no panic").into_iter().all(|outcome| outcome == 42));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert_eq!(coalescer.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_flight_that_everybody_left_is_cancelled_and_forgotten() {
        struct Cancelled(Arc<AtomicUsize>);
        impl Drop for Cancelled {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (coalescer, cancelled) = (Coalescer::<u8, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let work = || {
            let mark = Cancelled(Arc::clone(&cancelled));
            async move {
                let _mark = mark;
                std::future::pending().await
            }
        };
        let (one, two) = (coalescer.join(1, work), coalescer.join(1, work));
        drop(one);
        assert_eq!(cancelled.load(Ordering::SeqCst), 0);
        drop(two);
        assert_eq!(cancelled.load(Ordering::SeqCst), 1);
        assert_eq!(coalescer.in_flight(), 0);
        assert!(coalescer.join(1, work).is_first, "the next one begins anew");
    }
}
