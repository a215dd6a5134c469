//! Points that follow one another by one step, sixteen bytes at a time.
//!
//! Nearly all of an answer is `…[1700000000,"1.5"],[1700000015,"1.5"]…`: what stands between two values is known before it
//! is read. A [`Joint`] is that text, and is counted on as decimal digits instead of being parsed at each point. It knows
//! times of ten whole digits (2001 to 2286) and steps of whole seconds; all else is the scanner's own business, and so is
//! each point that is not the one that was expected. So this decides nothing: it only takes faster what would be taken.

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

impl Joint<'_> {
    /// The time of the point before it.
    pub(super) fn time(&self) -> i64 {
        self.time
    }

    /// How long this joint is, if `text` begins with it and the point after it is not later than `last`. From then on it
    /// is the next one.
    #[inline]
    pub(super) fn meet(&mut self, text: &[u8], last: i64) -> Option<usize> {
        let time = self.time + self.stride.step_ms;
        let sum = self.digits + self.stride.digits + ONES * CARRY;
        // A byte that did not carry holds the digit and 0xF6, so its highest bit is set. What the first digit carries goes
        // into the bracket before it, which no text meets.
        let digits = sum - ((sum >> 7) & ONES) * CARRY;
        let (head, rest) = text.split_first_chunk::<JOINT>()?;
        let is_met = u128::from_be_bytes(*head) == digits + self.frame && time <= last;
        if !is_met || (!self.rest.is_empty() && !rest.starts_with(self.rest)) {
            return None;
        }
        self.digits = digits;
        self.time = time;
        Some(JOINT + self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::model::time::Timestamp;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_joint_is_the_text_of_the_next_time(
            (seconds, step) in (1_000_000_000..10_000_000_000_i64, prop_oneof![1..100_000_i64, 1..20_000_000_000_i64]),
            fraction in prop_oneof![Just(0), 0..1000_i64],
        ) {
            let (time, step) = (seconds * 1000 + fraction, step * 1000);
            let text = format!(r#"{},""#, Timestamp::from_ms(time));
            let mut joint = Stride::new(step).and_then(|stride| stride.after(time, text.as_bytes()));
            prop_assert_eq!(joint.is_some(), step < 10_000_000_000_000);
            for next in (1..20).map(|i| time + i * step) {
                let Some(joint) = joint.as_mut() else { break };
                let text = format!(r#""],[{},"1"]"#, Timestamp::from_ms(next));
                let length = (next < 10_000_000_000_000).then_some(text.len() - 3);
                prop_assert_eq!(joint.meet(text.as_bytes(), next - 1), None, "past the last");
                prop_assert_eq!(joint.meet(text.replacen(',', ".", 1).as_bytes(), next), None);
                prop_assert_eq!(joint.meet(text.as_bytes(), next), length, "{}", text);
                if length.is_none() {
                    break;
                }
                prop_assert_eq!(joint.time(), next);
            }
        }
    }
}
