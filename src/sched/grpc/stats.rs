//! What a querier says a query cost.
//!
//! Cortex and Mimir fill one message with different things from its fourth field on. The time is in both; the rest is skipped,
//! whatever it is. What cannot be read says nothing, and never spoils an answer.

use std::time::Duration;

use prost::Message;

#[derive(Clone, Copy, PartialEq, Message)]
struct Stats {
    #[prost(message, optional, tag = "1")]
    wall_time: Option<WallTime>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct WallTime {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// How long the querier worked on it.
pub(super) fn wall_time(stats: &[u8]) -> Option<Duration> {
    let time = Stats::decode(stats).ok()?.wall_time?;
    let (seconds, nanos) = (u64::try_from(time.seconds).ok()?, u32::try_from(time.nanos).ok()?);
    // A day of work is a mistake, not a cost.
    (seconds < 86_400 && nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_dialects_say_the_time() {
        let time = [10, 5, 8, 2, 16, 128, 1]; // 1: { 1: 2, 2: 128 }
        let cortex = [42, 4, 10, 2, b'a', b'b']; // 5: map entry { 1: "ab" }
        let mimir = [40, 7, 106, 2, 8, 1, 144, 1, 3]; // 5: 7, 13: { 1: 1 }, 18: 3
        let want = Some(Duration::new(2, 128));
        assert_eq!(wall_time(&time), want);
        assert_eq!(wall_time(&[time.as_slice(), &cortex].concat()), want);
        assert_eq!(wall_time(&[time.as_slice(), &mimir].concat()), want);
        assert_eq!(wall_time(&[]), None);
    }

    #[test]
    fn nonsense_says_nothing() {
        for stats in [
            &[255, 255, 255][..],
            &[8, 5],                                                      // 1 is a number
            &[10, 200],                                                   // cut short
            &[10, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], // -1 s
            &[10, 6, 8, 255, 255, 255, 255, 127],                         // centuries
        ] {
            assert_eq!(wall_time(stats), None, "{stats:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(stats in any::<Vec<u8>>()) {
            let _ = wall_time(&stats);
        }
    }
}
