//! What queriers vanish under: one that vanishes proves nothing, two that vanish under the same query do.

use crate::support::querier::Querier;
use crate::support::range_params;
use crate::support::scripted::{Scripted, ok};
use crate::{EMPTY, asking, frontend};

const MATRIX: &[u8] = br#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

/// The same query was running there twice: two panels with one instant query, or two days of one range query whose step is so
/// coarse that they share a slot of the cache. That is one querier that vanished, not two.
#[tokio::test]
async fn one_querier_that_vanishes_condemns_nothing_however_often_it_ran_it() {
    let day = 86_400;
    // Slots of this step have six days, and parts one.
    let coarse = range_params("up", &(6 * day).to_string(), &(10 * day - 60).to_string(), "61m");
    for (path, clients, running, body) in
        [("query?query=up", 2, 2, EMPTY), (&*format!("query_range?{coarse}"), 1, 4, MATRIX)]
    {
        let downstream =
            Scripted::gated(|asked| Some(ok(if asked.head.contains("query_range") { MATRIX } else { EMPTY }))).await;
        let (promfront, address) = frontend("").await;
        let mut first = Querier::start("first", &address, &downstream.url, 8);
        promfront.until_serves("first", 8).await;
        let asked: Vec<_> = (0..clients).map(|_| asking(&promfront, path)).collect();
        downstream.until_asked(running).await;
        first.kill();
        downstream.until_left().await;
        downstream.open_gate();
        let _second = Querier::start("second", &address, &downstream.url, 8);
        for answer in asked {
            let answer = answer.await.expect("no panic");
            assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text());
            assert_eq!(answer.text(), String::from_utf8_lossy(body), "{path}");
        }
        assert_eq!(downstream.asked(), 2 * running, "each was tried once more");
        // What was suspected is free again.
        assert_eq!(asking(&promfront, path).await.expect("no panic").status.as_u16(), 200);
        let shown = promfront.queues().await;
        assert_eq!(shown["suspects"], 0, "{shown}");
    }
}

/// A second querier vanishes under it: it is not led to a third one, and everything else goes on.
#[tokio::test]
async fn a_query_that_two_queriers_vanish_under_is_not_given_to_a_third() {
    let downstream = Scripted::start(|asked| (asked.param("query")? != "deadly").then(|| ok(EMPTY))).await;
    let (promfront, address) = frontend("").await;
    let mut queriers = ["first", "second", "third"].map(|id| Querier::start(id, &address, &downstream.url, 2));
    for querier in &queriers {
        promfront.until_serves(&querier.id, 2).await;
    }
    let deadly = asking(&promfront, "query?query=deadly");
    for round in 1..=2 {
        downstream.until_asked(round).await;
        let shown = promfront.queues().await;
        let runs_it = |querier: &&mut Querier| crate::support::querier::querier(&shown, &querier.id)["running"] == 1;
        queriers.iter_mut().find(runs_it).expect("somebody runs it").kill();
    }
    let answer = deadly.await.expect("no panic");
    assert_eq!(answer.status.as_u16(), 422, "{}", answer.text());
    assert!(answer.text().contains("quarantined"), "{}", answer.text());
    assert_eq!(downstream.asked(), 2);
    // Whoever asks for it is told at once; whoever asks for something else is answered.
    for (query, status) in [("deadly", 422), ("sound", 200), ("deadly", 422)] {
        let answer = asking(&promfront, &format!("query?query={query}")).await.expect("no panic");
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.text());
    }
    assert_eq!(downstream.asked(), 3);
}
