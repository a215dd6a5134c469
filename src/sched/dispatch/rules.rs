//! From the configuration to the rules of the queue.

use crate::config::{Config, Limits};
use crate::limits::tenants::Tenants;
use crate::model::tenant::TenantId;
use crate::sched::queue::account::Weight;
use crate::sched::queue::rules::{Rules, TenantRules};
use crate::sched::shuffle::Share;

/// The rules that a checked configuration stands for.
pub(super) fn of(config: &Config) -> Rules {
    let tenants = Tenants::of(config);
    let default = rules(config, &config.limits, config.sched.max_queued_per_tenant);
    let own = config.tenants.iter().map(|(name, tenant)| {
        let name = TenantId::named(name);
        let max_queued = tenant.limits.max_queued.unwrap_or(default.max_queued);
        let own = rules(config, &tenants.limits_of(&name), max_queued);
        (name, own)
    });
    Rules {
        max_queued: config.sched.max_queued,
        default_tenant: default,
        tenants: own.collect(),
        querier_forget_delay: config.sched.querier_forget_delay,
        ..Rules::default()
    }
}

fn rules(config: &Config, limits: &Limits, max_queued: usize) -> TenantRules {
    TenantRules {
        weight: weight(limits.weight.0),
        max_queued,
        // With one tenant a cap would only keep slots empty.
        max_in_flight: if config.multitenancy.enabled { limits.max_in_flight.0 } else { Share::ALL },
        max_queriers: limits.max_queriers.0,
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
        let both = rules.of(&TenantId::named("a|b"));
        assert_eq!((both.weight, both.max_queued), (weight(1_000), 7), "of several tenants the strictest");
        let (a, other) = (rules.of(&TenantId::named("a")), rules.of(&TenantId::named("b")));
        assert_eq!(other, TenantRules { max_queued: 9, ..TenantRules::default() }.confined_to(4));
        assert_eq!(a, TenantRules { weight: weight(2_500), max_queued: 7, ..other });
        assert_eq!(of(&Config::default()).default_tenant.max_in_flight, Share::ALL, "there is one tenant");
    }
}
