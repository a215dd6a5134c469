//! The stages of a question whose answer is taken whole: instant queries, lists of series and labels, the server's own state.
//!
//! Down: may its answer be kept? → look up → one in flight → downstream. Up: keep → hand on. The answer is never cut and never
//! written anew; the bytes of the server are what the client gets, this time and the next.

use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderValue};
use xxhash_rust::xxh3::xxh3_64;

use crate::api::Endpoint;
use crate::cache::coalesce::Coalescer;
use crate::cache::directive::{PastCache, has_no_store};
use crate::cache::key::{Identity, KeyHeaders};
use crate::cache::terms::{Term, Terms};
use crate::cache::whole::WholeAnswers;
use crate::config::Config;
use crate::downstream::fetch::Downstream;
use crate::downstream::headers::date;
use crate::error::ApiError;
use crate::limits::{self, lookback};
use crate::metrics::Metrics;
use crate::model::params::Params;
use crate::model::time::Timestamp;
use crate::model::whole::{Packing, WholeAnswer};
use crate::promql::{self, Facts, Opaque};
use crate::request::{Context, Outgoing};
use crate::sched::dispatch::estimate::Estimate;
use crate::sched::dispatch::{Standing, Submission};
use crate::verdict::{Status, Verdict};

/// A question, and how its client sent it.
#[derive(Debug)]
pub struct Question {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// Its parameters.
    pub params: Params,
    /// As it goes downstream.
    pub outgoing: Outgoing,
    /// In which circumstances.
    pub context: Context,
}

impl Question {
    /// The same question of a range that begins here.
    fn begin_at(&mut self, start: Timestamp) {
        self.params = self.params.with("start", &start.to_string());
        let encoded = self.params.encode(&[]);
        self.outgoing.query = encoded.url_query;
        if let Some(body) = encoded.body {
            self.outgoing.body = body.into();
        }
    }
}

/// What is left of a question.
enum Narrowed {
    /// It is asked, of a later start perhaps.
    Asked,
    /// Nothing: this is the answer.
    Empty(String),
    /// There is no answer that leaves out anything.
    Refused(ApiError),
}

fn empty(body: String) -> WholeAnswer {
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
    let plain_bytes = body.len() as u64;
    WholeAnswer { status: StatusCode::OK, headers, body: body.into(), packing: Packing::Plain, plain_bytes }
}

/// What becomes of a question.
pub type Answered = (Result<Arc<WholeAnswer>, ApiError>, Verdict);

/// Everything that such a question meets on its way.
#[derive(Debug)]
pub struct Wholes {
    limits: Arc<limits::Policy>,
    downstream: Arc<Downstream>,
    answers: Arc<WholeAnswers>,
    flights: Coalescer<FlightKey, Outcome>,
    terms: Terms,
    key_headers: KeyHeaders,
    namespace: String,
    metrics: Arc<Metrics>,
}

type Outcome = Result<Arc<WholeAnswer>, ApiError>;

/// A flight is shared by those who ask the same and wait equally long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FlightKey {
    identity: Arc<[u8]>,
    timeout: String,
}

/// What is decided about a question before it is asked.
struct Plan {
    identity: Identity,
    past_cache: Option<PastCache>,
    facts: Option<Result<Facts, Opaque>>,
    term: Result<Term, &'static str>,
}

impl Wholes {
    /// The stages, as configured.
    pub fn new(
        config: &Config,
        limits: Arc<limits::Policy>,
        downstream: Arc<Downstream>,
        answers: Arc<WholeAnswers>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        Ok(Self {
            limits,
            downstream,
            answers,
            flights: Coalescer::default(),
            terms: Terms::new(&config.cache),
            key_headers: KeyHeaders::new(config)?,
            namespace: config.namespace(),
            metrics,
        })
    }

    /// Answers a question.
    pub async fn answer(&self, mut question: Question) -> Answered {
        // What lies too far back is left out.
        match self.narrow(&mut question) {
            Narrowed::Asked => {}
            Narrowed::Empty(body) => return (Ok(Arc::new(empty(body))), Verdict::new(Status::Bypass, "lookback")),
            Narrowed::Refused(error) => return (Err(error), Verdict::new(Status::Error, "limit")),
        }
        // What is held. Only what may be kept is, so its text need not be read again.
        let identity = self.identity(&question);
        let bypass = self.past_cache(&question);
        if bypass.is_none()
            && let Some(answer) = self.answers.get(&identity, question.context.now)
        {
            return (Ok(answer), Verdict::new(Status::Hit, ""));
        }
        let plan = self.plan(&question, identity, bypass);
        let (mut status, reason) = match (bypass, plan.term) {
            (Some(bypass), _) => (Status::Bypass, bypass.as_str()),
            (None, Ok(_)) => (Status::Miss, "absent"),
            (None, Err("fresh")) => (Status::Miss, "fresh"),
            (None, Err(reason)) => (Status::Bypass, reason),
        };

        // One in flight.
        let may_join = bypass.is_none_or(PastCache::joins_others);
        let deadline = question.context.deadline;
        let flight = FlightKey {
            identity: Arc::clone(plan.identity.bytes()),
            timeout: question.params.get("timeout").to_owned(),
        };
        let begin = || self.flight(&question, &plan).run();
        let outcome = if may_join {
            let joined = || {
                self.metrics.whole.coalesced.inc();
            };
            let shared = self.flights.share(&flight, deadline, begin, is_of_the_moment, joined).await;
            shared.map_err(ApiError::from).and_then(|shared| {
                if !shared.is_own && status == Status::Miss {
                    status = Status::Coalesced;
                }
                shared.outcome
            })
        } else {
            begin().await
        };
        match outcome {
            Ok(answer) if answer.status.is_success() => (Ok(answer), Verdict::new(status, reason)),
            Ok(answer) => (Ok(answer), Verdict::new(Status::Error, "downstream")),
            Err(error) => {
                let verdict = Verdict::new(Status::Error, error.kind.error_type());
                (Err(error), verdict)
            }
        }
    }

