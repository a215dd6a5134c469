//! `promfront querier` against a real frontend on loopback, before a server that answers what a test wants.

#[path = "support/grpc.rs"]
mod grpc;
#[path = "support/scripted.rs"]
#[allow(dead_code, reason = "each test program uses a part of this")]
mod scripted;

use std::time::Duration;

use bytes::Bytes;
use futures::future;
use http::{HeaderValue, Method, StatusCode};
use promfront::config::{self, Sched};
use promfront::discovery::Address;
use promfront::error::ErrorKind;
use promfront::querier::{self, Options};
use promfront::request::Outgoing;
use promfront::sched::grpc::options::Options as FrontendOptions;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::grpc::{Frontend, PATIENCE, Querier, get, outcome, until};
use self::scripted::{Scripted, ok, with_head};

/// A querier at work.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
}

fn options(frontends: &[&Frontend], downstream: &str, concurrency: usize) -> Options {
    let address = |frontend: &&Frontend| Address::parse(&frontend.address.to_string()).expect("it is one");
    Options {
        frontends: frontends.iter().map(address).collect(),
        tls: None,
        tls_server_name: None,
        discovery: config::Discovery::default(),
        downstream: config::Downstream { urls: vec![downstream.to_owned()], ..config::Downstream::default() },
        concurrency,
        id: "ours".to_owned(),
        max_message_bytes: 64 << 10,
        shutdown_timeout: PATIENCE,
    }
}

fn start(options: Options) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let running = querier::run(options, async {
        let _ = stopped.await;
    });
    Running { stop, task: tokio::spawn(running) }
}

impl Running {
    async fn stopped(self) {
        drop(self.stop);
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").expect("it does not panic");
        assert_eq!(ended, Ok(()));
    }
}

#[tokio::test]
async fn a_request_goes_to_the_server_and_its_answer_comes_back() {
    let downstream = Scripted::start(|asked| {
        let head = asked.head.to_ascii_lowercase();
        assert!(head.starts_with("post /base/api/v1/query_range?a=%2b http/1.1"), "{head}");
        assert!(head.contains("x-scope-orgid: acme") && head.contains("x-mine: 1"), "{head}");
        assert_eq!(asked.body, "query=up");
        Some(with_head(
            "HTTP/1.1 422 No\r\ncontent-length: 2\r\nx-two: 1\r\nx-two: 2\r\nkeep-alive: timeout=9\r\n\r\n",
            b"{}",
        ))
    })
    .await;
    let frontend = Frontend::start().await;
    let running = start(options(&[&frontend], &format!("{}/base", downstream.url), 2));
    let mut outgoing = Outgoing {
        method: Method::POST,
        body: Bytes::from_static(b"query=up"),
        ..get("/any/prefix/api/v1/query_range", "a=%2B")
    };
    outgoing.headers.insert("x-mine", HeaderValue::from_static("1"));
    let got = outcome(frontend.ask_as("acme", outgoing, PATIENCE)).await.expect("an answer");
    assert_eq!((got.status().as_u16(), &**got.body()), (422, &b"{}"[..]));
    assert_eq!(got.headers().get_all("x-two").iter().count(), 2);
    assert!(!got.headers().contains_key("keep-alive"));
    frontend.until_slots(2).await;
    assert_eq!(frontend.queriers()[0].querier.as_str(), "ours");
    running.stopped().await;
    frontend.until_slots(0).await;
}

#[tokio::test]
async fn the_concurrency_is_dealt_over_the_frontends() {
    let (first, second, third) = future::join3(Frontend::start(), Frontend::start(), Frontend::start()).await;
    let all = [&first, &second, &third];
    let slots = || all.iter().map(|frontend| frontend.slots()).collect::<Vec<_>>();
    let running = start(options(&all, "http://127.0.0.1:1", 8));
    until(|| slots().iter().sum::<usize>() == 8, "streams open").await;
    assert!(slots().iter().all(|slots| (2..=3).contains(slots)), "{:?}", slots());
    running.stopped().await;
    until(|| slots() == [0, 0, 0], "streams end").await;
    let running = start(options(&all, "http://127.0.0.1:1", 1));
    until(|| slots() == [1, 1, 1], "streams open").await;
    running.stopped().await;
}

