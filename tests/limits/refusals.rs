//! Each refusal, word for word, in front of a real Prometheus; and that the next smaller question is answered.

use crate::ask;
use crate::support::scripted::{Scripted, ok};
use crate::support::{DATA_START, Prometheus, Promfront, range_params};

const YAML: &str = "
multitenancy: {enabled: true}
limits: {max_query_bytes: 100, max_query_length: 5d}
tenants:
  team-a: {limits: {max_query_length: 1d, max_points: 500}}
  team-b: {limits: {max_query_bytes: 2, max_query_length: 0s, max_response_bytes: 1KiB}}
block:
  - {tenants: [team-c], query_regex: '.*http_requests_total.*', range_longer_than: 1h, reason: it melts the store,
     owner: '#sre', expires: 2100-01-01T00:00:00Z}
  - {dashboard: d1, panel: '7', reason: it is being mended}
  - {query: up, step_shorter_than: 30s, reason: it was mended, expires: 2001-01-01T00:00:00Z}
";

fn range(query: &str, hours: i64, step: &str) -> String {
    let end = DATA_START + hours * 3600;
    format!("query_range?{}", range_params(query, &DATA_START.to_string(), &end.to_string(), step))
}

fn body(kind: &str, message: &str) -> String {
    format!(r#"{{"status":"error","errorType":"{kind}","error":{}}}"#, serde_json::Value::from(message))
}

#[tokio::test]
async fn each_refusal_says_what_to_change() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::configured(&prometheus.url, YAML);
    let long = format!("up{}", " ".repeat(100));
    for (tenant, question, code, kind, message) in [
        (
            "team-a",
            range("up", 25, "1h"),
            422,
            "execution",
            "the range of the query is 1d1h long and the limit for tenant team-a is 1d \
             (tenants.team-a.limits.max_query_length); ask for a shorter range",
        ),
        (
            "team-c",
            range("up", 121, "1h"),
            422,
            "execution",
            "the range of the query is 5d1h long and the limit for tenant team-c is 5d (limits.max_query_length); ask for a \
             shorter range",
        ),
        (
            "team-c|team-a",
            range("up", 25, "1h"),
            422,
            "execution",
            "the range of the query is 1d1h long and the limit for tenant team-a|team-c is 1d \
             (tenants.team-a.limits.max_query_length); ask for a shorter range",
        ),
        (
            "team-a",
            range("up", 10, "1m"),
            400,
            "bad_data",
            "exceeded maximum resolution of 500 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        (
            "team-c",
            range(&long, 1, "1m"),
            400,
            "bad_data",
            "the query is 102 bytes long and the limit for tenant team-c is 100 (limits.max_query_bytes); shorten it, or \
             record parts of it as rules",
        ),
        (
            "team-b",
            range("up{}", 1, "1m"),
            400,
            "bad_data",
            "the query is 4 bytes long and the limit for tenant team-b is 2 (tenants.team-b.limits.max_query_bytes); shorten \
             it, or record parts of it as rules",
        ),
        (
            "team-b",
            range("up", 24, "1m"),
            422,
            "execution",
            "the answer of the downstream is larger than 1024 bytes for tenant team-b \
             (tenants.team-b.limits.max_response_bytes); ask for fewer series or a coarser step",
        ),
        (
            "team-a",
            "query_range?query=up&start=-1h&end=0&step=1m".to_owned(),
            400,
            "bad_data",
            "it can't be told which instants this asks for, and there is a limit of 1d for tenant team-a on them \
             (tenants.team-a.limits.max_query_length); give query, start, end and step, the times in seconds or as \
             2030-01-31T00:00:00Z and the step in whole milliseconds, and no other parameter that the server would refuse",
        ),
        (
            "team-c",
            range("sum(http_requests_total)", 2, "1m"),
            422,
            "execution",
            "this is blocked for tenant team-c: it melts the store (block[0], by #sre, until 2100-01-01T00:00:00Z); ask \
             something else, or ask #sre to change the rule",
        ),
        (
            "a%7Cb",
            range("up", 1, "1m"),
            401,
            "unauthorized",
            "\"a%7Cb\" is not a tenant's name: it is percent-encoded; write the name itself (header x-scope-orgid; \
             multitenancy.enabled is true)",
        ),
    ] {
        let answer = ask(&promfront.url, &question, &[("x-scope-orgid", tenant)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (code, body(kind, message)), "{tenant}: {question}");
        assert!(answer.result().starts_with("status=error"), "{}", answer.result());
    }
}

#[tokio::test]
async fn the_most_that_is_allowed_is_answered_as_by_the_server() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::configured(&prometheus.url, YAML);
    for (tenant, question) in [
        ("team-a", range("up", 24, "1h")),
        ("team-a", range("up", 10, "72s")),
        ("team-b", range("1", 240, "10d")),
        ("team-c", range("sum(http_requests_total)", 1, "1m")),
        ("team-c", range("up", 1, "15s")),
        ("other", range("sum(http_requests_total)", 2, "1m")),
    ] {
        let (want, got) = (
            ask(&prometheus.url, &question, &[]).await,
            ask(&promfront.url, &question, &[("x-scope-orgid", tenant)]).await,
        );
        assert_eq!((got.status, got.text()), (want.status, want.text()), "{tenant}: {question}");
        assert_eq!(got.status.as_u16(), 200, "{tenant}: {question}");
    }
}

/// A browser's origin, and a method that nobody uses, are no way around.
#[tokio::test]
async fn what_passes_whole_is_judged_too() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::configured(&prometheus.url, YAML);
    for (question, headers, says) in [
        (range("up", 25, "1h"), &[("origin", "http://elsewhere")][..], "1d1h long"),
        (range("limitk(1, up)", 25, "1h"), &[], "1d1h long"),
        (range("no grammar", 25, "1h"), &[], "1d1h long"),
        (range("up", 1, "1h"), &[("x-dashboard-uid", "d1"), ("x-panel-id", "7"), ("origin", "x")], "block[1]"),
        (range("up", 1, "0"), &[("x-dashboard-uid", "d1"), ("x-panel-id", "7")], "block[1]"),
    ] {
        let headers = [headers, &[("x-scope-orgid", "team-a")]].concat();
        let answer = ask(&promfront.url, &question, &headers).await;
        assert_eq!(answer.status.as_u16(), 422, "{question}: {}", answer.text());
        assert!(answer.text().contains(says), "{question}: {}", answer.text());
    }
}

/// An answer that unpacks to more than the tenant may have, and one whose parts are too large together.
#[tokio::test]
async fn answers_are_bounded_by_tenant() {
    let point = r#"[0,"1"]"#;
    let series = format!(r#"{{"metric":{{"a":"{}"}},"values":[{point}]}}"#, "x".repeat(2000));
    let whole = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#);
    let downstream = Scripted::start(move |_| Some(ok(whole.as_bytes()))).await;
    let promfront = Promfront::configured(&downstream.url, YAML);
    let question = format!("query_range?{}", range_params("up", "0", "60", "60"));
    let refused = ask(&promfront.url, &question, &[("x-scope-orgid", "team-b")]).await;
    assert!(refused.text().contains("larger than 1024 bytes for tenant team-b"), "{}", refused.text());
    let both = ask(&promfront.url, &question, &[("x-scope-orgid", "team-a|team-b")]).await;
    assert!(
        both.text().contains("for tenant team-a|team-b (tenants.team-b.limits.max_response_bytes)"),
        "{}",
        both.text()
    );
    let answered = ask(&promfront.url, &question, &[("x-scope-orgid", "team-a")]).await;
    assert_eq!(answered.status.as_u16(), 200, "{}", answered.text());
}
