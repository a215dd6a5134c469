//! Collects an answer as it came: packed if it is packed, read only in passing, and counted before and after unpacking.
//!
//! A long list that comes unpacked is packed on the way, so that holding it costs a fraction of its length.

use std::io::Write;

use axum::body::Body as AnyBody;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;

use super::connect::root_cause;
use super::fetch::{Downstream, in_time, unusable};
use crate::error::{ApiError, ErrorKind};
use crate::model::tenant::TenantId;
use crate::model::whole::{Packing, WholeAnswer};
use crate::sched::dispatch::Submission;
use crate::wire::skim::{Skim, Unkept};

/// What is longer than this is packed.
const PACKED_FROM: usize = 1 << 20;
/// Streams that unpack to this many times their length are taken for bombs …
const MAX_RATIO: u64 = 1000;
/// … once they are longer than this.
const RATIO_FROM: u64 = 64 << 20;
const IN_MEMORY: &str = "a vector takes every write";

/// Headers that speak of the connection, of the moment, or of how this one body is packed.
const OF_THE_MOMENT: [HeaderName; 8] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::DATE,
    // (Another promfront may stand behind this one.)
    HeaderName::from_static("x-promfront-result"),
    header::SET_COOKIE,
    header::AGE,
    header::ACCEPT_RANGES,
    HeaderName::from_static("server-timing"),
];

/// An answer, and whether it is one that may be kept.
#[derive(Debug)]
pub struct Gathered {
    /// The answer.
    pub answer: WholeAnswer,
    /// All headers that it came with.
    pub headers: HeaderMap,
    /// Why it may not be kept, whatever was asked.
    pub verdict: Result<(), Unkept>,
}

impl Downstream {
    /// Asks whoever pulls, and collects the whole answer.
    pub async fn ask_whole(&self, mut submission: Submission) -> Result<Gathered, ApiError> {
        let (deadline, tenant) = (submission.deadline, submission.standing.tenant.clone());
        submission.outgoing.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        in_time(deadline, async { self.gather(self.dispatcher().ask(submission).await?, &tenant).await }).await
    }

    /// Asks a server of ours past the queue, and collects the whole answer.
    pub async fn ask_whole_past_queue(&self, submission: Submission) -> Result<Gathered, ApiError> {
        let Submission { outgoing, deadline, standing } = submission;
        let uri = if outgoing.query.is_empty() { outgoing.path } else { outgoing.path + "?" + &outgoing.query };
        let uri = uri.parse().map_err(|error| {
            let message = format!("the question can't be passed on as a URL: {error}; ask for less at a time");
            ApiError::new(ErrorKind::BadData, message)
        })?;
        let mut request = Request::new(AnyBody::from(outgoing.body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (outgoing.method, uri, outgoing.headers);
        request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        in_time(deadline, async { self.gather(self.forward(request).await?, &standing.tenant).await }).await
    }
}

impl Downstream {
    async fn gather(&self, response: Response<AnyBody>, tenant: &TenantId) -> Result<Gathered, ApiError> {
        let tenants = &self.policy().tenants;
        gather(response, tenants.limits_of(tenant).max_response_bytes).await.map_err(|why| match why {
            Ungathered::TooLarge => tenants.response_too_large(tenant),
            Ungathered::Unusable(problem) => unusable(&problem),
        })
    }
}

/// Why a body is no answer.
enum Ungathered {
    /// It is larger than it may be.
    TooLarge,
    /// It cannot be read.
    Unusable(String),
}

async fn gather(response: Response<AnyBody>, limit: u64) -> Result<Gathered, Ungathered> {
    let (head, mut body) = response.into_parts();
    let packing = match head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity" | b"") => Packing::Plain,
        Some(gzip) if gzip.eq_ignore_ascii_case(b"gzip") || gzip.eq_ignore_ascii_case(b"x-gzip") => Packing::Gzip,
        Some(_) => return Err(Ungathered::Unusable("its content encoding was not asked for".to_owned())),
    };
    let mut collector = Collector::new(packing, limit);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Ungathered::Unusable(format!("it ended early: {}", root_cause(&error))))?;
        if let Ok(data) = frame.into_data() {
            collector.take(&data)?;
        }
    }
    let (body, packing, reader) = collector.finish()?;
    // (VictoriaMetrics calls some of its JSON `application/stream+json`: the body is looked at, not its name.)
    let verdict = if head.status == StatusCode::OK { reader.skim.finish() } else { Err(Unkept::Shape) };
    let mut headers = head.headers.clone();
    for name in OF_THE_MOMENT {
        headers.remove(&name);
    }
    let answer = WholeAnswer { status: head.status, headers, body, packing, plain_bytes: reader.bytes };
    Ok(Gathered { answer, headers: head.headers, verdict })
}

