//! The limits of each tenant: its own, or the common ones; of several tenants in one request the strictest of each.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{Config, InFlightShare, Limits, MaxQueriers, TenantLimits, TenantWeight};
use crate::error::{ApiError, ErrorKind};
use crate::model::tenant::TenantId;

/// The limits of all tenants.
#[derive(Clone, Debug)]
pub struct Tenants {
    common: Limits,
    own: HashMap<TenantId, Own>,
}

/// A tenant with limits of its own.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// What is written for it.
    written: TenantLimits,
    /// What holds for it.
    limits: Limits,
}

/// One limit: its name, and where a tenant's own one is written. `None` if it has none.
#[derive(Debug)]
pub struct Limit<T> {
    name: &'static str,
    own: fn(&TenantLimits) -> Option<T>,
}

/// See [`Limits::max_query_bytes`].
pub(super) const MAX_QUERY_BYTES: Limit<u64> = Limit { name: "max_query_bytes", own: |own| own.max_query_bytes };
/// See [`Limits::max_query_length`].
pub(super) const MAX_QUERY_LENGTH: Limit<Duration> =
    Limit { name: "max_query_length", own: |own| own.max_query_length };
/// See [`Limits::max_query_lookback`].
pub(super) const MAX_QUERY_LOOKBACK: Limit<Duration> =
    Limit { name: "max_query_lookback", own: |own| own.max_query_lookback };
/// See [`Limits::max_response_bytes`].
const MAX_RESPONSE_BYTES: Limit<u64> = Limit { name: "max_response_bytes", own: |own| own.max_response_bytes };

impl Tenants {
    /// Reads a checked configuration.
    pub fn of(config: &Config) -> Self {
        let common = config.limits;
        let own = config.tenants.iter().map(|(name, tenant)| {
            let written = tenant.limits;
            (TenantId::named(name), Own { written, limits: written_over(&written, common) })
        });
        Self { common, own: own.collect() }
    }

    /// The limits of one tenant, or of several together.
    pub fn limits_of(&self, tenant: &TenantId) -> Limits {
        // Most installations have no such table: no name need be hashed.
        if self.own.is_empty() {
            return self.common;
        }
        let one = |name: &str| self.own.get(name).map_or(self.common, |own| own.limits);
        tenant.parts().map(one).reduce(|a, b| strictest(&a, &b)).unwrap_or(self.common)
    }

    /// The option to change for a tenant whose `limit` is `value`: `tenants.team-a.limits.max_points`, or the common one.
    pub(super) fn option<T: PartialEq>(&self, tenant: &TenantId, limit: &Limit<T>, value: &T) -> String {
        let is_own =
            |name: &&str| self.own.get(*name).is_some_and(|own| (limit.own)(&own.written).as_ref() == Some(value));
        match tenant.parts().find(is_own) {
            Some(name) => format!("tenants.{name}.limits.{}", limit.name),
            None => format!("limits.{}", limit.name),
        }
    }

    /// The downstream's answer to one query, or to a part of it, is over the limit.
    pub fn response_too_large(&self, tenant: &TenantId) -> ApiError {
        let limit = self.limits_of(tenant).max_response_bytes;
        let option = self.option(tenant, &MAX_RESPONSE_BYTES, &limit);
        let message = format!(
            "the answer of the downstream is larger than {limit} bytes{} ({option}); ask for fewer series or a coarser step",
            of_tenant(tenant)
        );
        ApiError::new(ErrorKind::Execution, message)
    }
}

/// Whose limit it is, in the middle of a sentence; nothing if there is one tenant only.
pub(super) fn of_tenant(tenant: &TenantId) -> String {
    if *tenant == TenantId::anonymous() { String::new() } else { format!(" for tenant {tenant}") }
}

fn written_over(own: &TenantLimits, common: Limits) -> Limits {
    Limits {
        max_points: own.max_points.unwrap_or(common.max_points),
        max_query_bytes: own.max_query_bytes.unwrap_or(common.max_query_bytes),
        max_query_length: own.max_query_length.unwrap_or(common.max_query_length),
        max_query_lookback: own.max_query_lookback.unwrap_or(common.max_query_lookback),
        weight: own.weight.unwrap_or(common.weight),
        max_in_flight: own.max_in_flight.unwrap_or(common.max_in_flight),
        max_queriers: own.max_queriers.unwrap_or(common.max_queriers),
        max_parallelism: own.max_parallelism.unwrap_or(common.max_parallelism),
        max_response_bytes: own.max_response_bytes.unwrap_or(common.max_response_bytes),
    }
}

