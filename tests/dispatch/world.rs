//! A dispatcher with nothing around it: the test asks, and the test is the queriers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use promfront::config::{Config, Sched};
use promfront::error::{ApiError, ErrorKind};
use promfront::metrics::Metrics;
use promfront::model::tenant::TenantId;
use promfront::request::Outgoing;
use promfront::sched::dispatch::{Dispatcher, Job, Slot, Standing, Submission};
use promfront::sched::queue::words::{Fingerprint, Lane, QuerierId, Source};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// What comes back from `ask`.
pub type Reply = Result<Response<Body>, ApiError>;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
/// Longer than a request of these tests may wait for a querier that fails to rest.
pub const LONG: Duration = Duration::from_mins(2);

/// A dispatcher and what it counts.
#[derive(Clone, Debug)]
pub struct World {
    pub dispatcher: Arc<Dispatcher>,
    pub metrics: Arc<Metrics>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Sched::default())
    }

    pub fn with(sched: Sched) -> Self {
        let metrics = Arc::new(Metrics::new());
        let config = Config { sched, ..Config::default() };
        Self { dispatcher: Dispatcher::new(&config, Arc::clone(&metrics)), metrics }
    }

    /// Asks in a task of its own. Aborting it is a client that leaves.
    pub fn ask(&self, request: Request) -> JoinHandle<Reply> {
        let dispatcher = Arc::clone(&self.dispatcher);
        tokio::spawn(async move { dispatcher.ask(request.submission()).await })
    }

    pub fn slot(&self, querier: &str) -> Slot {
        self.dispatcher.attach(&QuerierId::named(querier))
    }

    pub fn leaving(&self, querier: &str) {
        self.dispatcher.leaving(&QuerierId::named(querier));
    }

    /// How many wait and how many run.
    pub fn counts(&self) -> (usize, usize) {
        let snapshot = self.dispatcher.snapshot();
        let lanes = snapshot.lanes.values();
        (lanes.iter().map(|lane| lane.waiting).sum(), lanes.iter().map(|lane| lane.running).sum())
    }

    /// A sample of the table, by its name and labels; 0 if it is not there.
    pub fn metric(&self, name: &str) -> i64 {
        let table = self.metrics.encode();
        let sample = table.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.map_or(0, |value| value.parse().expect("a whole number"))
    }

    pub fn failed_tries(&self, result: &str) -> i64 {
        self.metric(&format!("promfront_downstream_failed_tries_total{{result=\"{result}\"}}"))
    }

    pub fn dropped(&self, reason: &str) -> i64 {
        self.metric(&format!("promfront_queue_dropped_total{{reason=\"{reason}\"}}"))
    }

    /// Nothing waits, nothing runs, and the gauges say so.
    pub async fn is_at_rest(&self) {
        calm().await;
        assert_eq!(self.counts(), (0, 0), "nothing waits and nothing runs");
        assert_eq!(self.metric("promfront_downstream_requests_in_flight"), 0);
        self.dispatcher.report();
        for lane in Lane::ALL {
            assert_eq!(self.metric(&format!("promfront_queue_length{{lane=\"{}\"}}", lane.as_str())), 0);
        }
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    name: String,
    tenant: &'static str,
    lane: Lane,
    timeout: Duration,
    fingerprint: Option<u64>,
}

/// A request whose path tells which one it is.
pub fn request(name: &str) -> Request {
    Request { name: name.to_owned(), tenant: "anonymous", lane: Lane::Small, timeout: LONG, fingerprint: None }
}

impl Request {
    pub fn of(self, tenant: &'static str) -> Self {
        Self { tenant, ..self }
    }

    pub fn in_lane(self, lane: Lane) -> Self {
        Self { lane, ..self }
    }

    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The work that it is; otherwise no other request is the same work.
    pub fn like(self, fingerprint: u64) -> Self {
        Self { fingerprint: Some(fingerprint), ..self }
    }

    pub fn submission(self) -> Submission {
        let fingerprint = self.fingerprint.unwrap_or_else(|| xxhash_rust::xxh3::xxh3_64(self.name.as_bytes()));
        let mut headers = HeaderMap::new();
        headers.insert("x-kept", "as it was".parse().expect("a header's value"));
        Submission {
            outgoing: Outgoing {
                method: Method::POST,
                path: self.name,
                query: "query=up".to_owned(),
                headers,
                body: Bytes::from_static(b"sent as it is"),
            },
            deadline: (Instant::now() + self.timeout).into_std(),
            standing: Standing {
                tenant: TenantId::named(self.tenant),
                source: Source::default(),
                lane: self.lane,
                cost: 1000,
                fingerprint: Fingerprint(fingerprint),
            },
        }
    }
}

/// Lets everything happen that can happen now: the paused clock moves only when all tasks wait.
pub async fn calm() {
    tokio::time::sleep(MS).await;
}

/// Time passes.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// What a slot is given now.
pub async fn at_once(slot: &mut Slot) -> Job {
    timeout(MS, slot.next()).await.expect("there is something for the slot at once")
}

/// What a slot is given before long, if its querier rests for a moment.
pub async fn soon(slot: &mut Slot) -> Job {
    timeout(SECOND, slot.next()).await.expect("there is something for the slot within a second")
}

/// A slot is given nothing for so long.
pub async fn nothing(slot: &mut Slot, time: Duration) {
    if let Ok(job) = timeout(time, slot.next()).await {
        panic!("the slot of {:?} is given {}", slot.querier(), job.outgoing().path);
    }
}

pub fn name(job: &Job) -> &str {
    &job.outgoing().path
}

/// An answer with this status and body.
pub fn answer(status: u16, body: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// A server that says that it cannot now, whatever it is asked.
pub fn not_ready(body: &str) -> Response<Bytes> {
    answer(503, body)
}

/// What came back to a client, within some minutes.
pub async fn reply(asked: JoinHandle<Reply>) -> Reply {
    timeout(3 * LONG, asked).await.expect("every ask ends").expect("and does not panic")
}

/// An answer's status and body.
pub async fn answered(asked: JoinHandle<Reply>) -> (u16, String) {
    let (head, body) = reply(asked).await.expect("it is an answer").into_parts();
    let body = body.collect().await.expect("the body is whole").to_bytes();
    (head.status.as_u16(), String::from_utf8(body.into()).expect("text"))
}

/// The error that a client got.
pub async fn refused(asked: JoinHandle<Reply>) -> (ErrorKind, String) {
    match reply(asked).await {
        Ok(response) => panic!("an answer with status {} where an error is due", response.status()),
        Err(ApiError { kind, message }) => (kind, message),
    }
}
