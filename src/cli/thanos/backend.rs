//! Thanos's YAML inside of flags: where answers are kept, and how the server is spoken with.
//!
//! What is not known is refused, as Thanos does.

use std::time::Duration;

use super::{Draft, go};
use crate::config::{self, Memcached, Redis, RemoteTimeout, Source, Tls, parse_size};

/// What a cache holds whose size is counted in items.
const UNCOUNTED_BYTES: u64 = 1 << 30;

/// How long Thanos's shared caches hold an item if nothing is said.
const EXPIRATION: Duration = Duration::from_hours(24);

/// Where answers are kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) kind: Kind,
    pub(super) ttl: Option<Duration>,
    pub(super) notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In the process, so many bytes.
    Memory(u64),
    /// And how often names are resolved.
    Memcached(Memcached, Option<Duration>),
    /// Redis.
    Redis(Redis),
}

/// Reads `type` and `config`. Nothing in it is nothing.
pub(super) fn read(text: &str) -> Result<Option<Backend>, String> {
    let values = Source::from_text(text).map_err(|error| error.to_string())?.values();
    let Some((_, kind)) = values.iter().find(|(name, _)| name == "type") else {
        return if values.is_empty() {
            Ok(None)
        } else {
            Err("type is missing; write type: IN-MEMORY, for example".to_owned())
        };
    };
    let mut options = Vec::new();
    for (name, value) in values.iter().filter(|(name, _)| name != "type") {
        match name.strip_prefix("config.") {
            Some(name) => options.push((name, value.as_str())),
            None => return Err(format!("there is no option {name:?} beside type and config")),
        }
    }
    match kind.to_uppercase().as_str() {
        "IN-MEMORY" => memory(&options).map(Some),
        "MEMCACHED" => memcached(&options).map(Some),
        "REDIS" => redis(&options).map(Some),
        _ => Err(format!("{kind:?} is none of IN-MEMORY, MEMCACHED, REDIS")),
    }
}

type Given<'t> = [(&'t str, &'t str)];

fn memory(options: &Given<'_>) -> Result<Backend, String> {
    let (mut max_bytes, mut max_items, mut ttl, mut notes) = (0, 0_u64, None, Vec::new());
    for &(name, value) in options {
        match name {
            "max_size" => max_bytes = size(name, value)?,
            "max_size_items" => max_items = number(name, value)?,
            "validity" => ttl = some_time(name, value)?,
            _ => return Err(unknown(name)),
        }
    }
    if max_bytes == 0 && max_items > 0 {
        max_bytes = UNCOUNTED_BYTES;
        notes.push(
            "max_size_items is not counted; what is kept weighs at most 1GiB; give max_size for another bound"
                .to_owned(),
        );
    }
    Ok(Backend { kind: Kind::Memory(max_bytes), ttl, notes })
}

fn memcached(options: &Given<'_>) -> Result<Backend, String> {
    let (mut memcached, mut interval, mut ttl) = (Memcached::default(), None, None);
    for &(name, value) in options {
        match name {
            "addresses[]" => memcached.addresses.push(value.to_owned()),
            "timeout" => memcached.timeout = some_time(name, value)?.map_or(memcached.timeout, RemoteTimeout),
            "max_item_size" => {
                let bytes = size(name, value)?;
                memcached.max_item_bytes = if bytes == 0 { memcached.max_item_bytes } else { bytes };
            }
            "dns_provider_update_interval" => interval = some_time(name, value)?,
            "expiration" => ttl = some_time(name, value)?,
            "auto_discovery" if value == "true" => {
                return Err("auto_discovery is not there; give addresses with dns+ or dnssrv+".to_owned());
            }
            _ if name.starts_with("tls_config.") || name == "tls_enabled" => {
                if !is_off(value) {
                    return Err(format!("{name}: memcached is spoken with in clear text; use Redis for TLS"));
                }
            }
            "auto_discovery"
            | "max_idle_connections"
            | "max_async_concurrency"
            | "max_async_buffer_size"
            | "max_get_multi_concurrency"
            | "max_get_multi_batch_size"
            | "provider" => {}
            _ if name.starts_with("set_async_circuit_breaker_config.") => {}
            _ => return Err(unknown(name)),
        }
    }
    Ok(Backend { kind: Kind::Memcached(memcached, interval), ttl: ttl.or(Some(EXPIRATION)), notes: Vec::new() })
}

