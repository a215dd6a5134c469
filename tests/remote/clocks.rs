//! Replicas whose clocks disagree, before a Prometheus whose data grows (row 20).

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cell::{Cache, asked_downstream, hits, misses};
use crate::support::caches::shift_clock;
use crate::support::remote_write::{Sample, Series, write};
use crate::support::{Http, Prometheus, Promfront, range_params, until};

const STEP: i64 = 15;

#[expect(clippy::disallowed_methods, reason = "samples for now have to know when that is")]
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since_epoch.as_millis()).expect("before the year 292 million")
}

/// A series that has a new value each half second.
fn samples(from_ms: i64, until_ms: i64) -> Series {
    #[expect(clippy::cast_precision_loss, reason = "any number will do")]
    let sample = |t: i64| (t, Sample::Float((t % 1_000_003) as f64));
    let first = (from_ms / 500 + 1) * 500;
    Series::new("x", "a", (first..=until_ms).step_by(500).map(sample))
}

/// One is an hour ahead, one an hour behind, one ahead by so little that what it wrote is soon believed; one is right. What
/// is not final becomes visible as final to none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_wrong_make_nothing_final() {
    let [redis, memcached] = Cache::both().await;
    tokio::join!(disagree(redis), disagree(memcached));
}

async fn disagree(cache: Cache) {
    let (prometheus, http) = (Prometheus::empty().await, Http::new());
    let began_ms = now_ms();
    let mut written_ms = began_ms - 5 * 3_600_000;
    let first = (written_ms / 1000 + 60) / 3600 * 3600;
    let yaml = cache.yaml(cache.port()).replacen("cache:\n", "cache:\n  freshness: 10s\n", 1) + "      timeout: 2s\n";
    let replica = |shift: i64| {
        Promfront::launched(&prometheus.url, &yaml, |command| {
            if shift != 0 {
                shift_clock(command, shift);
            }
        })
    };
    // An hour behind, but on the same day: a slot that has ended is one page, and one that has not is several.
    let behind = (now_ms() / 1000 % 86_400 / 2).min(3600);
    let mut replicas = [0, 3600, -behind, 70].map(replica).into_iter().collect::<Vec<_>>();
    let ask = async |promfront: &Promfront, query: &str| {
        let end = now_ms() / 1000 + 300;
        let params = range_params(query, &first.to_string(), &end.to_string(), &STEP.to_string());
        let [want, got] = [&prometheus.url, &promfront.url].map(|url| format!("{url}/api/v1/query_range?{params}"));
        let (want, got) = (http.get(&want).await, http.get(&got).await);
        assert_eq!(got.status, want.status, "{params}");
        let problem = || format!("{params} {}s after the begin: {}", (now_ms() - began_ms) / 1000, got.result());
        assert!(got.body == want.body, "{}", problem());
        want.body.len()
    };
    let (mut answers, mut grown) = (0, BTreeSet::new());
    // What the last one wrote is believed by all after ten seconds.
    while now_ms() < began_ms + 16_000 {
        let now = now_ms();
        write(&prometheus.url, &[samples(written_ms, now)]).await;
        written_ms = now;
        for replica in &replicas {
            for query in ["x", "sum_over_time(x[1m])", "x offset -30s"] {
                grown.insert((query, ask(replica, query).await));
                answers += 1;
            }
        }
        until("the next sample is due", async || now_ms() > written_ms + 700).await;
    }
    assert!(grown.len() >= 6, "the data grows: {grown:?}");
    // And one that is right and new finds what all of them left.
    replicas.push(replica(0));
    crate::cell::in_use(&replicas[4]).await;
    for query in ["x", "sum_over_time(x[1m])", "x offset -30s"] {
        ask(&replicas[4], query).await;
    }
    let (right, behind, new) = (replicas[0].metrics().await, replicas[2].metrics().await, replicas[4].metrics().await);
    assert!(hits(&new) > 0.5, "something was left");
    assert!(misses(&behind, "future") > 0.5, "what is fetched now has for this one not been fetched yet");
    let (of_cache, downstream) =
        (right.sum("promfront_range_query_points_total", &["cache"]), asked_downstream(&right));
    assert!(of_cache > 1000.0, "the cache is in use: {of_cache} points, {downstream} requests downstream");
    println!(
        "cell clocks ({}): {answers} answers, 0 differ; {} hits of the new one, {} from the future",
        cache.name(),
        hits(&new),
        misses(&behind, "future")
    );
}
