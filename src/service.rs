//! What one configuration makes: everything between the door and the queue, put together.
//!
//! A request takes one service and keeps it until it is answered, so it meets one configuration. A reload builds the next service
//! and takes over what the change leaves as it was: servers with their connections, and what is held. The queue is older than
//! any service and outlives them all.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use crate::cache::layer::ExtentCache;
use crate::cache::shared::SharedTier;
use crate::cache::store;
use crate::cache::whole::WholeAnswers;
use crate::config::Config;
use crate::downstream::endpoints::Endpoints;
use crate::downstream::fetch::Downstream;
use crate::downstream::workers::Workers;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::sched::dispatch::Dispatcher;
use crate::whole::Wholes;

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
    /// The header that says whose a request is, if there are tenants.
    pub tenant_header: Option<HeaderName>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    servers: Option<Servers>,
}

/// Servers of our own, and the slots that ask them.
#[derive(Clone, Debug)]
struct Servers {
    endpoints: Arc<Endpoints>,
    /// Held for as long as they are to work.
    _workers: Arc<Workers>,
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
        let servers = servers(&config, dispatcher, before)?;
        let endpoints = servers.as_ref().map(|servers| Arc::clone(&servers.endpoints));
        let downstream = Downstream::new(Arc::clone(dispatcher), endpoints, &config.limits, Arc::clone(metrics));
        let downstream = Arc::new(downstream);
        let cache = Arc::new(cache(&config, metrics, before)?);
        let kept = before.filter(|before| {
            before.config.cache.whole == config.cache.whole && Arc::ptr_eq(before.cache.purger(), cache.purger())
        });
        let answers = kept.map_or_else(
            || Arc::new(WholeAnswers::new(&config.cache.whole, cache.purger(), metrics)),
            |before| Arc::clone(&before.answers),
        );
        Ok(Self {
            pipeline: Pipeline::new(&config, Arc::clone(&downstream), Arc::clone(&cache), Arc::clone(metrics))?,
            wholes: Wholes::new(&config, Arc::clone(&downstream), Arc::clone(&answers), Arc::clone(metrics))?,
            tenant_header: tenant_header(&config)?,
            metrics: Arc::clone(metrics),
            downstream,
            cache,
            answers,
            servers,
            config,
        })
    }

    /// How long a question may take when the client does not say.
    pub fn timeout(&self) -> Duration {
        self.config.downstream.timeout
    }
}

/// Servers of our own, if there are any.
fn servers(config: &Config, dispatcher: &Arc<Dispatcher>, before: Option<&Service>) -> Result<Option<Servers>, String> {
    if !config.downstream.mode.has_workers() {
        return Ok(None);
    }
    let is_same = |before: &&Service| {
        before.config.downstream == config.downstream && before.config.discovery == config.discovery
    };
    if let Some(servers) = before.filter(is_same).and_then(|before| before.servers.clone()) {
        return Ok(Some(servers));
    }
    let endpoints = Arc::new(Endpoints::open(&config.downstream, &config.discovery)?);
    let workers = Workers::start(Arc::clone(&endpoints), Arc::clone(dispatcher), config.downstream.max_concurrent);
    Ok(Some(Servers { endpoints, _workers: Arc::new(workers) }))
}

fn cache(config: &Config, metrics: &Arc<Metrics>, before: Option<&Service>) -> Result<ExtentCache, String> {
    let is_same = |before: &&Service| {
        ExtentCache::keeps_tiers(&before.config.cache, &config.cache)
            && before.config.discovery == config.discovery
            && before.config.namespace() == config.namespace()
    };
    if let Some(before) = before.filter(is_same) {
        return Ok(before.cache.with_options(&config.cache));
    }
    Ok(ExtentCache::new(&config.cache, shared_tier(config)?, Arc::clone(metrics)))
}

/// The shared tier, if one is configured.
fn shared_tier(config: &Config) -> Result<Option<SharedTier>, String> {
    let Some(remote) = &config.cache.remote else { return Ok(None) };
    let opened = store::open(remote, &config.discovery)?;
    let namespace = config.namespace();
    Ok(opened.map(|(store, timeout)| SharedTier::new(store, timeout, remote.max_queued_bytes, namespace)))
}

fn tenant_header(config: &Config) -> Result<Option<HeaderName>, String> {
    if !config.multitenancy.enabled {
        return Ok(None);
    }
    let name = &config.multitenancy.header;
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map(Some).map_err(|_| format!("multitenancy.header: {name:?} is not the name of a header"))
}
