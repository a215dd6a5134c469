//! What a downstream, or a client, may do that no decent one would: never a crash, never a wrong 200, never kept.

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use support::scripted::{Scripted, ok, with_head};
use support::{Answer, Http, Promfront, escaped, range_params};

/// An answer of about `length` bytes to 0..=600 by 60.
fn sound_body(length: usize) -> String {
    let mut body = r#"{"status":"success","data":{"resultType":"matrix","result":["#.to_owned();
    let mut series = 0;
    while body.len() < length {
        let comma = if series == 0 { "" } else { "," };
        write!(body, r#"{comma}{{"metric":{{"__name__":"up","i":"{series:05}","text":"a\"b,é]}}"}},"values":["#)
            .expect("written");
        let points: Vec<String> = (0..=10).map(|i| format!(r#"[{},"{}"]"#, i * 60, i * series)).collect();
        write!(body, "{}]}}", points.join(",")).expect("written");
        series += 1;
    }
    body + "]}}"
}

fn ask(promfront: &Promfront, query: &str) -> String {
    format!("{}/api/v1/query_range?{}", promfront.url, range_params(query, "0", "600", "60"))
}

async fn nothing_was_kept(promfront: &Promfront) {
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_cache_kept_extents_total", &[]) < 0.5, "something was kept");
    assert!(metrics.sum("promfront_range_queries_total", &["status=\"hit\""]) < 0.5, "something came out of the cache");
}

/// Serves a sound answer cut at the byte that the query names, as `head` makes of it.
async fn cut_at_every_byte(head: fn(usize, usize) -> String, terminator: &'static [u8]) {
    let body = Arc::new(sound_body(20_000));
    let (whole, scripted) = (body.len(), Arc::clone(&body));
    let downstream = Scripted::start(move |asked| {
        let cut: usize = asked.param("query")?.strip_prefix("up + ")?.parse().ok()?;
        Some([head(cut, scripted.len()).as_bytes(), &scripted.as_bytes()[..cut], terminator].concat())
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let http = Http::new();
    let outcomes: Vec<(usize, Answer)> = futures::stream::iter(0..whole)
        .map(|cut| {
            let (http, url) = (http.clone(), ask(&promfront, &format!("up + {cut}")));
            async move { (cut, http.get(&url).await) }
        })
        .buffer_unordered(16)
        .collect()
        .await;
    for (cut, answer) in outcomes {
        assert_eq!(answer.status, 502, "cut at {cut}: {}", answer.text());
        assert_eq!(answer.json()["status"], "error", "cut at {cut}");
    }
    nothing_was_kept(&promfront).await;
    let answer = http.get(&ask(&promfront, &format!("up + {whole}"))).await;
    if terminator.is_empty() {
        assert_eq!((answer.status.as_u16(), answer.text()), (200, body.to_string()), "whole, it is an answer");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_ends_at_any_byte_is_no_answer() {
    cut_at_every_byte(|cut, _| format!("HTTP/1.1 200 OK\r\ncontent-length: {cut}\r\n\r\n"), b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_at_any_byte_gives_no_answer() {
    cut_at_every_byte(|_, whole| format!("HTTP/1.1 200 OK\r\ncontent-length: {whole}\r\n\r\n"), b"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_without_the_last_one_are_no_answer() {
    cut_at_every_byte(
        |cut, _| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", cut.max(1)),
        b"\r\n",
    )
    .await;
}

#[tokio::test]
async fn lengths_that_lie_and_bodies_that_never_end_cost_no_memory() {
    let zeros = vec![b' '; 64 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&zeros).expect("in memory");
    let bomb = encoder.finish().expect("in memory");
    let cut_gzip = bomb[..bomb.len() / 2].to_vec();
    let downstream = Scripted::start(move |asked| {
        let gzip = |body: &[u8]| {
            with_head(
                &format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len()),
                body,
            )
        };
        Some(match asked.param("query")?.as_str() {
            "huge_length" => with_head("HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n", b"{"),
            "short_length" => with_head("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", sound_body(500).as_bytes()),
            "endless" => with_head("HTTP/1.1 200 OK\r\n\r\n", &zeros),
            "bomb" => gzip(&bomb),
            "cut_gzip" => gzip(&cut_gzip),
            "not_gzip" => gzip(b"{\"status\":\"success\"}"),
            "zstd" => {
                with_head("HTTP/1.1 200 OK\r\ncontent-encoding: zstd\r\ncontent-length: 4\r\n\r\n", b"\x28\xb5\x2f\xfd")
            }
            _ => b"nonsense\r\n\r\n".to_vec(),
        })
    })
    .await;
    let mut promfront = Promfront::configured(&downstream.url, "limits: {max_response_bytes: 4MiB}\n");
    let http = Http::new();
    let before = resident_bytes(promfront.process().id());
    for (query, status, text) in [
        ("huge_length", 502, "ended early"),
        ("short_length", 502, "not complete JSON"),
        ("endless", 422, "limits.max_response_bytes"),
        ("bomb", 502, "gzip"),
        ("cut_gzip", 502, "gzip"),
        ("not_gzip", 502, "gzip"),
        ("zstd", 502, "encoding"),
        ("nonsense", 503, "closed the connection"),
    ] {
        let answer = http.get(&ask(&promfront, query)).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(text), "{query}: {error}");
    }
    let grown = resident_bytes(promfront.process().id()).saturating_sub(before);
    assert!(grown < 32 << 20, "resident memory grew by {grown} bytes");
    nothing_was_kept(&promfront).await;
}

fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Sound JSON that is not what was asked for: nothing is made of it, the query passes whole, and the client gets what the
/// server says to that.
#[tokio::test]
async fn answers_of_another_shape_are_handed_on_and_not_kept() {
    let series = |points: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"a":"b"}},"values":[{points}]}}]}}}}"#
        )
    };
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{a},"values":[[0,"1"]]}},{{"metric":{b},"values":[[0,"1"]]}}]}}}}"#
        )
    };
    let cases = [
        ("foreign-grid", series(r#"[1,"1"]"#)),
        ("foreign-grid", series(r#"[0,"1"],[61,"1"]"#)),
        ("foreign-grid", series(r#"[0,"1"],[660,"1"]"#)),
        ("foreign-grid", series(r#"[-60,"1"],[0,"1"]"#)),
        ("foreign-time-order", series(r#"[60,"1"],[0,"1"]"#)),
        ("foreign-time-order", series(r#"[60,"1"],[60,"1"]"#)),
        ("foreign-shape", series("[60,1]")),
        ("foreign-shape", series(r#"[60, "1"]"#)),
        ("foreign-shape", series(r#"[6e1,"1"]"#)),
        ("foreign-shape", series(r#"[60,"one"]"#)),
        ("foreign-shape", series("")),
        ("foreign-duplicate", two(r#"{"a":"b"}"#, r#"{"a":"b"}"#)),
        ("foreign-series-order", two(r#"{"a":"c"}"#, r#"{"a":"b"}"#)),
        ("foreign-label-order", two(r#"{"b":"c","a":"b"}"#, r#"{"c":"b"}"#)),
        ("foreign-type", r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned()),
        ("foreign-type", r#"{"status":"error","errorType":"execution","error":"no"}"#.to_owned()),
        ("foreign-shape", r#"{"status":"success","data":{"resultType":"matrix","result":null}}"#.to_owned()),
        ("foreign-shape", r#"{"status":"success","data":{"resultType":"matrix","result":[]},"extra":1}"#.to_owned()),
        ("foreign-shape", "[]".to_owned()),
        (
            "partial-response",
            r#"{"status":"success","isPartial":true,"data":{"resultType":"matrix","result":[]}}"#.to_owned(),
        ),
    ];
    let bodies: Vec<String> = cases.iter().map(|(_, body)| body.clone()).collect();
    let downstream = Scripted::start(move |asked| {
        Some(ok(bodies[asked.param("query")?.strip_prefix("up + ")?.parse::<usize>().ok()?].as_bytes()))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    for (i, (reason, body)) in cases.iter().enumerate() {
        let answer = Http::new().get(&ask(&promfront, &format!("up + {i}"))).await;
        assert_eq!((answer.status.as_u16(), &answer.text()), (200, body), "case {i}");
        assert!(
            answer.result().starts_with(&format!("status=bypass; reason={reason}")),
            "case {i}, {body}: {}",
            answer.result()
        );
    }
    nothing_was_kept(&promfront).await;
}

/// A refusal with a given code, and headers that tempt.
fn with_code(code: &str) -> Vec<u8> {
    let body = format!(r#"{{"status":"error","errorType":"execution","error":"as {code} says: \"no\""}}"#);
    let tempting = "retry-after: 7\r\nlocation: http://127.0.0.1:1/elsewhere";
    let length = body.len();
    with_head(
        &format!(
            "HTTP/1.1 {code} Reason\r\ncontent-type: application/json\r\n{tempting}\r\ncontent-length: {length}\r\n\r\n"
        ),
        body.as_bytes(),
    )
}

/// An empty answer with a `Cache-Control`, or with a warning, as the query says.
fn with_control(query: &str) -> Vec<u8> {
    let warnings = if query == "warned" { r#","warnings":["a store did not answer"]"# } else { "" };
    let body = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[]}}{warnings}}}"#);
    let control = match query {
        "no_store" => "no-store",
        "no_store_too" => "max-age=0, No-Store",
        _ => "max-age=60",
    };
    let head = format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\ncontent-length: {}\r\n\r\n", body.len());
    with_head(&head, body.as_bytes())
}

/// C47, C48, C56: what is no success is handed on as it is, and what must not be stored is not.
#[tokio::test]
async fn refusals_and_no_store_pass_and_are_not_kept() {
    let downstream = Scripted::start(|asked| {
        let query = asked.param("query")?;
        Some(query.strip_prefix("code_").map_or_else(|| with_control(&query), with_code))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let http = Http::new();
    for code in [
        300, 301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 414, 418, 422, 425, 429, 431,
        451, 499, 500, 501, 502, 503, 504, 507, 511, 599,
    ] {
        let answer = http.get(&ask(&promfront, &format!("code_{code}"))).await;
        assert_eq!(answer.status.as_u16(), code);
        assert_eq!(
            answer.text(),
            format!(r#"{{"status":"error","errorType":"execution","error":"as {code} says: \"no\""}}"#)
        );
        assert_eq!(answer.header("retry-after"), "7");
    }
    for query in ["no_store", "no_store_too"] {
        let answer = http.get(&ask(&promfront, query)).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"), "{query}");
    }
    let warned = http.get(&ask(&promfront, "warned")).await;
    assert_eq!(warned.json()["warnings"][0], "a store did not answer");
    nothing_was_kept(&promfront).await;
    let first = http.get(&ask(&promfront, "kept")).await;
    let second = http.get(&ask(&promfront, "kept")).await;
    assert_eq!(first.body, second.body);
    assert_eq!(second.result(), "status=hit; parts=1; hit=1", "an empty answer about the past is kept");
}

#[tokio::test]
async fn an_answer_in_another_codec_passes_whole() {
    let downstream = Scripted::start(|asked| {
        let is_asked_for = asked.head.to_lowercase().contains("accept: application/x-protobuf");
        Some(if is_asked_for {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 4\r\n\r\n";
            with_head(head, b"\x0a\xff\x00\x01")
        } else {
            ok(br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#)
        })
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    for (accept, length) in [("*/*", 63), ("application/x-protobuf", 4), ("*/*", 63), ("application/x-protobuf", 4)] {
        let request = http::Request::get(ask(&promfront, "up")).header("accept", accept);
        let answer = Http::new().send(request.body(axum::body::Body::empty()).expect("sound")).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, length), "{accept}: {}", answer.result());
    }
}

/// Prometheus 3 writes label bytes that are no UTF-8 as they are.
#[tokio::test]
async fn labels_that_are_no_utf8_pass_whole() {
    const BODY: &[u8] = b"{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"x\":\"\xff\xfe\"},\"values\":[[0,\"1\"]]}]}}";
    let downstream = Scripted::start(|asked| {
        let length = asked.param("query")?.strip_prefix("up + ")?.parse::<usize>().ok()?;
        Some(ok(&BODY[..length]))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    for length in 0..=BODY.len() {
        let answer = Http::new().get(&ask(&promfront, &format!("up + {length}"))).await;
        let is_whole = length == BODY.len();
        assert_eq!(answer.status, if is_whole { 200 } else { 502 }, "{length}");
        assert!(!is_whole || answer.body == BODY);
    }
    nothing_was_kept(&promfront).await;
}

#[tokio::test]
async fn an_unreachable_downstream_is_said_so() {
    let promfront = Promfront::before(&format!("http://127.0.0.1:{}", support::free_port()));
    let answer = Http::new().get(&ask(&promfront, "up")).await;
    assert_eq!((answer.status.as_u16(), answer.json()["errorType"].as_str()), (503, Some("unavailable")));
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains("can't be reached") && error.to_lowercase().contains("refused"), "{error}");
    assert_eq!(Http::new().get(&format!("{}/-/ready", promfront.url)).await.status, 200, "readiness is about us");
}

/// Texts that no parser should be given: each is passed on untouched, at once, or refused with the limit that it breaks.
#[tokio::test]
async fn texts_made_to_hurt_a_parser_pass_whole() {
    let downstream = Scripted::start(|asked| {
        let query = asked.param("query")?;
        let body = format!(r#"{{"status":"error","errorType":"bad_data","error":"{} bytes"}}"#, query.len());
        Some(with_head(&format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n", body.len()), body.as_bytes()))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    let http = Http::new();
    let url = format!("{}/api/v1/query_range", promfront.url);
    let bombs = [
        "(".repeat(20_000),
        "(".repeat(7_265) + &")".repeat(7_265),
        "sum(".repeat(20_000),
        "-".repeat(60_000) + "1",
        "up".to_owned() + &" or up".repeat(9_000),
        "1".to_owned() + &" ^ 1".repeat(15_000),
        format!("up{{{}}}", vec![r#"a=~"\\pL{50}""#; 1_000].join(",")),
        format!("up{{a=~\"{}\"}}", "(".repeat(60_000)),
        format!("up[{}", "[".repeat(60_000)),
        "\"".repeat(60_001),
        "up offset Inf".to_owned(),
        "up[9.5e20]".to_owned(),
        "up @ 1e400".to_owned(),
        "\u{0}\u{7f}é🦀".to_owned(),
        "#".repeat(900_000),
        "up ".repeat(300_000),
    ];
    for bomb in &bombs {
        let began = Instant::now();
        let answer = http.post(&url, &format!("start=0&end=600&step=60&query={}", escaped(bomb))).await;
        let start: String = bomb.chars().take(20).collect();
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].as_str()),
            (400, Some(format!("{} bytes", bomb.len()).as_str())),
            "{start}"
        );
        assert!(answer.result().starts_with("status="), "{start}");
        println!("{start}: {:?}, {}", began.elapsed(), answer.result());
    }
    let asked = downstream.asked();
    let ten_megabytes = format!("start=0&end=600&step=60&query={}", "x".repeat(9 << 20));
    let answer = http.post(&url, &ten_megabytes).await;
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    assert!(
        error.contains("limits.max_query_bytes") && error.contains("1048576") && error.contains("9437184"),
        "{error}"
    );
    let too_large = http.post(&url, &format!("query={}", "x".repeat(11 << 20))).await;
    assert_eq!((too_large.status.as_u16(), too_large.json()["errorType"].as_str()), (400, Some("bad_data")));
    assert_eq!(downstream.asked(), asked, "neither went downstream");
}
