//! One stream of a querier, from the greeting to its end.
//!
//! The frontend speaks first: it asks who the querier is. Then requests go out one at a time, and each is answered before the
//! next. The inbound half is read while the stream is idle too, for that is how a querier is missed. Whatever happens, a job
//! that was taken is given its outcome here.
//!
//! The only way to cancel a query is to end its stream, and a Cortex querier holds each end of a stream against us: from the
//! fifth on it stays away for up to a second. So a query that nobody waits for is first left to finish for a while.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::{Code, Status, Streaming};

use super::messages::{ClientToFrontend, FrontendToClient, HttpRequest, HttpResponse};
use super::options::Options;
use super::{VANISHED, headers, paths, stats};
use crate::error::{ApiError, ErrorKind};
use crate::sched::dispatch::{Dispatcher, Job};
use crate::sched::queue::words::QuerierId;

/// The longest name of a querier.
const MAX_ID_BYTES: usize = 256;
/// A Cortex querier that stops cancels what it runs, resets its streams, and then says that it leaves: all within this.
const NOTICE_FOLLOWS: Duration = Duration::from_millis(50);
/// Cortex's status code for a query that was cancelled.
const CANCELED: i32 = 499;
/// What old queriers are called, that have no name.
const UNKNOWN: &str = "unknown";

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Frontend {
    pub dispatcher: Arc<Dispatcher>,
    pub options: Options,
    /// Whether we are stopping.
    pub stopping: watch::Receiver<bool>,
    /// Told once.
    pub has_warned_of_encoding: AtomicBool,
    /// One for each stream.
    pub places: Arc<Semaphore>,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Session {
    frontend: Arc<Frontend>,
    inbound: Streaming<ClientToFrontend>,
    outbound: mpsc::Sender<Result<FrontendToClient, Status>>,
    is_ours: bool,
}

/// Why a stream ends.
#[derive(Debug)]
enum End {
    /// The querier ended it.
    Theirs(String),
    /// We end it, with `CANCELLED`: for any other status a querier would stay away longer.
    Ours(String),
}

/// What came over the inbound half.
type Inbound = Result<Option<ClientToFrontend>, Status>;

/// The name that a querier gives itself, if it is one.
pub(super) fn querier_id(id: &[u8]) -> Option<QuerierId> {
    match id {
        [] => Some(QuerierId::named(UNKNOWN)),
        id if id.len() <= MAX_ID_BYTES => Some(QuerierId::named(&String::from_utf8_lossy(id))),
        _ => None,
    }
}

impl Session {
    pub(super) fn new(
        frontend: Arc<Frontend>,
        inbound: Streaming<ClientToFrontend>,
        outbound: mpsc::Sender<Result<FrontendToClient, Status>>,
        is_ours: bool,
    ) -> Self {
        Self { frontend, inbound, outbound, is_ours }
    }

    /// From the greeting to the end.
    pub(super) async fn run(mut self) {
        let (querier, end) = match self.greet().await {
            Ok(querier) => {
                tracing::debug!(querier = querier.as_str(), "a querier opened a stream");
                let end = self.serve(&querier).await;
                (Some(querier), end)
            }
            Err(end) => (None, end),
        };
        let querier = querier.as_ref().map_or("", QuerierId::as_str);
        match end {
            End::Theirs(why) => tracing::debug!(querier, why, "a querier ended its stream"),
            End::Ours(why) => {
                tracing::debug!(querier, why, "ended a querier's stream");
                // If there is no room the querier has not read what it was sent: the stream just ends.
                let _ = self.outbound.try_send(Err(Status::cancelled(why)));
            }
        }
    }

    /// Asks who the querier is.
    async fn greet(&mut self) -> Result<QuerierId, End> {
        // There is room for a first message.
        let _ = self.outbound.try_send(Ok(FrontendToClient::get_id()));
        let mut stopping = self.frontend.stopping.clone();
        let answer = tokio::select! {
            answer = tokio::time::timeout(self.frontend.options.greeting, self.inbound.message()) => answer,
            () = is_true(&mut stopping) => return Err(stopped()),
        };
        match answer {
            Ok(Ok(Some(answer))) => querier_id(&answer.client_id)
                .ok_or_else(|| End::Ours(format!("the querier's id has more than {MAX_ID_BYTES} bytes"))),
            Ok(ended) => Err(end_of(ended)),
            Err(_) => Err(End::Ours("the querier did not say who it is".to_owned())),
        }
    }

    /// Takes job after job.
    async fn serve(&mut self, querier: &QuerierId) -> End {
        let mut slot = self.frontend.dispatcher.attach(querier);
        let mut stopping = self.frontend.stopping.clone();
        loop {
            let job = tokio::select! {
                biased;
                message = self.inbound.message() => return end_of(message),
                () = is_true(&mut stopping) => return stopped(),
                job = slot.next() => job,
            };
            if let ControlFlow::Break(end) = self.run_job(job).await {
                return end;
            }
        }
    }

    /// One request, and what comes of it.
    async fn run_job(&mut self, mut job: Job) -> ControlFlow<End> {
        let Some(message) = self.request(&job) else {
            job.answer_whole(not_found(), None);
            return ControlFlow::Continue(());
        };
        let (length, limit) = (message.encoded_len(), self.frontend.options.max_message_bytes);
        if length > limit {
            let message = format!(
                "the request has {length} bytes on its way to a querier, and the limit is {limit} \
                 (sched.grpc_max_message_bytes); ask for less"
            );
            job.unusable(ApiError::new(ErrorKind::BadData, message));
            return ControlFlow::Continue(());
        }
        tokio::select! {
            biased;
            message = self.inbound.message() => {
                job.unsent();
                return ControlFlow::Break(end_of(message));
            }
            room = self.outbound.reserve() => {
                let Ok(room) = room else {
                    job.unsent();
                    return ControlFlow::Break(End::Theirs("the querier does not listen".to_owned()));
                };
                room.send(Ok(message));
            }
            () = job.abandoned() => {
                job.given_up();
                return ControlFlow::Continue(());
            }
        }
        self.await_answer(job).await
    }

    /// The request as the querier takes it. None if it is not for queriers.
    fn request(&self, job: &Job) -> Option<FrontendToClient> {
        let (outgoing, options) = (job.outgoing(), &self.frontend.options);
        let url = paths::url(&options.path_prefix, &outgoing.method, &outgoing.path, &outgoing.query)?;
        let request = HttpRequest {
            method: Bytes::copy_from_slice(outgoing.method.as_str().as_bytes()),
            url: url.into(),
            headers: headers::of_tenant(&outgoing.headers, job.tenant()),
            body: outgoing.body.clone(),
        };
        Some(FrontendToClient::run(request, options.wants_stats))
    }

    /// The querier has the request.
    async fn await_answer(&mut self, mut job: Job) -> ControlFlow<End> {
        tokio::select! {
            biased;
            message = self.inbound.message() => {
                if !self.is_ours && is_let_go(&message) {
                    // Whether it leaves is known a moment later, and then this counts as no try.
                    tokio::time::sleep(NOTICE_FOLLOWS).await;
                }
                return self.answered(job, message);
            }
            () = job.abandoned() => {}
        }
        // Nobody waits any more.
        let late = if self.is_ours {
            None
        } else {
            tokio::time::timeout(self.frontend.options.grace, self.inbound.message()).await.ok()
        };
        job.given_up();
        match late {
            None => ControlFlow::Break(End::Ours("nobody waits for the answer any more".to_owned())),
            Some(Ok(Some(ClientToFrontend { http_response: Some(_), .. }))) => ControlFlow::Continue(()),
            Some(message) => ControlFlow::Break(end_of(message)),
        }
    }

    /// Hands an answer on, or what came instead of it.
    fn answered(&self, job: Job, message: Inbound) -> ControlFlow<End> {
        match message {
            Ok(Some(ClientToFrontend { http_response: Some(response), stats, .. })) => {
                match to_http(response) {
                    Ok(response) if self.is_ours && response.headers().contains_key(VANISHED) => {
                        job.vanished("the server beside the querier went away before it answered");
                    }
                    Ok(response) => job.answer_whole(response, stats::wall_time(&stats)),
                    Err(code) => job.unusable(bad_gateway(&format!("has the status code {code}"))),
                }
                ControlFlow::Continue(())
            }
            Ok(Some(_)) => {
                job.unusable(bad_gateway("holds no HTTP response"));
                ControlFlow::Break(End::Ours("an answer without an HTTP response".to_owned()))
            }
            // Ours end their half only between requests.
            Ok(None) if self.is_ours => {
                job.unsent();
                ControlFlow::Break(end_of(message))
            }
            // It lives: a Cortex querier that stops resets its streams, and says so only then. So that is no sign that the query
            // ended it. (A reset by CANCEL is told as a clean end.)
            Ok(None) => {
                job.declined("the querier ended its stream before it answered");
                ControlFlow::Break(end_of(message))
            }
            Err(status) => {
                match unreadable(&status, self.frontend.options.max_message_bytes) {
                    Some(error) => job.unusable(error),
                    None => job.vanished(&format!("the querier left before it answered: {}", status.message())),
                }
                ControlFlow::Break(end_of(Err(status)))
            }
        }
    }
}

/// Whether a querier let go of a request that nobody had cancelled.
fn is_let_go(message: &Inbound) -> bool {
    match message {
        Ok(None) => true,
        Ok(Some(answer)) => answer.http_response.as_ref().is_some_and(|response| response.code == CANCELED),
        Err(_) => false,
    }
}

/// Why a stream ends that is idle, or has not begun, by what came over it.
fn end_of(message: Inbound) -> End {
    match message {
        Ok(Some(_)) => End::Ours("a message that nothing was asked for".to_owned()),
        Ok(None) => End::Theirs("it is done".to_owned()),
        Err(status) if is_about_a_message(&status) => {
            End::Ours(format!("a message that can't be read: {}", status.message()))
        }
        Err(status) => End::Theirs(status.message().to_owned()),
    }
}

/// Waits until it is, or until nobody can make it so.
pub(super) async fn is_true(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|is_so| *is_so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn stopped() -> End {
    End::Ours("the frontend is shutting down".to_owned())
}

/// Whether a message was the trouble, not the connection. Troubles of connections have a cause.
fn is_about_a_message(status: &Status) -> bool {
    let is_of_decoding =
        matches!(status.code(), Code::OutOfRange | Code::Internal | Code::ResourceExhausted | Code::Unimplemented);
    is_of_decoding && std::error::Error::source(status).is_none()
}

/// The error for an answer that came and cannot be read; it would be the same elsewhere.
fn unreadable(status: &Status, limit: usize) -> Option<ApiError> {
    if !is_about_a_message(status) {
        return None;
    }
    if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) {
        let message = format!(
            "the answer of a querier is larger than {limit} bytes (sched.grpc_max_message_bytes); ask for fewer series or a \
             coarser step"
        );
        return Some(ApiError::new(ErrorKind::Execution, message));
    }
    Some(bad_gateway(&format!("can't be read: {}", status.message())))
}

fn bad_gateway(problem: &str) -> ApiError {
    ApiError::new(ErrorKind::BadGateway, format!("the answer of a querier {problem}"))
}

/// A querier's answer as an HTTP response, or the code that is none for an answer.
fn to_http(answer: HttpResponse) -> Result<Response<Bytes>, i32> {
    let status = u16::try_from(answer.code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    // 1xx are not answers, and above 599 there are none.
    let status = status.filter(|status| (200..600).contains(&status.as_u16())).ok_or(answer.code)?;
    let mut response = Response::new(answer.body);
    *response.status_mut() = status;
    *response.headers_mut() = headers::from_list(&answer.headers);
    Ok(response)
}

/// What is not of the query API does not go to queriers.
fn not_found() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(paths::NOT_OF_QUERY_API.as_bytes()));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
