//! Many at once, over the same extents, while these grow.
//!
//! Need: what is packed once for all is handed to all, also while somebody adds to it. Rule: whoever asks, when, and in which way, is
//! given the server's answer; what is in flight may be waited for.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::rig::{Coding, Rig, Row, is};
use crate::support::{DATA_START, Prometheus, Random};

const CLIENTS: usize = 32;
const QUESTIONS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ask_for_what_grows_meanwhile() {
    let prometheus = Prometheus::with_test_data().await;
    let rig = Arc::new(Rig::before(&prometheus.url));
    // Windows that move on as a dashboard does, and one inside and one around of each of them.
    let mut truths = Vec::new();
    for query in ["temperature_celsius", "queue_depth", "up * 0"] {
        let row = Row { query: query.to_owned(), start_ms: DATA_START * 1000 + 7_123, step_ms: 61_000 };
        for refresh in 0..6 {
            let first = 20 * refresh;
            for (first, last) in [(first, first + 400), (first + 30, first + 300), (first - 90, first + 450)] {
                let params = row.params(first, last);
                let body = rig.direct(&params).await.body;
                truths.push((params, body));
            }
        }
    }
    let (truths, start) = (Arc::new(truths), Arc::new(Barrier::new(CLIENTS)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (rig, truths, start) = (Arc::clone(&rig), Arc::clone(&truths), Arc::clone(&start));
        clients.spawn(async move {
            // Two ask for the same in the same order, in different ways.
            let mut random = Random::from(client / 2);
            start.wait().await;
            for turn in 0..QUESTIONS {
                let (params, want) = &truths[random.below(truths.len())];
                let coding = Coding::of(client + turn);
                rig.judge(params, coding, &rig.through(params, coding).await, want);
            }
        });
    }
    clients.join_all().await;
    for (params, want) in truths.iter() {
        rig.through(params, Coding::Gzip).await;
        let got = rig.through(params, Coding::Gzip).await;
        assert!(is(&got, "hit"), "{params}: {}", got.result());
        rig.judge(params, Coding::Gzip, &got, want);
    }
    let metrics = rig.promfront.metrics().await;
    for status in ["status=\"hit\"", "status=\"phit\""] {
        let count = metrics.sum("promfront_range_queries_total", &[status]);
        assert!(count > 5.5, "{count} with {status}");
    }
    rig.finish();
}
