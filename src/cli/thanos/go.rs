//! Durations as Go and Prometheus write them, which Thanos's flags mix.

use std::time::Duration;

use crate::model::time::parse_duration;

/// `24h`, `1h30m`, `1.5h`, `1d`, `0`; below zero is nothing, which is what it means to Thanos.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let read = match text.strip_prefix('-') {
        Some(text) => positive(text).map(|_| Duration::ZERO),
        None => positive(text),
    };
    read.ok_or_else(|| format!("{text:?} is not a duration; write 24h or 1h30m, for example"))
}

fn positive(text: &str) -> Option<Duration> {
    const UNITS_NS: [(&str, f64); 7] =
        [("h", 3.6e12), ("m", 6e10), ("s", 1e9), ("ms", 1e6), ("us", 1e3), ("µs", 1e3), ("ns", 1.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if let Some(span) = parse_duration(text) {
        return Some(span);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|&digits| digits > 0)?;
        let letters = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - digits);
        let (count, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let (_, ns) = UNITS_NS.iter().find(|(name, _)| *name == unit)?;
        let seconds = count.parse::<f64>().ok()? * ns / 1e9;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = &rest[digits + letters..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_both() {
        for (text, want_ms) in [
            ("24h", Some(86_400_000)),
            ("1h30m0s", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("1d", Some(86_400_000)),
            ("500ms", Some(500)),
            ("30s1m", Some(90_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("-1s", Some(0)),
            ("", None),
            ("5", None),
            ("h", None),
            ("1.2.3h", None),
            ("1 h", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text).ok().map(|span| span.as_millis()), want_ms, "{text}");
        }
    }
}
