//! A request that a slot runs, and what became of it.
//!
//! Whoever holds a job says how it ended, once. A failure that lies with the querier is tried once more elsewhere: while the
//! request has tries left, its time is not over, and the retry budget has something in it. Otherwise its client gets the last
//! failure, in the server's own words if there were any.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::verdict::{MOST_JUDGED, is_declined, may_be_declined};
use super::{Dispatcher, Item, Reply};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::{CodeLabels, Metrics};
use crate::model::tenant::TenantId;
use crate::request::Outgoing;
use crate::sched::queue::words::{Cancelled, Job as Given, Lost, NextTry, QuerierKey, Ticket};

/// A request that a slot of a querier is to run.
#[derive(Debug)]
pub struct Job {
    dispatcher: Arc<Dispatcher>,
    querier: QuerierKey,
    ticket: Ticket,
    /// None once it was said what became of it.
    item: Option<Box<Item>>,
    began: Instant,
    /// How often its querier had said that it leaves.
    farewells: u64,
    /// Whether the others of its querier wait for what comes of it.
    pub(super) is_probe: bool,
    is_over: bool,
}

impl Job {
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        querier: QuerierKey,
        farewells: u64,
        given: Given<Box<Item>>,
        now: Instant,
    ) -> Self {
        let metrics = &dispatcher.metrics;
        metrics.queue.waited(given.item.lane.as_str(), given.waited);
        metrics.downstream_in_flight.inc();
        Self {
            querier,
            ticket: given.ticket,
            item: Some(given.item),
            began: now,
            farewells,
            is_probe: false,
            is_over: false,
            dispatcher,
        }
    }

    fn item(&self) -> &Item {
        self.item.as_ref().expect("what became of a job is said last, and consumes it")
    }

    /// What is to be sent.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.item().outgoing
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.item().tenant
    }

    /// When the answer stops being of use.
    pub fn deadline(&self) -> Instant {
        self.item().deadline
    }

    /// Resolves when nobody waits for the answer any more.
    pub async fn abandoned(&mut self) {
        let Some(item) = &mut self.item else { return };
        let _ = tokio::time::timeout_at(item.deadline.into(), item.reply.closed()).await;
    }

    /// A whole answer, with whatever status. `measured`: how long the querier says that it took.
    pub fn answer_whole(self, response: Response<Bytes>, measured: Option<Duration>) {
        let is_declined = is_declined(response.status(), response.headers(), response.body());
        let status = response.status().as_u16();
        let response = response.map(Body::from);
        if is_declined {
            self.failed(Lost::Declined, status, Ok(response));
        } else {
            self.reply(status, Ok(response), measured);
        }
    }

    /// An answer whose body is still on its way. The slot is free when this returns: the body has been read to its end, or
    /// nobody wants the rest of it.
    pub async fn answer<B>(mut self, response: Response<B>)
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (head, mut body) = response.into_parts();
        let mut begun = Vec::new();
        if may_be_declined(head.status) {
            let judged = tokio::select! {
                judged = read_some(&mut body, &mut begun) => judged,
                () = self.abandoned() => return self.given_up(),
            };
            match judged {
                Ok(true) => return self.answer_whole(Response::from_parts(head, begun.into()), None),
                Ok(false) => {}
                Err(error) => return self.vanished(&format!("the answer ended early: {error}")),
            }
        }
        let (ends, ended) = oneshot::channel::<()>();
        let rest = Held { body, ends: Some(ends) };
        let body = if begun.is_empty() {
            Body::new(rest)
        } else {
            let begun = stream::iter([Ok(Bytes::from(begun))]);
            Body::from_stream(begun.chain(rest.into_data_stream()))
        };
        let status = head.status.as_u16();
        let Some(item) = self.item.take() else { return };
        // If nobody listens the body is dropped, and its end is told at once.
        let _ = item.reply.send(Ok(Response::from_parts(head, body)));
        let _ = ended.await;
        self.end(status, None);
    }

    /// The querier could not be reached, or is there and gave it back without an answer.
    pub fn declined(self, why: &str) {
        self.failed(Lost::Declined, 0, unavailable(why));
    }

    /// The querier went away with it before it answered.
    pub fn vanished(self, why: &str) {
        self.failed(Lost::InFlight, 0, unavailable(why));
    }

    /// What came back is no answer, and would be none elsewhere.
    pub fn unusable(self, error: ApiError) {
        self.reply(0, Err(error), None);
    }

    /// Nobody waits for it any more, and it does not run any more.
    pub fn given_up(self) {
        // Dropping it says so.
    }

    /// It was never sent. Another slot takes it.
    pub fn unsent(mut self) {
        let Some(item) = self.item.take() else { return };
        self.is_over = true;
        self.dispatcher.metrics.downstream_in_flight.dec();
        let now = super::now();
        self.dispatcher.change(now, |state| {
            state.learnt_nothing(self.querier, self.is_probe);
            state.queue.returned(self.ticket, item, Lost::Unsent, now);
        });
    }

    fn reply(mut self, status: u16, reply: Reply, measured: Option<Duration>) {
        if let Some(item) = self.item.take() {
            // Who does not listen any more does not want to know.
            let _ = item.reply.send(reply);
        }
        self.end(status, measured);
    }

    /// The slot is free again, and the querier is well.
    fn end(mut self, status: u16, measured: Option<Duration>) {
        self.release(status);
        let took = measured.unwrap_or_else(|| super::now().saturating_duration_since(self.began));
        let cost = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let now = super::now();
        self.dispatcher.change(now, |state| {
            state.queue.finished(self.ticket, Some(cost), now);
            state.answered(self.querier);
        });
    }

    /// Somebody else may fare better, if it may be tried again.
    fn failed(mut self, lost: Lost, status: u16, reply: Reply) {
        let Some(mut item) = self.item.take() else { return };
        self.release(status);
        let now = super::now();
        let (result, given_back) = self.dispatcher.change(now, |state| {
            let lost = state.lost(self.querier, self.farewells, lost);
            let next_try = state.queue.next_try(self.ticket, lost);
            if next_try != NextTry::SameAttempt {
                state.failed(self.querier, self.began, now);
                item.last = Some(reply);
            }
            state.learnt_nothing(self.querier, self.is_probe);
            state.queue.returned(self.ticket, item, lost, now);
            let result = match next_try {
                NextTry::SameAttempt => "same_attempt",
                NextTry::None => "attempts_spent",
                NextTry::Retry if !state.queue.is_waiting(self.ticket) => "of_no_use",
                NextTry::Retry if state.budget.take() => "tried_again",
                NextTry::Retry => "budget_spent",
            };
            let given_back = (result == "budget_spent").then(|| state.queue.cancel(self.ticket));
            (result, given_back)
        });
        self.dispatcher.metrics.queue.retried(result);
        if let Some(Cancelled::Waiting(mut item)) = given_back
            && let Some(last) = item.last.take()
        {
            let _ = item.reply.send(last);
        }
    }

    /// It does not run any more. Once only.
    fn release(&mut self, code: u16) {
        self.is_over = true;
        let metrics: &Metrics = &self.dispatcher.metrics;
        metrics.downstream_in_flight.dec();
        metrics.downstream_requests.get_or_create(&CodeLabels { code }).inc();
        metrics.downstream_duration.observe(super::now().saturating_duration_since(self.began).as_secs_f64());
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(item) = self.item.take() {
            let error = if super::now() >= item.deadline {
                ApiError::too_late()
            } else {
                ApiError::new(
                    ErrorKind::Internal,
                    "what ran the request met a fault of promfront's own; its log tells where",
                )
            };
            let _ = item.reply.send(Err(error));
        }
        self.release(0);
        let now = super::now();
        self.dispatcher.change(now, |state| {
            state.queue.finished(self.ticket, None, now);
            state.learnt_nothing(self.querier, self.is_probe);
        });
    }
}

fn unavailable(why: &str) -> Reply {
    Err(ApiError::new(ErrorKind::Unavailable, why))
}

/// Reads a body up to a bound. Whether that was all of it.
async fn read_some<B>(body: &mut B, begun: &mut Vec<u8>) -> Result<bool, B::Error>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            begun.extend_from_slice(&data);
        }
        if begun.len() as u64 > MOST_JUDGED {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A body that tells by its end, or by being dropped, that its slot is free.
struct Held<B> {
    body: B,
    /// None once it has ended.
    ends: Option<oneshot::Sender<()>>,
}

impl<B> http_body::Body for Held<B>
where
    B: http_body::Body + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.ends = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
