//! What promfront counts about itself: the one table of `promfront_*` metrics.
//!
//! Label values come from closed lists of ours, so no client can grow the table; tenants' names alone come from requests, and
//! at most a hundred of them are shown.

mod labels;
mod queue;

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use self::labels::{
    CodeLabels, HandlerLabels, HandlerName, LaneLabels, MissLabels, OperationLabels, OutcomeLabels, ReasonLabels,
    ResultLabels, ResultOf, ServerLabels, SourceLabels, StandingLabels, TenantLabels, WholeLabels, Word,
};
pub use self::queue::QueueMetrics;

type OperationFamily = Family<OperationLabels, Histogram, fn() -> Histogram>;
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
    /// Slots that were looked up, by tier and what they held of what was wanted: `hit`, `partial` or `miss`.
    pub cache_slots: Family<OutcomeLabels, Counter>,
    /// Why slots (in memory) and pages (of the shared tier) did not have what was wanted.
    pub cache_misses: Family<MissLabels, Counter>,
    /// How long the shared tier took, by operation.
    pub remote_duration: OperationFamily,
    /// Bytes that were read from the shared tier, and written to it.
    pub remote_bytes: Family<OperationLabels, Counter>,
    /// Pages for the shared tier by what became of them.
    pub remote_writes: Family<ResultOf, Counter>,
    /// Which servers of the shared tier are left alone at present.
    pub remote_breakers: Family<ServerLabels, Gauge>,
    /// Answers that were not kept, by reason.
    pub cache_not_kept: Family<ReasonLabels, Counter>,
    /// Extents that were kept.
    pub cache_kept: Counter,
    /// Entries evicted for room or age.
    pub cache_evictions: Counter,
    /// Answers that were sent again as they were sent before.
    pub cache_sent_again: Counter,
    /// Bytes of answers that were sent.
    pub cache_sent_bytes: Gauge,
    /// Bytes held in memory.
    pub cache_bytes: Gauge,
    /// Entries held in memory.
    pub cache_entries: Gauge,
    /// Parts that range queries were cut into.
    pub split_parts: Counter,
    /// Parts that waited for an identical one in flight instead of being asked for.
    pub coalesced: Counter,
    /// The configuration that is in force.
    pub config: ConfigMetrics,
    /// Questions whose answers are taken whole.
    pub whole: WholeMetrics,
    /// What waits, and who pulls.
    pub queue: QueueMetrics,
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
    /// Answers that broke off while they were handed on.
    pub downstream_broken_off: Counter,
}

/// The configuration that is in force.
#[derive(Debug)]
pub struct ConfigMetrics {
    /// Whether the last reload put the file's configuration in force.
    pub successful: Gauge,
    /// When one last did, in seconds since the epoch.
    pub success_at: Gauge,
}

impl ConfigMetrics {
    fn new(table: &mut Registry) -> Self {
        Self {
            successful: count(
                table,
                "config_last_reload_successful",
                "Whether the last reload of the configuration was a success",
                Gauge::default(),
            ),
            success_at: measure(
                table,
                ("config_last_reload_success_timestamp", Unit::Seconds),
                "When the configuration was last loaded with success",
                Gauge::default(),
            ),
        }
    }
}

/// Questions whose answers are taken whole.
#[derive(Debug)]
pub struct WholeMetrics {
    /// The questions by what became of them.
    pub answers: Family<WholeLabels, Counter>,
    /// Those that waited for an identical one in flight instead of being asked.
    pub coalesced: Counter,
    /// Answers held in memory.
    pub entries: Gauge,
    /// Their bytes.
    pub bytes: Gauge,
}

impl WholeMetrics {
    fn new(table: &mut Registry) -> Self {
        Self {
            answers: count(table, "whole_answers", "Questions answered whole, by result", Family::default()),
            coalesced: count(
                table,
                "coalesced_questions",
                "Questions that waited for an identical one in flight",
                Counter::default(),
            ),
            entries: count(table, "cache_whole_entries", "Whole answers held in memory", Gauge::default()),
            bytes: measure(
                table,
                ("cache_whole_size", Unit::Bytes),
                "Bytes of whole answers held in memory",
                Gauge::default(),
            ),
        }
    }
}

const DURATIONS: [f64; 12] = [0.001, 0.005, 0.02, 0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];

fn durations() -> Histogram {
    Histogram::new(DURATIONS)
}

/// The bounds for what should take less than a millisecond, in seconds.
const SHORT_DURATIONS: [f64; 10] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0];

fn short_durations() -> Histogram {
    Histogram::new(SHORT_DURATIONS)
}

/// Adds a metric to the table.
fn count<M: Metric + Clone>(table: &mut Registry, name: &str, help: &str, metric: M) -> M {
    table.register(name, help, metric.clone());
    metric
}

