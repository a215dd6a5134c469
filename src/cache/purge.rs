//! What was purged: rules that outlive the extents that they are about.
//!
//! Not every server can list what it holds, and other replicas hold extents of their own. So a purge is not a deletion but a
//! rule: extents of this tenant and this query that touch this range of time, and were fetched before now, do not hold. The
//! rule is kept with the shared entries, where every replica finds it, for as long as an extent could live that it is about.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::extent::{Extent, Slot};
use super::key::Identity;
use crate::model::time::Timestamp;

/// So many rules are remembered; a purge of everything replaces all that are older.
const MOST_RULES: usize = 256;
/// A query of a rule is not longer than this.
const MOST_QUERY_BYTES: usize = 2048;
/// After a purge was accepted, replicas may still hand out what was fetched before it for this long: until they have seen it.
pub const EFFECTIVE_WITHIN: Duration = Duration::from_secs(15);

/// One purge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What was fetched at this time (milliseconds since the epoch) or before does not hold.
    at_ms: i64,
    /// Of this tenant only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tenant: Option<String>,
    /// Of this query only: its text, to the letter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    query: Option<String>,
    /// What has an instant at or after this.
    start_ms: i64,
    /// What has an instant at or before this.
    end_ms: i64,
}

/// Why a purge is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The query is too long.
    #[error("the query is {0} bytes long and {MOST_QUERY_BYTES} are the most; purge by tenant and time range instead")]
    QueryTooLong(usize),
    /// The range of time is empty.
    #[error("end lies before start")]
    EmptyRange,
    /// Too many are remembered.
    #[error(
        "{MOST_RULES} purges are remembered already, each until cache.ttl has passed; purge everything (all=true) instead"
    )]
    TooMany,
}

impl Rule {
    /// A purge of what was fetched up to now, and for as long as other replicas may not know of it.
    pub fn new(
        tenant: Option<String>,
        query: Option<String>,
        range: (Option<Timestamp>, Option<Timestamp>),
        now: Timestamp,
    ) -> Result<Self, PurgeError> {
        if let Some(query) = query.as_ref().filter(|query| query.len() > MOST_QUERY_BYTES) {
            return Err(PurgeError::QueryTooLong(query.len()));
        }
        let start_ms = range.0.map_or(i64::MIN, Timestamp::ms);
        let end_ms = range.1.map_or(i64::MAX, Timestamp::ms);
        if end_ms < start_ms {
            return Err(PurgeError::EmptyRange);
        }
        let at_ms = now.ms().saturating_add(i64::try_from(EFFECTIVE_WITHIN.as_millis()).unwrap_or(0));
        Ok(Self { at_ms, tenant, query, start_ms, end_ms })
    }

    fn everything(at_ms: i64) -> Self {
        Self { at_ms, tenant: None, query: None, start_ms: i64::MIN, end_ms: i64::MAX }
    }

    fn is_about(&self, tenant: &[u8], query: &[u8]) -> bool {
        // What is of several tenants is of each of them.
        let is_of = |of: &String| {
            of.as_bytes() == tenant || tenant.split(|byte| *byte == b'|').any(|part| part == of.as_bytes())
        };
        self.tenant.as_ref().is_none_or(is_of) && self.query.as_ref().is_none_or(|of| of.as_bytes() == query)
    }

    fn is_about_extent(&self, extent: &Extent) -> bool {
        let grid = &extent.answer.grid;
        extent.fetched_at.ms() <= self.at_ms && grid.start().ms() <= self.end_ms && grid.last().ms() >= self.start_ms
    }

    fn is_everything(&self) -> bool {
        self.tenant.is_none() && self.query.is_none() && self.start_ms == i64::MIN && self.end_ms == i64::MAX
    }
}

/// The rules that still matter, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Arc<[Rule]>);

