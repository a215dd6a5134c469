//! The pull port against queriers that keep every rule, and against such that break each of them.
//!
//! Real bytes over loopback. Whatever a querier does, whoever waits for an answer gets an outcome.

#[path = "support/grpc.rs"]
mod grpc;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use promfront::error::ErrorKind;
use promfront::request::Outgoing;
use promfront::sched::grpc::client::Connection;
use promfront::sched::grpc::messages::{ClientToFrontend, FrontendToClient, Header, HttpResponse};
use promfront::sched::queue::snapshot::QuerierCounts;
use tonic::codec::CompressionEncoding;

use self::grpc::{Frontend, Manner, PATIENCE, Querier, answer, channel, get, outcome, until};

const OURS: Manner = Manner { is_ours: true, compresses: None };

fn names(frontend: &Frontend) -> Vec<(String, usize)> {
    let name = |counts: QuerierCounts| (counts.querier.as_str().to_owned(), counts.slots);
    frontend.queriers().into_iter().map(name).collect()
}

#[tokio::test]
async fn a_querier_is_asked_who_it_is_and_then_given_requests() {
    let frontend = Frontend::start().await;
    let mut querier = Querier::open(&frontend, Manner::default()).await;
    let asked = querier.next().await.expect("the stream is open").expect("the frontend speaks first");
    assert_eq!(asked, FrontendToClient::get_id());
    let dummy = asked.http_request.expect("old queriers run it");
    assert_eq!((&*dummy.method, &*dummy.url), (&b"GET"[..], &b"/invalid_request_sent_by_frontend"[..]));
    assert_eq!(frontend.slots(), 0);
    querier.say(&ClientToFrontend::id("querier-1")).await;
    frontend.until_slots(1).await;

    let mut outgoing = Outgoing {
        method: Method::POST,
        path: "/some/prefix/api/v1/query_range".to_owned(),
        query: "a=%2B".to_owned(),
        body: Bytes::from_static(b"query=up"),
        ..get("", "")
    };
    for (name, value) in [("accept", "a"), ("accept", "b"), ("connection", "x-hop"), ("x-hop", "1")] {
        outgoing.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let asked = frontend.ask_as("acme", outgoing, PATIENCE);
    let request = querier.request().await;
    assert_eq!((&*request.method, &*request.url), (&b"POST"[..], &b"/prometheus/api/v1/query_range?a=%2B"[..]));
    assert_eq!(&*request.body, b"query=up");
    let header = |key: &'static str, values: &[&'static str]| Header {
        key: Bytes::from_static(key.as_bytes()),
        values: values.iter().map(|value| Bytes::from_static(value.as_bytes())).collect(),
    };
    assert_eq!(request.headers, [header("Accept", &["a", "b"]), header("X-Scope-Orgid", &["acme"])]);
    querier
        .say(&ClientToFrontend::answer(HttpResponse {
            code: 422,
            headers: vec![header("Content-Type", &["text/x"]), header("X-Two", &["1", "2"])],
            body: Bytes::from_static(b"no"),
        }))
        .await;
    let got = outcome(asked).await.expect("an answer with any code is one");
    assert_eq!((got.status().as_u16(), &**got.body()), (422, &b"no"[..]));
    assert_eq!(got.headers()["content-type"], "text/x");
    assert_eq!(got.headers().get_all("x-two").iter().count(), 2);
}

#[tokio::test]
async fn queriers_without_a_name_are_one() {
    let frontend = Frontend::start().await;
    let _queriers = (Querier::named(&frontend, "").await, Querier::named(&frontend, "").await);
    let _named = (Querier::named(&frontend, "a").await, Querier::named(&frontend, "a").await);
    frontend.until_slots(4).await;
    assert_eq!(names(&frontend), [("a".to_owned(), 2), ("unknown".to_owned(), 2)]);
}

#[tokio::test]
async fn a_stream_that_is_not_introduced_ends() {
    let frontend = Frontend::start_with(|_, options| options.greeting = Duration::from_millis(100)).await;
    let mut silent = Querier::open(&frontend, Manner::default()).await;
    assert!(silent.next().await.expect("the stream is open").is_some());
    assert!(silent.cancelled().await.contains("who it is"));
    let mut long = Querier::named(&frontend, &"x".repeat(257)).await;
    assert!(long.cancelled().await.contains("256"));
    assert_eq!(frontend.slots(), 0);
}

