//! Pauses that many replicas do not end at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A pause, a tenth longer or shorter by chance.
pub fn jittered(pause: Duration) -> Duration {
    // The seed of the standard hash map is random, and asks for nothing.
    let random = u32::try_from(RandomState::new().hash_one(0) % 201).unwrap_or(100);
    pause * (900 + random) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pauses_differ_by_a_tenth_at_most() {
        let pauses: BTreeSet<_> = (0..100).map(|_| jittered(Duration::from_secs(10))).collect();
        assert!(pauses.len() > 10, "they differ: {pauses:?}");
        let (least, most) = (Duration::from_secs(9), Duration::from_secs(11));
        assert!(pauses.iter().all(|pause| (least..=most).contains(pause)), "{pauses:?}");
    }
}