impl Rules {
    /// These and others, without those that nothing can be left of at `now`, if extents live for `ttl`.
    #[must_use]
    pub fn with(&self, others: &[Rule], now: Timestamp, ttl: Duration) -> Self {
        let mut rules: Vec<Rule> = self.0.iter().chain(others).cloned().collect();
        rules.sort();
        rules.dedup();
        let everything = rules.iter().rev().find(|rule| rule.is_everything()).map_or(i64::MIN, |rule| rule.at_ms);
        let horizon = now.before(ttl).ms();
        let is_said_by_it =
            |rule: &Rule| rule.at_ms < everything || (rule.at_ms == everything && !rule.is_everything());
        rules.retain(|rule| rule.at_ms >= horizon && !is_said_by_it(rule));
        let too_many = rules.len().saturating_sub(MOST_RULES);
        if too_many > 0 {
            // To purge more than was asked for costs a fetch; to forget a purge would be wrong.
            let last_ms = rules.drain(..=too_many).fold(i64::MIN, |_, rule| rule.at_ms);
            rules.insert(0, Rule::everything(last_ms));
        }
        Self(rules.into())
    }

    /// These and one more, if there is room.
    pub fn accept(&self, rule: &Rule, now: Timestamp, ttl: Duration) -> Result<Self, PurgeError> {
        let with = self.with(std::slice::from_ref(rule), now, ttl);
        let is_full = self.with(&[], now, ttl).0.len() >= MOST_RULES && with.0.len() >= MOST_RULES;
        if is_full { Err(PurgeError::TooMany) } else { Ok(with) }
    }

    /// All of them.
    pub fn all(&self) -> &[Rule] {
        &self.0
    }

    /// What a purge leaves of a slot of the query with this identity; none if it takes nothing.
    pub fn purge(&self, identity: &[u8], slot: &Slot) -> Option<Slot> {
        if self.0.is_empty() || slot.extents().is_empty() {
            return None;
        }
        let (tenant, query) = Identity::tenant_and_text(identity)?;
        let about: Vec<&Rule> = self.0.iter().filter(|rule| rule.is_about(tenant, query)).collect();
        let is_gone = |extent: &Extent| about.iter().any(|rule| rule.is_about_extent(extent));
        slot.extents().iter().any(is_gone).then(|| slot.without(is_gone))
    }

    /// Whether an answer that is kept whole was purged: it speaks of the time from `from` to `to`.
    pub fn is_purged(&self, identity: &[u8], (from, to): (Timestamp, Timestamp), fetched_at: Timestamp) -> bool {
        let Some((tenant, query)) = Identity::tenant_and_text(identity) else { return false };
        self.0.iter().any(|rule| {
            fetched_at.ms() <= rule.at_ms
                && from.ms() <= rule.end_ms
                && to.ms() >= rule.start_ms
                && rule.is_about(tenant, query)
        })
    }

    /// As they are kept with the shared entries: a checksum, and the rules.
    pub fn encode(&self) -> Vec<u8> {
        let rules = serde_json::to_vec(&*self.0).expect("rules are plain values");
        [&xxh3_64(&rules).to_le_bytes()[..], &rules].concat()
    }

    /// Reads what [`encode`](Self::encode) wrote; none if it is anything else.
    pub fn decode(bytes: &[u8]) -> Option<Vec<Rule>> {
        let (checksum, rules) = bytes.split_first_chunk()?;
        if xxh3_64(rules) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let mut rules: Vec<Rule> = serde_json::from_slice(rules).ok()?;
        rules.truncate(MOST_RULES);
        Some(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_several_tenants_goes_with_each_of_them() {
        let goes = |purged: &str, kept: &str| {
            let rule = Rule::new(Some(purged.to_owned()), None, (None, None), Timestamp::from_ms(0)).expect("sound");
            rule.is_about(kept.as_bytes(), b"up")
        };
        for (purged, kept, want) in [
            ("a", "a", true),
            ("a", "a|b", true),
            ("b", "a|b", true),
            ("a|b", "a|b", true),
            ("a|b", "a", false),
            ("a", "aa|b", false),
        ] {
            assert_eq!(goes(purged, kept), want, "a purge of {purged}, what is of {kept}");
        }
    }
}
