//! What one configuration makes: everything between the door and the queue, put together.
//!
//! A request takes one service and keeps it until it is answered, so it meets one configuration. A reload builds the next service
//! and takes over what the change leaves as it was: servers with their connections and their queue, and what is held.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::layer::ExtentCache;
use crate::cache::shared::SharedTier;
use crate::cache::store;
use crate::cache::whole::WholeAnswers;
use crate::config::{self, Config};
use crate::downstream::fetch::Downstream;
use crate::downstream::pool::Pool;
use crate::limits::Policy;
use crate::metrics::Metrics;
use crate::model::time::Timestamp;
use crate::pipeline::Pipeline;
use crate::sched::dispatch::Dispatcher;
use crate::whole::Wholes;
use crate::wire::caller::Tenancy;

/// The stages of both journeys, and what they share.
#[derive(Debug)]
pub struct Service {
    /// What it was made from.
    pub config: Config,
    /// The stages of range queries.
    pub pipeline: Pipeline,
    /// The stages of all other questions.
    pub wholes: Wholes,
    /// Whoever is asked.
    pub downstream: Arc<Downstream>,
    /// Extents.
    pub cache: Arc<ExtentCache>,
    /// Answers that are kept whole.
    pub answers: Arc<WholeAnswers>,
    /// What requests are judged by.
    pub policy: Arc<Policy>,
    /// How a request says whose it is, if there are tenants.
    pub tenancy: Option<Tenancy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    pool: Option<Arc<Pool>>,
}

impl Service {
    /// Builds everything from a checked configuration, inside of a tokio runtime. Nothing is waited for, and nobody asks the servers
    /// yet. `before`: what is in force.
    pub fn build(config: Config, metrics: &Arc<Metrics>, before: Option<&Self>) -> Result<Self, String> {
        let tenancy = Tenancy::of(&config.multitenancy)?;
        let (dispatcher, pool) = servers(&config, metrics, before)?;
        let policy = Arc::new(Policy::of(&config)?);
        let judged = Arc::clone(&policy);
        let downstream = Arc::new(Downstream::new(dispatcher, pool.clone(), judged, Arc::clone(metrics)));
        let cache = Arc::new(cache(&config, metrics, before)?);
        let kept = before.filter(|before| {
            before.config.cache.whole == config.cache.whole && Arc::ptr_eq(before.cache.purger(), cache.purger())
        });
        let answers = kept.map_or_else(
            || Arc::new(WholeAnswers::new(&config.cache.whole, cache.purger(), metrics)),
            |before| Arc::clone(&before.answers),
        );
        let (asked, held) = (Arc::clone(&downstream), Arc::clone(&cache));
        let pipeline = Pipeline::new(&config, Arc::clone(&policy), asked, held, Arc::clone(metrics))?;
        let (asked, held) = (Arc::clone(&downstream), Arc::clone(&answers));
        let wholes = Wholes::new(&config, Arc::clone(&policy), asked, held, Arc::clone(metrics))?;
        let metrics = Arc::clone(metrics);
        Ok(Self { config, pipeline, wholes, downstream, cache, answers, policy, tenancy, metrics, pool })
    }

    /// Puts it in force, in the place of what was before.
    pub fn start(&self, before: Option<&Self>) {
        if let Some(before) = before
            && Arc::ptr_eq(self.downstream.dispatcher(), before.downstream.dispatcher())
        {
            self.downstream.dispatcher().reconfigure(&self.config);
            let is_replaced = |pool: &&Arc<Pool>| self.pool.as_ref().is_none_or(|now| !Arc::ptr_eq(now, pool));
            if let Some(pool) = before.pool.as_ref().filter(is_replaced) {
                pool.stop();
            }
        }
        if let Some(pool) = &self.pool {
            pool.start();
        }
    }

    /// How long a question may take when the client does not say.
    pub fn timeout(&self) -> Duration {
        self.config.downstream.timeout
    }
}

/// A queue, and the servers of our own behind it, if there are any. Other servers have a queue of their own, so that what waits for
/// the old ones is answered by them; unless remote queriers pull from it, who have the same data as any server that stands there.
fn servers(
    config: &Config,
    metrics: &Arc<Metrics>,
    before: Option<&Service>,
) -> Result<(Arc<Dispatcher>, Option<Arc<Pool>>), String> {
    let is_same = |before: &&Service| {
        let was = config::Downstream {
            // Who asks reads these, not who answers.
            timeout: config.downstream.timeout,
            allow_writes: config.downstream.allow_writes,
            ..before.config.downstream.clone()
        };
        was == config.downstream
            && before.config.discovery == config.discovery
            && before.config.multitenancy == config.multitenancy
    };
    if let Some(before) = before.filter(is_same) {
        return Ok((Arc::clone(before.downstream.dispatcher()), before.pool.clone()));
    }
    let kept = before.filter(|before| before.config.downstream.mode.has_queriers());
    let dispatcher = kept.map_or_else(
        || Dispatcher::new(config, Arc::clone(metrics)),
        |before| Arc::clone(before.downstream.dispatcher()),
    );
    let pool = Pool::open(config, &dispatcher)?;
    Ok((dispatcher, pool))
}

fn cache(config: &Config, metrics: &Arc<Metrics>, before: Option<&Service>) -> Result<ExtentCache, String> {
    let is_same = |before: &&Service| {
        ExtentCache::keeps_tiers(&before.config.cache, &config.cache)
            // Names are resolved for the shared tier alone.
            && (config.cache.remote.is_none() || before.config.discovery == config.discovery)
            && before.config.namespace() == config.namespace()
            && before.config.multitenancy == config.multitenancy
            && asks_alike(&before.config.downstream, &config.downstream)
    };
    if let Some(before) = before.filter(is_same) {
        return Ok(before.cache.with_options(&config.cache));
    }
    let cache = ExtentCache::new(&config.cache, shared_tier(config)?, Arc::clone(metrics));
    if let Some(before) = before {
        cache.purger().learn_from(before.cache.purger(), Timestamp::now());
    }
    Ok(cache)
}

/// Whether servers take two configurations for one client: others may be shown other data.
fn asks_alike(one: &config::Downstream, other: &config::Downstream) -> bool {
    one.basic_auth == other.basic_auth
        && one.bearer_token_file == other.bearer_token_file
        && one.forward_headers == other.forward_headers
}

/// The shared tier, if one is configured.
fn shared_tier(config: &Config) -> Result<Option<SharedTier>, String> {
    let Some(remote) = &config.cache.remote else { return Ok(None) };
    let opened = store::open(remote, &config.discovery)?;
    let namespace = config.namespace();
    Ok(opened.map(|(store, timeout)| SharedTier::new(store, timeout, remote.max_queued_bytes, namespace)))
}
