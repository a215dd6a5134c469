//! Items on memcached servers, over the classic text protocol.
//!
//! A place belongs to the server with the highest hash of both ([`Node::score`]), so that a server that comes or goes moves
//! only its own share, and all replicas agree as long as they name the servers alike. Nobody stands in for a server that is
//! gone: its items are misses.
//!
//! The protocol has no numbers by which an answer finds its question. So a connection belongs to one call at a time and is
//! kept only when the answer was read to its end and was sound; after anything else, be it that nobody waits for the answer
//! any more, it is closed. What a server says is never trusted with memory: a value that was not asked for, or is longer
//! than any that we write, is refused before its first byte is read.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::breaker::Breaker;
use super::{Item, Loss, Read, Server, Store, Write};
use crate::discovery::{self, Address, Discovery, Servers};

/// A connection that was idle for longer may have been forgotten by something between us and the server.
const IDLE_FOR: Duration = Duration::from_mins(1);
/// A longer time to live would be taken for a date.
const MAX_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Memcached's own bound, in bytes.
const MAX_KEY: usize = 250;
/// No line of an answer is longer, in bytes.
const MAX_LINE: usize = 512;
/// A value that others wrote may be longer than ours by this, in bytes.
const SLACK: usize = 1024;
/// A value up to this many bytes is copied to stand in one write with what is around it.
const COPIED: usize = 16 << 10;
/// The room that is made for bytes before they come: at least and at most. A buffer that is full doubles.
const ROOM: (usize, usize) = (16 << 10, 64 << 10);

/// How memcached is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// No value may be longer than this. The server's own limit, 1 MiB unless it was started with another one, is for the
    /// value, its key and up to 59 bytes of its own together.
    pub max_value_bytes: usize,
    /// Connections to each server that are kept while nobody uses them.
    pub max_idle: usize,
    /// Connections to each server in all; further calls wait for one, until their deadline.
    pub max_connections: usize,
    /// How the names of the servers are resolved.
    pub discovery: discovery::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_value_bytes: (1 << 20) - 1024,
            max_idle: 16,
            max_connections: 128,
            discovery: discovery::Options::default(),
        }
    }
}

/// The servers behind a list of addresses.
#[derive(Debug)]
pub struct Memcached {
    discovery: Discovery,
    known: RwLock<Known>,
    options: Options,
}

/// The nodes for a list of servers.
#[derive(Debug)]
struct Known {
    servers: Servers,
    nodes: Arc<[Arc<Node>]>,
}

impl Memcached {
    /// The servers behind `addresses`. Nothing is connected yet. To be called within a tokio runtime.
    pub fn new(addresses: Vec<Address>, options: Options) -> Self {
        let discovery = Discovery::new(addresses, options.discovery.clone());
        let servers = discovery.servers();
        let nodes = servers.iter().map(|server| Arc::new(Node::new(&server.address, &options))).collect();
        Self { discovery, known: RwLock::new(Known { servers, nodes }), options }
    }

    /// A node for each server. One that stays in the list keeps its breaker and its connections, one that left loses them.
    fn nodes(&self) -> Arc<[Arc<Node>]> {
        let servers = self.discovery.servers();
        let known = self.known.read();
        if Arc::ptr_eq(&known.servers, &servers) {
            return Arc::clone(&known.nodes);
        }
        drop(known);
        let mut known = self.known.write();
        let servers = self.discovery.servers();
        let node = |name: &str| {
            let kept = known.nodes.iter().find(|node| *node.name == *name);
            kept.map_or_else(|| Arc::new(Node::new(name, &self.options)), Arc::clone)
        };
        let nodes: Arc<[_]> = servers.iter().map(|server| node(&server.address)).collect();
        *known = Known { servers, nodes: Arc::clone(&nodes) };
        nodes
    }

