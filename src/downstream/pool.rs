//! The servers of one configuration, and the slots that ask them.
//!
//! Rule: what was asked under a configuration is answered by its servers. So a pool works for as long as somebody may ask it, also
//! after another one took its place; only where remote queriers pull from the same queue does it have to stop at once.

use std::sync::Arc;

use parking_lot::Mutex;

use super::endpoints::Endpoints;
use super::workers::Workers;
use crate::config::Config;
use crate::sched::dispatch::Dispatcher;

/// Servers, and who asks them.
#[derive(Debug)]
pub struct Pool {
    endpoints: Arc<Endpoints>,
    dispatcher: Arc<Dispatcher>,
    max_concurrent: usize,
    workers: Mutex<Option<Workers>>,
}

impl Pool {
    /// Servers of our own, if there are any, behind a queue. Nobody asks them yet. Inside of a tokio runtime.
    pub fn open(config: &Config, dispatcher: &Arc<Dispatcher>) -> Result<Option<Arc<Self>>, String> {
        if !config.downstream.mode.has_workers() {
            return Ok(None);
        }
        let mut options = config.downstream.clone();
        if config.multitenancy.enabled {
            // What the answer depends on is passed on, whichever headers are named.
            options.forward_headers.push(config.multitenancy.header.clone());
        }
        Ok(Some(Arc::new(Self {
            endpoints: Arc::new(Endpoints::open(&options, &config.discovery)?),
            dispatcher: Arc::clone(dispatcher),
            max_concurrent: config.downstream.max_concurrent,
            workers: Mutex::default(),
        })))
    }

    /// The servers.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// From now on its slots pull.
    pub fn start(&self) {
        self.workers.lock().get_or_insert_with(|| {
            Workers::start(Arc::clone(&self.endpoints), Arc::clone(&self.dispatcher), self.max_concurrent)
        });
    }

    /// From now on they pull no more; what runs is finished.
    pub fn stop(&self) {
        *self.workers.lock() = None;
    }
}
