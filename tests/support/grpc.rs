//! A frontend's pull port on loopback, and a querier that says exactly the bytes that a test wants it to.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes};
use futures::stream;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt;
use promfront::config::{Config, Sched};
use promfront::error::ApiError;
use promfront::metrics::Metrics;
use promfront::model::tenant::TenantId;
use promfront::request::Outgoing;
use promfront::sched::dispatch::{Dispatcher, Standing, Submission};
use promfront::sched::grpc::messages::{ClientToFrontend, FrontendToClient, HttpRequest, HttpResponse, Kind};
use promfront::sched::grpc::options::Options;
use promfront::sched::grpc::server;
use promfront::sched::queue::snapshot::QuerierCounts;
use promfront::sched::queue::words::{Fingerprint, Lane, Source};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

/// Whoever waits longer waits in vain.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a client got.
pub type Outcome = Result<Response<Bytes>, ApiError>;

/// A dispatcher, and the port at which queriers pull from it.
#[derive(Debug)]
pub struct Frontend {
    pub dispatcher: Arc<Dispatcher>,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), String>>,
}

impl Frontend {
    pub async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    /// With other options than the default ones.
    pub async fn start_with(change: impl FnOnce(&mut Sched, &mut Options)) -> Self {
        let mut sched = Sched::default();
        let mut options = Options::new(&sched).expect("the defaults are sound");
        change(&mut sched, &mut options);
        Self::start_at("127.0.0.1:0", &sched, options).await
    }

