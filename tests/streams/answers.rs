//! A range answer that is not cut, to a client that takes it plain: it goes on while it comes, and its end is told once it was read.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use promfront::model::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Held, PATIENCE, open, read};
use crate::support::scripted::{Scripted, ok};
use crate::support::{Http, Promfront, until};

const STEP: i64 = 60;
const START: i64 = 1_700_000_000;
const POINTS: i64 = 100;
const JSON: &str = "application/json";
const HEAD: &str = r#"{"status":"success","data":{"resultType":"matrix","result":["#;
const TAIL: &str = "]}}";

fn question() -> String {
    format!("/api/v1/query_range?query=up&start={START}&end={}&step={STEP}", START + STEP * (POINTS - 1))
}

/// One series, of somewhat more than two kilobytes.
fn series(number: usize) -> String {
    let points: Vec<String> = (0..POINTS)
        .map(|i| format!("[{},\"{}\"]", Timestamp::from_ms((START + STEP * i) * 1000), i * (i + 7)))
        .collect();
    format!(r#"{{"metric":{{"instance":"{number:06}"}},"values":[{}]}}"#, points.join(","))
}

fn listed(numbers: std::ops::Range<usize>) -> String {
    numbers.map(series).collect::<Vec<_>>().join(",")
}

/// The beginning of an answer of as many series, and the rest of it. What has come of a series without its end is no whole one.
fn halves(first: usize, all: usize) -> (String, String) {
    let (begin, end) = (format!("{HEAD}{},", listed(0..first)), format!("{}{TAIL}", listed(first..all)));
    let (cut, rest) = end.split_at(700);
    (begin + cut, rest.to_owned())
}

/// All that is left, or how far it came before it broke off.
async fn rest(body: &mut Incoming) -> Result<String, usize> {
    let mut read = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, body.frame()).await.expect("it ends") {
            None => return Ok(String::from_utf8(read).expect("text")),
            Some(Ok(frame)) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return Err(read.len()),
        }
    }
}

async fn was_hit(promfront: &Promfront) -> bool {
    promfront.metrics().await.sum("promfront_range_queries_total", &["status=\"hit\""]) > 0.5
}

#[tokio::test]
async fn an_answer_goes_on_while_it_comes_and_is_kept() {
    let (first, last) = halves(60, 70);
    let downstream = Held::start(JSON, &first, &last).await;
    let promfront = Promfront::before(&downstream.url);
    let answer = open(&promfront, "GET", &question(), &[]).await;
    assert!(answer.headers()["x-promfront-result"].to_str().expect("text").starts_with("status=miss"));
    let mut body = answer.into_body();
    assert_eq!(read(&mut body, first.len()).await, first);
    assert_eq!(downstream.open(), 1, "the rest is still held");
    downstream.let_go();
    assert_eq!(rest(&mut body).await.as_ref(), Ok(&last));
    // Who has seen its end finds it kept: nobody is asked.
    let again = Http::new().get(&format!("{}{}", promfront.url, question())).await;
    assert_eq!((again.text(), was_hit(&promfront).await), (first + &last, true));
    assert_eq!(downstream.asked(), 1);
}

/// Prometheus's own order of what nobody cuts is not judged: what is no answer to be kept is the answer all the same.
#[tokio::test]
async fn what_cannot_be_cut_goes_on_too_and_is_asked_for_once() {
    let first = format!("{HEAD}{},", listed(100..160));
    let last = format!("{}{TAIL}", listed(0..10));
    let downstream = Held::start(JSON, &first, &last).await;
    downstream.let_go();
    let promfront = Promfront::before(&downstream.url);
    let mut body = open(&promfront, "GET", &question(), &[]).await.into_body();
    assert_eq!(rest(&mut body).await, Ok(first + &last));
    assert_eq!(downstream.asked(), 1);
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_downstream_refused_total", &["reason=\"foreign-series-order\""]) > 0.5);
    assert!(metrics.sum("promfront_cache_entries", &[]) < 0.5);
}

/// Whatever goes wrong after the beginning, the client does not take it for the whole, and nothing is kept.
#[tokio::test]
async fn what_breaks_off_does_not_end() {
    let (first, last) = halves(60, 70);
    for (what, last) in [("a lost connection", None), ("an end that is none", Some(&last[..last.len() - 1]))] {
        let downstream = Held::start(JSON, &first, last.unwrap_or_default()).await;
        let promfront = Promfront::before(&downstream.url);
        let mut body = open(&promfront, "GET", &question(), &[]).await.into_body();
        assert_eq!(read(&mut body, first.len()).await, first, "{what}");
        match last {
            Some(_) => downstream.let_go(),
            None => downstream.break_off(),
        }
        let read = rest(&mut body).await.map(|whole| whole.len()).expect_err("it does not end");
        assert!(read <= last.map_or(0, str::len), "{what}: {read} bytes");
        let told = || promfront.log().iter().any(|line| line.contains("broke off while it was handed on"));
        until("it is told in the log", async || told()).await;
        let metrics = promfront.metrics().await;
        assert!(metrics.sum("promfront_cache_entries", &[]) < 0.5, "{what}");
        assert!(metrics.sum("promfront_downstream_broken_off_total", &[]) > 0.5, "{what}");
    }
}

