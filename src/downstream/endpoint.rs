//! One server: requests go to it over HTTP/1.1, with the headers that are to be passed on and the credentials of now.
//!
//! Dropping a future here drops the connection, which is how a client that left stops the work downstream. Redirects are
//! handed on, never followed. A kept connection may close just as it is used again: then, and only then, a read is sent a
//! second time.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body as AnyBody;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Response, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::connect::{Connector, OpenedAt, Tls, root_cause};
use super::credentials::Credentials;
use super::headers::{Forwarding, end_to_end};
use super::url::{DownstreamUrl, Scheme};
use super::watched::{Source, Watched};
use crate::config;
use crate::discovery::Server;
use crate::request::Outgoing;
use crate::tls::{Pem, TlsFiles, Trust};

/// A kept connection that the server had closed already ends at once; later it is the server that ended over the query.
const REUSE_RACE: Duration = Duration::from_millis(250);
/// So many kept connections are found closed, one after the other, before that is told.
const MOST_CLOSED: u32 = 3;
/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// At most so many connections to one server wait for being used.
const MOST_IDLE: usize = 256;

/// One server. All its clones share its connections.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    name: String,
    scheme: Scheme,
    /// Where to connect.
    authority: Authority,
    host: HeaderValue,
    prefix: String,
    client: Client<Connector, AnyBody>,
    manner: Arc<Manner>,
}

/// How all servers are spoken with.
#[derive(Debug)]
pub(super) struct Manner {
    forwarding: Forwarding,
    credentials: Credentials,
    /// Nothing if no server speaks TLS.
    tls: Option<Arc<Watched<Arc<ClientConfig>>>>,
    /// Instead of the host's own.
    server_name: Option<String>,
    connect_timeout: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection: it was refused, or the server did not prove who it is.
    #[error("{0}")]
    Unreachable(String),
    /// The connection ended before there was an answer.
    #[error("{0}")]
    Vanished(String),
    /// The request has no URL there.
    #[error("{0}")]
    Unsendable(String),
}

impl Manner {
    /// Reads the files, which are followed from then on. Inside of a tokio runtime.
    pub(super) fn open(options: &config::Downstream, has_tls: bool) -> Result<Self, String> {
        let tls = has_tls.then(|| Watched::open(TlsSource::new(&options.tls))).transpose()?;
        Ok(Self {
            forwarding: Forwarding::parse(&options.forward_headers)
                .map_err(|problem| format!("downstream.forward_headers: {problem}"))?,
            credentials: Credentials::open(options)?,
            tls: tls.map(Arc::new),
            server_name: Some(options.tls.server_name.clone()).filter(|name| !name.is_empty()),
            connect_timeout: options.connect_timeout,
        })
    }

    fn tls(&self, scheme: Scheme, server: &Server) -> Option<Tls> {
        let configuration = self.tls.as_ref().filter(|_| scheme == Scheme::Https)?;
        let name = self.server_name.as_deref().unwrap_or(server.host.trim_end_matches('.'));
        Some(Tls { configuration: Arc::clone(configuration), name: name.to_owned() })
    }
}

/// Certificates as they are configured.
struct TlsSource {
    files: TlsFiles,
    trust: Trust,
}

impl TlsSource {
    fn new(tls: &config::Tls) -> Self {
        let files = TlsFiles { ca: tls.ca_file.clone(), cert: tls.cert_file.clone(), key: tls.key_file.clone() };
        Self { files, trust: if tls.insecure_skip_verify { Trust::Anybody } else { Trust::Proven } }
    }
}

impl Source for TlsSource {
    type Held = Pem;
    type Made = Arc<ClientConfig>;

    fn option(&self) -> &'static str {
        "downstream.tls"
    }

    fn read(&self) -> Result<Pem, String> {
        self.files.read()
    }

    fn make(&self, held: &Pem) -> Result<Arc<ClientConfig>, String> {
        self.files.configuration(held, self.trust).map(Arc::new)
    }
}