    /// Has `batch` answered by the server of `place`.
    async fn ask(&self, place: u128, batch: &mut impl Batch, deadline: Instant) -> Result<(), Loss> {
        let node = owner(&self.nodes(), place).ok_or(Loss::Unavailable)?;
        node.ask(batch, deadline).await
    }
}

impl Store for Memcached {
    fn read<'a>(&'a self, place: u128, keys: &'a [String], deadline: Instant) -> BoxFuture<'a, Vec<Read>> {
        async move {
            let mut gets = Gets::new(keys, self.options.max_value_bytes + SLACK);
            let outcome = if keys.is_empty() { Ok(()) } else { self.ask(place, &mut gets, deadline).await };
            gets.outcomes(outcome)
        }
        .boxed()
    }

    fn write(&self, place: u128, items: Vec<Item>, deadline: Instant) -> BoxFuture<'_, Vec<Write>> {
        async move {
            let mut sets = Sets::new(&items, self.options.max_value_bytes);
            let outcome = if sets.sent.is_empty() { Ok(()) } else { self.ask(place, &mut sets, deadline).await };
            sets.outcomes(outcome)
        }
        .boxed()
    }

    fn max_value_bytes(&self) -> usize {
        self.options.max_value_bytes
    }

    fn servers(&self) -> Vec<Server> {
        let server = |node: &Arc<Node>| Server { name: node.name.to_string(), is_open: node.breaker.is_open() };
        self.nodes().iter().map(server).collect()
    }
}

/// One server.
#[derive(Debug)]
struct Node {
    name: Box<str>,
    seed: u64,
    breaker: Breaker,
    idle: Idle,
    connections: Semaphore,
}

/// The node that a place belongs to.
fn owner(nodes: &[Arc<Node>], place: u128) -> Option<Arc<Node>> {
    nodes.iter().max_by_key(|node| node.score(place)).cloned()
}

