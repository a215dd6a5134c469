//! A server that fails again and again is left alone for a while.
//!
//! Ten failures in a row open the breaker: for ten seconds the server is not asked, which costs nothing. Then one call is let
//! through as a probe, and only one: if it succeeds the breaker closes, if it fails the ten seconds begin anew. A failure is
//! silence or a broken connection; a server that answers with an error is there.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// So many failures in a row open it.
const FAILURES: u32 = 10;
/// It stays open for this long.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// A probe that was not heard of for so long is not waited for: whoever made it may have gone.
const PROBED_FOR: Duration = Duration::from_secs(2);

/// Whether a server is asked.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// A probe is under way; if nothing is heard of it, the next one is let through then.
    Probing {
        until: Instant,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether a call may be made now. Who is let through reports its outcome, or is taken for failed after a while.
    pub fn lets_through(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        match *state {
            State::Closed { .. } => true,
            State::Open { until } | State::Probing { until } if now >= until => {
                *state = State::Probing { until: now + PROBED_FOR };
                true
            }
            State::Open { .. } | State::Probing { .. } => false,
        }
    }

    /// A call was answered. Says whether that ends a time in which the server was left alone.
    pub fn succeeded(&self) -> bool {
        !matches!(std::mem::take(&mut *self.state.lock()), State::Closed { .. })
    }

    /// A call was not answered. Says whether that begins a time in which the server is left alone.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let before = *state;
        *state = match before {
            State::Closed { failures } if failures + 1 < FAILURES => State::Closed { failures: failures + 1 },
            State::Closed { .. } | State::Probing { .. } => State::Open { until: now + OPEN_FOR },
            open @ State::Open { .. } => open,
        };
        matches!((before, *state), (State::Closed { .. }, State::Open { .. }))
    }

    /// Whether the server is left alone.
    pub fn is_open(&self) -> bool {
        !matches!(*self.state.lock(), State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_open_it_and_one_probe_closes_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..9 {
            breaker.failed(now);
        }
        assert!(!breaker.succeeded(), "it was not open");
        for _ in 0..9 {
            assert!(!breaker.failed(now));
        }
        assert!(breaker.lets_through(now), "a success between them starts the count anew");
        assert!(breaker.failed(now) && !breaker.failed(now), "it is told once that it opens");
        assert!(breaker.is_open() && !breaker.lets_through(now));
        assert!(!breaker.lets_through(now + OPEN_FOR.saturating_sub(Duration::from_millis(1))));
        let later = now + OPEN_FOR;
        assert!(breaker.lets_through(later), "the probe");
        assert!(!breaker.lets_through(later), "and only one");
        assert!(!breaker.failed(later), "it was open before");
        assert!(!breaker.lets_through(later + OPEN_FOR / 2), "it failed");
        let last = later + OPEN_FOR;
        assert!(breaker.lets_through(last));
        assert!(breaker.succeeded() && !breaker.succeeded(), "it is told once that it closes");
        assert!(!breaker.is_open() && breaker.lets_through(last) && breaker.lets_through(last));
    }

    #[test]
    fn a_probe_that_was_never_heard_of_is_followed_by_another() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
        }
        assert!(breaker.lets_through(now + OPEN_FOR));
        assert!(!breaker.lets_through(now + OPEN_FOR + PROBED_FOR / 2));
        assert!(breaker.lets_through(now + OPEN_FOR + PROBED_FOR));
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_do_not_keep_it_open() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            breaker.failed(now);
        }
        breaker.failed(now + OPEN_FOR / 2);
        assert!(breaker.lets_through(now + OPEN_FOR));
    }
}
