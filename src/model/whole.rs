//! An answer that is handed on as it came: nothing of it is read to be kept, and nothing of it is written anew.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// How the bytes of a body are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// As a gzip stream.
    Gzip,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct WholeAnswer {
    /// Its status code.
    pub status: StatusCode,
    /// Its headers, but for those that speak of the connection, of the moment or of how the body is packed.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// How the body is packed.
    pub packing: Packing,
    /// How long the body is unpacked.
    pub plain_bytes: u64,
}

impl WholeAnswer {
    /// How much memory it holds, in bytes.
    pub fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        size_of::<Self>() + headers + self.body.len()
    }
}
