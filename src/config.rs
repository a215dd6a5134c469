//! Every option: its default, its bound, and how it is written.
//!
//! The file is YAML and strict: an unknown key or a bad value is refused with its place. Durations are Prometheus's
//! (`1h30m`), sizes have binary units (`512MiB`). `config/promfront.yaml` lists all of this with its reasons, and a test
//! holds it against these defaults.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::model::time::parse_duration;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The servers that answer.
    pub downstream: Downstream,
    /// How queries are cut.
    pub split: Split,
    /// What is kept, and how long.
    pub cache: Cache,
    /// What a request may cost.
    pub limits: Limits,
}

/// The servers that answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Downstream {
    /// Base URLs; today exactly one, `http://`.
    pub urls: Vec<String>,
    /// Range parts in flight per endpoint.
    pub max_concurrent: usize,
    /// How long a range query may take in all; a client's own `timeout` may shorten it.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// How long connecting may take.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
}

impl Default for Downstream {
    fn default() -> Self {
        Self {
            urls: vec!["http://127.0.0.1:9090".to_owned()],
            max_concurrent: 16,
            timeout: Duration::from_secs(130),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// How queries are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// Queries are cut at multiples of this since the epoch.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// At most this many parts for one query.
    pub max_parts: usize,
}

impl Default for Split {
    fn default() -> Self {
        Self { interval: Duration::from_hours(24), max_parts: 64 }
    }
}

/// What is kept, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// The tier in this process.
    pub memory: Memory,
    /// Points that read data younger than this are never kept.
    #[serde(deserialize_with = "duration")]
    pub freshness: Duration,
    /// How long an extent holds, counted from its fetch.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// How far back samples may still arrive.
    #[serde(deserialize_with = "duration")]
    pub out_of_order_window: Duration,
    /// How long points hold that lay inside that window when they were fetched.
    #[serde(deserialize_with = "duration")]
    pub out_of_order_ttl: Duration,
    /// Request headers, besides the built-in ones, by which the downstream tells callers apart.
    pub key_headers: Vec<String>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            memory: Memory::default(),
            freshness: Duration::from_mins(10),
            ttl: Duration::from_hours(7 * 24),
            out_of_order_window: Duration::ZERO,
            out_of_order_ttl: Duration::from_mins(10),
            key_headers: Vec::new(),
        }
    }
}

/// The tier in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// How much it may hold; 0 turns the cache off.
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { max_bytes: 1 << 30 }
    }
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Points per series of a range query, judged on the client's own request as Prometheus does; 0 leaves it to the server.
    pub max_points: u64,
    /// The length of a query's text.
    #[serde(deserialize_with = "size")]
    pub max_query_bytes: u64,
    /// Parts of one query in flight.
    pub max_parallelism: usize,
    /// The decoded bodies of the answers to the parts of one query, together.
    #[serde(deserialize_with = "size")]
    pub max_response_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_points: 11_000, max_query_bytes: 1 << 20, max_parallelism: 14, max_response_bytes: 1 << 30 }
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("can't read {path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("{path}: {message}")]
    Syntax {
        /// Which file.
        path: String,
        /// What and where.
        message: String,
    },
    /// A value is out of bounds.
    #[error("{option}: {problem}")]
    Value {
        /// Its name, as a path.
        option: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File { path: name.clone(), error })?;
        Self::parse(&text).map_err(|message| ConfigError::Syntax { path: name, message })
    }

    /// Reads a text. Empty means all defaults.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Checks what the types do not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |option, problem: String| Err(ConfigError::Value { option, problem });
        match self.downstream.urls.as_slice() {
            [_] => {}
            urls => return wrong("downstream.urls", format!("there must be exactly one URL, not {}", urls.len())),
        }
        if self.split.interval < Duration::from_mins(1) {
            return wrong("split.interval", format!("{:?} is too short; it must be at least 1m", self.split.interval));
        }
        for (option, value) in [
            ("downstream.max_concurrent", self.downstream.max_concurrent),
            ("split.max_parts", self.split.max_parts),
            ("limits.max_parallelism", self.limits.max_parallelism),
        ] {
            if value == 0 || value > 10_000 {
                return wrong(option, format!("{value} is out of bounds; it must be 1 to 10000"));
            }
        }
        for (option, value) in [
            ("downstream.timeout", self.downstream.timeout),
            ("downstream.connect_timeout", self.downstream.connect_timeout),
        ] {
            if value.is_zero() {
                return wrong(option, "0s leaves no time for an answer; write 2m10s, for example".to_owned());
            }
        }
        if self.cache.ttl.is_zero() {
            return wrong(
                "cache.ttl",
                "0s keeps nothing; set cache.memory.max_bytes to 0 to turn the cache off".to_owned(),
            );
        }
        if self.limits.max_response_bytes == 0 || self.limits.max_response_bytes > 4_000_000_000 {
            return wrong("limits.max_response_bytes", "it must be above 0 and at most 3814MiB".to_owned());
        }
        Ok(())
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is not a duration; write it as 30s, 10m, 1h30m or 7d"))
    })
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is not a size; write it as 1048576, 512KiB, 64MiB or 1GiB"))
    })
}

fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32); 8] =
        [("GiB", 30), ("MiB", 20), ("KiB", 10), ("GB", 30), ("MB", 20), ("KB", 10), ("B", 0), ("", 0)];
    let (unit, shift) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let count: u64 = text[..text.len() - unit.len()].trim_end().parse().ok()?;
    count.checked_mul(1 << shift)
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
            ("1.5GiB", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
    }

    #[test]
    fn the_reference_file_names_every_option_with_its_default() {
        let reference = include_str!("../config/promfront.yaml");
        assert_eq!(Config::parse(reference).expect("the reference is sound"), Config::default());
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let message = Config::parse("split:\n  intervall: 1d\n").expect_err("no such option");
        assert!(message.contains("intervall") && message.contains('2'), "{message}");
    }
}
