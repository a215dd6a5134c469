//! Answers that are read while they are written: nothing is held back, nothing goes on for nobody, and length costs no memory.
//!
//! Need: a page that listens to notifications, a search that shows its first finds, a remote read of gigabytes. Rule: the first bytes reach
//! the client while the downstream still holds the connection open; who leaves is noticed downstream; what is kept of a long answer
//! is smaller than the answer. Range answers that are not cut stream too, and are kept. What is measured is the peak of promfront's own process.

mod support;

#[path = "streams/answers.rs"]
mod answers;
#[path = "streams/held.rs"]
mod held;
#[path = "streams/memory.rs"]
mod memory;

use std::time::Duration;

use axum::body::Body;
use held::Held;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use support::{Promfront, until};

/// Nothing that is about to come takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Method, path, content type, what comes first and what comes last.
const STREAMS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "GET",
        "/api/v1/search/metric_names?search=http",
        "application/x-ndjson; charset=utf-8",
        "{\"results\":[{\"name\":\"http_requests_total\"}]}\n",
        "{\"status\":\"success\",\"has_more\":false}\n",
    ),
    (
        "POST",
        "/api/v1/search/label_values?label=job",
        "application/x-ndjson; charset=utf-8",
        "{\"results\":[{\"name\":\"api\"}]}\n",
        "{\"status\":\"success\",\"has_more\":false}\n",
    ),
    (
        "GET",
        "/api/v1/notifications/live",
        "text/event-stream",
        "data: {\"text\":\"one\"}\n\n",
        "data: {\"text\":\"two\"}\n\n",
    ),
    (
        "POST",
        "/api/v1/read",
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse",
        "\u{3}\u{1}\u{2}\u{0}first",
        "\u{7}\u{1}\u{2}\u{0}last",
    ),
    ("GET", "/federate?match[]=up", "text/plain; version=0.0.4; charset=utf-8", "up 1\n", "down 0\n"),
];

async fn open(promfront: &Promfront, method: &str, path: &str, headers: &[(&str, &str)]) -> http::Response<Incoming> {
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = Request::builder().method(method).uri(format!("{}{path}", promfront.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if path.ends_with("/read") { Body::from("a request of protobuf") } else { Body::empty() };
    let answer = client.request(request.body(body).expect("a sound request"));
    tokio::time::timeout(PATIENCE, answer).await.expect("the head comes while the body is held").expect("an answer")
}

/// Reads until so much has come.
async fn read(body: &mut Incoming, length: usize) -> String {
    let mut read = Vec::new();
    while read.len() < length {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("it comes while the rest is held");
        let frame = frame.expect("more is to come").expect("a sound frame");
        read.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    String::from_utf8(read).expect("text")
}

#[tokio::test]
async fn the_first_bytes_come_before_the_last_are_written() {
    for (method, path, kind, first, last) in STREAMS {
        for headers in [&[][..], &[("accept", "text/event-stream, application/x-ndjson, */*")]] {
            let downstream = Held::start(kind, first, last).await;
            let promfront = Promfront::before(&downstream.url);
            let answer = open(&promfront, method, path, headers).await;
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
                (200, kind.as_bytes()),
                "{path}"
            );
            let mut body = answer.into_body();
            assert_eq!(read(&mut body, first.len()).await, *first, "{path}");
            assert_eq!(downstream.open(), 1, "{path}: the rest is still held");
            downstream.let_go();
            assert_eq!(read(&mut body, last.len()).await, *last, "{path}");
            assert!(body.frame().await.is_none_or(|frame| frame.is_ok()), "{path}: it ends in order");
        }
    }
}

#[tokio::test]
async fn who_leaves_a_stream_is_noticed_downstream() {
    for (method, path, kind, first, last) in STREAMS {
        let downstream = Held::start(kind, first, last).await;
        let promfront = Promfront::before(&downstream.url);
        let mut body = open(&promfront, method, path, &[]).await.into_body();
        read(&mut body, first.len()).await;
        assert_eq!(downstream.open(), 1);
        drop(body);
        until("the downstream is left", async || downstream.open() == 0).await;
    }
}

/// Two who listen are two: what streams is not shared, and not waited for.
#[tokio::test]
async fn listeners_do_not_wait_for_one_another() {
    let (_, path, kind, first, last) = STREAMS[2];
    let downstream = Held::start(kind, first, last).await;
    let promfront = Promfront::before(&downstream.url);
    let mut listeners = Vec::new();
    for _ in 0..20 {
        let mut body = open(&promfront, "GET", path, &[]).await.into_body();
        assert_eq!(read(&mut body, first.len()).await, first);
        listeners.push(body);
    }
    // They are more than an endpoint has slots for queries, and a query gets through.
    assert_eq!(downstream.open(), 20);
    let url = format!("{}/api/v1/query?query=up", promfront.url);
    let query = tokio::spawn(async move { support::Http::new().get(&url).await });
    until("the query arrives", async || downstream.open() == 21).await;
    query.abort();
}

/// A stream that breaks is not made to look whole.
#[tokio::test]
async fn a_stream_that_breaks_is_broken_for_the_client() {
    for (method, path, kind, first, _) in STREAMS {
        let downstream = Held::start(kind, first, "").await;
        let promfront = Promfront::before(&downstream.url);
        let mut body = open(&promfront, method, path, &[]).await.into_body();
        assert_eq!(read(&mut body, first.len()).await, *first, "{path}");
        downstream.break_off();
        let end = tokio::time::timeout(PATIENCE, body.frame()).await.expect("it ends");
        assert!(matches!(end, Some(Err(_))), "{path} ended as if it were whole: {end:?}");
    }
}
