//! The frontends, and how many streams each of them has.
//!
//! The concurrency is shared out over them, the remainder one by one, and each has at least one stream. When frontends come or
//! go the shares change: a stream that is one too many leaves when it is idle, never with a query in its hands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tonic::transport::Endpoint;

use super::Options;
use super::executor::Executor;
use super::stream::{Reach, Stream};
use crate::discovery::{self, Discovery, Server};
use crate::sched::grpc::client::Connection;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A frontend behind a dead network is noticed by this, on idle streams too.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A ping that is not answered for so long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a frontend may take to hear that we leave.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(2);

/// A frontend that there is.
struct Frontend {
    connection: Connection,
    /// So many streams it is to have.
    wanted: watch::Sender<usize>,
    /// Those that were begun, by their numbers.
    streams: Vec<AbortHandle>,
    reach: Arc<Reach>,
}

/// Pulls from every frontend until `stop` resolves, and then finishes.
pub(super) async fn pull(
    options: &Options,
    resolving: discovery::Options,
    executor: Arc<Executor>,
    stop: impl Future<Output = ()>,
) {
    let discovery = Discovery::new(options.frontends.clone(), resolving);
    let mut servers = discovery.subscribe();
    let mut fleet = Fleet { options, executor, frontends: BTreeMap::new(), tasks: JoinSet::new() };
    let mut stop = std::pin::pin!(stop);
    loop {
        let current = Arc::clone(&servers.borrow_and_update());
        fleet.deal(&current);
        tokio::select! {
            changed = servers.changed() => changed.expect("the discovery lives as long as this loop"),
            Some(_) = fleet.tasks.join_next() => {}
            () = &mut stop => break,
        }
    }
    fleet.leave().await;
}

struct Fleet<'o> {
    options: &'o Options,
    executor: Arc<Executor>,
    frontends: BTreeMap<Box<str>, Frontend>,
    tasks: JoinSet<()>,
}

impl Fleet<'_> {
    /// Each of these frontends gets its share, and all others get nothing.
    fn deal(&mut self, servers: &[Server]) {
        // Two names may stand for one address.
        let servers: BTreeMap<_, _> = servers.iter().map(|server| (&server.address, &server.host)).collect();
        self.frontends.retain(|address, frontend| {
            let stays = servers.contains_key(address);
            if !stays {
                tracing::info!(frontend = &**address, "a frontend is gone");
                frontend.wanted.send_replace(0);
            }
            stays
        });
        for (number, (&address, host)) in servers.iter().enumerate() {
            if !self.frontends.contains_key(address) {
                match Frontend::new(address, host, self.options) {
                    Ok(frontend) => drop(self.frontends.insert(address.clone(), frontend)),
                    Err(error) => {
                        tracing::warn!(frontend = &**address, %error, "can't connect to a frontend");
                        continue;
                    }
                }
            }
            let wanted = share(self.options.concurrency, servers.len(), number);
            if let Some(frontend) = self.frontends.get_mut(address) {
                frontend.begin_streams(wanted, &self.options.id, &self.executor, &mut self.tasks);
            }
        }
    }

    /// Says to all that we leave, and finishes what is in flight.
    async fn leave(mut self) {
        tracing::info!("stopping: announcing it, and finishing what is in flight");
        let id = &self.options.id;
        future::join_all(self.frontends.values_mut().map(|frontend| async move {
            let notice = frontend.connection.notify_shutdown(id);
            match tokio::time::timeout(NOTICE_TIMEOUT, notice).await {
                Ok(Ok(())) => {}
                Ok(Err(status)) => tracing::debug!(error = status.message(), "a frontend was not told that we leave"),
                Err(_) => tracing::debug!("a frontend did not listen to us leaving"),
            }
        }))
        .await;
        for frontend in self.frontends.values() {
            frontend.wanted.send_replace(0);
        }
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.options.shutdown_timeout, finished).await.is_err() {
            tracing::warn!("stopped with queries in flight");
        }
    }
}

/// The streams of one of so many frontends.
fn share(concurrency: usize, frontends: usize, number: usize) -> usize {
    (concurrency / frontends + usize::from(number < concurrency % frontends)).max(1)
}

impl Frontend {
    fn new(address: &str, host: &str, options: &Options) -> Result<Self, tonic::transport::Error> {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let mut channel = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        if let Some(tls) = &options.tls {
            let name = options.tls_server_name.as_deref().unwrap_or(host);
            channel = channel.tls_config(tls.clone().domain_name(name))?;
        }
        Ok(Self {
            connection: Connection::new(channel.connect_lazy(), options.max_message_bytes),
            wanted: watch::Sender::new(0),
            streams: Vec::new(),
            reach: Arc::new(Reach::new(address)),
        })
    }

    /// Begins the streams that are missing. Those that are too many see it themselves.
    fn begin_streams(&mut self, wanted: usize, id: &str, executor: &Arc<Executor>, tasks: &mut JoinSet<()>) {
        self.wanted.send_replace(wanted);
        for number in 0..wanted {
            if self.streams.get(number).is_some_and(|stream| !stream.is_finished()) {
                continue;
            }
            let stream = Stream {
                connection: self.connection.clone(),
                executor: Arc::clone(executor),
                id: id.to_owned(),
                number,
                wanted: self.wanted.subscribe(),
                reach: Arc::clone(&self.reach),
            };
            let handle = tasks.spawn(stream.keep());
            match self.streams.get_mut(number) {
                Some(place) => *place = handle,
                None => self.streams.push(handle),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_concurrency_is_shared_out() {
        let shares = |concurrency, frontends| -> Vec<usize> {
            (0..frontends).map(|number| share(concurrency, frontends, number)).collect()
        };
        assert_eq!(shares(20, 1), [20]);
        assert_eq!(shares(20, 3), [7, 7, 6]);
        assert_eq!(shares(8, 8), [1; 8]);
        assert_eq!(shares(2, 5), [1; 5]);
    }
}
