//! One stream to one frontend, opened again and again.
//!
//! The frontend speaks, we answer, one request at a time. When the stream ends while a request runs, nobody wants its answer any
//! more: it is dropped. A frontend that cancels is asked for the next at once; one that fails is left alone for a while, longer
//! each time until a stream works again.
//!
//! We end a stream between requests only, by ending our half. What arrives after that is not begun: a frontend of promfront
//! knows it, and gives it to somebody else.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Code, Status, Streaming};

use super::executor::Executor;
use crate::jitter::jittered;
use crate::sched::grpc::client::Connection;
use crate::sched::grpc::messages::{ClientToFrontend, FrontendToClient, Kind};

/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// When our last words are on their way, the frontend has so long to end its half.
const CLOSING: Duration = Duration::from_secs(1);

/// One stream, and what it needs.
pub(super) struct Stream {
    pub connection: Connection,
    pub executor: Arc<Executor>,
    pub id: String,
    /// Its number among the frontend's.
    pub number: usize,
    /// It leaves when no more than its number are wanted.
    pub wanted: watch::Receiver<usize>,
    pub reach: Arc<Reach>,
}

/// How a stream ended.
enum End {
    /// We are not wanted.
    Left,
    /// The frontend does not want the answer to the request that ran.
    Cancelled,
    /// It broke, or the frontend ended it. Whether it had worked before.
    Broke { why: String, has_worked: bool },
}

/// Whether a frontend was reached the last time; changes are told.
pub(super) struct Reach {
    server: String,
    is_reached: Mutex<Option<bool>>,
}

impl Reach {
    pub(super) fn new(server: &str) -> Self {
        Self { server: server.to_owned(), is_reached: Mutex::new(None) }
    }

    fn reached(&self) {
        if self.is_reached.lock().replace(true) != Some(true) {
            tracing::info!(frontend = self.server, "connected to a frontend");
        }
    }

    fn missed(&self, why: &str) {
        if self.is_reached.lock().replace(false) != Some(false) {
            tracing::warn!(frontend = self.server, why, "lost a frontend; trying again");
        }
    }
}

impl Stream {
    /// Pulls until it is not wanted any more.
    pub(super) async fn keep(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.pull().await {
                End::Left => return,
                End::Cancelled => {
                    pause = FIRST_PAUSE;
                    continue;
                }
                End::Broke { why, has_worked } => {
                    self.reach.missed(&why);
                    if has_worked {
                        pause = FIRST_PAUSE;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = unwanted(&mut self.wanted, self.number) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// From the opening of the stream to its end.
    async fn pull(&mut self) -> End {
        let (outbound, queued) = mpsc::channel::<ClientToFrontend>(1);
        // Dropped with the outbound half, when all of it has been taken.
        let (taken, all_taken) = oneshot::channel::<()>();
        let queued = stream::unfold((queued, taken), |(mut queued, taken)| async move {
            Some((queued.recv().await?, (queued, taken)))
        });
        let opened = tokio::select! {
            opened = self.connection.process(queued) => opened,
            () = unwanted(&mut self.wanted, self.number) => return End::Left,
        };
        let mut inbound = match opened {
            Ok(inbound) => inbound,
            Err(status) => return broke(&status, false),
        };
        let end = self.answer_all(&mut inbound, &outbound).await;
        drop(outbound);
        if matches!(end, End::Left) {
            let closed = async {
                let _ = all_taken.await;
                tokio::time::sleep(CLOSING).await;
            };
            tokio::select! {
                () = async { while let Ok(Some(_)) = inbound.message().await {} } => {}
                () = closed => {}
            }
        }
        end
    }

    /// Answers until the stream ends or is not wanted any more.
    async fn answer_all(
        &mut self,
        inbound: &mut Streaming<FrontendToClient>,
        outbound: &mpsc::Sender<ClientToFrontend>,
    ) -> End {
        let mut has_worked = false;
        loop {
            let message = tokio::select! {
                biased;
                message = inbound.message() => message,
                () = unwanted(&mut self.wanted, self.number) => return End::Left,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return ended(has_worked),
                Err(status) => return broke(&status, has_worked),
            };
            let answer = match (Kind::try_from(message.kind), message.http_request) {
                (Ok(Kind::GetId), _) => {
                    self.reach.reached();
                    ClientToFrontend::id(&self.id)
                }
                (Ok(Kind::HttpRequest), Some(request)) => tokio::select! {
                    answer = self.executor.execute(request) => answer,
                    message = inbound.message() => return match message {
                        Err(status) if status.code() == Code::Cancelled => End::Cancelled,
                        Err(status) => broke(&status, has_worked),
                        Ok(None) => ended(has_worked),
                        Ok(Some(_)) => violated("it sent a request before the last one was answered"),
                    },
                },
                (Ok(Kind::HttpRequest), None) => return violated("it sent no request"),
                (Err(_), _) => return violated("it wants something that is not known"),
            };
            has_worked = true;
            if outbound.send(answer).await.is_err() {
                return ended(has_worked);
            }
        }
    }
}

fn ended(has_worked: bool) -> End {
    End::Broke { why: "the frontend ended the stream".to_owned(), has_worked }
}

fn broke(status: &Status, has_worked: bool) -> End {
    End::Broke { why: status.message().to_owned(), has_worked }
}

fn violated(why: &str) -> End {
    End::Broke { why: why.to_owned(), has_worked: false }
}

/// Waits until a stream of this number is one too many.
async fn unwanted(wanted: &mut watch::Receiver<usize>, number: usize) {
    // An error says that the frontend is gone.
    let _ = wanted.wait_for(|wanted| *wanted <= number).await;
}
