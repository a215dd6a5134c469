//! What an extent is kept under.
//!
//! The identity of a query is everything that can change its answer at an instant: the data that is asked, tenant,
//! path, text (pinned), step, phase, whether it is one instant, the slot width, every parameter that promfront does not
//! know to be neutral, and the headers by which servers choose an answer. Parts are length-prefixed, so no two
//! different lists make the same bytes (invariant *tenancy*). Entries are found by a 128-bit hash of those bytes and
//! repeat them, so that a collision is a miss and never a wrong answer.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::model::grid::StepGrid;
use crate::model::tenant::TenantId;
use crate::request::RangeQuery;

/// Part of every key: entries written in another form are never found.
const FORMAT_VERSION: u8 = 2;

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
        let mut bytes = vec![FORMAT_VERSION];
        let mut part = |text: &[u8]| {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text);
        };
        part(namespace.as_bytes());
        part(tenant.as_str().as_bytes());
        part(path.as_bytes());
        part(text.as_bytes());
        let kind = i64::from(query.is_one_instant());
        for number in [grid.step().ms(), grid.phase_ms(), slots.width_ms, kind] {
            part(&number.to_le_bytes());
        }
        part(&(headers.len() as u64).to_le_bytes());
        for (name, value) in headers {
            part(name.as_bytes());
            part(value);
        }
        // Values of one name keep their order, for it can matter; the order of names cannot.
        let mut params: Vec<_> =
            query.params.pairs().iter().filter(|p| !NOT_IN_KEY.contains(&p.name.as_str())).collect();
        params.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in params {
            part(pair.name.as_bytes());
            part(pair.value.as_bytes());
        }
        let hash = xxh3_128(&bytes);
        Self { bytes: bytes.into(), hash }
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
