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

/// Keeps `max_concurrent` slots at work for each endpoint that there is. Ends when it is dropped.
pub async fn keep(endpoints: Arc<Endpoints>, dispatcher: Arc<Dispatcher>, max_concurrent: usize) {
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
        if changed.changed().await.is_err() {
            return;
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
