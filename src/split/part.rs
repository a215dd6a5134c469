//! One part of a query: asked for once, however many wait for it, then scanned and kept.
//!
//! The work belongs to a flight and not to a request: it holds all that it needs, so whoever began it may leave. A failure
//! of the moment is the beginner's alone; those who merely joined try once more, together.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use xxhash_rust::xxh3::xxh3_64;

use crate::cache::coalesce::{Coalescer, Shared};
use crate::cache::directive::PastCache;
use crate::cache::layer::{CacheKey, ExtentCache};
use crate::downstream::engine::is_victoriametrics;
use crate::downstream::fetch::{Answer, Downstream, PartRequest};
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::response::RangeAnswer;
use crate::request::{Context, Delivery, PlannedQuery};
use crate::sched::dispatch::Standing;
use crate::sched::dispatch::estimate::Estimate;
use crate::split::passing::{Feed, PassingBody};
use crate::wire::response::{Foreign, Reading, Refused};

/// Shorter answers are packed behind the client's back: sending them packed costs little anyway.
const PACKED_FROM: usize = 64 << 10;

/// A query and how its client sent it: what its parts are made of.
#[derive(Debug)]
pub struct Asked {
    /// The client's method.
    pub method: Method,
    /// The client's path.
    pub path: String,
    /// The client's headers, those that a part is sent with.
    pub headers: Arc<HeaderMap>,
    /// What is asked.
    pub planned: PlannedQuery,
    /// In which circumstances.
    pub context: Context,
    /// Why the cache has nothing to do with it, if its client has a say in that.
    pub past_cache: Option<PastCache>,
    /// How its client takes the answer.
    pub delivery: Delivery,
}

impl Asked {
    /// Why the cache has nothing to do with it, although it is cut.
    pub fn bypass_reason(&self) -> Option<&'static str> {
        // Statistics tell what the whole query cost; what is held cost nothing.
        self.past_cache.map(PastCache::as_str).or_else(|| self.planned.query.wants_stats.then_some("stats"))
    }

    /// Whether what was asked for downstream is anything else than the client's own question.
    pub fn is_cut(&self, fetched: &[StepGrid]) -> bool {
        let PlannedQuery { query, pinned, .. } = &self.planned;
        // An end beside the grid is left out of a part, and may be all the difference to a server that moves times.
        let is_ragged = query.end_of_part(&query.grid) != query.end;
        fetched != [query.grid] || is_ragged || *pinned != query.text() || query.limit.is_some()
    }

    /// Whether the same question of others may answer it, and its answer theirs.
    fn joins_others(&self) -> bool {
        self.past_cache.is_none_or(PastCache::joins_others)
    }

    /// The client's request with the times of one part in it.
    fn part_request(&self, grid: &StepGrid, standing: Standing) -> PartRequest {
        let PlannedQuery { query, pinned, .. } = &self.planned;
        let (start, end) = (grid.start().to_string(), query.end_of_part(grid).to_string());
        let mut replaced = vec![("start", Some(start.as_str())), ("end", Some(end.as_str())), ("limit", None)];
        if *pinned != query.text() {
            replaced.push(("query", Some(pinned)));
        }
        PartRequest {
            method: self.method.clone(),
            path: self.path.clone(),
            params: query.params.encode(&replaced),
            headers: Arc::clone(&self.headers),
            deadline: self.context.deadline,
            standing,
        }
    }
}

/// The answer to a part.
#[derive(Clone, Debug)]
pub struct FetchedPart {
    /// What it answers.
    pub answer: Arc<RangeAnswer>,
    /// How long the server's text is.
    pub bytes: u64,
    /// Whether the server forbids to keep it.
    pub is_no_store: bool,
    /// Whether it was asked for on behalf of this very request.
    pub is_own: bool,
}

/// Why there is no answer to a part.
#[derive(Clone, Debug)]
pub enum PartFailure {
    /// There is none that could be used.
    Ours(ApiError),
    /// The downstream refuses.
    Theirs(Arc<Answer>),
    /// There is one, but nothing that could be cut or merged.
    Foreign(Foreign),
}

