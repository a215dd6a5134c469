//! The door: promfront's own pages, range queries, and everything else, which belongs to the downstream.

mod caller;
mod context;
mod form;
mod purge;
mod query;
mod queues;
mod range;
mod reply;
pub mod server;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::FutureExt;
use http::StatusCode;
use http::header;
use tower::util::MapFutureLayer;

use self::caller::Tenancy;
use crate::cache::layer::ExtentCache;
use crate::cache::shared::SharedTier;
use crate::cache::store;
use crate::config::Config;
use crate::downstream::endpoints::Endpoints;
use crate::downstream::fetch::Downstream;
use crate::downstream::workers;
use crate::error::{ApiError, ErrorKind};
use crate::limits::Policy;
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::request::QueryApi;
use crate::sched::dispatch::Dispatcher;
use crate::verdict::{Status, Verdict};

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    pipeline: Pipeline,
    /// What requests are judged by.
    policy: Arc<Policy>,
    dispatcher: Arc<Dispatcher>,
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    metrics: Arc<Metrics>,
    /// How a request says whose it is, if there are tenants.
    tenancy: Option<Tenancy>,
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
        let tenancy = Tenancy::of(&config.multitenancy)?;
        let shared = shared_tier(config)?;
        let dispatcher = Dispatcher::new(config, Arc::clone(&metrics));
        let endpoints = endpoints(config)?;
        if let Some(endpoints) = &endpoints {
            let max_concurrent = config.downstream.max_concurrent;
            tokio::spawn(workers::keep(Arc::clone(endpoints), Arc::clone(&dispatcher), max_concurrent));
        }
        let policy = Arc::new(Policy::of(config)?);
        let judged = Arc::clone(&policy);
        let downstream = Downstream::new(Arc::clone(&dispatcher), endpoints, judged, Arc::clone(&metrics));
        let downstream = Arc::new(downstream);
        let cache = Arc::new(ExtentCache::new(&config.cache, shared, Arc::clone(&metrics)));
        let pipeline = {
            let (downstream, cache) = (Arc::clone(&downstream), Arc::clone(&cache));
            Pipeline::new(config, Arc::clone(&policy), downstream, cache, Arc::clone(&metrics))?
        };
        let (timeout, is_stopping) = (config.downstream.timeout, AtomicBool::new(false));
        Ok(Arc::new(Self {
            pipeline,
            policy,
            dispatcher,
            downstream,
            cache,
            metrics,
            tenancy,
            timeout,
            has_admin_api,
            is_stopping,
        }))
    }

    /// Where requests wait.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
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

/// Servers of our own, if there are any.
fn endpoints(config: &Config) -> Result<Option<Arc<Endpoints>>, String> {
    if !config.downstream.mode.has_workers() {
        return Ok(None);
    }
    let mut options = config.downstream.clone();
    if config.multitenancy.enabled {
        // What the answer depends on is passed on, whichever headers are named.
        options.forward_headers.push(config.multitenancy.header.clone());
    }
    Ok(Some(Arc::new(Endpoints::open(&options, &config.discovery)?)))
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
        .route("/promfront/api/v1/queues", get(queues))
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
    app.dispatcher.report();
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

async fn queues(State(app): State<Arc<App>>) -> Response {
    queues::answer(&app.dispatcher.snapshot())
}

/// Ours, so that a stranger's `POST` never reaches the downstream's.
async fn no_lifecycle() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.\n").into_response()
}

/// The query API is recognised under any path prefix, since a datasource URL may have one.
async fn route(State(app): State<Arc<App>>, request: Request) -> Response {
    let began = Instant::now();
    let is_api = request.uri().path().contains("/api/v1/");
    let (handler, response) = match QueryApi::of(request.method(), request.uri().path()) {
        Some(QueryApi::Range) => ("query_range", range::answer(&app, request, began).await),
        question => {
            let mut response = match question {
                Some(question) => query::answer(&app, question, request, began).await,
                None => pass_through(&app, request).await,
            };
            if is_api {
                reply::annotate(&mut response, &Verdict::new(Status::Bypass, "not-a-range-query"), began);
            }
            (if is_api { "api" } else { "other" }, response)
        }
    };
    app.metrics.answered(handler, response.status().as_u16(), began.elapsed());
    response
}

async fn pass_through(app: &App, request: Request) -> Response {
    match app.downstream.forward(request).await {
        Ok(response) => response,
        Err(error) => reply::error(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
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
