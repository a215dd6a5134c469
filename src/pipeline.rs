//! The stages of a range query, in the order in which it meets them.
//!
//! Down: limits → read (its text, once) → narrow → look up → cut what is missing → one in flight → downstream.
//! Up: scan → keep → assemble → merge → write. One way down, one way up; each stage is entered once, and each decision is a
//! pure function of a lower floor. What a stage does not understand leaves the pipeline there: it passes whole.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::Method;
use http::header::HeaderMap;

use crate::answer::RangeBody;
use crate::cache::directive::PastCache;
use crate::cache::key::{Identity, KeyHeaders, Slots};
use crate::cache::layer::{CacheKey, ExtentCache};
use crate::cache::plan::{Lookup, assemble};
use crate::cache::texts::Texts;
use crate::config::Config;
use crate::downstream::engine::{Engine, EngineKey, EngineProbe};
use crate::downstream::fetch::{Answer, Downstream};
use crate::error::{ApiError, ErrorKind};
use crate::limits::{Policy, lookback, range};
use crate::merge::{merge_annotations, merge_stats};
use crate::metrics::Metrics;
use crate::model::grid::StepGrid;
use crate::model::params::Encoded;
use crate::model::response::Piece;
use crate::model::time::millis;
use crate::promql::{Facts, Opaque, WholeRange};
use crate::request::{Context, Delivery, PlannedQuery, RangeQuery};
use crate::split::layer::fetch_parts;
use crate::split::part::{Asked, FetchedPart, PartFailure, Parts};
use crate::split::passing::PassingBody;
use crate::split::plan::{SplitPolicy, plan_parts};
use crate::verdict::{Status, Verdict};
use crate::wire::response::Foreign;

/// A grid of more instants is not looked up, slot by slot: no server answers it anyway.
const MOST_INSTANTS: u64 = 1 << 20;

/// What Prometheus adds to an answer that `limit` made shorter.
const TRUNCATED: &str = "\"results truncated due to limit\"";

/// Everything that a range query meets on its way.
#[derive(Debug)]
pub struct Pipeline {
    policy: Arc<Policy>,
    cache: Arc<ExtentCache>,
    split: SplitPolicy,
    parts: Arc<Parts>,
    downstream: Arc<Downstream>,
    engine: EngineProbe,
    texts: Texts,
    key_headers: KeyHeaders,
    namespace: String,
    metrics: Arc<Metrics>,
}

/// A range query as it came in.
#[derive(Debug)]
pub struct Incoming {
    /// Its method.
    pub method: Method,
    /// Its path, whatever stands before `/api/v1/query_range`.
    pub path: String,
    /// Its headers, those that a part is sent with.
    pub headers: Arc<HeaderMap>,
    /// What it asks.
    pub query: RangeQuery,
    /// In which circumstances.
    pub context: Context,
    /// How its client takes the answer.
    pub delivery: Delivery,
}

/// What becomes of a range query.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer {
        /// Its body.
        body: RangeBody,
        /// Whether all of it was held.
        is_held: bool,
        /// Whether a part of it came with `Cache-Control: no-store`.
        is_no_store: bool,
    },
    /// The downstream's own answer, which goes on while it comes.
    Passing(PassingBody),
    /// The downstream's own refusal, to be handed on as it is.
    Theirs(Arc<Answer>),
    /// A refusal of ours.
    Ours(ApiError),
    /// The request is to be passed on whole; if it may not read as far back as it asks for, with other parameters.
    PassWhole(Option<Encoded>),
}

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

/// All instants of a query lie too far back.
struct NothingLeft;

/// A part that was fetched.
type Fetched = (StepGrid, FetchedPart);

impl Pipeline {
    /// The stages, as configured.
    pub fn new(
        config: &Config,
        policy: Arc<Policy>,
        downstream: Arc<Downstream>,
        cache: Arc<ExtentCache>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        Ok(Self {
            policy,
            split: SplitPolicy { interval_ms: millis(config.split.interval), max_parts: config.split.max_parts },
            parts: Arc::new(Parts::new(Arc::clone(&downstream), Arc::clone(&cache), Arc::clone(&metrics))),
            cache,
            downstream,
            engine: EngineProbe::default(),
            texts: Texts::default(),
            key_headers: KeyHeaders::new(config)?,
            namespace: config.namespace(),
            metrics,
        })
    }

