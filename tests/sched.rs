//! The fair queue between a running promfront and servers behind it: who waits, who is served, what is tried again.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use support::scripted::{Scripted, ok, with_head};
use support::{Answer, Http, Promfront, range_params};

const EMPTY: &[u8] = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

fn bad_gateway() -> Vec<u8> {
    with_head("HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n", b"<html/> nope")
}

/// Asks an instant query, with headers, while the test goes on.
fn asking(promfront: &Promfront, query: &str, headers: &[(&str, &str)]) -> tokio::task::JoinHandle<Answer> {
    let mut request = Request::get(format!("{}/api/v1/query?query={query}", promfront.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("sound");
    tokio::spawn(async move { Http::new().send(request).await })
}

async fn queues(promfront: &Promfront) -> serde_json::Value {
    Http::new().get(&format!("{}/promfront/api/v1/queues", promfront.url)).await.json()["data"].clone()
}

/// Waits for what the queue is about to show.
async fn until_queues(
    promfront: &Promfront,
    what: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let mut seen = queues(promfront).await;
    let looked = async {
        while !is_so(&seen) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen = queues(promfront).await;
        }
    };
    let looked = tokio::time::timeout(Duration::from_secs(30), looked).await;
    assert!(looked.is_ok(), "in vain: {what}: {seen}");
    seen
}

fn tenant<'q>(queues: &'q serde_json::Value, name: &str) -> &'q serde_json::Value {
    let tenants = queues["tenants"].as_array().expect("a list");
    tenants.iter().find(|tenant| tenant["tenant"] == name).unwrap_or(&serde_json::Value::Null)
}

/// A tenant that asks for more than there is holds its share and no more, so that another one is answered at once.
#[tokio::test]
async fn one_tenant_leaves_a_slot_for_the_others() {
    let downstream = Scripted::start(|asked| (asked.param("query")? == "quick").then(|| ok(EMPTY))).await;
    let yaml = "multitenancy: {enabled: true}\ndownstream: {max_concurrent: 8}\n";
    let promfront = Promfront::configured(&downstream.url, yaml);
    let flood: Vec<_> = (0..30).map(|_| asking(&promfront, "endless", &[("x-scope-orgid", "flood")])).collect();
    let shown = until_queues(&promfront, "the flood is in", |queues| {
        let flood = tenant(queues, "flood");
        flood["running"] == 6 && flood["waiting"] == 24
    })
    .await;
    assert_eq!(tenant(&shown, "flood")["atCap"], true, "{shown}");
    assert_eq!((&shown["slots"], &shown["queriers"][0]["querier"]), (&8.into(), &downstream.url.clone().into()));
    for _ in 0..20 {
        let answer = asking(&promfront, "quick", &[("x-scope-orgid", "small")]).await.expect("no panic");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, EMPTY));
    }
    let metrics = promfront.metrics().await;
    assert!((metrics.sum("promfront_queue_length", &["lane=\"small\""]) - 24.0).abs() < 0.1);
    assert!((metrics.sum("promfront_queue_tenant_requests", &["tenant=\"flood\""]) - 30.0).abs() < 0.1);
    assert_eq!(asking(&promfront, "quick", &[]).await.expect("no panic").status.as_u16(), 401, "nobody's");
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    until_queues(&promfront, "who left is gone", |queues| tenant(queues, "flood").is_null()).await;
    downstream.until_left().await;
}

/// Dashboards of one tenant take turns: a large one does not starve the others.
#[tokio::test]
async fn dashboards_of_one_tenant_take_turns() {
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let downstream = Scripted::gated(move |asked| {
        seen.lock().push(asked.param("query")?);
        Some(ok(EMPTY))
    })
    .await;
    let promfront = Promfront::configured(&downstream.url, "downstream: {max_concurrent: 1}\n");
    let mut asked = vec![asking(&promfront, "first", &[("x-dashboard-uid", "large")])];
    downstream.until_asked(1).await;
    for i in 0..10 {
        asked.push(asking(&promfront, &format!("large{i}"), &[("x-dashboard-uid", "large")]));
        until_queues(&promfront, "in line", |queues| tenant(queues, "anonymous")["waiting"] == i + 1).await;
    }
    asked.push(asking(&promfront, "other", &[("x-dashboard-uid", "other")]));
    asked.push(asking(&promfront, "alert", &[("fromalert", "true"), ("x-dashboard-uid", "large")]));
    until_queues(&promfront, "all are in line", |queues| tenant(queues, "anonymous")["waiting"] == 12).await;
    downstream.open_gate();
    for answer in asked {
        assert_eq!(answer.await.expect("no panic").status.as_u16(), 200);
    }
    let order = order.lock().clone();
    let place = |name: &str| order.iter().position(|query| query == name).expect("it was asked");
    assert!(place("alert") == 1, "an alert is next: {order:?}");
    assert!(place("other") <= 3, "the other dashboard is not behind all of the large one: {order:?}");
}

