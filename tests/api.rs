//! The HTTP API, endpoint by endpoint: what is split, kept whole, passed on, turned into GET, answered here, or refused.
//!
//! Need: a client may send any request of the API with any method that it knows, and people rely on what becomes of it. Rule: each
//! treatment is shown from both sides, by what arrives at the downstream and by what the client is told. A real Prometheus where
//! its own words count; a scripted downstream where it has to be seen what arrives.

mod support;

#[path = "api/cors.rs"]
mod cors;
#[path = "api/encodings.rs"]
mod encodings;
#[path = "api/endpoints.rs"]
mod endpoints;
#[path = "api/instants.rs"]
mod instants;
#[path = "api/metadata.rs"]
mod metadata;
#[path = "api/parameters.rs"]
mod parameters;
#[path = "api/refusals.rs"]
mod refusals;

use axum::body::Body;
use http::Request;
use support::{Answer, Http};

/// A request with parameters in the URL, and with a form if it is a POST that has one.
fn request(method: &str, url: &str, form: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url);
    if method == "POST" && !form.is_empty() {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(form.to_owned())).expect("a sound request")
}

/// Its answer.
async fn send(method: &str, url: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
    Http::new().send(request(method, url, form, headers)).await
}

/// Whether it came out of the cache.
fn is_hit(answer: &Answer) -> bool {
    answer.result().starts_with("status=hit")
}