impl Node {
    fn new(name: &str, options: &Options) -> Self {
        Self {
            name: name.into(),
            seed: xxh3_64(name.as_bytes()),
            breaker: Breaker::default(),
            idle: Idle { streams: Mutex::default(), max: options.max_idle },
            connections: Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// The server with the highest score has the place.
    fn score(&self, place: u128) -> u64 {
        xxh3_64_with_seed(&place.to_le_bytes(), self.seed)
    }

    async fn ask(&self, batch: &mut impl Batch, deadline: Instant) -> Result<(), Loss> {
        let now = Instant::now();
        if now >= deadline {
            return Err(Loss::Timeout);
        }
        if !self.breaker.lets_through(now) {
            return Err(Loss::Breaker);
        }
        let outcome = timeout_at(deadline, self.call(batch)).await.unwrap_or(Err(Loss::Timeout));
        self.report(outcome);
        outcome
    }

    /// An idle connection that the server has closed meanwhile shows only when it is used; then a new one is tried.
    async fn call(&self, batch: &mut impl Batch) -> Result<(), Loss> {
        let _permit = self.connections.acquire().await.expect("the semaphore is never closed");
        if let Some(stream) = self.idle.take() {
            match exchange(stream, batch).await {
                Err(Broken { loss: Loss::Unavailable, is_begun: false }) => {}
                done => return done.map(|stream| self.idle.put(stream)).map_err(|broken| broken.loss),
            }
        }
        let stream = connect(&self.name).await.map_err(|_| Loss::Unavailable)?;
        let stream = exchange(stream, batch).await.map_err(|broken| broken.loss)?;
        self.idle.put(stream);
        Ok(())
    }

    /// Tells the breaker, and the log what became of the breaker.
    fn report(&self, outcome: Result<(), Loss>) {
        match outcome {
            Ok(()) | Err(Loss::Refused) => {
                if self.breaker.succeeded() {
                    tracing::info!(server = %self.name, "memcached answers again");
                }
            }
            Err(loss) => {
                if self.breaker.failed(Instant::now()) {
                    let why = loss.as_str();
                    tracing::warn!(server = %self.name, why, "memcached does not answer; it is left alone for a while");
                }
            }
        }
    }
}

async fn connect(name: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(name).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The connections that nobody uses, the last used one at the end.
#[derive(Debug)]
struct Idle {
    streams: Mutex<VecDeque<(TcpStream, Instant)>>,
    max: usize,
}

impl Idle {
    /// The last used one on which nothing has come meanwhile: no end, and nothing that nobody asked for.
    fn take(&self) -> Option<TcpStream> {
        let mut streams = self.streams.lock();
        forget_old(&mut streams);
        while let Some((stream, _)) = streams.pop_back() {
            let came = stream.try_read(&mut [0]);
            if came.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Some(stream);
            }
        }
        None
    }

    fn put(&self, stream: TcpStream) {
        let mut streams = self.streams.lock();
        forget_old(&mut streams);
        if streams.len() < self.max {
            streams.push_back((stream, Instant::now()));
        }
    }
}

fn forget_old(streams: &mut VecDeque<(TcpStream, Instant)>) {
    while streams.front().is_some_and(|(_, since)| since.elapsed() > IDLE_FOR) {
        streams.pop_front();
    }
}

/// A call that came to nothing.
#[derive(Debug)]
struct Broken {
    loss: Loss,
    /// Whether any of the answer had come.
    is_begun: bool,
}

/// Sends a batch and reads its answer, both at once: a server may answer the first of it before it reads the last. Gives
/// the connection back if it can be used again.
async fn exchange(mut stream: TcpStream, batch: &mut impl Batch) -> Result<TcpStream, Broken> {
    let (from, to) = stream.split();
    let request = batch.request();
    let mut replies = Replies::new(from);
    let read = {
        let mut write = Box::pin(send(to, request));
        let mut read = Box::pin(batch.take(&mut replies));
        tokio::select! {
            biased;
            // When it fails, the server may have said why before it closed.
            _ = &mut write => read.await,
            early = &mut read => early.and(Err(Loss::Garbage)),
        }
    };
    let is_begun = replies.is_begun;
    let is_rest = !replies.buffer.is_empty();
    match read {
        Ok(()) if is_rest => Err(Broken { loss: Loss::Garbage, is_begun }),
        Ok(()) => Ok(stream),
        Err(loss) => Err(Broken { loss, is_begun }),
    }
}

async fn send(mut to: WriteHalf<'_>, request: Vec<Bytes>) -> io::Result<()> {
    for part in request {
        to.write_all(&part).await?;
    }
    Ok(())
}

/// Commands that go together, and what has become of them so far.
trait Batch: Send {
    /// The commands; the same each time.
    fn request(&self) -> Vec<Bytes>;

    /// Reads the whole answer. What was understood before it breaks off stays.
    fn take(&mut self, replies: &mut Replies<ReadHalf<'_>>) -> impl Future<Output = Result<(), Loss>> + Send;
}

/// A `get` of several keys.
#[derive(Debug)]
struct Gets<'k> {
    keys: &'k [String],
    /// What came for each of them.
    values: HashMap<&'k [u8], Option<Bytes>>,
    command: Bytes,
    max_value_bytes: usize,
}

impl<'k> Gets<'k> {
    fn new(keys: &'k [String], max_value_bytes: usize) -> Self {
        let mut values = HashMap::with_capacity(keys.len());
        let mut command = BytesMut::from("get");
        for key in keys {
            debug_assert!(is_key(key), "{key:?}");
            if values.insert(key.as_bytes(), None).is_none() {
                command.extend_from_slice(b" ");
                command.extend_from_slice(key.as_bytes());
            }
        }
        command.extend_from_slice(b"\r\n");
        Self { keys, values, command: command.freeze(), max_value_bytes }
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, replies: &mut Replies<R>) -> Result<(), Loss> {
        loop {
            let line = replies.line().await?;
            let line_bytes = line.len() + 2;
            if line == b"END" {
                replies.buffer.advance(line_bytes);
                return Ok(());
            }
            let (key, bytes) = value_head(line).ok_or_else(|| loss_of(line))?;
            let Some(value @ None) = self.values.get_mut(key) else { return Err(Loss::Garbage) };
            if bytes > self.max_value_bytes {
                return Err(Loss::Garbage);
            }
            replies.buffer.advance(line_bytes);
            *value = Some(replies.block(bytes).await?);
        }
    }

    fn outcomes(self, outcome: Result<(), Loss>) -> Vec<Read> {
        let rest = outcome.map_or_else(Read::Lost, |()| Read::Absent);
        let of = |key: &String| self.values.get(key.as_bytes()).cloned().flatten().map_or(rest.clone(), Read::Value);
        self.keys.iter().map(of).collect()
    }
}

impl Batch for Gets<'_> {
    fn request(&self) -> Vec<Bytes> {
        vec![self.command.clone()]
    }

    async fn take(&mut self, replies: &mut Replies<ReadHalf<'_>>) -> Result<(), Loss> {
        self.read(replies).await
    }
}

/// Several `set`s, one after the other.
#[derive(Debug)]
struct Sets<'i> {
    items: &'i [Item],
    /// The indices of those that are not too long.
    sent: Vec<usize>,
    /// What became of the first of these.
    answers: Vec<Write>,
}

