//! What single options are held against. Each sentence says what would be right.

#![expect(clippy::ptr_arg, clippy::trivially_copy_pass_by_ref, reason = "a bound takes the option's own type")]

use std::time::Duration;

use http::HeaderName;
use regex::RegexBuilder;

use super::units::RemoteTimeout;

/// What a compiled regular expression may weigh.
const MOST_REGEX_BYTES: usize = 1 << 20;

type Held = Result<(), String>;

fn held(is_right: bool, sentence: impl Into<String>) -> Held {
    if is_right { Ok(()) } else { Err(sentence.into()) }
}

pub(super) fn count(&value: &usize) -> Held {
    held((1..=10_000).contains(&value), format!("{value} is out of bounds; it must be 1 to 10000"))
}

pub(super) fn waiting(&value: &usize) -> Held {
    held((1..=1_000_000).contains(&value), format!("{value} is out of bounds; it must be 1 to 1000000"))
}

pub(super) fn at_least_a_minute(&value: &Duration) -> Held {
    held(value >= Duration::from_mins(1), format!("{value:?} is too short; it must be at least 1m"))
}

pub(super) fn some_time(value: &Duration) -> Held {
    held(!value.is_zero(), "0s leaves no time for an answer; write 2m10s, for example")
}

pub(super) fn remote_timeout(value: &RemoteTimeout) -> Held {
    held(!value.0.is_zero(), "0s leaves no time for an answer; write 50ms, for example")
}

pub(super) fn ends(value: &Duration) -> Held {
    held(!value.is_zero(), "0s never stops; write 30s, for example")
}

pub(super) fn keeps(value: &Duration) -> Held {
    held(!value.is_zero(), "0s keeps nothing; set cache.memory.max_bytes to 0 to turn the cache off")
}

pub(super) fn message(value: &u64) -> Held {
    held((1 << 20..=1 << 30).contains(value), "it must be 1MiB to 1GiB")
}

pub(super) fn response(value: &u64) -> Held {
    held((1..=4_000_000_000).contains(value), "it must be above 0 and at most 3814MiB")
}

pub(super) fn memcached_item(value: &u64) -> Held {
    held((64 << 10..=1 << 30).contains(value), "it must be 64KiB to 1GiB, as the servers' -I")
}

pub(super) fn memcached_addresses(value: &Vec<String>) -> Held {
    held(!value.is_empty(), "there are none; write [\"127.0.0.1:11211\"], for example")
}

pub(super) fn redis_url(value: &String) -> Held {
    held(!value.is_empty(), "it is missing; write redis://127.0.0.1:6379, for example")
}

pub(super) fn path_prefix(value: &String) -> Held {
    let is_right = value.is_empty() || (value.starts_with('/') && !value.ends_with('/'));
    held(is_right, format!("{value:?} must begin with / and not end with it, or be empty"))
}

pub(super) fn header(name: &String) -> Held {
    held(HeaderName::from_bytes(name.as_bytes()).is_ok(), format!("{name:?} is not the name of a header"))
}

pub(super) fn headers(names: &Vec<String>) -> Held {
    names.iter().try_for_each(header)
}

/// As Prometheus anchors it.
pub(super) fn regex(value: &String) -> Held {
    let compiled = RegexBuilder::new(&format!("^(?s:{value})$")).size_limit(MOST_REGEX_BYTES).build();
    compiled.map(drop).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("{value:?} is too large; compiled it must have at most 1MiB"),
        error => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default();
            format!("{value:?} is no regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    })
}
