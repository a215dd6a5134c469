//! What a real Cortex querier said to promfront, said again byte for byte.
//!
//! `golden/grpc/cortex-querier.transcript` holds one connection of a querier, from its first byte to its last. Here its half is
//! sent again, each frame when what went before it has happened, and the frontend has to say what it said then: a real
//! querier took that, so it is right. And its clients get what they got then. The rules by which a malformed request ends a
//! querier's process are checked beside that, so that recording anew cannot make a mistake golden.

#[path = "support/grpc.rs"]
mod grpc;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use promfront::request::Outgoing;
use promfront::sched::grpc::messages::{FrontendToClient, Kind};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use self::grpc::{Frontend, Outcome, PATIENCE, Querier, outcome, until};

const TRANSCRIPT: &str = include_str!("golden/grpc/cortex-querier.transcript");
/// What the querier was running when it was stopped, after it had been cancelled once.
const CUT_SHORT: u32 = 10;

/// What a line of the transcript tells, with its number.
#[derive(Clone, Debug)]
struct Event {
    line: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A client asks.
    Ask(u32, Outgoing),
    /// What it got.
    Got(u32, Answer),
    /// It goes away without.
    Leave(u32),
    /// A frame of the querier.
    Frame(Bytes),
    /// The querier closes the connection.
    Close,
    /// What the frontend says.
    Said(Said),
}

/// What a frontend says, as far as the transcript holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Message { stream: u32, bytes: Bytes },
    End { stream: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// In the order of their names: that of a map is chance.
    headers: Vec<(String, String)>,
    body: Bytes,
}

fn transcript() -> Vec<Event> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in TRANSCRIPT.lines().enumerate() {
        match line.strip_prefix("    ") {
            Some(rest) => lines.last_mut().expect("a line goes on with another").1.push_str(rest),
            None if line.starts_with('#') || line.is_empty() => {}
            None => lines.push((number + 1, line.to_owned())),
        }
    }
    lines.into_iter().map(|(line, text)| Event { line, what: event(&text) }).collect()
}

fn event(line: &str) -> What {
    let (word, rest) = line.split_once(' ').expect("a word and what it is about");
    match word {
        "ask" => ask(rest),
        "got" => got(rest),
        "leave" => What::Leave(number(rest)),
        ">" if rest == "end" => What::Close,
        ">" => What::Frame(unhex(rest)),
        "<" => {
            let (stream, said) = rest.split_once(' ').expect("a stream and what is said on it");
            let stream = number(stream);
            What::Said(match said.strip_prefix("message") {
                Some(hex) => Said::Message { stream, bytes: unhex(hex.trim()) },
                None => Said::End { stream },
            })
        }
        other => panic!("{other:?} begins no line"),
    }
}

fn ask(text: &str) -> What {
    let mut parts = text.split(" | ");
    let first: Vec<&str> = parts.next().unwrap_or_default().splitn(3, ' ').collect();
    let [name, method, url] = first[..] else { panic!("a number, a method and a URL: {text}") };
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let mut outgoing = Outgoing {
        method: Method::from_bytes(method.as_bytes()).expect("a method"),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    for (key, value) in parts.map(named) {
        if key == "body" {
            outgoing.body = value.to_owned().into();
        } else {
            let key = HeaderName::from_bytes(key.as_bytes()).expect("a name");
            outgoing.headers.append(key, HeaderValue::from_str(value).expect("a value"));
        }
    }
    What::Ask(number(name), outgoing)
}

fn got(text: &str) -> What {
    let mut parts = text.split(" | ");
    let (name, status) = parts.next().and_then(|first| first.split_once(' ')).expect("a number and a status");
    let mut answer = Answer { status: status.parse().expect("a code"), headers: Vec::new(), body: Bytes::new() };
    for (key, value) in parts.map(named) {
        match key {
            "body" => answer.body = value.to_owned().into(),
            "bytes" => answer.body = unhex(value),
            _ => answer.headers.push((key.to_owned(), value.to_owned())),
        }
    }
    answer.headers.sort();
    What::Got(number(name), answer)
}

fn named(part: &str) -> (&str, &str) {
    part.split_once(": ").unwrap_or_else(|| panic!("a name and what it says: {part}"))
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("a number: {text}"))
}