/// Of each limit the stricter one.
fn strictest(a: &Limits, b: &Limits) -> Limits {
    Limits {
        max_points: lower(a.max_points, b.max_points),
        max_query_bytes: lower(a.max_query_bytes, b.max_query_bytes),
        max_query_length: lower(a.max_query_length, b.max_query_length),
        max_query_lookback: lower(a.max_query_lookback, b.max_query_lookback),
        weight: TenantWeight(a.weight.0.min(b.weight.0)),
        max_in_flight: InFlightShare(a.max_in_flight.0.min(b.max_in_flight.0)),
        max_queriers: MaxQueriers(a.max_queriers.0.or_fewer(b.max_queriers.0)),
        max_parallelism: a.max_parallelism.min(b.max_parallelism),
        max_response_bytes: a.max_response_bytes.min(b.max_response_bytes),
    }
}

/// The lower of two limits of which nothing is no limit.
fn lower<T: Ord + Default>(a: T, b: T) -> T {
    let none = T::default();
    if a == none {
        b
    } else if b == none {
        a
    } else {
        a.min(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::shuffle::{ShardSize, Share};
    use std::num::NonZeroUsize;

    fn tenants(yaml: &str) -> Tenants {
        let config = Config::parse(yaml).expect("sound YAML");
        config.check().expect("a sound configuration");
        Tenants::of(&config)
    }

    const YAML: &str = "
limits: {max_query_length: 31d, max_query_lookback: 0s, max_points: 0, weight: 2}
tenants:
  a: {limits: {max_query_length: 7d, max_points: 500, max_queriers: 4, max_parallelism: 3, max_in_flight: 0.5}}
  b: {limits: {max_query_length: 0s, max_query_lookback: 90d, weight: 0.5, max_queriers: 0.25, max_response_bytes: 1MiB}}
";

    #[test]
    fn a_tenant_has_its_own_limits_and_otherwise_the_common_ones() {
        let tenants = tenants(YAML);
        let days = |days: u64| Duration::from_hours(24 * days);
        let a = tenants.limits_of(&TenantId::named("a"));
        assert_eq!((a.max_query_length, a.max_points, a.max_parallelism, a.weight.0), (days(7), 500, 3, 2_000));
        let b = tenants.limits_of(&TenantId::named("b"));
        assert_eq!((b.max_query_length, b.max_query_lookback, b.max_points), (Duration::ZERO, days(90), 0));
        assert_eq!(tenants.limits_of(&TenantId::named("c")), tenants.common);
        assert_eq!(tenants.limits_of(&TenantId::anonymous()), tenants.common);
    }

    #[test]
    fn several_tenants_have_the_strictest_of_each_limit() {
        let tenants = tenants(YAML);
        let both = tenants.limits_of(&TenantId::named("a|b"));
        let (quarter, four) = (Share::from_thousandths(250), NonZeroUsize::new(4));
        let want = Limits {
            max_query_length: Duration::from_hours(24 * 7),
            max_query_lookback: Duration::from_hours(24 * 90),
            max_points: 500,
            weight: TenantWeight(500),
            max_queriers: MaxQueriers(ShardSize::Fewer(four.expect("not 0"), quarter.expect("a share"))),
            max_parallelism: 3,
            max_in_flight: InFlightShare(Share::from_thousandths(500).expect("a share")),
            max_response_bytes: 1 << 20,
            ..tenants.common
        };
        assert_eq!(both, want);
        let with_other = tenants.limits_of(&TenantId::named("b|c"));
        assert_eq!(with_other.max_query_length, Duration::from_hours(24 * 31), "no limit is the least strict one");
    }

    #[test]
    fn the_option_is_the_one_that_is_written() {
        let tenants = tenants(YAML);
        let option = |name: &str| {
            let tenant = TenantId::named(name);
            let length = tenants.limits_of(&tenant).max_query_length;
            tenants.option(&tenant, &MAX_QUERY_LENGTH, &length)
        };
        assert_eq!(option("a"), "tenants.a.limits.max_query_length");
        assert_eq!(option("a|b"), "tenants.a.limits.max_query_length");
        assert_eq!(option("b|c"), "limits.max_query_length");
        assert_eq!(option("c"), "limits.max_query_length");
    }
}
