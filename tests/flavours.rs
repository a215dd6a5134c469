//! Servers that speak the API of Prometheus and are not Prometheus.
//!
//! Need: what makes two of their questions differ, and what makes an answer unfit to be kept, is not in Prometheus's manual. Rule: the
//! client gets what the server would have said to the whole request. VictoriaMetrics is a real one; Thanos and Cortex are
//! played after their documentation, for there is no package of them.

mod support;

#[path = "flavours/played.rs"]
mod played;
#[path = "flavours/victoriametrics.rs"]
mod victoriametrics;

use axum::body::Body;
use http::Request;
use support::{Answer, Http};

/// GET with headers.
async fn get(url: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    Http::new().send(request.body(Body::empty()).expect("a sound URL")).await
}

/// Whether it came out of the cache.
fn is_hit(answer: &Answer) -> bool {
    answer.result().starts_with("status=hit")
}