    /// Answers a range query.
    pub async fn answer(&self, mut incoming: Incoming) -> (Reply, Verdict) {
        // The client's own request is judged, before anything is cut.
        if let Err(error) = range::check(&self.policy.tenants, &incoming.context.tenant, &incoming.query) {
            return (Reply::Ours(error), Verdict::new(Status::Error, "limit"));
        }
        // Its text is read, once. What lies too far back for the tenant is left out.
        let facts = self.texts.read(incoming.query.text());
        let Ok(narrowed) = self.narrow(&mut incoming, facts.as_deref().ok()) else {
            return (no_series(), Verdict::new(Status::Bypass, "lookback"));
        };
        // What may not be cut, or is not understood, passes whole.
        let facts = match self.may_be_cut(&incoming, facts).await {
            Ok(facts) => facts,
            Err(reason) => return (Reply::PassWhole(narrowed), Verdict::new(Status::Bypass, reason)),
        };
        let (reply, verdict) = self.answer_in_parts(incoming, facts).await;
        match reply {
            Reply::PassWhole(_) => (Reply::PassWhole(narrowed), verdict),
            reply => (reply, verdict),
        }
    }

    /// Answers a query that may be cut, if it can be.
    async fn answer_in_parts(&self, incoming: Incoming, facts: Arc<Facts>) -> (Reply, Verdict) {
        let asked = Arc::new(self.pin(incoming, facts));
        let key = self.key(&asked);
        let bypass = asked.bypass_reason();
        let mut verdict = Verdict::new(Status::Bypass, bypass.unwrap_or_default());

        // What is held, and what is missing.
        let began = Instant::now();
        let grid = asked.planned.query.grid;
        let lookup = match bypass {
            Some(_) => Lookup::all_missing(grid),
            None => self.cache.look_up(&key, &asked.planned, asked.context.now).await,
        };
        verdict.cache = began.elapsed();

        // What is missing, in parts; each asked for once, whoever else waits for it.
        let began = Instant::now();
        let parts = plan_parts(&lookup.missing, asked.planned.facts.widest_range_ms(), &self.split);
        self.metrics.split_parts.inc_by(parts.len() as u64);
        verdict.fetched.clone_from(&parts);
        let fetched = if asked.is_cut(&parts) {
            let received = AtomicU64::new(0);
            let fetch = async |part: StepGrid| {
                let fetched = self.parts.fetch(&asked, &key, part).await?;
                self.check_size(&asked, &received, &fetched)?;
                Ok((part, fetched))
            };
            let max_parallelism = self.policy.tenants.limits_of(&asked.context.tenant).max_parallelism;
            fetch_parts(parts, max_parallelism, fetch).await
        } else {
            match self.parts.fetch_own(&asked, &key, grid).await {
                Ok(passing) => {
                    verdict.downstream = began.elapsed();
                    return (Reply::Passing(passing), self.passes(&asked, &lookup, verdict));
                }
                Err(outcome) => outcome.map(|part| vec![(grid, part)]),
            }
        };
        verdict.downstream = began.elapsed();
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(failure) => {
                if matches!(failure, PartFailure::Foreign(Foreign::Dialect)) {
                    let Asked { path, headers, context, .. } = &*asked;
                    self.engine.remember_foreign(self.engine_key(path, headers, context));
                }
                return give_up(failure, &asked, verdict);
            }
        };
        if bypass.is_none() {
            let is_own = fetched.iter().any(|(_, part)| part.is_own);
            (verdict.status, verdict.reason) = self.judge(&asked, &lookup, is_own);
        }