#[tokio::test]
async fn who_leaves_an_answer_is_noticed_downstream() {
    let (first, last) = halves(60, 70);
    let downstream = Held::start(JSON, &first, &last).await;
    let promfront = Promfront::before(&downstream.url);
    let mut body = open(&promfront, "GET", &question(), &[]).await.into_body();
    read(&mut body, first.len()).await;
    assert_eq!(downstream.open(), 1);
    drop(body);
    until("the downstream is left", async || downstream.open() == 0).await;
}

/// Who asks the same meanwhile waits for the same flight, and keeps it when the first one leaves.
#[tokio::test]
async fn who_joins_gets_all_of_it_although_the_first_one_leaves() {
    let (first, last) = halves(60, 70);
    let downstream = Held::start(JSON, &first, &last).await;
    let promfront = Promfront::before(&downstream.url);
    let mut body = open(&promfront, "GET", &question(), &[]).await.into_body();
    read(&mut body, first.len()).await;
    let url = format!("{}{}", promfront.url, question());
    let joined = tokio::spawn(async move { Http::new().get(&url).await });
    until("it joins", async || promfront.metrics().await.sum("promfront_coalesced_parts_total", &[]) > 0.5).await;
    drop(body);
    downstream.let_go();
    assert_eq!(joined.await.expect("no panic").text(), first + &last);
    assert_eq!(downstream.asked(), 1);
}

/// A client that takes nothing while it comes gets what it did not take at the end.
#[tokio::test]
async fn a_client_that_falls_behind_gets_the_rest_at_the_end() {
    let (first, last) = halves(60, 20_000);
    let downstream = Held::start(JSON, &first, &last).await;
    let promfront = Promfront::before(&downstream.url);
    let mut body = open(&promfront, "GET", &question(), &[]).await.into_body();
    downstream.let_go();
    // All has come and is kept before anything is taken but what lies in the buffers of the connection.
    until("it is kept", async || promfront.metrics().await.sum("promfront_cache_entries", &[]) > 0.5).await;
    let whole = rest(&mut body).await.expect("it does not break off");
    assert!(whole == first + &last, "{} bytes of {}", whole.len(), last.len());
}

/// What is short, and what may become too large, is judged before it goes on; who takes it packed gets it packed, and who shares
/// nothing with others gets it when all of it is there.
#[tokio::test]
async fn what_has_to_be_judged_first_does_not_go_on_while_it_comes() {
    let (short, long) = (halves(10, 20), halves(60, 70));
    let small_limit = "limits: {max_response_bytes: 63MiB}\n";
    for (what, (first, last), yaml, header) in [
        ("short", &short, "", ("accept-encoding", "identity")),
        ("bounded", &long, small_limit, ("accept-encoding", "identity")),
        ("packed", &long, "", ("accept-encoding", "gzip")),
        ("alone", &long, "", ("cache-control", "no-store")),
    ] {
        let downstream = Held::start(JSON, first, last).await;
        downstream.break_off(); // after the beginning
        let promfront = Promfront::configured(&downstream.url, yaml);
        let answer = open(&promfront, "GET", &question(), &[header]).await;
        assert_eq!(answer.status(), 502, "{what}: it is told in words");
    }
}

/// To HTTP/1.0 the end of the connection is the end of the body: what breaks off would look whole.
#[tokio::test]
async fn nothing_goes_on_to_a_client_that_could_not_tell_that_it_broke_off() {
    let (first, last) = halves(60, 70);
    let downstream = Held::start(JSON, &first, &last).await;
    downstream.break_off();
    let promfront = Promfront::before(&downstream.url);
    let address = promfront.url.strip_prefix("http://").expect("a URL");
    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.write_all(format!("GET {} HTTP/1.0\r\n\r\n", question()).as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.0 502 "), "{}", &answer[..answer.len().min(200)]);
}

/// A server that moves times may answer another question than the client's where the end lies beside the grid: only what is the client's own
/// request goes on.
#[tokio::test]
async fn an_end_beside_the_grid_is_another_question() {
    let last = START + STEP * (POINTS - 1);
    let unsorted = |first: usize| format!("{HEAD}{},{}{TAIL}", listed(first..first + 60), listed(0..1));
    let (to_the_part, to_the_client) = (unsorted(100), unsorted(200));
    let (part, own) = (to_the_part.clone(), to_the_client.clone());
    let downstream = Scripted::start(move |asked| {
        let is_own = asked.param("end")? == format!("{}", last + 7);
        Some(ok(if is_own { own.as_bytes() } else { part.as_bytes() }))
    })
    .await;
    let promfront = Promfront::before(&downstream.url);
    for (end, want) in [(last + 7, &to_the_client), (last, &to_the_part)] {
        let path = format!("/api/v1/query_range?query=up&start={START}&end={end}&step={STEP}");
        let answer = Http::new().get(&format!("{}{path}", promfront.url)).await;
        assert!(answer.text() == *want, "the answer to {end}");
    }
}

/// More than a tenant may have is broken off where it is known too late.
#[tokio::test]
async fn what_is_too_large_breaks_off() {
    let (first, last) = halves(60, 40_000);
    let downstream = Held::start(JSON, &first, &last).await;
    downstream.let_go();
    let promfront = Promfront::configured(&downstream.url, "limits: {max_response_bytes: 64MiB}\n");
    let mut body = open(&promfront, "GET", &question(), &[]).await.into_body();
    let read = rest(&mut body).await.map(|whole| whole.len()).expect_err("it breaks off");
    assert!(read <= 64 << 20, "{read} bytes");
    until("the log tells the option", async || {
        promfront.log().iter().any(|line| line.contains("broke off") && line.contains("limits.max_response_bytes"))
    })
    .await;
}
