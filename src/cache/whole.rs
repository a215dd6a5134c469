//! Answers that are kept whole, in this process: weighed in bytes, each with an age and a term of its own.
//!
//! An entry repeats the identity that it was written for, so a collision is a miss. What was purged does not hold, on whichever
//! replica the purge was asked for.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::key::Identity;
use super::purge::{Rule, Rules};
use super::purger::Purger;
use super::terms::Term;
use crate::config;
use crate::metrics::Metrics;
use crate::model::time::{Timestamp, millis};
use crate::model::whole::WholeAnswer;

/// The unit of weight: a weight is a `u32`.
const UNIT: usize = 1024;
/// What an entry costs besides its answer and its identity.
const OVERHEAD: usize = 256;

#[derive(Debug)]
struct Entry {
    identity: Arc<[u8]>,
    answer: Arc<WholeAnswer>,
    fetched_at: Timestamp,
    term: Term,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.answer.weight() + self.identity.len() + OVERHEAD
    }

    fn is_purged(&self, rules: &Rules) -> bool {
        rules.is_purged(&self.identity, (self.term.from, self.term.to), self.fetched_at)
    }
}

/// The answers.
#[derive(Debug)]
pub struct WholeAnswers {
    entries: Cache<u128, Arc<Entry>>,
    purger: Arc<Purger>,
    metrics: Arc<Metrics>,
}

impl WholeAnswers {
    /// None is held yet.
    pub fn new(options: &config::Whole, purger: &Arc<Purger>, metrics: &Arc<Metrics>) -> Self {
        let longest = options.instant_ttl.max(options.labels_ttl).clamp(Duration::from_secs(1), MOST_TTL);
        let entries = Cache::builder()
            .max_capacity(options.max_bytes / UNIT as u64)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes().div_ceil(UNIT)).unwrap_or(u32::MAX))
            .time_to_live(longest)
            .build();
        Self { entries, purger: Arc::clone(purger), metrics: Arc::clone(metrics) }
    }

    /// The answer to a question, if one is held at `now`.
    pub fn get(&self, identity: &Identity, now: Timestamp) -> Option<Arc<WholeAnswer>> {
        let entry = self.entries.get(&identity.hash()).filter(|entry| entry.identity == *identity.bytes())?;
        let age_ms = now.ms().saturating_sub(entry.fetched_at.ms());
        let is_alive = (0..millis(entry.term.ttl)).contains(&age_ms);
        (is_alive && !entry.is_purged(&self.purger.rules())).then(|| Arc::clone(&entry.answer))
    }

    /// Keeps an answer that was fetched at `now`.
    pub fn put(&self, identity: &Identity, answer: &Arc<WholeAnswer>, term: Term, now: Timestamp) {
        let (answer, identity_bytes) = (Arc::clone(answer), Arc::clone(identity.bytes()));
        let entry = Entry { identity: identity_bytes, answer, fetched_at: now, term };
        self.entries.insert(identity.hash(), Arc::new(entry));
    }

    /// How many answers a purge is about, and what they weigh.
    pub fn preview(&self, rule: &Rule, now: Timestamp) -> (usize, usize) {
        let rules = Rules::default().with(std::slice::from_ref(rule), now, MOST_TTL);
        let purged = self.entries.iter().filter(|(_, entry)| entry.is_purged(&rules));
        purged.fold((0, 0), |(count, bytes), (_, entry)| (count + 1, bytes + entry.bytes()))
    }

    /// Shows how much is held in the metrics.
    pub fn report(&self) {
        self.entries.run_pending_tasks();
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.whole.entries.set(gauge(self.entries.entry_count()));
        self.metrics.whole.bytes.set(gauge(self.entries.weighted_size() * UNIT as u64));
    }
}

/// Nothing is kept longer.
const MOST_TTL: Duration = Duration::from_hours(365 * 24);
