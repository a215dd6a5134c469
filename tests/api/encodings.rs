//! How answers are packed: gzip for who asks for it, nothing else for anybody.

use crate::support::recorded::Recorded;
use crate::support::scripted::with_head;
use crate::support::{Prometheus, Promfront};
use crate::{is_hit, send};

/// What a client accepts, and whether that names gzip.
const ACCEPTED: &[(&str, bool)] = &[
    ("", false),
    ("gzip", true),
    ("identity", false),
    ("deflate", false),
    ("zstd", false),
    ("zstd, gzip", true),
    ("deflate, gzip, br", true),
    ("gzip, deflate, br, zstd", true),
    ("br", false),
    ("x-nonsense", false),
];

const LARGE: &[&str] = &[
    "/api/v1/query_range?query=http_requests_total&start=1707264000&end=1707350400&step=600",
    "/api/v1/query?query=http_requests_total&time=1707350400",
    "/api/v1/query?query=http_requests_total",
    "/api/v1/series?match%5B%5D=http_requests_total&start=1707264000&end=1707350400",
    "/api/v1/series?match%5B%5D=http_requests_total",
    "/api/v1/label/__name__/values?start=1707264000&end=1707350400",
    "/api/v1/status/flags",
    "/api/v1/status/tsdb",
];

/// First with one way of packing, then with the other: what is kept suits each of them.
#[tokio::test]
async fn gzip_or_nothing_cold_and_warm() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let mut wrong = Vec::new();
    for path in LARGE {
        let want = send("GET", &format!("{}{path}", prometheus.url), "", &[]).await.plain();
        for (accepted, has_gzip) in ACCEPTED {
            let headers: Vec<_> =
                (!accepted.is_empty()).then_some(("accept-encoding", *accepted)).into_iter().collect();
            let answer = send("GET", &format!("{}{path}", promfront.url), "", &headers).await;
            let packed = answer.header("content-encoding").to_owned();
            if answer.plain() != want && !path.contains("tsdb") {
                wrong.push(format!("{path} {accepted:?}: another body, packed as {packed:?}, {}", answer.result()));
            }
            let may_be = packed.is_empty() || packed == "identity" || (packed == "gzip" && *has_gzip);
            if !may_be || (*has_gzip && want.len() > 4096 && packed != "gzip") {
                wrong.push(format!("{path} {accepted:?}: packed as {packed:?} ({} bytes)", want.len()));
            }
            if want.len() > 4096 && !answer.header("vary").to_ascii_lowercase().contains("accept-encoding") {
                wrong.push(format!("{path} {accepted:?}: Vary is {:?}", answer.header("vary")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    for path in [LARGE[0], LARGE[1], LARGE[3], LARGE[5]] {
        assert!(is_hit(&send("GET", &format!("{}{path}", promfront.url), "", &[]).await), "{path} was kept");
    }
}

/// A server that packs as it likes: the client gets what it can read, or the server is told what may be.
#[tokio::test]
async fn the_downstream_is_not_asked_for_what_the_client_cannot_be_given() {
    let downstream = Recorded::start(|asked| {
        let accepted = asked.header("accept-encoding").unwrap_or_default().to_owned();
        let body = format!(r#"{{"status":"success","data":"{accepted}"}}"#);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        Some(with_head(&head, body.as_bytes()))
    })
    .await;
    let promfront = Promfront::before(downstream.url());
    for path in [
        "/api/v1/rules",
        "/api/v1/metadata",
        "/api/v1/query?query=up",
        "/api/v1/status/config",
        "/api/v1/search/metric_names",
    ] {
        send("GET", &format!("{}{path}", promfront.url), "", &[("accept-encoding", "deflate, zstd;q=1, br")]).await;
        let asked = downstream.asked().pop().expect("it arrived");
        let accepted = asked.header("accept-encoding").unwrap_or_default();
        assert!(!accepted.contains("deflate"), "{path} was asked for with {accepted:?}");
    }
}
