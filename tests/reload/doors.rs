//! By which doors a reload and the end are asked for, who may, and what they are told.

use http::Method;

use super::rig::{Rig, before, gated, server, words_of};
use crate::support::until;

const BROKEN: &str = "limits: {max_query_bites: 2}\n";

#[tokio::test]
async fn without_the_flag_nobody_reloads_over_http() {
    let downstream = server("a").await;
    let rig = Rig::prepared(&before(&downstream.url, ""), |_| ());
    let began = rig.last().await;
    assert!(began.is_success, "the first configuration is one that was loaded");
    rig.write(BROKEN);
    for what in ["reload", "quit"] {
        for method in [Method::POST, Method::PUT] {
            let answer = rig.lifecycle(method, what).await;
            assert_eq!((answer.status.as_u16(), answer.text().trim_end()), (403, "Lifecycle API is not enabled."));
        }
    }
    assert_eq!(rig.last().await, began, "nothing was read");
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"), "it still runs");
    assert_eq!(downstream.asked(), 1, "none of it is the server's to answer");
}

#[tokio::test]
async fn only_some_methods_reload() {
    let downstream = server("a").await;
    let rig = Rig::start(&before(&downstream.url, ""));
    let mut last = rig.last().await;
    for method in [Method::POST, Method::PUT] {
        let answer = rig.lifecycle(method.clone(), "reload").await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        let now = rig.last().await;
        assert!(now.is_success && now.success_at > last.success_at, "{method}: {now:?} after {last:?}");
        last = now;
    }
    for what in ["reload", "quit"] {
        for method in [Method::GET, Method::DELETE, Method::PATCH] {
            let answer = rig.lifecycle(method, what).await;
            assert_eq!((answer.status.as_u16(), answer.text().trim_end()), (405, "Only POST or PUT requests allowed"));
        }
        assert_eq!(rig.lifecycle(Method::HEAD, what).await.status.as_u16(), 405);
    }
    assert_eq!(rig.last().await, last);
    assert_eq!(downstream.asked(), 0, "none of it is the server's to answer");
}

/// A file that is wrong is told with its reason, and nothing of it is taken.
#[tokio::test]
async fn a_refused_file_changes_nothing_and_its_reason_is_told() {
    let downstream = server("a").await;
    let rig = Rig::start(&before(&downstream.url, ""));
    let began = rig.last().await;
    let elsewhere = server("b").await;
    for (rest, says) in [
        (BROKEN, "did you mean \"max_query_bytes\"?"),
        ("limits: {max_query_bytes: 2}\nlimits: {}\n", "limits"),
        ("limits: {max_query_bytes: 2}\nblock: [{query_regex: '('}]\n", "query_regex"),
        ("limits: {max_query_bytes: 2}\ncache: {memory: {max_bytes: [}\n", ":3:"),
        // Sound words about things that are not there.
        (
            "limits: {max_query_bytes: 2}\ncache: {remote: {redis: {url: 'redis://localhost', ca_file: /no/such/ca}}}\n",
            "/no/such/ca",
        ),
    ] {
        let said = rig.refused(&before(&elsewhere.url, rest)).await;
        assert!(said.starts_with("failed to reload config: ") && said.contains(says), "{says} is not in: {said}");
        let last = rig.last().await;
        assert_eq!((last.is_success, last.success_at), (false, began.success_at), "{rest}");
        let answer = rig.ask("query?query=up", &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &words_of("a")[..]), "{rest}: {}", answer.text());
        until("it is logged", async || rig.promfront.log().iter().any(|line| line.contains("level=ERROR"))).await;
    }
    let said = rig.refused("downstream: {urls: ['https://a:1'], tls: {ca_file: /no/such/ca}}\n").await;
    assert!(said.contains("/no/such/ca"), "{said}");
    let said = rig.refused("downstream: {urls: ['http://a:1'], bearer_token_file: /no/such/token}\n").await;
    assert!(said.contains("/no/such/token"), "{said}");
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("a"));
    rig.reload(&before(&elsewhere.url, "")).await;
    let last = rig.last().await;
    assert!(last.is_success && last.success_at > began.success_at);
    assert_eq!(&rig.ask("query?query=up", &[]).await.body[..], words_of("b"));
}

