//! `query_range`'s parameters, read as Prometheus reads them.
//!
//! Reading never refuses. What is no range query on a grid of whole milliseconds *to us* passes whole, and the server
//! behind refuses it, or answers it, in its own words: a missing parameter, a step of zero, an end before the start, a
//! dialect's relative time. So each refusal has the text and the code of the server that the client believes to talk to.

use crate::model::grid::StepGrid;
use crate::model::params::Params;
use crate::model::time::{Step, Timestamp, parse_timeout};
use crate::request::RangeQuery;

/// Reads a range query; `None` if it is not one that promfront understands to the last parameter.
pub fn read_range_query(params: Params) -> Option<RangeQuery> {
    if params.get("query").is_empty() {
        return None;
    }
    let start = Timestamp::parse(params.get("start"))?;
    let end = Timestamp::parse(params.get("end"))?;
    let step = Step::parse(params.get("step"))?;
    let grid = StepGrid::new(start, step, end)?;
    let limit = match params.get("limit") {
        "" => None,
        digits => Some(u64::try_from(digits.parse::<i64>().ok()?).ok()?).filter(|&limit| limit > 0),
    };
    let timeout = match params.get("timeout") {
        "" => None,
        text => Some(parse_timeout(text)?),
    };
    let wants_stats = !params.get("stats").is_empty();
    Some(RangeQuery { params, grid, start, end, limit, wants_stats, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url_query: &str) -> Option<RangeQuery> {
        read_range_query(Params::read(Some(url_query), None)?)
    }

    #[test]
    fn a_range_query_is_a_grid_and_a_text() {
        let query = read("query=up&start=10&end=70.5&step=30s&timeout=5s&limit=0&stats=all").expect("sound");
        assert_eq!(query.text(), "up");
        assert_eq!(query.grid.instants().map(Timestamp::ms).collect::<Vec<_>>(), [10_000, 40_000, 70_000]);
        assert_eq!(
            (query.limit, query.wants_stats, query.timeout),
            (None, true, Some(std::time::Duration::from_secs(5)))
        );
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_server() {
        for passes in [
            "start=0&end=1&step=1",
            "query=&start=0&end=1&step=1",
            "query=up&end=1&step=1",
            "query=up&start=0&step=1",
            "query=up&start=0&end=1",
            "query=up&start=0&end=1&step=0",
            "query=up&start=0&end=1&step=-1",
            "query=up&start=1&end=0&step=1",
            "query=up&start=-1h&end=1&step=1",
            "query=up&start=0&end=1&step=1&limit=-1",
            "query=up&start=0&end=1&step=1&limit=9223372036854775808",
            "query=up&start=0&end=1&step=0.0015",
            "query=up&start=1970-01-01T00:00:00.0000001Z&end=1&step=1",
            "query=up&start=0&end=1&step=1&timeout=x",
            "query=up&start=0&end=1&step=0.0001",
        ] {
            assert!(read(passes).is_none(), "{passes}");
        }
    }
}
