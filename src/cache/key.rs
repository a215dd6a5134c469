//! What an extent is kept under.
//!
//! The identity of a query is everything that can change its answer at an instant: the data that is asked, tenant,
//! path, text (pinned), step, phase, whether it is one instant, the slot width, every parameter that promfront does not
//! know to be neutral, and the headers by which servers choose an answer. Parts are length-prefixed, so no two
//! different lists make the same bytes (invariant *tenancy*). Entries are found by a 128-bit hash of those bytes and
//! repeat them, so that a collision is a miss and never a wrong answer.

use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::Config;
use crate::model::grid::StepGrid;
use crate::model::params::{Pair, Params};
use crate::model::tenant::TenantId;
use crate::request::RangeQuery;

/// Part of every key: entries written in another form are never found.
const FORMAT_VERSION: u8 = 2;

/// The same, for answers that are kept whole: no identity of theirs is one of a range query.
const WHOLE_VERSION: u8 = 129;

/// Parameters that are answered here or stand in the key in another form, or that cannot change a successful answer.
const NOT_IN_KEY: [&str; 6] = ["query", "start", "end", "step", "limit", "timeout"];

/// A slot holds at least this many instants, so that a coarse step does not make an entry for each point.
const FEWEST_INSTANTS: i64 = 128;

/// All that decides an answer except the instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    bytes: Arc<[u8]>,
    hash: u128,
}

impl Identity {
    /// The identity of a query that a tenant asks under a path, of the data that `namespace` names. `text` is the
    /// query's text, pinned; `headers` are those of the client's that can change an answer.
    pub fn new(
        (namespace, tenant, path): (&str, &TenantId, &str),
        query: &RangeQuery,
        text: &str,
        slots: Slots,
        headers: &[(&str, &[u8])],
    ) -> Self {
        let grid = &query.grid;
        let mut list = List::of(FORMAT_VERSION);
        list.texts([namespace, tenant.as_str(), path, text]);
        let kind = i64::from(query.is_one_instant());
        for number in [grid.step().ms(), grid.phase_ms(), slots.width_ms, kind] {
            list.part(&number.to_le_bytes());
        }
        list.headers(headers);
        list.params(&query.params, &NOT_IN_KEY);
        list.identity()
    }

    /// The identity of a question whose answer is kept whole: it has every parameter but `timeout`.
    pub fn of_whole(
        (namespace, tenant, path): (&str, &TenantId, &str),
        params: &Params,
        headers: &[(&str, &[u8])],
    ) -> Self {
        let mut list = List::of(WHOLE_VERSION);
        list.texts([namespace, tenant.as_str(), path, params.get("query")]);
        list.headers(headers);
        list.params(params, &["timeout"]);
        list.identity()
    }

    /// An identity whose hash is that of every other one made so.
    #[cfg(test)]
    pub fn colliding(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), hash: 7 }
    }

    /// The key of one slot of this query.
    pub fn slot(&self, index: i64) -> SlotKey {
        SlotKey { hash: self.hash, index }
    }

    /// The whole identity, as it is repeated in each entry.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// What it is found by.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// Where the entries of this query lie in a shared tier.
    pub fn place(&self) -> u128 {
        self.hash
    }

    /// The tenant and the text that an identity's bytes speak of.
    pub fn tenant_and_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let part = |bytes: &'_ [u8]| -> Option<(std::ops::Range<usize>, usize)> {
            let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
            let end = length.checked_add(8).filter(|&end| end <= bytes.len())?;
            Some((8..end, end))
        };
        let mut rest = bytes.get(1..)?;
        let mut parts = [&[][..]; 4];
        for found in &mut parts {
            let (range, end) = part(rest)?;
            *found = &rest[range];
            rest = &rest[end..];
        }
        let [_namespace, tenant, _path, text] = parts;
        Some((tenant, text))
    }
}

