//! What one configuration makes: everything between the door and the queue, put together.
//!
//! A request takes one service and keeps it until it is answered, so it meets one configuration. A reload builds the next service
//! and takes over what the change leaves as it was: servers with their connections, and what is held. The queue is older than
//! any service and outlives them all.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::cache::layer::ExtentCache;
use crate::cache::shared::SharedTier;
use crate::cache::store;
use crate::cache::whole::WholeAnswers;
use crate::config::Config;
use crate::downstream::endpoints::Endpoints;
use crate::downstream::fetch::Downstream;
use crate::downstream::workers::Workers;
use crate::limits::Policy;
use crate::metrics::Metrics;
use crate::model::time::Timestamp;
use crate::pipeline::Pipeline;
use crate::sched::dispatch::Dispatcher;
use crate::sched::queue::words::QuerierId;
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
    servers: Option<Servers>,
}

/// Servers of our own, and the slots that ask them.
#[derive(Clone, Debug)]
struct Servers {
    endpoints: Arc<Endpoints>,
    /// Held for as long as they are to pull, whoever still keeps a service of theirs.
    workers: Arc<Mutex<Option<Workers>>>,
}

impl Servers {
    /// Puts slots to work, unless they were taken over and are at it.
    fn start(&self, dispatcher: &Arc<Dispatcher>, max_concurrent: usize) {
        let start = || Workers::start(Arc::clone(&self.endpoints), Arc::clone(dispatcher), max_concurrent);
        self.workers.lock().get_or_insert_with(start);
    }
}

/// What outlives every configuration.
#[derive(Clone, Debug)]
pub struct Foundation {
    /// Where requests wait.
    pub dispatcher: Arc<Dispatcher>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Service {
    /// Builds everything from a checked configuration, inside of a tokio runtime. Nothing is waited for. `before`: what ran until
    /// now.
    pub fn build(config: Config, on: &Foundation, before: Option<&Self>) -> Result<Self, String> {
        let Foundation { dispatcher, metrics } = on;
        let tenancy = Tenancy::of(&config.multitenancy)?;
        let servers = servers(&config, before)?;
        let endpoints = servers.as_ref().map(|servers| Arc::clone(&servers.endpoints));
        let policy = Arc::new(Policy::of(&config)?);
        let judged = Arc::clone(&policy);
        let downstream = Arc::new(Downstream::new(Arc::clone(dispatcher), endpoints, judged, Arc::clone(metrics)));
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
        // Nothing can fail any more: a server of a configuration that is refused is given nothing.
        if let Some(servers) = &servers {
            servers.start(dispatcher, config.downstream.max_concurrent);
        }
        let metrics = Arc::clone(metrics);
        Ok(Self { config, pipeline, wholes, downstream, cache, answers, policy, tenancy, metrics, servers })
    }

    /// Another service takes over: servers that it has not taken along are given nothing more. What they have they finish, for
    /// requests that keep this service until they are answered.
    pub fn retire(&self, next: &Self, on: &Foundation) {
        let Some(old) = &self.servers else { return };
        let new = next.servers.as_ref();
        if new.is_some_and(|new| Arc::ptr_eq(&new.workers, &old.workers)) {
            return;
        }
        drop(old.workers.lock().take());
        // The slots notice that later. One of a server that stays is of the same name as the new ones, and can't be sent away alone.
        let names = |servers: &Servers| -> Vec<QuerierId> {
            servers.endpoints.changed().borrow().iter().map(|endpoint| QuerierId::named(endpoint.name())).collect()
        };
        let stays = new.map(names).unwrap_or_default();
        for name in names(old).iter().filter(|name| !stays.contains(name)) {
            on.dispatcher.leaving(name);
        }
    }

    /// How long a question may take when the client does not say.
    pub fn timeout(&self) -> Duration {
        self.config.downstream.timeout
    }
}

/// Servers of our own, if there are any.
fn servers(config: &Config, before: Option<&Service>) -> Result<Option<Servers>, String> {
    if !config.downstream.mode.has_workers() {
        return Ok(None);
    }
    let is_same = |before: &&Service| {
        before.config.downstream == config.downstream
            && before.config.discovery == config.discovery
            && before.config.multitenancy == config.multitenancy
    };
    if let Some(servers) = before.filter(is_same).and_then(|before| before.servers.clone()) {
        return Ok(Some(servers));
    }
    let mut options = config.downstream.clone();
    if config.multitenancy.enabled {
        // What the answer depends on is passed on, whichever headers are named.
        options.forward_headers.push(config.multitenancy.header.clone());
    }
    let endpoints = Arc::new(Endpoints::open(&options, &config.discovery)?);
    Ok(Some(Servers { endpoints, workers: Arc::default() }))
}

fn cache(config: &Config, metrics: &Arc<Metrics>, before: Option<&Service>) -> Result<ExtentCache, String> {
    let is_same = |before: &&Service| {
        ExtentCache::keeps_tiers(&before.config.cache, &config.cache)
            // Names are resolved for the shared tier alone.
            && (config.cache.remote.is_none() || before.config.discovery == config.discovery)
            && before.config.namespace() == config.namespace()
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

/// The shared tier, if one is configured.
fn shared_tier(config: &Config) -> Result<Option<SharedTier>, String> {
    let Some(remote) = &config.cache.remote else { return Ok(None) };
    let opened = store::open(remote, &config.discovery)?;
    let namespace = config.namespace();
    Ok(opened.map(|(store, timeout)| SharedTier::new(store, timeout, remote.max_queued_bytes, namespace)))
}
