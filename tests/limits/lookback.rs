//! `limits.max_query_lookback` on a real Prometheus: the answer is that of the server to the range that is left.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ask;
use crate::support::{DATA_END, DATA_START, Http, Prometheus, Promfront, range_params};

const STEP: i64 = 600;

/// In the middle between two instants, so that it stays between them while the test runs.
const BOUND: i64 = DATA_START + 5 * 86_400 + STEP / 2;

#[expect(clippy::disallowed_methods, reason = "the limit counts from now")]
fn lookback() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now - BOUND.unsigned_abs()
}

fn promfront(prometheus: &Prometheus) -> Promfront {
    let yaml = format!(
        "multitenancy: {{enabled: true}}\ntenants: {{short: {{limits: {{max_query_lookback: {}s}}}}}}",
        lookback()
    );
    Promfront::configured(&prometheus.url, &yaml)
}

fn range(query: &str, start: i64, end: i64) -> String {
    format!("query_range?{}", range_params(query, &start.to_string(), &end.to_string(), &STEP.to_string()))
}

#[tokio::test]
async fn what_lies_too_far_back_is_left_out_and_nothing_else() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = promfront(&prometheus);
    let first = BOUND + STEP / 2;
    let (start, end) = (DATA_START + 4 * 86_400, DATA_END - 86_400);
    let many_regexes = format!("up{{{}}}", vec!["job=~\".+\""; 101].join(","));
    let nailed = format!("up @ {start}");
    for (query, pinned, says, then) in [
        ("up", "up", "status=miss", "status=hit"),
        ("sum by (job) (rate(http_requests_total[5m]))", "", "status=miss", "status=hit"),
        // `@ start()` is the client's own.
        ("up @ start()", nailed.as_str(), "status=miss", "status=hit"),
        // Not cuttable, not understood, and for another origin.
        ("rate({__name__=~\"http_requests_total\"}[5m])", "", "reason=may-collide", "reason=may-collide"),
        (&many_regexes, "", "reason=too-many-regexes", "reason=too-many-regexes"),
        ("sum(no_grammar", "", "reason=unparsable", "reason=unparsable"),
    ] {
        let pinned = if pinned.is_empty() { query } else { pinned };
        let want = ask(&prometheus.url, &range(pinned, first, end), &[]).await;
        for says in [says, then] {
            let got = ask(&promfront.url, &range(query, start, end), &[("x-scope-orgid", "short")]).await;
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{query}: {}", got.result());
            assert!(got.result().contains(says), "{query}: {}", got.result());
        }
        // Somebody else's are all there.
        let (want, got) = (
            ask(&prometheus.url, &range(query, start, end), &[]).await,
            ask(&promfront.url, &range(query, start, end), &[("x-scope-orgid", "long")]).await,
        );
        assert_eq!((got.status, got.text()), (want.status, want.text()), "{query}: {}", got.result());
    }
}

/// A form is sent on as a form, and a query that must not be cut is pinned to the client's own range all the same.
#[tokio::test]
async fn a_form_that_passes_whole_is_narrowed_too() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = promfront(&prometheus);
    let (start, end, first) = (DATA_START + 4 * 86_400, DATA_END - 86_400, BOUND + STEP / 2);
    let query = "max_over_time({__name__=~\"up\"}[5m]) + on (job) group_left () max by (job) (up @ start())";
    let form = |query: &str, start: i64| range_params(query, &start.to_string(), &end.to_string(), &STEP.to_string());
    let pinned = query.replace("start()", &start.to_string());
    let want = Http::new().post(&format!("{}/api/v1/query_range", prometheus.url), &form(&pinned, first)).await;
    assert_eq!(want.status.as_u16(), 200, "{}", want.text());
    let request = http::Request::post(format!("{}/api/v1/query_range?unknown=1", promfront.url))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-scope-orgid", "short")
        .body(axum::body::Body::from(form(query, start)));
    let got = Http::new().send(request.expect("sound")).await;
    assert_eq!(got.text(), want.text(), "{}", got.result());
    assert!(got.result().contains("reason=may-collide"), "{}", got.result());
}

/// A client that always posts, a server that knows the question as `GET`, and a limit that changes the question: its parameters come
/// from the form, all of them, and what is kept is the answer to the narrowed question.
#[tokio::test]
async fn a_list_that_was_posted_is_narrowed_too() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = promfront(&prometheus);
    let form = |start: i64| format!("match%5B%5D=odd_labels&start={start}&end={}", DATA_END - 86_400);
    let path = "/api/v1/label/pod/values";
    let bound = BOUND.div_euclid(60) * 60 + if BOUND % 60 == 0 { 0 } else { 60 };
    let want = Http::new().get(&format!("{}{path}?{}", prometheus.url, form(bound))).await;
    for _ in 0..2 {
        let request = http::Request::post(format!("{}{path}", promfront.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-scope-orgid", "short")
            .body(axum::body::Body::from(form(DATA_START)));
        let got = Http::new().send(request.expect("sound")).await;
        assert_eq!((got.status, got.text()), (want.status, want.text()), "{}", got.result());
    }
    let got =
        ask(&promfront.url, &format!("label/pod/values?{}", form(DATA_START)), &[("x-scope-orgid", "short")]).await;
    assert_eq!((got.text(), got.result()), (want.text(), "status=hit"), "what was kept is for both methods");
}

#[tokio::test]
async fn nothing_is_left_of_what_lies_wholly_before() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = promfront(&prometheus);
    let empty = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let before = |query: &str| range(query, DATA_START, DATA_START + 86_400);
    for query in ["up", "sum(no_grammar", "absent(no_such_metric)"] {
        let got = ask(&promfront.url, &before(query), &[("x-scope-orgid", "short")]).await;
        assert_eq!((got.status.as_u16(), got.text()), (200, empty.to_owned()), "{query}");
        assert_eq!(got.result(), "status=bypass; reason=lookback");
    }
    // What reads no series is answered at any time.
    for query in ["1+1", "time()", "vector(1)", "1 + on () vector(2)"] {
        let want = ask(&prometheus.url, &before(query), &[]).await;
        let got = ask(&promfront.url, &before(query), &[("x-scope-orgid", "short")]).await;
        assert_eq!((got.status, got.text()), (want.status, want.text()), "{query}: {}", got.result());
    }
    // The limit of several tenants is that of the one that has one.
    let got = ask(&promfront.url, &before("up"), &[("x-scope-orgid", "short|long")]).await;
    assert_eq!(got.result(), "status=bypass; reason=lookback");
}
