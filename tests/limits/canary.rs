//! Two hundred tenants ask the same questions, and each has data that nobody else may see: no answer, no error and no page has a
//! word of anybody else's.
//!
//! The server behind knows one word for each tenant, which is not made of its name, and says it in every answer: in labels, in
//! values, in annotations and in errors; now and then it fails, with the word in what it says. Questions are few, so that their
//! answers are kept, shared in flight and looked up all the time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::StreamExt;
use http::StatusCode;
use promfront::model::params::Params;
use xxhash_rust::xxh3::xxh3_64;

use crate::is_full;
use crate::support::{Answer, Http, Promfront, Random, range_params};

const TENANTS: usize = 200;

const QUERIES: [&str; 6] =
    ["up", "sum(up)", "up @ start()", "max_over_time({job=\"a\"}[5m])", "fails(up)", "up # promfront:no-cache"];

/// What only this tenant may see.
fn word(tenant: &str) -> String {
    format!("canary-{:016x}", xxh3_64(format!("the word of {tenant}").as_bytes()))
}

/// The words in a text.
fn words(text: &str) -> BTreeSet<String> {
    text.match_indices("canary-").map(|(at, _)| text[at..].chars().take(23).collect()).collect()
}

/// The words that the owner of this header may see.
fn allowed(header: &str) -> BTreeSet<String> {
    header.split('|').map(word).collect()
}

/// Says the words of whoever is named in the request; every thirtieth time it fails.
async fn answer(request: Request, asked: Arc<AtomicUsize>) -> Response {
    let (head, body) = request.into_parts();
    let tenant = head.headers.get("x-scope-orgid").and_then(|value| value.to_str().ok()).unwrap_or("nobody").to_owned();
    let words: Vec<_> = allowed(&tenant).into_iter().collect();
    let words = words.join(" ");
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a short body");
    let form = Params::read(head.uri.query(), (!body.is_empty()).then_some(&*body)).expect("readable");
    let (code, text) = if asked.fetch_add(1, Ordering::Relaxed) % 30 == 29 {
        (503, format!(r#"{{"status":"error","errorType":"timeout","error":"{words} is tired"}}"#))
    } else if form.get("query").contains("fails") {
        (422, format!(r#"{{"status":"error","errorType":"execution","error":"{words} does not work"}}"#))
    } else if head.uri.path().ends_with("/query_range") {
        let second = |name: &str| form.get(name).parse::<f64>().expect("seconds");
        let (start, end, step) = (second("start"), second("end"), second("step"));
        let mut values = Vec::new();
        let mut time = start;
        while time <= end {
            values.push(format!("[{time},\"{}\"]", xxh3_64(format!("{words}{time}").as_bytes())));
            time += step;
        }
        let series = format!(r#"{{"metric":{{"word":"{words}"}},"values":[{}]}}"#, values.join(","));
        let told = r#"{"status":"success","data":{"resultType":"matrix","result":["#;
        // One that is told something is rarely kept.
        let infos = if form.get("query").starts_with("sum") {
            format!(r#","infos":["PromQL info: {words}"]"#)
        } else {
            String::new()
        };
        (200, format!("{told}{series}]}}{infos}}}"))
    } else {
        (200, format!(r#"{{"status":"success","data":["{words}"]}}"#))
    };
    let answer = Response::builder().header("content-type", "application/json").header("x-said", words);
    answer.status(StatusCode::from_u16(code).expect("a code")).body(Body::from(text)).expect("sound")
}

/// One question, and as whose it is asked.
fn question(random: &mut Random) -> (String, String) {
    let name = |random: &mut Random| format!("tenant-{}", random.below(TENANTS));
    let header = match random.below(20) {
        // Several together, written in any way.
        0 => format!("{0}|{1}|{0}", name(random), name(random)),
        1 => format!("{}|{}", name(random), name(random)),
        _ => name(random),
    };
    let query = QUERIES[random.below(QUERIES.len())];
    let (start, length) = (random.below(2) * 3600, (1 + random.below(2)) * 86_400);
    let path = match random.below(10) {
        0 => "labels".to_owned(),
        1 => format!("query?query={}", crate::support::escaped(query)),
        _ => {
            let (start, end) = (start.to_string(), (start + length).to_string());
            format!("query_range?{}", range_params(query, &start, &end, "3600"))
        }
    };
    (header, path)
}

async fn ask(http: &Http, base: &str, header: &str, path: &str) -> Answer {
    let request = http::Request::get(format!("{base}/api/v1/{path}")).header("x-scope-orgid", header);
    http.send(request.body(Body::empty()).expect("sound")).await
}

/// Every word of an answer, its headers among it.
fn said(answer: &Answer) -> BTreeSet<String> {
    let headers = answer.headers.values().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    headers.chain([answer.text()]).flat_map(|text| words(&text)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_a_word_of_anybody_else() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let router = Router::new().fallback(move |request| answer(request, Arc::clone(&counted)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let downstream = format!("http://{}", listener.local_addr().expect("it is bound"));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    // Small, so that entries are thrown out too.
    let yaml = "multitenancy: {enabled: true}\ncache: {memory: {max_bytes: 16MiB}}\nsched: {max_queued: 100000}";
    let promfront = Promfront::configured(&downstream, yaml);

    let mut random = Random::seeded("canary");
    let count = if is_full() { 100_000 } else { 5_000 };
    let questions: Vec<_> = (0..count).map(|_| question(&mut random)).collect();
    let http = Http::new();
    let (answered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let asking = futures::stream::iter(&questions).for_each_concurrent(32, async |(header, path)| {
        let answer = ask(&http, &promfront.url, header, path).await;
        let (said, allowed) = (said(&answer), allowed(header));
        // Its own words, and all of them: an answer that says nothing would be no proof.
        let is_told = answer.text().contains("is tired") || matches!(answer.status.as_u16(), 200 | 422);
        assert!(is_told, "{header} {path}: {} {}", answer.status, answer.text());
        assert_eq!(said, allowed, "{header} {path}: {}", answer.result());
        let outcome = if answer.status.is_success() { &answered } else { &failed };
        outcome.fetch_add(1, Ordering::Relaxed);
    });
    let looking = async {
        let mut pages = 0;
        while answered.load(Ordering::Relaxed) + failed.load(Ordering::Relaxed) < count {
            for page in ["promfront/api/v1/queues", "metrics"] {
                let page = http.get(&format!("{}/{page}", promfront.url)).await;
                assert_eq!(said(&page), BTreeSet::new());
                pages += 1;
            }
            tokio::task::yield_now().await;
        }
        pages
    };
    let ((), pages) = tokio::join!(asking, looking);
    let metrics = promfront.metrics().await;
    let of = |status: &str| metrics.sum("promfront_range_queries_total", &[&format!("status=\"{status}\"")]);
    println!(
        "{count} questions of {TENANTS} tenants: {answered:?} answered, {failed:?} failed, {} asked downstream, {pages} pages; \
         {} hits, {} of a part, {} misses, {} coalesced",
        asked.load(Ordering::Relaxed),
        of("hit"),
        of("phit"),
        of("miss"),
        of("coalesced"),
    );
    assert!(of("hit") > 300.0 && of("phit") > 100.0, "what is kept was looked up");
    assert!(promfront.log().iter().all(|line| words(line).is_empty()), "the log has none of it");
    server.abort();
}
