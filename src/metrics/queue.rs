//! What waits, and who pulls.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{LaneLabels, ReasonLabels, ResultOf, StandingLabels, TenantLabels, Word};
use super::{count, durations, measure};
use crate::sched::queue::snapshot::{Snapshot, TenantCounts};
use crate::sched::queue::words::Lane;

type LaneFamily = Family<LaneLabels, Histogram, fn() -> Histogram>;

/// What waits in the queue, and who pulls.
#[derive(Debug)]
pub struct QueueMetrics {
    /// Requests that wait in the queue, by lane.
    pub length: Family<LaneLabels, Gauge>,
    /// Requests that wait or run, by tenant; those with least are one.
    pub tenants: Family<TenantLabels, Gauge>,
    /// Queriers that are there, by standing.
    pub queriers: Family<StandingLabels, Gauge>,
    /// Their slots.
    pub slots: Gauge,
    /// Seconds that requests waited before they were pulled.
    pub wait: LaneFamily,
    /// Requests that were not let in, by reason.
    pub refused: Family<ReasonLabels, Counter>,
    /// Requests that left the queue without having been answered, by reason.
    pub dropped: Family<ReasonLabels, Counter>,
    /// Failed tries by what followed.
    pub retries: Family<ResultOf, Counter>,
}

/// So many tenants have a label of their own; clients choose their names.
const MOST_TENANTS: usize = 100;
/// What the others are called; no tenant's name has a space.
const OTHER_TENANTS: &str = "all others";

impl QueueMetrics {
    pub(super) fn new(table: &mut Registry) -> Self {
        Self {
            length: count(table, "queue_length", "Requests that wait by lane", Family::default()),
            tenants: count(
                table,
                "queue_tenant_requests",
                "Requests that wait or run by tenant; beyond a hundred tenants those with least are one",
                Family::default(),
            ),
            queriers: count(table, "queriers", "Queriers by standing", Family::default()),
            slots: count(table, "querier_slots", "Slots of the queriers that serve", Gauge::default()),
            wait: measure(
                table,
                ("queue_wait", Unit::Seconds),
                "Time from the push of a request to its pull",
                Family::new_with_constructor(durations),
            ),
            refused: count(table, "queue_refused", "Requests not let in by reason", Family::default()),
            dropped: count(table, "queue_dropped", "Requests that left unanswered by reason", Family::default()),
            retries: count(table, "downstream_failed_tries", "Failed tries by what followed", Family::default()),
        }
    }

    /// Notes how long a request waited.
    pub fn waited(&self, lane: &'static str, waited: Duration) {
        self.wait.get_or_create(&LaneLabels { lane: Word(lane) }).observe(waited.as_secs_f64());
    }

    /// Counts what followed a failed try.
    pub fn retried(&self, result: &'static str) {
        self.retries.get_or_create(&ResultOf { result: Word(result) }).inc();
    }

    /// Shows what is in the queue.
    pub fn show(&self, snapshot: &Snapshot) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for lane in Lane::ALL {
            let labels = LaneLabels { lane: Word(lane.as_str()) };
            self.length.get_or_create(&labels).set(gauge(snapshot.lanes[lane].waiting));
        }
        self.slots.set(gauge(snapshot.slots));
        for standing in ["serving", "leaving", "vanished"] {
            let count = snapshot.queriers.iter().filter(|querier| querier.standing.as_str() == standing).count();
            self.queriers.get_or_create(&StandingLabels { standing: Word(standing) }).set(gauge(count));
        }
        let requests = |tenant: &TenantCounts| tenant.total().waiting + tenant.total().running;
        let mut tenants: Vec<&TenantCounts> = snapshot.tenants.iter().collect();
        tenants.sort_by_key(|tenant| std::cmp::Reverse(requests(tenant)));
        self.tenants.clear();
        for (i, tenant) in tenants.into_iter().enumerate() {
            let name = if i < MOST_TENANTS { tenant.tenant.as_str() } else { OTHER_TENANTS };
            let labels = TenantLabels { tenant: name.to_owned() };
            self.tenants.get_or_create(&labels).inc_by(gauge(requests(tenant)));
        }
    }
}
