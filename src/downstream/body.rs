//! A body that is collected: counted while it arrives, before and after decoding, and never larger than its limit.

use std::io::Write;

use bytes::Bytes;

/// Bodies of a whole gzip stream that are this much larger than it are taken for bombs.
const MAX_GZIP_RATIO: u64 = 200;
/// … once they are larger than this.
const GZIP_RATIO_FROM: u64 = 1 << 20;

/// Collects a body, decoding it on the way, and never holds more than its limit.
#[derive(Debug)]
pub(super) struct Sink {
    received: u64,
    limit: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Plain(Vec<u8>),
    Gzip(Box<flate2::write::MultiGzDecoder<Bounded>>),
}

/// Why a body is not taken.
pub(super) enum SinkError {
    /// It is larger than it may be.
    TooLarge,
    /// It is not what its encoding says.
    Gzip(std::io::Error),
    /// It grows without measure.
    Bomb,
}

/// A buffer that refuses to grow past its limit.
#[derive(Debug)]
struct Bounded {
    bytes: Vec<u8>,
    limit: u64,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() as u64 + data.len() as u64 > self.limit {
            self.is_full = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Appends what came. Growing in place would hold the allocator's lock while megabytes are copied, and others wait for it who let go of
/// what they have sent.
fn append(bytes: &mut Vec<u8>, data: &[u8]) {
    let needed = bytes.len() + data.len();
    if needed > bytes.capacity() {
        let mut larger = Vec::with_capacity(needed.max(2 * bytes.capacity()));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
}

impl Sink {
    /// An empty one, for about `hint` bytes and at most `limit`.
    pub(super) fn new(hint: usize, is_gzip: bool, limit: u64) -> Self {
        let target = if is_gzip {
            let bounded = Bounded { bytes: Vec::new(), limit, is_full: false };
            Target::Gzip(Box::new(flate2::write::MultiGzDecoder::new(bounded)))
        } else {
            Target::Plain(Vec::with_capacity(hint))
        };
        Self { received: 0, limit, target }
    }

    /// Takes what arrived.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), SinkError> {
        self.received += data.len() as u64;
        let limit = self.limit;
        if self.received > limit {
            return Err(SinkError::TooLarge);
        }
        match &mut self.target {
            Target::Plain(bytes) => append(bytes, data),
            Target::Gzip(decoder) => {
                if let Err(error) = decoder.write_all(data) {
                    return Err(if decoder.get_ref().is_full { SinkError::TooLarge } else { SinkError::Gzip(error) });
                }
                let grown = decoder.get_ref().bytes.len() as u64;
                if grown > GZIP_RATIO_FROM && grown / self.received > MAX_GZIP_RATIO {
                    return Err(SinkError::Bomb);
                }
            }
        }
        Ok(())
    }

    /// What has come, decoded.
    pub(super) fn so_far(&self) -> &[u8] {
        match &self.target {
            Target::Plain(bytes) => bytes,
            Target::Gzip(decoder) => &decoder.get_ref().bytes,
        }
    }

    /// The whole body.
    pub(super) fn finish(self) -> Result<Bytes, SinkError> {
        match self.target {
            Target::Plain(bytes) => Ok(bytes.into()),
            Target::Gzip(mut decoder) => match decoder.try_finish() {
                Err(_) if decoder.get_ref().is_full => Err(SinkError::TooLarge),
                Err(error) => Err(SinkError::Gzip(error)),
                Ok(()) => Ok(std::mem::take(&mut decoder.get_mut().bytes).into()),
            },
        }
    }
}
