//! Points that follow one another by one step, sixteen bytes at a time.
//!
//! Nearly all of an answer is `…[1700000000,"1.5"],[1700000015,"1.5"]…`: what stands between two values is known before it
//! is read. A [`Joint`] is that text, and is counted on as decimal digits instead of being parsed at each point. It knows
//! times of ten whole digits (2001 to 2286) and steps of whole seconds; all else is the scanner's own business, and so is
//! each point that is not the one that was expected. So this decides nothing: it only takes faster what would be taken.

/// How many points may be missing between two before the next one is parsed.
const MOST_MISSING: usize = 3;
/// `"],[`, ten digits, `,"` or the beginning of a fraction.
const JOINT: usize = 16;
/// One in each byte of the ten digits.
const ONES: u128 = 0x0000_0000_0101_0101_0101_0101_0101_0000;
/// Added to a digit it carries into the next byte where the sum of two digits is ten or more.
const CARRY: u128 = 0xF6;
/// The joint's text where its digits are noughts, without its last two bytes.
const NOUGHTS: u128 = u128::from_be_bytes(*b"\"],[0000000000\0\0");

/// A step as the digits of its seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stride {
    step_ms: i64,
    digits: u128,
}

impl Stride {
    /// The stride of a grid, if it is one of whole seconds that ten digits can hold.
    pub(super) fn new(step_ms: i64) -> Option<Self> {
        let mut seconds = u128::try_from(step_ms / 1000).ok().filter(|_| step_ms % 1000 == 0)?;
        let mut digits = 0;
        for place in 2..12 {
            digits |= (seconds % 10) << (8 * place);
            seconds /= 10;
        }
        (seconds == 0).then_some(Self { step_ms, digits })
    }

    /// What follows the point at `time`, whose text from its time on is `text`: `1700000000,"…` or `1700000000.123,"…`.
    #[inline]
    pub(super) fn after<'t>(&self, time: i64, text: &'t [u8]) -> Option<Joint<'t>> {
        const TEN_DIGITS: std::ops::Range<i64> = 1_000_000_000_000..10_000_000_000_000;
        let (head, rest) = text.split_first_chunk::<12>().filter(|_| TEN_DIGITS.contains(&time))?;
        let rest = match head[10] {
            b',' => &[],
            _ => &rest[..=rest.iter().position(|&byte| byte == b'"')?],
        };
        let mut joint = [0; JOINT];
        joint[4..].copy_from_slice(head);
        let joint = u128::from_be_bytes(joint);
        let digits = joint & (ONES * 0x0F);
        Some(Joint { stride: *self, time, digits, frame: NOUGHTS + (joint & 0xFFFF), rest })
    }
}

/// What stands between the value of a point and the value of the next one, if that follows by one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joint<'t> {
    stride: Stride,
    /// Of the point before it.
    time: i64,
    /// Of that time: a digit in a byte.
    digits: u128,
    /// The text around the digits.
    frame: u128,
    /// What follows the sixteen bytes: the rest of a fraction, the same at each point.
    rest: &'t [u8],
}

/// The first time of more digits than a joint has, in milliseconds.
const BEYOND: i64 = 10_000_000_000_000;

