//! A value that is too long for its server, as several items.
//!
//! The heaviest queries are those that need the cache most, and servers have a longest item (memcached: 1 MiB). So a
//! long value is cut: the first item says how long the whole is and holds its beginning; the others hold the rest, each
//! under the first one's key and its number. Every piece repeats a mark of the whole, so pieces of two writes are never
//! put together.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(length: usize, seed: u8) -> Vec<u8> {
        (0..length).map(|i| (i % 251).to_le_bytes()[0] ^ seed).collect()
    }

    fn read(pieces: &[Bytes]) -> Option<Vec<PieceOfValue>> {
        pieces.iter().map(|piece| PieceOfValue::read(piece.clone())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_cut_is_joined(length in 1_usize..5000, longest in 0_usize..400) {
            let value = value(length, 0);
            let Some(pieces) = cut(&value, longest) else {
                let room = longest.saturating_sub(HEAD);
                prop_assert!(room == 0 || length > room * MOST_PIECES, "{length} fit into {longest}");
                return Ok(());
            };
            prop_assert!(pieces.len() <= MOST_PIECES && pieces.iter().all(|piece| piece.len() <= longest));
            let pieces = read(&pieces).expect("they are pieces");
            prop_assert_eq!(pieces[0].rest(), Some(pieces.len() - 1), "the first one tells how many there are");
            prop_assert_eq!(join(&pieces), Some(value.into()));
        }

        #[test]
        fn pieces_that_are_not_all_and_in_order_are_nothing(
            length in 2_usize..600,
            longest in 15_usize..60,
            (one, other) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let Some(pieces) = cut(&value(length, 0), longest).and_then(|pieces| read(&pieces)) else { return Ok(()) };
            let theirs = cut(&value(length, 1), longest).and_then(|pieces| read(&pieces)).expect("as many");
            let (one, other) = (one.index(pieces.len()), other.index(pieces.len()));
            let mut missing = pieces.clone();
            missing.remove(one);
            prop_assert_eq!(join(&missing), None, "one is missing");
            let mut doubled = pieces.clone();
            doubled.insert(one, pieces[one].clone());
            prop_assert_eq!(join(&doubled), None, "one is there twice");
            let mut swapped = pieces.clone();
            swapped.swap(one, other);
            prop_assert_eq!(join(&swapped).is_some(), one == other, "two are swapped");
            let mut replaced = pieces.clone();
            replaced[one] = pieces[other].clone();
            prop_assert_eq!(join(&replaced).is_some(), one == other, "one is there in place of another");
            let mut mixed = pieces.clone();
            mixed[one] = theirs[one].clone();
            prop_assert_eq!(join(&mixed).is_some(), pieces.len() == 1, "one is of another write");
        }

        #[test]
        fn a_head_may_say_anything(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(piece) = PieceOfValue::read(Bytes::from(bytes)) {
                prop_assert!(piece.rest().is_none_or(|rest| rest < MOST_PIECES));
                if let Some(whole) = join(std::slice::from_ref(&piece)) {
                    prop_assert_eq!((whole.len(), piece.number, piece.rest()), (piece.length, 0, Some(0)));
                }
            }
        }
    }

    fn head(length: u32, number: u16, bytes: &[u8]) -> PieceOfValue {
        let mut piece = BytesMut::new();
        piece.put_u32_le(length);
        piece.put_u64_le(7);
        piece.put_u16_le(number);
        piece.put_slice(bytes);
        PieceOfValue::read(piece.freeze()).expect("it has a head")
    }

    #[test]
    fn heads_that_lie_ask_for_nothing() {
        for (length, number, bytes, rest) in [
            (u32::MAX, 0, 0, None),
            (u32::MAX, 0, 1 << 20, None),
            (100, 0, 100, Some(0)),
            (100, 0, 101, None),
            (101, 0, 100, Some(1)),
            (200, 0, 100, Some(1)),
            (201, 0, 100, Some(2)),
            (6400, 0, 100, Some(63)),
            (6401, 0, 100, None),
            (63, 0, 0, Some(63)),
            (64, 0, 0, None),
            (100, 1, 100, None),
            (0, 0, 0, Some(0)),
        ] {
            assert_eq!(head(length, number, &vec![0; bytes]).rest(), rest, "{length}, {number}, {bytes}");
        }
        assert!(PieceOfValue::read(Bytes::from_static(&[0; HEAD - 1])).is_none());
        assert_eq!(join(&[]), None);
        assert_eq!(join(&[head(4, 0, b"ab"), head(4, 1, b"cd")]), Some(Bytes::from_static(b"abcd")));
        assert_eq!(join(&[head(4, 0, b"ab"), head(4, 1, b"c")]), None);
        assert_eq!(join(&[head(4, 0, b"ab"), head(5, 1, b"cd")]), None);
        assert_eq!(join(&[head(4, 0, b"ab"), head(4, 2, b"cd")]), None);
    }

    #[test]
    fn at_the_most_pieces() {
        let most = MOST_PIECES * 10;
        assert_eq!(cut(&value(most, 0), HEAD + 10).map(|pieces| pieces.len()), Some(MOST_PIECES));
        assert_eq!(cut(&value(most + 1, 0), HEAD + 10), None);
        assert_eq!(cut(&value(1, 0), HEAD), None);
        assert_eq!(cut(&value(1, 0), HEAD + 1).map(|pieces| pieces.len()), Some(1));
        assert_eq!(cut(&value(1, 0), 0), None);
    }

    #[test]
    fn pieces_have_keys_of_their_own() {
        assert_eq!([key("k", 0), key("k", 1), key("k", 63)], ["k", "k/1", "k/63"]);
    }
}
