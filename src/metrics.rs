//! What promfront counts about itself: the one table of `promfront_*` metrics.
//!
//! Label values come from closed lists of ours, never from a request, so no client can grow the table.

use std::fmt::Write;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// A word from one of our closed lists, as a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(pub &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

/// `status` and `reason` of an answer, the words of `X-Promfront-Result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// `hit`, `phit`, `miss`, `coalesced`, `bypass` or `error`.
    pub status: Word,
    /// Why it was not a hit; empty for one.
    pub reason: Word,
}

/// Which of our handlers answered, and with what code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandlerLabels {
    /// `query_range`, `api` or `other`; our own pages are not counted.
    pub handler: Word,
    /// The status code.
    pub code: u16,
}

/// Why something was done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// A word from a closed list.
    pub reason: Word,
}

/// What came of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `hit`, `partial` or `miss`.
    pub outcome: Word,
}

/// Where points came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// `cache` or `downstream`.
    pub source: Word,
}

/// What the downstream answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabels {
    /// The status code; `0` if there was no answer.
    pub code: u16,
}

/// Which of our handlers answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandlerName {
    /// As in [`HandlerLabels`].
    pub handler: Word,
}

type DurationFamily = Family<HandlerName, Histogram, fn() -> Histogram>;

/// All metrics. Handed around behind an `Arc`; every field may be counted up from anywhere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests answered, by handler and code.
    pub http_requests: Family<HandlerLabels, Counter>,
    /// How long answers took, by handler.
    pub http_request_duration: DurationFamily,
    /// Range queries by what became of them.
    pub range_queries: Family<ResultLabels, Counter>,
    /// Instants of range queries that were served, by where they came from.
    pub points: Family<SourceLabels, Counter>,
    /// Slots that were looked up, by what they held of what was wanted: `hit`, `partial` or `miss`.
    pub cache_slots: Family<OutcomeLabels, Counter>,
    /// Answers that were not kept, by reason.
    pub cache_not_kept: Family<ReasonLabels, Counter>,
    /// Extents that were kept.
    pub cache_kept: Counter,
    /// Entries evicted for room or age.
    pub cache_evictions: Counter,
    /// Bytes held in memory.
    pub cache_bytes: Gauge,
    /// Entries held in memory.
    pub cache_entries: Gauge,
    /// Parts that range queries were cut into.
    pub split_parts: Counter,
    /// Parts that waited for an identical one in flight instead of being asked for.
    pub coalesced: Counter,
    /// Requests sent downstream, by code.
    pub downstream_requests: Family<CodeLabels, Counter>,
    /// Requests that wait downstream.
    pub downstream_in_flight: Gauge,
    /// Bytes of answers to range parts, decoded.
    pub downstream_response_bytes: Counter,
    /// Seconds from the request to the end of the body of range parts.
    pub downstream_duration: Histogram,
    /// Answers that could not be used, by reason.
    pub downstream_refused: Family<ReasonLabels, Counter>,
}

const DURATIONS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh table, everything at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("promfront"),
            http_requests: Family::default(),
            http_request_duration: Family::new_with_constructor(durations),
            range_queries: Family::default(),
            points: Family::default(),
            cache_slots: Family::default(),
            cache_not_kept: Family::default(),
            cache_kept: Counter::default(),
            cache_evictions: Counter::default(),
            cache_bytes: Gauge::default(),
            cache_entries: Gauge::default(),
            split_parts: Counter::default(),
            coalesced: Counter::default(),
            downstream_requests: Family::default(),
            downstream_in_flight: Gauge::default(),
            downstream_response_bytes: Counter::default(),
            downstream_duration: durations(),
            downstream_refused: Family::default(),
        };
        let mut registry = std::mem::take(&mut metrics.registry);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        registry.register("http_requests", "Requests answered", metrics.http_requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time to the head of an answer",
            Unit::Seconds,
            metrics.http_request_duration.clone(),
        );
        registry.register("range_queries", "Range queries by result", metrics.range_queries.clone());
        registry.register(
            "range_query_points",
            "Instants of range queries by where they came from",
            metrics.points.clone(),
        );
        registry.register(
            "cache_slots",
            "Slots looked up by what they held of what was wanted",
            metrics.cache_slots.clone(),
        );
        registry.register("cache_not_kept", "Answers not kept by reason", metrics.cache_not_kept.clone());
        registry.register("cache_kept_extents", "Extents kept", metrics.cache_kept.clone());
        registry.register("cache_evictions", "Entries evicted for room or age", metrics.cache_evictions.clone());
        registry.register_with_unit("cache_size", "Bytes held in memory", Unit::Bytes, metrics.cache_bytes.clone());
        registry.register("cache_entries", "Entries held in memory", metrics.cache_entries.clone());
        registry.register("split_parts", "Parts that range queries were cut into", metrics.split_parts.clone());
        registry.register(
            "coalesced_parts",
            "Parts that waited for an identical one in flight",
            metrics.coalesced.clone(),
        );
        registry.register(
            "downstream_requests",
            "Requests sent downstream by code, 0 for none",
            metrics.downstream_requests.clone(),
        );
        registry.register(
            "downstream_requests_in_flight",
            "Requests that wait downstream",
            metrics.downstream_in_flight.clone(),
        );
        registry.register_with_unit(
            "downstream_response",
            "Decoded bytes of answers to range parts",
            Unit::Bytes,
            metrics.downstream_response_bytes.clone(),
        );
        registry.register_with_unit(
            "downstream_request_duration",
            "Time of range parts",
            Unit::Seconds,
            metrics.downstream_duration.clone(),
        );
        registry.register(
            "downstream_refused",
            "Answers that could not be used by reason",
            metrics.downstream_refused.clone(),
        );
        metrics.registry = registry;
        metrics
    }

    /// All metrics in the text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a string can be written to");
        text
    }

    /// Counts one answered request.
    pub fn answered(&self, handler: &'static str, code: u16, took: Duration) {
        self.http_requests.get_or_create(&HandlerLabels { handler: Word(handler), code }).inc();
        self.http_request_duration.get_or_create(&HandlerName { handler: Word(handler) }).observe(took.as_secs_f64());
    }

    /// Counts one word of a closed list.
    pub fn count(family: &Family<ReasonLabels, Counter>, reason: &'static str) {
        family.get_or_create(&ReasonLabels { reason: Word(reason) }).inc();
    }

    /// Counts looked-up slots by outcome.
    pub fn count_slots(&self, outcomes: &[(&'static str, u64)]) {
        for (outcome, count) in outcomes {
            self.cache_slots.get_or_create(&OutcomeLabels { outcome: Word(outcome) }).inc_by(*count);
        }
    }

    /// Counts served instants.
    pub fn served(&self, source: &'static str, points: u64) {
        self.points.get_or_create(&SourceLabels { source: Word(source) }).inc_by(points);
    }
}
