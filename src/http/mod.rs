//! The door: promfront's own pages, the API endpoint by endpoint, and everything else, which belongs to the downstream.

mod answer;
mod context;
pub mod cors;
mod form;
mod purge;
mod query;
mod queues;
mod range;
pub mod reload;
mod reply;
pub mod server;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures::FutureExt;
use http::header;
use http::{Method, StatusCode};
use tower::util::MapFutureLayer;

use parking_lot::RwLock;
use tokio::sync::Notify;

use self::cors::Cors;
use self::reload::Loader;
use crate::api::{self, Endpoint};
use crate::config::Config;
use crate::error::{ApiError, ErrorKind};
use crate::metrics::Metrics;
use crate::sched::dispatch::Dispatcher;
use crate::service::Service;
use crate::verdict::{Status, Verdict};

/// What the command line says about the door.
#[derive(Clone, Debug, Default)]
pub struct Door {
    /// Whether what is kept may be purged from outside.
    pub has_admin_api: bool,
    /// Whether a reload and the end may be asked for from outside.
    pub has_lifecycle: bool,
    /// Which pages of other origins may read.
    pub cors: Cors,
}

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    /// What is in force.
    service: RwLock<Arc<Service>>,
    metrics: Arc<Metrics>,
    loader: Loader,
    door: Door,
    quit: Notify,
    is_stopping: AtomicBool,
}

impl App {
    /// Builds everything from a checked configuration, inside of a tokio runtime. Nothing is waited for. `loader`: where the next
    /// one comes from.
    pub fn new(config: Config, loader: Loader, door: Door) -> Result<Arc<Self>, String> {
        let metrics = Arc::new(Metrics::new());
        let service = Service::build(config, &metrics, None)?;
        service.start(None);
        let app = Self {
            service: RwLock::new(Arc::new(service)),
            metrics,
            loader,
            door,
            quit: Notify::new(),
            is_stopping: AtomicBool::new(false),
        };
        app.report_reload();
        Ok(Arc::new(app))
    }

    /// What is in force. A request asks once.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.read())
    }

    fn replace(&self, service: Service) -> Arc<Service> {
        std::mem::replace(&mut *self.service.write(), Arc::new(service))
    }

    /// Where requests wait.
    pub fn dispatcher(&self) -> Arc<Dispatcher> {
        Arc::clone(self.service().downstream.dispatcher())
    }

    /// Resolves when the end was asked for from outside.
    pub async fn asked_to_quit(&self) {
        self.quit.notified().await;
    }

    /// From now on `/-/ready` says no.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// The last thing that is done.
    pub async fn finish(&self) {
        self.service().cache.finish_writing().await;
    }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "promfront is Healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", any(reload::reload))
        .route("/-/quit", any(reload::quit))
        .route("/-/runtimeinfo", get(reload::runtime_info))
        .route("/promfront/api/v1/purge", any(purge))
        .route("/promfront/api/v1/queues", get(queues))
        .fallback(route)
        .with_state(app)
        .layer(MapFutureLayer::new(answer_for_a_panic))
}

/// A fault of our own is that of one request: it is answered, and the connection and all others go on. (One that strikes while a body
/// is written ends its connection in the middle, so that nobody takes it for whole.)
async fn answer_for_a_panic<E>(answering: impl Future<Output = Result<Response, E>>) -> Result<Response, E> {
    AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a request met a fault of promfront's own");
        let message = "promfront met a fault of its own; its log tells where";
        Ok(reply::error(&ApiError::new(ErrorKind::Internal, message)))
    })
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let service = app.service();
    service.cache.report();
    service.answers.report();
    app.dispatcher().report();
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
    queues::answer(&app.dispatcher().snapshot())
}

/// The API is recognised under any path prefix, since a datasource URL may have one.
async fn route(State(app): State<Arc<App>>, mut request: Request) -> Response {
    let began = Instant::now();
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        let response = pass_through(&app, request).await;
        app.metrics.answered("other", response.status().as_u16(), began.elapsed());
        return response;
    };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_read = matches!(*request.method(), Method::GET | Method::POST);
    if endpoint != Endpoint::RemoteRead {
        reply::simplify_accepted_encodings(request.headers_mut());
    }
    let (mut response, verdict) = match endpoint {
        _ if request.method() == Method::OPTIONS => {
            (StatusCode::NO_CONTENT.into_response(), Verdict::new(Status::Bypass, "options"))
        }
        Endpoint::Range if is_read => range::answer(&app.service(), request, began).await,
        _ => query::answer(&app.service(), endpoint, request, began).await,
    };
    reply::annotate(&mut response, &verdict, began);
    app.door.cors.apply(origin.as_ref(), response.headers_mut());
    app.metrics.answered(endpoint.as_str(), response.status().as_u16(), began.elapsed());
    response
}

/// The server's pages. Who may not write may not end the server either.
async fn pass_through(app: &App, request: Request) -> Response {
    let service = app.service();
    if api::is_lifecycle(request.uri().path()) {
        return reload::refuse_lifecycle();
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !is_read && !service.config.downstream.allow_writes {
        return reply::error(&query::refusal(request.method(), request.uri()));
    }
    match service.downstream.forward(request).await {
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
