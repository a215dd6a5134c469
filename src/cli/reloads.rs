//! When the configuration is loaded again: at SIGHUP, and, if that is wanted, when the file has another content.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::load::File;
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

/// Loads again whenever the content of the file is another than the one last read, be it loaded or refused. Never ends.
pub(super) async fn at_change(app: Arc<App>, file: Arc<File>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let file = Arc::clone(&file);
        // Reading files blocks.
        if matches!(tokio::task::spawn_blocking(move || file.has_changed()).await, Ok(true)) {
            let _ = app.reload().await;
        }
    }
}
