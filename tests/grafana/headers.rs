//! What clients say in headers: who they are, that they want it fresh, and how it may be packed.

use super::row::{ROW, Row, Second};

/// Each row has a query of its own, so that none is answered by what another left.
const RANGE: Row = Row { path: "/api/v1/query_range", second: Second::Hit, ..ROW };
const INSTANT: Row = Row { path: "/api/v1/query", second: Second::Hit, ..ROW };

const DASHBOARD: &[(&str, &str)] = &[
    ("User-Agent", "Grafana/12.1.0 prometheus/12.1.0"),
    ("Accept-Encoding", "gzip"),
    ("X-Dashboard-Uid", "ada3dpn"),
    ("X-Panel-Id", "7"),
    ("X-Panel-Plugin-Id", "timeseries"),
    ("X-Dashboard-Title", "K%FChlhaus"),
    ("X-Panel-Title", "Temperatur"),
    ("X-Datasource-Uid", "P1809F7CD0C75ACF3"),
    ("X-Query-Group-Id", "8b0c1f"),
    ("X-Grafana-Org-Id", "1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];

const ALERT: &[(&str, &str)] = &[
    ("User-Agent", "Grafana/12.1.0 prometheus/12.1.0"),
    ("Accept-Encoding", "gzip"),
    ("Fromalert", "true"),
    ("X-Cache-Skip", "true"),
    ("X-Rule-Uid", "cdeqmlhvflz40f"),
    ("X-Rule-Name", "Too warm"),
    ("X-Rule-Folder", "Cold"),
    ("X-Rule-Type", "grafana"),
    ("X-Rule-Version", "3"),
];

/// The rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "dashboard: range",
        form: "end=1707350400&query=up&start=1707264000&step=60",
        headers: DASHBOARD,
        ..RANGE
    },
    Row { name: "dashboard: instant", form: "query=up&time=1707350412.345", headers: DASHBOARD, ..INSTANT },
    Row {
        name: "alert: range",
        form: "end=1707350400&query=up+%3E+1&start=1707264000&step=60",
        headers: ALERT,
        second: Second::Anew,
        ..RANGE
    },
    Row {
        name: "alert: instant",
        form: "query=up+%3E+1&time=1707350412",
        headers: ALERT,
        second: Second::Anew,
        ..INSTANT
    },
    Row {
        name: "alert: by Fromalert alone",
        form: "query=up+%3E+2&time=1707350412",
        headers: &[("Fromalert", "true")],
        second: Second::Anew,
        ..INSTANT
    },
    Row {
        name: "alert: by X-Rule-Uid alone",
        form: "query=up+%3E+3&time=1707350412",
        headers: &[("X-Rule-Uid", "cdeqmlhvflz40f")],
        second: Second::Anew,
        ..INSTANT
    },
    Row {
        name: "skip: X-Cache-Skip alone, range",
        form: "end=1707350400&query=up+%3E+4&start=1707264000&step=60",
        headers: &[("X-Cache-Skip", "true")],
        second: Second::Anew,
        ..RANGE
    },
    Row {
        name: "skip: X-Cache-Skip alone, instant",
        form: "query=up+%3E+4&time=1707350412",
        headers: &[("X-Cache-Skip", "true")],
        second: Second::Anew,
        ..INSTANT
    },
    Row {
        name: "skip: X-Cache-Skip alone, labels",
        path: "/api/v1/labels",
        form: "start=1707263400&end=1707264001",
        headers: &[("X-Cache-Skip", "true")],
        ..ROW
    },
    Row {
        name: "no-store, range",
        form: "end=1707350400&query=up+%3E+5&start=1707264000&step=60",
        headers: &[("Cache-Control", "no-cache, no-store")],
        second: Second::Anew,
        ..RANGE
    },
    Row {
        name: "no-store, instant",
        form: "query=up+%3E+5&time=1707350412",
        headers: &[("Cache-Control", "no-store")],
        second: Second::Anew,
        ..INSTANT
    },
    Row {
        name: "no-store, series",
        path: "/api/v1/series",
        form: "match%5B%5D=up&start=1707263400&end=1707264001",
        headers: &[("Cache-Control", "no-store")],
        ..ROW
    },
    Row {
        name: "no-cache is what a browser says of a reload: range",
        form: "end=1707350400&query=up+%3E+6&start=1707264000&step=60",
        headers: &[("Cache-Control", "no-cache"), ("Pragma", "no-cache")],
        ..RANGE
    },
    Row {
        name: "no-cache is what a browser says of a reload: instant",
        form: "query=up+%3E+6&time=1707350412",
        headers: &[("Cache-Control", "no-cache"), ("Pragma", "no-cache")],
        ..INSTANT
    },
    Row {
        name: "a comment in the query: range",
        form: "end=1707350400&query=up+%3E+7+%23+promfront%3Ano-cache&start=1707264000&step=60",
        second: Second::Anew,
        ..RANGE
    },
    Row {
        name: "a comment in the query: instant",
        form: "query=%23+promfront%3Ano-cache%0Aup+%3E+7&time=1707350412",
        second: Second::Anew,
        ..INSTANT
    },
    Row {
        name: "what looks like that comment and is a text",
        form: "query=count%28up%7Bjob%21%3D%22%23+promfront%3Ano-cache%22%7D%29&time=1707350412",
        ..INSTANT
    },
    Row {
        name: "what a browser accepts",
        method: "GET",
        path: "/api/v1/labels",
        url: "start=1707263400&end=1707264002",
        headers: &[("Accept", "application/json, text/plain, */*"), ("Accept-Encoding", "gzip, deflate, br, zstd")],
        second: Second::Hit,
        ..ROW
    },
    Row {
        name: "nothing that Grafana can unpack comes after zstd and deflate",
        method: "GET",
        path: "/api/v1/series",
        url: "match%5B%5D=%7B__name__%21%3D%22%22%7D&start=1707263400&end=1707264002",
        headers: &[("Accept-Encoding", "zstd, deflate")],
        second: Second::Hit,
        ..ROW
    },
    Row {
        name: "deflate, where it is only passed on",
        method: "GET",
        path: "/api/v1/status/flags",
        headers: &[("Accept-Encoding", "deflate")],
        ..ROW
    },
    Row {
        name: "how long the browser may keep it is Grafana's affair",
        method: "GET",
        path: "/api/v1/label/__name__/values",
        url: "start=1707263400&end=1707264003",
        headers: &[("X-Grafana-Cache", "private, max-age=60")],
        second: Second::Hit,
        ..ROW
    },
];