    pub async fn start_at(address: &str, sched: &Sched, options: Options) -> Self {
        let listener = TcpListener::bind(address).await.expect("a loopback port");
        let address = listener.local_addr().expect("it is bound");
        let config = Config { sched: sched.clone(), ..Config::default() };
        let dispatcher = Dispatcher::new(&config, Arc::new(Metrics::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server::serve(listener, Arc::clone(&dispatcher), options, async {
            let _ = stopped.await;
        });
        Self { address, stop: Some(stop), server: tokio::spawn(serving), dispatcher }
    }

    /// A client asks; it waits so long.
    pub fn ask_for(&self, outgoing: Outgoing, wait: Duration) -> JoinHandle<Outcome> {
        self.ask_as("anonymous", outgoing, wait)
    }

    /// A client of a tenant asks.
    pub fn ask_as(&self, tenant: &str, outgoing: Outgoing, wait: Duration) -> JoinHandle<Outcome> {
        let standing = Standing {
            tenant: TenantId::named(tenant),
            source: Source(0),
            lane: Lane::Normal,
            cost: 1,
            fingerprint: Fingerprint(
                outgoing.query.bytes().fold(7, |hash, byte| hash * 31 % 1_000_003 + u64::from(byte)),
            ),
        };
        let submission = Submission { outgoing, deadline: Instant::now() + wait, standing };
        let dispatcher = Arc::clone(&self.dispatcher);
        tokio::spawn(async move { whole(dispatcher.ask(submission).await?).await })
    }

    /// A client asks for a path and a query.
    pub fn ask(&self, path: &str, query: &str) -> JoinHandle<Outcome> {
        self.ask_for(get(path, query), PATIENCE)
    }

    /// The queriers that are there.
    pub fn queriers(&self) -> Vec<QuerierCounts> {
        self.dispatcher.snapshot().queriers
    }

    /// Slots of the queriers that serve.
    pub fn slots(&self) -> usize {
        self.dispatcher.snapshot().slots
    }

    /// Resolves when there are so many slots.
    pub async fn until_slots(&self, count: usize) {
        until(|| self.slots() == count, "slots").await;
    }

    /// Requests that queriers run.
    pub fn running(&self) -> usize {
        let lanes = self.dispatcher.snapshot().lanes;
        Lane::ALL.iter().map(|lane| lanes[*lane].running).sum()
    }

    /// Begins to stop.
    pub fn stop(&mut self) {
        let _ = self.stop.take().expect("it is stopped once").send(());
    }

    /// Resolves when it has stopped.
    pub async fn stopped(self) {
        let served = tokio::time::timeout(PATIENCE, self.server).await.expect("it stops").expect("it does not panic");
        assert_eq!(served, Ok(()));
    }
}

async fn whole(response: Response<Body>) -> Outcome {
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the body was held whole").to_bytes();
    Ok(Response::from_parts(head, body))
}

/// What a client got, if it got something in time.
pub async fn outcome(asked: JoinHandle<Outcome>) -> Outcome {
    tokio::time::timeout(PATIENCE, asked).await.expect("whoever waits gets an outcome").expect("it does not panic")
}

pub fn get(path: &str, query: &str) -> Outgoing {
    Outgoing {
        method: Method::GET,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

/// Waits for something that is about to happen; a test that waits in vain fails.
pub async fn until(happened: impl Fn() -> bool, what: &str) {
    let looked = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// A stream whose other end is a frontend.
#[derive(Debug)]
pub struct Querier {
    outbound: Option<mpsc::Sender<Bytes>>,
    inbound: Streaming<Bytes>,
}

/// How a querier opens its stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// It says that it is of promfront.
    pub is_ours: bool,
    /// It compresses what it says.
    pub compresses: Option<CompressionEncoding>,
}

impl Querier {
    /// A stream that is open and says nothing yet.
    pub async fn open(frontend: &Frontend, manner: Manner) -> Self {
        Self::open_over(channel(frontend.address).await, manner).await
    }

    pub async fn open_over(channel: Channel, manner: Manner) -> Self {
        let mut grpc = Grpc::new(channel).max_decoding_message_size(1 << 30).max_encoding_message_size(1 << 30);
        if let Some(encoding) = manner.compresses {
            grpc = grpc.send_compressed(encoding);
        }
        let (outbound, queued) = mpsc::channel::<Bytes>(8);
        let queued = stream::unfold(queued, |mut queued| async move { Some((queued.recv().await?, queued)) });
        let mut request = Request::new(queued);
        if manner.is_ours {
            request.metadata_mut().insert("x-promfront-querier", MetadataValue::from_static("1"));
        }
        grpc.ready().await.expect("the frontend is there");
        let path = PathAndQuery::from_static("/frontend.Frontend/Process");
        let inbound = grpc.streaming(request, path, Raw).await.expect("the stream opens").into_inner();
        Self { outbound: Some(outbound), inbound }
    }

    /// A stream of a querier of this name, that takes requests.
    pub async fn named(frontend: &Frontend, name: &str) -> Self {
        Self::named_in(frontend, name, Manner::default()).await
    }

    pub async fn named_in(frontend: &Frontend, name: &str, manner: Manner) -> Self {
        let mut querier = Self::open(frontend, manner).await;
        let asked = querier.next().await.expect("the stream is open").expect("the frontend speaks first");
        assert_eq!(asked, FrontendToClient::get_id());
        querier.say(&ClientToFrontend::id(name)).await;
        querier
    }

    /// What the frontend says next; none at a clean end.
    pub async fn next(&mut self) -> Result<Option<FrontendToClient>, Status> {
        let said = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("the frontend says something");
        Ok(said?.map(|bytes| FrontendToClient::decode(bytes).expect("it is a message")))
    }

    /// The next request.
    pub async fn request(&mut self) -> HttpRequest {
        let said = self.next().await.expect("the stream is open").expect("the stream has not ended");
        assert_eq!(said.kind, i32::from(Kind::HttpRequest));
        said.http_request.expect("a querier's process ends without one")
    }

    pub async fn say(&self, message: &ClientToFrontend) {
        self.say_raw(message.encode_to_vec()).await;
    }

    pub async fn say_raw(&self, bytes: impl Into<Bytes>) {
        let outbound = self.outbound.as_ref().expect("its half has not ended");
        outbound.send(bytes.into()).await.expect("the stream is open");
    }

    pub async fn answer(&self, code: i32, body: &'static str) {
        self.say(&answer(code, body)).await;
    }

    /// Ends its own half.
    pub fn end(&mut self) {
        self.outbound = None;
    }

    /// The status by which the frontend ends the stream.
    pub async fn cancelled(&mut self) -> String {
        match self.next().await {
            Err(status) if status.code() == Code::Cancelled => status.message().to_owned(),
            other => panic!("the stream is not cancelled: {other:?}"),
        }
    }
}

pub fn answer(code: i32, body: &'static str) -> ClientToFrontend {
    ClientToFrontend::answer(HttpResponse { code, headers: Vec::new(), body: Bytes::from_static(body.as_bytes()) })
}

pub async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("it is a URL");
    endpoint.connect().await.expect("the frontend listens")
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
