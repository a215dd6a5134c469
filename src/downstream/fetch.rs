//! Asks whoever is downstream: range parts are collected under a bound, what is not collected is streamed. (`whole.rs` collects answers as
//! they came.)
//!
//! What asks the query API waits in the fair queue, and whoever pulls it answers it. What does not (pages, writes, the server's
//! own administration) goes past the queue to a server of ours. What comes back is never trusted with memory: a body is
//! counted while it arrives, before and after decoding, whatever its `Content-Length` says, and is an answer only when HTTP
//! says that it is complete. Dropping a future here cancels what runs downstream. Redirects are handed on, never followed.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;

use super::body::{Sink, SinkError};
use super::connect::root_cause;
use super::endpoint::SendError;
use super::headers::{date, forwarded};
use super::pool::Pool;
use crate::cache::directive::has_no_store;
use crate::error::{ApiError, ErrorKind};
use crate::limits::Policy;
use crate::metrics::{CodeLabels, Metrics};
use crate::model::params::Encoded;
use crate::model::tenant::TenantId;
use crate::model::time::Timestamp;
use crate::request::Outgoing;
use crate::sched::dispatch::{Dispatcher, Standing, Submission};

/// A range part on its way.
#[derive(Clone, Debug)]
pub struct PartRequest {
    /// The client's method.
    pub method: Method,
    /// The client's path.
    pub path: String,
    /// The parameters, those of the part in place.
    pub params: Encoded,
    /// The client's headers, as [`for_parts`](super::headers::for_parts) leaves them.
    pub headers: Arc<HeaderMap>,
    /// When the answer stops being of use.
    pub deadline: Instant,
    /// Where it stands in the queue.
    pub standing: Standing,
}

impl PartRequest {
    fn submission(self) -> Submission {
        let mut headers = HeaderMap::clone(&self.headers);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = self.params.body.map(Bytes::from);
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        let outgoing = Outgoing {
            method: self.method,
            path: self.path,
            query: self.params.url_query,
            headers,
            body: body.unwrap_or_default(),
        };
        Submission { outgoing, deadline: self.deadline, standing: self.standing }
    }
}

/// A complete answer, decoded.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the body is JSON, as far as the server says. Some servers have other codecs, and clients that ask for them.
    pub fn is_json(&self) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        kind.is_none_or(|kind| kind.to_ascii_lowercase().starts_with(b"application/json"))
    }

    /// What the server's clock said.
    pub fn date(&self) -> Option<Timestamp> {
        date(&self.headers)
    }

    /// Whether the server forbids to keep it.
    pub fn is_no_store(&self) -> bool {
        has_no_store(&self.headers)
    }
}

/// Everything that can be asked.
#[derive(Debug)]
pub struct Downstream {
    dispatcher: Arc<Dispatcher>,
    /// Servers of our own; none if queriers pull everything.
    pool: Option<Arc<Pool>>,
    turn: AtomicUsize,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
}

