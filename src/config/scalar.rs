//! Single values: numbers, texts, durations, sizes, times.
//!
//! Rule: durations are Prometheus's (`1h30m`), sizes have binary units (`512MiB`). What is printed holds no password.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::print::Printed;
use super::problem::Report;
use super::value::{Form, Value, parsed};
use super::yaml::{Is, Node};
use crate::model::time::{Timestamp, parse_duration};

/// Bytes, with a unit.
pub(super) struct Size;

impl Form<u64> for Size {
    fn read(node: &Node, report: &mut Report) -> Option<u64> {
        let expected = "a size; write it as 1048576, 512KiB, 64MiB or 1GiB";
        parsed(node, report, expected, parse_size)
    }

    fn print(value: &u64) -> Printed {
        Printed::Plain(print_size(*value))
    }
}

impl Form<Option<u64>> for Size {
    fn read(node: &Node, report: &mut Report) -> Option<Option<u64>> {
        if node.is == Is::Nothing { Some(None) } else { <Self as Form<u64>>::read(node, report).map(Some) }
    }

    fn print(value: &Option<u64>) -> Printed {
        value.as_ref().map_or(Printed::Nothing, <Self as Form<u64>>::print)
    }
}

/// An address in which a password may stand, which is not printed.
pub(super) struct Address;

impl Form<String> for Address {
    fn read(node: &Node, report: &mut Report) -> Option<String> {
        Value::read(node, report)
    }

    fn print(value: &String) -> Printed {
        Printed::Text(without_password(value))
    }
}

impl Form<Vec<String>> for Address {
    fn read(node: &Node, report: &mut Report) -> Option<Vec<String>> {
        Value::read(node, report)
    }

    fn print(value: &Vec<String>) -> Printed {
        Printed::List(value.iter().map(<Self as Form<String>>::print).collect())
    }
}

impl Value for bool {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        parsed(node, report, "true or false", |text| text.parse().ok())
    }

    fn print(&self) -> Printed {
        Printed::Plain(self.to_string())
    }
}

impl Value for usize {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        parsed(node, report, WHOLE_NUMBER, whole_number)
    }

    fn print(&self) -> Printed {
        Printed::Plain(self.to_string())
    }
}

impl Value for u64 {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        parsed(node, report, WHOLE_NUMBER, whole_number)
    }

    fn print(&self) -> Printed {
        Printed::Plain(self.to_string())
    }
}

impl Value for String {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        parsed(node, report, "a text; write \"\" for none", |text| Some(text.to_owned()))
    }

    fn print(&self) -> Printed {
        Printed::Text(self.clone())
    }
}

impl Value for PathBuf {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        parsed(node, report, "the path of a file; write \"\" for none", |text| Some(text.into()))
    }

    fn print(&self) -> Printed {
        Printed::Text(self.display().to_string())
    }
}

impl Value for Duration {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let read = |text: &str| if text == "0" { Some(Self::ZERO) } else { parse_duration(text) };
        parsed(node, report, "a duration; write it as 30s, 10m, 1h30m or 7d", read)
    }

    fn print(&self) -> Printed {
        Printed::Plain(print_duration(*self))
    }
}

impl Value for Timestamp {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let expected = "a time; write it as 2026-01-31T00:00:00Z, or in seconds since 1970";
        parsed(node, report, expected, Self::parse)
    }

    fn print(&self) -> Printed {
        let time = jiff::Timestamp::from_millisecond(self.ms());
        Printed::Text(time.map_or_else(|_| self.to_string(), |time| time.to_string()))
    }
}

const WHOLE_NUMBER: &str = "a whole number, such as 16";

fn whole_number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Days are the longest unit: who writes `7d` should not read `1w`.
pub(super) fn print_duration(span: Duration) -> String {
    const UNITS: [(&str, u128); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut left_ms = span.as_millis();
    let mut text = String::new();
    for (unit, ms) in UNITS {
        if left_ms >= ms {
            write!(text, "{}{unit}", left_ms / ms).expect("a String takes every write");
            left_ms %= ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

const SIZE_UNITS: [(&str, u32); 8] =
    [("GiB", 30), ("MiB", 20), ("KiB", 10), ("GB", 30), ("MB", 20), ("KB", 10), ("B", 0), ("", 0)];

pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (unit, shift) = SIZE_UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let count: u64 = whole_number(text[..text.len() - unit.len()].trim_end())?;
    count.checked_mul(1 << shift)
}

fn print_size(bytes: u64) -> String {
    let fits = |&&(_, shift): &&(&str, u32)| bytes > 0 && bytes.trailing_zeros() >= shift;
    let (unit, shift) = SIZE_UNITS[..3].iter().find(fits).unwrap_or(&("", 0));
    format!("{}{unit}", bytes >> shift)
}

/// `redis://user:<secret>@host`
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let Some((user, hosts)) = rest.rsplit_once('@') else { return address.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:<secret>@{hosts}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, want) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("512 KiB", Some(512 << 10)),
            ("1GiB", Some(1 << 30)),
            ("64MB", Some(64 << 20)),
            ("99999999999GiB", None),
            ("1.5GiB", None),
            ("+1", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
        for bytes in [0, 1, 1023, 1024, 1 << 20, (1 << 20) + 1, 3 << 30, u64::MAX] {
            assert_eq!(parse_size(&print_size(bytes)), Some(bytes));
        }
        assert_eq!(print_size(1536 << 10), "1536KiB");
    }

    #[test]
    fn durations_read_back() {
        for (ms, want) in [(0, "0s"), (50, "50ms"), (130_000, "2m10s"), (7 * 86_400_000, "7d"), (86_400_001, "1d1ms")] {
            let span = Duration::from_millis(ms);
            assert_eq!(print_duration(span), want);
            assert_eq!(parse_duration(want), Some(span));
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        for (address, want) in [
            ("redis://u:p@ss@h:1,i:2/0", "redis://u:<secret>@h:1,i:2/0"),
            ("redis://:p@h", "redis://:<secret>@h"),
            ("redis://h:6379/1", "redis://h:6379/1"),
            ("http://u@h", "http://u@h"),
            ("x", "x"),
        ] {
            assert_eq!(without_password(address), want);
        }
    }
}
