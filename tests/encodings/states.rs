//! What answers are made of: every kind of value, on every kind of step, in every state of the cache. On a real Prometheus.

use crate::rig::{Coding, PACKED_FROM, Rig, Row, is};
use crate::support::remote_write::{Sample, Series, write};
use crate::support::{DATA_START, Prometheus, Random};

const MIDNIGHT_MS: i64 = (DATA_START + 5 * 86_400) * 1000;

/// Each for the kind of text that it answers.
const QUERIES: &[&str] = &[
    "temperature_celsius",
    "http_requests_total",
    "constant_gauge",
    "up * 0",
    "special_values",
    "-node_memory_free_bytes",
    "queue_depth",
    "pod_cpu_usage",
    "build_info",
    "odd_labels",
    "absent_metric",
    "constant_gauge{i=\"3\"}",
    "{job=~\"api|node\"}",
    "sum by (code) (rate(http_requests_total[5m]))",
    "time()",
    "exp(temperature_celsius * 20)",
    "-1 / (time() % 120 - 60)",
    "histogram_quantile(0.9, rate(http_request_duration_seconds_bucket[5m]))",
];

/// A step, and how far the row lies off the minute, both in milliseconds.
const STEPS: &[(i64, i64)] = &[(60_000, 0), (500, 0), (7_300, 123), (61_000, 7_000), (600_000, 12_345)];

/// First instant, last instant, and how that comes about when what stands above it was asked before. Midnight is number 200.
pub const STATES: &[(i64, i64, &str)] = &[
    (100, 299, "miss"),
    // Begins and ends inside of what is held.
    (130, 249, "hit"),
    (198, 203, "hit"),
    // Moved on.
    (150, 339, "phit"),
    // Apart from all.
    (380, 459, "miss"),
    // What lies before, between and after.
    (90, 469, "phit"),
    (95, 465, "hit"),
    // One instant is another question.
    (200, 200, "miss"),
];

fn row(query: &str, (step_ms, off_ms): (i64, i64)) -> Row {
    Row { query: query.to_owned(), start_ms: MIDNIGHT_MS - 200 * step_ms + off_ms, step_ms }
}

/// All states, one after the other.
pub async fn in_every_state(rig: &Rig, row: &Row, turn: usize) {
    for (number, (first, last, status)) in STATES.iter().enumerate() {
        rig.same(&row.params(*first, *last), status, Coding::of(turn + number)).await;
    }
}

#[tokio::test]
async fn every_kind_of_value_in_every_state_of_the_cache() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    for (number, query) in QUERIES.iter().enumerate() {
        for more in [0, 2] {
            in_every_state(&rig, &row(query, STEPS[(number + more) % STEPS.len()]), number + more).await;
        }
    }
    rig.finish();
}

/// What was left by any ten of the windows before, in any order.
#[tokio::test]
async fn windows_at_random_over_what_others_left() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let mut random = Random::seeded("encodings");
    let rows: Vec<Row> = ["temperature_celsius", "pod_cpu_usage", "special_values", "constant_gauge"]
        .iter()
        .flat_map(|query| [STEPS[2], STEPS[4]].map(|step| row(query, step)))
        .collect();
    let mut number = || i64::try_from(random.below(300)).expect("small");
    for turn in 0..160 {
        let (first, length) = (number(), number());
        let row = &rows[turn / 2 % rows.len()];
        let (params, coding) = (row.params(first, first + length), Coding::of(turn));
        let (want, got) = (rig.direct(&params).await, rig.through(&params, coding).await);
        rig.judge(&params, coding, &got, &want.body);
    }
    let metrics = rig.promfront.metrics().await;
    for status in ["status=\"hit\"", "status=\"phit\""] {
        let count = metrics.sum("promfront_range_queries_total", &[status]);
        assert!(count > 15.5, "{count} with {status}");
    }
    rig.finish();
}

