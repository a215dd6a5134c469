//! What a range query owes its client beyond the right digits: freshness, one flight, cancelling, and everything else under
//! the URL passed through. Real Prometheus, except where a server has to be held or to be watched closing.

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use http::Request;
use support::remote_write::{Sample, Series, write};
use support::scripted::{Scripted, ok};
use support::{Answer, DATA_END, DATA_START, Http, Prometheus, Promfront, range_params, until};

const EMPTY: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

#[expect(clippy::disallowed_methods, reason = "samples for now have to know when that is")]
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since_epoch.as_millis()).expect("before the year 292 million")
}

/// The same request to both.
async fn ask_both(prometheus: &Prometheus, promfront: &Promfront, params: &str) -> (Answer, Answer) {
    let [want, got] = [&prometheus.url, &promfront.url].map(|url| format!("{url}/api/v1/query_range?{params}"));
    let http = Http::new();
    (http.get(&want).await, http.get(&got).await)
}

async fn same(prometheus: &Prometheus, promfront: &Promfront, params: &str) -> Answer {
    let (want, got) = ask_both(prometheus, promfront, params).await;
    assert_eq!((got.status, got.text()), (want.status, want.text()), "{params}: {}", got.result());
    got
}

fn params_ms(query: &str, start: i64, end: i64, step: &str) -> String {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    range_params(query, &seconds(start), &seconds(end), step)
}

fn floats(range: std::ops::Range<i64>, step: usize) -> Vec<(i64, Sample)> {
    #[expect(clippy::cast_precision_loss, reason = "any number will do")]
    range.step_by(step).map(|t| (t, Sample::Float((t % 1_000_003) as f64 / 7.0))).collect()
}

/// C28, C29, C30: what may still change is asked for again, whether it is young itself or reads what is young.
#[tokio::test]
async fn what_may_still_change_is_never_kept() {
    let prometheus = Prometheus::empty().await;
    let promfront = Promfront::before(&prometheus.url);
    let now = now_ms() / 60_000 * 60_000;
    let (minute, hour) = (60_000, 3_600_000);
    write(&prometheus.url, &[Series::new("x", "a", floats(now - 3 * hour..now - 8 * minute, 15_000))]).await;
    let yesterday = (now - 30 * hour, now - 28 * hour);
    // Each is asked, then samples arrive up to now, then each is asked again: old samples must be what they were, and
    // those that were not there yet must be there now.
    let young_reads = [
        ("x", now - 2 * hour, now),
        ("x offset -15m", now - 2 * hour, now - 15 * minute),
        ("max_over_time(x[5m] offset -20m)", now - 2 * hour, now - 20 * minute),
        ("max_over_time((x offset -25m)[10m:1m])", now - 2 * hour, now - 25 * minute),
        ("avg_over_time(sum(x offset -2h)[1h:] offset 90m)", now - 2 * hour, now - 20 * minute),
        ("x @ end()", now - 2 * hour, now),
        ("x @ start() offset -2h", now - 2 * hour, now - 90 * minute),
    ];
    let absolute = [
        format!("x @ {}", now / 1000 - 5),
        format!("sum_over_time(x[1h] @ {})", now / 1000),
        format!("x @ {} offset -1h", now / 1000 - 3600),
    ];
    let mut asked: Vec<String> =
        young_reads.iter().map(|(query, start, end)| params_ms(query, *start, *end, "30")).collect();
    asked.extend(absolute.iter().map(|query| params_ms(query, yesterday.0, yesterday.1, "60")));
    for params in &asked {
        same(&prometheus, &promfront, params).await;
    }
    write(&prometheus.url, &[Series::new("x", "a", floats(now - 8 * minute..now, 15_000))]).await;
    for params in &asked {
        let again = same(&prometheus, &promfront, params).await;
        assert!(!again.result().starts_with("status=hit"), "{params} was kept: {}", again.result());
    }
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_range_queries_total", &["phit"]) >= 1.0, "what is older was served from the cache");
    assert!(metrics.sum("promfront_cache_not_kept_total", &["fresh"]) >= 5.0);
}