impl PartFailure {
    /// Whether a second try, not bound to somebody else's luck, may fare better.
    fn is_of_the_moment(&self) -> bool {
        match self {
            Self::Ours(error) => error.is_of_the_moment(),
            Self::Theirs(answer) => answer.status.is_server_error(),
            Self::Foreign(_) => false,
        }
    }

    /// Whether the server judged what it was sent, rather than found itself unable to answer.
    pub fn judges_the_question(&self) -> bool {
        let of_the_moment = |code: StatusCode| code.is_server_error() || code == StatusCode::TOO_MANY_REQUESTS;
        matches!(self, Self::Theirs(answer) if !of_the_moment(answer.status))
    }
}

type Outcome = Result<FetchedPart, PartFailure>;

/// A flight is shared by those who ask the same and wait equally long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    identity: Arc<[u8]>,
    grid: StepGrid,
    timeout: Option<Duration>,
}

/// Fetches parts.
#[derive(Debug)]
pub struct Parts {
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    flights: Coalescer<FlightKey, Outcome>,
    metrics: Arc<Metrics>,
}

impl Parts {
    /// Nothing is in flight yet.
    pub fn new(downstream: Arc<Downstream>, cache: Arc<ExtentCache>, metrics: Arc<Metrics>) -> Self {
        Self { downstream, cache, flights: Coalescer::default(), metrics }
    }

    /// The answer to one part: from a flight of its own, or from one that is under way.
    pub async fn fetch(&self, asked: &Arc<Asked>, key: &CacheKey, grid: StepGrid) -> Outcome {
        if !asked.joins_others() {
            return self.flight(asked, key).run(grid, None).await;
        }
        self.share(asked, key, grid, None).await
    }

    /// The answer to the client's own question: as it comes, if it can be handed on so.
    pub async fn fetch_own(
        self: &Arc<Self>,
        asked: &Arc<Asked>,
        key: &CacheKey,
        grid: StepGrid,
    ) -> Result<PassingBody, Outcome> {
        if asked.delivery != Delivery::WhileItComes || !asked.joins_others() {
            return Err(self.fetch(asked, key, grid).await);
        }
        let (feed, mut begun) = Feed::new();
        let (parts, asked, key) = (Arc::clone(self), Arc::clone(asked), key.clone());
        let mut flight = async move { parts.share(&asked, &key, grid, Some(feed)).await }.boxed();
        let outcome = tokio::select! {
            biased;
            Ok(passing) = &mut begun => return Ok(passing.body(flight)),
            outcome = &mut flight => outcome,
        };
        // What has begun to go on goes on, although all of it has come meanwhile.
        begun.try_recv().map_or(Err(outcome), |passing| Ok(passing.body(flight)))
    }

    async fn share(&self, asked: &Arc<Asked>, key: &CacheKey, grid: StepGrid, mut feed: Option<Feed>) -> Outcome {
        let timeout = asked.planned.query.timeout;
        let flight = FlightKey { identity: Arc::clone(key.identity.bytes()), grid, timeout };
        let begin = || self.flight(asked, key).run(grid, feed.take());
        let is_of_the_moment = |outcome: &Outcome| matches!(outcome, Err(failure) if failure.is_of_the_moment());
        let joined = || {
            self.metrics.coalesced.inc();
        };
        let shared = self.flights.share(&flight, asked.context.deadline, begin, is_of_the_moment, joined).await;
        let Shared { outcome, is_own } = shared.map_err(|lost| PartFailure::Ours(lost.into()))?;
        outcome.map(|part| FetchedPart { is_own, ..part })
    }

    fn flight(&self, asked: &Arc<Asked>, key: &CacheKey) -> Flight {
        Flight {
            downstream: Arc::clone(&self.downstream),
            cache: Arc::clone(&self.cache),
            metrics: Arc::clone(&self.metrics),
            asked: Arc::clone(asked),
            key: key.clone(),
        }
    }
}

/// The work of one flight.
struct Flight {
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    metrics: Arc<Metrics>,
    asked: Arc<Asked>,
    key: CacheKey,
}

impl Flight {
    async fn run(self, grid: StepGrid, mut feed: Option<Feed>) -> Outcome {
        let outcome = self.bring(grid, &mut feed).await;
        if let (Some(Feed::Begun { .. }), Err(PartFailure::Ours(error))) = (&feed, &outcome) {
            self.metrics.downstream_broken_off.inc();
            let tenant = self.asked.context.tenant.as_str();
            tracing::warn!(tenant, "an answer broke off while it was handed on: {}", error.message);
        }
        outcome
    }

