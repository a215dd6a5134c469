//! The stages of a range query, in the order in which it meets them.
//!
//! Down: limits → plan (its text is read, once) → look up → cut what is missing → one in flight → downstream.
//! Up: scan → keep → assemble → merge → write. One way down, one way up; each stage is entered once, and each decision is a
//! pure function of a lower floor. What a stage does not understand leaves the pipeline here: it passes whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::{Method, StatusCode, header};

use crate::cache::coalesce::Coalescer;
use crate::cache::key::{Identity, Slots};
use crate::cache::layer::{CacheKey, ExtentCache};
use crate::cache::plan::{Lookup, assemble};
use crate::config::{Config, Limits};
use crate::downstream::engine::{Engine, EngineProbe};
use crate::downstream::http::{Answer, Downstream, PartRequest, names_no_store};
use crate::error::{ApiError, ErrorKind};
use crate::merge::{merge_annotations, merge_series, merge_stats};
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::response::{Piece, RangeAnswer};
use crate::model::time::millis;
use crate::promql::{self, Facts, WholeRange};
use crate::request::{Context, PlannedQuery, RangeQuery};
use crate::split::layer::fetch_parts;
use crate::split::plan::{SplitPolicy, plan_parts};
use crate::wire::response::{Foreign, Refused, Writer, scan};

/// Headers by which the servers we know tell their callers apart.
const CALLER_HEADERS: [&str; 7] =
    ["authorization", "cookie", "x-scope-orgid", "thanos-tenant", "x-id-token", "x-grafana-id", "x-grafana-user"];

/// What Prometheus adds to an answer that `limit` made shorter.
const TRUNCATED: &str = "\"results truncated due to limit\"";

/// What becomes of series beyond the client's `limit`.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// There is none, or the server does not know the parameter.
    Off,
    /// So many are kept, as the server would.
    Truncate(u64),
    /// It is not known what the server would do with more than so many.
    Unknown(u64),
}

/// Everything that a range query meets on its way.
#[derive(Debug)]
pub struct Pipeline {
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    flights: Coalescer<FlightKey, Result<Fetched, PartFailure>>,
    limits: Limits,
    split: SplitPolicy,
    key_headers: Vec<HeaderName>,
    engine: EngineProbe,
    metrics: Arc<Metrics>,
}

/// A range query as it came in.
#[derive(Debug)]
pub struct Incoming {
    /// Its method.
    pub method: Method,
    /// Its path, whatever stands before `/api/v1/query_range`.
    pub path: String,
    /// Its headers.
    pub headers: Arc<HeaderMap>,
    /// What it asks.
    pub query: RangeQuery,
    /// In which circumstances.
    pub context: Context,
}

/// What becomes of a range query.
#[derive(Debug)]
pub enum Reply {
    /// An answer, as chunks of its body.
    Answer {
        /// The body.
        chunks: Vec<Bytes>,
        /// Whether a part of it came with `Cache-Control: no-store`.
        is_no_store: bool,
    },
    /// The downstream's own refusal, to be handed on as it is.
    Theirs(Arc<Answer>),
    /// A refusal of ours.
    Ours(ApiError),
    /// The request is to be passed on whole.
    PassWhole,
}

/// The words of `X-Promfront-Result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All of it was held.
    Hit,
    /// Some of it was held.
    PartialHit,
    /// None of it was held.
    Miss,
    /// None was held, and somebody else had just asked for it.
    Coalesced,
    /// The cache was not consulted.
    Bypass,
    /// There is no answer.
    Error,
}

impl Status {
    /// As it stands in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::PartialHit => "phit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }
}

/// What happened, for headers, metrics and logs.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// In one word.
    pub status: Status,
    /// Why it was not a hit.
    pub reason: &'static str,
    /// Pieces that the answer is made of.
    pub pieces: usize,
    /// Pieces among them that were held.
    pub held: usize,
    /// What was asked for downstream.
    pub fetched: Vec<StepGrid>,
    /// Time spent looking up.
    pub cache: Duration,
    /// Time spent waiting for parts.
    pub downstream: Duration,
    /// Time spent merging and writing.
    pub merge: Duration,
}