        // Everything in the order of time, as one answer.
        let limit = self.limit(&asked).await;
        self.write(&asked, lookup, fetched, limit, verdict)
    }

    /// Leaves out the instants that lie too far back. If any are, with which parameters what is left passes whole.
    fn narrow(&self, incoming: &mut Incoming, facts: Option<&Facts>) -> Result<Option<Encoded>, NothingLeft> {
        let Incoming { query, context, .. } = incoming;
        let bound = lookback::bound(&self.policy.tenants, &context.tenant, context.now);
        match lookback::range(&query.grid, facts, bound) {
            lookback::Range::Whole => Ok(None),
            lookback::Range::Nothing => Err(NothingLeft),
            lookback::Range::From(grid) => {
                query.grid = grid;
                let start = grid.start().to_string();
                let mut replaced = vec![("start", Some(start.as_str()))];
                let pinned = facts.map(|facts| facts.pin(query.text(), query.start.ms(), query.end.ms()));
                if let Some(Cow::Owned(pinned)) = &pinned {
                    replaced.push(("query", Some(pinned)));
                }
                Ok(Some(query.params.encode(&replaced)))
            }
        }
    }

    /// The answers to the parts are bounded together, as soon as they come in.
    fn check_size(&self, asked: &Asked, received: &AtomicU64, part: &FetchedPart) -> Result<(), PartFailure> {
        let length = part.bytes;
        let (tenants, tenant) = (&self.policy.tenants, &asked.context.tenant);
        let is_over =
            received.fetch_add(length, Ordering::Relaxed) + length > tenants.limits_of(tenant).max_response_bytes;
        if is_over { Err(PartFailure::Ours(tenants.response_too_large(tenant))) } else { Ok(()) }
    }

    /// The facts of a query that may be cut. The reason says why it is to pass whole.
    async fn may_be_cut(
        &self,
        incoming: &Incoming,
        facts: Result<Arc<Facts>, Opaque>,
    ) -> Result<Arc<Facts>, &'static str> {
        let query = &incoming.query;
        if self.engine.is_foreign(|| self.engine_key(&incoming.path, &incoming.headers, &incoming.context)) {
            return Err(Foreign::Dialect.as_str());
        }
        if query.grid.len() > MOST_INSTANTS {
            return Err("too-many-instants");
        }
        if query.grid.step().ms() == 1 {
            // A part of one instant could not be told from one of two.
            return Err("too-fine");
        }
        let facts = facts.map_err(Opaque::as_str)?;
        let ragged_ms = query.end.ms() - query.grid.last().ms();
        match facts.whole_range(query.grid.step().ms(), ragged_ms) {
            None => Ok(facts),
            Some(why @ WholeRange::LabelRewrite) => {
                let engine = self.engine(&incoming.path, &incoming.headers, &incoming.context).await;
                if engine.keeps_rewritten_series_apart_by_instant() { Ok(facts) } else { Err(why.as_str()) }
            }
            Some(why) => Err(why.as_str()),
        }
    }

    /// What the downstream is, where an answer depends on it.
    async fn engine(&self, path: &str, headers: &Arc<HeaderMap>, context: &Context) -> Engine {
        let key = self.engine_key(path, headers, context);
        self.engine.known(&self.downstream, (key, path), headers, context).await
    }

    fn engine_key(&self, path: &str, headers: &HeaderMap, context: &Context) -> EngineKey {
        EngineKey::new(&context.tenant, path, self.key_headers.of(headers))
    }

    async fn limit(&self, asked: &Asked) -> Limit {
        let Some(most) = asked.planned.query.limit else { return Limit::Off };
        match self.engine(&asked.path, &asked.headers, &asked.context).await.honours_limit() {
            Some(true) => Limit::Truncate(most),
            Some(false) => Limit::Off,
            None => Limit::Unknown(most),
        }
    }

    /// From here on the query may be cut.
    fn pin(&self, incoming: Incoming, facts: Arc<Facts>) -> Asked {
        let Incoming { method, path, headers, query, context, delivery } = incoming;
        let past_cache = PastCache::of(&headers, query.text(), context.caller, self.policy.caches_alerts);
        let pinned = facts.pin(query.text(), query.start.ms(), query.end.ms()).into_owned();
        let planned = PlannedQuery { query, facts, pinned };
        Asked { method, path, headers, planned, context, past_cache, delivery }
    }

    fn key(&self, asked: &Asked) -> CacheKey {
        let headers: Vec<_> = self.key_headers.of(&asked.headers).collect();
        let PlannedQuery { query, pinned, .. } = &asked.planned;
        let slots = Slots::new(&query.grid, self.split.interval_ms);
        let scope = (self.namespace.as_str(), &asked.context.tenant, asked.path.as_str());
        CacheKey { identity: Identity::new(scope, query, pinned, slots, &headers), slots }
    }

    /// `is_own`: whether anything was asked for on behalf of this very request.
    fn judge(&self, asked: &Asked, lookup: &Lookup, is_own: bool) -> (Status, &'static str) {
        let is_fresh = |grid: &StepGrid| self.cache.finals(&asked.planned, grid, asked.context.now).is_none();
        let reason = if lookup.missing.iter().all(is_fresh) { "fresh" } else { "absent" };
        match (lookup.held.is_empty(), lookup.missing.is_empty()) {
            (_, true) => (Status::Hit, ""),
            (false, false) => (Status::PartialHit, reason),
            (true, false) if !is_own => (Status::Coalesced, "in-flight"),
            (true, false) => (Status::Miss, reason),
        }
    }

    /// What is told of an answer that goes on while it comes.
    fn passes(&self, asked: &Asked, lookup: &Lookup, mut verdict: Verdict) -> Verdict {
        if asked.bypass_reason().is_none() {
            (verdict.status, verdict.reason) = self.judge(asked, lookup, true);
        }
        self.metrics.served("downstream", asked.planned.query.grid.len());
        verdict.pieces = 1;
        verdict
    }

    fn write(
        &self,
        asked: &Asked,
        lookup: Lookup,
        fetched: Vec<Fetched>,
        limit: Limit,
        mut verdict: Verdict,
    ) -> (Reply, Verdict) {
        let began = Instant::now();
        let is_no_store = fetched.iter().any(|(_, part)| part.is_no_store);
        let fetched: Vec<Piece> = fetched.into_iter().map(|(grid, part)| Piece { grid, answer: part.answer }).collect();
        let fetched_pieces = fetched.len();
        let fetched_points: u64 = fetched.iter().map(|piece| piece.grid.len()).sum();
        let pieces = assemble(lookup.held, fetched);
        check_cover(&pieces, &asked.planned.query.grid);
        verdict.pieces = pieces.len();
        verdict.held = pieces.len() - fetched_pieces;

        let pieces: Arc<[Piece]> = pieces.into();
        let mut body = RangeBody { pieces: Arc::clone(&pieces), ..RangeBody::empty() };
        let truncated = match limit {
            Limit::Off => false,
            Limit::Truncate(most) | Limit::Unknown(most) => body.has_more_series_than(most),
        };
        match limit {
            Limit::Unknown(_) if truncated => {
                return (Reply::PassWhole(None), Verdict::new(Status::Bypass, "limit-unknown"));
            }
            Limit::Truncate(most) if truncated => body.most_series = Some(most),
            _ => {}
        }
        let Some(annotations) = merge_annotations(&pieces, truncated.then_some(TRUNCATED)) else {
            return (Reply::PassWhole(None), Verdict::new(Status::Bypass, "annotations"));
        };
        if !annotations.is_empty() && asked.planned.pinned != asked.planned.query.text() {
            // They name places in the text, and the text that was sent is another.
            return (Reply::PassWhole(None), Verdict::new(Status::Bypass, "annotations"));
        }
        (body.annotations, body.stats) = (annotations, merge_stats(&pieces));
        self.metrics.served("downstream", fetched_points);
        self.metrics.served("cache", asked.planned.query.grid.len() - fetched_points);
        verdict.merge = began.elapsed();
        (Reply::Answer { body, is_held: fetched_pieces == 0, is_no_store }, verdict)
    }
}

