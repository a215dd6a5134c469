//! `limits.max_query_lookback`: what lies too far back is left out.
//!
//! The rule: instants are left out from the beginning of the range, never in the middle, and those that stay are not moved. A
//! query that reads no series is not narrowed: Grafana's test of a datasource asks `1+1` at four seconds past 1970.

use crate::error::{ApiError, ErrorKind};
use crate::limits::tenants::{MAX_QUERY_LOOKBACK, Tenants, of_tenant};
use crate::model::grid::StepGrid;
use crate::model::tenant::TenantId;
use crate::model::time::{Timestamp, span};
use crate::promql::{Facts, Kind};

/// The earliest instant that a tenant is answered for; none if it is any.
pub fn bound(tenants: &Tenants, tenant: &TenantId, now: Timestamp) -> Option<Timestamp> {
    let limit = tenants.limits_of(tenant).max_query_lookback;
    (!limit.is_zero()).then(|| now.before(limit))
}

/// What is left of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All of it.
    Whole,
    /// Its later instants.
    From(StepGrid),
    /// Nothing.
    Nothing,
}

/// The instants of `grid` that are answered. `facts` are those of the query's text, if it was understood.
pub fn range(grid: &StepGrid, facts: Option<&Facts>, bound: Option<Timestamp>) -> Range {
    let Some(bound) = bound.filter(|bound| grid.start() < *bound && reads_series(facts)) else { return Range::Whole };
    grid.from(bound).map_or(Range::Nothing, Range::From)
}

/// What becomes of an instant query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instant {
    /// It is asked.
    AsItIs,
    /// The answer is that there are no series, in a result of this kind.
    Empty(Kind),
    /// There is no answer that leaves out anything.
    Refused(ApiError),
}

/// Judges an instant query at `time`, which is the parameter's text: empty means now.
pub fn instant((tenants, tenant): (&Tenants, &TenantId), facts: Option<&Facts>, time: &str, now: Timestamp) -> Instant {
    let Some(bound) = bound(tenants, tenant, now).filter(|_| !time.is_empty() && reads_series(facts)) else {
        return Instant::AsItIs;
    };
    let told = match Timestamp::parse(time) {
        Some(time) if time >= bound => return Instant::AsItIs,
        Some(_) => match facts.map(Facts::kind) {
            Some(kind @ (Kind::Vector | Kind::Matrix)) => return Instant::Empty(kind),
            Some(Kind::Scalar) => "the query reads series and gives a number, at a time",
            None => "the query is for a time",
        },
        None => "the query is for a time that can't be read, and may be one",
    };
    let limit = tenants.limits_of(tenant).max_query_lookback;
    let message = format!(
        "{told} that lies further back than {}{} ({}); ask for a later time",
        span(limit),
        of_tenant(tenant),
        tenants.option(tenant, &MAX_QUERY_LOOKBACK, &limit)
    );
    Instant::Refused(ApiError::new(ErrorKind::Execution, message))
}

/// What is left of the range of a question about series, labels or exemplars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// All of it.
    AsItIs,
    /// What begins here, which is to be its `start`.
    From(Timestamp),
    /// Nothing.
    Nothing,
}

/// Judges a range of which each end may be absent, given as the texts of the parameters: without a start it begins when time
/// does. The bound is a whole minute, so that the question repeats.
pub fn window(start: &str, end: &str, bound: Option<Timestamp>) -> Window {
    let Some(bound) = bound.map(Timestamp::minute_up) else { return Window::AsItIs };
    if Timestamp::parse(end).is_some_and(|end| end < bound) {
        return Window::Nothing;
    }
    match Timestamp::parse(start) {
        Some(start) if start >= bound => Window::AsItIs,
        // One that is not understood may be any.
        _ => Window::From(bound),
    }
}

