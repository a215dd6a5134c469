//! A range answer as a response: from what was sent before, or written now, chunk by chunk; as gzip if the client asks for it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::reply::{COMPRESS_FROM, Gzip, accepts_gzip, body, json};
use crate::answer::{Chunks, RangeBody};
use crate::cache::finished::{Collected, Finished, FinishedAnswers, Known};
use crate::model::response::Piece;
use crate::model::whole::Packing;
use crate::split::passing::PassingBody;

/// Of an answer of fewer bytes most is labels: it is packed as a whole, not put together of what is packed.
const PACK_WHOLE_BELOW: usize = 16 << 10;

/// The response that says `content`. `finished`: where answers that were sent are kept, if this one may be.
pub(super) fn answer(
    asked: &HeaderMap,
    content: RangeBody,
    finished: Option<&Arc<FinishedAnswers>>,
    is_no_store: bool,
) -> Response {
    let packing = if accepts_gzip(asked) { Packing::Gzip } else { Packing::Plain };
    let finished = finished.filter(|_| content.is_lasting());
    let known = finished.map_or(Known::Nothing, |finished| finished.ask(packing, &content.pieces));
    let response = match known {
        Known::Whole(sent) => whole(&sent),
        Known::Name => written(packing, content, finished),
        Known::Nothing => written(packing, content, None),
    };
    kept_by_nobody_if(is_no_store, response)
}

/// The response that goes on while it comes.
pub(super) fn passing(passing: PassingBody) -> Response {
    let content = Body::from_stream(passing.chunks);
    kept_by_nobody_if(passing.is_no_store, headed(content, Packing::Plain, true))
}

fn kept_by_nobody_if(is_no_store: bool, mut response: Response) -> Response {
    if is_no_store {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// An answer that is written now.
fn written(packing: Packing, content: RangeBody, finished: Option<&Arc<FinishedAnswers>>) -> Response {
    let pieces = Arc::clone(&content.pieces);
    if content.about_bytes() < PACK_WHOLE_BELOW {
        let plain = Bytes::from(content.chunks(Packing::Plain).collect::<Vec<_>>().concat());
        let is_packed = packing == Packing::Gzip && plain.len() >= COMPRESS_FROM;
        let (chunks, is_packed) =
            if is_packed { (Gzip::new(vec![plain]).collect(), Packing::Gzip) } else { (vec![plain], Packing::Plain) };
        return all(&Finished::new(chunks, is_packed), packing, &pieces, finished);
    }
    let mut chunks = content.chunks(packing);
    let first = chunks.next().unwrap_or_default();
    if chunks.is_done() {
        return all(&Finished::new(vec![first], packing), packing, &pieces, finished);
    }
    let collected = finished.map(Collected::new);
    headed(body(Sending { first: Some(first), chunks, packing, pieces, collected }), packing, true)
}

/// An answer all of which is there.
fn all(sent: &Finished, asked: Packing, pieces: &[Piece], finished: Option<&Arc<FinishedAnswers>>) -> Response {
    if let Some(finished) = finished {
        finished.keep(asked, pieces, sent.clone());
    }
    whole(sent)
}

fn whole(sent: &Finished) -> Response {
    let content = if let [only] = &*sent.chunks {
        Body::from(only.clone())
    } else {
        let chunks = Arc::clone(&sent.chunks);
        body((0..chunks.len()).map(move |i| chunks[i].clone()))
    };
    let is_large = sent.packing == Packing::Gzip || sent.length >= COMPRESS_FROM as u64;
    let mut response = headed(content, sent.packing, is_large);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(sent.length));
    response
}

fn headed(content: Body, packing: Packing, is_large: bool) -> Response {
    let mut response = json(StatusCode::OK, content);
    if packing == Packing::Gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if is_large {
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// Chunks as they are taken, and kept if there is room for all of them.
struct Sending {
    first: Option<Bytes>,
    chunks: Chunks,
    packing: Packing,
    pieces: Arc<[Piece]>,
    collected: Option<Collected>,
}

impl Iterator for Sending {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let chunk = self.first.take().or_else(|| self.chunks.next())?;
        self.collected.take_if(|collected| !collected.add(&chunk));
        if self.chunks.is_done()
            && let Some(collected) = self.collected.take()
        {
            collected.keep(self.packing, &self.pieces);
        }
        Some(chunk)
    }
}
