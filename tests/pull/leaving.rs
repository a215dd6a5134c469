//! Whoever leaves, in order: a promfront that is told to end, a client that goes, a client whose time is over.

use std::time::{Duration, Instant};

use crate::support::port::Port;
use crate::support::querier::{Querier, querier};
use crate::support::scripted::{Scripted, ok, with_head};
use crate::support::{Http, range_params, until};
use crate::{EMPTY, asking, frontend, frontend_at};

/// What a promfront has accepted it answers, what runs and what still waits; then it ends, and the querier, which does not,
/// finds the next one at the same port.
#[tokio::test]
async fn a_promfront_that_ends_answers_what_it_accepted() {
    let downstream = Scripted::gated(|_| Some(ok(EMPTY))).await;
    let port = Port::reserved();
    let address = port.socket().to_string();
    let (mut promfront, _) = frontend_at(&address, "").await;
    let mut stays = Querier::start("stays", &address, &downstream.url, 4);
    promfront.until_serves("stays", 4).await;
    // Metadata is of the small lane, to which all slots are open.
    let asked: Vec<_> = (0..10).map(|number| asking(&promfront, &format!("labels?n={number}"))).collect();
    downstream.until_asked(4).await;
    promfront
        .until_queues("six wait behind four", |queues| {
            let tenant = &queues["tenants"][0];
            tenant["waiting"] == 6 && tenant["running"] == 4
        })
        .await;
    promfront.process().signal("TERM");
    let stopping = "stopping: finishing what is in flight";
    until(stopping, async || promfront.log().iter().any(|line| line.contains(stopping))).await;
    let ready = format!("{}/-/ready", promfront.url);
    assert!(Http::new().try_get(&ready).await.is_none(), "nobody new is let in");
    assert!(promfront.process().is_running(), "it waits for the server");
    downstream.open_gate();
    for answer in asked {
        let answer = answer.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, EMPTY));
    }
    until("promfront ends", async || !promfront.process().is_running()).await;
    assert_eq!(promfront.process().terminate(), Some(0), "in order: {:#?}", promfront.log());
    assert_eq!(downstream.asked(), 10, "each was asked once");

    let (next, _) = frontend_at(&address, "").await;
    next.until_serves("stays", 4).await;
    for number in 0..10 {
        assert_eq!(asking(&next, &format!("labels?m={number}")).await.expect("no panic").status.as_u16(), 200);
    }
    assert_eq!(downstream.asked(), 20);
    stays.stop().await;
    next.until_queues("it has left", |queues| queues["slots"] == 0).await;
    next.stop().await;
}

/// An answer that says that the connection ends: nobody tries to use it again, whatever runs side by side.
fn last_words() -> Vec<u8> {
    let length = EMPTY.len();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    with_head(&head, EMPTY)
}

/// A querier that is told to end finishes what it holds, and what waited behind that is run elsewhere at once.
#[tokio::test]
async fn a_querier_that_ends_finishes_what_it_holds() {
    let (slow, quick) = (Scripted::gated(|_| Some(ok(EMPTY))).await, Scripted::start(|_| Some(last_words())).await);
    let (promfront, address) = frontend("").await;
    let mut ends = Querier::start("ends", &address, &slow.url, 2);
    promfront.until_serves("ends", 2).await;
    let mut asked: Vec<_> = (0..4).map(|number| asking(&promfront, &format!("labels?n={number}"))).collect();
    slow.until_asked(2).await;
    ends.process().signal("TERM");
    promfront.until_queues("it has announced it", |queues| querier(queues, "ends")["standing"] == "leaving").await;
    let _stays = Querier::start("stays", &address, &quick.url, 2);
    quick.until_asked(2).await;
    promfront.until_queues("nothing waits", |queues| queues["tenants"][0]["waiting"] == 0).await;
    assert!(ends.process().is_running(), "it waits for the server");
    slow.open_gate();
    for answer in asked.drain(..) {
        let answer = answer.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, EMPTY));
    }
    ends.ended().await;
    assert_eq!((slow.asked(), quick.asked()), (2, 2), "each was asked once");
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_downstream_failed_tries_total", &[]) < 0.5, "at the first try");
}