/// Reads what passes, unpacked.
struct Reader {
    skim: Skim,
    bytes: u64,
    limit: u64,
    received: u64,
}

/// Why the reader wants no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Enough {
    #[error("it is longer than it may be")]
    TooLarge,
    #[error("it grows without measure")]
    Bomb,
}

impl Reader {
    fn new(limit: u64) -> Self {
        Self { skim: Skim::default(), bytes: 0, limit, received: 0 }
    }

    fn read(&mut self, plain: &[u8]) -> Result<(), Enough> {
        self.bytes += plain.len() as u64;
        if self.bytes > self.limit {
            return Err(Enough::TooLarge);
        }
        if self.bytes > RATIO_FROM && self.bytes / self.received.max(1) > MAX_RATIO {
            return Err(Enough::Bomb);
        }
        self.skim.take(plain);
        Ok(())
    }
}

impl Write for Reader {
    fn write(&mut self, plain: &[u8]) -> std::io::Result<usize> {
        self.read(plain).map_err(std::io::Error::other)?;
        Ok(plain.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What has arrived.
enum Collector {
    Plain {
        bytes: Vec<u8>,
        reader: Reader,
    },
    /// It came plain, and is packed.
    Packed {
        packer: Box<GzEncoder<Vec<u8>>>,
        reader: Reader,
    },
    Gzip {
        bytes: Vec<u8>,
        unpacker: Box<MultiGzDecoder<Reader>>,
    },
}

impl Collector {
    fn new(packing: Packing, limit: u64) -> Self {
        let reader = Reader::new(limit);
        match packing {
            Packing::Plain => Self::Plain { bytes: Vec::new(), reader },
            Packing::Gzip => Self::Gzip { bytes: Vec::new(), unpacker: Box::new(MultiGzDecoder::new(reader)) },
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Ungathered> {
        match self {
            Self::Plain { bytes, reader } => {
                reader.received += data.len() as u64;
                reader.read(data)?;
                bytes.extend_from_slice(data);
                if bytes.len() > PACKED_FROM {
                    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
                    packer.write_all(bytes).expect(IN_MEMORY);
                    let reader = std::mem::replace(reader, Reader::new(0));
                    *self = Self::Packed { packer: Box::new(packer), reader };
                }
            }
            Self::Packed { packer, reader } => {
                reader.received += data.len() as u64;
                reader.read(data)?;
                packer.write_all(data).expect(IN_MEMORY);
            }
            Self::Gzip { bytes, unpacker } => {
                unpacker.get_mut().received += data.len() as u64;
                if unpacker.get_ref().received > unpacker.get_ref().limit {
                    return Err(Ungathered::TooLarge);
                }
                unpacker.write_all(data)?;
                bytes.extend_from_slice(data);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(Bytes, Packing, Reader), Ungathered> {
        match self {
            Self::Plain { bytes, reader } => Ok((exactly(bytes), Packing::Plain, reader)),
            Self::Packed { packer, reader } => Ok((exactly(packer.finish().expect(IN_MEMORY)), Packing::Gzip, reader)),
            // A body of nothing is no gzip stream, and Go sends it so.
            Self::Gzip { bytes, .. } if bytes.is_empty() => Ok((Bytes::new(), Packing::Plain, Reader::new(0))),
            Self::Gzip { bytes, unpacker } => {
                let reader = unpacker.finish()?;
                Ok((exactly(bytes), Packing::Gzip, reader))
            }
        }
    }
}

/// What is kept holds no room that it does not need.
fn exactly(mut bytes: Vec<u8>) -> Bytes {
    bytes.shrink_to_fit();
    bytes.into()
}

impl From<Enough> for Ungathered {
    fn from(enough: Enough) -> Self {
        match enough {
            Enough::TooLarge => Self::TooLarge,
            Enough::Bomb => Self::Unusable("its gzip stream grows without measure".to_owned()),
        }
    }
}

/// What the unpacker says.
impl From<std::io::Error> for Ungathered {
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<Enough>()) {
            Some(enough) => (*enough).into(),
            None => Self::Unusable(format!("its gzip stream is broken: {error}")),
        }
    }
}