impl<'i> Sets<'i> {
    fn new(items: &'i [Item], max_value_bytes: usize) -> Self {
        let sent = (0..items.len()).filter(|index| items[*index].value.len() <= max_value_bytes).collect();
        Self { items, sent, answers: Vec::new() }
    }

    async fn read<R: AsyncRead + Unpin>(&mut self, replies: &mut Replies<R>) -> Result<(), Loss> {
        // A second attempt has nothing from the first: there was no byte of an answer.
        while self.answers.len() < self.sent.len() {
            let line = replies.line().await?;
            self.answers.push(match line {
                b"STORED" => Write::Stored,
                // The server has read the value to its end, and goes on with the next one.
                b"NOT_STORED"
                | b"SERVER_ERROR object too large for cache"
                | b"SERVER_ERROR out of memory storing object"
                | b"SERVER_ERROR Out of memory during read" => Write::Lost(Loss::Refused),
                line => return Err(loss_of(line)),
            });
            let line_bytes = line.len() + 2;
            replies.buffer.advance(line_bytes);
        }
        Ok(())
    }

    fn outcomes(self, outcome: Result<(), Loss>) -> Vec<Write> {
        let mut outcomes = vec![Write::Lost(Loss::Refused); self.items.len()];
        for (position, index) in self.sent.into_iter().enumerate() {
            // With a sound outcome there is an answer to each.
            let rest = Write::Lost(outcome.err().unwrap_or(Loss::Garbage));
            outcomes[index] = self.answers.get(position).copied().unwrap_or(rest);
        }
        outcomes
    }
}

impl Batch for Sets<'_> {
    fn request(&self) -> Vec<Bytes> {
        let (mut parts, mut text) = (Vec::new(), BytesMut::new());
        for Item { key, value, ttl } in self.sent.iter().map(|index| &self.items[*index]) {
            debug_assert!(is_key(key), "{key:?}");
            let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0)).clamp(1, MAX_TTL_SECONDS);
            write!(text, "set {key} 0 {seconds} {}\r\n", value.len()).expect("a buffer takes everything");
            if value.len() <= COPIED {
                text.extend_from_slice(value);
            } else {
                parts.extend([text.split().freeze(), value.clone()]);
            }
            text.extend_from_slice(b"\r\n");
        }
        parts.push(text.freeze());
        parts
    }

    async fn take(&mut self, replies: &mut Replies<ReadHalf<'_>>) -> Result<(), Loss> {
        self.read(replies).await
    }
}

/// What a server sends.
#[derive(Debug)]
struct Replies<R> {
    from: R,
    /// What has come and was not understood yet.
    buffer: BytesMut,
    is_begun: bool,
}