    /// What goes on while it comes is taken out of `feed` at its end.
    async fn bring(&self, grid: StepGrid, feed: &mut Option<Feed>) -> Outcome {
        let request = self.asked.part_request(&grid, self.standing(&grid));
        let mut arriving = self.downstream.ask(request).await.map_err(PartFailure::Ours)?;
        let head = arriving.head();
        if !head.status.is_success() {
            let reply = arriving.collect().await.map_err(PartFailure::Ours)?;
            return Err(PartFailure::Theirs(Arc::new(reply)));
        }
        if head.status != StatusCode::OK || !head.is_json() {
            return Err(self.refuse(Refused::Foreign(Foreign::Type)));
        }
        if is_victoriametrics(&head.headers) {
            return Err(self.refuse(Refused::Foreign(Foreign::Dialect)));
        }
        let is_no_store = head.is_no_store();
        let mut reading = Reading::new(&grid);
        while let Some(next) = arriving.next().await.map_err(PartFailure::Ours)? {
            if let Some(fed) = feed.take() {
                *feed = fed.give(&next, &arriving, is_no_store);
                // Who takes it on goes first.
                tokio::task::yield_now().await;
            }
            reading.advance(arriving.so_far());
        }
        let reply = arriving.collect().await.map_err(PartFailure::Ours)?;
        let read = match reading.finish(&reply.body) {
            Ok(answer) => Ok(self.keep(answer, &reply).await),
            Err(refused) => Err(self.refuse(refused)),
        };
        let bytes = reply.body.len() as u64;
        if !matches!(read, Err(PartFailure::Ours(_)))
            && let Some(feed) = feed.take()
        {
            // Also what cannot be cut is the answer to the whole.
            feed.end(reply.body);
        }
        read.map(|answer| FetchedPart { answer, bytes, is_no_store, is_own: true })
    }

    /// Keeps what is final of an answer. Who takes gzip is given what is kept if that is all of it, so that it is packed once.
    async fn keep(&self, answer: RangeAnswer, reply: &Answer) -> Arc<RangeAnswer> {
        let (asked, is_no_store, mut answer) = (&self.asked, reply.is_no_store(), Arc::new(answer));
        if asked.bypass_reason().is_some() {
            return answer;
        }
        // By the server's clock if that is behind ours: what is not final there is not final.
        let now = asked.context.now;
        let now = reply.date().map_or(now, |date| date.min(now));
        if asked.delivery == Delivery::Packed
            && reply.body.len() >= PACKED_FROM
            && self.cache.keeps_whole(&self.key, &asked.planned, &answer, is_no_store, now)
        {
            let text = Arc::clone(&answer);
            let packed = tokio::task::spawn_blocking(move || text.packed_part(&text.grid)).await;
            answer = packed.map_or(answer, Arc::new);
        }
        self.cache.keep(&self.key, &asked.planned, &answer, is_no_store, now);
        answer
    }

    /// Where the part stands in the queue. If queriers vanish under it, the same query at any time in that slot is the same work.
    fn standing(&self, grid: &StepGrid) -> Standing {
        let Asked { planned, context, .. } = &*self.asked;
        let slot = self.key.slots.of(grid).first().map_or(0, |(slot, _)| *slot);
        let mut work = Vec::from(self.key.identity.bytes().as_ref());
        work.extend_from_slice(&slot.to_le_bytes());
        let estimate = Estimate::of_query(grid.len(), planned.facts.widest_range_ms());
        Standing::new(context, estimate, xxh3_64(&work))
    }

    fn refuse(&self, refused: Refused) -> PartFailure {
        match refused {
            Refused::Foreign(foreign) => {
                Metrics::count(&self.metrics.downstream_refused, foreign.as_str());
                PartFailure::Foreign(foreign)
            }
            broken @ Refused::Broken { .. } => {
                Metrics::count(&self.metrics.downstream_refused, "broken");
                let message = format!("the answer of the downstream can't be used: {broken}");
                PartFailure::Ours(ApiError::new(ErrorKind::BadGateway, message))
            }
        }
    }
}
