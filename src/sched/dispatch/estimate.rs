//! What a request is expected to cost, and which lane it takes, from what is known before it runs.
//!
//! The unit is a microsecond of a querier's slot, in which the cost is measured afterwards; the queue corrects what it charged.
//! So an estimate need not be right, only larger for what is larger: instants times what each one reads. How many series a
//! selector has nobody knows here.

use crate::sched::queue::words::Lane;

/// How far apart samples are believed to lie.
const SCRAPE_INTERVAL_MS: i64 = 15_000;
/// What a request costs whatever it asks, in microseconds.
const EVERY_REQUEST: u64 = 1_000;
/// What one sample that is read for one instant costs, over all series, in microseconds.
const EACH_SAMPLE: u64 = 2;
/// What costs no more than this is small, in microseconds.
const SMALL: u64 = 50_000;

/// What a request is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// In microseconds of a slot.
    pub cost: u64,
    /// The lane that fits, if it is no alert.
    pub lane: Lane,
}

impl Estimate {
    /// A query at so many instants, each of which reads a window of `widest_range_ms`.
    pub fn of_query(instants: u64, widest_range_ms: i64) -> Self {
        let samples = u64::try_from(widest_range_ms / SCRAPE_INTERVAL_MS).unwrap_or(0).saturating_add(1);
        Self::of_cost(instants.saturating_mul(samples).saturating_mul(EACH_SAMPLE).saturating_add(EVERY_REQUEST))
    }

    /// A question about labels, metadata or the server.
    pub fn of_metadata() -> Self {
        Self::of_cost(EVERY_REQUEST)
    }

    /// What reads raw samples, as many as it likes.
    pub fn of_raw_samples() -> Self {
        Self::of_cost(20 * SMALL)
    }

    fn of_cost(cost: u64) -> Self {
        Self { cost, lane: if cost <= SMALL { Lane::Small } else { Lane::Normal } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_is_small_and_a_month_is_not() {
        let (minute, day) = (60_000, 86_400_000);
        assert_eq!(Estimate::of_query(240, 5 * minute).lane, Lane::Small, "an hour at 15 s");
        assert_eq!(Estimate::of_query(1, day).lane, Lane::Small, "a day at one instant");
        assert_eq!(Estimate::of_query(11_000, 5 * minute).lane, Lane::Normal);
        assert_eq!(Estimate::of_query(1, 30 * day).lane, Lane::Normal);
        assert!(Estimate::of_query(u64::MAX, i64::MAX).cost == u64::MAX, "no overflow");
        assert!(Estimate::of_query(1, i64::MIN).cost >= EVERY_REQUEST);
    }
}
