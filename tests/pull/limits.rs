//! What may pass between a promfront and its queriers: messages of a certain length, and whoever shows a certificate.

use std::fs;

use crate::frontend;
use crate::support::querier::{Querier, querier};
use crate::support::redis::Certificates;
use crate::support::scripted::{Scripted, ok};
use crate::support::{Folder, Http, Promfront, range_params};

const ONE: &[u8] =
    br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"]]}]}}"#;

/// Answers with two mebibytes to `large`.
async fn sometimes_large() -> Scripted {
    Scripted::start(|asked| {
        let label = "x".repeat(2 << 20);
        let large = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"a":"{label}"}},"values":[[0,"1"]]}}]}}}}"#
        );
        Some(ok(if asked.param("query").is_some_and(|query| query == "large") { large.as_bytes() } else { ONE }))
    })
    .await
}

fn range(query: &str) -> String {
    range_params(query, "0", "0", "60")
}

/// The answer would be as large on every querier: it is asked for once, its client is told the limit, and the slot goes on.
#[tokio::test]
async fn an_answer_over_the_limit_is_refused_once_and_harms_nobody() {
    let downstream = sometimes_large().await;
    let (promfront, address) = frontend("grpc_max_message_bytes: 1MiB").await;
    let folder = Folder::new("querier");
    let file = folder.path().join("querier.yaml");
    fs::write(&file, "sched: {grpc_max_message_bytes: 1MiB}\n").expect("a file");
    let knows = format!("--config.file={}", file.display());
    // One that does not know of the limit sends the answer, which is not read to its end; one that does sends its regrets.
    for (id, flags, status, words) in [
        ("ignorant", vec!["--concurrency=1"], 422, "sched.grpc_max_message_bytes"),
        ("knowing", vec!["--concurrency=1", &knows], 413, "response larger than the max"),
    ] {
        let mut querier = Querier::launched(id, &address, &downstream.url, &flags);
        let http = Http::new();
        let mut asked = downstream.asked();
        for path in ["query", "query_range"] {
            let url = |query: &str| format!("{}/api/v1/{path}?{}", promfront.url, range(query));
            for _ in 0..2 {
                let answer = http.get(&url("large")).await;
                assert_eq!(answer.status.as_u16(), status, "{id} {path}: {}", answer.text());
                assert!(answer.text().contains(words) && answer.text().contains("1048576"), "{}", answer.text());
                asked += 1;
                assert_eq!(downstream.asked(), asked, "{id} {path}: it was tried once");
                let next = http.get(&url(&format!("{id}_{asked}"))).await;
                assert_eq!((next.status.as_u16(), &next.body[..]), (200, ONE), "{id} {path}: {}", next.text());
                asked += 1;
            }
        }
        querier.stop().await;
        promfront.until_queues("it has left", |queues| queues["slots"] == 0).await;
    }
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_downstream_failed_tries_total", &[]) < 0.5, "no querier is to blame");
}

/// A request that is too long for a message is refused before it is sent.
#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_it_is_sent() {
    let downstream = Scripted::start(|_| Some(ok(ONE))).await;
    let (promfront, address) = frontend("grpc_max_message_bytes: 1MiB").await;
    let _querier = Querier::start("beside", &address, &downstream.url, 1);
    promfront.until_serves("beside", 1).await;
    let (http, url) = (Http::new(), format!("{}/api/v1/series", promfront.url));
    let long = format!("match[]=up&unknown={}", "x".repeat(2 << 20));
    let answer = http.post(&url, &long).await;
    assert_eq!(answer.status.as_u16(), 400, "{}", answer.text());
    assert!(answer.text().contains("sched.grpc_max_message_bytes"), "{}", answer.text());
    assert_eq!(downstream.asked(), 0);
    assert_eq!(http.post(&url, "match[]=up").await.status.as_u16(), 200);
    promfront.until_serves("beside", 1).await;
}

/// Who does not show a certificate of the right authority, or is not content with ours, never pulls.
#[tokio::test]
async fn only_queriers_with_a_certificate_pull() {
    let downstream = Scripted::start(|_| Some(ok(ONE))).await;
    let certificates = Certificates::make();
    let [cert, key, ca] = ["good.crt", "good.key", "ca.crt"].map(|file| certificates.path(file));
    let tls = format!("grpc_tls: {{cert_file: {cert}, key_file: {key}, client_ca_file: {ca}}}");
    let (promfront, address) = frontend(&tls).await;
    let launched = |id: &str, authority: &str, shown: &str| {
        let mut flags = vec!["--concurrency=1".to_owned()];
        if !authority.is_empty() {
            flags.push(format!("--frontend.tls-ca-file={}", certificates.path(&format!("{authority}.crt"))));
        }
        if !shown.is_empty() {
            flags.push(format!("--frontend.tls-cert-file={}", certificates.path(&format!("{shown}.crt"))));
            flags.push(format!("--frontend.tls-key-file={}", certificates.path(&format!("{shown}.key"))));
        }
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Querier::launched(id, &address, &downstream.url, &flags)
    };
    let refused = [
        launched("plain", "", ""),
        launched("shows-nothing", "ca", ""),
        launched("of-strangers", "ca", "stranger"),
        launched("too-late", "ca", "expired"),
        launched("trusts-others", "other-ca", "client"),
    ];
    for querier in &refused {
        querier.until_logged("lost a frontend").await;
    }
    let mut right = launched("right", "ca", "client");
    promfront.until_serves("right", 1).await;
    assert_answers(&promfront, "first").await;
    let shown = promfront.queues().await;
    for other in &refused {
        assert!(querier(&shown, &other.id).is_null(), "{shown}");
        assert!(!other.log().iter().any(|line| line.contains("connected to a frontend")), "{:?}", other.log());
    }
    // A port that only TLS is spoken at comes back to who restarts.
    right.stop().await;
    right.restart();
    promfront.until_serves("right", 1).await;
    assert_answers(&promfront, "second").await;
    assert_eq!(downstream.asked(), 2);
}

async fn assert_answers(promfront: &Promfront, query: &str) {
    let answer = Http::new().get(&format!("{}/api/v1/query?query={query}", promfront.url)).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, ONE), "{}", answer.text());
}
