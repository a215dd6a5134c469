//! Answers to other origins: browsers are told what Prometheus would tell them, with or without the cache.

use crate::support::{Prometheus, Promfront};
use crate::{is_hit, send};

/// The headers that it is about; `Vary` is looked at for `Origin` only where Prometheus says it.
const HEADERS: [&str; 4] = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
];

const RANGE: &str = "/api/v1/query_range?query=up&start=1707264000&end=1707350400&step=60";
const INSTANT: &str = "/api/v1/query?query=up&time=1707350400";
const LABELS: &str = "/api/v1/labels?start=1707264000&end=1707350400";
const RULES: &str = "/api/v1/rules";

async fn compare(prometheus: &Prometheus, promfront: &Promfront) {
    let origins = [
        None,
        Some("https://a.example"),
        Some("http://b.example"),
        Some("https://a.example.org"),
        Some("https://xa.example"),
        Some("null"),
    ];
    let mut wrong = Vec::new();
    for origin in origins {
        let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        // `nothing` is refused: errors are for other origins too.
        for path in
            [RANGE, RANGE, INSTANT, INSTANT, LABELS, LABELS, RULES, "/api/v1/query?query=up%7B", "/api/v1/series"]
        {
            let want = send("GET", &format!("{}{path}", prometheus.url), "", &headers).await;
            let got = send("GET", &format!("{}{path}", promfront.url), "", &headers).await;
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{path}");
            for name in HEADERS {
                let all = |answer: &crate::support::Answer| -> Vec<_> {
                    answer.headers.get_all(name).iter().cloned().collect()
                };
                if all(&want) != all(&got) {
                    wrong.push(format!("{path} {origin:?} {name}: want {:?}, got {:?}", all(&want), all(&got)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    // An origin is no reason to go past the cache.
    for path in [RANGE, INSTANT, LABELS] {
        let again = send("GET", &format!("{}{path}", promfront.url), "", &[("origin", "https://a.example")]).await;
        assert!(is_hit(&again), "{path}: {}", again.result());
    }
}

#[tokio::test]
async fn every_origin_is_let_in_unless_told_otherwise() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    compare(&prometheus, &promfront).await;
}

/// What the answer says is decided by promfront's flag, whatever the server behind it would let in.
#[tokio::test]
async fn origins_that_are_named_are_let_in() {
    let named = "--web.cors.origin=https?://(a|b)\\.example";
    let prometheus = Prometheus::start(Some(crate::support::test_data()), &[named]).await;
    let promfront = Promfront::launched(&prometheus.url, "", |command| {
        command.arg(named);
    });
    compare(&prometheus, &promfront).await;
    let open = Prometheus::with_test_data().await;
    let promfront = Promfront::launched(&open.url, "", |command| {
        command.arg(named);
    });
    for path in [RANGE, INSTANT, RULES] {
        for (origin, let_in) in [("https://c.example", ""), ("https://b.example", "https://b.example")] {
            let answer = send("GET", &format!("{}{path}", promfront.url), "", &[("origin", origin)]).await;
            let said: Vec<_> = answer.headers.get_all("access-control-allow-origin").iter().collect();
            let want: Vec<_> = [let_in].into_iter().filter(|text| !text.is_empty()).collect();
            assert_eq!(said, want, "{path} for {origin}");
        }
    }
}

#[tokio::test]
async fn a_preflight_is_answered_here() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let asked = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    for path in [
        "/api/v1/query_range",
        "/api/v1/query",
        "/api/v1/series",
        "/api/v1/label/job/values",
        "/api/v1/rules",
        "/api/v1/write",
        "/api/v1/status/buildinfo",
    ] {
        let want = send("OPTIONS", &format!("{}{path}", prometheus.url), "", &asked).await;
        let got = send("OPTIONS", &format!("{}{path}", promfront.url), "", &asked).await;
        assert_eq!((got.status.as_u16(), got.body.len()), (204, 0), "{path}: {}", got.text());
        for name in HEADERS {
            assert_eq!(got.header(name), want.header(name), "{path}: {name}");
        }
        assert!(!got.header("access-control-allow-methods").is_empty(), "{path}: {:?}", got.headers);
    }
}

#[tokio::test]
async fn an_origin_that_is_no_expression_is_refused_at_the_start() {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_promfront"))
        .args(["--downstream.url=http://127.0.0.1:9", "--web.listen-address=127.0.0.1:0", "--web.cors.origin=(("])
        .output()
        .expect("promfront was built");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("web.cors.origin"), "{said}");
    assert!(!said.contains("unexpected argument"), "{said}");
}
