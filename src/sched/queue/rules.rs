//! What the queue is told by the configuration. All of it may change at any time.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::account::Weight;
use crate::model::tenant::TenantId;
use crate::sched::shuffle::{ShardSize, Share};

/// The rules of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// So many requests may wait in all.
    pub max_queued: usize,
    /// For tenants that have no rules of their own.
    pub default_tenant: TenantRules,
    /// For these tenants.
    pub tenants: HashMap<TenantId, TenantRules>,
    /// Alerts go first while they hold less than this share of the slots; beyond it they wait their turn like others.
    pub alert_share: Share,
    /// This share of each querier's slots is closed to the normal lane, if it has at least [`Rules::FEWEST_SLOTS`].
    pub small_share: Share,
    /// What a tenant's cap keeps free is lent to it when nobody else was seen for so long.
    pub lend_after: Duration,
    /// A querier that vanished is remembered for so long.
    pub querier_forget_delay: Duration,
    /// A request is given out at most so often.
    pub max_attempts: u32,
    /// A request that was in flight on so many queriers when they vanished is not given out any more for a while.
    pub quarantine_after: u32,
}

impl Rules {
    /// A querier with fewer slots keeps none of them for small requests.
    pub const FEWEST_SLOTS: usize = 4;

    /// How many slots of a querier with `slots` of them are closed to the normal lane.
    pub fn kept_for_small(&self, slots: usize) -> usize {
        if slots < Self::FEWEST_SLOTS { 0 } else { self.small_share.of(slots).min(slots - 1) }
    }

    /// The rules of one tenant, or of several together.
    pub fn of(&self, tenant: &TenantId) -> TenantRules {
        // Most installations have no such table: the name need not be hashed.
        if self.tenants.is_empty() {
            return self.default_tenant;
        }
        let one = |name: &str| self.tenants.get(name).copied().unwrap_or(self.default_tenant);
        tenant.parts().map(one).reduce(TenantRules::or_stricter).unwrap_or(self.default_tenant)
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            max_queued: 100_000,
            default_tenant: TenantRules::default(),
            tenants: HashMap::new(),
            alert_share: Share::from_thousandths(250).expect("a quarter is a share"),
            small_share: Share::from_thousandths(125).expect("an eighth is a share"),
            lend_after: Duration::from_mins(1),
            querier_forget_delay: Duration::from_mins(1),
            max_attempts: 2,
            quarantine_after: 2,
        }
    }
}

/// The rules of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantRules {
    /// Its weight beside others.
    pub weight: Weight,
    /// So many of its requests may wait.
    pub max_queued: usize,
    /// This share of the slots that it may reach may be its own at one time.
    pub max_in_flight: Share,
    /// How many queriers it is confined to.
    pub max_queriers: ShardSize,
}

impl TenantRules {
    /// How many slots the tenant may hold of `reach` that it may reach; alerts have some more, so that they do not wait behind
    /// what else their tenant runs. All of the slots is no cap: what still runs on queriers that leave keeps no slot empty.
    pub fn room(&self, reach: usize) -> usize {
        if self.max_in_flight == Share::ALL { usize::MAX } else { self.max_in_flight.of(reach).max(1) }
    }

    /// How many slots its alerts may hold beyond the room that all have.
    pub fn alert_room(&self, reach: usize, alert_share: Share) -> usize {
        self.max_in_flight.of(alert_share.of(reach))
    }

    /// Of each rule the stricter one.
    #[must_use]
    pub fn or_stricter(self, other: Self) -> Self {
        Self {
            weight: self.weight.min(other.weight),
            max_queued: self.max_queued.min(other.max_queued),
            max_in_flight: self.max_in_flight.min(other.max_in_flight),
            max_queriers: self.max_queriers.or_fewer(other.max_queriers),
        }
    }

    /// Confined to so many queriers; 0 is all.
    #[must_use]
    pub fn confined_to(mut self, queriers: usize) -> Self {
        self.max_queriers = NonZeroUsize::new(queriers).map_or(ShardSize::All, ShardSize::Count);
        self
    }
}

impl Default for TenantRules {
    fn default() -> Self {
        Self {
            weight: Weight::ONE,
            max_queued: 800,
            max_in_flight: Share::from_thousandths(750).expect("three quarters are a share"),
            max_queriers: ShardSize::All,
        }
    }
}