    /// Applies the limit on how far back a tenant may ask.
    fn narrow(&self, question: &mut Question) -> Narrowed {
        let Question { endpoint, params, context, .. } = question;
        let (tenants, tenant) = (&self.limits.tenants, &context.tenant);
        let bound = lookback::bound(tenants, tenant, context.now);
        if bound.is_none() {
            return Narrowed::Asked;
        }
        match endpoint {
            Endpoint::Instant => {
                let facts = promql::read(params.get("query")).ok();
                match lookback::instant((tenants, tenant), facts.as_ref(), params.get("time"), context.now) {
                    lookback::Instant::AsItIs => Narrowed::Asked,
                    lookback::Instant::Empty(kind) => Narrowed::Empty(format!(
                        r#"{{"status":"success","data":{{"resultType":"{}","result":[]}}}}"#,
                        kind.as_str()
                    )),
                    lookback::Instant::Refused(error) => Narrowed::Refused(error),
                }
            }
            Endpoint::Listing | Endpoint::Exemplars => {
                match lookback::window(params.get("start"), params.get("end"), bound) {
                    lookback::Window::AsItIs => Narrowed::Asked,
                    lookback::Window::From(start) => {
                        question.begin_at(start);
                        Narrowed::Asked
                    }
                    lookback::Window::Nothing => Narrowed::Empty(r#"{"status":"success","data":[]}"#.to_owned()),
                }
            }
            _ => Narrowed::Asked,
        }
    }

    fn identity(&self, question: &Question) -> Identity {
        let Question { params, outgoing, context, .. } = question;
        let headers: Vec<_> = self.key_headers.of(&outgoing.headers).collect();
        let scope = (self.namespace.as_str(), &context.tenant, outgoing.path.as_str());
        Identity::of_whole(scope, params, &headers)
    }

    fn past_cache(&self, question: &Question) -> Option<PastCache> {
        let Question { params, outgoing, context, .. } = question;
        PastCache::of(&outgoing.headers, params.get("query"), context.caller, self.limits.caches_alerts)
    }

    fn plan(&self, question: &Question, identity: Identity, past_cache: Option<PastCache>) -> Plan {
        let Question { endpoint, params, context, .. } = question;
        let facts = matches!(endpoint, Endpoint::Instant).then(|| promql::read(params.get("query")));
        let term = self.terms.term(*endpoint, params, facts.as_ref(), context.now);
        Plan { identity, past_cache, facts, term }
    }

    fn flight(&self, question: &Question, plan: &Plan) -> Flight {
        let Question { endpoint, outgoing, context, .. } = question;
        let estimate = match (endpoint, &plan.facts) {
            (Endpoint::Instant, facts) => {
                let widest_range_ms = facts.as_ref().and_then(|facts| facts.as_ref().ok()).map(Facts::widest_range_ms);
                Estimate::of_query(1, widest_range_ms.unwrap_or(0))
            }
            _ => Estimate::of_metadata(),
        };
        let standing = Standing::new(context, estimate, xxh3_64(plan.identity.bytes()));
        Flight {
            downstream: Arc::clone(&self.downstream),
            answers: Arc::clone(&self.answers),
            metrics: Arc::clone(&self.metrics),
            submission: Submission { outgoing: outgoing.clone(), deadline: context.deadline, standing },
            endpoint: *endpoint,
            identity: plan.identity.clone(),
            term: plan.term.ok().filter(|_| plan.past_cache.is_none()),
            terms: self.terms,
            now: context.now,
        }
    }
}

fn is_of_the_moment(outcome: &Outcome) -> bool {
    match outcome {
        Ok(answer) => answer.status.is_server_error(),
        Err(error) => error.is_of_the_moment(),
    }
}

/// The work of one flight: it holds all that it needs, so whoever began it may leave.
struct Flight {
    downstream: Arc<Downstream>,
    answers: Arc<WholeAnswers>,
    metrics: Arc<Metrics>,
    submission: Submission,
    endpoint: Endpoint,
    identity: Identity,
    /// For how long the answer may be kept, if it is one.
    term: Option<Term>,
    terms: Terms,
    now: Timestamp,
}

impl Flight {
    async fn run(self) -> Outcome {
        let Self { downstream, submission, .. } = self;
        let gathered = if self.endpoint.waits_in_queue() {
            downstream.ask_whole(submission).await?
        } else {
            downstream.ask_whole_past_queue(submission).await?
        };
        let answer = Arc::new(gathered.answer);
        let Some(term) = self.term else { return Ok(answer) };
        // By the server's clock if that is behind ours: what is not final there is not final.
        let fetched_at = date(&gathered.headers).map_or(self.now, |date| date.min(self.now));
        let verdict = match gathered.verdict {
            _ if answer.status != StatusCode::OK => return Ok(answer),
            Err(unkept) => Err(unkept.as_str()),
            Ok(()) if has_no_store(&gathered.headers) => Err("no-store"),
            Ok(()) => self.terms.hold(term, fetched_at),
        };
        match verdict {
            Ok(term) => self.answers.put(&self.identity, &answer, term, self.now),
            Err(reason) => Metrics::count(&self.metrics.cache_not_kept, reason),
        }
        Ok(answer)
    }
}