#[tokio::test]
async fn what_the_server_does_wrong_is_an_answer_too() {
    let frontend = Frontend::start().await;
    let silent = Scripted::start(|_| Some(Vec::new())).await;
    let short = Scripted::start(|_| Some(with_head("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"{}"))).await;
    for url in ["http://127.0.0.1:1", &short.url] {
        let running = start(options(&[&frontend], url, 1));
        let got = outcome(frontend.ask("/api/v1/query", "query=up")).await.expect("an answer");
        assert_eq!(got.status(), StatusCode::BAD_GATEWAY, "{url}");
        let body: serde_json::Value = serde_json::from_slice(got.body()).expect("in Prometheus's form");
        assert_eq!(body["status"], "error", "{url}");
        running.stopped().await;
        frontend.until_slots(0).await;
    }
    // A server that goes away with the query, twice, although the querier lives on.
    let running = start(options(&[&frontend], &silent.url, 1));
    let error = outcome(frontend.ask("/api/v1/query", "query=death")).await.expect_err("no answer");
    assert!(error.kind == ErrorKind::Execution && error.message.contains("quarantined"), "{error:?}");
    assert_eq!(silent.asked(), 2);
    running.stopped().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_as_cortex_does() {
    let large = ok(&vec![b'x'; 65 << 10]);
    let downstream = Scripted::start(move |_| Some(large.clone())).await;
    let frontend = Frontend::start().await;
    let running = start(options(&[&frontend], &downstream.url, 1));
    let got = outcome(frontend.ask("/api/v1/query", "query=up")).await.expect("an answer");
    assert_eq!(got.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let text = String::from_utf8_lossy(got.body());
    assert!(text.starts_with("response larger than the max (") && text.ends_with(" vs 65536)"), "{text}");
    running.stopped().await;
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_is_dropped_and_the_next_one_runs() {
    let downstream = Scripted::start(|asked| asked.head.contains("query=next").then(|| ok(b"{}"))).await;
    let frontend = Frontend::start().await;
    let running = start(options(&[&frontend], &downstream.url, 1));
    for round in 0..7 {
        let asked = frontend.ask("/api/v1/query", "query=left");
        downstream.until_asked(2 * round + 1).await;
        asked.abort();
        downstream.until_left().await;
        outcome(frontend.ask("/api/v1/query", "query=next")).await.expect("an answer");
    }
    running.stopped().await;
}

#[tokio::test]
async fn a_querier_that_stops_finishes_what_it_holds_and_takes_no_more() {
    let downstream = Scripted::gated(|_| Some(ok(b"{}"))).await;
    let frontend = Frontend::start().await;
    let running = start(options(&[&frontend], &downstream.url, 3));
    frontend.until_slots(3).await;
    let held = frontend.ask("/api/v1/query", "query=held");
    downstream.until_asked(1).await;
    let Running { stop, task } = running;
    drop(stop);
    // It has announced it: none of its slots serves.
    frontend.until_slots(0).await;
    // Two, because what a querier holds that leaves counts against the slots of its tenant.
    let mut other = Querier::named(&frontend, "other").await;
    let mut another = Querier::named(&frontend, "another").await;
    frontend.until_slots(2).await;
    let next = frontend.ask("/api/v1/query", "query=next");
    let request = tokio::select! {
        request = other.request() => {
            other.answer(200, "theirs").await;
            request
        }
        request = another.request() => {
            another.answer(200, "theirs").await;
            request
        }
    };
    assert!(request.url.ends_with(b"query=next"));
    outcome(next).await.expect("an answer");
    assert_eq!(downstream.asked(), 1);
    downstream.open_gate();
    assert_eq!(&**outcome(held).await.expect("an answer").body(), b"{}");
    assert_eq!(tokio::time::timeout(PATIENCE, task).await.expect("it stops").expect("no panic"), Ok(()));
}

#[tokio::test]
async fn a_querier_that_has_no_time_to_finish_leaves_all_the_same() {
    let downstream = Scripted::gated(|_| Some(ok(b"{}"))).await;
    let frontend = Frontend::start_with(|sched, _| sched.max_wait_for_querier = Duration::from_millis(100)).await;
    let quick = Options { shutdown_timeout: Duration::ZERO, ..options(&[&frontend], &downstream.url, 1) };
    let running = start(quick);
    let held = frontend.ask("/api/v1/query", "query=held");
    downstream.until_asked(1).await;
    running.stopped().await;
    outcome(held).await.expect_err("nobody is left");
}

#[tokio::test]
async fn a_frontend_that_comes_back_is_found_again() {
    let downstream = Scripted::start(|_| Some(ok(b"{}"))).await;
    let mut frontend = Frontend::start().await;
    let address = frontend.address.to_string();
    let running = start(options(&[&frontend], &downstream.url, 2));
    frontend.until_slots(2).await;
    frontend.stop();
    frontend.stopped().await;
    let sched = Sched::default();
    let again = FrontendOptions::new(&sched).expect("the defaults are sound");
    until(|| std::net::TcpListener::bind(&address).is_ok(), "the port is free").await;
    let frontend = Frontend::start_at(&address, &sched, again).await;
    frontend.until_slots(2).await;
    outcome(frontend.ask("/api/v1/query", "query=up")).await.expect("an answer");
    running.stopped().await;
}

#[tokio::test]
async fn a_frontend_that_is_not_there_does_not_keep_a_querier_from_the_others() {
    let downstream = Scripted::start(|_| Some(ok(b"{}"))).await;
    let frontend = Frontend::start().await;
    // It accepts, and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let mut both = options(&[&frontend], &downstream.url, 2);
    for address in [mute.local_addr().expect("it is bound").to_string(), "127.0.0.1:1".to_owned()] {
        both.frontends.push(Address::parse(&address).expect("it is one"));
    }
    let running = start(both);
    outcome(frontend.ask("/api/v1/query", "query=up")).await.expect("an answer");
    running.stopped().await;
}
