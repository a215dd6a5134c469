//! From the configuration to the rules of the queue.

use crate::config::{Config, TenantLimits};
use crate::model::tenant::TenantId;
use crate::sched::queue::account::Weight;
use crate::sched::queue::rules::{Rules, TenantRules};
use crate::sched::shuffle::Share;

/// The rules that a checked configuration stands for.
pub(super) fn of(config: &Config) -> Rules {
    let limits = &config.limits;
    let default_tenant = TenantRules {
        weight: weight(limits.weight.0),
        max_queued: config.sched.max_queued_per_tenant,
        // With one tenant a cap would only keep slots empty.
        max_in_flight: if config.multitenancy.enabled { limits.max_in_flight.0 } else { Share::ALL },
        max_queriers: limits.max_queriers.0,
    };
    let own = |limits: &TenantLimits| TenantRules {
        weight: limits.weight.map_or(default_tenant.weight, |own| weight(own.0)),
        max_queued: limits.max_queued.unwrap_or(default_tenant.max_queued),
        max_in_flight: limits.max_in_flight.map_or(default_tenant.max_in_flight, |own| own.0),
        max_queriers: limits.max_queriers.map_or(default_tenant.max_queriers, |own| own.0),
    };
    Rules {
        max_queued: config.sched.max_queued,
        default_tenant,
        tenants: config.tenants.iter().map(|(name, tenant)| (TenantId::named(name), own(&tenant.limits))).collect(),
        querier_forget_delay: config.sched.querier_forget_delay,
        ..Rules::default()
    }
}

fn weight(thousandths: u32) -> Weight {
    Weight::from_thousandths(thousandths).expect("a weight of nothing is no configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_limits_and_otherwise_the_common_ones() {
        let text = "multitenancy: {enabled: true}\nsched: {max_queued_per_tenant: 9}\nlimits: {max_queriers: 4}\n\
                    tenants: {a: {limits: {weight: 2.5, max_queued: 7}}}\n";
        let rules = of(&Config::parse(text).expect("sound"));
        let (a, other) = (rules.of(&TenantId::named("a")), rules.of(&TenantId::named("b")));
        assert_eq!(other, TenantRules { max_queued: 9, ..TenantRules::default() }.confined_to(4));
        assert_eq!(a, TenantRules { weight: weight(2_500), max_queued: 7, ..other });
        assert_eq!(of(&Config::default()).default_tenant.max_in_flight, Share::ALL, "there is one tenant");
    }
}