impl Verdict {
    /// A verdict with nothing but a word and its reason.
    pub fn new(status: Status, reason: &'static str) -> Self {
        let none = Duration::ZERO;
        Self { status, reason, pieces: 0, held: 0, fetched: Vec::new(), cache: none, downstream: none, merge: none }
    }
}

/// A flight is shared by those who would send the same bytes and wait equally long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    identity: Arc<[u8]>,
    grid: StepGrid,
    timeout: Option<Duration>,
}

/// A part's answer.
#[derive(Clone, Debug)]
struct Fetched {
    answer: Arc<RangeAnswer>,
    is_no_store: bool,
}

/// Why there is no answer to a part.
#[derive(Clone, Debug)]
enum PartFailure {
    Ours(ApiError),
    Theirs(Arc<Answer>),
    Foreign(Foreign),
}

impl PartFailure {
    /// Whether a second try, not bound to somebody else's, may fare better.
    fn is_of_the_moment(&self) -> bool {
        match self {
            Self::Ours(error) => matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::BadGateway),
            Self::Theirs(answer) => answer.status.is_server_error(),
            Self::Foreign(_) => false,
        }
    }
}

impl Pipeline {
    /// The stages, as configured.
    pub fn new(config: &Config, downstream: Arc<Downstream>, cache: Arc<ExtentCache>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let configured = config.cache.key_headers.iter().map(String::as_str);
        let key_headers: Result<Vec<_>, _> = CALLER_HEADERS
            .into_iter()
            .chain(configured)
            .map(|name| HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("cache.key_headers: {name:?} is not a header's name")))
            .collect();
        Ok(Self {
            downstream,
            cache,
            flights: Coalescer::default(),
            limits: config.limits,
            split: SplitPolicy { interval_ms: millis(config.split.interval), max_parts: config.split.max_parts },
            key_headers: key_headers?,
            engine: EngineProbe::default(),
            metrics,
        })
    }

    /// Answers a range query.
    pub async fn answer(&self, incoming: Incoming) -> (Reply, Verdict) {
        if let Err(error) = self.check_limits(&incoming.query) {
            return (Reply::Ours(error), Verdict::new(Status::Error, "limit"));
        }
        let facts = match self.read(&incoming).await {
            Ok(facts) => facts,
            Err(reason) => return (Reply::PassWhole, Verdict::new(Status::Bypass, reason)),
        };
        let incoming = Arc::new(plan(incoming, facts));
        let key = self.key(&incoming);
        let bypass = bypass_reason(&incoming);
        let mut verdict = Verdict::new(Status::Bypass, bypass.unwrap_or_default());

        let began = Instant::now();
        let (grid, now) = (incoming.planned.query.grid, incoming.context.now);
        let lookup = match bypass {
            Some(_) => Lookup::all_missing(grid),
            None => self.cache.look_up(&key, &grid, now),
        };
        let parts = plan_parts(&lookup.missing, incoming.planned.facts.widest_range_ms(), &self.split);
        self.metrics.split_parts.inc_by(parts.len() as u64);
        verdict.cache = began.elapsed();
        verdict.fetched.clone_from(&parts);

        let began = Instant::now();
        let fetched = fetch_parts(parts, self.limits.max_parallelism, |part| self.fetch(&incoming, &key, part)).await;
        verdict.downstream = began.elapsed();
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(failure) => return give_up(failure, incoming.is_cut(&verdict.fetched), verdict),
        };
        if bypass.is_none() {
            (verdict.status, verdict.reason) = self.judge(&incoming, &lookup, &fetched);
        }
        let limit = match incoming.planned.query.limit {
            None => Limit::Off,
            Some(most) => match self.engine.known(&self.downstream, &incoming.path, &incoming.headers, incoming.context.deadline).await.honours_limit() {
                Some(true) => Limit::Truncate(most),
                Some(false) => Limit::Off,
                None => Limit::Unknown(most),
            },
        };
        self.write(&incoming, lookup, fetched, limit, verdict)
    }

    /// The points are judged on the client's own request: the server would see only parts of it.
    fn check_limits(&self, query: &RangeQuery) -> Result<(), ApiError> {
        let length = query.text().len() as u64;
        let limit = self.limits.max_query_bytes;
        if limit > 0 && length > limit {
            return Err(ApiError::new(
                ErrorKind::BadData,
                format!("the query is {length} bytes long and the limit is {limit} (limits.max_query_bytes); shorten it, or record parts of it as rules"),
            ));
        }
        let limit = self.limits.max_points;
        if limit > 0 && query.grid.len() > limit.saturating_add(1) {
            return Err(ApiError::new(
                ErrorKind::BadData,
                format!("exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)", thousands(limit)),
            ));
        }
        Ok(())
    }

    /// Reads the query's text. What must not be cut, or was not understood, passes whole: the reason says why.
    async fn read(&self, incoming: &Incoming) -> Result<Facts, &'static str> {
        let facts = promql::read(incoming.query.text()).map_err(promql::Opaque::as_str)?;
        match facts.whole_range(incoming.query.grid.step().ms()) {
            None => Ok(facts),
            Some(WholeRange::LabelRewrite) if self.engine(incoming).await.keeps_rewritten_series_apart_by_instant() => Ok(facts),
            Some(why) => Err(why.as_str()),
        }
    }

    /// What the downstream is, as far as an answer depends on it.
    async fn engine(&self, incoming: &Incoming) -> Engine {
        self.engine.known(&self.downstream, &incoming.path, &incoming.headers, incoming.context.deadline).await
    }

    fn key(&self, incoming: &Planned) -> CacheKey {
        let headers: Vec<(String, Vec<u8>)> = self
            .key_headers
            .iter()
            .flat_map(|name| incoming.headers.get_all(name).into_iter().map(|value| (name.to_string(), value.as_bytes().to_vec())))
            .collect();
        let slots = Slots::new(&incoming.planned.query.grid, self.split.interval_ms);
        let scope = (&incoming.context.tenant, incoming.path.as_str());
        CacheKey { identity: Identity::new(scope, &incoming.planned, slots, &headers), slots }
    }

    /// One part: on a flight of its own or on somebody else's.
    async fn fetch(&self, incoming: &Arc<Planned>, key: &CacheKey, grid: StepGrid) -> Result<(StepGrid, Fetched, bool), PartFailure> {
        let flight = FlightKey { identity: Arc::clone(key.identity.bytes()), grid, timeout: incoming.planned.query.timeout };
        let begin = || {
            let flight = PartFlight {
                downstream: Arc::clone(&self.downstream),
                cache: Arc::clone(&self.cache),
                metrics: Arc::clone(&self.metrics),
                incoming: Arc::clone(incoming),
                key: key.clone(),
            };
            flight.run(grid)
        };
        if incoming.is_no_store() {
            return begin().await.map(|fetched| (grid, fetched, true));
        }
        let joined = self.flights.join(flight.clone(), begin);
        let is_first = joined.is_first;
        if !is_first {
            self.metrics.coalesced.inc();
        }
        match joined.outcome.await {
            // Whoever joined waited for somebody else's luck; it may try its own once.
            Err(failure) if !is_first && failure.is_of_the_moment() => {
                self.flights.join(flight, begin).outcome.await.map(|fetched| (grid, fetched, true))
            }
            outcome => outcome.map(|fetched| (grid, fetched, is_first)),
        }
    }

    fn judge(&self, incoming: &Planned, lookup: &Lookup, fetched: &[(StepGrid, Fetched, bool)]) -> (Status, &'static str) {
        let nothing_final_is_missing =
            || lookup.missing.iter().all(|grid| self.cache.finals(&incoming.planned, grid, incoming.context.now).is_none());
        match (lookup.held.is_empty(), lookup.missing.is_empty()) {
            (_, true) => (Status::Hit, ""),
            (false, false) if nothing_final_is_missing() => (Status::PartialHit, "fresh"),
            (false, false) => (Status::PartialHit, "absent"),
            (true, false) if fetched.iter().all(|(_, _, is_first)| !is_first) => (Status::Coalesced, "in-flight"),
            (true, false) if nothing_final_is_missing() => (Status::Miss, "fresh"),
            (true, false) => (Status::Miss, "absent"),
        }
    }

    fn write(&self, incoming: &Planned, lookup: Lookup, fetched: Vec<(StepGrid, Fetched, bool)>, limit: Limit, mut verdict: Verdict) -> (Reply, Verdict) {
        let began = Instant::now();
        let is_no_store = fetched.iter().any(|(_, fetched, _)| fetched.is_no_store);
        let fetched: Vec<Piece> = fetched.into_iter().map(|(grid, fetched, _)| Piece { grid, answer: fetched.answer }).collect();
        let from_downstream: u64 = fetched.iter().map(|piece| piece.grid.len()).sum();
        let fetched_pieces = fetched.len();
        let pieces = assemble(lookup.held, fetched);
        check_cover(&pieces, &incoming.planned.query.grid);
        verdict.pieces = pieces.len();
        verdict.held = pieces.len() - fetched_pieces;
        self.metrics.served("downstream", from_downstream);
        self.metrics.served("cache", incoming.planned.query.grid.len() - from_downstream.min(incoming.planned.query.grid.len()));

        let (mut writer, mut series_seen) = (Writer::new(), 0_u64);
        merge_series(&pieces, |series| {
            series_seen += 1;
            if !matches!(limit, Limit::Truncate(most) if series_seen > most) {
                writer.series(series);
            }
        });
        let mut annotations = merge_annotations(&pieces);
        match limit {
            Limit::Truncate(most) if series_seen > most => annotations.warnings.push(TRUNCATED.into()),
            Limit::Unknown(most) if series_seen > most => return (Reply::PassWhole, Verdict::new(Status::Bypass, "limit-unknown")),
            _ => {}
        }
        let stats = merge_stats(&pieces);
        let chunks = writer.finish(&annotations, stats.as_deref());
        verdict.merge = began.elapsed();
        (Reply::Answer { chunks, is_no_store }, verdict)
    }
}

