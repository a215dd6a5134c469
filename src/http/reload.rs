//! Another configuration without another process: read, checked, built, and only then in force.
//!
//! Whoever asks for a reload waits until it is in force, or learns why it is not: then everything goes on as it was. One at a
//! time. What listens is made at the start and stays: options that only a listener reads are told to need a restart.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::Mutex;

use super::{App, reply};
use crate::config::Config;
use crate::model::time::Timestamp;
use crate::service::Service;

/// Where configurations come from: the file and the flags, read and checked. It may block.
pub struct Loader {
    load: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
    /// One at a time.
    turn: Mutex<()>,
    last: parking_lot::Mutex<Last>,
}

/// How the last reload went.
#[derive(Clone, Copy, Debug)]
struct Last {
    is_success: bool,
    /// When one last was a success.
    success_at: Timestamp,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("last", &self.last).finish_non_exhaustive()
    }
}

impl Loader {
    /// Reads with `load`. The configuration of the start has just been read.
    pub fn new(load: impl Fn() -> Result<Config, String> + Send + Sync + 'static) -> Self {
        let last = Last { is_success: true, success_at: Timestamp::now() };
        Self { load: Box::new(load), turn: Mutex::default(), last: parking_lot::Mutex::new(last) }
    }
}

impl App {
    /// Puts the configuration as it is now in force. The reason says why the old one stays.
    pub async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let _turn = self.loader.turn.lock().await;
        let app = Arc::clone(self);
        // Reading files blocks.
        let loaded = tokio::task::spawn_blocking(move || (app.loader.load)()).await;
        let loaded =
            loaded.unwrap_or_else(|_| Err("reading the configuration met a fault of promfront's own".to_owned()));
        let outcome = loaded.and_then(|config| self.put_in_force(config));
        let is_success = outcome.is_ok();
        {
            let mut last = self.loader.last.lock();
            last.is_success = is_success;
            if is_success {
                last.success_at = Timestamp::now();
            }
        }
        self.report_reload();
        match &outcome {
            Ok(()) => tracing::info!("the configuration was loaded"),
            Err(error) => tracing::error!(error, "the configuration can't be loaded: the one before stays"),
        }
        outcome
    }

    fn put_in_force(&self, mut config: Config) -> Result<(), String> {
        let before = self.service();
        if before.config == config {
            return Ok(());
        }
        for option in fixed_options(&before.config, &config) {
            tracing::warn!(option, "the option has changed, and takes a restart to be in force");
        }
        if before.config.downstream.mode.has_queriers() != config.downstream.mode.has_queriers() {
            // Not half of it: with our own workers gone and no port for queriers nobody would answer.
            config.downstream.mode = before.config.downstream.mode;
        }
        let service = Service::build(config, &self.metrics, Some(&before))?;
        service.start(Some(&before));
        let before = self.replace(service);
        // What it still has to write is written, though nobody asks it any more.
        tokio::spawn(async move { before.cache.finish_writing().await });
        Ok(())
    }

    /// Shows in the metrics how the last reload went.
    pub(super) fn report_reload(&self) {
        let last = *self.loader.last.lock();
        self.metrics.config.successful.set(last.is_success.into());
        self.metrics.config.success_at.set(last.success_at.ms().div_euclid(1000));
    }
}

/// Options that changed and that only something reads which was made at the start.
fn fixed_options(before: &Config, now: &Config) -> Vec<&'static str> {
    let (was, is) = (&before.sched, &now.sched);
    let changed = [
        ("sched.grpc_listen_address", was.grpc_listen_address != is.grpc_listen_address),
        ("sched.grpc_tls", was.grpc_tls != is.grpc_tls),
        ("sched.grpc_max_message_bytes", was.grpc_max_message_bytes != is.grpc_max_message_bytes),
        ("sched.querier_path_prefix", was.querier_path_prefix != is.querier_path_prefix),
        ("sched.querier_stats", was.querier_stats != is.querier_stats),
        ("downstream.mode", before.downstream.mode.has_queriers() != now.downstream.mode.has_queriers()),
    ];
    changed.into_iter().filter_map(|(option, has_changed)| has_changed.then_some(option)).collect()
}

/// `PUT` or `POST /-/reload`.
pub(super) async fn reload(State(app): State<Arc<App>>, method: Method) -> Response {
    if let Some(refused) = refused(&app, &method) {
        return refused;
    }
    match app.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {error}\n")).into_response()
        }
    }
}

/// `PUT` or `POST /-/quit`.
pub(super) async fn quit(State(app): State<Arc<App>>, method: Method) -> Response {
    if let Some(refused) = refused(&app, &method) {
        return refused;
    }
    app.quit.notify_one();
    "Requesting termination... Goodbye!\n".into_response()
}

/// Prometheus's own words; also for a path that only the server behind would read as its own.
pub(super) fn refuse_lifecycle() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.\n").into_response()
}

fn refused(app: &App, method: &Method) -> Option<Response> {
    if !app.door.has_lifecycle {
        return Some(refuse_lifecycle());
    }
    if matches!(*method, Method::POST | Method::PUT) {
        return None;
    }
    let allow = [(header::ALLOW, HeaderValue::from_static("POST, PUT"))];
    Some((StatusCode::METHOD_NOT_ALLOWED, allow, "Only POST or PUT requests allowed\n").into_response())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfo {
    reload_config_success: bool,
    last_config_time: String,
}

/// `GET /-/runtimeinfo`: of Prometheus's page of that name what tells a reloader that its signal had an effect.
pub(super) async fn runtime_info(State(app): State<Arc<App>>) -> Response {
    let Last { is_success, success_at } = *app.loader.last.lock();
    let info = RuntimeInfo { reload_config_success: is_success, last_config_time: success_at.to_rfc3339() };
    let data = serde_json::to_string(&info).expect("plain values");
    reply::json(StatusCode::OK, format!(r#"{{"status":"success","data":{data}}}"#).into())
}