impl Joint<'_> {
    /// The time of the point before it.
    pub(super) fn time(&self) -> i64 {
        self.time
    }

    /// How long this joint is, if `text` begins with it, or with one of those that follow when points are missing, and the
    /// point after it is not later than `last`. From then on it is the next one.
    #[inline]
    pub(super) fn meet(&mut self, text: &[u8], last: i64) -> Option<usize> {
        let (head, rest) = text.split_first_chunk::<JOINT>()?;
        let head = u128::from_be_bytes(*head);
        let mut next = *self;
        for _ in 0..=MOST_MISSING {
            next.advance();
            if next.time >= BEYOND {
                break;
            }
            let expected = next.digits + next.frame;
            if head == expected {
                let is_met = next.time <= last && (next.rest.is_empty() || rest.starts_with(next.rest));
                return is_met.then(|| {
                    *self = next;
                    JOINT + next.rest.len()
                });
            }
            if head < expected {
                break;
            }
        }
        None
    }

    #[inline]
    fn advance(&mut self) {
        self.time += self.stride.step_ms;
        let sum = self.digits + self.stride.digits + ONES * CARRY;
        // A byte that did not carry holds the digit and 0xF6, so its highest bit is set. What the first digit carries goes
        // would go into the bracket before it, at a time that is not met.
        self.digits = sum - ((sum >> 7) & ONES) * CARRY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::model::time::Timestamp;

    /// What follows a value whose next point is at `time`, and how long the joint in it is, if ten digits hold it.
    fn next(time: i64) -> (String, Option<usize>) {
        let text = format!(r#""],[{},"1"]"#, Timestamp::from_ms(time));
        let length = text.len() - r#"1"]"#.len();
        (text, (time < 10_000_000_000_000).then_some(length))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_joint_is_the_text_of_a_time_that_follows(
            seconds in 1_000_000_000..10_000_000_000_i64,
            fraction in prop_oneof![Just(0), 0..1000_i64],
            step in prop_oneof![1..100_000_i64, 1..20_000_000_000_i64],
            missing in proptest::collection::vec(0..=MOST_MISSING + 1, 1..20),
        ) {
            let (mut time, step) = (seconds * 1000 + fraction, step * 1000);
            let text = format!(r#"{},""#, Timestamp::from_ms(time));
            let joint = Stride::new(step).and_then(|stride| stride.after(time, text.as_bytes()));
            prop_assert_eq!(joint.is_some(), step < 10_000_000_000_000);
            let Some(mut joint) = joint else { return Ok(()) };
            for missing in missing {
                let ahead = time + step * (1 + i64::try_from(missing).expect("few"));
                let (text, length) = next(ahead);
                let others = [next(ahead - 1).0, next(ahead + 1).0, text.replace("],", "]."), text[..length.unwrap_or(0).saturating_sub(1)].to_owned()];
                for other in others {
                    prop_assert_eq!(joint.meet(other.as_bytes(), i64::MAX), None, "{}", other);
                }
                prop_assert_eq!(joint.meet(text.as_bytes(), ahead - 1), None, "past the last");
                let is_met = missing <= MOST_MISSING && length.is_some();
                prop_assert_eq!(joint.meet(text.as_bytes(), ahead), length.filter(|_| is_met), "{}", text);
                if !is_met {
                    break;
                }
                time = ahead;
                prop_assert_eq!(joint.time(), time);
            }
        }
    }

    /// Times have ten digits until 2286; then nothing is met, least of all what the carry makes of the bracket.
    #[test]
    fn the_last_time_of_ten_digits_is_the_last_that_is_met() {
        let stride = Stride::new(1000).expect("whole seconds");
        let mut joint = stride.after(9_999_999_998_000, br#"9999999998,""#).expect("ten digits");
        assert_eq!(joint.meet(br#""],[9999999999,"1"]"#, i64::MAX), Some(JOINT));
        for text in [r#""],\0000000000,"1"]"#, r#""],[0000000000,"1"]"#, r#""],[10000000000,"1"]"#] {
            assert_eq!(joint.meet(text.as_bytes(), i64::MAX), None, "{text}");
        }
    }

    #[test]
    fn steps_and_times_of_another_kind_are_left_to_the_scanner() {
        for step_ms in [1, 500, 1500, 10_000_000_000_000, i64::MAX] {
            assert!(Stride::new(step_ms).is_none(), "{step_ms}");
        }
        let stride = Stride::new(15_000).expect("whole seconds");
        for (time, text) in [
            (0, r#"0,""#),
            (999_999_999_000, r#"999999999,""#),
            (10_000_000_000_000, r#"10000000000,""#),
            (-1_700_000_000_000, r#"-1700000000,""#),
        ] {
            assert!(stride.after(time, text.as_bytes()).is_none(), "{text}");
        }
    }
}
