//! What Grafana's Prometheus datasource and other clients send, request by request, to a real Prometheus and to a promfront
//! before it.
//!
//! Need: a datasource must not notice the proxy. Rule: each row of the tables is a request in the shape that the client gives it; asked
//! twice through promfront it gets the status, the body and the content type that Prometheus gives it directly, but for what the
//! row declares with its reason, and the row says whether the second answer must come out of the cache, or must not.

mod support;

#[path = "grafana/datasource.rs"]
mod datasource;
#[path = "grafana/editor.rs"]
mod editor;
#[path = "grafana/headers.rs"]
mod headers;
#[path = "grafana/others.rs"]
mod others;
#[path = "grafana/row.rs"]
mod row;

use row::{Row, replay};
use support::{Http, Prometheus, Promfront};

#[tokio::test]
async fn panels_and_alerts_see_their_prometheus() {
    replay(datasource::ROWS).await;
}

#[tokio::test]
async fn the_editor_and_the_variables_see_their_prometheus() {
    replay(editor::ROWS).await;
}

#[tokio::test]
async fn headers_decide_about_the_cache_and_never_about_the_answer() {
    replay(headers::ROWS).await;
}

#[tokio::test]
async fn other_clients_see_their_prometheus() {
    replay(others::ROWS).await;
}

/// A query of type *Both* is a range and an instant at the same time, and a panel sends up to ten of them.
#[tokio::test]
async fn a_panel_of_ten_queries_of_both_types_at_once() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let rows: Vec<&Row> = datasource::ROWS.iter().filter(|row| row.name.starts_with("both: ")).collect();
    assert_eq!(rows.len(), 2);
    let http = Http::new();
    let mut want = Vec::new();
    for row in &rows {
        want.push(http.send(row.direct(&prometheus.url)).await.plain());
    }
    let ten = (0..20).map(|i| http.send(rows[i % 2].request(&promfront.url)));
    for (i, answer) in futures::future::join_all(ten).await.iter().enumerate() {
        assert_eq!(answer.plain(), want[i % 2], "{}: {}", rows[i % 2].name, answer.result());
    }
}