fn unhex(text: &str) -> Bytes {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("two digits")).collect()
}

/// The querier's end of the connection.
struct Wire {
    socket: TcpStream,
    /// What came and is no whole frame yet.
    buffer: Vec<u8>,
    /// What came of a message of a stream; nothing is taken of a stream that has ended.
    streams: BTreeMap<u32, Vec<u8>>,
    said: VecDeque<Said>,
}

impl Wire {
    async fn open(frontend: &Frontend) -> Self {
        let socket = TcpStream::connect(frontend.address).await.expect("the frontend listens");
        socket.set_nodelay(true).expect("it is open");
        Self { socket, buffer: Vec::new(), streams: BTreeMap::new(), said: VecDeque::new() }
    }

    /// Sends bytes, so many at a time.
    async fn send(&mut self, bytes: &[u8], at_a_time: usize) {
        for piece in bytes.chunks(at_a_time) {
            self.socket.write_all(piece).await.expect("the frontend reads");
        }
    }

    /// What the frontend says next.
    async fn next(&mut self) -> Said {
        loop {
            if let Some(said) = self.said.pop_front() {
                return said;
            }
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.buffer)).await;
            let length = read.expect("the frontend says something").expect("the connection stands");
            assert!(length > 0, "the frontend closed the connection");
            while let Some(frame) = self.frame() {
                self.take(&frame);
            }
        }
    }

    /// The next frame of HTTP/2, whole, if it has come.
    fn frame(&mut self) -> Option<Vec<u8>> {
        let length = 9 + usize::try_from(u32::from_be_bytes([
            0,
            *self.buffer.first()?,
            *self.buffer.get(1)?,
            *self.buffer.get(2)?,
        ]))
        .ok()?;
        (self.buffer.len() >= length).then(|| self.buffer.drain(..length).collect())
    }

    fn take(&mut self, frame: &[u8]) {
        let (head, payload) = frame.split_at(9);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            0 => self.data(stream, payload),
            7 => panic!("the frontend wants the connection to end: {:?}", String::from_utf8_lossy(payload)),
            _ => {}
        }
        let ends = matches!(kind, 0 | 1) && flags & 1 == 1;
        if (ends || kind == 3) && self.said.back() != Some(&Said::End { stream }) {
            self.said.push_back(Said::End { stream });
        }
    }

    fn data(&mut self, stream: u32, payload: &[u8]) {
        let buffer = self.streams.entry(stream).or_default();
        buffer.extend_from_slice(payload);
        while let [0, a, b, c, d, rest @ ..] = buffer.as_slice() {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some(bytes) = rest.get(..length).map(Bytes::copy_from_slice) else { return };
            buffer.drain(..5 + length);
            self.said.push_back(Said::Message { stream, bytes });
        }
        assert_ne!(buffer.first(), Some(&1), "the querier did not ask for compressed messages");
    }
}

/// A message, with its headers in the order of their names: that of a map is chance.
fn message(bytes: &Bytes) -> FrontendToClient {
    let mut message = FrontendToClient::decode(bytes.clone()).expect("it is a message");
    if let Some(request) = &mut message.http_request {
        request.headers.sort_by(|one, other| one.key.cmp(&other.key));
    }
    message
}