/// What does not fit is refused with the limit, its option, and when to come again; what waits is not touched.
#[tokio::test]
async fn a_full_queue_refuses_and_says_which_limit() {
    for (option, status, kind) in [("503", 503, "unavailable"), ("429", 429, "too_many_requests")] {
        let downstream = Scripted::gated(|_| Some(ok(EMPTY))).await;
        let yaml =
            format!("downstream: {{max_concurrent: 1}}\nsched: {{max_queued_per_tenant: 2, full_status: {option}}}\n");
        let promfront = Promfront::configured(&downstream.url, &yaml);
        let running = asking(&promfront, "running", &[]);
        downstream.until_asked(1).await;
        let waiting = [asking(&promfront, "waits", &[]), asking(&promfront, "waits", &[])];
        until_queues(&promfront, "two wait", |queues| tenant(queues, "anonymous")["waiting"] == 2).await;
        let refused = asking(&promfront, "no", &[]).await.expect("no panic");
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (status, "1"));
        let error = refused.json();
        let text = error["error"].as_str().unwrap_or_default();
        assert_eq!(error["errorType"], kind);
        assert!(text.contains("sched.max_queued_per_tenant") && text.contains("limit is 2"), "{text}");
        downstream.open_gate();
        for answer in waiting.into_iter().chain([running]) {
            assert_eq!(answer.await.expect("no panic").status.as_u16(), 200);
        }
        let metrics = promfront.metrics().await;
        assert!((metrics.sum("promfront_queue_refused_total", &["reason=\"tenant_full\""]) - 1.0).abs() < 0.1);
    }
}

/// Two servers, one of which fails: nobody notices, it is asked ever less, and it is found again when it is well.
#[tokio::test]
async fn a_server_that_fails_is_given_less_and_comes_back() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let weak =
        Scripted::start(move |_| Some(if broken.load(Ordering::SeqCst) { bad_gateway() } else { ok(EMPTY) })).await;
    let sound = Scripted::start(|_| Some(ok(EMPTY))).await;
    let both = format!("downstream: {{urls: [\"{}\", \"{}\"], max_concurrent: 2}}\n", weak.url, sound.url);
    let promfront = Promfront::launched(&weak.url, &both, |command| {
        // The flag would override the two URLs of the file.
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut again = std::process::Command::new(command.get_program());
        again.args(args.iter().filter(|arg| !arg.to_string_lossy().starts_with("--downstream.url")));
        again.stderr(std::process::Stdio::piped());
        *command = again;
    });
    let http = Http::new();
    for i in 0..200 {
        let answer = http.get(&format!("{}/api/v1/query?query=a{i}", promfront.url)).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, EMPTY), "{i}");
    }
    let (asked_weak, asked_sound) = (weak.asked(), sound.asked());
    assert!(asked_weak >= 1 && asked_sound == 200, "{asked_weak} and {asked_sound}");
    assert!(asked_weak <= 20, "it rests between: {asked_weak}");
    let metrics = promfront.metrics().await;
    let tried_again = metrics.sum("promfront_downstream_failed_tries_total", &["tried_again"]);
    assert!((tried_again - f64::from(u32::try_from(asked_weak).expect("few"))).abs() < 0.1, "{tried_again}");

    is_broken.store(false, Ordering::SeqCst);
    let mut number = 0;
    let found = async {
        while weak.asked() < asked_weak + 20 {
            // Two at a time, so that there is something for the other server.
            let both = [0, 1].map(|_| {
                number += 1;
                asking(&promfront, &format!("b{number}"), &[])
            });
            for one in both {
                assert_eq!(one.await.expect("no panic").status.as_u16(), 200);
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), found).await.expect("it is found again");
}

/// A server alone is asked twice at most, never shut out, and its own words are handed on.
#[tokio::test]
async fn the_last_failure_is_told_in_the_servers_words() {
    let downstream = Scripted::start(|asked| match asked.param("query")?.as_str() {
        "gateway" => Some(bad_gateway()),
        "reset" => Some(Vec::new()),
        "slow" => Some(with_head(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 76\r\n\r\n",
            br#"{"status":"error","errorType":"timeout","error":"query timed out, as it is"}"#,
        )),
        _ => Some(ok(EMPTY)),
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    for (query, status, text, asked) in [
        ("gateway", 502, "<html/> nope", 2),
        ("slow", 503, "query timed out, as it is", 1),
        // Gone twice under one query: it may be what kills the server. All else goes on.
        ("reset", 422, "closed the connection", 2),
        ("sound", 200, "success", 1),
        ("reset", 422, "quarantined", 0),
        ("sound", 200, "success", 1),
    ] {
        let before = downstream.asked();
        let answer = asking(&promfront, query, &[]).await.expect("no panic");
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.text());
        assert!(answer.text().contains(text), "{query}: {}", answer.text());
        assert_eq!(downstream.asked() - before, asked, "{query}");
    }
}

/// With queriers that are not there, a request waits its time and is told so; what no querier serves is told at once.
#[tokio::test]
async fn with_nobody_to_pull_a_request_waits_and_is_told_so() {
    let yaml = "downstream: {mode: pull}\nsched: {grpc_listen_address: \"127.0.0.1:0\", max_wait_for_querier: 300ms}\n";
    let promfront = Promfront::configured("http://127.0.0.1:9", yaml);
    let http = Http::new();
    for path in ["query?query=up", &format!("query_range?{}", range_params("up", "0", "600", "60"))] {
        let answer = http.get(&format!("{}/api/v1/{path}", promfront.url)).await;
        assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
        assert_eq!(answer.json()["errorType"], "unavailable");
        assert!(answer.text().contains("sched.max_wait_for_querier"), "{}", answer.text());
    }
    let page = http.get(&format!("{}/graph", promfront.url)).await;
    assert_eq!(page.status.as_u16(), 404);
    assert!(page.text().contains("downstream.mode is pull"), "{}", page.text());
    let metrics = promfront.metrics().await;
    assert!((metrics.sum("promfront_queue_dropped_total", &["no_querier"]) - 2.0).abs() < 0.1);
}