/// A range query whose text was read.
#[derive(Debug)]
struct Planned {
    method: Method,
    path: String,
    headers: Arc<HeaderMap>,
    planned: PlannedQuery,
    context: Context,
}

impl Planned {
    /// Whether what was asked for downstream is anything else than the client's own question.
    fn is_cut(&self, fetched: &[StepGrid]) -> bool {
        let planned = &self.planned;
        fetched != [planned.query.grid] || planned.pinned != planned.query.text() || planned.query.limit.is_some()
    }

    /// Whether the client wants nothing to do with what is kept.
    fn is_no_store(&self) -> bool {
        self.headers.get_all(header::CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok()).any(names_no_store)
    }
}

/// Pins the query's text; from here on it may be cut.
fn plan(incoming: Incoming, facts: Facts) -> Planned {
    let Incoming { method, path, headers, query, context } = incoming;
    let pinned = facts.pin(query.text(), query.grid.start().ms(), query.end.ms()).into_owned();
    Planned { method, path, headers, planned: PlannedQuery { query, facts, pinned }, context }
}

/// Why the cache is not consulted for a query that is cut all the same.
fn bypass_reason(incoming: &Planned) -> Option<&'static str> {
    if incoming.is_no_store() {
        return Some("no-store");
    }
    // Statistics tell what the whole query cost; what is held cost nothing.
    incoming.planned.query.wants_stats.then_some("stats")
}

