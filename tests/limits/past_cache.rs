//! What clients say about the cache, in front of a real Prometheus: which question goes past it, and for which reason.

use crate::support::scripted::{Scripted, ok};
use crate::support::{DATA_END, Prometheus, Promfront, range_params};
use crate::{Headers, ask};

fn range(query: &str) -> String {
    let (start, end) = ((DATA_END - 3 * 86_400).to_string(), (DATA_END - 3600).to_string());
    format!("query_range?{}", range_params(query, &start, &end, "600"))
}

#[tokio::test]
async fn each_directive_is_obeyed_and_named() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let (alert, rule): (Headers<'_>, Headers<'_>) = (&[("fromalert", "true")], &[("x-rule-uid", "r")]);
    for (n, (query, headers, reason)) in [
        ("up", alert, "alert"),
        ("up", rule, "alert"),
        ("up", &[("x-cache-skip", "true")], "cache-skip"),
        ("up", &[("cache-control", "max-age=0, no-store")], "no-store"),
        ("up # promfront:no-cache", &[], "comment"),
    ]
    .into_iter()
    .enumerate()
    {
        // Each has a metric of its own, of which nothing is held.
        let query = query.replace("up", &format!("up + {n}"));
        let want = ask(&prometheus.url, &range(&query), &[]).await;
        let past = format!("status=bypass; reason={reason};");
        for _ in 0..2 {
            // Neither kept the first time, nor looked up the second time.
            let got = ask(&promfront.url, &range(&query), headers).await;
            assert_eq!(got.text(), want.text());
            assert!(got.result().starts_with(&past) && got.result().contains("hit=0"), "{query}: {}", got.result());
        }
        if headers.is_empty() {
            continue;
        }
        let results = [ask(&promfront.url, &range(&query), &[]).await, ask(&promfront.url, &range(&query), &[]).await];
        assert!(results[0].result().starts_with("status=miss"), "{query}: {}", results[0].result());
        assert!(results[1].result().starts_with("status=hit"), "{query}: {}", results[1].result());
        // What is held stays, and is not looked up.
        let got = ask(&promfront.url, &range(&query), headers).await;
        assert!(got.result().starts_with(&past), "{}", got.result());
        let again = ask(&promfront.url, &range(&query), &[("cache-control", "no-cache"), ("pragma", "no-cache")]).await;
        assert!(again.result().starts_with("status=hit"), "{query}: {}", again.result());
        assert_eq!(again.text(), want.text());
    }
}

#[tokio::test]
async fn alerts_may_be_answered_from_what_is_kept() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::configured(&prometheus.url, "cache: {alerts: true}");
    let alert = &[("fromalert", "true")];
    let results = [ask(&promfront.url, &range("up"), alert).await, ask(&promfront.url, &range("up"), alert).await];
    assert!(results[0].result().starts_with("status=miss"), "{}", results[0].result());
    assert!(results[1].result().starts_with("status=hit"), "{}", results[1].result());
}

/// Who wants an answer of his own has one; who only goes past the cache may share what is asked at this moment.
#[tokio::test]
async fn only_some_of_them_join_what_is_in_flight() {
    let body = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    for (query, headers, asked) in [
        ("up", &[("x-cache-skip", "true")][..], 1),
        ("up", &[("fromalert", "true")], 1),
        ("up", &[("cache-control", "no-store")], 2),
        ("up # promfront:no-cache", &[], 2),
    ] {
        let downstream = Scripted::gated(|_| Some(ok(body))).await;
        let promfront = Promfront::before(&downstream.url);
        let question = format!("query_range?{}", range_params(query, "0", "600", "60"));
        let both =
            async { tokio::join!(ask(&promfront.url, &question, headers), ask(&promfront.url, &question, headers)) };
        let opened = async {
            downstream.until_asked(asked).await;
            crate::support::until("both have come", async || {
                let coalesced = promfront.metrics().await.sum("promfront_coalesced_parts_total", &[]);
                downstream.asked() == 2 || coalesced > 0.5
            })
            .await;
            downstream.open_gate();
        };
        let ((one, two), ()) = tokio::join!(both, opened);
        assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
        assert_eq!(downstream.asked(), asked, "{query} {headers:?}");
    }
}
