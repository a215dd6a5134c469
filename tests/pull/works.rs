//! What is pulled is what would have been answered directly; and workers and queriers do it together.

use crate::support::querier::{Querier, querier};
use crate::support::scripted::{Scripted, ok};
use crate::support::{DATA_END, DATA_START, Http, Prometheus, Promfront, escaped, range_params};
use crate::{EMPTY, asking, frontend};

/// Every kind of question, GET and POST, answers and errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_the_server_behind_the_querier() {
    let prometheus = Prometheus::with_test_data().await;
    let (promfront, address) = frontend("").await;
    let _querier = Querier::start("beside", &address, &prometheus.url, 6);
    promfront.until_serves("beside", 6).await;
    let shown = promfront.queues().await;
    let ours = querier(&shown, "beside");
    assert_eq!((&shown["slots"], &ours["parked"], &ours["running"]), (&6.into(), &6.into(), &0.into()), "{shown}");

    let http = Http::new();
    let (start, end) = (DATA_START.to_string(), DATA_END.to_string());
    let range = |query| range_params(query, &start, &end, "15m");
    let (up, between) = (escaped("match[]") + "=up", format!("start={start}&end={end}"));
    let at = |query| format!("query={}&time={end}", escaped(query));
    for (path, params) in [
        ("query_range", range("sum by (job) (rate(http_requests_total[10m])) > 0 and on(job) up")),
        ("query_range", range("http_requests_total{code=\"500\"}")),
        ("query_range", range("not a query(")),
        ("query_range", range("up * on(job) group_left build_info")),
        ("query", at("temperature_celsius")),
        ("query", at("up[5m]")),
        ("query", at("sum(")),
        ("labels", between.clone()),
        ("labels", format!("{up}&{between}")),
        ("series", format!("{up}&{between}")),
        ("series", between.clone()),
    ] {
        let [direct, through] = [&prometheus.url, &promfront.url].map(|url| format!("{url}/api/v1/{path}"));
        for turn in 0..2 {
            let pairs = [
                ("GET", http.get(&format!("{direct}?{params}")).await, http.get(&format!("{through}?{params}")).await),
                ("POST", http.post(&direct, &params).await, http.post(&through, &params).await),
            ];
            for (method, want, got) in pairs {
                assert_eq!((got.status, got.text()), (want.status, want.text()), "{method} {path}?{params} ({turn})");
                assert_eq!(got.header("content-type"), want.header("content-type"), "{method} {path}?{params}");
            }
        }
    }
    for path in ["label/job/values", "label/__name__/values", "label/not%20a%20name/values"] {
        let [want, got] = [&prometheus.url, &promfront.url].map(|url| format!("{url}/api/v1/{path}?{between}"));
        let (want, got) = (http.get(&want).await, http.get(&got).await);
        assert_eq!((got.status, got.text()), (want.status, want.text()), "{path}");
    }
    what_was_asked_was_cut_pulled_and_kept(&promfront, &range("count(up) + 1"), &prometheus).await;
}

async fn what_was_asked_was_cut_pulled_and_kept(promfront: &Promfront, params: &str, prometheus: &Prometheus) {
    let http = Http::new();
    let before = promfront.metrics().await;
    let want = http.get(&format!("{}/api/v1/query_range?{params}", prometheus.url)).await;
    for result in ["status=miss", "status=hit"] {
        let got = http.get(&format!("{}/api/v1/query_range?{params}", promfront.url)).await;
        assert!(got.result().starts_with(result), "{}", got.result());
        assert_eq!(got.text(), want.text());
    }
    let after = promfront.metrics().await;
    let grew = |name, parts: &[&str]| after.sum(name, parts) - before.sum(name, parts);
    assert!(grew("promfront_split_parts_total", &[]) >= 10.0, "ten days were cut");
    assert!(grew("promfront_downstream_requests_total", &["code=\"200\""]) >= 10.0, "each was pulled");
    assert!(grew("promfront_queue_wait_seconds_count", &[]) >= 10.0, "out of the queue");
    assert!(after.sum("promfront_querier_slots", &[]) > 5.5, "there are slots");
    assert!(after.sum("promfront_downstream_failed_tries_total", &[]) < 0.5, "at the first try");
}

/// With both, whoever is free takes what is next: neither waits for the other.
#[tokio::test]
async fn workers_and_queriers_share_what_there_is() {
    let [own, theirs] = [Scripted::gated(|_| Some(ok(EMPTY))).await, Scripted::gated(|_| Some(ok(EMPTY))).await];
    let yaml = "downstream: {mode: both, max_concurrent: 2}\nsched: {grpc_listen_address: \"127.0.0.1:0\"}\n";
    let promfront = Promfront::configured(&own.url, yaml);
    let address = promfront.frontend_address().await;
    let mut beside = Querier::start("beside", &address, &theirs.url, 3);
    promfront.until_serves("beside", 3).await;
    let ask = |number: usize| asking(&promfront, &format!("query?query=a{number}"));
    let asked: Vec<_> = (0..5).map(ask).collect();
    own.until_asked(2).await;
    theirs.until_asked(3).await;
    let shown = promfront.queues().await;
    assert_eq!(
        (&shown["slots"], &querier(&shown, "beside")["running"], &querier(&shown, &own.url)["running"]),
        (&5.into(), &3.into(), &2.into()),
        "{shown}"
    );
    own.open_gate();
    theirs.open_gate();
    for answer in asked {
        let answer = answer.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, EMPTY));
    }
    // Without the querier the workers go on, and what no querier serves goes to the server.
    beside.stop().await;
    for number in 10..20 {
        assert_eq!(ask(number).await.expect("no panic").status.as_u16(), 200);
    }
    let page = Http::new().get(&format!("{}/graph", promfront.url)).await;
    assert_eq!(page.status.as_u16(), 200, "{}", page.text());
    assert_eq!((own.asked(), theirs.asked()), (2 + 11, 3));
}
