//! Which engine answers, as far as an answer depends on its version.
//!
//! Two things a proxy cannot do right without knowing: whether `limit` truncates the answer, and whether `label_replace`
//! compares the series it makes over the whole range. The server says its version in `status/buildinfo`; it is asked when
//! a query needs it, and the answer is remembered. What is not known is treated as the worse case, never guessed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::{HeaderMap, Method, StatusCode};
use moka::sync::Cache;
use serde::Deserialize;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::fetch::{Downstream, PartRequest};
use crate::model::params::Encoded;
use crate::model::tenant::TenantId;
use crate::request::Context;
use crate::sched::dispatch::Standing;
use crate::sched::dispatch::estimate::Estimate;

/// A known version is asked for again after this: servers are upgraded.
const REMEMBERED: Duration = Duration::from_mins(5);
/// One that could not be had, after this.
const TRIED_AGAIN: Duration = Duration::from_secs(10);
/// No query waits longer than this to know it.
const PATIENCE: Duration = Duration::from_secs(2);
/// At most so many servers are remembered.
const MOST_REMEMBERED: u64 = 1000;

/// A version of Prometheus's engine, if the server told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    version: Option<(u32, u32)>,
}

impl Engine {
    /// Reads a `buildinfo` body. Only Prometheus's own version tells what its engine does: other products have versions of
    /// their own, all below 2 or under a name.
    fn read(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct BuildInfo {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            version: String,
            application: Option<String>,
        }
        let version = serde_json::from_slice::<BuildInfo>(body)
            .ok()
            .filter(|info| info.data.application.is_none())
            .and_then(|info| {
                let mut numbers =
                    info.data.version.trim_start_matches('v').split(['.', '-', '+']).map(|number| number.parse().ok());
                Some((numbers.next()??, numbers.next()??))
            });
        Self { version: version.filter(|version| *version >= (2, 0)) }
    }

    /// Whether `limit` truncates a range answer (since 3.2); `None` if that is not known.
    pub fn honours_limit(self) -> Option<bool> {
        self.version.map(|version| version >= (3, 2))
    }

    /// Whether series that `label_replace` makes equal are an error only if they meet at an instant. From 2.51 to 3.8 they
    /// are one wherever in the range they lie, which no part of the range can tell.
    pub fn keeps_rewritten_series_apart_by_instant(self) -> bool {
        self.version.is_some_and(|version| !((2, 51)..=(3, 8)).contains(&version))
    }
}

/// VictoriaMetrics says its host's name with each answer; Prometheus and its kin have no such header.
const OF_VICTORIAMETRICS: HeaderName = HeaderName::from_static("x-server-hostname");

/// Whether an answer comes from VictoriaMetrics.
pub fn is_victoriametrics(headers: &HeaderMap) -> bool {
    headers.contains_key(OF_VICTORIAMETRICS)
}

/// Asks for the engine when it is needed, and remembers it.
#[derive(Debug)]
pub struct EngineProbe {
    known: Cache<EngineKey, (Engine, Instant)>,
    /// Those whose answers can't be cut.
    foreign: Cache<EngineKey, ()>,
}

/// A path prefix may lead to one server and a tenant's header to another: a hash of what was asked how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EngineKey(u128);

impl EngineKey {
    /// Of a range query's path, asked for a tenant, with the headers by which a server is chosen, or chooses.
    pub fn new<'h>(tenant: &TenantId, path: &str, headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut hash = Xxh3Default::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(tenant.as_str().as_bytes());
        part(path.as_bytes());
        for (name, value) in headers {
            part(name.as_bytes());
            part(value);
        }
        Self(hash.digest128())
    }
}

impl Default for EngineProbe {
    fn default() -> Self {
        Self {
            known: Cache::new(MOST_REMEMBERED),
            foreign: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(REMEMBERED).build(),
        }
    }
}

impl EngineProbe {
    /// Whether it was seen of late that the answers can't be cut.
    pub fn is_foreign(&self, key: impl FnOnce() -> EngineKey) -> bool {
        // Before most servers there is none.
        self.foreign.entry_count() > 0 && self.foreign.contains_key(&key())
    }

    /// Remembers that the answers can't be cut.
    pub fn remember_foreign(&self, key: EngineKey) {
        self.foreign.insert(key, ());
        self.foreign.run_pending_tasks();
    }

    /// The engine that answers a range query, asked with that query's headers; an unknown one if it does not tell soon.
    pub async fn known(
        &self,
        downstream: &Downstream,
        (key, path): (EngineKey, &str),
        headers: &Arc<HeaderMap>,
        context: &Context,
    ) -> Engine {
        if let Some((engine, until)) = self.known.get(&key)
            && Instant::now() < until
        {
            return engine;
        }
        let Some(prefix) = path.strip_suffix("/query_range") else { return Engine::default() };
        let request = PartRequest {
            method: Method::GET,
            path: format!("{prefix}/status/buildinfo"),
            params: Encoded { url_query: String::new(), body: None },
            headers: Arc::clone(headers),
            deadline: Instant::now() + PATIENCE,
            standing: Standing::new(context, Estimate::of_metadata(), xxh3_64(path.as_bytes())),
        };
        let answer = downstream.fetch(request).await.ok().filter(|answer| answer.status == StatusCode::OK);
        let engine = answer.map_or_else(Engine::default, |answer| Engine::read(&answer.body));
        let lasts = if engine.version.is_some() { REMEMBERED } else { TRIED_AGAIN };
        self.known.insert(key, (engine, Instant::now() + lasts));
        engine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prometheus_own_version_counts() {
        let read = |version: &str| {
            Engine::read(
                format!(r#"{{"status":"success","data":{{"version":"{version}","revision":"x"}}}}"#).as_bytes(),
            )
        };
        for (version, honours_limit, keeps_apart) in [
            ("2.42.0+ds", Some(false), true),
            ("2.50.1", Some(false), true),
            ("2.51.0", Some(false), false),
            ("3.1.0", Some(false), false),
            ("3.2.0-rc.1", Some(true), false),
            ("3.8.1", Some(true), false),
            ("3.9.0", Some(true), true),
            ("v3.14.0", Some(true), true),
            ("0.41.0", None, false),
            ("1.21.0", None, false),
            ("", None, false),
            ("latest", None, false),
        ] {
            let engine = read(version);
            assert_eq!(
                (engine.honours_limit(), engine.keeps_rewritten_series_apart_by_instant()),
                (honours_limit, keeps_apart),
                "{version}"
            );
        }
        let mimir = br#"{"status":"success","data":{"application":"Grafana Mimir","version":"2.14.0"}}"#;
        assert_eq!(Engine::read(mimir), Engine::default());
        assert_eq!(Engine::read(b"404 page not found"), Engine::default());
    }
}