impl<R: AsyncRead + Unpin> Replies<R> {
    fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::new(), is_begun: false }
    }

    /// The next line without its end. It stays in the buffer.
    async fn line(&mut self) -> Result<&[u8], Loss> {
        let mut searched = 0;
        let end = loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                break searched + found;
            }
            searched = self.buffer.len();
            if searched >= MAX_LINE {
                return Err(Loss::Garbage);
            }
            self.fill(MAX_LINE - searched).await?;
        };
        let line = self.buffer[..end].strip_suffix(b"\r").ok_or(Loss::Garbage)?;
        if line.len() > MAX_LINE { Err(Loss::Garbage) } else { Ok(line) }
    }

    /// The next `bytes` bytes, which a line end must follow.
    async fn block(&mut self, bytes: usize) -> Result<Bytes, Loss> {
        let whole = bytes + 2;
        while self.buffer.len() < whole {
            self.fill(whole - self.buffer.len()).await?;
        }
        if self.buffer[bytes..whole] != *b"\r\n" {
            return Err(Loss::Garbage);
        }
        let value = self.buffer.split_to(bytes).freeze();
        self.buffer.advance(2);
        Ok(value)
    }

    /// Waits for more bytes, of which `missing` are known to be needed. The room for them grows as they come.
    async fn fill(&mut self, missing: usize) -> Result<(), Loss> {
        let (least, most) = ROOM;
        self.buffer.reserve(missing.clamp(least, most));
        match self.from.read_buf(&mut self.buffer).await {
            Ok(1..) => self.is_begun = true,
            Ok(0) | Err(_) => return Err(Loss::Unavailable),
        }
        Ok(())
    }
}

/// The key and the length from `VALUE key flags length`.
fn value_head(line: &[u8]) -> Option<(&[u8], usize)> {
    let mut fields = line.strip_prefix(b"VALUE ")?.split(|byte| *byte == b' ');
    let (key, flags, bytes) = (fields.next()?, fields.next()?, fields.next()?);
    number(flags)?;
    let bytes = usize::try_from(number(bytes)?).ok()?;
    fields.next().is_none().then_some((key, bytes))
}

