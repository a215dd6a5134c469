//! The query editor, autocompletion, ad-hoc filters and variables.

use super::row::{Differs, ROW, Row, Second};

const GET: Row = Row { method: "GET", ..ROW };
const NAMES: Row = Row { path: "/api/v1/label/__name__/values", ..GET };
const VALUES: Row = Row { path: "/api/v1/label/job/values", ..GET };
const LABELS: Row = Row { path: "/api/v1/labels", ..GET };
const SERIES: Row = Row { path: "/api/v1/series", ..GET };

/// The rows.
pub const ROWS: &[Row] = &[
    Row { name: "start: names", url: "limit=40000&start=1707263400&end=1707264000", second: Second::Hit, ..NAMES },
    Row { name: "start: labels", url: "limit=40000&start=1707263400&end=1707264000", second: Second::Hit, ..LABELS },
    Row { name: "start: metadata", path: "/api/v1/metadata", url: "limit=40000", ..GET },
    Row {
        name: "autocompletion: without times it speaks of now",
        url: "limit=1000&match%5B%5D=%7B__name__%3D~%22.%2Ahttp.%2A%22%7D",
        ..NAMES
    },
    Row {
        name: "autocompletion: in a range",
        url: "limit=1000&match%5B%5D=%7B__name__%3D~%22.%2Ahttp.%2A%22%7D&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..NAMES
    },
    Row {
        name: "ad-hoc filters: labels of a metric",
        url: "match%5B%5D=http_requests_total&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..LABELS
    },
    Row {
        name: "ad-hoc filters: by POST",
        method: "POST",
        form: "match%5B%5D=http_requests_total&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..LABELS
    },
    Row {
        name: "variables: values of a label",
        url: "match%5B%5D=up&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..VALUES
    },
    Row {
        name: "variables: values of a label in an empty range",
        url: "start=1607263400&end=1607264000",
        second: Second::Hit,
        ..VALUES
    },
    Row {
        name: "variables: a name that is not of letters",
        path: "/api/v1/label/U__a_2e_b/values",
        url: "start=1707263400&end=1707264000",
        second: Second::Either,
        ..GET
    },
    Row {
        name: "variables: series",
        url: "match%5B%5D=up&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..SERIES
    },
    Row {
        name: "variables: series, with a limit",
        url: "limit=40000&match%5B%5D=http_requests_total&match%5B%5D=up&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..SERIES
    },
    Row {
        name: "variables: series by POST",
        method: "POST",
        form: "match%5B%5D=odd_labels&start=1707263400&end=1707264000",
        second: Second::Hit,
        ..SERIES
    },
    Row { name: "variables: series without a match", url: "start=1707263400&end=1707264000", ..SERIES },
    Row {
        name: "variables: query_result",
        path: "/api/v1/query",
        url: "query=count+by+%28job%29+%28up%29&time=1707264000",
        second: Second::Hit,
        ..GET
    },
    Row {
        name: "suggestions: labels, with the parameters in the URL of a POST",
        method: "POST",
        url: "end=1707264000&limit=40000&match%5B%5D=up&start=1707263400",
        second: Second::Hit,
        ..LABELS
    },
    Row {
        name: "suggestions: values, where Prometheus has no POST",
        method: "POST",
        url: "end=1707264000&limit=40000&match%5B%5D=up&start=1707263400",
        second: Second::Hit,
        differs: Differs::IsGetThere,
        ..VALUES
    },
    Row {
        name: "suggestions: values, a part of it in the form",
        method: "POST",
        url: "match%5B%5D=http_requests_total&start=1",
        form: "match%5B%5D=up%7Bjob%3D%22node%22%7D&start=1707263400&end=1707264000",
        second: Second::Hit,
        differs: Differs::IsGetThere,
        ..VALUES
    },
    Row {
        name: "POST everywhere: metadata",
        method: "POST",
        form: "limit=3",
        path: "/api/v1/metadata",
        differs: Differs::IsGetThere,
        ..GET
    },
    Row { name: "POST everywhere: rules", method: "POST", path: "/api/v1/rules", differs: Differs::IsGetThere, ..GET },
    Row {
        name: "POST everywhere: build",
        method: "POST",
        path: "/api/v1/status/buildinfo",
        differs: Differs::IsGetThere,
        ..GET
    },
    Row {
        name: "error: no such label",
        path: "/api/v1/label/a-b/values",
        url: "start=1707263400&end=1707264000",
        ..GET
    },
    Row { name: "error: no such selector", url: "match%5B%5D=up%7B&start=1707263400&end=1707264000", ..LABELS },
    Row { name: "error: no such time", url: "match%5B%5D=up&start=yesterday&end=1707264000", ..SERIES },
];
