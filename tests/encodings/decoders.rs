//! Programs that ask by themselves, and an answer that is longer than any buffer.
//!
//! Need: a client's decoder reads what its own connection brings, in pieces as they come. Rule: what a program hands on of promfront's
//! answer is what it is of the server's, and the metrics show that the answer came out of the cache.

use std::fs;
use std::process::{Command, Output};

use crate::rig::{Coding, Rig, Row, alike};
use crate::support::{DATA_END, DATA_START, Folder, Prometheus};

/// How often promfront had all that was asked for.
async fn hits(rig: &Rig) -> f64 {
    rig.promfront.metrics().await.sum("promfront_range_queries_total", &["status=\"hit\""])
}

#[tokio::test]
async fn curl_unpacks_the_same() {
    let prometheus = Prometheus::with_test_data().await;
    let (rig, folder) = (Rig::before(&prometheus.url), Folder::new("curl"));
    let [head, body] = ["head", "body"].map(|name| folder.path().join(name));
    for query in ["temperature_celsius", "odd_labels", "special_values"] {
        let row = Row { query: query.to_owned(), start_ms: DATA_START * 1000 + 7, step_ms: 61_000 };
        for (first, last, status) in [(0, 999, "miss"), (0, 999, "hit"), (-100, 1400, "phit"), (5, 1300, "hit")] {
            let params = row.params(first, last);
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail", "--compressed", "--dump-header"]).arg(&head);
            let run = curl.arg("--output").arg(&body).arg(rig.url(&params)).output();
            let run = run.expect("curl is not on the PATH: run `make tools`");
            assert!(run.status.success() && run.stderr.is_empty(), "{params}: {run:?}");
            let said = fs::read_to_string(&head).expect("a head").to_ascii_lowercase();
            assert!(said.contains("\r\ncontent-encoding: gzip\r\n"), "{params}: {said}");
            assert!(said.contains(&format!("\r\nx-promfront-result: status={status};")), "{params}: {said}");
            alike(&params, &fs::read(&body).expect("a body"), &rig.direct(&params).await.body);
        }
    }
}

/// promtool is written in Go, whose client asks for gzip unless it is told not to.
#[tokio::test]
async fn promtool_unpacks_the_same() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let printed = |url: &str, query: &str, first: i64, last: i64| -> Output {
        let [start, end] = [first, last].map(|number| DATA_START + 7 + number * 61);
        let times = [format!("--start={start}"), format!("--end={end}"), "--step=61s".to_owned()];
        let run = Command::new("promtool").args(["query", "range"]).args(times).args([url, query]).output();
        run.expect("promtool is not on the PATH: run `make tools`")
    };
    for query in ["temperature_celsius", "odd_labels", "http_requests_total"] {
        for (first, last, more_hits) in [(0, 999, 0.0), (0, 999, 1.0), (-100, 1400, 0.0), (5, 1300, 1.0)] {
            let (want, before) = (printed(&prometheus.url, query, first, last), hits(&rig).await);
            assert!(want.status.success() && want.stdout.len() > 4096, "{query}: {want:?}");
            assert!(printed(&rig.promfront.url, query, first, last) == want, "{query} {first} to {last}");
            let more = hits(&rig).await - before;
            assert!((more - more_hits).abs() < 0.5, "{query} {first} to {last}: {more} hits more");
        }
    }
}

/// More than 20 MB, of ten slots.
#[tokio::test]
async fn a_long_answer_is_one_member_to_its_end() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let row =
        Row { query: "{job=~\"api|node\"}".to_owned(), start_ms: (DATA_END - 10_000 * 60) * 1000, step_ms: 60_000 };
    let length = rig.same(&row.params(0, 9_800), "miss", Coding::Gzip).await;
    assert!(length > 20_000_000, "{length} bytes");
    rig.same(&row.params(150, 9_999), "phit", Coding::Gzip).await;
    rig.finish();
}
