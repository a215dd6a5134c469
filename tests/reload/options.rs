//! Options that are in force after a reload, each shown from both sides: what was refused is answered, what was answered is refused.

use parking_lot::Mutex;
use std::sync::Arc;

use super::rig::{EMPTY, Headers, Rig, before, gated, range, server, words_of};
use crate::support::recorded::Recorded;
use crate::support::scripted::{Scripted, ok};
use crate::support::{Answer, Http, Prometheus, until};

const TEAM_A: Headers<'_> = &[("x-scope-orgid", "team-a")];
const TEAM_B: Headers<'_> = &[("x-scope-orgid", "team-b")];

fn assert_refused(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert!(answer.text().contains(says), "{says} is not in: {}", answer.text());
}

/// Each limit and rule is put into force and taken away again, twice, in front of a real Prometheus.
#[tokio::test]
async fn limits_and_rules_come_and_go() {
    let prometheus = Prometheus::with_test_data().await;
    let url = &prometheus.url;
    let rig = Rig::start(&before(url, "multitenancy: {enabled: true}"));
    let question = range("sum by (job) (up)", 72, "3600");
    let want = Http::new().get(&format!("{url}/api/v1/{question}")).await;
    for (rest, status, says, is_for_all) in [
        ("limits: {max_query_length: 1d}", 422, "limits.max_query_length", true),
        ("limits: {max_points: 10}", 400, "exceeded maximum resolution of 10 points", true),
        ("limits: {max_query_bytes: 10}", 400, "limits.max_query_bytes", true),
        ("limits: {max_response_bytes: 1KiB}", 422, "limits.max_response_bytes", true),
        ("tenants: {team-a: {limits: {max_query_length: 1d}}}", 422, "tenants.team-a.limits.max_query_length", false),
        ("tenants: {team-a: {limits: {max_query_bytes: 10}}}", 400, "tenants.team-a.limits.max_query_bytes", false),
        ("block: [{query_regex: '.*up.*', reason: it hurts}]", 422, "it hurts", true),
        ("block: [{tenants: [team-a], range_longer_than: 1d, reason: it hurts}]", 422, "it hurts", false),
    ] {
        for _ in 0..2 {
            rig.reload(&before(
                url,
                &format!("multitenancy: {{enabled: true}}\ncache: {{memory: {{max_bytes: 0}}}}\n{rest}"),
            ))
            .await;
            assert_refused(&rig.ask(&question, TEAM_A).await, status, says);
            let other = rig.ask(&question, TEAM_B).await;
            if is_for_all {
                assert_refused(&other, status, says);
            } else {
                assert_eq!((other.status.as_u16(), &other.body), (200, &want.body), "{rest}");
            }
            rig.reload(&before(url, "multitenancy: {enabled: true}")).await;
            for tenant in [TEAM_A, TEAM_B] {
                let answer = rig.ask(&question, tenant).await;
                assert_eq!((answer.status.as_u16(), &answer.body), (200, &want.body), "after {rest}");
            }
        }
    }
    // A tenant that may do more than the others.
    rig.reload(&before(
        url,
        "multitenancy: {enabled: true}\nlimits: {max_query_length: 1d}\ntenants: {team-a: {limits: {max_query_length: 0s}}}",
    ))
    .await;
    assert_eq!(rig.ask(&question, TEAM_A).await.body, want.body);
    assert_refused(&rig.ask(&question, TEAM_B).await, 422, "limits.max_query_length");
    rig.reload(&before(url, "multitenancy: {enabled: true}\nlimits: {max_query_lookback: 1h}")).await;
    let narrowed = rig.ask(&question, TEAM_A).await;
    assert_eq!(narrowed.json()["data"]["result"], serde_json::json!([]), "all of it lies further back");
    assert_eq!(narrowed.status.as_u16(), 200);
}

#[tokio::test]
async fn tenants_are_told_apart_or_not() {
    let downstream = server("a").await;
    let rig = Rig::start(&before(&downstream.url, ""));
    for _ in 0..2 {
        assert_eq!(rig.ask("query?query=up", &[]).await.status.as_u16(), 200);
        rig.reload(&before(&downstream.url, "multitenancy: {enabled: true}")).await;
        assert_refused(&rig.ask("query?query=up", &[]).await, 401, "x-scope-orgid");
        assert_eq!(rig.ask("query?query=up", TEAM_A).await.status.as_u16(), 200);
        rig.reload(&before(&downstream.url, "multitenancy: {enabled: true, header: X-Team, federation: false}")).await;
        assert_refused(&rig.ask("query?query=up", TEAM_A).await, 401, "x-team");
        assert_refused(&rig.ask("query?query=up", &[("x-team", "a|b")]).await, 401, "multitenancy.federation");
        assert_eq!(rig.ask("query?query=up", &[("x-team", "a")]).await.status.as_u16(), 200);
        rig.reload(&before(&downstream.url, "")).await;
    }
}

