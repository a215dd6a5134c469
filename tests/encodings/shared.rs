//! Answers out of the shared tier: what another replica held becomes pieces anew.
//!
//! Need: a page travels as text, so whoever reads it has to make of it what he would have made of the server's answer. Rule: a replica
//! that has asked the server for nothing packs what the other one left, alone and together with what it has to ask for.

use crate::rig::{Coding, Rig, Row};
use crate::support::caches::RedisServer;
use crate::support::{DATA_START, Prometheus, Promfront, until};

/// Asks for what nobody asked before, until the shared tier says that it has none of it.
async fn in_use(rig: &Rig) {
    let mut number = 0;
    until("the shared tier is in use", async || {
        number += 1;
        let query = format!("up + {}{number:06}", rig.promfront.id());
        let row = Row { query, start_ms: DATA_START * 1000, step_ms: 60_000 };
        rig.through(&row.params(0, 1), Coding::Identity).await;
        let metrics = rig.promfront.metrics().await;
        metrics.sum("promfront_cache_misses_total", &["tier=\"remote\"", "reason=\"absent\""]) > 0.5
    })
    .await;
}

#[tokio::test]
async fn what_another_replica_left_is_packed_as_well() {
    let (prometheus, redis) = (Prometheus::with_test_data().await, RedisServer::start(&[]).await);
    let yaml = format!(
        "cache:\n  remote:\n    namespace: encodings\n    redis:\n      url: {}\n      timeout: 5s\n",
        redis.url()
    );
    let rows = ["temperature_celsius", "special_values", "pod_cpu_usage"].map(|query| Row {
        query: query.to_owned(),
        start_ms: DATA_START * 1000 + 86_400_000 + 7_123,
        step_ms: 300_000,
    });
    let writer = Rig::of(&prometheus.url, Promfront::configured(&prometheus.url, &yaml));
    in_use(&writer).await;
    for row in &rows {
        writer.same(&row.params(0, 899), "miss", Coding::Gzip).await;
    }
    writer.finish();
    writer.promfront.stop().await;
    let reader = Rig::of(&prometheus.url, Promfront::configured(&prometheus.url, &yaml));
    in_use(&reader).await;
    for (turn, row) in rows.iter().enumerate() {
        for (first, last, status) in [(300, 560, "hit"), (290, 575, "hit"), (-100, 1200, "phit"), (-90, 1100, "hit")] {
            reader.same(&row.params(first, last), status, Coding::of(turn)).await;
        }
    }
    let slots =
        reader.promfront.metrics().await.sum("promfront_cache_slots_total", &["tier=\"remote\"", "outcome=\"hit\""]);
    assert!(slots > 2.5, "{slots} slots came from the other one");
    reader.finish();
}