/// When it is answered it is in force: the next request is judged by it, on this connection and on others.
#[tokio::test]
async fn a_reload_is_answered_when_it_is_in_force() {
    let downstream = server("a").await;
    let rig = Rig::start(&before(&downstream.url, ""));
    for round in 0..25 {
        rig.reload(&before(&downstream.url, "limits: {max_query_bytes: 1}")).await;
        let refused =
            [rig.ask("query?query=up", &[]).await, rig.asking("query?query=up", &[]).await.expect("no panic")];
        for answer in refused {
            assert_eq!(answer.status.as_u16(), 400, "round {round}: {}", answer.text());
        }
        rig.reload(&before(&downstream.url, "")).await;
        let taken = [rig.ask("query?query=up", &[]).await, rig.asking("query?query=up", &[]).await.expect("no panic")];
        for answer in taken {
            assert_eq!(answer.status.as_u16(), 200, "round {round}: {}", answer.text());
        }
    }
}

/// Many who ask at once all get an answer, and what is in the file is what holds in the end.
#[tokio::test]
async fn many_reloads_at_once_end_in_what_the_file_says() {
    let downstream = server("a").await;
    let rig = Rig::start(&before(&downstream.url, ""));
    for round in 0..8 {
        let limit = if round % 2 == 0 { "limits: {max_query_bytes: 1}" } else { "" };
        rig.write(&before(&downstream.url, limit));
        let posts = futures::future::join_all((0..16).map(|i| {
            if i % 4 == 0 {
                rig.promfront.hang_up();
            }
            rig.post()
        }));
        for answer in posts.await {
            assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        }
        let expected = if round % 2 == 0 { 400 } else { 200 };
        assert_eq!(rig.ask("query?query=up", &[]).await.status.as_u16(), expected, "round {round}");
    }
}

/// `prometheus-config-reloader` with `--reload-method=signal`: the page says success, and a time that is another one.
#[tokio::test]
async fn a_reloader_that_signals_sees_each_reload() {
    let downstream = server("a").await;
    let rig = Rig::prepared(&before(&downstream.url, ""), |_| ());
    for round in 0..5 {
        let previous = rig.last().await;
        let limit = if round % 2 == 0 { "limits: {max_query_bytes: 1}" } else { "" };
        rig.write(&before(&downstream.url, limit));
        rig.promfront.hang_up();
        until("the reloader is told", async || {
            let last = rig.last().await;
            assert!(last.is_success, "the reloader would give up");
            last.success_at > previous.success_at
        })
        .await;
        let expected = if round % 2 == 0 { 400 } else { 200 };
        assert_eq!(rig.ask("query?query=up", &[]).await.status.as_u16(), expected, "round {round}");
    }
    let previous = rig.last().await;
    rig.write(BROKEN);
    rig.promfront.hang_up();
    rig.until_last(false).await;
    assert_eq!(rig.last().await.success_at, previous.success_at);
    until("the reason is logged", async || rig.promfront.log().iter().any(|line| line.contains("max_query_bites")))
        .await;
    assert_eq!(rig.ask("query?query=up", &[]).await.status.as_u16(), 400, "the last sound one holds");
}

/// The end is as after SIGTERM: what runs is answered, and the exit code is 0.
#[tokio::test]
async fn quitting_lets_requests_finish() {
    for method in [Method::POST, Method::PUT] {
        let downstream = gated("a").await;
        let mut rig = Rig::start(&before(&downstream.url, ""));
        let running = rig.asking("query?query=up", &[]);
        downstream.until_asked(1).await;
        let answer = rig.lifecycle(method, "quit").await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        until("nobody new is let in", async || {
            crate::support::Http::new().try_get(&format!("{}/-/healthy", rig.promfront.url)).await.is_none()
        })
        .await;
        assert!(rig.promfront.process().is_running(), "a request runs");
        downstream.open_gate();
        assert_eq!(&running.await.expect("no panic").body[..], words_of("a"));
        until("it ends", async || !rig.promfront.process().is_running()).await;
        assert_eq!(rig.promfront.process().terminate(), Some(0));
    }
}