/// A server that never answers: how long it is waited for is what holds when the question comes.
#[tokio::test]
async fn the_downstreams_timeout() {
    let downstream = Scripted::start(|_| None).await;
    let rig = Rig::start(&before(&downstream.url, ""));
    let question = range("up", 1, "60");
    let patient = rig.asking(&question, &[]);
    downstream.until_asked(1).await;
    rig.reload(&format!("downstream: {{urls: [\"{}\"], timeout: 300ms}}\n", downstream.url)).await;
    // Of another window: the same question would be waited for together with the first.
    let answer = rig.ask(&range("up", 2, "60"), &[]).await;
    assert_refused(&answer, 503, "downstream.timeout");
    assert_eq!(answer.json()["errorType"], "timeout");
    assert!(!patient.is_finished(), "it came when it was two minutes");
    patient.abort();
}

#[tokio::test]
async fn slots_are_those_of_the_file() {
    let downstream = gated("a").await;
    let slots = |count: usize| format!("downstream: {{urls: [\"{}\"], max_concurrent: {count}}}\n", downstream.url);
    let rig = Rig::start(&slots(1));
    for count in [4, 2, 1, 3] {
        rig.reload(&slots(count)).await;
        until("the slots are shown", async || rig.queues().await["slots"] == count).await;
        let before = downstream.asked();
        let asked: Vec<_> = (0..6).map(|i| rig.asking(&format!("query?query=up{i}"), &[])).collect();
        rig.until_queued("anonymous", 6 - count, count).await;
        downstream.until_asked(before + count).await;
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        rig.until_queued("anonymous", 0, 0).await;
    }
}

/// The bound of the queue and the code of its refusal; what waits already is not touched by a lower bound.
#[tokio::test]
async fn the_queues_bounds() {
    let downstream = gated("a").await;
    let yaml = |sched: &str| {
        format!("downstream: {{urls: [\"{}\"], max_concurrent: 1}}\nsched: {{{sched}}}\n", downstream.url)
    };
    let rig = Rig::start(&yaml(""));
    let mut asked = vec![rig.asking("query?query=running", &[])];
    downstream.until_asked(1).await;
    asked.extend((0..4).map(|i| rig.asking(&format!("query?query=waits{i}"), &[])));
    rig.until_queued("anonymous", 4, 1).await;
    rig.reload(&yaml("max_queued_per_tenant: 2")).await;
    rig.until_queued("anonymous", 4, 1).await;
    let full = rig.ask("query?query=no", &[]).await;
    assert_refused(&full, 503, "sched.max_queued_per_tenant");
    assert!(full.text().contains("limit is 2"), "{}", full.text());
    rig.reload(&yaml("max_queued_per_tenant: 2, full_status: 429")).await;
    assert_refused(&rig.ask("query?query=no", &[]).await, 429, "sched.max_queued_per_tenant");
    rig.reload(&yaml("max_queued: 3")).await;
    assert_refused(&rig.ask("query?query=no", &[]).await, 503, "(sched.max_queued)");
    rig.reload(&yaml("max_queued_per_tenant: 5")).await;
    asked.push(rig.asking("query?query=yes", &[]));
    rig.until_queued("anonymous", 5, 1).await;
    assert_refused(&rig.ask("query?query=no", &[]).await, 503, "limit is 5");
    rig.reload(
        &yaml("max_queued_per_tenant: 9")
            .replace("\nsched", "\ntenants: {anonymous: {limits: {max_queued: 1}}}\nsched"),
    )
    .await;
    downstream.open_gate();
    for answer in asked {
        assert_eq!(answer.await.expect("no panic").status.as_u16(), 200);
    }
}

