//! Who may pull: a querier that fails is given less, and comes back by one probe.
//!
//! After a failure a querier rests for a moment, so that what it failed at is tried elsewhere, and ever longer while it goes on
//! failing; from the third failure in a row on, one request alone is tried when its rest is over. Rest is for having somebody
//! else answer: while nobody else is fit, a moment is all, so that a fault of all of them shuts nobody out and is told in the
//! servers' own words.

use std::time::{Duration, Instant};

/// The rest after one failure.
const MOMENT: Duration = Duration::from_millis(100);
/// Each further failure in a row doubles the rest, up to this.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// From so many failures in a row on, one request is tried alone.
const PROBED_FROM: u32 = 3;

/// How one querier fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Failures since the last answer.
    failures: u32,
    rests_until: Option<Instant>,
    last_failed: Option<Instant>,
    /// Whether somebody is probing it.
    is_probed: bool,
}

/// Whether a free slot of a querier may ask for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// It may, and the others wait for what comes of it.
    Probe,
    /// Not before this.
    From(Instant),
    /// Not before another slot's probe is answered.
    AfterProbe,
}

impl Health {
    /// Whether it is to be counted on.
    pub fn is_fit(&self) -> bool {
        self.failures < PROBED_FROM
    }

    /// A free slot wants to ask. `others`: whether another querier is fit.
    pub fn ask(&mut self, others: bool, now: Instant) -> Leave {
        if let Some(until) = self.rests_until.filter(|&until| until > now) {
            // The moment is said once: whoever asks again when it is over has rested.
            let until = if others { until } else { until.min(now + MOMENT) };
            self.rests_until = Some(until);
            return Leave::From(until);
        }
        self.rests_until = None;
        if self.is_fit() || !others {
            return Leave::Granted;
        }
        if std::mem::replace(&mut self.is_probed, true) { Leave::AfterProbe } else { Leave::Probe }
    }

    /// It failed at something, begun at `began`, that another one may be able to do. `jittered` makes pauses differ.
    pub fn failed(&mut self, others: bool, began: Instant, now: Instant, jittered: impl Fn(Duration) -> Duration) {
        if self.last_failed.is_some_and(|last| began <= last) {
            // It ran side by side with what failed before: that is one failure, not many.
            return;
        }
        self.last_failed = Some(now);
        self.is_probed = false;
        self.failures = self.failures.saturating_add(1);
        let doublings = if others { (self.failures - 1).min(10) } else { 0 };
        self.rests_until = Some(now + jittered((MOMENT * 2_u32.pow(doublings)).min(LONGEST_REST)));
    }

    /// It answered. Whether that is news.
    pub fn answered(&mut self) -> bool {
        std::mem::take(self) != Self::default()
    }

    /// A probe came to nothing: nobody knows more than before.
    pub fn probe_ended(&mut self) {
        self.is_probed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(pause: Duration) -> Duration {
        pause
    }

    #[test]
    fn one_failure_is_a_moment_of_rest() {
        let now = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.ask(true, now), Leave::Granted);
        health.failed(true, now, now, same);
        health.failed(true, now, now, same);
        assert_eq!(health.ask(true, now), Leave::From(now + MOMENT), "side by side, so one failure");
        assert_eq!(health.ask(true, now + MOMENT), Leave::Granted);
        assert!(health.is_fit());
    }

    #[test]
    fn who_goes_on_failing_is_probed_ever_more_seldom() {
        let mut now = Instant::now();
        let mut health = Health::default();
        let mut rests = Vec::new();
        for failures in 1..=12 {
            health.failed(true, now, now, same);
            let Leave::From(until) = health.ask(true, now) else { panic!("it rests") };
            rests.push(until - now);
            now = until;
            let expected = if failures < PROBED_FROM { Leave::Granted } else { Leave::Probe };
            assert_eq!(health.ask(true, now), expected, "{failures}");
            if expected == Leave::Probe {
                assert_eq!(health.ask(true, now), Leave::AfterProbe);
            }
        }
        assert!(rests.is_sorted() && rests[0] == MOMENT && rests[11] == LONGEST_REST, "{rests:?}");
        assert!(health.answered(), "that it is back is news");
        assert_eq!((health.ask(true, now), health.answered()), (Leave::Granted, false));
    }

    #[test]
    fn nobody_is_shut_out_while_nobody_else_is_fit() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for _ in 0..20 {
            now += Duration::from_millis(1);
            health.failed(true, now, now, same);
        }
        assert_eq!(health.ask(false, now), Leave::From(now + MOMENT));
        let later = now + LONGEST_REST;
        assert_eq!(health.ask(true, later), Leave::Probe);
        assert_eq!(health.ask(false, later), Leave::Granted, "the probe is not waited for");
        health.failed(false, later, later, same);
        assert_eq!(health.ask(false, later + MOMENT), Leave::Granted);
    }

    #[test]
    fn what_is_older_does_not_stand_in_for_a_probe() {
        let (old, mut now) = (Instant::now(), Instant::now());
        let mut health = Health::default();
        for _ in 0..PROBED_FROM {
            now += Duration::from_millis(1);
            health.failed(true, now, now, same);
        }
        let probe = now + LONGEST_REST;
        assert_eq!(health.ask(true, probe), Leave::Probe);
        health.failed(true, old, probe + MOMENT, same);
        assert_eq!(health.ask(true, probe + MOMENT), Leave::AfterProbe);
        health.failed(true, probe, probe + 2 * MOMENT, same);
        let Leave::From(until) = health.ask(true, probe + 2 * MOMENT) else { panic!("it failed again, and rests") };
        assert_eq!(health.ask(true, until), Leave::Probe);
    }

    #[test]
    fn a_probe_that_came_to_nothing_is_followed_by_another() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for _ in 0..PROBED_FROM {
            now += Duration::from_millis(1);
            health.failed(true, now, now, same);
        }
        let later = now + LONGEST_REST;
        assert_eq!((health.ask(true, later), health.ask(true, later)), (Leave::Probe, Leave::AfterProbe));
        health.probe_ended();
        assert_eq!(health.ask(true, later), Leave::Probe);
    }
}