/// The rules that a real querier relies on.
fn assert_kept_the_rules(message: &FrontendToClient) {
    assert!(
        matches!(Kind::try_from(message.kind), Ok(Kind::GetId | Kind::HttpRequest)),
        "it ends the stream otherwise"
    );
    let request = message.http_request.as_ref().expect("its process ends without a request");
    assert!(request.url.starts_with(b"/"), "a path and a query, without scheme and host");
    for (place, header) in request.headers.iter().enumerate() {
        let key = std::str::from_utf8(&header.key).expect("a name");
        assert!(!header.values.is_empty(), "its process ends at the header {key} without a value");
        assert!(request.headers[..place].iter().all(|other| other.key != header.key), "it sees one {key} only");
        for word in key.split('-') {
            let (first, others) = word.split_at(word.len().min(1));
            let is_go_form = first == first.to_ascii_uppercase() && others == others.to_ascii_lowercase();
            assert!(is_go_form, "it does not find {key}");
        }
    }
}

/// Plays the transcript, so many bytes at a time. What is still asked for when the querier has gone is given back.
async fn replay(frontend: &Frontend, at_a_time: usize) -> HashMap<u32, JoinHandle<Outcome>> {
    let mut wire = Wire::open(frontend).await;
    let mut asked = HashMap::new();
    for Event { line, what } in transcript() {
        match what {
            What::Ask(name, outgoing) => {
                asked.insert(name, frontend.ask_for(outgoing, PATIENCE));
            }
            What::Leave(name) => asked.remove(&name).expect("it asked").abort(),
            What::Got(name, want) => {
                let got = outcome(asked.remove(&name).expect("it asked")).await;
                let (head, body) = got.unwrap_or_else(|error| panic!("line {line}: {error}")).into_parts();
                let text = |value: &HeaderValue| value.to_str().expect("it is text").to_owned();
                let mut headers: Vec<_> =
                    head.headers.iter().map(|(key, value)| (key.as_str().to_owned(), text(value))).collect();
                headers.sort();
                assert_eq!(Answer { status: head.status.as_u16(), headers, body }, want, "line {line}");
            }
            What::Frame(bytes) => wire.send(&bytes, at_a_time).await,
            What::Close => drop(wire.socket.shutdown().await),
            What::Said(want) => match (wire.next().await, want) {
                (Said::Message { stream, bytes }, Said::Message { stream: wanted, bytes: want })
                    // The answer to the notice is empty.
                    if stream == wanted && !want.is_empty() =>
                {
                    let said = message(&bytes);
                    assert_kept_the_rules(&said);
                    assert_eq!(said, message(&want), "line {line}");
                }
                (said, want) => assert_eq!(said, want, "line {line}"),
            },
        }
    }
    asked
}

async fn frontend() -> Frontend {
    // A client that leaves is waited for like this long, and the querier is recorded to be cancelled after it.
    Frontend::start_with(|_, options| options.grace = Duration::from_millis(50)).await
}

#[tokio::test]
async fn a_real_querier_is_told_what_it_was_told() {
    for at_a_time in [usize::MAX, 1] {
        let frontend = frontend().await;
        let left = replay(&frontend, at_a_time).await;
        until(|| frontend.queriers().is_empty() || frontend.slots() == 0, "the querier is gone").await;
        assert_eq!(left.keys().collect::<Vec<_>>(), [&CUT_SHORT]);
    }
}

/// A Cortex querier that is stopped ends its streams before it says that it leaves, and what it runs with them. That says
/// nothing about the query.
#[tokio::test]
async fn what_a_real_querier_ran_when_it_was_stopped_is_run_elsewhere_and_no_suspect() {
    let frontend = frontend().await;
    let mut left = replay(&frontend, usize::MAX).await;
    assert_eq!(frontend.dispatcher.snapshot().suspects, 0);
    let mut other = Querier::named(&frontend, "other").await;
    let request = other.request().await;
    assert!(request.url.ends_with(b"time=1700000060"), "{request:?}");
    other.answer(200, "elsewhere").await;
    let got = outcome(left.remove(&CUT_SHORT).expect("it asked")).await.expect("an answer");
    assert_eq!(&**got.body(), b"elsewhere");
}
