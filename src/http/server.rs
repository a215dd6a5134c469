//! Accepting connections, and letting those that are busy finish.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A head as long as Go's default allows, and some room. (The URL alone may have 64 KiB: longer queries are posted.)
const MAX_HEAD_BYTES: usize = (1 << 20) + 4096;
/// A connection that is silent, or slow with the head of a request, is closed after this: Prometheus's `--web.read-timeout`,
/// and longer than clients keep idle connections, so that it is they who close.
const HEAD_TIMEOUT: Duration = Duration::from_mins(5);
/// What may wait in the kernel for a peer on this machine. Linux doubles it, for what carries the bytes.
const LOCAL_SEND_BUFFER: usize = 512 << 10;
/// After a failed accept (no file descriptors left), how long to wait before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` resolves; then accepts no more and waits for requests in flight, at most `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            (place, accepted) = accept(&listener, &places) => match accepted {
                Ok((stream, peer)) => {
                    if let Err(error) = tune(&stream, peer) {
                        tracing::debug!(%error, %peer, "can't set the options of a connection");
                    }
                    connection(stream, router.clone(), &graceful, place);
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    tracing::info!(connections = graceful.count(), "stopping: finishing what is in flight");
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests in flight");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    (place, listener.accept().await)
}

/// What is written is sent at once; and between us and a peer on this machine, who reads while we write, no more waits than stays
/// in the processor's cache. For others the kernel knows better: how much may be on its way depends on how far away they are.
fn tune(stream: &TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if peer.ip().to_canonical().is_loopback() {
        SockRef::from(stream).set_send_buffer_size(LOCAL_SEND_BUFFER)?;
    }
    Ok(())
}

fn connection(stream: TcpStream, router: Router, graceful: &GracefulShutdown, place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}

/// Resolves at SIGTERM or SIGINT.
pub async fn stop_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn little_waits_for_a_peer_on_this_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (stream, peer)) = (client.expect("it listens"), accepted.expect("it connects"));
        let size = || SockRef::from(&stream).send_buffer_size().expect("it is open");
        let before = size();
        tune(&stream, SocketAddr::from(([192, 0, 2, 1], 1))).expect("it is open");
        assert_eq!(size(), before, "whoever is far away keeps what the kernel gives");
        assert!(stream.nodelay().expect("it is open"));
        for peer in [peer, SocketAddr::new("::ffff:127.0.0.1".parse().expect("an address"), 1)] {
            SockRef::from(&stream).set_send_buffer_size(64 << 10).expect("it is open");
            let small = size();
            tune(&stream, peer).expect("it is open");
            assert!(size() > small, "{size} instead of {small}", size = size());
            assert!(size() <= 2 * LOCAL_SEND_BUFFER, "Linux counts both the bytes and what carries them: {}", size());
        }
    }
}