#[tokio::test]
async fn only_the_query_api_reaches_a_querier() {
    let frontend = Frontend::start().await;
    let mut querier = Querier::named(&frontend, "q").await;
    for path in ["/ready", "/api/v1/admin/tsdb/snapshot", "/api/v1/label/..%2f..%2fx/values", "/api/v1/status/config"] {
        let got = outcome(frontend.ask(path, "")).await.expect("an answer");
        assert_eq!(got.status(), StatusCode::NOT_FOUND, "{path}");
        serde_json::from_slice::<serde_json::Value>(got.body()).expect("in Prometheus's form");
    }
    let asked = frontend.ask("/x/api/v1/labels", "match[]=up");
    assert_eq!(&*querier.request().await.url, b"/prometheus/api/v1/labels?match[]=up", "the first that it hears of");
    querier.answer(200, "{}").await;
    assert_eq!(outcome(asked).await.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_querier_that_dies_in_flight_is_replaced() {
    let frontend = Frontend::start().await;
    let mut first = Querier::named(&frontend, "first").await;
    let asked = frontend.ask("/api/v1/query", "query=up");
    first.request().await;
    let mut second = Querier::named(&frontend, "second").await;
    frontend.until_slots(2).await;
    drop(first);
    second.request().await;
    second.answer(200, "mine").await;
    assert_eq!(&**outcome(asked).await.expect("an answer").body(), b"mine");
    frontend.until_slots(1).await;
}

#[tokio::test]
async fn a_querier_that_dies_alone_leaves_an_error() {
    let frontend = Frontend::start_with(|sched, _| sched.max_wait_for_querier = Duration::from_millis(200)).await;
    let mut querier = Querier::named(&frontend, "q").await;
    let asked = frontend.ask("/api/v1/query", "query=up");
    querier.request().await;
    querier.end();
    let error = outcome(asked).await.expect_err("nobody is left");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn what_nobody_asked_for_ends_the_stream() {
    let frontend = Frontend::start().await;
    let mut twice = Querier::named(&frontend, "q").await;
    let asked = frontend.ask("/api/v1/query", "query=up");
    twice.request().await;
    twice.answer(200, "first").await;
    twice.answer(200, "second").await;
    assert_eq!(&**outcome(asked).await.expect("an answer").body(), b"first");
    assert!(twice.cancelled().await.contains("nothing was asked"));
    let mut idle = Querier::named(&frontend, "q").await;
    frontend.until_slots(1).await;
    idle.say(&ClientToFrontend::id("again")).await;
    assert!(idle.cancelled().await.contains("nothing was asked"));
    frontend.until_slots(0).await;
}

#[tokio::test]
async fn an_answer_that_is_none_fails_the_request_and_the_stream() {
    let frontend = Frontend::start_with(|_, options| options.max_message_bytes = 4096).await;
    let large =
        ClientToFrontend::answer(HttpResponse { body: vec![b'x'; 5000].into(), code: 200, headers: Vec::new() });
    for (bytes, kind, says) in [
        (prost::Message::encode_to_vec(&ClientToFrontend::id("q")), ErrorKind::BadGateway, "no HTTP response"),
        (Vec::new(), ErrorKind::BadGateway, "no HTTP response"),
        (vec![0xff; 40], ErrorKind::BadGateway, "can't be read"),
        // The response is a number.
        (vec![8, 1], ErrorKind::BadGateway, "can't be read"),
        (prost::Message::encode_to_vec(&large), ErrorKind::Execution, "sched.grpc_max_message_bytes"),
    ] {
        let mut querier = Querier::named(&frontend, "q").await;
        let asked = frontend.ask("/api/v1/query", "query=up");
        querier.request().await;
        querier.say_raw(bytes).await;
        let error = outcome(asked).await.expect_err("no answer");
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
        querier.cancelled().await;
        frontend.until_slots(0).await;
    }
}

#[tokio::test]
async fn a_status_code_that_is_none_is_a_bad_gateway() {
    let frontend = Frontend::start().await;
    let mut querier = Querier::named(&frontend, "q").await;
    for code in [0, 99, 100, 150, 600, 70_000, -1, i32::MAX, i32::MIN] {
        let asked = frontend.ask("/api/v1/query", "query=up");
        querier.request().await;
        querier.answer(code, "").await;
        let error = outcome(asked).await.expect_err("no answer");
        assert_eq!(error.kind, ErrorKind::BadGateway, "{code}: {error}");
    }
    let asked = frontend.ask("/api/v1/query", "query=up");
    querier.request().await;
    querier.answer(204, "").await;
    assert_eq!(outcome(asked).await.expect("the stream goes on").status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn strange_bytes_beside_an_answer_do_not_spoil_it() {
    let frontend = Frontend::start_with(|_, options| options.wants_stats = true).await;
    let mut querier = Querier::named(&frontend, "q").await;
    let header = |key: &'static [u8], value: &'static [u8]| Header {
        key: Bytes::from_static(key),
        values: vec![Bytes::from_static(value)],
    };
    let cortex: &[u8] = &[10, 2, 8, 2, 42, 4, 10, 2, b'a', b'b', 66, 1, b'x', 72, 3];
    let mimir: &[u8] = &[10, 2, 8, 2, 40, 7, 64, 9, 74, 2, 8, 1, 106, 2, 8, 1];
    for stats in [cortex, mimir, &[0xff; 9], &[10, 200], &[8, 1]] {
        let asked = frontend.ask("/api/v1/query", "query=up");
        let said = querier.next().await.expect("the stream is open").expect("it goes on");
        assert!(said.stats_enabled);
        let response = HttpResponse {
            code: 200,
            headers: vec![
                header(b"X-Latin", b"\xe9\xff"),
                header(b"\xff\xfe", b"x"),
                header(b"X-Evil", b"a\r\nb: c"),
                header(b"Content-Length", b"99"),
                header(b"Transfer-Encoding", b"chunked"),
                Header { key: Bytes::from_static(b"X-None"), values: Vec::new() },
            ],
            body: Bytes::from_static(b"\xff\xfe"),
        };
        querier.say(&ClientToFrontend { stats: Bytes::from_static(stats), ..ClientToFrontend::answer(response) }).await;
        let got = outcome(asked).await.expect("an answer");
        let headers: Vec<_> = got.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(headers, [("x-latin", &b"\xe9\xff"[..])]);
        assert_eq!(&**got.body(), b"\xff\xfe");
    }
}

#[tokio::test]
async fn a_querier_may_go_on_for_a_while_with_what_nobody_waits_for() {
    let frontend = Frontend::start_with(|_, options| options.grace = PATIENCE).await;
    let mut querier = Querier::named(&frontend, "cortex").await;
    let asked = frontend.ask("/api/v1/query", "query=left");
    querier.request().await;
    asked.abort();
    let next = frontend.ask("/api/v1/query", "query=next");
    querier.answer(200, "too late").await;
    assert!(querier.request().await.url.ends_with(b"query=next"), "the stream goes on");
    querier.answer(200, "in time").await;
    assert_eq!(&**outcome(next).await.expect("an answer").body(), b"in time");
}

#[tokio::test]
async fn a_querier_that_hangs_is_cancelled_when_its_grace_is_over() {
    let frontend = Frontend::start_with(|_, options| options.grace = Duration::from_millis(100)).await;
    let mut querier = Querier::named(&frontend, "cortex").await;
    let asked = frontend.ask_for(get("/api/v1/query", "query=up"), Duration::from_millis(300));
    querier.request().await;
    assert_eq!(outcome(asked).await.expect_err("no answer").kind, ErrorKind::Timeout);
    assert!(querier.cancelled().await.contains("nobody waits"));
    frontend.until_slots(0).await;
    assert_eq!(frontend.running(), 0);
}

#[tokio::test]
async fn a_querier_of_ours_is_cancelled_at_once() {
    let frontend = Frontend::start_with(|_, options| options.grace = PATIENCE * 10).await;
    let mut querier = Querier::named_in(&frontend, "ours", OURS).await;
    let asked = frontend.ask("/api/v1/query", "query=up");
    querier.request().await;
    asked.abort();
    assert!(querier.cancelled().await.contains("nobody waits"));
}

#[tokio::test]
async fn what_a_querier_of_ours_did_not_begin_is_given_to_another() {
    let frontend = Frontend::start().await;
    let mut leaves = Querier::named_in(&frontend, "leaves", OURS).await;
    let asked = frontend.ask("/api/v1/query", "query=up");
    leaves.request().await;
    leaves.end();
    assert_eq!(leaves.next().await.expect("a clean end"), None);
    let mut stays = Querier::named_in(&frontend, "stays", OURS).await;
    stays.request().await;
    stays.answer(200, "mine").await;
    assert_eq!(&**outcome(asked).await.expect("an answer").body(), b"mine");
}

#[tokio::test]
async fn a_querier_that_announces_to_leave_is_given_no_more() {
    let frontend = Frontend::start().await;
    let mut leaves = Querier::named(&frontend, "leaves").await;
    frontend.until_slots(1).await;
    let busy = frontend.ask("/api/v1/query", "query=busy");
    leaves.request().await;
    let mut connection = Connection::new(channel(frontend.address).await, 1 << 20);
    connection.notify_shutdown("leaves").await.expect("it is heard");
    connection.notify_shutdown("never heard of").await.expect("that is nothing bad");
    let asked = frontend.ask("/api/v1/query", "query=next");
    leaves.answer(200, "done").await;
    assert_eq!(&**outcome(busy).await.expect("an answer").body(), b"done");
    let mut stays = Querier::named(&frontend, "stays").await;
    assert!(stays.request().await.url.ends_with(b"query=next"));
    stays.answer(200, "next").await;
    outcome(asked).await.expect("an answer");
}

#[tokio::test]
async fn a_frontend_that_stops_ends_idle_streams_and_waits_for_the_others() {
    let mut frontend = Frontend::start().await;
    let mut busy = Querier::named(&frontend, "busy").await;
    let asked = frontend.ask("/api/v1/query", "query=up");
    busy.request().await;
    let mut idle = Querier::named(&frontend, "idle").await;
    let mut unknown = Querier::open(&frontend, Manner::default()).await;
    assert!(unknown.next().await.expect("the stream is open").is_some());
    frontend.until_slots(2).await;
    frontend.stop();
    assert!(idle.cancelled().await.contains("shutting down"));
    assert!(unknown.cancelled().await.contains("shutting down"));
    busy.answer(200, "done").await;
    assert_eq!(&**outcome(asked).await.expect("an answer").body(), b"done");
    assert!(busy.cancelled().await.contains("shutting down"));
    frontend.stopped().await;
}

#[tokio::test]
async fn large_and_compressed_messages_pass() {
    let frontend = Frontend::start().await;
    let body: Bytes = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
    for compresses in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut querier = Querier::named_in(&frontend, "q", Manner { compresses, is_ours: false }).await;
        let outgoing = Outgoing { method: Method::POST, body: body.clone(), ..get("/api/v1/read", "") };
        let asked = frontend.ask_for(outgoing, PATIENCE);
        assert_eq!(querier.request().await.body, body);
        querier
            .say(&ClientToFrontend::answer(HttpResponse { code: 200, headers: Vec::new(), body: body.clone() }))
            .await;
        assert_eq!(outcome(asked).await.expect("an answer").body(), &body, "{compresses:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_not_sent() {
    let frontend = Frontend::start_with(|_, options| options.max_message_bytes = 1000).await;
    let mut querier = Querier::named(&frontend, "q").await;
    let long = "x".repeat(1000);
    let error = outcome(frontend.ask("/api/v1/query", &long)).await.expect_err("no answer");
    assert_eq!(error.kind, ErrorKind::BadData);
    assert!(error.message.contains("sched.grpc_max_message_bytes"), "{error}");
    let asked = frontend.ask("/api/v1/query", "query=up");
    assert!(querier.request().await.url.ends_with(b"query=up"));
    querier.say(&answer(200, "fine")).await;
    outcome(asked).await.expect("an answer");
}

#[tokio::test]
async fn other_methods_are_not_there() {
    let frontend = Frontend::start().await;
    let mut grpc = tonic::client::Grpc::new(channel(frontend.address).await);
    grpc.ready().await.expect("the frontend is there");
    let path = http::uri::PathAndQuery::from_static("/frontend.Frontend/Other");
    let refused = grpc.unary(tonic::Request::new(Bytes::new()), path, grpc::Raw).await;
    assert_eq!(refused.expect_err("no such method").code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let frontend = Frontend::start().await;
    let channel = channel(frontend.address).await;
    let mut queriers = Vec::new();
    for _ in 0..300 {
        let mut querier = Querier::open_over(channel.clone(), Manner::default()).await;
        querier.next().await.expect("the stream is open");
        querier.say(&ClientToFrontend::id("q")).await;
        queriers.push(querier);
    }
    frontend.until_slots(300).await;
    let mut connection = Connection::new(channel, 1 << 20);
    connection.notify_shutdown("q").await.expect("there is room for the notice");
    drop(queriers);
    until(|| frontend.slots() == 0, "all streams end").await;
}
