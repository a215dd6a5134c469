//! The door: promfront's own pages, range queries, and everything else, which belongs to the downstream.

mod purge;
mod range;
mod reply;
pub mod server;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::FutureExt;
use http::{Method, StatusCode, header};
use tower::util::MapFutureLayer;

use crate::cache::layer::ExtentCache;
use crate::cache::shared::SharedTier;
use crate::cache::store;
use crate::config::Config;
use crate::downstream::http::Downstream;
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::verdict::{Status, Verdict};

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    pipeline: Pipeline,
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    metrics: Arc<Metrics>,
    /// How long a range query may take when the client does not say.
    timeout: Duration,
    /// Whether what is kept may be purged from outside.
    has_admin_api: bool,
    is_stopping: AtomicBool,
}

impl App {
    /// Builds everything from a checked configuration, inside of a tokio runtime. Nothing is waited for.
    pub fn new(config: &Config, has_admin_api: bool) -> Result<Arc<Self>, String> {
        let metrics = Arc::new(Metrics::new());
        let shared = shared_tier(config)?;
        let downstream = Arc::new(Downstream::new(&config.downstream, &config.limits, Arc::clone(&metrics))?);
        let cache = Arc::new(ExtentCache::new(&config.cache, shared, Arc::clone(&metrics)));
        let pipeline = Pipeline::new(config, Arc::clone(&downstream), Arc::clone(&cache), Arc::clone(&metrics))?;
        let (timeout, is_stopping) = (config.downstream.timeout, AtomicBool::new(false));
        Ok(Arc::new(Self { pipeline, downstream, cache, metrics, timeout, has_admin_api, is_stopping }))
    }

    /// From now on `/-/ready` says no.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// The last thing that is done.
    pub async fn finish(&self) {
        self.cache.finish_writing().await;
    }
}

/// The shared tier, if one is configured.
fn shared_tier(config: &Config) -> Result<Option<SharedTier>, String> {
    let Some(remote) = &config.cache.remote else { return Ok(None) };
    let opened = store::open(remote, &config.discovery)?;
    let namespace = config.namespace();
    Ok(opened.map(|(store, timeout)| SharedTier::new(store, timeout, remote.max_queued_bytes, namespace)))
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "promfront is Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", any(no_lifecycle))
        .route("/-/quit", any(no_lifecycle))
        .route("/promfront/api/v1/purge", any(purge))
        .fallback(route)
        .with_state(app)
        .layer(MapFutureLayer::new(answer_for_a_panic))
}

/// A fault of our own is that of one request: it is answered, and the connection and all others go on.
async fn answer_for_a_panic<E>(answering: impl Future<Output = Result<Response, E>>) -> Result<Response, E> {
    AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a request met a fault of promfront's own");
        let message = "promfront met a fault of its own; its log tells where";
        Ok(reply::error(&ApiError::new(ErrorKind::Internal, message)))
    })
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.cache.report();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], app.metrics.encode())
        .into_response()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "promfront is stopping.\n").into_response();
    }
    "promfront is Ready.\n".into_response()
}

async fn purge(State(app): State<Arc<App>>, request: Request) -> Response {
    purge::answer(&app, request).await
}

/// Ours, so that a stranger's `POST` never reaches the downstream's.
async fn no_lifecycle() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.\n").into_response()
}

/// A range query is recognised under any path prefix, since a datasource URL may have one.
async fn route(State(app): State<Arc<App>>, request: Request) -> Response {
    let began = Instant::now();
    let (handler, response) = if is_range_query(&request) {
        ("query_range", range::answer(&app, request, began).await)
    } else {
        let is_api = request.uri().path().contains("/api/v1/");
        let mut response = pass_through(&app, request).await;
        if is_api {
            reply::annotate(&mut response, &Verdict::new(Status::Bypass, "not-a-range-query"), began);
        }
        (if is_api { "api" } else { "other" }, response)
    };
    app.metrics.answered(handler, response.status().as_u16(), began.elapsed());
    response
}

fn is_range_query(request: &Request) -> bool {
    request.uri().path().ends_with("/api/v1/query_range") && matches!(*request.method(), Method::GET | Method::POST)
}

async fn pass_through(app: &App, request: Request) -> Response {
    match app.downstream.forward(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => reply::error(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_answered() {
        async fn broken() -> &'static str {
            panic!("a handler broke (this is a test)")
        }
        let router: Router = Router::new().route("/", get(broken)).layer(MapFutureLayer::new(answer_for_a_panic));
        let request = Request::get("/").body(Body::empty()).expect("sound");
        let response = router.oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1024).await.expect("short");
        assert!(body.starts_with(br#"{"status":"error","errorType":"internal","error":"#));
    }
}
