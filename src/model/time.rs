//! Instants and steps in whole milliseconds, read from text exactly as Prometheus reads them.
//!
//! Prometheus takes a time as float seconds (the fraction rounded to the millisecond) or as RFC 3339, and a step as
//! float seconds or as a duration such as `1h30m`; its engine then cuts both down to milliseconds. A proxy that reads
//! them differently by one millisecond asks another question. What is not read here (`None`) is not an error: the
//! request passes whole and the downstream, which is the judge, refuses it in its own words.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Beyond this many milliseconds (292 years around 1970) the server's nanoseconds overflow, and with them its sense.
const LAST_EXACT_MS: i64 = i64::MAX / 1_000_000;

/// An instant: milliseconds since the Unix epoch, the resolution of PromQL's engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `ms` milliseconds after the epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// The wall clock. Read at the door only: every later stage is handed the reading (invariant *one now*).
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// This instant moved back by `span`, stopping at the earliest one.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long ago `earlier` was; nothing if it lies ahead (a clock that was set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The first whole minute that does not lie before it.
    #[must_use]
    pub fn minute_up(self) -> Self {
        let past = self.0.rem_euclid(60_000);
        Self(if past == 0 { self.0 } else { self.0.saturating_add(60_000 - past) })
    }

    /// As people read it, `2030-01-31T00:00:00Z`.
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(|_| format!("{self} s"), |time| time.to_string())
    }

    /// Reads a `start`, `end` or `time` parameter as Prometheus does.
    pub fn parse(text: &str) -> Option<Self> {
        parse_float_seconds(text).or_else(|| parse_rfc3339(text)).filter(|t| t.0.abs() <= LAST_EXACT_MS)
    }

    /// Reads the `Date` of an HTTP answer, `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(Self(time.as_millisecond()))
    }

    /// Reads the timestamp of a sample: seconds with at most three decimals, as Prometheus writes them.
    pub fn parse_sample(digits: &[u8]) -> Option<Self> {
        let (negative, digits) = match digits.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, digits),
        };
        let (whole, fraction) = match digits.iter().position(|&b| b == b'.') {
            Some(dot) => (&digits[..dot], &digits[dot + 1..]),
            None => (digits, &[][..]),
        };
        let has_dot = whole.len() != digits.len();
        if whole.is_empty() || whole.len() > 15 || fraction.len() > 3 || (has_dot && fraction.is_empty()) {
            return None;
        }
        let mut ms: i64 = 0;
        for &byte in whole.iter().chain(fraction) {
            ms = ms * 10 + i64::from(digit(byte)?);
        }
        for _ in fraction.len()..3 {
            ms *= 10;
        }
        Some(Self(if negative { -ms } else { ms }))
    }
}

/// Seconds as Prometheus writes a sample's time: whole, or with exactly three decimals.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let ms = self.0.unsigned_abs();
        match ms % 1000 {
            0 => write!(f, "{sign}{}", ms / 1000),
            fraction => write!(f, "{sign}{}.{fraction:03}", ms / 1000),
        }
    }
}

/// The distance between two neighbouring instants of a range query: at least one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(i64);

impl Step {
    /// A step of `ms` milliseconds, if that is more than none.
    pub const fn from_ms(ms: i64) -> Option<Self> {
        if ms > 0 { Some(Self(ms)) } else { None }
    }

    /// Its length in milliseconds, at least 1.
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Reads a `step` parameter as Prometheus does. One with a part of a millisecond is not read: its server counts the
    /// points with that part and its engine evaluates them without.
    pub fn parse(text: &str) -> Option<Self> {
        let ns = parse_duration_ns(text)?;
        Self::from_ms(ns / 1_000_000).filter(|_| ns % 1_000_000 == 0)
    }
}

/// A step reads best in its largest whole unit.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match UNITS.iter().find(|(unit, _)| self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}ms", self.0),
        }
    }
}