/// A dashboard that moves on by a step asks for the tail only; C4 to C9 and C96 in the passing.
#[tokio::test]
async fn a_moving_window_asks_for_its_tail_only() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let query = "sum by (code) (rate(http_requests_total[5m]))";
    for refresh in 0..200 {
        let (start, end) = (DATA_START + 86_400 + refresh * 300 + 7, DATA_START + 4 * 86_400 + refresh * 300 + 7);
        let answer =
            same(&prometheus, &promfront, &range_params(query, &start.to_string(), &end.to_string(), "300")).await;
        if refresh > 0 {
            let tail = format!("fetched=[{}-{}]", end * 1000, end * 1000);
            assert!(
                answer.result().starts_with("status=phit; reason=absent") && answer.result().ends_with(&tail),
                "{}",
                answer.result()
            );
        }
    }
    let metrics = promfront.metrics().await;
    assert!(
        (metrics.sum("promfront_split_parts_total", &[]) - (4.0 + 199.0)).abs() < 0.5,
        "four days, then one part a refresh"
    );
    let held = metrics.sum("promfront_cache_size_bytes", &[]);
    let whole = Http::new()
        .get(&format!(
            "{}/api/v1/query_range?{}",
            prometheus.url,
            range_params(query, &DATA_START.to_string(), &(DATA_START + 5 * 86_400).to_string(), "300")
        ))
        .await;
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let bound = 2.0 * whole.body.len() as f64 + 100_000.0;
    assert!(held < bound, "{held} bytes are held for {} of answer", whole.body.len());
}

/// C5: the same few points again and again change nothing.
#[tokio::test]
async fn a_repeated_query_neither_grows_nor_is_asked_for() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let params = range_params("up", &DATA_START.to_string(), &(DATA_START + 300).to_string(), "60");
    let first = same(&prometheus, &promfront, &params).await;
    let before = promfront.metrics().await;
    let url = format!("{}/api/v1/query_range?{params}", promfront.url);
    let http = Http::new();
    for _ in 0..1000 {
        assert_eq!(http.get(&url).await.body, first.body);
    }
    let after = promfront.metrics().await;
    assert!((after.sum("promfront_range_queries_total", &["status=\"hit\""]) - 1000.0).abs() < 0.5);
    for name in
        ["promfront_cache_size_bytes", "promfront_downstream_requests_total", "promfront_cache_kept_extents_total"]
    {
        assert!((before.sum(name, &[]) - after.sum(name, &[])).abs() < 0.5, "{name} changed");
    }
}

/// The same pieces are the same answer: it is sent again as it was sent, until one of them is another.
#[tokio::test]
async fn the_same_pieces_are_sent_again() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let ask = async |start: i64, end: i64| {
        let params = range_params("node_cpu_seconds_total", &start.to_string(), &end.to_string(), "60");
        same(&prometheus, &promfront, &params).await;
        let metrics = promfront.metrics().await;
        (metrics.sum("promfront_cache_sent_again_total", &[]), metrics.sum("promfront_cache_sent_size_bytes", &[]))
    };
    let (from, to) = (DATA_START + 3600, DATA_START + 30 * 3600);
    ask(from, to).await;
    // What was kept is packed in a moment; from then on its pieces stay what they are.
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(from, to).await.0 < 1.0 {
        assert!(Instant::now() < deadline, "it is never sent again");
    }
    let (before, size) = ask(from, to).await;
    assert!(size > 100_000.0, "{size}");
    assert!((ask(from, to).await.0 - before - 1.0).abs() < 0.5, "the very same is");
    assert!((ask(from + 60, to).await.0 - before - 1.0).abs() < 0.5, "a part of it is another answer");
}

