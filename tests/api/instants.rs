//! Instant queries: kept when the time is said and nothing that they read may still change; one flight for equals.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::recorded::{Recorded, VECTOR};
use crate::support::scripted::with_head;
use crate::support::{Answer, Http, Prometheus, Promfront, corpus, escaped, until};
use crate::{is_hit, request, send};

const AT: i64 = 1_707_350_400;

#[expect(clippy::disallowed_methods, reason = "what is young has to be asked for")]
fn now_s() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since_epoch.as_secs()).expect("before the year 292 billion")
}

fn url(promfront: &Promfront, params: &str) -> String {
    format!("{}/api/v1/query?{params}", promfront.url)
}

async fn twice(promfront: &Promfront, params: &str) -> [Answer; 2] {
    let url = url(promfront, params);
    [send("GET", &url, "", &[]).await, send("GET", &url, "", &[]).await]
}

/// A vector's series in an order of their own: Prometheus takes some out of a Go map, so their order is chance.
fn unordered(text: &str) -> String {
    let mut json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(series) = json.pointer_mut("/data/result").and_then(serde_json::Value::as_array_mut) {
        series.sort_by_key(ToString::to_string);
    }
    json.to_string()
}

/// A quarter of the corpus, at an instant, twice: what is kept is what the server said, to the last byte, and refusals are
/// its own.
#[tokio::test]
async fn every_kept_answer_is_that_of_the_server_itself() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let moods = corpus(include_str!("../differential/order_dependent.txt"));
    let queries = corpus(include_str!("../differential/queries.txt"));
    let (http, mut hits, mut wrong) = (Http::new(), 0, Vec::new());
    let asked: Vec<_> = queries.iter().filter(|query| !moods.contains(query)).step_by(4).collect();
    for query in &asked {
        let params = format!("query={}&time={AT}.5", escaped(query));
        let want = http.get(&format!("{}/api/v1/query?{params}", prometheus.url)).await;
        let [first, second] = twice(&promfront, &params).await;
        for got in [&first, &second] {
            let has_same_head = (want.status, want.header("content-type")) == (got.status, got.header("content-type"));
            let is_same = want.body == got.body || unordered(&want.text()) == unordered(&got.text());
            if !has_same_head || !is_same {
                wrong.push(format!("{query}: {:.200} instead of {:.200} ({})", got.text(), want.text(), got.result()));
            }
        }
        if is_hit(&second) {
            hits += 1;
            if second.body != first.body {
                wrong.push(format!("{query}: the hit is {:.200}, kept was {:.200}", second.text(), first.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(hits * 10 > asked.len() * 6, "{hits} hits in {} queries, of which a quarter are refused", asked.len());
}

#[tokio::test]
async fn vectors_matrices_scalars_and_strings_are_kept_as_they_are() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    for query in [
        "up",
        "up[10m]",
        "up offset 1d",
        "max_over_time(up[1h:5m])",
        "1 + 1",
        r#""a text""#,
        "time()",
        "vector(1)",
        "nothing",
        "absent(nothing)",
    ] {
        for time in [format!("{AT}"), format!("{AT}.25"), "2024-02-07T12:00:00.75Z".to_owned()] {
            let params = format!("query={}&time={time}", escaped(query));
            let want = send("GET", &format!("{}/api/v1/query?{params}", prometheus.url), "", &[]).await;
            let [first, second] = twice(&promfront, &params).await;
            assert_eq!((first.text(), second.text()), (want.text(), want.text()), "{query} at {time}");
            assert!(is_hit(&second), "{query} at {time}: {}", second.result());
        }
    }
}

#[tokio::test]
async fn what_may_still_change_is_asked_for_again() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    let now = now_s();
    let (young, nearly) = (now - 60, now - 540);
    let mut young_reads: Vec<String> = [
        "query=up".to_owned(),
        "query=up&time=".to_owned(),
        format!("query=up&time={now}"),
        format!("query=up&time={nearly}"),
        format!("query=up&time={}", now + 3600),
        format!("query=up&time={now}&time={AT}"),
    ]
    .into();
    for query in [
        format!("up @ {young}"),
        format!("up offset -{}s", young - AT),
        format!("sum_over_time(up[1h] @ {now})"),
        format!("max_over_time((up @ {nearly})[1h:5m])"),
        format!("up + on() group_left sum(up @ {young})"),
    ] {
        young_reads.push(format!("query={}&time={AT}", escaped(&query)));
    }
    // What a parser does not understand may read anything.
    young_reads.push(format!("query={}&time={AT}", escaped("up default 0")));
    for params in young_reads {
        let [first, second] = twice(&promfront, &params).await;
        assert!(!is_hit(&first) && !is_hit(&second), "{params}: {}", second.result());
        assert!(second.result().contains("reason="), "{params}: {}", second.result());
    }
    let old = format!("query={}&time={now}", escaped("up offset 1h"));
    let [_, second] = twice(&promfront, &old).await;
    assert_eq!(second.text(), VECTOR);
}

#[tokio::test]
async fn what_changes_the_answer_is_in_the_key() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::before(downstream.url());
    let base = format!("query=up&time={AT}");
    let [_, second] = twice(&promfront, &base).await;
    assert!(is_hit(&second), "{}", second.result());
    for more in [
        "&limit=1",
        "&limit=2",
        "&lookback_delta=1m",
        "&lookback_delta=2m",
        "&stats=all",
        "&stats=true",
        "&dedup=false",
        "&dedup=true",
        "&partial_response=false",
        "&max_source_resolution=5m",
        "&replicaLabels%5B%5D=a",
        "&replicaLabels%5B%5D=a&replicaLabels%5B%5D=b",
        "&storeMatch%5B%5D=%7Ba%3D%22b%22%7D",
        "&engine=thanos",
        "&analyze=true",
        "&extra_label=job%3Da",
        "&extra_filters%5B%5D=%7Ba%3D%22b%22%7D",
        "&nocache=1",
        "&round_digits=2",
        "&never_heard_of=1",
    ] {
        let before = downstream.asked_for("/query").len();
        let answer = send("GET", &url(&promfront, &format!("{base}{more}")), "", &[]).await;
        assert!(!is_hit(&answer) && downstream.asked_for("/query").len() == before + 1, "{more}: {}", answer.result());
        let asked = downstream.asked_for("/query").pop().expect("it arrived");
        assert_eq!(asked.query(), format!("{base}{more}"), "it travels as it is");
    }
    for time in ["1707350400.001", "1707350401", "1707350399.999"] {
        assert!(!is_hit(&send("GET", &url(&promfront, &format!("query=up&time={time}")), "", &[]).await), "{time}");
    }
    for query in ["up+", "Up", "up%7B%7D", "up+%23+a+comment"] {
        let answer = send("GET", &url(&promfront, &format!("query={query}&time={AT}")), "", &[]).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, VECTOR), "{query}");
    }
    for header in ["authorization", "x-scope-orgid", "thanos-tenant", "cookie"] {
        let answer = send("GET", &url(&promfront, &base), "", &[(header, "a")]).await;
        assert!(!is_hit(&answer), "{header}: {}", answer.result());
        let other = send("GET", &url(&promfront, &base), "", &[(header, "b")]).await;
        assert!(!is_hit(&other), "{header}: {}", other.result());
    }
}

