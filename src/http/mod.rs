//! The door: promfront's own pages, range queries, and everything else, which belongs to the downstream.

mod caller;
mod context;
pub mod cors;
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
use http::header::{self, HeaderName};
use http::{Method, StatusCode};
use tower::util::MapFutureLayer;

use self::cors::Cors;
use crate::api::Endpoint;
use crate::cache::layer::ExtentCache;
use crate::cache::shared::SharedTier;
use crate::cache::store;
use crate::cache::whole::WholeAnswers;
use crate::config::Config;
use crate::downstream::endpoints::Endpoints;
use crate::downstream::fetch::Downstream;
use crate::downstream::workers;
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metrics;
use crate::pipeline::Pipeline;
use crate::sched::dispatch::Dispatcher;
use crate::verdict::{Status, Verdict};
use crate::whole::Wholes;

/// What the command line says about the door.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Whether what is kept may be purged from outside.
    pub has_admin_api: bool,
    /// Which pages of other origins may read.
    pub cors: Cors,
}

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    pipeline: Pipeline,
    dispatcher: Arc<Dispatcher>,
    downstream: Arc<Downstream>,
    cache: Arc<ExtentCache>,
    answers: Arc<WholeAnswers>,
    wholes: Wholes,
    metrics: Arc<Metrics>,
    /// The header that says whose a request is, if there are tenants.
    tenant_header: Option<HeaderName>,
    /// How long a range query may take when the client does not say.
    timeout: Duration,
    /// Whether what changes the server's data is passed on.
    allows_writes: bool,
    /// Whether what is kept may be purged from outside.
    has_admin_api: bool,
    cors: Cors,
    is_stopping: AtomicBool,
}

impl App {
    /// Builds everything from a checked configuration, inside of a tokio runtime. Nothing is waited for.
    pub fn new(config: &Config, door: Door) -> Result<Arc<Self>, String> {
        let metrics = Arc::new(Metrics::new());
        let shared = shared_tier(config)?;
        let dispatcher = Dispatcher::new(config, Arc::clone(&metrics));
        let endpoints = endpoints(config)?;
        if let Some(endpoints) = &endpoints {
            let max_concurrent = config.downstream.max_concurrent;
            tokio::spawn(workers::keep(Arc::clone(endpoints), Arc::clone(&dispatcher), max_concurrent));
        }
        let downstream = Downstream::new(Arc::clone(&dispatcher), endpoints, &config.limits, Arc::clone(&metrics));
        let downstream = Arc::new(downstream);
        let cache = Arc::new(ExtentCache::new(&config.cache, shared, Arc::clone(&metrics)));
        let pipeline = Pipeline::new(config, Arc::clone(&downstream), Arc::clone(&cache), Arc::clone(&metrics))?;
        let answers = Arc::new(WholeAnswers::new(&config.cache.whole, cache.purger(), &metrics));
        let wholes = Wholes::new(config, Arc::clone(&downstream), Arc::clone(&answers), Arc::clone(&metrics))?;
        let (timeout, is_stopping) = (config.downstream.timeout, AtomicBool::new(false));
        let tenant_header = tenant_header(config)?;
        Ok(Arc::new(Self {
            pipeline,
            dispatcher,
            downstream,
            cache,
            answers,
            wholes,
            metrics,
            tenant_header,
            timeout,
            allows_writes: config.downstream.allow_writes,
            has_admin_api: door.has_admin_api,
            cors: door.cors,
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

fn tenant_header(config: &Config) -> Result<Option<HeaderName>, String> {
    if !config.multitenancy.enabled {
        return Ok(None);
    }
    let name = &config.multitenancy.header;
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map(Some).map_err(|_| format!("multitenancy.header: {name:?} is not the name of a header"))
}

/// Servers of our own, if there are any.
fn endpoints(config: &Config) -> Result<Option<Arc<Endpoints>>, String> {
    if !config.downstream.mode.has_workers() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Endpoints::open(&config.downstream, &config.discovery)?)))
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
    app.answers.report();
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

/// The API is recognised under any path prefix, since a datasource URL may have one.
async fn route(State(app): State<Arc<App>>, request: Request) -> Response {
    let began = Instant::now();
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        let response = pass_through(&app, request).await;
        app.metrics.answered("other", response.status().as_u16(), began.elapsed());
        return response;
    };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_read = matches!(*request.method(), Method::GET | Method::POST);
    let (mut response, verdict) = match endpoint {
        _ if request.method() == Method::OPTIONS => {
            (StatusCode::NO_CONTENT.into_response(), Verdict::new(Status::Bypass, "options"))
        }
        Endpoint::Range if is_read => range::answer(&app, request, began).await,
        _ => query::answer(&app, endpoint, request, began).await,
    };
    reply::annotate(&mut response, &verdict, began);
    app.cors.apply(origin.as_ref(), response.headers_mut());
    app.metrics.answered(endpoint.as_str(), response.status().as_u16(), began.elapsed());
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