/// Two tenants whose requests wait: the weights at the time when a slot is given out decide whose turn it is.
#[tokio::test]
async fn weights_of_those_who_wait_already() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let downstream = Scripted::gated(move |asked| {
        seen.lock().push(asked.param("query")?);
        Some(ok(EMPTY))
    })
    .await;
    let yaml = |weights: &str| {
        format!(
            "downstream: {{urls: [\"{}\"], max_concurrent: 1}}\nmultitenancy: {{enabled: true}}\ntenants: {{{weights}}}\n",
            downstream.url
        )
    };
    let rig = Rig::start(&yaml(""));
    let mut asked = vec![rig.asking("query?query=first", &[("x-scope-orgid", "other")])];
    downstream.until_asked(1).await;
    for i in 0..12 {
        asked.push(rig.asking(&format!("query?query=a{i}"), TEAM_A));
        asked.push(rig.asking(&format!("query?query=b{i}"), TEAM_B));
    }
    rig.until_queued("team-a", 12, 0).await;
    rig.until_queued("team-b", 12, 0).await;
    rig.reload(&yaml("team-a: {limits: {weight: 5}}")).await;
    downstream.open_gate();
    for answer in asked {
        assert_eq!(answer.await.expect("no panic").status.as_u16(), 200);
    }
    let order = order.lock().clone();
    let of_a = order[1..=12].iter().filter(|query| query.starts_with('a')).count();
    assert!((8..12).contains(&of_a), "five turns to one: {order:?}");
}

/// What reaches the server: headers, writes, and how ranges are cut.
#[tokio::test]
async fn what_is_passed_on() {
    let downstream = Recorded::usual().await;
    let url = downstream.url();
    let rig = Rig::start(&before(url, ""));
    let header = || downstream.asked().last().and_then(|asked| asked.header("x-mine").map(str::to_owned));
    for _ in 0..2 {
        rig.ask("query?query=up", &[("x-mine", "1")]).await;
        assert_eq!(header().as_deref(), Some("1"));
        rig.reload(&format!("downstream: {{urls: [\"{url}\"], forward_headers: [X-Other], allow_writes: true}}\n"))
            .await;
        rig.ask("query?query=up", &[("x-mine", "1")]).await;
        assert_eq!(header(), None);
        let write = rig.http.post(&format!("{}/api/v1/write", rig.promfront.url), "x").await;
        assert_eq!(write.status.as_u16(), 200, "{}", write.text());
        rig.reload(&before(url, "")).await;
        let write = rig.http.post(&format!("{}/api/v1/write", rig.promfront.url), "x").await;
        assert_refused(&write, 404, "downstream.allow_writes");
    }
    let parts = async |query: &str| {
        let before = downstream.asked().len();
        rig.ask(&range(query, 48, "600"), &[]).await;
        downstream.asked().len() - before
    };
    assert_eq!(parts("up").await, 3);
    rig.reload(&before(url, "split: {interval: 12h}")).await;
    assert_eq!(parts("up + 1").await, 5);
    rig.reload(&before(url, "split: {max_parts: 1}")).await;
    assert_eq!(parts("up + 2").await, 1);
}

/// What only a restart changes is told, and everything else of the file holds.
#[tokio::test]
async fn a_listener_is_told_about_and_stays_what_it_was() {
    let (a, b) = (server("a").await, server("b").await);
    let rig = Rig::start(&before(&a.url, ""));
    let warned = || rig.promfront.log().iter().filter(|line| line.contains("sched.grpc_listen_address")).count();
    assert_eq!(warned(), 0);
    rig.reload(&before(&b.url, "sched: {grpc_listen_address: '127.0.0.1:0'}")).await;
    until("it is logged", async || warned() == 1).await;
    assert!(rig.last().await.is_success);
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("b"));
    let log = rig.promfront.log();
    assert!(!log.iter().any(|line| line.contains("queriers may connect")), "{log:#?}");
}

/// Queriers can't connect where nobody listens: with all else of the file in force, the servers go on answering.
#[tokio::test]
async fn another_mode_is_told_about_and_somebody_still_answers() {
    let (a, b) = (server("a").await, server("b").await);
    let rig = Rig::start(&before(&a.url, ""));
    for mode in ["pull", "both"] {
        for (server, name) in [(&b, "b"), (&a, "a")] {
            let url = &server.url;
            let yaml = format!(
                "downstream: {{urls: [\"{url}\"], mode: {mode}}}\nsched: {{grpc_listen_address: '127.0.0.1:0', max_wait_for_querier: 1s}}\n"
            );
            rig.reload(&yaml).await;
            let answer = rig.ask("query?query=up", &[]).await;
            assert_eq!(answer.body, words_of(name), "{mode}: {}", answer.text());
        }
        until("it is logged", async || rig.promfront.log().iter().any(|line| line.contains("downstream.mode"))).await;
    }
}
