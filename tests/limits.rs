//! What tenants may ask, on a running promfront: the exact words of each refusal, what is left out, what is blocked, who is
//! told apart from whom, and what clients say about the cache.

mod support;

#[path = "limits/canary.rs"]
mod canary;
#[path = "limits/keys.rs"]
mod keys;
#[path = "limits/lookback.rs"]
mod lookback;
#[path = "limits/past_cache.rs"]
mod past_cache;
#[path = "limits/refusals.rs"]
mod refusals;
#[path = "limits/tenants.rs"]
mod tenants;

use axum::body::Body;
use http::Request;
use support::{Answer, Http};

/// Headers of a request.
type Headers<'h> = &'h [(&'h str, &'h str)];

/// GET with headers.
async fn ask(base: &str, path_and_query: &str, headers: Headers<'_>) -> Answer {
    let mut request = Request::get(format!("{base}/api/v1/{path_and_query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Http::new().send(request.body(Body::empty()).expect("sound")).await
}

/// Whether `PROMFRONT_SHARE=1` asks for all of it.
fn is_full() -> bool {
    std::env::var("PROMFRONT_SHARE").is_ok_and(|share| share == "1")
}