/// Windows that nobody asks for again neither take room nor drive out what is asked for again, and a large answer has its place
/// among many small ones.
#[tokio::test]
async fn what_is_asked_for_once_is_not_kept_as_it_was_sent() {
    const ROOM: f64 = 512.0 * 1024.0;
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::configured(&prometheus.url, "cache: {memory: {max_bytes: 4MiB}}\n");
    let sent = async || {
        let metrics = promfront.metrics().await;
        (metrics.sum("promfront_cache_sent_again_total", &[]), metrics.sum("promfront_cache_sent_size_bytes", &[]))
    };
    let ask = async |query: &str, start: i64, seconds: i64| {
        let params = range_params(query, &start.to_string(), &(start + seconds).to_string(), "60");
        same(&prometheus, &promfront, &params).await.body.len()
    };
    let (large, small, hour) = ("node_cpu_seconds_total", "sum(node_cpu_seconds_total)", 3600);
    let from = DATA_START + hour;
    // What came is packed in a moment, and is kept as it was sent from then on.
    for (query, hours) in [(large, 5), (small, 9)] {
        until(&format!("{query} is sent again"), async || {
            let before = sent().await.0;
            ask(query, from, hours * hour).await;
            sent().await.0 > before
        })
        .await;
    }
    for n in 1..=150 {
        for _ in 0..3 {
            ask(small, from + n * 60, 6 * hour).await;
        }
    }
    let (before, size) = sent().await;
    assert!(size > 0.8 * ROOM, "{size} bytes: the room is full of small ones");
    for _ in 0..3 {
        let length = ask(large, from, 4 * hour).await;
        assert!((100_000..400_000).contains(&length), "{length} bytes");
    }
    assert!((sent().await.0 - before - 1.0).abs() < 0.5, "asked for again it is kept, and the third time it is there");

    for n in 1..=20 {
        ask(large, from + n * 60, 4 * hour - n * 60).await;
    }
    let (before, size) = sent().await;
    assert!(size <= ROOM, "{size} bytes");
    ask(large, from, 4 * hour).await;
    assert!((sent().await.0 - before - 1.0).abs() < 0.5, "it has its place");
}

/// C42 to C46: native histograms are kept byte for byte, alone and mixed with floats, cut and merged.
#[tokio::test]
async fn native_histograms_survive_cut_and_merge() {
    let prometheus = Prometheus::empty().await;
    let promfront = Promfront::before(&prometheus.url);
    let (minute, now) = (60_000, now_ms() / 60_000 * 60_000);
    let start = now - 60 * 60 * minute;
    let histogram = |t: i64| (t, Sample::Histogram(((t - start) / minute).cast_unsigned() % 500 + 5));
    let times = || (start..now - 15 * minute).step_by(60_000);
    let only: Vec<_> = times().map(histogram).collect();
    // A series that changes its type in the middle of a day, is silent for a while, and comes back.
    let mixed: Vec<_> = times()
        .filter(|t| !(20 * 60..22 * 60).contains(&((t - start) / minute)))
        .map(|t| if (t - start) / minute % 700 < 350 { histogram(t) } else { (t, Sample::Float(2.5)) })
        .collect();
    write(
        &prometheus.url,
        &[
            Series::new("h", "only", only),
            Series::new("h", "mixed", mixed),
            Series::new("h", "floats", floats(start..now - 15 * minute, 60_000)),
        ],
    )
    .await;
    let windows = [
        (start + 7 * minute, now - 16 * minute),
        (start + 25 * 60 * minute, now - 20 * minute),
        (start, start + 30 * 60 * minute),
        (start + 7 * minute, now - 16 * minute),
    ];
    for query in [
        "h",
        "h{l=\"only\"}",
        "rate(h{l=\"only\"}[5m])",
        "sum(h{l=\"only\"})",
        "histogram_quantile(0.9, h)",
        "histogram_count(h)",
        "max_over_time(h[10m])",
    ] {
        for step in ["1m", "7m", "3h"] {
            for (from, until) in windows {
                same(&prometheus, &promfront, &params_ms(query, from, until, step)).await;
            }
        }
    }
    let answer = same(&prometheus, &promfront, &params_ms("h", start, now - 16 * minute, "1m")).await;
    let text = answer.text();
    assert!(
        text.contains("\"histograms\":[[") && text.contains("\"buckets\":[[") && text.contains("],\"histograms\""),
        "all three forms are there"
    );
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_range_queries_total", &["status=\"hit\""]) >= 20.0);
    assert!(metrics.sum("promfront_range_queries_total", &["phit"]) >= 10.0);
    assert!(metrics.sum("promfront_range_queries_total", &["bypass"]) < 0.5, "histograms are no foreign shape");
}