impl Downstream {
    /// Asks through `dispatcher`, and past it in `pool`.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        pool: Option<Arc<Pool>>,
        policy: Arc<Policy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { dispatcher, pool, turn: AtomicUsize::new(0), policy, metrics }
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Where requests wait.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// Asks for a range part, and waits until its answer begins.
    pub async fn ask(&self, part: PartRequest) -> Result<Arriving, ApiError> {
        let (deadline, tenant) = (part.deadline, part.standing.tenant.clone());
        let limit = self.policy.tenants.limits_of(&tenant).max_response_bytes;
        let response = in_time(deadline, self.dispatcher.ask(part.submission())).await?;
        let (head, body) = response.into_parts();
        let is_gzip = match head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity" | b"") => false,
            Some(gzip) if gzip.eq_ignore_ascii_case(b"gzip") || gzip.eq_ignore_ascii_case(b"x-gzip") => true,
            Some(_) => return Err(unusable("its content encoding was not asked for")),
        };
        // What the server says about the length is a hint, not a promise.
        let hint = body.size_hint().exact().unwrap_or(0).min(1 << 26).min(limit);
        let sink = Sink::new(usize::try_from(hint).unwrap_or(0), is_gzip, limit);
        Ok(Arriving {
            head: Answer { status: head.status, headers: head.headers, body: Bytes::new() },
            body,
            sink,
            deadline,
            limit,
            is_plain: !is_gzip,
            refusal: Refusal { policy: Arc::clone(&self.policy), tenant },
            metrics: Arc::clone(&self.metrics),
        })
    }

    /// Asks for a range part and collects its whole answer.
    pub async fn fetch(&self, part: PartRequest) -> Result<Answer, ApiError> {
        self.ask(part).await?.collect().await
    }

    /// Passes on a request for the query API whose body was already read.
    pub async fn forward_whole(
        &self,
        head: &http::request::Parts,
        body: Bytes,
        deadline: Instant,
        standing: Standing,
    ) -> Result<Response<AnyBody>, ApiError> {
        let mut headers = forwarded(&head.headers);
        headers.remove(header::CONTENT_LENGTH);
        let outgoing = Outgoing::of(head, headers, body);
        self.dispatcher.ask(Submission { outgoing, deadline, standing }).await
    }

    /// Passes a request on as it is, past the queue, and hands the answer back as it comes.
    pub async fn forward(&self, request: Request<AnyBody>) -> Result<Response<AnyBody>, ApiError> {
        let Some(pool) = &self.pool else {
            let message = format!(
                "{} {} is not passed on: queriers pull queries only, and there is no server besides (downstream.mode is pull)",
                request.method(),
                request.uri().path()
            );
            return Err(ApiError::new(ErrorKind::NotFound, message));
        };
        let endpoints = pool.endpoints().current();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let (head, body) = request.into_parts();
        let may_be_repeated = head.method.is_safe() && body.is_end_stream();
        let tries = if may_be_repeated { endpoints.len() } else { 1 };
        let mut body = Some(body);
        let mut failure = ApiError::new(ErrorKind::Unavailable, "no downstream server is known at present");
        for endpoint in (0..endpoints.len()).map(|i| &endpoints[(first.wrapping_add(i)) % endpoints.len()]).take(tries)
        {
            let body = body.take().unwrap_or_default();
            match endpoint.forward(Request::from_parts(head.clone(), body)).await {
                Ok(response) => {
                    let code = response.status().as_u16();
                    self.metrics.downstream_requests.get_or_create(&CodeLabels { code }).inc();
                    return Ok(response.map(AnyBody::new));
                }
                Err(error) => {
                    self.metrics.downstream_requests.get_or_create(&CodeLabels { code: 0 }).inc();
                    let is_elsewhere_too = matches!(error, SendError::Unsendable(_));
                    failure = told(error);
                    if is_elsewhere_too {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }
}

/// Why a request could not be sent, as it is told to its client.
pub(super) fn told(error: SendError) -> ApiError {
    match error {
        SendError::Unreachable(why) | SendError::Vanished(why) => ApiError::new(ErrorKind::Unavailable, why),
        SendError::Unsendable(why) => ApiError::new(ErrorKind::BadData, why),
    }
}

/// An answer that has begun.
#[derive(Debug)]
pub struct Arriving {
    /// Without the body.
    head: Answer,
    body: AnyBody,
    sink: Sink,
    limit: u64,
    is_plain: bool,
    deadline: Instant,
    refusal: Refusal,
    metrics: Arc<Metrics>,
}

impl Arriving {
    /// What it begins with; the body is not there.
    pub fn head(&self) -> &Answer {
        &self.head
    }

    /// How large it may become.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether what comes is the text itself, not packed.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether nothing more will come, as far as that is known.
    pub fn is_all_here(&self) -> bool {
        self.body.is_end_stream()
    }

    /// What comes next, as it comes; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let next = async {
            while let Some(frame) = self.body.frame().await {
                let frame = frame.map_err(|error| unusable(&format!("it ended early: {}", root_cause(&error))))?;
                if let Ok(next) = frame.into_data() {
                    return Ok(Some(next));
                }
            }
            Ok(None)
        };
        let next = in_time(self.deadline, next).await?;
        if let Some(next) = &next {
            self.sink.take(next).map_err(|problem| self.refusal.of(&problem))?;
        }
        Ok(next)
    }

    /// All that has come, decoded.
    pub fn so_far(&self) -> &[u8] {
        self.sink.so_far()
    }

    /// The whole of it.
    pub async fn collect(mut self) -> Result<Answer, ApiError> {
        while self.next().await?.is_some() {}
        let Self { head, sink, refusal, metrics, .. } = self;
        let body = sink.finish().map_err(|problem| refusal.of(&problem))?;
        if head.status.is_success() {
            metrics.downstream_response_bytes.inc_by(body.len() as u64);
        }
        Ok(Answer { body, ..head })
    }
}

/// How a body that can't be taken is refused.
#[derive(Debug)]
struct Refusal {
    policy: Arc<Policy>,
    tenant: TenantId,
}

impl Refusal {
    fn of(&self, problem: &SinkError) -> ApiError {
        match problem {
            SinkError::TooLarge => self.policy.tenants.response_too_large(&self.tenant),
            SinkError::Gzip(error) => unusable(&format!("its gzip stream is broken: {error}")),
            SinkError::Bomb => unusable("its gzip stream grows without measure"),
        }
    }
}

pub(super) fn unusable(problem: &str) -> ApiError {
    ApiError::new(ErrorKind::BadGateway, format!("the answer of the downstream can't be used: {problem}"))
}

pub(super) async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(ApiError::too_late()))
}