/// Digits and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// What it means that a line stands where none was expected that is like it.
fn loss_of(line: &[u8]) -> Loss {
    let is_error = [b"ERROR".as_slice(), b"CLIENT_ERROR", b"SERVER_ERROR"]
        .into_iter()
        .any(|error| line.strip_prefix(error).is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")));
    if is_error { Loss::Refused } else { Loss::Garbage }
}

fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REPLY: &[u8] = b"VALUE a 0 3\r\nxyz\r\nVALUE b 7 7\r\n\r\nEND\r\n\r\nVALUE c 0 0\r\n\r\nEND\r\n";

    fn keys(names: &str) -> Vec<String> {
        names.chars().map(String::from).collect()
    }

    async fn understood(names: &str, from: impl AsyncRead + Unpin) -> (Vec<Read>, Result<(), Loss>) {
        let keys = keys(names);
        let (mut gets, mut replies) = (Gets::new(&keys, 1 << 20), Replies::new(from));
        let outcome = gets.read(&mut replies).await;
        (gets.outcomes(outcome), outcome)
    }

    fn value(text: &'static str) -> Read {
        Read::Value(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_reply_is_understood_in_pieces_of_any_size() {
        let want = vec![value("xyz"), value("\r\nEND\r\n"), value(""), Read::Absent];
        for size in 1..=REPLY.len() {
            let (mut server, client) = tokio::io::duplex(size);
            let (got, ()) = futures::join!(understood("abcd", client), async {
                server.write_all(REPLY).await.expect("it is read");
            });
            assert_eq!(got, (want.clone(), Ok(())), "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_reply_that_ends_early_gives_what_had_come_whole() {
        let values = [(18, value("xyz")), (40, value("\r\nEND\r\n")), (55, value(""))];
        for cut in 0..REPLY.len() {
            let want: Vec<_> = values
                .iter()
                .map(|(whole, value)| if cut >= *whole { value.clone() } else { Read::Lost(Loss::Unavailable) })
                .collect();
            assert_eq!(understood("abc", &REPLY[..cut]).await, (want, Err(Loss::Unavailable)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_garbage_and_errors_are_refusals() {
        let (line_too_long, line_without_end) = ([b"x".repeat(513), b"\r\n".to_vec()].concat(), b"x".repeat(600));
        for (reply, want) in [
            (b"VALUE a 0 4294967296\r\n".as_slice(), Loss::Garbage),
            (b"VALUE a 0 99999999999999999999999\r\n", Loss::Garbage),
            (b"VALUE a 0 1048577\r\n", Loss::Garbage),
            (b"VALUE a 0 -1\r\n", Loss::Garbage),
            (b"VALUE a 0 +1\r\nx\r\n", Loss::Garbage),
            (b"VALUE a 0 \r\n\r\n", Loss::Garbage),
            (b"VALUE a 0\r\n\r\n", Loss::Garbage),
            (b"VALUE a x 1\r\nx\r\n", Loss::Garbage),
            (b"VALUE a 0 1 5\r\nx\r\n", Loss::Garbage),
            (b"VALUE  0 1\r\nx\r\n", Loss::Garbage),
            (b"VALUE other 0 1\r\nx\r\n", Loss::Garbage),
            (b"VALUE a 0 1\r\nxy\r\n", Loss::Garbage),
            (b"VALUE a 0 1\nx\n", Loss::Garbage),
            (b"END\n", Loss::Garbage),
            (b"\r\n", Loss::Garbage),
            (b"STORED\r\n", Loss::Garbage),
            (b"end\r\n", Loss::Garbage),
            (b"ERRORS\r\n", Loss::Garbage),
            (b"HTTP/1.1 400 Bad Request\r\n", Loss::Garbage),
            (&line_too_long, Loss::Garbage),
            (&line_without_end, Loss::Garbage),
            (b"ERROR\r\n", Loss::Refused),
            (b"ERROR Too many open connections\r\n", Loss::Refused),
            (b"CLIENT_ERROR bad command line format\r\n", Loss::Refused),
            (b"SERVER_ERROR out of memory writing get response\r\n", Loss::Refused),
        ] {
            let (reads, outcome) = understood("a", reply).await;
            assert_eq!((reads, outcome), (vec![Read::Lost(want)], Err(want)), "{}", reply.escape_ascii());
        }
        let twice = b"VALUE a 0 1\r\nx\r\nVALUE a 0 1\r\ny\r\nEND\r\n".as_slice();
        assert_eq!(understood("ab", twice).await.0, [value("x"), Read::Lost(Loss::Garbage)]);
    }

    #[tokio::test]
    async fn a_length_makes_no_room_before_its_bytes_come() {
        let keys = keys("a");
        let (mut server, client) = tokio::io::duplex(4 << 20);
        let (mut gets, mut replies) = (Gets::new(&keys, 1 << 30), Replies::new(client));
        server.write_all(b"VALUE a 0 1000000000\r\n").await.expect("there is room");
        for come in [10, 100_000, 1_000_000] {
            server.write_all(&vec![0; come]).await.expect("there is room");
            // Taken up where it was left: the head is understood in the first round only.
            let mut reading = Box::pin(async {
                if come == 10 {
                    gets.read(&mut replies).await.map(|()| Bytes::new())
                } else {
                    replies.block(1_000_000_000).await
                }
            });
            assert!(futures::poll!(&mut reading).is_pending(), "not all of it has come");
            drop(reading);
            let (held, room) = (replies.buffer.len(), replies.buffer.capacity());
            assert!(held >= come && room <= 2 * (held + ROOM.1), "{room} bytes of room for {held}");
        }
    }

    #[tokio::test]
    async fn a_refused_item_is_not_the_end_of_the_batch() {
        let item =
            |key: &str, bytes| Item { key: key.to_owned(), value: vec![b'x'; bytes].into(), ttl: Duration::ZERO };
        let items = [item("a", 3), item("b", 101), item("c", 100), item("d", 0), item("e", 1)];
        let (refused, garbage) = (Write::Lost(Loss::Refused), Write::Lost(Loss::Garbage));
        for (reply, want, outcome) in [
            (
                "STORED\r\nSERVER_ERROR out of memory storing object\r\nNOT_STORED\r\nSTORED\r\n",
                [Write::Stored, refused, refused, refused, Write::Stored],
                Ok(()),
            ),
            (
                "STORED\r\nSTORED\r\nEND\r\n",
                [Write::Stored, refused, Write::Stored, garbage, garbage],
                Err(Loss::Garbage),
            ),
            ("STORED\r\nERROR\r\n", [Write::Stored, refused, refused, refused, refused], Err(Loss::Refused)),
        ] {
            let (mut sets, mut replies) = (Sets::new(&items, 100), Replies::new(reply.as_bytes()));
            assert_eq!(sets.read(&mut replies).await, outcome, "{reply}");
            assert_eq!(sets.outcomes(outcome), want, "{reply}");
        }
    }

    #[test]
    fn commands_on_the_wire() {
        let keys = keys("abab");
        assert_eq!(Gets::new(&keys, 0).request(), ["get a b\r\n"], "each key once");
        let large = Bytes::from(vec![b'x'; COPIED + 1]);
        let item = |key: &str, value: &Bytes, ttl| Item { key: key.to_owned(), value: value.clone(), ttl };
        let items = [
            item("a", &Bytes::from_static(b"1"), Duration::ZERO),
            item("b", &large, Duration::from_millis(1001)),
            item("c", &Bytes::new(), Duration::MAX),
        ];
        let want = ["set a 0 1 1\r\n1\r\nset b 0 2 16385\r\n".into(), large, "\r\nset c 0 2592000 0\r\n\r\n".into()];
        assert_eq!(Sets::new(&items, 1 << 20).request(), want);
    }

    fn nodes(names: &[String]) -> Vec<Arc<Node>> {
        names.iter().map(|name| Arc::new(Node::new(name, &Options::default()))).collect()
    }

    #[test]
    fn places_are_shared_evenly_and_for_ever() {
        let names: Vec<_> = (0..4).map(|n| format!("10.0.0.{n}:11211")).collect();
        let (nodes, mut shares) = (nodes(&names), HashMap::new());
        for place in 0..10_000_u128 {
            let owner = owner(&nodes, place << 64 | place).expect("there are nodes");
            *shares.entry(owner.name.clone()).or_insert(0) += 1;
        }
        assert!(shares.len() == 4 && shares.values().all(|share| (2_300..2_700).contains(share)), "{shares:?}");
        // Another hash would lose every replica its cache during an upgrade.
        let owners: Vec<_> = (0..8)
            .map(|place| owner(&nodes, place).map_or_else(String::new, |node| node.name[7..8].to_owned()))
            .collect();
        assert_eq!(owners.concat(), "03012010");
    }

    proptest! {
        #[test]
        fn a_server_that_leaves_moves_only_its_own_places(
            names in prop::collection::btree_set("[a-z]{1,8}:[1-9][0-9]{0,3}", 2..20),
            places in prop::collection::vec(any::<u128>(), 1..50),
            leaving in any::<prop::sample::Index>(),
        ) {
            let mut names: Vec<_> = names.into_iter().collect();
            let before = nodes(&names);
            let left = names.remove(leaving.index(names.len()));
            let after = nodes(&names);
            for place in places {
                let (was, is) = (owner(&before, place).expect("some"), owner(&after, place).expect("some"));
                prop_assert!(was.name == is.name || *was.name == *left);
            }
        }
    }
}
