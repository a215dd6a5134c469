//! What is in the queue at one time, for people to look at.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::words::{Lane, PerLane, QuerierId};
use super::{Queue, Standing, State};
use crate::model::tenant::TenantId;

/// The queue at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// By lane.
    pub lanes: PerLane<Counts>,
    /// Tenants that wait or run something, by name.
    pub tenants: Vec<TenantCounts>,
    /// Queriers that are there, or are remembered, by name.
    pub queriers: Vec<QuerierCounts>,
    /// What queriers vanished under of late.
    pub suspects: usize,
    /// Slots of the queriers that serve.
    pub slots: usize,
}

/// What waits and runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that queriers run.
    pub running: usize,
    /// How long the oldest of them has waited.
    pub oldest_wait: Duration,
}

/// What waits and runs of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantCounts {
    /// Whose it is.
    pub tenant: TenantId,
    /// By lane.
    pub lanes: PerLane<Counts>,
    /// Requests that wait because one like them is being tried alone.
    pub held: usize,
    /// Whether it holds as many slots as it may and waits for more.
    pub at_cap: bool,
    /// The queriers that it is confined to and that serve; none if it is not confined.
    pub queriers: Option<Vec<QuerierId>>,
}

/// One querier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuerierCounts {
    /// Its name.
    pub querier: QuerierId,
    /// Whether it is there.
    pub standing: Standing,
    /// Its slots.
    pub slots: usize,
    /// Slots that wait for work.
    pub parked: usize,
    /// Requests that it runs, by lane.
    pub running: PerLane<usize>,
}

impl<T> Queue<T> {
    /// The queue at one time. It looks at everything that waits.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut lanes = PerLane::<Counts>::default();
        let mut of_tenants = BTreeMap::<_, PerLane<Counts>>::new();
        for (_, request) in self.requests.iter() {
            let of_tenant = of_tenants.entry(request.tenant).or_default();
            for counts in [&mut of_tenant[request.lane], &mut lanes[request.lane]] {
                if matches!(request.state, State::Running { .. }) {
                    counts.running += 1;
                } else {
                    counts.waiting += 1;
                    counts.oldest_wait = counts.oldest_wait.max(now.saturating_duration_since(request.since));
                }
            }
        }
        let name = |place| self.fleet.queriers[place].id.clone();
        let tenants = of_tenants.into_iter().map(|(place, lanes)| {
            let tenant = &self.tenants[place];
            TenantCounts {
                tenant: tenant.id.clone(),
                lanes,
                held: tenant.held,
                at_cap: tenant.on_bench,
                queriers: tenant.members.as_ref().map(|members| members.iter().copied().map(name).collect()),
            }
        });
        let mut tenants: Vec<_> = tenants.collect();
        tenants.sort_by(|a, b| a.tenant.as_str().cmp(b.tenant.as_str()));
        let queriers = self.fleet.queriers.iter().map(|(_, querier)| QuerierCounts {
            querier: querier.id.clone(),
            standing: querier.standing,
            slots: querier.slots,
            parked: querier.parked,
            running: querier.running,
        });
        let mut queriers: Vec<_> = queriers.collect();
        queriers.sort_by(|a, b| a.querier.cmp(&b.querier));
        Snapshot { lanes, tenants, queriers, suspects: self.quarantine.suspects.len(), slots: self.slots() }
    }
}

impl Counts {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.waiting + self.running == 0
    }
}

impl TenantCounts {
    /// What waits and runs in all lanes.
    pub fn total(&self) -> Counts {
        Lane::ALL.iter().fold(Counts::default(), |sum, &lane| Counts {
            waiting: sum.waiting + self.lanes[lane].waiting,
            running: sum.running + self.lanes[lane].running,
            oldest_wait: sum.oldest_wait.max(self.lanes[lane].oldest_wait),
        })
    }
}
