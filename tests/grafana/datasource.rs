//! Panels, alerts and the checks of the datasource itself.

use super::row::{Differs, ROW, Row, Second};

const RANGE: Row = Row { path: "/api/v1/query_range", second: Second::Hit, ..ROW };
const INSTANT: Row = Row { path: "/api/v1/query", second: Second::Hit, ..ROW };
const EXEMPLARS: Row = Row { path: "/api/v1/query_exemplars", second: Second::Either, ..ROW };
const GET: Row = Row { method: "GET", ..ROW };

/// A panel of three days at five minutes.
const PANEL: &str =
    "end=1707350400&query=sum+by+%28code%29+%28rate%28http_requests_total%5B20m0s%5D%29%29&start=1707091200&step=300";

/// The rows.
pub const ROWS: &[Row] = &[
    Row { name: "panel: range", form: PANEL, ..RANGE },
    Row { name: "panel: range by GET", method: "GET", url: PANEL, ..RANGE },
    Row {
        name: "panel: the query timeout of the datasource's settings",
        form: "end=1707350400&query=up&start=1707091200&step=300&timeout=60s",
        ..RANGE
    },
    Row {
        name: "panel: milliseconds in steps and times",
        form: "end=1707091260.4&query=temperature_celsius&start=1707091200.2&step=0.2",
        ..RANGE
    },
    Row {
        name: "panel: hours of Kolkata",
        form: "end=1707351000&query=max_over_time%28temperature_celsius%5B1h%5D%29&start=1707003000&step=3600",
        ..RANGE
    },
    Row {
        name: "panel: days of New York",
        form: "end=1707368400&query=count%28up%29&start=1706850000&step=86400",
        ..RANGE
    },
    Row {
        name: "panel: a start of decimals",
        form: "end=1707091259.999&query=up&start=1707091199.999&step=15",
        ..RANGE
    },
    Row { name: "both: range", form: "end=1707350400&query=queue_depth&start=1707264000&step=60", ..RANGE },
    Row { name: "both: instant", form: "query=queue_depth&time=1707350412.345", ..INSTANT },
    Row { name: "panel: instant", form: "query=topk%283%2C+temperature_celsius%29&time=1707350412.345", ..INSTANT },
    Row { name: "panel: instant with a timeout", form: "query=up&time=1707350412.345&timeout=60s", ..INSTANT },
    Row { name: "panel: instant, a table of raw samples", form: "query=up%5B1h%5D&time=1707350412.345", ..INSTANT },
    Row { name: "exemplars: aligned", form: "end=1707350400&query=up&start=1707091200", ..EXEMPLARS },
    Row {
        name: "statistics: range",
        url: "stats=all",
        form: "end=1707350400&query=up&start=1707264000&step=300",
        second: Second::Either,
        differs: Differs::Statistics,
        ..RANGE
    },
    Row {
        name: "statistics: instant",
        url: "stats=all",
        form: "query=up&time=1707350412.345",
        second: Second::Either,
        differs: Differs::Statistics,
        ..INSTANT
    },
    Row {
        name: "thresholds of samples: range",
        url: "max_samples_processed_error_threshold=20000000&max_samples_processed_warning_threshold=10000000",
        form: "end=1707350400&query=up&start=1707264000&step=300",
        ..RANGE
    },
    Row {
        name: "thresholds of samples: instant",
        url: "max_samples_processed_error_threshold=20000000&max_samples_processed_warning_threshold=10000000",
        form: "query=up&time=1707350412",
        ..INSTANT
    },
    Row {
        name: "custom query parameters: range",
        url: "dedup=true&max_source_resolution=5m&partial_response=true&timeout=50s",
        form: "end=1707350400&query=up&start=1707264000&step=600",
        ..RANGE
    },
    Row {
        name: "custom query parameters: instant",
        url: "dedup=true&max_source_resolution=5m&partial_response=true&timeout=50s",
        form: "query=up&time=1707350413",
        ..INSTANT
    },
    Row {
        name: "custom query parameters: the body counts where both have one",
        url: "query=vector%281%29&start=1&end=2&step=1",
        form: "end=1707350400&query=build_info&start=1707264000&step=600",
        ..RANGE
    },
    Row { name: "datasource load: rules", path: "/api/v1/rules", ..GET },
    Row {
        name: "datasource load: whether there are exemplars, in milliseconds",
        method: "GET",
        url: "query=test&start=1707263400000&end=1707264000000",
        ..EXEMPLARS
    },
    Row { name: "save and test: 1+1 in the year 1970", form: "query=1%2B1&time=4", ..INSTANT },
    Row { name: "save and test: build", path: "/api/v1/status/buildinfo", ..GET },
    Row { name: "alerting: which Prometheus is it", path: "/api/v1/query", url: "query=prometheus_build_info", ..GET },
    Row { name: "alerting: flags", path: "/api/v1/status/flags", ..GET },
    Row { name: "alerting: alerts", path: "/api/v1/alerts", ..GET },
    Row { name: "alerting: Mimir's rules, which Prometheus has not", path: "/config/v1/rules", ..GET },
    Row { name: "alerting: Cortex's rules, which here is a page", path: "/rules", ..GET },
    Row {
        name: "annotations: a minute unless told otherwise",
        form: "end=1707350400&query=changes%28build_info%5B1h%5D%29+%3E+0&start=1707264000&step=60",
        ..RANGE
    },
    Row {
        name: "error: the query",
        form: "end=1707350400&query=rate%28up%29&start=1707264000&step=60",
        second: Second::Anew,
        ..RANGE
    },
    Row {
        name: "error: no step",
        form: "end=1707350400&query=up&start=1707264000&step=0",
        second: Second::Anew,
        ..RANGE
    },
    Row {
        name: "error: too many points",
        form: "end=1707350400&query=up&start=1707264000&step=1",
        second: Second::Anew,
        ..RANGE
    },
    Row { name: "error: instant", form: "query=up%7B&time=1707350412", second: Second::Anew, ..INSTANT },
    Row {
        name: "error: while it is evaluated",
        form: "query=up+%2A+on%28job%29+up&time=1707350412",
        second: Second::Anew,
        ..INSTANT
    },
];
