//! The limits of a range query, judged on the client's own request: the server sees only parts of it.

use std::time::Duration;

use crate::config::Limits;
use crate::error::{ApiError, ErrorKind};
use crate::limits::tenants::{Limit, MAX_QUERY_BYTES, MAX_QUERY_LENGTH, MAX_QUERY_LOOKBACK, Tenants, of_tenant};
use crate::model::tenant::TenantId;
use crate::model::time::span;
use crate::request::RangeQuery;

/// Refuses a range query that is too much for its tenant; its text is judged by [`check_text`].
pub fn check(tenants: &Tenants, tenant: &TenantId, query: &RangeQuery) -> Result<(), ApiError> {
    let limits = tenants.limits_of(tenant);
    check_points(limits.max_points, query.grid.len())?;
    check_length(tenants, tenant, query.end.since(query.start))
}

/// Refuses a query whose text is too long: of any endpoint that takes one.
pub fn check_text(tenants: &Tenants, tenant: &TenantId, text: &str) -> Result<(), ApiError> {
    check_bytes(tenants, tenant, text.len())
}

fn check_bytes(tenants: &Tenants, tenant: &TenantId, length: usize) -> Result<(), ApiError> {
    let (length, limit) = (length as u64, tenants.limits_of(tenant).max_query_bytes);
    if limit == 0 || length <= limit {
        return Ok(());
    }
    let option = tenants.option(tenant, &MAX_QUERY_BYTES, &limit);
    let message = format!(
        "the query is {length} bytes long and the limit{} is {limit} ({option}); shorten it, or record parts of it as rules",
        of_tenant(tenant)
    );
    Err(ApiError::new(ErrorKind::BadData, message))
}

/// Refuses a range that is too long.
pub fn check_length(tenants: &Tenants, tenant: &TenantId, length: Duration) -> Result<(), ApiError> {
    let limit = tenants.limits_of(tenant).max_query_length;
    if limit.is_zero() || length <= limit {
        return Ok(());
    }
    let option = tenants.option(tenant, &MAX_QUERY_LENGTH, &limit);
    let message = format!(
        "the range of the query is {} long and the limit{} is {} ({option}); ask for a shorter range",
        span(length),
        of_tenant(tenant),
        span(limit)
    );
    Err(ApiError::new(ErrorKind::Execution, message))
}

/// What is no question to us passes whole, unless a limit holds that could not be judged then. `bytes`: how long all of it is, if
/// its text can't be found.
pub fn check_unread(tenants: &Tenants, tenant: &TenantId, bytes: usize) -> Result<(), ApiError> {
    check_bytes(tenants, tenant, bytes)?;
    let Limits { max_query_length, max_query_lookback, .. } = tenants.limits_of(tenant);
    let limit: (&Limit<Duration>, Duration) = match (max_query_length.is_zero(), max_query_lookback.is_zero()) {
        (true, true) => return Ok(()),
        (false, _) => (&MAX_QUERY_LENGTH, max_query_length),
        (true, false) => (&MAX_QUERY_LOOKBACK, max_query_lookback),
    };
    let (option, length) = (tenants.option(tenant, limit.0, &limit.1), span(limit.1));
    let message = format!(
        "it can't be told which instants this asks for, and there is a limit of {length}{} on them ({option}); give query, \
         start, end and step, the times in seconds or as 2030-01-31T00:00:00Z and the step in whole milliseconds, and no \
         other parameter that the server would refuse",
        of_tenant(tenant)
    );
    Err(ApiError::new(ErrorKind::BadData, message))
}

/// In Prometheus's own words: cutting must not let through what it refuses.
fn check_points(limit: u64, points: u64) -> Result<(), ApiError> {
    if limit == 0 || points <= limit.saturating_add(1) {
        return Ok(());
    }
    let message = format!(
        "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
        thousands(limit)
    );
    Err(ApiError::new(ErrorKind::BadData, message))
}

/// 11000 as `11,000`: Prometheus writes it so.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::params::Params;
    use crate::model::time::{Step, Timestamp};

    const YAML: &str = "
limits: {max_query_bytes: 20, max_query_length: 1d12h}
tenants:
  a: {limits: {max_query_length: 1h, max_points: 60}}
  b: {limits: {max_query_bytes: 2, max_query_length: 0s}}
  c: {limits: {max_query_length: 0s, max_query_lookback: 30d}}
  d: {limits: {max_query_length: 0s}}
";

    fn tenants() -> Tenants {
        Tenants::of(&Config::parse(YAML).expect("sound"))
    }

    fn refusal(tenant: &str, query: &str, seconds: i64, step: i64) -> String {
        let params = Params::read(Some(&format!("query={query}")), None).expect("readable");
        let (start, end) = (Timestamp::from_ms(7), Timestamp::from_ms(7 + seconds * 1000));
        let step = Step::from_ms(step * 1000).expect("positive");
        let grid = crate::model::grid::StepGrid::new(start, step, end).expect("a grid");
        let query = RangeQuery { params, grid, start, end, limit: None, wants_stats: false, timeout: None };
        let (tenants, tenant) = (tenants(), TenantId::named(tenant));
        match check_text(&tenants, &tenant, query.text()).and_then(|()| check(&tenants, &tenant, &query)) {
            Ok(()) => String::new(),
            Err(error) => format!("{} {}", error.kind.status().as_u16(), error.message),
        }
    }

    #[test]
    fn each_limit_takes_its_value_and_refuses_the_next() {
        let day_and_a_half = 129_600;
        assert_eq!(refusal("anonymous", "up", day_and_a_half, 3600), "");
        assert_eq!(
            refusal("anonymous", "up", day_and_a_half + 1, 3600),
            "422 the range of the query is 1d12h1s long and the limit is 1d12h (limits.max_query_length); ask for a shorter \
             range"
        );
        assert_eq!(refusal("a", "up", 3600, 60), "");
        assert_eq!(
            refusal("a", "up", 3601, 3600),
            "422 the range of the query is 1h1s long and the limit for tenant a is 1h (tenants.a.limits.max_query_length); \
             ask for a shorter range"
        );
        assert_eq!(
            refusal("a", "up", 3600, 59),
            "400 exceeded maximum resolution of 60 points per timeseries. Try decreasing the query resolution (?step=XX)"
        );
        assert_eq!(refusal("b", "up", 100 * day_and_a_half, 86_400), "");
        assert_eq!(
            refusal("b", "up0", 1, 1),
            "400 the query is 3 bytes long and the limit for tenant b is 2 (tenants.b.limits.max_query_bytes); shorten it, or \
             record parts of it as rules"
        );
        assert!(refusal("a|b", "up0", 1, 1).contains("for tenant a|b is 2 (tenants.b.limits.max_query_bytes)"));
        assert!(refusal("a|b", "up", 3601, 3600).contains("for tenant a|b is 1h (tenants.a.limits.max_query_length)"));
        assert!(refusal("x", "up", 1, 1).is_empty());
        assert_eq!((thousands(999), thousands(11_000)), ("999".to_owned(), "11,000".to_owned()));
    }

    #[test]
    fn what_cannot_be_judged_passes_only_where_nothing_holds() {
        let says = |tenant: &str| check_unread(&tenants(), &TenantId::named(tenant), 0).map_err(|error| error.message);
        assert_eq!(says("d"), Ok(()));
        assert!(
            says("a")
                .expect_err("a length")
                .contains("limit of 1h for tenant a on them (tenants.a.limits.max_query_length)")
        );
        assert!(
            says("c")
                .expect_err("a lookback")
                .contains("30d for tenant c on them (tenants.c.limits.max_query_lookback)")
        );
    }
}