/// Adds a metric with a unit to the table.
fn measure<M: Metric + Clone>(table: &mut Registry, (name, unit): (&str, Unit), help: &str, metric: M) -> M {
    table.register_with_unit(name, help, unit, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh table, everything at zero.
    #[expect(clippy::too_many_lines, reason = "it is a table")]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("promfront");
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let table = &mut registry;
        Self {
            http_requests: count(table, "http_requests", "Requests answered", Family::default()),
            http_request_duration: measure(
                table,
                ("http_request_duration", Unit::Seconds),
                "Time to the head of an answer",
                Family::new_with_constructor(durations),
            ),
            range_queries: count(table, "range_queries", "Range queries by result", Family::default()),
            points: count(
                table,
                "range_query_points",
                "Instants of range queries by where they came from",
                Family::default(),
            ),
            cache_slots: count(
                table,
                "cache_slots",
                "Slots looked up by tier and what they held of what was wanted",
                Family::default(),
            ),
            cache_misses: count(
                table,
                "cache_misses",
                "Why slots in memory and pages of the shared tier did not have what was wanted",
                Family::default(),
            ),
            remote_duration: measure(
                table,
                ("cache_remote_duration", Unit::Seconds),
                "Time of operations on the shared tier",
                OperationFamily::new_with_constructor(short_durations),
            ),
            remote_bytes: measure(
                table,
                ("cache_remote_transferred", Unit::Bytes),
                "Bytes read from the shared tier and written to it",
                Family::default(),
            ),
            remote_writes: count(
                table,
                "cache_remote_writes",
                "Pages for the shared tier by what became of them",
                Family::default(),
            ),
            remote_breakers: count(
                table,
                "cache_remote_breaker_open",
                "1 for each server of the shared tier that is left alone at present",
                Family::default(),
            ),
            cache_not_kept: count(table, "cache_not_kept", "Answers not kept by reason", Family::default()),
            cache_kept: count(table, "cache_kept_extents", "Extents kept", Counter::default()),
            cache_evictions: count(table, "cache_evictions", "Entries evicted for room or age", Counter::default()),
            cache_sent_again: count(
                table,
                "cache_sent_again",
                "Answers sent again as they were sent before",
                Counter::default(),
            ),
            cache_sent_bytes: measure(
                table,
                ("cache_sent_size", Unit::Bytes),
                "Bytes of answers held as they were sent",
                Gauge::default(),
            ),
            cache_bytes: measure(table, ("cache_size", Unit::Bytes), "Bytes held in memory", Gauge::default()),
            cache_entries: count(table, "cache_entries", "Entries held in memory", Gauge::default()),
            split_parts: count(table, "split_parts", "Parts that range queries were cut into", Counter::default()),
            coalesced: count(
                table,
                "coalesced_parts",
                "Parts that waited for an identical one in flight",
                Counter::default(),
            ),
            config: ConfigMetrics::new(table),
            whole: WholeMetrics::new(table),
            queue: QueueMetrics::new(table),
            downstream_requests: count(
                table,
                "downstream_requests",
                "Requests sent downstream by code, 0 for none",
                Family::default(),
            ),
            downstream_in_flight: count(
                table,
                "downstream_requests_in_flight",
                "Requests that wait downstream",
                Gauge::default(),
            ),
            downstream_response_bytes: measure(
                table,
                ("downstream_response", Unit::Bytes),
                "Decoded bytes of answers to range parts",
                Counter::default(),
            ),
            downstream_duration: measure(
                table,
                ("downstream_request_duration", Unit::Seconds),
                "Time of range parts",
                durations(),
            ),
            downstream_refused: count(
                table,
                "downstream_refused",
                "Answers that could not be used by reason",
                Family::default(),
            ),
            downstream_broken_off: count(
                table,
                "downstream_broken_off",
                "Answers that broke off while they were handed on",
                Counter::default(),
            ),
            registry,
        }
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

    /// Counts looked-up slots of a tier by outcome.
    pub fn count_slots(&self, tier: &'static str, outcomes: &[(&'static str, u64)]) {
        for (outcome, count) in outcomes {
            let labels = OutcomeLabels { tier: Word(tier), outcome: Word(outcome) };
            self.cache_slots.get_or_create(&labels).inc_by(*count);
        }
    }

    /// Counts why a tier did not have what was wanted.
    pub fn count_misses(&self, tier: &'static str, reason: &'static str, count: u64) {
        self.cache_misses.get_or_create(&MissLabels { tier: Word(tier), reason: Word(reason) }).inc_by(count);
    }

    /// Notes how long the shared tier took.
    pub fn remote_took(&self, operation: &'static str, took: Duration) {
        let labels = OperationLabels { operation: Word(operation) };
        self.remote_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts bytes that went to or came from the shared tier.
    pub fn remote_bytes(&self, operation: &'static str, bytes: u64) {
        self.remote_bytes.get_or_create(&OperationLabels { operation: Word(operation) }).inc_by(bytes);
    }

    /// Counts what became of a page for the shared tier.
    pub fn remote_written(&self, result: &'static str) {
        self.remote_writes.get_or_create(&ResultOf { result: Word(result) }).inc();
    }

    /// Shows the servers of the shared tier, and whether each is left alone.
    pub fn remote_servers(&self, servers: impl IntoIterator<Item = (String, bool)>) {
        self.remote_breakers.clear();
        for (server, is_open) in servers {
            self.remote_breakers.get_or_create(&ServerLabels { server }).set(is_open.into());
        }
    }

    /// Counts served instants.
    pub fn served(&self, source: &'static str, points: u64) {
        self.points.get_or_create(&SourceLabels { source: Word(source) }).inc_by(points);
    }
}