/// What is not understood may read anything.
fn reads_series(facts: Option<&Facts>) -> bool {
    facts.is_none_or(Facts::reads_series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::time::Step;
    use crate::promql;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn grid(start: i64, step: i64, end: i64) -> StepGrid {
        let step = Step::from_ms(step).expect("positive");
        StepGrid::new(Timestamp::from_ms(start), step, Timestamp::from_ms(end)).expect("a grid")
    }

    proptest! {
        #[test]
        fn exactly_the_older_instants_are_left_out(start in -500_i64..500, step in 1_i64..60, length in 0_i64..900, bound in -600_i64..1500) {
            let asked = grid(start, step, start + length);
            let bound = Timestamp::from_ms(bound);
            let kept: BTreeSet<_> = match range(&asked, None, Some(bound)) {
                Range::Whole => asked.instants().collect(),
                Range::From(narrowed) => {
                    prop_assert!(asked.is_congruent(&narrowed) && narrowed.last() == asked.last());
                    narrowed.instants().collect()
                }
                Range::Nothing => BTreeSet::new(),
            };
            prop_assert_eq!(kept, asked.instants().filter(|instant| *instant >= bound).collect());
            prop_assert_eq!(range(&asked, None, None), Range::Whole);
        }
    }

    #[test]
    fn what_reads_no_series_is_not_narrowed() {
        let asked = grid(4_000, 1_000, 9_000);
        let bound = Some(Timestamp::from_ms(1_000_000));
        for (query, want) in [
            ("1+1", Range::Whole),
            ("time()", Range::Whole),
            ("vector(1)", Range::Whole),
            ("up", Range::Nothing),
            ("vector(scalar(up))", Range::Nothing),
            ("absent(up @ 0)", Range::Nothing),
        ] {
            let facts = promql::read(query).expect("understood");
            assert_eq!(range(&asked, Some(&facts), bound), want, "{query}");
        }
    }

    #[test]
    fn instant_queries_are_asked_empty_or_refused() {
        let yaml = "limits: {max_query_lookback: 1h}\ntenants: {a: {limits: {max_query_lookback: 0s}}}";
        let tenants = Tenants::of(&Config::parse(yaml).expect("sound"));
        let now = Timestamp::from_ms(10_000_000);
        let judge = |tenant: &str, query: &str, time: &str| {
            let facts = promql::read(query).ok();
            match instant((&tenants, &TenantId::named(tenant)), facts.as_ref(), time, now) {
                Instant::AsItIs => "as it is".to_owned(),
                Instant::Empty(kind) => kind.as_str().to_owned(),
                Instant::Refused(error) => error.message,
            }
        };
        for (query, time, want) in [
            ("up", "", "as it is"),
            ("up", "6400", "as it is"),
            ("up", "6399.999", "vector"),
            ("sum(up) + 1", "4", "vector"),
            ("up[5m]", "4", "matrix"),
            ("(max_over_time(up[5m])[1h:1m])", "4", "matrix"),
            ("1+1", "4", "as it is"),
            ("time()", "what?", "as it is"),
            ("\"text\"", "4", "as it is"),
        ] {
            assert_eq!(judge("anonymous", query, time), want, "{query} at {time}");
        }
        let told = "further back than 1h (limits.max_query_lookback); ask for a later time";
        assert_eq!(
            judge("anonymous", "scalar(up) + 1", "4"),
            format!("the query reads series and gives a number, at a time that lies {told}")
        );
        assert_eq!(judge("anonymous", "later_grammar(up)", "4"), format!("the query is for a time that lies {told}"));
        assert_eq!(
            judge("anonymous", "up", "-2h"),
            format!("the query is for a time that can't be read, and may be one that lies {told}")
        );
        assert_eq!(judge("a", "later_grammar(up)", "-2h"), "as it is");
    }

    #[test]
    fn windows_begin_at_a_whole_minute() {
        let bound = Some(Timestamp::from_ms(60_001));
        let from = Window::From(Timestamp::from_ms(120_000));
        for (start, end, want) in [
            ("", "", from),
            ("0", "", from),
            ("119.999", "600", from),
            ("120", "600", Window::AsItIs),
            ("", "119.999", Window::Nothing),
            ("0", "120", from),
            ("-1h", "", from),
        ] {
            assert_eq!(window(start, end, bound), want, "{start}..{end}");
            assert_eq!(window(start, end, None), Window::AsItIs);
        }
    }
}