/// When its time is over it ends all the same, and what it held is run elsewhere: nobody is to blame for that.
#[tokio::test]
async fn what_a_querier_had_no_time_for_is_run_elsewhere() {
    let (endless, quick) = (Scripted::start(|_| None).await, Scripted::start(|_| Some(last_words())).await);
    let (promfront, address) = frontend("").await;
    let hasty = ["--concurrency=2", "--shutdown-timeout=1"];
    let mut ends = Querier::launched("ends", &address, &endless.url, &hasty);
    promfront.until_serves("ends", 2).await;
    // The same twice: if a querier that announced it were to blame, both would be quarantined.
    let asked = [asking(&promfront, "query?query=up"), asking(&promfront, "query?query=up")];
    endless.until_asked(2).await;
    let _stays = Querier::start("stays", &address, &quick.url, 2);
    promfront.until_serves("stays", 2).await;
    let began = Instant::now();
    ends.stop().await;
    assert!(began.elapsed() < Duration::from_secs(10), "in its time: {:?}", began.elapsed());
    for answer in asked {
        let answer = answer.await.expect("no panic");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, EMPTY), "{}", answer.text());
    }
    assert_eq!((endless.asked(), quick.asked()), (2, 2));
    let metrics = promfront.metrics().await;
    let failed = |result| metrics.sum("promfront_downstream_failed_tries_total", &[result]);
    let blamed = failed("tried_again") + failed("attempts_spent") + failed("budget_spent");
    assert!(blamed < 0.5, "{:?}", metrics.all("promfront_downstream_failed_tries_total"));
    assert_eq!(promfront.queues().await["suspects"], 0);
}

/// A client that goes takes its query with it: out of the server behind the querier. The slot serves the next one.
#[tokio::test]
async fn a_client_that_leaves_cancels_the_query_behind_the_querier() {
    let downstream = Scripted::start(|asked| asked.param("query")?.starts_with("next").then(|| ok(EMPTY))).await;
    let (promfront, address) = frontend("").await;
    let _querier = Querier::start("beside", &address, &downstream.url, 1);
    let range = range_params("endless", "0", "600", "60");
    for (round, endless) in ["query?query=endless", &format!("query_range?{range}")].into_iter().enumerate() {
        let asked = asking(&promfront, endless);
        downstream.until_asked(2 * round + 1).await;
        assert_eq!(downstream.open(), 1);
        asked.abort();
        downstream.until_left().await;
        promfront.until_idle().await;
        let next = asking(&promfront, &format!("query?query=next{round}")).await.expect("no panic");
        assert_eq!((next.status.as_u16(), &next.body[..]), (200, EMPTY));
    }
    let metrics = promfront.metrics().await;
    assert!(metrics.sum("promfront_downstream_failed_tries_total", &[]) < 0.5, "nobody is to blame");
    assert!(metrics.sum("promfront_downstream_requests_in_flight", &[]).abs() < 0.1);
}

/// The client's own timeout ends its query, here and behind the querier.
#[tokio::test]
async fn the_clients_timeout_reaches_the_server_behind_the_querier() {
    let downstream = Scripted::start(|asked| asked.param("query")?.starts_with("next").then(|| ok(EMPTY))).await;
    let (promfront, address) = frontend("").await;
    let _querier = Querier::start("beside", &address, &downstream.url, 2);
    promfront.until_serves("beside", 2).await;
    let range = range_params("endless", "0", "600", "60");
    for endless in ["query?query=endless&timeout=300ms", &format!("query_range?{range}&timeout=300ms")] {
        let (before, began) = (downstream.asked(), Instant::now());
        let answer = asking(&promfront, endless).await.expect("no panic");
        assert!(began.elapsed() < Duration::from_secs(20), "not after downstream.timeout");
        assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
        assert_eq!(answer.json()["errorType"], "timeout", "{}", answer.text());
        assert_eq!(downstream.asked() - before, 1, "it was tried once");
        downstream.until_left().await;
        promfront.until_idle().await;
    }
    // Both slots serve again.
    promfront.until_serves("beside", 2).await;
    let next = asking(&promfront, "query?query=next").await.expect("no panic");
    assert_eq!((next.status.as_u16(), &next.body[..]), (200, EMPTY));
}