/// What is left of a query of which nothing is left.
fn no_series() -> Reply {
    Reply::Answer { body: RangeBody::empty(), is_held: false, is_no_store: false }
}

/// There is no answer. If the server refused a part, it is asked for the whole: which error it meets first, where in the
/// text, and where it redirects to, depends on the range and the text that it is given.
fn give_up(failure: PartFailure, asked: &Asked, mut verdict: Verdict) -> (Reply, Verdict) {
    let is_refused_in_part = failure.judges_the_question() && asked.is_cut(&verdict.fetched);
    let (reply, status, reason) = match failure {
        PartFailure::Theirs(_) if is_refused_in_part => (Reply::PassWhole(None), Status::Error, "downstream"),
        PartFailure::Theirs(answer) => (Reply::Theirs(answer), Status::Error, "downstream"),
        PartFailure::Foreign(foreign) => (Reply::PassWhole(None), Status::Bypass, foreign.as_str()),
        // A part's URL may be too long where the client's own is not.
        PartFailure::Ours(error) if error.kind == ErrorKind::BadData => {
            (Reply::PassWhole(None), Status::Bypass, "not-expressible")
        }
        PartFailure::Ours(error) => {
            let reason = error.kind.error_type();
            (Reply::Ours(error), Status::Error, reason)
        }
    };
    (verdict.status, verdict.reason) = (status, reason);
    (reply, verdict)
}

/// Invariant *cover*: the pieces follow one another and hold every instant.
fn check_cover(pieces: &[Piece], grid: &StepGrid) {
    let whole = pieces.iter().map(|piece| piece.grid).try_fold(None::<StepGrid>, |whole, next| match whole {
        None => Some(Some(next)),
        Some(whole) => whole.join(&next).map(Some),
    });
    assert_eq!(whole, Some(Some(*grid)), "the pieces of an answer cover its grid");
}
