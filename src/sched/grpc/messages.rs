//! The messages of `frontend.Frontend` and `httpgrpc`.
//!
//! Written by hand, so that building needs no compiler for protobuf. Go reads and writes strings without looking whether they
//! are UTF-8, so they are bytes here: a strange byte in a header must not end a stream. The statistics are bytes too, because
//! Cortex and Mimir fill the same numbers with different types.

use bytes::Bytes;

/// An HTTP request inside of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpRequest {
    /// `GET` or `POST`.
    #[prost(bytes = "bytes", tag = "1")]
    pub method: Bytes,
    /// Path and query.
    #[prost(bytes = "bytes", tag = "2")]
    pub url: Bytes,
    /// Each name once.
    #[prost(message, repeated, tag = "3")]
    pub headers: Vec<Header>,
    /// The whole body.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
}

/// An HTTP response inside of a message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpResponse {
    /// The status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// As the sender holds them.
    #[prost(message, repeated, tag = "2")]
    pub headers: Vec<Header>,
    /// The whole body.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
}

/// A header with all its values.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Header {
    /// Its name, as Go writes it.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// At least one, or a querier's process ends.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub values: Vec<Bytes>,
}

/// What a frontend wants of a querier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Run the request. It is the zero value, so an empty message wants this too.
    HttpRequest = 0,
    /// Say who you are.
    GetId = 1,
}

/// From the frontend to the querier.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FrontendToClient {
    /// Always there: a querier's process ends without.
    #[prost(message, optional, tag = "1")]
    pub http_request: Option<HttpRequest>,
    /// What is wanted.
    #[prost(enumeration = "Kind", tag = "2")]
    pub kind: i32,
    /// Whether statistics are wanted with the answer.
    #[prost(bool, tag = "3")]
    pub stats_enabled: bool,
}

/// From the querier to the frontend.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientToFrontend {
    /// The answer to the request.
    #[prost(message, optional, tag = "1")]
    pub http_response: Option<HttpResponse>,
    /// The answer to [`Kind::GetId`].
    #[prost(bytes = "bytes", tag = "2")]
    pub client_id: Bytes,
    /// What it cost, in one of two dialects.
    #[prost(bytes = "bytes", tag = "3")]
    pub stats: Bytes,
}

/// A querier announces that it leaves.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NotifyClientShutdownRequest {
    /// Who.
    #[prost(bytes = "bytes", tag = "1")]
    pub client_id: Bytes,
}

/// That was heard.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct NotifyClientShutdownResponse {}

impl FrontendToClient {
    /// Asks who the querier is. Queriers that do not know the question run the request, and get an error that nobody sees.
    pub fn get_id() -> Self {
        let request = HttpRequest {
            method: Bytes::from_static(b"GET"),
            url: Bytes::from_static(b"/invalid_request_sent_by_frontend"),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        Self { http_request: Some(request), kind: Kind::GetId.into(), stats_enabled: false }
    }

    /// Wants a request to be run.
    pub fn run(request: HttpRequest, stats_enabled: bool) -> Self {
        Self { http_request: Some(request), kind: Kind::HttpRequest.into(), stats_enabled }
    }
}

impl ClientToFrontend {
    /// Says who the querier is.
    pub fn id(id: &str) -> Self {
        Self { http_response: None, client_id: Bytes::copy_from_slice(id.as_bytes()), stats: Bytes::new() }
    }

    /// Answers a request.
    pub fn answer(response: HttpResponse) -> Self {
        Self { http_response: Some(response), client_id: Bytes::new(), stats: Bytes::new() }
    }
}
