//! Runs one request on the server beside us, and holds its whole answer.
//!
//! Only the query API is asked, whatever a frontend wants. What goes wrong here is an answer too: the frontend decides whether
//! somebody else is asked. Dropping the future drops the connection to the server, which is how a query is cancelled.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;

use crate::config;
use crate::downstream::endpoint::{Endpoint, SendError};
use crate::downstream::endpoints::Endpoints;
use crate::error::{ApiError, ErrorKind};
use crate::request::Outgoing;
use crate::sched::grpc::messages::{ClientToFrontend, Header, HttpRequest, HttpResponse};
use crate::sched::grpc::{VANISHED, headers, paths};

/// Asks the servers, each in its turn.
#[derive(Debug)]
pub(super) struct Executor {
    endpoints: Endpoints,
    turn: AtomicUsize,
    timeout: Duration,
    max_message_bytes: usize,
}

impl Executor {
    pub(super) fn new(
        downstream: &config::Downstream,
        discovery: &config::Discovery,
        max_message_bytes: usize,
    ) -> Result<Self, String> {
        let endpoints = Endpoints::open(downstream, discovery)?;
        Ok(Self { endpoints, turn: AtomicUsize::new(0), timeout: downstream.timeout, max_message_bytes })
    }

    /// The answer to a request, always.
    pub(super) async fn execute(&self, request: HttpRequest) -> ClientToFrontend {
        let Some(outgoing) = outgoing(request) else {
            return plain(404, "application/json", paths::NOT_OF_QUERY_API.to_owned());
        };
        match tokio::time::timeout(self.timeout, self.ask(&outgoing)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => failed(&error),
            Err(_) => failed(&ApiError::too_late()),
        }
    }

    async fn ask(&self, outgoing: &Outgoing) -> Result<ClientToFrontend, ApiError> {
        let endpoints = self.endpoints.current();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut trouble = ApiError::new(ErrorKind::BadGateway, "the querier knows no server to ask (downstream.urls)");
        for turn in 0..endpoints.len() {
            let endpoint = &endpoints[first.wrapping_add(turn) % endpoints.len()];
            match endpoint.send(outgoing).await {
                Ok(response) => return self.collected(endpoint, response).await,
                // It never got there, so the next one may have it.
                Err(SendError::Unreachable(why)) => trouble = ApiError::new(ErrorKind::BadGateway, why),
                Err(SendError::Vanished(why)) => return Ok(vanished(why)),
                Err(SendError::Unsendable(why)) => return Err(ApiError::new(ErrorKind::BadData, why)),
            }
        }
        Err(trouble)
    }

    /// The whole answer, if it fits into a message.
    async fn collected(&self, endpoint: &Endpoint, response: Response<Incoming>) -> Result<ClientToFrontend, ApiError> {
        let (head, mut body) = response.into_parts();
        let mut collected = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let problem = format!("the answer of {} ended early: {error}", endpoint.name());
                ApiError::new(ErrorKind::BadGateway, problem)
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if collected.len() + data.len() > self.max_message_bytes {
                return Ok(self.too_large(collected.len() + data.len()));
            }
            collected.extend_from_slice(&data);
        }
        let response = HttpResponse {
            code: i32::from(head.status.as_u16()),
            headers: headers::to_list(&head.headers),
            body: collected.freeze(),
        };
        let answer = ClientToFrontend::answer(response);
        let length = answer.encoded_len();
        Ok(if length > self.max_message_bytes { self.too_large(length) } else { answer })
    }

    /// In the words of a Cortex querier.
    fn too_large(&self, length: usize) -> ClientToFrontend {
        let text = format!("response larger than the max ({length} vs {})", self.max_message_bytes);
        plain(413, "text/plain; charset=utf-8", text)
    }
}

/// What a frontend wants to be asked. None if that is not of the query API.
fn outgoing(request: HttpRequest) -> Option<Outgoing> {
    let method = Method::from_bytes(&request.method).ok()?;
    let url = std::str::from_utf8(&request.url).ok()?;
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let path = paths::of_query_api(&method, path)?.to_owned();
    let headers = headers::from_list(&request.headers);
    Some(Outgoing { method, path, query: query.to_owned(), headers, body: request.body })
}

/// The server went away with the query: so the frontend has to know that, and not only that there is no answer.
fn vanished(why: String) -> ClientToFrontend {
    let mut answer = failed(&ApiError::new(ErrorKind::BadGateway, why));
    if let Some(response) = &mut answer.http_response {
        let key = Bytes::from_static(VANISHED.as_bytes());
        response.headers.push(Header { key, values: vec![Bytes::from_static(b"true")] });
    }
    answer
}

fn failed(error: &ApiError) -> ClientToFrontend {
    plain(i32::from(error.kind.status().as_u16()), "application/json", error.to_json())
}

fn plain(code: i32, kind: &'static str, body: String) -> ClientToFrontend {
    let kind = Header { key: Bytes::from_static(b"Content-Type"), values: vec![Bytes::from_static(kind.as_bytes())] };
    ClientToFrontend::answer(HttpResponse { code, headers: vec![kind], body: body.into() })
}
