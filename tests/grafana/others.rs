//! Clients that are not Grafana: Perses, the pages of Prometheus, the client for Go and what is built on it, KEDA.

use super::row::{Differs, ROW, Row, Second};

const GET: Row = Row { method: "GET", ..ROW };
const RANGE: Row = Row { path: "/api/v1/query_range", second: Second::Hit, ..ROW };
const INSTANT: Row = Row { path: "/api/v1/query", second: Second::Hit, ..ROW };

const BROWSER: &[(&str, &str)] = &[
    ("Accept", "*/*"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Cache-Control", "no-cache"),
    ("Pragma", "no-cache"),
    ("Sec-Fetch-Mode", "cors"),
];
const GOLANG: &[(&str, &str)] = &[("User-Agent", "Go-http-client/1.1"), ("Accept-Encoding", "gzip")];

/// The rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "Perses: a step of 43.2 s",
        url: "dedup=true",
        form: "query=up&start=1707264000&end=1707350400&step=43.2",
        ..RANGE
    },
    Row { name: "Perses: minutes of Kolkata", form: "query=up&start=1707265800&end=1707352200&step=60", ..RANGE },
    Row { name: "Perses: instant", form: "query=up&time=1707350400", ..INSTANT },
    Row {
        name: "Perses: labels",
        path: "/api/v1/labels",
        form: "match%5B%5D=up&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..ROW
    },
    Row {
        name: "Perses: series",
        path: "/api/v1/series",
        form: "match%5B%5D=up&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..ROW
    },
    Row {
        name: "Perses: values",
        path: "/api/v1/label/job/values",
        url: "match%5B%5D=up&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..GET
    },
    Row { name: "Perses: metadata", path: "/api/v1/metadata", ..GET },
    Row {
        name: "Prometheus UI: what time is it",
        path: "/api/v1/query",
        url: "query=time%28%29",
        headers: BROWSER,
        differs: Differs::Numbers,
        ..GET
    },
    Row {
        name: "Prometheus UI: table",
        method: "GET",
        url: "query=up&time=1707350412.345&stats=true",
        headers: BROWSER,
        second: Second::Either,
        differs: Differs::Statistics,
        ..INSTANT
    },
    Row {
        name: "Prometheus UI: graph, not aligned to anything",
        method: "GET",
        url: "query=rate%28http_requests_total%5B5m%5D%29&start=1707346812.345&end=1707350412.345&step=14",
        headers: BROWSER,
        ..RANGE
    },
    Row { name: "Prometheus UI: names", path: "/api/v1/label/__name__/values", headers: BROWSER, ..GET },
    Row {
        name: "Prometheus UI: series",
        path: "/api/v1/series",
        url: "match%5B%5D=up&start=1707263400&end=1707264000",
        headers: BROWSER,
        second: Second::Hit,
        ..GET
    },
    Row {
        name: "Prometheus UI: format",
        path: "/api/v1/format_query",
        url: "query=sum%28up%29by%28job%29",
        headers: BROWSER,
        second: Second::Either,
        ..GET
    },
    Row { name: "Prometheus UI: targets", path: "/api/v1/targets", url: "state=active", headers: BROWSER, ..GET },
    Row { name: "Prometheus UI: configuration", path: "/api/v1/status/config", headers: BROWSER, ..GET },
    Row {
        name: "Prometheus UI: runtime",
        path: "/api/v1/status/runtimeinfo",
        headers: BROWSER,
        differs: Differs::Numbers,
        ..GET
    },
    Row { name: "Prometheus UI: TSDB", path: "/api/v1/status/tsdb", headers: BROWSER, ..GET },
    Row { name: "Prometheus UI: Alertmanagers", path: "/api/v1/alertmanagers", headers: BROWSER, ..GET },
    Row { name: "Prometheus UI: the page", path: "/graph", headers: BROWSER, ..GET },
    Row { name: "client_golang: instant", form: "query=up&time=1707350412.345", headers: GOLANG, ..INSTANT },
    Row {
        name: "client_golang: range",
        form: "end=1707350400&query=up&start=1707264000&step=300&timeout=2m",
        headers: GOLANG,
        ..RANGE
    },
    Row {
        name: "client_golang: series",
        path: "/api/v1/series",
        form: "end=1707264000.5&match%5B%5D=up&start=1707263400",
        headers: GOLANG,
        second: Second::Hit,
        ..ROW
    },
    Row {
        name: "client_golang: labels",
        path: "/api/v1/labels",
        form: "end=1707264000.5&start=1707263400",
        headers: GOLANG,
        second: Second::Hit,
        ..ROW
    },
    Row {
        name: "client_golang: values",
        path: "/api/v1/label/job/values",
        url: "end=1707264000.5&start=1707263400",
        headers: GOLANG,
        second: Second::Hit,
        ..GET
    },
    Row {
        name: "client_golang: targets' metadata",
        path: "/api/v1/targets/metadata",
        url: "limit=&match_target=&metric=",
        headers: GOLANG,
        ..GET
    },
    Row {
        name: "prometheus-adapter: an empty timeout, by GET",
        method: "GET",
        url: "query=up&time=1707350412.5&timeout=",
        ..INSTANT
    },
    Row {
        name: "prometheus-adapter: an empty timeout, by POST",
        form: "query=up&time=1707350413.5&timeout=",
        ..INSTANT
    },
    Row {
        name: "prometheus-adapter: an empty timeout, range",
        form: "end=1707350400&query=up&start=1707264000&step=120&timeout=",
        ..RANGE
    },
    Row {
        name: "prometheus-adapter: relist, which has no end",
        path: "/api/v1/series",
        url: "match%5B%5D=up&start=1707263400",
        ..GET
    },
    Row {
        name: "KEDA: a time of RFC 3339",
        method: "GET",
        url: "query=sum%28queue_depth%29&time=2024-02-07T12:00:00Z",
        ..INSTANT
    },
    Row {
        name: "KEDA: nothing is no error",
        method: "GET",
        url: "query=sum%28nothing%29&time=2024-02-07T12:00:00Z&namespace=a",
        ..INSTANT
    },
    Row {
        name: "an agent: POST to where GET is configured",
        path: "/api/v1/alerts",
        differs: Differs::IsGetThere,
        ..ROW
    },
    Row {
        name: "KEDA: an error keeps its status",
        method: "GET",
        url: "query=sum%28&time=2024-02-07T12:00:00Z",
        second: Second::Anew,
        ..INSTANT
    },
];
