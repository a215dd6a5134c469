//! One downstream over HTTP/1.1: range parts are collected under a bound, everything else is streamed.
//!
//! What comes back is never trusted with memory: a body is counted while it arrives, before and after decoding, whatever
//! its `Content-Length` says, and is an answer only when HTTP says that it is complete. Dropping a future here drops the
//! connection, which is how a client that left stops the work downstream. Redirects are handed on, never followed.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body as AnyBody;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::Semaphore;

use super::body::{Sink, SinkError};
use super::headers::{end_to_end, forwarded, names_no_store};
use crate::config;
use crate::error::{ApiError, ErrorKind};
use crate::metrics::{CodeLabels, Metrics};
use crate::model::params::Encoded;
use crate::model::time::Timestamp;

/// A kept connection that the server had closed already ends at once; later it is the server that ended over the query.
const REUSE_RACE: Duration = Duration::from_millis(250);
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
        Timestamp::parse_http_date(self.headers.get(header::DATE)?.to_str().ok()?)
    }

    /// Whether the server forbids to keep it.
    pub fn is_no_store(&self) -> bool {
        let directives = self.headers.get_all(header::CACHE_CONTROL).into_iter();
        directives.filter_map(|value| value.to_str().ok()).any(names_no_store)
    }
}

/// One downstream.
#[derive(Debug)]
pub struct Downstream {
    base: Base,
    client: Client<HttpConnector, AnyBody>,
    slots: Semaphore,
    max_response_bytes: u64,
    metrics: Arc<Metrics>,
}

/// The URL that requests are sent under.
#[derive(Clone, Debug)]
struct Base {
    authority: Authority,
    prefix: String,
}

impl Base {
    fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(format!("{url:?} must begin with http:// (https:// is not supported yet)"));
        }
        if uri.query().is_some() {
            return Err(format!("{url:?} must not have a query"));
        }
        let authority = uri.authority().cloned().ok_or_else(|| format!("{url:?} names no host"))?;
        if authority.as_str().contains('@') {
            return Err("a URL must not hold a user or a password".to_owned());
        }
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    fn uri(&self, path: &str, query: Option<&str>) -> Result<Uri, ApiError> {
        let target = match query {
            Some(query) => format!("{}{path}?{query}", self.prefix),
            None => format!("{}{path}", self.prefix),
        };
        let unusable = |error: &dyn std::fmt::Display| {
            ApiError::new(ErrorKind::BadData, format!("the URL can't be passed on: {error}"))
        };
        let target: PathAndQuery = target.parse().map_err(|error| unusable(&error))?;
        let parts = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone()).path_and_query(target);
        parts.build().map_err(|error| unusable(&error))
    }
}

