//! What waits and runs when a reload comes: nothing is lost, nothing is asked twice, and nothing is left behind.

use super::rig::{Rig, before, gated, server, words_of};
use crate::support::scripted::Scripted;
use crate::support::until;

fn one_slot(url: &str, rest: &str) -> String {
    format!("downstream: {{urls: [\"{url}\"], max_concurrent: 1}}\n{rest}\n")
}

/// A request that runs is answered by the server that has it; the next one goes to the next server.
#[tokio::test]
async fn who_runs_stays_and_who_comes_goes_to_the_next() {
    let (old, new) = (gated("old").await, server("new").await);
    let rig = Rig::start(&before(&old.url, ""));
    let running = rig.asking("query?query=up", &[]);
    old.until_asked(1).await;
    rig.reload(&before(&new.url, "")).await;
    for _ in 0..3 {
        assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("new"));
    }
    old.open_gate();
    let answer = running.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &words_of("old")[..]));
    assert_eq!((old.asked(), new.asked()), (1, 3), "nobody was asked twice");
    old.until_left().await;
    until("the old server is gone from the queue", async || {
        let queues = rig.queues().await;
        let names: Vec<_> = queues["queriers"].as_array().expect("a list").iter().map(|one| &one["querier"]).collect();
        names == [&new.url] && queues["slots"] == 16
    })
    .await;
}

/// What waits is answered by the server that it was asked of, so that no answer comes from another one; whoever comes goes to the next.
#[tokio::test]
async fn who_waits_is_answered_by_whom_he_asked() {
    let (old, new) = (gated("old").await, server("new").await);
    let rig = Rig::start(&one_slot(&old.url, ""));
    let running = rig.asking("query?query=running", &[]);
    old.until_asked(1).await;
    let waiting: Vec<_> = (0..5).map(|i| rig.asking(&format!("query?query=waits{i}"), &[])).collect();
    rig.until_queued("anonymous", 5, 1).await;
    // One that changes nothing, one that is refused, and one that only widens a limit: all of it still waits.
    assert_eq!(rig.post().await.status.as_u16(), 200);
    rig.refused("limits: {max_query_bites: 2}\n").await;
    rig.reload(&one_slot(&old.url, "limits: {max_points: 12000}")).await;
    rig.until_queued("anonymous", 5, 1).await;
    rig.reload(&one_slot(&new.url, "")).await;
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("new"));
    old.open_gate();
    for answer in waiting {
        assert_eq!(&answer.await.expect("no panic").body[..], words_of("old"));
    }
    assert_eq!(&running.await.expect("no panic").body[..], words_of("old"));
    assert_eq!((old.asked(), new.asked()), (6, 1));
}

/// The parts of a range query that wait while the servers change are asked of those that have the first: no answer is of two servers.
#[tokio::test]
async fn a_range_query_survives_between_its_parts() {
    let answers = |asked: &crate::support::scripted::Asked| {
        let number = |name: &str| asked.param(name)?.parse::<i64>().ok();
        let (mut at, end, step) = (number("start")?, number("end")?, number("step")?);
        let mut points = Vec::new();
        while at <= end {
            points.push(format!("[{at},\"{at}\"]"));
            at += step;
        }
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"a":"b"}},"values":[{}]}}]}}}}"#,
            points.join(",")
        );
        Some(crate::support::scripted::ok(body.as_bytes()))
    };
    let (old, new) = (Scripted::gated(answers).await, Scripted::start(answers).await);
    let rig = Rig::start(&one_slot(&old.url, ""));
    let question = super::rig::range("up", 95, "3600");
    let running = rig.asking(&question, &[]);
    old.until_asked(1).await;
    rig.until_queued("anonymous", 3, 1).await;
    rig.reload(&one_slot(&new.url, "limits: {max_query_length: 1h}")).await;
    old.open_gate();
    let answer = running.await.expect("no panic");
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
    let values = answer.json()["data"]["result"][0]["values"].as_array().expect("points").len();
    assert_eq!((values, old.asked(), new.asked()), (96, 4, 0));
    assert_eq!(rig.ask(&question, &[]).await.status.as_u16(), 422, "the next one is judged by what holds now");
}

/// Who leaves takes his work with him, on the servers of before too; and their slots do not stay.
#[tokio::test]
async fn who_leaves_after_a_reload_is_not_worked_for() {
    let (old, new) = (gated("old").await, server("new").await);
    let rig = Rig::start(&before(&old.url, ""));
    let running: Vec<_> = (0..4).map(|i| rig.asking(&format!("query?query=up{i}"), &[])).collect();
    old.until_asked(4).await;
    rig.reload(&before(&new.url, "")).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    old.until_left().await;
    rig.until_queued("anonymous", 0, 0).await;
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("new"));
}

/// There and back again while a request runs: each server has one set of slots, not one for each reload.
#[tokio::test]
async fn servers_that_come_back_have_their_slots_once() {
    let (old, new) = (gated("old").await, server("new").await);
    let rig = Rig::start(&one_slot(&old.url, ""));
    let running = rig.asking("query?query=running", &[]);
    old.until_asked(1).await;
    for _ in 0..5 {
        rig.reload(&one_slot(&new.url, "")).await;
        assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("new"));
        rig.reload(&one_slot(&old.url, "")).await;
    }
    old.open_gate();
    assert_eq!(&running.await.expect("no panic").body[..], words_of("old"));
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("old"));
    until("one server, one slot", async || {
        let queues = rig.queues().await;
        queues["slots"] == 1 && queues["queriers"].as_array().is_some_and(|all| all.len() == 1)
    })
    .await;
}

/// One server of two is taken away and comes back: the other one answers all the while.
#[tokio::test]
async fn a_server_more_or_less() {
    let (a, b) = (server("a").await, server("b").await);
    let both = format!("downstream: {{urls: [\"{}\", \"{}\"]}}\n", a.url, b.url);
    let rig = Rig::start(&both);
    for _ in 0..3 {
        rig.reload(&before(&a.url, "")).await;
        let of_b = b.asked();
        for _ in 0..10 {
            assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"));
        }
        assert_eq!(b.asked(), of_b, "it is not among the servers");
        rig.reload(&both).await;
        until("the other one is asked again", async || {
            // Several at a time, so that there is something for the other one.
            for answer in futures::future::join_all((0..8).map(|_| rig.ask("query?query=up", &[]))).await {
                assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
            }
            b.asked() > of_b
        })
        .await;
    }
}

/// What waits is never given to the servers of a file that is refused, however late it turns out that it is.
#[tokio::test]
async fn servers_of_a_refused_file_are_given_nothing() {
    let (old, new) = (gated("old").await, server("new").await);
    let rig = Rig::start(&one_slot(&old.url, ""));
    let running = rig.asking("query?query=running", &[]);
    old.until_asked(1).await;
    let waiting: Vec<_> = (0..5).map(|i| rig.asking(&format!("query?query=waits{i}"), &[])).collect();
    rig.until_queued("anonymous", 5, 1).await;
    for _ in 0..50 {
        let said =
            rig.refused(&before(&new.url, "cache: {remote: {redis: {url: 'rediss://a', ca_file: /no/such/ca}}}")).await;
        assert!(said.contains("/no/such/ca"), "{said}");
    }
    assert_eq!(new.asked(), 0);
    old.open_gate();
    for answer in waiting.into_iter().chain([running]) {
        assert_eq!(answer.await.expect("no panic").body, words_of("old"));
    }
}
