//! Reloads without end while people look at dashboards: 1,000 of them in the full run, half of them of files that are broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::is_full;
use super::rig::{Rig, before, instant, range};
use crate::support::{Http, Prometheus, Random, until};

const CLIENTS: usize = 4;
/// None of these adds floats in an order that is chance.
const QUERIES: [&str; 6] = [
    "up",
    "sum by (job) (up)",
    "rate(http_requests_total{code=\"500\",method=\"GET\"}[5m])",
    "temperature_celsius > 15",
    "max_over_time(node_memory_free_bytes[30m])",
    "absent(no_such_metric)",
];

/// A question, and the server's own answer.
type Known = (String, Bytes);

async fn known(url: &str) -> Vec<Known> {
    let mut questions: Vec<String> = QUERIES.iter().map(|query| instant(query)).collect();
    for query in QUERIES {
        questions.extend([(200, "1800"), (60, "601"), (1, "15")].map(|(hours, step)| range(query, hours, step)));
    }
    let (http, mut known) = (Http::new(), Vec::new());
    for question in questions {
        let answer = http.get(&format!("{url}/api/v1/{question}")).await;
        assert_eq!(answer.status.as_u16(), 200, "{question}: {}", answer.text());
        known.push((question, answer.body));
    }
    known
}

/// Sound files that change each a different thing.
const SOUND: [&str; 10] = [
    "",
    "limits: {max_points: 9000, weight: 3}",
    "tenants: {x: {limits: {max_query_length: 1h}}}\nblock: [{query: nothing, reason: no}]",
    "cache: {memory: {max_bytes: 32MiB}}",
    "cache: {memory: {max_bytes: 0}, whole: {max_bytes: 0}}",
    "cache: {whole: {max_bytes: 9MiB, instant_ttl: 1m}, freshness: 1h}",
    "sched: {max_queued: 5000, max_queued_per_tenant: 500, full_status: 429}",
    "split: {interval: 12h}",
    "limits: {max_parallelism: 2}\ncache: {ttl: 1d}",
    "downstream: {max_concurrent: 2, timeout: 90s}",
];

/// The file of that number: odd ones are broken.
fn file(number: usize, urls: [&str; 2], random: &mut Random) -> (String, bool) {
    let rest = SOUND[random.below(SOUND.len())];
    let url = urls[random.below(2)];
    let sound = match rest.strip_prefix("downstream: {") {
        Some(rest) => format!("downstream: {{urls: [\"{url}\"], {rest}\n"),
        None => before(url, rest),
    };
    if number.is_multiple_of(2) {
        return (sound, true);
    }
    let broken = match random.below(5) {
        // Cut in the middle of a bracket, as by a full disk.
        0 => {
            let [open, close] = ['{', '}'].map(|sign| sound.find(sign).expect("it is there"));
            sound[..=open + random.below(close - open)].to_owned()
        }
        1 => sound + "nothing: {}\n",
        2 => sound + "limits: {max_points: many}\n",
        3 => sound.replace("http://", "ftp://"),
        _ => sound.replace(url, "https://127.0.0.1:1\"], tls: {ca_file: /no/such/file}, forward_headers: [\"*"),
    };
    (broken, false)
}

/// What the clients have seen.
#[derive(Debug, Default)]
struct Tally {
    asked: AtomicUsize,
    held: AtomicUsize,
    is_over: AtomicBool,
}

fn client(number: usize, base: String, known: Arc<Vec<Known>>, tally: Arc<Tally>) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let (http, mut random, mut wrong) = (Http::new(), Random::from(number), Vec::new());
        while !tally.is_over.load(Ordering::SeqCst) && wrong.len() < 5 {
            let (question, want) = &known[random.below(known.len())];
            match http.try_get(&format!("{base}/api/v1/{question}")).await {
                None => wrong.push(format!("{question}: no answer")),
                Some(got) if got.status.as_u16() != 200 || got.body != *want => {
                    wrong.push(format!("{question}: {} ({}) {:.400}", got.status, got.result(), got.text()));
                }
                Some(got) => {
                    let is_held = got.result().starts_with("status=hit") || got.result().starts_with("status=phit");
                    tally.held.fetch_add(usize::from(is_held), Ordering::SeqCst);
                }
            }
            tally.asked.fetch_add(1, Ordering::SeqCst);
        }
        wrong
    })
}

#[tokio::test]
async fn reloads_under_load_fail_no_request() {
    let (first, second) = (Prometheus::with_test_data().await, Prometheus::with_test_data().await);
    let known = Arc::new(known(&first.url).await);
    let rig = Rig::start(&before(&first.url, ""));
    let tally = Arc::new(Tally::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| client(number, rig.promfront.url.clone(), Arc::clone(&known), Arc::clone(&tally)))
        .collect();
    let mut random = Random::named("storm");
    let reloads = if is_full() { 1000 } else { 40 };
    for number in 0..reloads {
        let asked = tally.asked.load(Ordering::SeqCst);
        let (yaml, is_sound) = file(number, [&first.url, &second.url], &mut random);
        rig.write(&yaml);
        let answer = rig.post().await;
        assert_eq!(answer.status.as_u16(), if is_sound { 200 } else { 500 }, "{yaml}\n{}", answer.text());
        // The next one comes in the middle of what they are at.
        until("the clients go on", async || {
            tally.asked.load(Ordering::SeqCst) >= asked + 1 + number % (2 * CLIENTS)
                || clients.iter().any(JoinHandle::is_finished)
        })
        .await;
    }
    tally.is_over.store(true, Ordering::SeqCst);
    for client in clients {
        let wrong = client.await.expect("no panic");
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    println!("{reloads} reloads: {tally:?}");
    assert!(tally.asked.load(Ordering::SeqCst) > reloads && tally.held.load(Ordering::SeqCst) > 0, "{tally:?}");
    rig.reload(&before(&first.url, "")).await;
    rig.until_queued("anonymous", 0, 0).await;
    let metrics = rig.promfront.metrics().await;
    assert!(metrics.sum("promfront_queue_refused_total", &[]) < 0.1, "nobody was refused");
    let log = rig.promfront.log();
    assert!(!log.iter().any(|line| line.contains("panic")), "{log:#?}");
}
