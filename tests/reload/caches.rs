//! What is kept, across reloads that touch the cache and across those that do not, in front of a real Prometheus.

use super::rig::{Rig, before, instant, range};
use crate::support::{Answer, Http, Prometheus, Promfront};

/// What each question should get.
struct Truth {
    http: Http,
    url: String,
}

impl Truth {
    async fn of(&self, question: &str) -> Answer {
        self.http.get(&format!("{}/api/v1/{question}", self.url)).await
    }
}

async fn world(rest: &str) -> (Prometheus, Truth, Rig) {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::start(&before(&prometheus.url, rest));
    let truth = Truth { http: Http::new(), url: prometheus.url.clone() };
    (prometheus, truth, rig)
}

/// `hit`, `miss`, `bypass`, …
async fn status(rig: &Rig, truth: &Truth, question: &str) -> String {
    let (want, got) = (truth.of(question).await, rig.ask(question, &[]).await);
    assert_eq!((got.status, &got.body), (want.status, &want.body), "{question}: {}", got.result());
    got.result().split([';', '=']).nth(1).unwrap_or_default().to_owned()
}

async fn downstream_requests(promfront: &Promfront) -> f64 {
    promfront.metrics().await.sum("promfront_downstream_requests_total", &[])
}

/// Files that speak of anything but what is kept: what is held is served, and nothing is asked of the server again.
#[tokio::test]
async fn what_is_kept_survives_what_does_not_touch_it() {
    let (prometheus, truth, rig) = world("").await;
    let questions = [range("sum by (job) (up)", 72, "600"), range("up", 30, "61"), instant("up"), labels()];
    for question in &questions {
        status(&rig, &truth, question).await;
        assert_eq!(status(&rig, &truth, question).await, "hit", "{question}");
    }
    let asked = downstream_requests(&rig.promfront).await;
    assert!(asked >= 4.0, "{asked}");
    for rest in [
        "",
        "limits: {max_query_length: 30d, max_points: 9000, weight: 2}",
        "tenants: {x: {limits: {weight: 3}}}",
        "block: [{query: nothing, reason: no}]",
        "sched: {max_queued: 7, full_status: 429}",
        "split: {max_parts: 32}",
        "discovery: {interval: 10s}",
        "cache: {freshness: 5m}",
    ] {
        rig.reload(&before(&prometheus.url, rest)).await;
        rig.refused("nothing: 1\n").await;
        for question in &questions {
            assert_eq!(status(&rig, &truth, question).await, "hit", "{rest}: {question}");
        }
    }
    let more = format!(
        "downstream: {{urls: [\"{}\"], max_concurrent: 3, timeout: 1m}}\ncache: {{freshness: 5m}}\n",
        prometheus.url
    );
    rig.reload(&more).await;
    for question in &questions {
        assert_eq!(status(&rig, &truth, question).await, "hit", "{question}");
    }
    let again = downstream_requests(&rig.promfront).await;
    assert!((again - asked).abs() < 0.1, "{again} and {asked}");
}

fn labels() -> String {
    format!("labels?match[]=up&start={}&end={}", crate::support::DATA_START, crate::support::DATA_START + 7200)
}

/// Another size or lifetime is another cache, which begins empty; none at all keeps nothing; the answers are right all the while.
#[tokio::test]
async fn another_size_or_lifetime_begins_empty() {
    let (prometheus, truth, rig) = world("").await;
    let question = range("sum by (job) (up)", 72, "600");
    assert_eq!(status(&rig, &truth, &question).await, "miss");
    for size in ["64MiB", "128MiB", "0", "64MiB"] {
        rig.reload(&before(&prometheus.url, &format!("cache: {{memory: {{max_bytes: {size}}}}}"))).await;
        let results = [status(&rig, &truth, &question).await, status(&rig, &truth, &question).await];
        if size == "0" {
            assert!(results.iter().all(|status| status != "hit" && status != "phit"), "{results:?}");
        } else {
            assert_eq!(results, ["miss", "hit"], "{size}");
        }
        let held = rig.promfront.metrics().await.sum("promfront_cache_size_bytes", &[]);
        assert_eq!(held > 0.5, size != "0", "{size}: {held}");
    }
    // A shorter lifetime is obeyed at once: what may be older than it begins empty too.
    rig.reload(&before(&prometheus.url, "cache: {ttl: 1h}")).await;
    assert_eq!([status(&rig, &truth, &question).await, status(&rig, &truth, &question).await], ["miss", "hit"]);
    // What is too small for it is not kept, and not wrong.
    rig.reload(&before(&prometheus.url, "cache: {memory: {max_bytes: 1KiB}}")).await;
    for _ in 0..2 {
        status(&rig, &truth, &range("up", 200, "300")).await;
    }
}

/// Points may still change for longer than was thought: what was kept too early is not kept on, and what is asked for from now on is
/// kept later.
#[tokio::test]
async fn another_freshness_decides_what_is_kept() {
    let (prometheus, truth, rig) = world("").await;
    let held = [range("up", 72, "600"), instant("up")];
    for (round, file) in ["", "cache: {freshness: 50y}", "cache: {freshness: 1h}"].into_iter().enumerate() {
        rig.reload(&before(&prometheus.url, file)).await;
        let query = format!("up + {round}");
        for question in [range(&query, 72, "600"), instant(&query)] {
            status(&rig, &truth, &question).await;
            let again = status(&rig, &truth, &question).await;
            assert_eq!(again == "hit", round != 1, "{file}: {question}: {again}");
        }
        for question in &held {
            let status = status(&rig, &truth, question).await;
            assert_ne!(status, "hit", "{file}: {question}: {status}");
        }
    }
}

/// Answers that are kept whole: their room, and how long each kind holds.
#[tokio::test]
async fn answers_kept_whole() {
    let (prometheus, truth, rig) = world("").await;
    let [query, labels] = [instant("up"), labels()];
    for (rest, of_instants, of_labels) in [
        ("", true, true),
        ("cache: {whole: {instant_ttl: 0s}}", false, true),
        ("cache: {whole: {labels_ttl: 0s}}", true, false),
        ("cache: {whole: {max_bytes: 0}}", false, false),
        ("cache: {whole: {max_bytes: 8MiB}}", true, true),
        ("cache: {whole: {instant_ttl: 0s, labels_ttl: 0s}}", false, false),
        ("", true, true),
    ] {
        rig.reload(&before(&prometheus.url, rest)).await;
        for (question, is_kept) in [(&query, of_instants), (&labels, of_labels)] {
            status(&rig, &truth, question).await;
            let again = status(&rig, &truth, question).await;
            assert_eq!(again == "hit", is_kept, "{rest}: {question}: {again}");
        }
    }
}

/// Another server has other data: nothing that the first one said is shown as its answer.
#[tokio::test]
async fn another_server_is_believed_and_not_the_last_one() {
    let (prometheus, truth, rig) = world("").await;
    let other = Prometheus::start(None, &[]).await;
    let questions = [range("sum by (job) (up)", 72, "600"), instant("up"), labels()];
    for question in &questions {
        status(&rig, &truth, question).await;
        assert_eq!(status(&rig, &truth, question).await, "hit", "{question}");
    }
    rig.reload(&before(&other.url, "")).await;
    let elsewhere = Truth { http: Http::new(), url: other.url.clone() };
    for question in &questions {
        status(&rig, &elsewhere, question).await;
        assert_eq!(status(&rig, &elsewhere, question).await, "hit", "{question}");
    }
    rig.reload(&before(&prometheus.url, "")).await;
    for question in &questions {
        status(&rig, &truth, question).await;
    }
}
