//! The queriers of our own: for each endpoint so many slots that pull from the queue and send what they get over HTTP.
//!
//! Endpoints come and go with discovery. A slot whose endpoint has left finishes what it runs, and stops.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::endpoint::{Endpoint, SendError};
use super::endpoints::Endpoints;
use super::fetch::told;
use crate::sched::dispatch::{Dispatcher, Slot};
use crate::sched::queue::words::QuerierId;

/// Slots at work for the endpoints that there are. When it is dropped they finish what they run, and pull no more.
#[derive(Debug)]
pub struct Workers {
    _stop: watch::Sender<()>,
}

impl Workers {
    /// Puts `max_concurrent` slots to work for each endpoint, now and when there are others. Inside of a tokio runtime.
    pub fn start(endpoints: Arc<Endpoints>, dispatcher: Arc<Dispatcher>, max_concurrent: usize) -> Self {
        let (stop, stopped) = watch::channel(());
        tokio::spawn(keep(endpoints, dispatcher, max_concurrent, stopped));
        Self { _stop: stop }
    }
}

async fn keep(
    endpoints: Arc<Endpoints>,
    dispatcher: Arc<Dispatcher>,
    max_concurrent: usize,
    mut stopped: watch::Receiver<()>,
) {
    let mut changed = endpoints.changed();
    // Dropping the sender tells the slots of an endpoint to stop.
    let mut at_work: HashMap<Box<str>, (Endpoint, watch::Sender<()>)> = HashMap::new();
    loop {
        let current = Arc::clone(&changed.borrow_and_update());
        at_work.retain(|name, (endpoint, _)| {
            let now = current.iter().find(|now| now.name() == &**name);
            if now.is_none() {
                dispatcher.leaving(&QuerierId::named(name));
            }
            now.is_some_and(|now| now.is_same(endpoint))
        });
        for endpoint in current.iter() {
            at_work.entry(endpoint.name().into()).or_insert_with(|| {
                let (stop, stopped) = watch::channel(());
                let querier = QuerierId::named(endpoint.name());
                for _ in 0..max_concurrent {
                    tokio::spawn(work(endpoint.clone(), dispatcher.attach(&querier), stopped.clone()));
                }
                (endpoint.clone(), stop)
            });
        }
        tokio::select! {
            change = changed.changed() => if change.is_err() { return },
            _ = stopped.changed() => return,
        }
    }
}

/// One slot: pulls and sends, until its endpoint has left.
async fn work(endpoint: Endpoint, mut slot: Slot, mut stopped: watch::Receiver<()>) {
    loop {
        let mut job = tokio::select! {
            job = slot.next() => job,
            _ = stopped.changed() => return,
        };
        let outgoing = Arc::clone(job.outgoing());
        let sent = tokio::select! {
            sent = endpoint.send(&outgoing) => Some(sent),
            () = job.abandoned() => None,
        };
        match sent {
            None => job.given_up(),
            Some(Ok(response)) => job.answer(response).await,
            Some(Err(SendError::Unreachable(why))) => job.declined(&why),
            Some(Err(SendError::Vanished(why))) => job.vanished(&why),
            Some(Err(error @ SendError::Unsendable(_))) => job.unusable(told(error)),
        }
    }
}