/// C90: a hundred identical requests at once, the first of which gives up.
#[tokio::test]
async fn identical_requests_in_flight_are_one_and_outlive_the_first() {
    let downstream = Scripted::gated(|_| Some(ok(EMPTY.as_bytes()))).await;
    let promfront = Promfront::before(&downstream.url);
    let url = format!("{}/api/v1/query_range?{}", promfront.url, range_params("up", "0", "600", "60"));
    let ask = |url: &str| {
        let url = url.to_owned();
        tokio::spawn(async move { Http::new().get(&url).await })
    };
    let first = ask(&url);
    downstream.until_asked(1).await;
    let others: Vec<_> = (0..99).map(|_| ask(&url)).collect();
    until("99 wait for the one", async || promfront.metrics().await.sum("promfront_coalesced_parts_total", &[]) > 98.5)
        .await;
    first.abort();
    downstream.open_gate();
    for other in others {
        let answer = other.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, EMPTY));
        assert!(answer.result().starts_with("status=coalesced; reason=in-flight"), "{}", answer.result());
    }
    assert_eq!(downstream.asked(), 1);
}

/// C90: a failure of the moment is the first one's; those that waited for it try once more, together.
#[tokio::test]
async fn those_who_waited_for_a_failure_try_once_more_together() {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    let downstream = Scripted::gated(move |_| {
        Some(match counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            // Once, and once more elsewhere, which is here.
            0 | 1 => support::scripted::with_head("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\n", b"oops"),
            _ => ok(EMPTY.as_bytes()),
        })
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let url = format!("{}/api/v1/query_range?{}", promfront.url, range_params("up", "0", "600", "60"));
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Http::new().get(&url).await })
        })
        .collect();
    let coalesced = async || promfront.metrics().await.sum("promfront_coalesced_parts_total", &[]);
    until("19 wait for the one", async || coalesced().await > 18.5).await;
    downstream.open_gate_for(2);
    // Of the nineteen that waited in vain, one asks and eighteen wait for it.
    until("18 more wait for the one", async || coalesced().await > 18.5 + 18.0).await;
    downstream.open_gate();
    let mut codes: Vec<u16> = Vec::new();
    for one in asked {
        codes.push(one.await.expect("no panic").status.as_u16());
    }
    codes.sort_unstable();
    assert_eq!((codes.iter().filter(|code| **code == 200).count(), codes.last()), (19, Some(&502)));
    assert_eq!(downstream.asked(), 3);
}

/// DR4: who leaves takes his work with him.
#[tokio::test]
async fn a_client_that_leaves_cancels_its_parts() {
    let downstream = Scripted::start(|_| None).await;
    let promfront = Promfront::before(&downstream.url);
    for path in ["query_range", "query", "label/job/values"] {
        let days = range_params("up", "0", "600000", "60");
        let url = format!("{}/api/v1/{path}?{days}", promfront.url);
        let asked = downstream.asked();
        let client = tokio::spawn(async move { Http::new().get(&url).await });
        downstream.until_asked(asked + if path == "query_range" { 7 } else { 1 }).await;
        client.abort();
        downstream.until_left().await;
    }
    until("nothing is in flight", async || {
        promfront.metrics().await.sum("promfront_downstream_requests_in_flight", &[]).abs() < 0.5
    })
    .await;
}

/// DR5: the client's `timeout` bounds all of it.
#[tokio::test]
async fn a_timeout_is_kept_and_said_in_prometheus_words() {
    let downstream = Scripted::start(|_| None).await;
    let promfront = Promfront::before(&downstream.url);
    let url = format!("{}/api/v1/query_range?{}&timeout=200ms", promfront.url, range_params("up", "0", "600", "60"));
    let answer = Http::new().get(&url).await;
    assert_eq!((answer.status.as_u16(), answer.json()["errorType"].as_str()), (503, Some("timeout")));
    downstream.until_left().await;
}

/// SIGTERM: no new connections, but what is in flight is answered; then exit 0.
#[tokio::test]
async fn sigterm_lets_requests_in_flight_finish() {
    let downstream = Scripted::gated(|_| Some(ok(EMPTY.as_bytes()))).await;
    let mut promfront = Promfront::before(&downstream.url);
    let url = format!("{}/api/v1/query_range?{}", promfront.url, range_params("up", "0", "600", "60"));
    let in_flight = tokio::spawn(async move { Http::new().get(&url).await });
    downstream.until_asked(1).await;
    let id = promfront.process().id();
    assert!(std::process::Command::new("kill").arg(id.to_string()).status().expect("kill is there").success());
    let address = promfront.url.trim_start_matches("http://").to_owned();
    until("the port is closed", async || tokio::net::TcpStream::connect(&address).await.is_err()).await;
    assert!(promfront.process().is_running(), "it waits for the request");
    downstream.open_gate();
    let answer = in_flight.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, EMPTY));
    let exit = tokio::task::spawn_blocking(move || promfront.process().terminate()).await.expect("no panic");
    assert_eq!(exit, Some(0));
}

