//! What a proxy for reading does not let through unless it is told to.

use axum::body::Body;
use http::Request;

use crate::support::recorded::Recorded;
use crate::support::{Http, Promfront};
use crate::{request, send};

/// Requests that change something.
const WRITES: &[(&str, &str)] = &[
    ("POST", "/api/v1/write"),
    ("POST", "/prometheus/api/v1/write"),
    ("POST", "/api/v1/otlp/v1/metrics"),
    ("POST", "/prometheus/api/v1/otlp/v1/metrics"),
    ("POST", "/api/v1/admin/tsdb/delete_series?match%5B%5D=up"),
    ("PUT", "/api/v1/admin/tsdb/delete_series?match%5B%5D=up"),
    ("POST", "/api/v1/admin/tsdb/snapshot"),
    ("PUT", "/api/v1/admin/tsdb/snapshot"),
    ("POST", "/api/v1/admin/tsdb/clean_tombstones"),
    ("PUT", "/prometheus/api/v1/admin/tsdb/clean_tombstones"),
    ("GET", "/api/v1/admin/tsdb/snapshot"),
];

/// Other ways to write them: Prometheus takes the first four for the same, VictoriaMetrics those with more slashes.
const DISGUISED: &[(&str, &str)] = &[
    ("POST", "/api/v1/%77rite"),
    ("POST", "/api/v1/%61dmin/tsdb/clean_tombstones"),
    ("POST", "/api/v1/admin%2Ftsdb/clean_tombstones"),
    ("PUT", "/api/v1/admin%2ftsdb%2fsnapshot"),
    ("POST", "/api/v1//write"),
    ("POST", "//api/v1/write"),
    ("POST", "/api%2Fv1/write"),
    ("POST", "/datadog/api/v1/series"),
    ("POST", "/api/v1/receive"),
    ("POST", "/api/v2/write"),
    ("POST", "/otlp/v1/metrics"),
    ("DELETE", "/api/v1/rules/a"),
    ("POST", "/%2D/quit"),
    ("POST", "/prometheus/-/reload"),
    ("PUT", "/prometheus//-/quit"),
];

/// Questions with methods that no server has for them.
const OTHER_METHODS: &[(&str, &str)] =
    &[("PUT", "/api/v1/query?query=up"), ("DELETE", "/api/v1/series"), ("HEAD", "/api/v1/query_range?query=up")];

#[tokio::test]
async fn a_question_is_asked_by_get_or_post() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    for (method, path) in OTHER_METHODS {
        let answer = send(method, &format!("{}{path}", promfront.url), "", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, OPTIONS, POST"), "{method} {path}");
    }
    assert_eq!(downstream.asked().len(), 0);
}

/// A path that a server would read as another is judged as that one.
#[tokio::test]
async fn a_question_is_judged_however_its_path_is_written() {
    let downstream = Recorded::usual().await;
    let yaml = "multitenancy: {enabled: true}\nblock: [{query: up, reason: it is being mended}]\n";
    let promfront = Promfront::configured(downstream.url(), yaml);
    for path in ["/api/v1/query%5Frange", "/api/v1//query", "/api%2Fv1/query", "/%61pi/v1/query_range"] {
        let url = format!("{}{path}?query=up&start=1&end=2&step=1&time=1", promfront.url);
        assert_eq!(send("GET", &url, "", &[]).await.status, 401, "{path}");
        assert_eq!(send("GET", &url, "", &[("x-scope-orgid", "a")]).await.status, 422, "{path}");
    }
    assert_eq!(downstream.asked().len(), 0);
}

#[tokio::test]
async fn writes_and_administration_are_refused_and_say_how_to_allow_them() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    let mut wrong = Vec::new();
    for (method, path) in WRITES {
        let answer = send(method, &format!("{}{path}", promfront.url), "", &[]).await;
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let is_said = json["error"].as_str().is_some_and(|text| text.contains("downstream.allow_writes"));
        let kind = (answer.status.as_u16(), &json["status"], &json["errorType"], answer.header("content-type"));
        if kind != (404, &"error".into(), &"not_found".into(), "application/json") || !is_said {
            wrong.push(format!("{method} {path}: {} {:?} {}", answer.status, answer.headers, answer.text()));
        }
    }
    for (method, path) in DISGUISED {
        let answer = send(method, &format!("{}{path}", promfront.url), "", &[]).await;
        if !answer.status.is_client_error() {
            wrong.push(format!("{method} {path}: {}", answer.status));
        }
    }
    for asked in downstream.asked() {
        wrong.push(format!("arrived: {}", asked.head.lines().next().unwrap_or_default()));
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The flag is for promfront's own administration, not for that of the server behind it.
#[tokio::test]
async fn the_flag_for_our_own_administration_allows_no_writes() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::launched(downstream.url(), "", |command| {
        command.arg("--web.enable-admin-api");
    });
    for path in ["/api/v1/admin/tsdb/snapshot", "/api/v1/write"] {
        assert_eq!(send("POST", &format!("{}{path}", promfront.url), "", &[]).await.status, 404, "{path}");
    }
    assert_eq!(downstream.asked().len(), 0);
}

#[tokio::test]
async fn what_is_allowed_is_passed_on_as_it_is() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::configured(downstream.url(), "downstream: {allow_writes: true}\n");
    for (method, path) in WRITES.iter().filter(|(method, _)| *method != "GET") {
        let body = "some bytes\u{0}";
        let sent = Request::builder().method(*method).uri(format!("{}{path}", promfront.url));
        let sent = sent.header("content-type", "application/x-protobuf").header("content-encoding", "snappy");
        let answer = Http::new().send(sent.body(Body::from(body)).expect("sound")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let last = downstream.asked().pop().expect("it arrived");
        let target = path.split_once('?').unwrap_or((path, ""));
        assert_eq!((last.method(), (last.path(), last.query()), last.body.as_str()), (*method, target, body));
        assert_eq!(last.header("content-type"), Some("application/x-protobuf"));
        assert_eq!(last.header("content-encoding"), Some("snappy"));
    }
}

/// Refusals are in the words of the API, so that clients can show them; and they are short.
#[tokio::test]
async fn errors_of_ours_are_json_that_clients_can_read() {
    let promfront = Promfront::before("http://127.0.0.1:9");
    let http = Http::new();
    for (path, form) in [
        ("query_range", "query=up&start=1707264000&end=1707350400&step=60"),
        ("query", "query=up&time=1707350400"),
        ("query", "query=up"),
        ("series", "match%5B%5D=up&start=1707264000&end=1707350400"),
        ("labels", "start=1707264000&end=1707350400"),
        ("label/job/values", "start=1707264000&end=1707350400"),
        ("rules", ""),
        ("status/buildinfo", ""),
    ] {
        for method in ["GET", "POST"] {
            let url = if method == "GET" { format!("?{form}") } else { String::new() };
            let url = format!("{}/api/v1/{path}{url}", promfront.url);
            let answer = http.send(request(method, &url, if method == "POST" { form } else { "" }, &[])).await;
            let json = answer.json();
            assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text());
            assert_eq!((&json["status"], &json["errorType"]), (&"error".into(), &"unavailable".into()), "{path}");
            assert!(answer.body.len() < 1024 && answer.result().starts_with("status=error"), "{}", answer.result());
        }
    }
}
