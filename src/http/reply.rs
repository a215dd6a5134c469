//! Answers and errors as HTTP responses, and the headers that tell what happened.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::stream;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::downstream::fetch::Answer;
use crate::error::ApiError;
use crate::model::whole::{Packing, WholeAnswer};
use crate::verdict::Verdict;

/// What came of the query, in words.
const RESULT: HeaderName = HeaderName::from_static("x-promfront-result");
/// Where the time went.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// At most this many fetched ranges are listed.
const LISTED_RANGES: usize = 12;
/// Bodies shorter than this are not worth compressing.
pub(super) const COMPRESS_FROM: usize = 1024;
/// So many bytes of an answer are given before other connections have their turn.
const AT_A_TURN: usize = 512 << 10;
/// So much is compressed before the connection gets its turn.
const COMPRESSED_CHUNK: usize = 64 << 10;

/// An answer as the server gave it, packed if the client takes it so.
pub(super) fn whole(asked: &HeaderMap, answer: &WholeAnswer) -> Response {
    let wants_gzip = accepts_gzip(asked);
    let is_large = answer.plain_bytes >= COMPRESS_FROM as u64;
    let (body, length, is_packed) = match (answer.packing, wants_gzip) {
        (Packing::Gzip, true) => (Body::from(answer.body.clone()), Some(answer.body.len() as u64), true),
        (Packing::Gzip, false) => (body(Unpacked::new(answer.body.clone())), Some(answer.plain_bytes), false),
        (Packing::Plain, true) if is_large => (body(Gzip::new(vec![answer.body.clone()])), None, true),
        (Packing::Plain, _) => (Body::from(answer.body.clone()), Some(answer.plain_bytes), false),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.clone_from(&answer.headers);
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if (is_large || is_packed)
        && !headers.get_all(header::VARY).iter().any(|names| names_header(names, "accept-encoding"))
    {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if let Some(length) = length.filter(|_| answer.status != StatusCode::NO_CONTENT) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Whether a list in a header has a name in it.
pub(super) fn names_header(list: &HeaderValue, name: &str) -> bool {
    list.to_str().is_ok_and(|list| list.split(',').any(|each| each.trim().eq_ignore_ascii_case(name)))
}

/// Unpacks a gzip stream as it is taken. It was unpacked once before, so it is sound.
struct Unpacked {
    stream: MultiGzDecoder<bytes::buf::Reader<Bytes>>,
}

impl Unpacked {
    fn new(packed: Bytes) -> Self {
        Self { stream: MultiGzDecoder::new(packed.reader()) }
    }
}

impl Iterator for Unpacked {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::with_capacity(COMPRESSED_CHUNK);
        let limit = COMPRESSED_CHUNK as u64;
        self.stream.by_ref().take(limit).read_to_end(&mut chunk).expect("it was unpacked when it came");
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

/// A body of chunks. After some of them other connections have their turn, so that a large answer does not delay small ones.
pub(super) fn body(mut chunks: impl Iterator<Item = Bytes> + Send + Unpin + 'static) -> Body {
    let mut given = 0;
    Body::from_stream(stream::poll_fn(move |context| {
        if given >= AT_A_TURN {
            given = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = chunks.next();
        given += chunk.as_ref().map_or(0, Bytes::len);
        Poll::Ready(chunk.map(Ok::<_, std::convert::Infallible>))
    }))
}

/// Of all encodings a client accepts, gzip or none: what Grafana and browsers mean by `deflate` differs, and not all that accept
/// zstd have it.
pub(super) fn simplify_accepted_encodings(asked: &mut HeaderMap) {
    let accepted = if accepts_gzip(asked) { "gzip" } else { "identity" };
    if asked.contains_key(header::ACCEPT_ENCODING) {
        asked.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
    }
}

/// Prometheus looks for the very word.
pub(super) fn accepts_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim() == "gzip")
}

/// Compresses chunks as they are taken.
pub(super) struct Gzip {
    chunks: std::vec::IntoIter<Bytes>,
    current: Bytes,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Gzip {
    pub(super) fn new(chunks: Vec<Bytes>) -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self { chunks: chunks.into_iter(), current: Bytes::new(), encoder: Some(encoder) }
    }
}

impl Iterator for Gzip {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const IN_MEMORY: &str = "a vector takes every write";
        let mut encoder = self.encoder.take()?;
        while encoder.get_ref().len() < COMPRESSED_CHUNK {
            if self.current.is_empty() {
                let Some(next) = self.chunks.next() else { return Some(encoder.finish().expect(IN_MEMORY).into()) };
                self.current = next;
            }
            let taken = self.current.split_to(self.current.len().min(COMPRESSED_CHUNK));
            encoder.write_all(&taken).expect(IN_MEMORY);
        }
        let compressed = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Some(compressed.into())
    }
}

/// An error of ours in Prometheus's form.
pub(super) fn error(error: &ApiError) -> Response {
    let mut response = json(error.kind.status(), Body::from(error.to_json()));
    if let Some(seconds) = error.kind.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Another method is meant: Prometheus's own words.
pub(super) fn not_allowed(allowed: &'static str) -> Response {
    let mut response = Response::new(Body::from("Method Not Allowed\n"));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    for (name, value) in [
        (header::ALLOW, allowed),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The downstream's own refusal: its code and its body.
pub(super) fn theirs(answer: &Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body.clone()));
    *response.status_mut() = answer.status;
    for name in
        [header::CONTENT_TYPE, header::RETRY_AFTER, header::CACHE_CONTROL, header::WWW_AUTHENTICATE, header::LOCATION]
    {
        for value in answer.headers.get_all(&name) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response
}

/// A response of JSON.
pub(super) fn json(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Says what happened: `X-Promfront-Result` and `Server-Timing`.
pub(super) fn annotate(response: &mut Response, verdict: &Verdict, began: Instant) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&result(verdict)) {
        headers.insert(RESULT, value);
    }
    if let Ok(value) = HeaderValue::from_str(&timing(verdict, began.elapsed())) {
        headers.append(SERVER_TIMING, value);
    }
}

/// `status=phit; reason=fresh; parts=8; hit=7; fetched=[1754956800000-1754960400000]`, milliseconds.
fn result(verdict: &Verdict) -> String {
    let mut text = format!("status={}", verdict.status.as_str());
    let mut add = |args: std::fmt::Arguments<'_>| text.write_fmt(args).expect("a string can be written to");
    if !verdict.reason.is_empty() {
        add(format_args!("; reason={}", verdict.reason));
    }
    if verdict.pieces > 0 {
        add(format_args!("; parts={}; hit={}", verdict.pieces, verdict.held));
    }
    if !verdict.fetched.is_empty() {
        let listed = verdict.fetched.iter().take(LISTED_RANGES);
        let ranges: Vec<String> = listed.map(|grid| format!("{}-{}", grid.start().ms(), grid.last().ms())).collect();
        let more = if verdict.fetched.len() > LISTED_RANGES { ",..." } else { "" };
        add(format_args!("; fetched=[{}{}]", ranges.join(","), more));
    }
    text
}

/// `cache;dur=0.9;desc="hit 7/8", downstream;dur=341.0;desc="1 part", merge;dur=3.4, total;dur=357.1`, milliseconds.
fn timing(verdict: &Verdict, total: Duration) -> String {
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    let total = format!("total;dur={:.1}", ms(total));
    if verdict.pieces == 0 {
        return total;
    }
    format!(
        "cache;dur={:.1};desc=\"hit {}/{}\", downstream;dur={:.1};desc=\"parts {}\", merge;dur={:.1}, {total}",
        ms(verdict.cache),
        verdict.held,
        verdict.pieces,
        ms(verdict.downstream),
        verdict.fetched.len(),
        ms(verdict.merge),
    )
}