/// What Grafana asks besides range queries, and the server's own pages.
#[tokio::test]
async fn everything_else_passes_through() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let http = Http::new();
    let time = format!("time={DATA_END}");
    let range = format!("start={DATA_START}&end={DATA_END}");
    for path in [
        format!("/api/v1/query?query=up&{time}"),
        format!("/api/v1/query?query=sort(temperature_celsius)&{time}"),
        "/api/v1/query?query=1%2B1&time=4".to_owned(),
        format!("/api/v1/labels?{range}"),
        format!("/api/v1/label/job/values?{range}"),
        format!("/api/v1/series?match[]=up&{range}"),
        "/api/v1/metadata".to_owned(),
        "/api/v1/rules".to_owned(),
        "/api/v1/status/buildinfo".to_owned(),
        "/api/v1/status/flags".to_owned(),
        format!("/api/v1/query_exemplars?query=test&{range}"),
        "/api/v1/nothing".to_owned(),
        "/graph".to_owned(),
        "/".to_owned(),
        "/favicon.ico".to_owned(),
        "/no/such/page".to_owned(),
        "/-/nothing".to_owned(),
    ] {
        let (want, got) =
            (http.get(&format!("{}{path}", prometheus.url)).await, http.get(&format!("{}{path}", promfront.url)).await);
        assert_eq!((got.status, &got.body), (want.status, &want.body), "{path}");
        for name in ["content-type", "location", "access-control-allow-origin"] {
            assert_eq!(got.header(name), want.header(name), "{name} of {path}");
        }
        assert_eq!(got.result().is_empty(), !path.contains("/api/v1/"), "{path}: {}", got.result());
        assert_eq!(got.header("server-timing").is_empty(), !path.contains("/api/v1/"), "{path}");
    }
    // Grafana's "Save & test" posts.
    let (want, got) = (
        http.post(&format!("{}/api/v1/query", prometheus.url), "query=1%2B1&time=4").await,
        http.post(&format!("{}/api/v1/query", promfront.url), "query=1%2B1&time=4").await,
    );
    assert_eq!((got.status, got.body), (want.status, want.body));
    for (method, path) in [
        ("OPTIONS", "/api/v1/query_range"),
        ("HEAD", "/api/v1/query_range"),
        ("PUT", "/api/v1/query_range"),
        ("OPTIONS", "/api/v1/labels"),
    ] {
        let ask = async |url: &str| {
            http.send(
                Request::builder()
                    .method(method)
                    .uri(format!("{url}{path}"))
                    .header("origin", "http://grafana")
                    .body(Body::empty())
                    .expect("sound"),
            )
            .await
        };
        let (want, got) = (ask(&prometheus.url).await, ask(&promfront.url).await);
        assert_eq!((got.status, &got.body), (want.status, &want.body), "{method} {path}");
        assert_eq!(got.header("allow"), want.header("allow"));
    }
    // A compressed answer stays as the server compressed it.
    let request = || {
        Request::get(format!("{}/api/v1/label/__name__/values?{range}", promfront.url))
            .header("accept-encoding", "gzip")
            .body(Body::empty())
            .expect("sound")
    };
    let compressed = http.send(request()).await;
    assert_eq!(compressed.header("content-encoding"), "gzip");
}

/// A server may close a kept connection just as it is used again; a read is then sent once more.
#[tokio::test]
async fn a_kept_connection_that_closed_is_no_error() {
    // It closes after each answer without saying so.
    let downstream = Scripted::start(|_| Some(ok(EMPTY.as_bytes()))).await;
    let promfront = Promfront::before(&downstream.url);
    let http = Http::new();
    for i in 0..100 {
        let range = format!("/api/v1/query_range?{}", range_params(&format!("up + {i}"), "0", "600", "60"));
        for path in [range.as_str(), "/api/v1/labels", "/graph"] {
            let answer = http.get(&format!("{}{path}", promfront.url)).await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, EMPTY), "{i}: {path}");
        }
    }
}