/// A downstream whose answers must not be kept, whatever was asked.
#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    let head = |status: &str, more: &str, body: &str| {
        let length = body.len();
        with_head(
            &format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n"),
            body.as_bytes(),
        )
    };
    let warned = VECTOR.replace(r#""data""#, r#""warnings":["store 10.0.0.7 was not reached"],"data""#);
    let partial = VECTOR.replace(r#""data""#, r#""isPartial":true,"data""#);
    let error = r#"{"status":"error","errorType":"execution","error":"no"}"#;
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("no-store", head("200 OK", "cache-control: no-store\r\n", VECTOR)),
        ("no-store among others", head("200 OK", "Cache-Control: no-cache, No-Store\r\n", VECTOR)),
        ("warned and no-store", head("200 OK", "cache-control: no-store\r\n", &warned)),
        ("warned", head("200 OK", "", &warned)),
        ("partial", head("200 OK", "", &partial)),
        ("partial, with blanks", head("200 OK", "", &partial.replace("isPartial\":true", "isPartial\" : true "))),
        ("bad data", head("400 Bad Request", "", error)),
        ("execution", head("422 Unprocessable Entity", "", error)),
        ("timeout", head("503 Service Unavailable", "", &error.replace("execution", "timeout"))),
        ("an error of 200", head("200 OK", "", error)),
        ("not JSON", head("200 OK", "", "<html>sign in</html>")),
        ("cut short", head("200 OK", "", &VECTOR[..VECTOR.len() - 9])),
        ("nothing", head("200 OK", "", "")),
        (
            "another type",
            with_head("HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 2\r\n\r\n", b"ab"),
        ),
    ];
    for (what, bytes) in answers {
        let body_at = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let (body, status) = (bytes[body_at..].to_vec(), String::from_utf8_lossy(&bytes[9..12]).into_owned());
        let downstream = Recorded::start(move |_| Some(bytes.clone())).await;
        let promfront = Promfront::before(downstream.url());
        for params in [format!("query=up&time={AT}"), format!("query=up&time={AT}&stats=all")] {
            for answer in twice(&promfront, &params).await {
                assert!(!is_hit(&answer), "{what}: {}", answer.result());
                assert_eq!((answer.status.as_str(), &answer.body[..]), (status.as_str(), &body[..]), "{what} passes");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_no_answer() {
    let downstream = Recorded::start(|_| {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", VECTOR.len());
        Some(with_head(&head, &VECTOR.as_bytes()[..50]))
    })
    .await;
    let promfront = Promfront::before(downstream.url());
    for _ in 0..2 {
        let asked = request("GET", &url(&promfront, &format!("query=up&time={AT}")), "", &[]);
        let answer = Http::new().try_send(asked).await;
        assert!(answer.is_none_or(|answer| !answer.status.is_success()), "half a body is not a whole one");
    }
}

#[tokio::test]
async fn identical_requests_in_flight_are_one() {
    let downstream = Recorded::usual_gated().await;
    let promfront = Promfront::before(downstream.url());
    let asking = |params: String| {
        let url = url(&promfront, &params);
        tokio::spawn(async move { Http::new().get(&url).await })
    };
    let same = format!("query=up&time={AT}");
    let first = asking(same.clone());
    downstream.server.until_asked(1).await;
    let others: Vec<_> = (0..30).map(|_| asking(same.clone())).collect();
    // Without a time each asks for a moment of its own.
    let unsaid: Vec<_> = (0..5).map(|_| asking("query=up".to_owned())).collect();
    downstream.server.until_asked(6).await;
    until("30 wait", async || {
        promfront.metrics().await.all("promfront_coalesced").iter().map(|(_, count)| count).sum::<f64>() > 29.5
    })
    .await;
    // Who came first may leave: the others have not asked in vain.
    first.abort();
    downstream.server.open_gate();
    for other in others {
        let answer = other.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, VECTOR));
        assert!(answer.result().starts_with("status=coalesced; reason="), "{}", answer.result());
    }
    for one in unsaid {
        let answer = one.await.expect("no panic");
        assert!(!answer.result().starts_with("status=coalesced"), "{}", answer.result());
    }
    assert_eq!(downstream.asked_for("/query").len(), 6);
}

#[tokio::test]
async fn callers_do_not_share_a_flight() {
    let downstream = Recorded::usual_gated().await;
    let promfront = Promfront::before(downstream.url());
    let asked: Vec<_> = ["a", "b", "c"]
        .map(|tenant| {
            let asked =
                request("GET", &url(&promfront, &format!("query=up&time={AT}")), "", &[("x-scope-orgid", tenant)]);
            tokio::spawn(async move { Http::new().send(asked).await })
        })
        .into();
    downstream.server.until_asked(3).await;
    downstream.server.open_gate();
    for one in asked {
        assert_eq!(one.await.expect("no panic").status, 200);
    }
}

#[tokio::test]
async fn a_flight_that_everybody_left_is_cancelled() {
    let downstream = Recorded::usual_gated().await;
    let promfront = Promfront::before(downstream.url());
    let url = url(&promfront, &format!("query=up&time={AT}"));
    let asking = tokio::spawn(async move { Http::new().get(&url).await });
    downstream.server.until_asked(1).await;
    asking.abort();
    downstream.server.until_left().await;
}

#[tokio::test]
async fn what_is_kept_ends_with_its_time() {
    let downstream = Recorded::usual().await;
    let promfront = Promfront::configured(downstream.url(), "cache: {whole: {instant_ttl: 5s}}\n");
    let params = format!("query=up&time={AT}");
    let [_, second] = twice(&promfront, &params).await;
    assert!(is_hit(&second), "{}", second.result());
    until("it is asked for again", async || {
        send("GET", &url(&promfront, &params), "", &[]).await;
        downstream.asked_for("/query").len() > 1
    })
    .await;
    let again = send("GET", &url(&promfront, &params), "", &[]).await;
    assert_eq!(again.text(), VECTOR);
}