/// Windows of all lengths about the one from which on answers are packed, and labels that lead to each length.
#[tokio::test]
async fn answers_about_the_smallest_that_is_packed() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let held = row("constant_gauge{i=\"3\"}", STEPS[0]);
    let mut lengths = vec![rig.same(&held.params(0, 399), "miss", Coding::Gzip).await];
    for more in 30..70 {
        lengths.push(rig.same(&held.params(170, 170 + more), "hit", Coding::of(lengths.len())).await);
    }
    assert!(lengths.iter().any(|length| (1..PACKED_FROM).contains(length)), "{lengths:?}");
    for (first, last) in [(0, 0), (190, 209)] {
        let padded = |pad: usize| {
            let query = format!("label_replace(vector(7), \"pad\", \"{}\", \"\", \"\")", "x".repeat(pad));
            row(&query, STEPS[0]).params(first, last)
        };
        let shortest = rig.direct(&padded(1)).await.body.len();
        for want in PACKED_FROM - 2..PACKED_FROM + 3 {
            let length = rig.same(&padded(want - shortest + 1), "miss", Coding::of(want)).await;
            assert_eq!(length, want);
        }
    }
    rig.finish();
}

/// A dashboard that moves on by two instants at a time: pieces are added at one end, and joined as they grow.
#[tokio::test]
async fn extents_that_grow_at_each_refresh() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    let row = row("temperature_celsius", (7_300, 123));
    rig.same(&row.params(0, 199), "miss", Coding::Identity).await;
    for refresh in 1..80 {
        rig.same(&row.params(2 * refresh, 199 + 2 * refresh), "phit", Coding::Gzip).await;
    }
    rig.finish();
}

/// Buckets are longer than numbers, and stand after them.
#[tokio::test]
async fn native_histograms() {
    let prometheus = Prometheus::empty().await;
    let (start, minute) = (DATA_START * 1000, 60_000);
    let histogram = |t: i64| (t, Sample::Histogram(((t - start) / minute).cast_unsigned() % 500 + 5));
    // One that changes its type, is silent for a while, and comes back. Of what arrives at once the server takes numbers first, so
    // each change arrives by itself.
    for (run, first) in (0..600).step_by(85).enumerate() {
        let times = || (first..(first + 85).min(600)).map(|number| start + number * minute);
        let is_silent = |t: &i64| (250..290).contains(&((t - start) / minute));
        let mixed = times()
            .filter(|t| !is_silent(t))
            .map(|t| if run % 2 == 0 { histogram(t) } else { (t, Sample::Float(2.5)) });
        let series = [Series::new("h", "only", times().map(histogram)), Series::new("h", "mixed", mixed)];
        write(&prometheus.url, &series).await;
    }
    let rig = Rig::before(&prometheus.url);
    for (turn, query) in ["h", "h{l=\"only\"}", "sum(rate(h{l=\"only\"}[5m]))"].into_iter().enumerate() {
        in_every_state(&rig, &Row { query: query.to_owned(), start_ms: start, step_ms: 60_000 }, turn).await;
    }
    let answer = rig.direct(&Row { query: "h".to_owned(), start_ms: start, step_ms: 60_000 }.params(90, 469)).await;
    let text = answer.text();
    assert!(text.contains("\"buckets\":[[") && text.contains("],\"histograms\""), "both forms: {text}");
    rig.finish();
}

/// What must not be cut goes to the server whole and comes back from it as it is.
#[tokio::test]
async fn what_passes_whole_is_packed_too() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Rig::before(&prometheus.url);
    for query in ["max_over_time({__name__=~\"collide_a|up\"}[5m])", "quantile(time() % 2, up @ 1707177600)"] {
        let params = row(query, STEPS[0]).params(100, 299);
        let want = rig.direct(&params).await;
        for coding in [Coding::Gzip, Coding::Identity, Coding::Gzip] {
            let got = rig.through(&params, coding).await;
            assert!(is(&got, "bypass"), "{query}: {}", got.result());
            let plain = if got.header("content-encoding") == "gzip" {
                rig.shelf.put(&got.body, &want.body);
                crate::support::gzip::one_member(&got.body).expect("sound")
            } else {
                got.body.to_vec()
            };
            crate::rig::alike(query, &plain, &want.body);
        }
    }
    rig.finish();
}