/// A span in Prometheus's own notation, the largest units first: `1d12h`.
pub fn span(length: Duration) -> String {
    const UNITS: [(i64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let mut rest = millis(length);
    let counted = UNITS.map(|(unit, name)| {
        let count = rest / unit;
        rest %= unit;
        if count > 0 { format!("{count}{name}") } else { String::new() }
    });
    let text = counted.concat();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Whole milliseconds of a configured duration.
pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a `timeout`: float seconds or a duration, negative and empty ones being none.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    let ns = parse_duration_ns(text)?;
    u64::try_from(ns).ok().filter(|&ns| ns > 0).map(Duration::from_nanos)
}

/// Reads a duration in Prometheus's own notation: `1y2w3d4h5m6s7ms`, units in that order, each at most once.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let ns = parse_unit_duration_ns(text)?;
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

fn parse_float_seconds(text: &str) -> Option<Timestamp> {
    let seconds = parse_float(text)?;
    if seconds.abs() > 1e15 {
        return None;
    }
    // The same float operations as the server's, so that the same text falls on the same millisecond.
    let fraction = (seconds.fract() * 1000.0).round() / 1000.0;
    #[expect(clippy::cast_possible_truncation, reason = "bounded above; the server truncates here too")]
    let (whole, nanos) = (seconds.trunc() as i64, (fraction * 1e9) as i64);
    Some(Timestamp(whole * 1000 + nanos.div_euclid(1_000_000)))
}

/// Only plain decimal floats: the rest of what Go reads (hex, `inf`, `1_000`) passes whole.
fn parse_float(text: &str) -> Option<f64> {
    let plain = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if text.is_empty() || !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// RFC 3339 in the one shape that every server accepts: `2006-01-02T15:04:05[.fraction](Z|±hh:mm)`.
fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00";
    let fits = |(&byte, &want): (&u8, &u8)| if want == b'0' { byte.is_ascii_digit() } else { byte == want };
    if bytes.len() < shape.len() + 1 || !bytes.iter().zip(shape).all(fits) {
        return None;
    }
    let rest = &text[shape.len()..];
    let fraction = rest.strip_prefix('.').map_or(0, |digits| 1 + digits.bytes().take_while(u8::is_ascii_digit).count());
    let zone = &rest[fraction..];
    let zone_fits = zone == "Z"
        || (zone.len() == 6
            && zone.bytes().zip(*b"+00:00").all(|(byte, want)| match want {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                _ => byte == want,
            }));
    // A leap second is rolled over by one library and refused by another.
    if !zone_fits || fraction == 1 || fraction > 10 || &text[17..19] == "60" {
        return None;
    }
    // Go knows no zone a day away. A part of a millisecond counts for Go's server and not for its engine, as in a step.
    if zone.len() == 6 && &zone[1..3] > "23" {
        return None;
    }
    let ns = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    Some(Timestamp(i64::try_from(ns / 1_000_000).ok().filter(|_| ns % 1_000_000 == 0)?))
}

fn parse_duration_ns(text: &str) -> Option<i64> {
    match parse_float(text) {
        #[expect(clippy::cast_possible_truncation, reason = "bounded; the server truncates here too")]
        Some(seconds) => {
            let ns = seconds * 1e9;
            (ns.abs() < 9.2e18).then_some(ns as i64)
        }
        None => parse_unit_duration_ns(text),
    }
}

fn parse_unit_duration_ns(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let (mut rest, mut total_ms, mut from) = (text, 0_i64, 0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (count, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let place = UNITS[from..].iter().position(|(name, _)| *name == unit)?;
        let ms = count.parse::<i64>().ok()?.checked_mul(UNITS[from + place].1)?;
        total_ms = total_ms.checked_add(ms)?;
        from += place + 1;
        rest = &rest[digits + letters..];
    }
    total_ms.checked_mul(1_000_000)
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<i64> {
        Timestamp::parse(text).map(Timestamp::ms)
    }

    #[test]
    fn times_are_read_as_prometheus_reads_them() {
        for (text, want) in [
            ("0", Some(0)),
            ("4", Some(4000)),
            ("1543578564.705", Some(1_543_578_564_705)),
            ("1.001", Some(1001)),
            ("123.123", Some(123_123)),
            ("1567092749.3346083", Some(1_567_092_749_335)),
            ("1529991846.946", Some(1_529_991_846_946)),
            ("-59.200", Some(-59_200)),
            ("-0.0004", Some(0)),
            ("1e3", Some(1_000_000)),
            ("1e-4000", Some(0)),
            (".5", Some(500)),
            ("2015-06-03T13:21:58.555Z", Some(1_433_337_718_555)),
            ("2015-06-03T14:21:58.555+01:00", Some(1_433_337_718_555)),
            ("2015-06-03T13:21:58.555000000Z", Some(1_433_337_718_555)),
            ("2015-06-03T13:21:58.555999999Z", None),
            ("2015-06-03T13:21:58+25:00", None),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("", None),
            ("x", None),
            ("NaN", None),
            ("Inf", None),
            ("0x10", None),
            ("-1h", None),
            ("2015-06-03", None),
            ("2015-06-03t13:21:58z", None),
            ("2016-12-31T23:59:60Z", None),
            ("-9223372036854775.808", None),
            ("-292273086-05-16T16:47:06Z", None),
        ] {
            assert_eq!(ms(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back_to_the_same_millisecond() {
        for base in [0, 1_543_578_564, 9_223_372_035] {
            for fraction in 0..1000 {
                for sign in [1, -1] {
                    let t = Timestamp(sign * (base * 1000 + fraction));
                    assert_eq!(Timestamp::parse(&t.to_string()), Some(t));
                    assert_eq!(Timestamp::parse_sample(t.to_string().as_bytes()), Some(t));
                }
            }
        }
    }

    #[test]
    fn sample_times_are_seconds_with_at_most_three_decimals() {
        for (text, want) in [
            ("1435781451", Some(1_435_781_451_000)),
            ("1435781451.7", Some(1_435_781_451_700)),
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-0.001", Some(-1)),
            ("1.", None),
            (".5", None),
            ("1.2345", None),
            ("1e9", None),
            ("", None),
            ("-", None),
            ("9999999999999999", None),
        ] {
            assert_eq!(Timestamp::parse_sample(text.as_bytes()).map(Timestamp::ms), want, "{text}");
        }
    }

    #[test]
    fn people_read_times_and_spans() {
        assert_eq!(Timestamp(1_893_456_000_000).to_rfc3339(), "2030-01-01T00:00:00Z");
        for (ms, want) in [(0, "0s"), (1, "1ms"), (90_061_001, "1d1h1m1s1ms"), (31 * 86_400_000, "31d")] {
            assert_eq!(span(Duration::from_millis(ms)), want);
        }
        for (ms, want) in [(0, 0), (1, 60_000), (60_000, 60_000), (-1, 0), (-60_001, -60_000)] {
            assert_eq!(Timestamp(ms).minute_up(), Timestamp(want));
        }
    }

    #[test]
    fn steps_are_float_seconds_or_durations() {
        for (text, want) in [
            ("15", Some(15_000)),
            ("43.2", Some(43_200)),
            ("0.1", Some(100)),
            ("0.0015", None),
            ("1m", Some(60_000)),
            ("1h30m", Some(5_400_000)),
            ("1y2w3d4h5m6s7ms", Some(((365 + 14 + 3) * 86_400 + 4 * 3600 + 306) * 1000 + 7)),
            ("1d", Some(86_400_000)),
            ("0", None),
            ("0s", None),
            ("-1", None),
            ("0.0001", None),
            ("1m1h", None),
            ("1m1m", None),
            ("m", None),
            ("5", Some(5000)),
            ("300y", None),
            ("", None),
            ("1.5h", None),
        ] {
            assert_eq!(Step::parse(text).map(Step::ms), want, "{text}");
        }
    }
}
