//! What single options are held against. Each sentence says what would be right.

#![expect(clippy::ptr_arg, clippy::trivially_copy_pass_by_ref, reason = "a bound takes the option's own type")]

use std::time::Duration;

use crate::model::pattern;
use http::HeaderName;

use super::units::RemoteTimeout;

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
    held(!value.is_zero(), "0s keeps nothing; set cache.memory.max_bytes and cache.whole.max_bytes to 0 instead")
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

pub(super) fn regex(value: &String) -> Held {
    pattern::whole(value).map(drop)
}