/// Servers evaluate one instant by other rules than a range: a part of one instant must be a range to them, and a client's
/// own instant must not.
#[tokio::test]
async fn one_instant_is_not_a_part_of_a_range() {
    let downstream = Scripted::start(|asked| {
        let kind = if asked.param("start")? == asked.param("end")? { "instant" } else { "range" };
        let points: Vec<String> = (0..=10)
            .map(|day| (day * 86_400).to_string())
            .filter(|day| {
                let bounds = [asked.param("start"), asked.param("end")].map(|t| t.and_then(|t| t.parse::<f64>().ok()));
                matches!((bounds, day.parse::<f64>()), ([Some(from), Some(until)], Ok(day)) if from <= day && day <= until)
            })
            .map(|day| format!(r#"[{day},"1"]"#))
            .collect();
        let series = format!(r#"{{"metric":{{"kind":"{kind}"}},"values":[{}]}}"#, points.join(","));
        Some(ok(format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#).as_bytes()))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    for (start, end, kind) in [("86400", "86400", "instant"), ("0", "345600", "range"), ("86400", "86400", "instant")] {
        let params = range_params("up", start, end, "86400");
        let answer = Http::new().get(&format!("{}/api/v1/query_range?{params}", promfront.url)).await.json();
        let result = answer["data"]["result"].as_array().expect("a matrix").clone();
        assert_eq!((result.len(), result[0]["metric"]["kind"].as_str()), (1, Some(kind)), "{start} to {end}: {answer}");
    }
    assert!((promfront.metrics().await.sum("promfront_range_queries_total", &["status=\"hit\""]) - 1.0).abs() < 0.5);
}

/// What one hop's `Connection` names reaches neither the server nor the key: nobody can answer in another's name.
#[tokio::test]
async fn a_header_that_is_not_sent_on_does_not_name_the_answer() {
    let downstream = Scripted::start(|asked| {
        let tenant = asked.head.lines().find_map(|line| line.strip_prefix("x-scope-orgid: ")).unwrap_or("nobody");
        let series = format!(r#"{{"metric":{{"tenant":"{tenant}"}},"values":[[0,"1"]]}}"#);
        Some(ok(format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#).as_bytes()))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let url = format!("{}/api/v1/query_range?{}", promfront.url, range_params("up", "0", "600", "60"));
    for (connection, tenant) in [("x-scope-orgid", "nobody"), ("keep-alive", "victim"), ("X-Scope-OrgID", "nobody")] {
        let request = Request::get(&url).header("x-scope-orgid", "victim").header("connection", connection);
        let answer = Http::new().send(request.body(Body::empty()).expect("sound")).await;
        assert_eq!(answer.json()["data"]["result"][0]["metric"]["tenant"], tenant, "{}", answer.result());
    }
}

/// A server behind that redirects is asked with the client's own times, so that whoever follows gets the whole.
#[tokio::test]
async fn a_redirect_is_that_of_the_whole() {
    let downstream = Scripted::start(|asked| {
        let target = asked.head.split(' ').nth(1)?.to_owned();
        let head = format!("HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1{target}\r\ncontent-length: 0\r\n\r\n");
        Some(head.into_bytes())
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let target = format!("/api/v1/query_range?{}", range_params("up", "0", "600000", "60"));
    let answer = Http::new().get(&format!("{}{target}", promfront.url)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (301, format!("http://127.0.0.1:1{target}").as_str())
    );
}

/// A browser on another origin gets Prometheus's own words from promfront itself: hits are hits for it too.
#[tokio::test]
async fn a_cross_origin_request_is_cut_and_kept_like_any_other() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let params = range_params("up", &DATA_START.to_string(), &DATA_END.to_string(), "600");
    let ask = async |url: &str| {
        let request = Request::get(format!("{url}/api/v1/query_range?{params}")).header("origin", "http://elsewhere");
        Http::new().send(request.body(Body::empty()).expect("sound")).await
    };
    let (want, _, got) = (ask(&prometheus.url).await, ask(&promfront.url).await, ask(&promfront.url).await);
    assert_eq!(got.body, want.body);
    for name in ["origin", "headers", "methods"].map(|what| format!("access-control-allow-{what}")) {
        assert!(!got.header(&name).is_empty() && got.header(&name) == want.header(&name), "{name}");
    }
    assert!(got.result().contains("status=hit"), "{}", got.result());
}

/// A datasource URL with a path, in front of a server with another.
#[tokio::test]
async fn path_prefixes_are_kept_on_both_sides() {
    let downstream = Scripted::start(|asked| {
        Some(ok(if asked.head.starts_with("GET /behind/team-a/api/v1/query_range?") {
            EMPTY.as_bytes()
        } else {
            b"another path"
        }))
    })
    .await;
    let promfront = Promfront::before(&format!("{}/behind/", downstream.url));
    let url = format!("{}/team-a/api/v1/query_range?{}", promfront.url, range_params("up", "0", "600", "60"));
    for status in ["miss", "hit"] {
        let answer = Http::new().get(&url).await;
        assert_eq!(answer.text(), EMPTY);
        assert!(answer.result().starts_with(&format!("status={status}")), "{}", answer.result());
    }
    let other = Http::new().get(&url.replace("team-a", "team-b")).await;
    assert_eq!(other.status, 502, "another path is another question");
}

/// C25, C68 to C72, C77: what can change an answer is part of the key, and travels.
#[tokio::test]
async fn parameters_and_callers_do_not_share_answers() {
    let downstream = Scripted::start(|asked| {
        let seen = [asked.param("dedup"), asked.param("x"), asked.param("limit"), asked.param("start")].map(Option::unwrap_or_default);
        let authorization = asked.head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
        Some(ok(format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"seen":"{} {authorization}"}},"values":[[{},"1"]]}}]}}}}"#, seen[..3].join(","), seen[3]).as_bytes()))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let base = format!("{}/api/v1/query_range?{}", promfront.url, range_params("up", "0", "600", "60"));
    let http = Http::new();
    for (parameters, authorization, seen) in [
        ("", "", ",, "),
        ("&dedup=false", "", "false,, "),
        ("&dedup=true", "", "true,, "),
        ("&x=1", "", ",1, "),
        ("", "Bearer a", ",, Bearer a"),
        ("", "Bearer b", ",, Bearer b"),
        ("&x=1", "Bearer b", ",1, Bearer b"),
    ] {
        for status in ["miss", "hit"] {
            let mut request = Request::get(format!("{base}{parameters}"));
            if !authorization.is_empty() {
                request = request.header("authorization", authorization);
            }
            let answer = http.send(request.body(Body::empty()).expect("sound")).await;
            assert_eq!(answer.json()["data"]["result"][0]["metric"]["seen"], seen, "{parameters}");
            assert!(
                answer.result().starts_with(&format!("status={status}")),
                "{parameters} {authorization}: {}",
                answer.result()
            );
        }
    }
}

/// C83: statistics are those of the whole answer.
#[tokio::test]
async fn statistics_are_merged() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    for query in
        ["rate(http_requests_total[5m])", "sum(up)", "max_over_time(temperature_celsius[1h:10m])", "up @ 1707004800"]
    {
        let params = format!(
            "{}&stats=all",
            range_params(query, &(DATA_START + 86_400).to_string(), &(DATA_START + 4 * 86_400).to_string(), "600")
        );
        let (want, got) = ask_both(&prometheus, &promfront, &params).await;
        let (want, got) = (want.json(), got.json());
        assert_eq!(got["data"]["result"], want["data"]["result"]);
        let total = |answer: &serde_json::Value| answer["data"]["stats"]["samples"]["totalQueryableSamples"].clone();
        assert_eq!(total(&got), total(&want), "{query}");
        assert!(got["data"]["stats"]["timings"]["evalTotalTime"].is_f64(), "{got}");
    }
}

/// `limit` is applied to the merged answer, as the server behind would, and no part is sent it (C72).
#[tokio::test]
async fn a_limit_is_applied_after_the_merge_as_the_server_would() {
    const VERSIONS: [(&str, usize, bool); 3] = [("3.2.0", 2, true), ("2.42.0", 3, false), ("0.41.0", 3, false)];
    for (version, series, is_truncated) in VERSIONS {
        let downstream = Scripted::start(move |asked| {
            if asked.head.starts_with("GET /api/v1/status/buildinfo") {
                return Some(ok(format!(r#"{{"status":"success","data":{{"version":"{version}"}}}}"#).as_bytes()));
            }
            let is_whole = asked.param("start")? == "0" && asked.param("end")? == "172800";
            assert!(is_whole || asked.param("limit").is_none(), "a part was sent the limit");
            let series: Vec<String> = ["a", "b", "c"]
                .iter()
                .map(|l| Some(format!(r#"{{"metric":{{"l":"{l}"}},"values":[[{},"1"]]}}"#, asked.param("start")?)))
                .collect::<Option<_>>()?;
            let result = series.join(",");
            Some(ok(
                format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#).as_bytes()
            ))
        })
        .await;
        let promfront = Promfront::before(&downstream.url);
        let url = format!("{}/api/v1/query_range?{}&limit=2", promfront.url, range_params("up", "0", "172800", "3600"));
        for _ in 0..2 {
            let answer = Http::new().get(&url).await.json();
            assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(series), "{version}");
            let warning = is_truncated.then_some("results truncated due to limit");
            assert_eq!(answer["warnings"][0].as_str(), warning, "{version}");
        }
    }
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    for limit in ["0", "1", "3", "1000", "-1", "x"] {
        let params = range_params("up", &DATA_START.to_string(), &DATA_END.to_string(), "3600");
        same(&prometheus, &promfront, &format!("{params}&limit={limit}")).await;
    }
}

/// A request that asks not to be served from what is kept, and does not disturb what is.
#[tokio::test]
async fn no_store_in_a_request_goes_past_the_cache() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let url = format!(
        "{}/api/v1/query_range?{}",
        promfront.url,
        range_params("up", &DATA_START.to_string(), &DATA_END.to_string(), "600")
    );
    let ask = async |control: &str| {
        Http::new().send(Request::get(&url).header("cache-control", control).body(Body::empty()).expect("sound")).await
    };
    for (control, result) in [
        ("no-store", "status=bypass; reason=no-store"),
        ("max-age=0", "status=miss"),
        ("no-cache", "status=hit"),
        ("No-Store, max-age=0", "status=bypass; reason=no-store"),
        ("", "status=hit"),
    ] {
        let answer = ask(control).await;
        assert!(answer.result().starts_with(result), "{control}: {}", answer.result());
    }
}

/// What gzip a client is sent decodes to the very bytes that it would have been sent without.
#[tokio::test]
async fn a_compressed_answer_is_the_same_answer() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let url = format!(
        "{}/api/v1/query_range?{}",
        promfront.url,
        range_params("temperature_celsius", &DATA_START.to_string(), &DATA_END.to_string(), "600")
    );
    let plain = Http::new().get(&url).await;
    let compressed = Http::new()
        .send(Request::get(&url).header("accept-encoding", "gzip").body(Body::empty()).expect("sound"))
        .await;
    assert_eq!(compressed.header("content-encoding"), "gzip");
    let mut decoded = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&compressed.body[..]), &mut decoded)
        .expect("sound gzip");
    assert_eq!(decoded, plain.body);
    assert!(compressed.header("vary").to_lowercase().contains("accept-encoding"));
}

/// The three facts that a probe or an operator wants.
#[tokio::test]
async fn own_pages() {
    let promfront = Promfront::before("http://127.0.0.1:9");
    let http = Http::new();
    for (path, text) in [("/-/healthy", "promfront is Healthy.\n"), ("/-/ready", "promfront is Ready.\n")] {
        let answer = http.get(&format!("{}{path}", promfront.url)).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, text));
    }
    let metrics = http.get(&format!("{}/metrics", promfront.url)).await.text();
    assert!(metrics.contains("promfront_build_info{version=") && metrics.ends_with("# EOF\n"), "{metrics}");
    let version =
        std::process::Command::new(env!("CARGO_BIN_EXE_promfront")).arg("--version").output().expect("it runs");
    assert!(
        String::from_utf8_lossy(&version.stdout)
            .starts_with(&format!("promfront, version {} (", env!("CARGO_PKG_VERSION")))
    );
    for (flag, wrong) in [
        ("--downstream.url=ftp://x", "http://"),
        ("--downstream.url=nonsense", "http://"),
        ("--config.file=/no/such/file", "can't read /no/such/file"),
        ("--no.such.flag", "--no.such.flag"),
    ] {
        let refused = std::process::Command::new(env!("CARGO_BIN_EXE_promfront"))
            .args([flag, "--web.listen-address=127.0.0.1:0"])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(wrong), "{flag}: {said}");
    }
}
