//! When the configuration is loaded again: at SIGHUP, and, if that is wanted, when the file has another content.
//!
//! The content is compared, not the time of the file: a mounted `ConfigMap` changes by a link that points elsewhere.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use xxhash_rust::xxh3::xxh3_128;

use crate::http::App;

/// Loads again at each SIGHUP. Never ends. From the call on no SIGHUP ends the process, though nobody looks at it yet.
pub(super) fn at_hangup(app: Arc<App>) -> impl Future<Output = ()> {
    let hangup = signal(SignalKind::hangup());
    async move {
        let mut hangup = match hangup {
            Ok(hangup) => hangup,
            Err(error) => return tracing::error!(%error, "can't wait for SIGHUP"),
        };
        while hangup.recv().await.is_some() {
            // It is told in the log and in the metrics how it went.
            let _ = app.reload().await;
        }
    }
}

/// Loads again whenever the content of the file is another than it was. Never ends.
///
/// The first look loads too: the file may have changed since it was read for the start.
pub(super) async fn at_change(app: Arc<App>, file: PathBuf, interval: Duration) {
    let mut known = None;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = content(&file).await;
        if known != Some(now) {
            known = Some(now);
            let _ = app.reload().await;
        }
    }
}

/// A hash of the content; none if it can't be read.
async fn content(file: &std::path::Path) -> Option<u128> {
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    read.ok()?.ok().map(|bytes| xxh3_128(&bytes))
}
