//! One memcached server: its connections, and who may ask it.
//!
//! The protocol has no numbers by which an answer finds its question. So a connection belongs to one call at a time and is
//! kept only when the answer was read to its end and was sound; after anything else, be it that nobody waits for the answer
//! any more, it is closed.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::Loss;
use super::super::breaker::Breaker;
use super::Options;
use super::protocol::{Batch, Replies};

/// A connection that was idle for longer may have been forgotten by something between us and the server.
const IDLE_FOR: Duration = Duration::from_mins(1);

/// One server.
#[derive(Debug)]
pub(super) struct Node {
    name: Box<str>,
    seed: u64,
    breaker: Breaker,
    idle: Idle,
    connections: Semaphore,
}

impl Node {
    pub(super) fn new(name: &str, options: &Options) -> Self {
        Self {
            name: name.into(),
            seed: xxh3_64(name.as_bytes()),
            breaker: Breaker::default(),
            idle: Idle { streams: Mutex::default(), max: options.max_idle },
            connections: Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is left alone for a while.
    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// The server with the highest score has the place.
    pub(super) fn score(&self, place: u128) -> u64 {
        xxh3_64_with_seed(&place.to_le_bytes(), self.seed)
    }

    pub(super) async fn ask(&self, batch: &mut impl Batch, deadline: Instant) -> Result<(), Loss> {
        let now = Instant::now();
        if now >= deadline {
            return Err(Loss::Timeout);
        }
        if !self.breaker.lets_through(now) {
            return Err(Loss::Breaker);
        }
        let outcome = timeout_at(deadline, self.call(batch)).await.unwrap_or(Err(Loss::Timeout));
        self.report(outcome);
        outcome
    }

    /// An idle connection that the server has closed meanwhile shows only when it is used; then a new one is tried.
    async fn call(&self, batch: &mut impl Batch) -> Result<(), Loss> {
        let _permit = self.connections.acquire().await.expect("the semaphore is never closed");
        if let Some(stream) = self.idle.take() {
            match exchange(stream, batch).await {
                Err(Broken { loss: Loss::Unavailable, is_begun: false }) => {}
                done => return done.map(|stream| self.idle.put(stream)).map_err(|broken| broken.loss),
            }
        }
        let stream = connect(&self.name).await.map_err(|_| Loss::Unavailable)?;
        let stream = exchange(stream, batch).await.map_err(|broken| broken.loss)?;
        self.idle.put(stream);
        Ok(())
    }

    /// Tells the breaker, and the log what became of the breaker.
    fn report(&self, outcome: Result<(), Loss>) {
        match outcome {
            Ok(()) | Err(Loss::Refused) => {
                if self.breaker.succeeded() {
                    tracing::info!(server = %self.name, "memcached answers again");
                }
            }
            Err(loss) => {
                if self.breaker.failed(Instant::now()) {
                    let why = loss.as_str();
                    tracing::warn!(server = %self.name, why, "memcached does not answer; it is left alone for a while");
                }
            }
        }
    }
}

async fn connect(name: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(name).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The connections that nobody uses, the last used one at the end.
#[derive(Debug)]
struct Idle {
    streams: Mutex<VecDeque<(TcpStream, Instant)>>,
    max: usize,
}

impl Idle {
    /// The last used one on which nothing has come meanwhile: no end, and nothing that nobody asked for.
    fn take(&self) -> Option<TcpStream> {
        let mut streams = self.streams.lock();
        forget_old(&mut streams);
        while let Some((stream, _)) = streams.pop_back() {
            let came = stream.try_read(&mut [0]);
            if came.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }

    fn put(&self, stream: TcpStream) {
        let mut streams = self.streams.lock();
        forget_old(&mut streams);
        if streams.len() < self.max {
            streams.push_back((stream, Instant::now()));
        }
    }
}

fn forget_old(streams: &mut VecDeque<(TcpStream, Instant)>) {
    while streams.front().is_some_and(|(_, since)| since.elapsed() > IDLE_FOR) {
        streams.pop_front();
    }
}

/// A call that came to nothing.
#[derive(Debug)]
struct Broken {
    loss: Loss,
    /// Whether any of the answer had come.
    is_begun: bool,
}

/// Sends a batch and reads its answer, both at once: a server may answer the first of it before it reads the last. Gives
/// the connection back if it can be used again.
async fn exchange(mut stream: TcpStream, batch: &mut impl Batch) -> Result<TcpStream, Broken> {
    let (from, to) = stream.split();
    let request = batch.request();
    let mut replies = Replies::new(from);
    let read = {
        let mut write = Box::pin(send(to, request));
        let mut read = Box::pin(batch.take(&mut replies));
        tokio::select! {
            biased;
            // When it fails, the server may have said why before it closed.
            _ = &mut write => read.await,
            early = &mut read => early.and(Err(Loss::Garbage)),
        }
    };
    let is_begun = replies.is_begun();
    let is_rest = replies.has_rest();
    match read {
        Ok(()) if is_rest => Err(Broken { loss: Loss::Garbage, is_begun }),
        Ok(()) => Ok(stream),
        Err(loss) => Err(Broken { loss, is_begun }),
    }
}

async fn send(mut to: WriteHalf<'_>, request: Vec<Bytes>) -> io::Result<()> {
    for part in request {
        to.write_all(&part).await?;
    }
    Ok(())
}
