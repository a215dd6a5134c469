//! Processes that pull: `promfront querier` beside real servers, killed, paused, told to end, and started again under load.
//!
//! Need: a querier may go away at any moment, with anything in its hands, and come back. Rule: no answer is wrong, no request
//! is left without one, and a client meets an error only where the tries or the budget for them ran out; a querier that is told
//! to end loses nothing at all. Answers are held against those of a Prometheus that nothing is done to, byte for byte.

mod support;

#[path = "pull/chaos.rs"]
mod chaos;
#[path = "pull/leaving.rs"]
mod leaving;
#[path = "pull/limits.rs"]
mod limits;
#[path = "pull/load.rs"]
mod load;
#[path = "pull/suspects.rs"]
mod suspects;
#[path = "pull/works.rs"]
mod works;

use axum::body::Body;
use http::Request;
use support::{Answer, Http, Promfront};
use tokio::task::JoinHandle;

/// An answer that says nothing.
const EMPTY: &[u8] = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

/// A promfront without servers of its own, and where its queriers connect. `sched`: more options of that section.
async fn frontend(sched: &str) -> (Promfront, String) {
    frontend_at("127.0.0.1:0", sched).await
}

/// The same at a port for queriers.
async fn frontend_at(address: &str, sched: &str) -> (Promfront, String) {
    let comma = if sched.is_empty() { "" } else { ", " };
    let yaml = format!("downstream: {{mode: pull}}\nsched: {{grpc_listen_address: \"{address}\"{comma}{sched}}}\n");
    let promfront = Promfront::configured("http://127.0.0.1:9", &yaml);
    let address = promfront.frontend_address().await;
    (promfront, address)
}

/// Asks, while the test goes on.
fn asking(promfront: &Promfront, path_and_query: &str) -> JoinHandle<Answer> {
    let request = Request::get(format!("{}/api/v1/{path_and_query}", promfront.url));
    let request = request.body(Body::empty()).expect("sound");
    tokio::spawn(async move { Http::new().send(request).await })
}
