//! A value that is too long for its server, as several items.
//!
//! The heaviest queries are those that need the cache most, and servers have a longest item (memcached: 1 MiB). So a long value is cut: the
//! first item says how long the whole is and holds its beginning; the others hold the rest, each under the first one's key and
//! its number. Every piece repeats a mark of the whole, so pieces of two writes are never put together.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

/// A value of more pieces is not kept.
pub const MOST_PIECES: usize = 64;
/// Length of the whole, mark of the whole, number of the piece.
const HEAD: usize = 4 + 8 + 2;

/// Cuts a value into items of at most `longest` bytes; none if it would be too many.
pub fn cut(value: &[u8], longest: usize) -> Option<Vec<Bytes>> {
    let room = longest.checked_sub(HEAD).filter(|&room| room > 0)?;
    let (length, mark) = (u32::try_from(value.len()).ok()?, xxh3_64(value));
    let pieces = value.chunks(room).enumerate().map(|(number, piece)| {
        let mut bytes = BytesMut::with_capacity(HEAD + piece.len());
        bytes.put_u32_le(length);
        bytes.put_u64_le(mark);
        bytes.put_u16_le(u16::try_from(number).ok()?);
        bytes.put_slice(piece);
        Some(bytes.freeze())
    });
    if value.len().div_ceil(room) > MOST_PIECES { None } else { pieces.collect() }
}

/// The key of a piece; the first one has the value's own.
pub fn key(of_value: &str, number: usize) -> String {
    if number == 0 { of_value.to_owned() } else { format!("{of_value}/{number}") }
}

/// A piece of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceOfValue {
    length: usize,
    mark: u64,
    number: usize,
    bytes: Bytes,
}

impl PieceOfValue {
    /// Reads one.
    pub fn read(mut bytes: Bytes) -> Option<Self> {
        let (length, mark, number) = (*bytes.first_chunk()?, bytes.get(4..12)?, bytes.get(12..HEAD)?);
        let (length, mark) = (u32::from_le_bytes(length) as usize, u64::from_le_bytes(mark.try_into().ok()?));
        let number = usize::from(u16::from_le_bytes(number.try_into().ok()?));
        bytes.advance(HEAD);
        Some(Self { length, mark, number, bytes })
    }

    /// How many more pieces there are after this one, which is the first; none if it is not, or says what cannot be.
    pub fn rest(&self) -> Option<usize> {
        let missing = self.length.checked_sub(self.bytes.len())?;
        let rest = if missing == 0 { 0 } else { missing.div_ceil(self.bytes.len().max(1)) };
        (self.number == 0 && rest < MOST_PIECES).then_some(rest)
    }
}

/// The value that pieces make, all of them and in order; none unless they are of one value and it is whole.
pub fn join(pieces: &[PieceOfValue]) -> Option<Bytes> {
    let first = pieces.first()?;
    let is_one = pieces
        .iter()
        .enumerate()
        .all(|(number, piece)| piece.number == number && piece.length == first.length && piece.mark == first.mark);
    if !is_one || pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() != first.length {
        return None;
    }
    Some(match pieces {
        [only] => only.bytes.clone(),
        many => Bytes::from(many.iter().map(|piece| &piece.bytes[..]).collect::<Vec<_>>().concat()),
    })
}