/// Headers by which the servers we know choose an answer: by who calls, and by the form that he accepts.
const KEY_HEADERS: [&str; 10] = [
    "accept",
    "accountid",
    "authorization",
    "cookie",
    "projectid",
    "thanos-tenant",
    "x-grafana-id",
    "x-grafana-user",
    "x-id-token",
    "x-scope-orgid",
];

/// The request headers that are part of every identity.
#[derive(Clone, Debug)]
pub struct KeyHeaders(Vec<HeaderName>);

impl KeyHeaders {
    /// The built-in ones and those that are configured. Whose the request is stands in every identity already, in one form
    /// however the client writes it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let tenancy = &config.multitenancy;
        let is_tenant = |name: &&str| tenancy.enabled && name.eq_ignore_ascii_case(&tenancy.header);
        let names = KEY_HEADERS.into_iter().chain(config.cache.key_headers.iter().map(String::as_str));
        let names = names.filter(|name| !is_tenant(name));
        let not_a_name = |name| format!("cache.key_headers: {name:?} is not the name of a header");
        let names = names.map(|name| HeaderName::from_bytes(name.as_bytes()).map_err(|_| not_a_name(name)));
        names.collect::<Result<_, _>>().map(Self)
    }

    /// What a request says in them.
    pub fn of<'h>(&'h self, headers: &'h HeaderMap) -> impl Iterator<Item = (&'h str, &'h [u8])> {
        let values = |name: &'h HeaderName| headers.get_all(name).into_iter().map(move |value| (name, value));
        self.0.iter().flat_map(values).map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

/// Parts one after the other, each with its length before it.
struct List(Vec<u8>);

impl List {
    fn of(version: u8) -> Self {
        Self(vec![version])
    }

    fn part(&mut self, text: &[u8]) {
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text);
    }

    fn texts(&mut self, texts: [&str; 4]) {
        for text in texts {
            self.part(text.as_bytes());
        }
    }

    fn headers(&mut self, headers: &[(&str, &[u8])]) {
        self.part(&(headers.len() as u64).to_le_bytes());
        for (name, value) in headers {
            self.part(name.as_bytes());
            self.part(value);
        }
    }

    /// Values of one name keep their order, for it can matter; the order of names cannot, nor that of selectors.
    fn params(&mut self, params: &Params, without: &[&str]) {
        let mut pairs: Vec<_> = params.pairs().iter().filter(|pair| !without.contains(&pair.name.as_str())).collect();
        let selector = |pair: &Pair| if pair.name == "match[]" { pair.value.clone() } else { String::new() };
        pairs.sort_by_cached_key(|pair| (pair.name.clone(), selector(pair)));
        for pair in pairs {
            self.part(pair.name.as_bytes());
            self.part(pair.value.as_bytes());
        }
    }

    fn identity(self) -> Identity {
        Identity { hash: xxh3_128(&self.0), bytes: self.0.into() }
    }
}

/// Where an entry lies. Not proof of what is in it: the entry's own identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotKey {
    /// Of the query's identity.
    pub hash: u128,
    /// Which slot of the time line.
    pub index: i64,
}

/// The fixed slots of the time line that entries are kept in: a function of step and split interval alone, so that every
/// query with the same identity finds the same ones, however it was cut for dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    width_ms: i64,
}

impl Slots {
    /// The slots for queries of `grid`'s step: the split interval, or as many of it as hold enough instants.
    pub fn new(grid: &StepGrid, interval_ms: i64) -> Self {
        let wanted = grid.step().ms().saturating_mul(FEWEST_INSTANTS);
        let intervals = wanted.saturating_sub(1) / interval_ms + 1;
        Self { width_ms: interval_ms.saturating_mul(intervals) }
    }

    /// How long a slot is.
    pub fn width_ms(self) -> i64 {
        self.width_ms
    }

    /// The slots that `grid` touches, each with the instants that lie in it.
    pub fn of(self, grid: &StepGrid) -> Vec<(i64, StepGrid)> {
        let indexed = |part: StepGrid| (part.start().ms().div_euclid(self.width_ms), part);
        grid.cut(self.width_ms).into_iter().map(indexed).collect()
    }
}