impl Endpoint {
    /// Nothing is connected yet.
    pub(super) fn new(url: &DownstreamUrl, server: &Server, manner: &Arc<Manner>) -> Result<Self, String> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MOST_IDLE);
        let (name, host) = (url.name_of(server), url.host_of(server));
        Ok(Self(Arc::new(Inner {
            scheme: url.scheme,
            authority: server.address.parse().map_err(|error| format!("{name} is no address: {error}"))?,
            host: host.parse().map_err(|error| format!("{name}: {host:?} is no host: {error}"))?,
            prefix: url.prefix.clone(),
            client: builder.build(Connector::new(manner.connect_timeout, manner.tls(url.scheme, server))),
            manner: Arc::clone(manner),
            name,
        })))
    }

    /// Its URL, as it stands in messages: `http://10.0.0.1:9090/prefix`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it is the same server over the same connections.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The `Host` of its requests.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.0.host
    }

    /// Sends a read that is held whole.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Response<Incoming>, SendError> {
        let query = Some(outgoing.query.as_str()).filter(|query| !query.is_empty());
        let uri = self.uri(&outgoing.path, query)?;
        let mut headers = self.headers(&outgoing.headers);
        headers.remove(header::CONTENT_LENGTH);
        let request = || {
            let mut request = Request::new(AnyBody::from(outgoing.body.clone()));
            *request.method_mut() = outgoing.method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        self.answered(self.ask_again_if_closed(request).await)
    }

    /// Passes a request on as it comes, and hands the answer back as it comes.
    pub async fn forward(&self, request: Request<AnyBody>) -> Result<Response<Incoming>, SendError> {
        let (mut head, body) = request.into_parts();
        head.uri = self.uri(head.uri.path(), head.uri.query())?;
        head.headers = self.headers(&head.headers);
        head.version = Version::HTTP_11;
        let answer = if head.method.is_safe() && body.is_end_stream() {
            self.ask_again_if_closed(|| Request::from_parts(head.clone(), AnyBody::empty())).await
        } else {
            self.0.client.request(Request::from_parts(head, body)).await
        };
        self.answered(answer)
    }

    fn uri(&self, path: &str, query: Option<&str>) -> Result<Uri, SendError> {
        let Inner { scheme, authority, prefix, .. } = &*self.0;
        let target = match query {
            Some(query) => format!("{prefix}{path}?{query}"),
            None => format!("{prefix}{path}"),
        };
        let unusable = |error: &dyn fmt::Display| SendError::Unsendable(format!("the URL can't be passed on: {error}"));
        let target: PathAndQuery = target.parse().map_err(|error| unusable(&error))?;
        let parts = Uri::builder().scheme(scheme.name()).authority(authority.clone()).path_and_query(target);
        parts.build().map_err(|error| unusable(&error))
    }

    fn headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut headers = self.0.manner.forwarding.apply(headers);
        headers.insert(header::HOST, self.0.host.clone());
        if let Some(shown) = self.0.manner.credentials.header() {
            headers.insert(header::AUTHORIZATION, shown);
        }
        headers
    }

    async fn ask_again_if_closed(
        &self,
        request: impl Fn() -> Request<AnyBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let began = Instant::now();
            let answer = self.0.client.request(request()).await;
            let was_closed = |error: &ClientError| {
                is_closed(error)
                    && began.elapsed() < REUSE_RACE
                    && opened_at(error).is_some_and(|opened| opened < began)
            };
            if tries > MOST_CLOSED || !answer.as_ref().is_err_and(was_closed) {
                return answer;
            }
        }
    }

    fn answered(&self, answer: Result<Response<Incoming>, ClientError>) -> Result<Response<Incoming>, SendError> {
        let mut answer = answer.map_err(|error| {
            let told = |what: &str| format!("the downstream {} {what}: {}", self.name(), root_cause(&error));
            if error.is_connect() {
                SendError::Unreachable(told("can't be reached"))
            } else if is_closed(&error) {
                SendError::Vanished(told("closed the connection"))
            } else {
                SendError::Unreachable(told("sent no HTTP and closed the connection"))
            }
        })?;
        let headers = end_to_end(answer.headers()).map(|(name, value)| (name.clone(), value.clone())).collect();
        *answer.headers_mut() = headers;
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.0.name).finish()
    }
}

/// When the connection was opened that an error is about.
fn opened_at(error: &ClientError) -> Option<Instant> {
    let mut extras = http::Extensions::new();
    error.connect_info()?.get_extras(&mut extras);
    extras.get::<OpenedAt>().map(|OpenedAt(at)| *at)
}

/// Whether the connection ended before there was an answer.
fn is_closed(error: &ClientError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    cause.is_some_and(|cause| {
        let io = cause.source().and_then(|io| io.downcast_ref::<io::Error>()).map(io::Error::kind);
        // A TLS connection that ends without a farewell is told as an unexpected end.
        let ended = [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::UnexpectedEof,
        ];
        cause.is_incomplete_message() || io.is_some_and(|io| ended.contains(&io))
    })
}
