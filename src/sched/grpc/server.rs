//! The gRPC server that remote queriers connect to.
//!
//! Neither the protocol nor a stream carries a credential: who can reach the port sees the queries of all tenants and may answer
//! them. It is for a private network, or for clients that show a certificate.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::codec::CompressionEncoding;
use tonic::server::Grpc;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::messages::{ClientToFrontend, FrontendToClient, NotifyClientShutdownRequest, NotifyClientShutdownResponse};
use super::options::Options;
use super::session::{Frontend, Session, is_true, querier_id};
use super::{NOTIFY_CLIENT_SHUTDOWN, OURS, PROCESS};
use crate::sched::dispatch::Dispatcher;

/// Streams of all queriers together. Each may hold one answer.
const MAX_STREAMS: u32 = 10_000;
/// Streams of one connection, and room for the call that announces a shutdown.
const MAX_STREAMS_PER_CONNECTION: u32 = 1_000;
/// So much of one answer may be on its way; with HTTP/2's default a far querier would wait for each 64 KiB.
const STREAM_WINDOW: u32 = 2 << 20;
/// … and of all answers of one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A querier behind a dead network is noticed by this, on idle streams too.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A ping that is not answered for so long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left), how long to wait before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// When all streams have ended, connections have so long to close.
const CLOSING: Duration = Duration::from_secs(2);

/// Serves queriers until `stop` resolves. Then idle streams end, busy ones first finish what they have.
pub async fn serve(
    listener: TcpListener,
    dispatcher: Arc<Dispatcher>,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), String> {
    let (stopper, mut stopping) = watch::channel(false);
    let places = Arc::new(Semaphore::new(MAX_STREAMS as usize));
    let mut builder = server();
    if let Some(tls) = options.tls.clone() {
        builder = builder.tls_config(tls).map_err(|error| format!("sched.grpc_tls: {}", innermost(&error)))?;
    }
    let frontend = Arc::new(Frontend {
        dispatcher,
        options,
        stopping: stopping.clone(),
        has_warned_of_encoding: AtomicBool::new(false),
        places: Arc::clone(&places),
    });
    let service = tower::service_fn(move |request| {
        let frontend = Arc::clone(&frontend);
        async move { Ok::<_, Infallible>(route(frontend, request).await) }
    });
    let stop = async {
        stop.await;
        stopper.send_replace(true);
    };
    let serving = builder.serve_with_incoming_shutdown(service, accepted(listener), stop);
    let drained = async {
        is_true(&mut stopping).await;
        let _all = places.acquire_many(MAX_STREAMS).await;
        tokio::time::sleep(CLOSING).await;
    };
    tokio::select! {
        ended = serving => ended.map_err(|error| innermost(&error)),
        () = drained => Ok(()),
    }
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
}

/// The connections, for ever.
fn accepted(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        match &accepted {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "can't set TCP_NODELAY");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a querier's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        Some((accepted.map(|(stream, _)| stream), listener))
    })
}

async fn route(
    frontend: Arc<Frontend>,
    request: http::Request<tonic::body::Body>,
) -> http::Response<tonic::body::Body> {
    let limit = frontend.options.max_message_bytes;
    warn_of_encoding(&frontend, request.headers());
    match request.uri().path() {
        PROCESS => {
            let mut grpc = Grpc::new(ProstCodec::<FrontendToClient, ClientToFrontend>::default())
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit);
            let process = tower::service_fn(move |request| ready(process(Arc::clone(&frontend), request)));
            grpc.streaming(process, request).await
        }
        NOTIFY_CLIENT_SHUTDOWN => {
            let mut grpc =
                Grpc::new(ProstCodec::<NotifyClientShutdownResponse, NotifyClientShutdownRequest>::default())
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd);
            let notify = tower::service_fn(move |request| ready(Ok(notified(&frontend, &request))));
            grpc.unary(notify, request).await
        }
        _ => Status::unimplemented("promfront serves frontend.Frontend alone").into_http(),
    }
}

/// tonic refuses what it cannot read, and the querier tries again for ever: somebody has to be told, once.
fn warn_of_encoding(frontend: &Frontend, headers: &http::HeaderMap) {
    let encoding = headers.get("grpc-encoding").and_then(|encoding| encoding.to_str().ok());
    let Some(encoding) = encoding.filter(|encoding| !["identity", "gzip", "zstd"].contains(encoding)) else { return };
    if !frontend.has_warned_of_encoding.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            encoding,
            "queriers compress in a way that is not spoken here: set -querier.frontend-client.grpc-compression to gzip, zstd or nothing"
        );
    }
}

type Outgoing = Result<FrontendToClient, Status>;

/// A new stream. It is answered at once: the querier waits for us to speak first.
fn process(
    frontend: Arc<Frontend>,
    request: Request<Streaming<ClientToFrontend>>,
) -> Result<Response<impl Stream<Item = Outgoing>>, Status> {
    let Ok(place) = Arc::clone(&frontend.places).try_acquire_owned() else {
        return Err(Status::resource_exhausted(format!("there are {MAX_STREAMS} streams already")));
    };
    let is_ours = request.metadata().contains_key(OURS);
    // There is never more than one message on its way: a session speaks when it was answered.
    let (outbound, sent) = mpsc::channel::<Outgoing>(1);
    let session = Session::new(frontend, request.into_inner(), outbound, is_ours);
    tokio::spawn(async move {
        session.run().await;
        drop(place);
    });
    Ok(Response::new(stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) })))
}

/// A querier announces that it leaves. Whether it is known is not told.
fn notified(
    frontend: &Frontend,
    request: &Request<NotifyClientShutdownRequest>,
) -> Response<NotifyClientShutdownResponse> {
    if let Some(querier) = querier_id(&request.get_ref().client_id) {
        tracing::info!(querier = querier.as_str(), "a querier leaves");
        frontend.dispatcher.leaving(&querier);
    }
    Response::new(NotifyClientShutdownResponse {})
}

/// The innermost reason of an error.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