fn redis(options: &Given<'_>) -> Result<Backend, String> {
    let (mut redis, mut ttl, mut notes) = (Redis::default(), None, Vec::new());
    let (mut address, mut db, mut has_tls) = ("", 0, false);
    for &(name, value) in options {
        match name {
            "addr" => address = value,
            "db" => db = number(name, value)?,
            "username" => value.clone_into(&mut redis.username),
            "password" if !value.is_empty() => {
                return Err(
                    "password: promfront reads passwords from files only; run it with --config.file instead of \
                            these flags, and give cache.remote.redis.password_file"
                        .to_owned(),
                );
            }
            "master_name" => value.clone_into(&mut redis.sentinel_master),
            "tls_enabled" => has_tls = value == "true",
            "tls_config.ca_file" => redis.ca_file = value.into(),
            "tls_config.cert_file" => redis.cert_file = value.into(),
            "tls_config.key_file" => redis.key_file = value.into(),
            "tls_config.server_name" | "tls_config.insecure_skip_verify" if !is_off(value) => {
                return Err(format!("{name} is not there; the server's certificate must have the name of its address"));
            }
            "expiration" => ttl = some_time(name, value)?,
            "dial_timeout" | "read_timeout" | "write_timeout" if !is_off(value) => {
                notes.push(format!("{name}: a query waits 50ms in all for what is shared"));
            }
            "password"
            | "tls_config.server_name"
            | "tls_config.insecure_skip_verify"
            | "dial_timeout"
            | "read_timeout"
            | "write_timeout"
            | "pool_size"
            | "min_idle_conns"
            | "idle_timeout"
            | "max_conn_age"
            | "cache_size"
            | "max_get_multi_concurrency"
            | "get_multi_batch_size"
            | "max_set_multi_concurrency"
            | "set_multi_batch_size"
            | "max_async_buffer_size"
            | "max_async_concurrency" => {}
            _ if name.starts_with("set_async_circuit_breaker_config.") => {}
            _ => return Err(unknown(name)),
        }
    }
    if address.is_empty() {
        return Err("addr is missing; write addr: redis:6379, for example".to_owned());
    }
    redis.cluster = redis.sentinel_master.is_empty() && address.contains(',');
    redis.url = format!(
        "{}://{address}{}",
        if has_tls { "rediss" } else { "redis" },
        match db {
            0 => String::new(),
            db => format!("/{db}"),
        }
    );
    Ok(Backend { kind: Kind::Redis(redis), ttl: ttl.or(Some(EXPIRATION)), notes })
}

/// `--query-frontend.downstream-tripper-config`
pub(super) fn tripper(draft: &mut Draft, text: &str) -> Result<(), String> {
    let values = Source::from_text(text).map_err(|error| error.to_string())?.values();
    let config::Downstream { tls, max_concurrent, .. } = &mut draft.config.downstream;
    let Tls { ca_file, cert_file, key_file, server_name, insecure_skip_verify } = tls;
    for (name, value) in &values {
        match name.as_str() {
            "max_conns_per_host" => match number(name, value)? {
                0 => {}
                most => *max_concurrent = usize::try_from(most).unwrap_or(usize::MAX),
            },
            "tls_config.ca_file" => *ca_file = value.into(),
            "tls_config.cert_file" => *cert_file = value.into(),
            "tls_config.key_file" => *key_file = value.into(),
            "tls_config.server_name" => value.clone_into(server_name),
            "tls_config.insecure_skip_verify" => *insecure_skip_verify = value == "true",
            "idle_conn_timeout"
            | "response_header_timeout"
            | "tls_handshake_timeout"
            | "expect_continue_timeout"
            | "max_idle_conns"
            | "max_idle_conns_per_host" => {}
            _ => return Err(unknown(name)),
        }
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    format!("there is no option {name:?} that promfront knows")
}

fn is_off(value: &str) -> bool {
    matches!(value, "" | "0" | "0s" | "false")
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is not a whole number"))
}

fn size(name: &str, value: &str) -> Result<u64, String> {
    if value.is_empty() {
        return Ok(0);
    }
    parse_size(value).ok_or_else(|| format!("{name}: {value:?} is not a size; write 512MB, for example"))
}

fn some_time(name: &str, value: &str) -> Result<Option<Duration>, String> {
    let span = go::duration(value).map_err(|problem| format!("{name}: {problem}"))?;
    Ok((!span.is_zero()).then_some(span))
}