impl Downstream {
    /// A client for the configured URL. Nothing is connected yet.
    pub fn new(options: &config::Downstream, limits: &config::Limits, metrics: Arc<Metrics>) -> Result<Self, String> {
        let url = options.urls.first().ok_or("no URL is configured")?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.connect_timeout));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_mins(1)).pool_max_idle_per_host(256);
        Ok(Self {
            base: Base::parse(url)?,
            client: builder.build(connector),
            slots: Semaphore::new(options.max_concurrent),
            max_response_bytes: limits.max_response_bytes,
            metrics,
        })
    }

    /// Asks for a range part and collects its whole answer.
    pub async fn fetch(&self, part: &PartRequest) -> Result<Answer, ApiError> {
        in_time(part.deadline, async {
            let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
            let mut in_flight = InFlight::new(&self.metrics);
            let answer = self.exchange(part).await;
            in_flight.code = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
            answer
        })
        .await
    }

    async fn exchange(&self, part: &PartRequest) -> Result<Answer, ApiError> {
        let response =
            self.ask_again_if_closed(|| self.part_request(part)).await?.map_err(|error| self.unreachable(&error))?;
        let (head, body) = response.into_parts();
        let body = self.collect(&head.headers, body, self.max_response_bytes).await?;
        if head.status.is_success() {
            self.metrics.downstream_response_bytes.inc_by(body.len() as u64);
        }
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn part_request(&self, part: &PartRequest) -> Result<Request<AnyBody>, ApiError> {
        let query = Some(part.params.url_query.as_str()).filter(|query| !query.is_empty());
        let mut request = Request::new(AnyBody::empty());
        *request.method_mut() = part.method.clone();
        *request.uri_mut() = self.base.uri(&part.path, query)?;
        let headers = request.headers_mut();
        headers.extend(part.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(body) = &part.params.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            *request.body_mut() = AnyBody::from(body.clone());
        }
        Ok(request)
    }

    /// The whole body, decoded, at most `limit` bytes of it.
    async fn collect(&self, headers: &HeaderMap, mut body: Incoming, limit: u64) -> Result<Bytes, ApiError> {
        let is_gzip = match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity" | b"") => false,
            Some(gzip) if gzip.eq_ignore_ascii_case(b"gzip") || gzip.eq_ignore_ascii_case(b"x-gzip") => true,
            Some(_) => return Err(self.unusable("its content encoding was not asked for")),
        };
        // What the server says about the length is a hint, not a promise.
        let hint = body.size_hint().exact().unwrap_or(0).min(1 << 26).min(limit);
        let mut sink = Sink::new(usize::try_from(hint).unwrap_or(0), is_gzip, limit);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unusable(&format!("it ended early: {}", root_cause(&error))))?;
            if let Ok(data) = frame.into_data() {
                sink.take(&data).map_err(|problem| self.refused(&problem))?;
            }
        }
        sink.finish().map_err(|problem| self.refused(&problem))
    }

    /// Passes a request on as it is and hands the answer back as it comes.
    pub async fn forward(&self, request: Request<AnyBody>) -> Result<Response<Incoming>, ApiError> {
        let (mut head, body) = request.into_parts();
        head.uri = self.base.uri(head.uri.path(), head.uri.query())?;
        head.headers = forwarded(&head.headers);
        head.version = Version::HTTP_11;
        let response = if head.method.is_safe() && body.is_end_stream() {
            let request = || Ok(Request::from_parts(head.clone(), AnyBody::empty()));
            self.ask_again_if_closed(request).await?
        } else {
            self.client.request(Request::from_parts(head, body)).await
        };
        self.forwarded_answer(response)
    }

    /// Passes on a request whose body was already read.
    pub async fn forward_whole(
        &self,
        head: &http::request::Parts,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Incoming>, ApiError> {
        let request = || {
            let mut request = Request::new(AnyBody::from(body.clone()));
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = self.base.uri(head.uri.path(), head.uri.query())?;
            *request.headers_mut() = forwarded(&head.headers);
            Ok(request)
        };
        let response = in_time(deadline, self.ask_again_if_closed(request)).await?;
        self.forwarded_answer(response)
    }

    /// A kept connection may close just as it is used again. Then, and only then, a read is sent a second time.
    async fn ask_again_if_closed(
        &self,
        request: impl Fn() -> Result<Request<AnyBody>, ApiError>,
    ) -> Result<Result<Response<Incoming>, ClientError>, ApiError> {
        let began = Instant::now();
        match self.client.request(request()?).await {
            Err(error) if is_closed(&error) && began.elapsed() < REUSE_RACE => {
                Ok(self.client.request(request()?).await)
            }
            other => Ok(other),
        }
    }

    fn forwarded_answer(
        &self,
        response: Result<Response<Incoming>, ClientError>,
    ) -> Result<Response<Incoming>, ApiError> {
        let code = response.as_ref().map_or(0, |response| response.status().as_u16());
        self.metrics.downstream_requests.get_or_create(&CodeLabels { code }).inc();
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let headers = end_to_end(response.headers()).map(|(name, value)| (name.clone(), value.clone())).collect();
        *response.headers_mut() = headers;
        *response.version_mut() = Version::HTTP_11;
        Ok(response)
    }

    fn unreachable(&self, error: &ClientError) -> ApiError {
        let what = if error.is_connect() { "can't be reached" } else { "closed the connection" };
        ApiError::new(
            ErrorKind::Unavailable,
            format!("the downstream {} {what}: {}", self.base.authority, root_cause(error)),
        )
    }

    fn unusable(&self, problem: &str) -> ApiError {
        ApiError::new(
            ErrorKind::BadGateway,
            format!("the answer of the downstream {} can't be used: {problem}", self.base.authority),
        )
    }

    fn refused(&self, problem: &SinkError) -> ApiError {
        match problem {
            SinkError::TooLarge { limit } => ApiError::response_too_large(*limit),
            SinkError::Gzip(error) => self.unusable(&format!("its gzip stream is broken: {error}")),
            SinkError::Bomb => self.unusable("its gzip stream grows without measure"),
        }
    }
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(ApiError::too_late()))
}

/// Counts a request as in flight while it lives.
struct InFlight<'m> {
    metrics: &'m Metrics,
    began: Instant,
    /// The status code; 0 until there is one.
    code: u16,
}

impl<'m> InFlight<'m> {
    fn new(metrics: &'m Metrics) -> Self {
        metrics.downstream_in_flight.inc();
        Self { metrics, began: Instant::now(), code: 0 }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.downstream_in_flight.dec();
        self.metrics.downstream_requests.get_or_create(&CodeLabels { code: self.code }).inc();
        self.metrics.downstream_duration.observe(self.began.elapsed().as_secs_f64());
    }
}

/// Whether the connection ended before there was an answer.
fn is_closed(error: &ClientError) -> bool {
    let cause = std::error::Error::source(error);
    cause.and_then(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(|cause| {
        let reset = std::error::Error::source(cause).and_then(|io| io.downcast_ref::<std::io::Error>());
        cause.is_incomplete_message() || reset.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
    })
}

/// The innermost reason of an error: `connection refused` rather than `client error (Connect)`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