/// The work of one flight: everything it needs, so that it belongs to nobody.
struct PartFlight {
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    metrics: Arc<Metrics>,
    incoming: Arc<Planned>,
    key: CacheKey,
}

impl PartFlight {
    async fn run(self, grid: StepGrid) -> Result<Fetched, PartFailure> {
        let part = self.part_request(&grid);
        let reply = self.downstream.fetch(&part).await.map_err(PartFailure::Ours)?;
        if !reply.status.is_success() {
            return Err(PartFailure::Theirs(Arc::new(reply)));
        }
        let answer = scan(&reply.body, &grid).map_err(|refused| self.refuse(refused))?;
        let is_no_store = reply.is_no_store();
        if bypass_reason(&self.incoming).is_none() {
            self.cache.keep(&self.key, &self.incoming.planned, &answer, is_no_store, self.incoming.context.now);
        }
        Ok(Fetched { answer: Arc::new(answer), is_no_store })
    }

    fn part_request(&self, grid: &StepGrid) -> PartRequest {
        let planned = &self.incoming.planned;
        // Subqueries run on to the end that is asked for, past the last instant: the last part keeps the client's.
        let end = if grid.last() == planned.query.grid.last() { planned.query.end } else { grid.last() };
        let (start, end) = (grid.start().to_string(), end.to_string());
        let mut replaced = vec![("start", Some(start.as_str())), ("end", Some(end.as_str())), ("limit", None)];
        if planned.pinned != planned.query.text() {
            replaced.push(("query", Some(&planned.pinned)));
        }
        PartRequest {
            method: self.incoming.method.clone(),
            path: self.incoming.path.clone(),
            params: planned.query.params.encode(&replaced),
            headers: Arc::clone(&self.incoming.headers),
            deadline: self.incoming.context.deadline,
        }
    }

    fn refuse(&self, refused: Refused) -> PartFailure {
        match refused {
            Refused::Foreign(foreign) => {
                Metrics::count(&self.metrics.downstream_refused, foreign.as_str());
                PartFailure::Foreign(foreign)
            }
            broken @ Refused::Broken { .. } => {
                Metrics::count(&self.metrics.downstream_refused, "broken");
                PartFailure::Ours(ApiError::new(ErrorKind::BadGateway, format!("the answer of the downstream can't be used: {broken}")))
            }
        }
    }
}

/// There is no answer. If the server refused a part, it is asked for the whole: which error it meets first, and where in
/// the text, depends on the range and the text that it is given.
fn give_up(failure: PartFailure, is_cut: bool, mut verdict: Verdict) -> (Reply, Verdict) {
    let (reply, status, reason) = match failure {
        PartFailure::Theirs(answer) if is_cut && judges_the_query(answer.status) => (Reply::PassWhole, Status::Error, "downstream"),
        PartFailure::Ours(error) => {
            let reason = error.kind.error_type();
            (Reply::Ours(error), Status::Error, reason)
        }
        PartFailure::Theirs(answer) => (Reply::Theirs(answer), Status::Error, "downstream"),
        PartFailure::Foreign(foreign) => (Reply::PassWhole, Status::Bypass, foreign.as_str()),
    };
    (verdict.status, verdict.reason) = (status, reason);
    (reply, verdict)
}

/// Codes by which Prometheus refuses a query, as opposed to the request or the moment.
fn judges_the_query(code: StatusCode) -> bool {
    matches!(code, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
}

/// Invariant *cover*: the pieces follow one another and hold every instant.
fn check_cover(pieces: &[Piece], grid: &StepGrid) {
    let whole = pieces.iter().map(|piece| piece.grid).try_fold(None::<StepGrid>, |whole, next| match whole {
        None => Some(Some(next)),
        Some(whole) => whole.join(&next).map(Some),
    });
    assert_eq!(whole, Some(Some(*grid)), "the pieces of an answer cover its grid");
}

/// 11000 as `11,000`: Prometheus writes it so.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}
