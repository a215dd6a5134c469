//! Bits back to text. Only what was packed here is read here: it needs no check, and lies within its bounds.

use super::Run;
use super::code::{MOST_BITS, words_of};
use super::symbols::{END, FIRST_LENGTH, LENGTHS, RANGES_OF_DISTANCES, Range};

/// So many bits are looked up at once: mostly three digits, or all of a match.
const AT_ONCE: u32 = 12;
const AT_ONCE_OF_DISTANCES: u32 = 8;
/// A match is copied in pieces of so many bytes, the last of which may reach beyond it.
const PIECE: usize = 16;
/// What may be written beyond a text while it is unpacked: a longest match, and its last piece.
pub const SLACK: usize = 258 + PIECE;
/// Bits are read eight bytes at a time, and up to seven bytes ahead: so many have to follow the last.
pub const PADDING: usize = 16;

/// What some bits begin with.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many literals.
    Literals { bytes: [u8; 4], count: u8, bits: u8 },
    /// A match.
    Match { length: u16, distance: u16, bits: u8 },
    /// A length, of which `extra` more bits follow.
    Length { base: u16, extra: u8, bits: u8 },
    /// A symbol of more bits than are looked up at once.
    Long,
}

/// A code, to be read.
#[derive(Debug)]
pub struct Decoder {
    steps: Box<[Step]>,
    /// Symbol and bits, by as many bits as any symbol has.
    all: Box<[(u16, u8)]>,
    /// The symbol of a distance and its bits; no bits if it has more than are looked up at once.
    distances: Box<[(u8, u8)]>,
    all_distances: Box<[(u16, u8)]>,
}

impl Decoder {
    /// For the lengths of the words of all symbols.
    pub fn new(literals: &[u8], distances: &[u8]) -> Self {
        let (all, all_distances) = (by_bits(literals), by_bits(distances));
        let steps = (0..1_usize << AT_ONCE).map(|bits| step(&all, &all_distances, bits)).collect();
        let near = |bits: usize| match all_distances[bits] {
            (symbol, count) if u32::from(count) <= AT_ONCE_OF_DISTANCES => (symbol as u8, count),
            _ => (0, 0),
        };
        let distances = (0..1 << AT_ONCE_OF_DISTANCES).map(near).collect();
        Self { steps, all, distances, all_distances }
    }
}

/// For all values of as many bits as a word may have: which symbol they begin with, and how many bits it has.
fn by_bits(lengths: &[u8]) -> Box<[(u16, u8)]> {
    let mut symbols = vec![(0, 0); 1 << MOST_BITS].into_boxed_slice();
    for (symbol, (word, length)) in
        words_of(lengths).iter().zip(lengths).enumerate().filter(|(_, (_, length))| **length > 0)
    {
        let found = (symbol as u16, *length);
        (word.bits as usize..1 << MOST_BITS).step_by(1 << length).for_each(|bits| symbols[bits] = found);
    }
    symbols
}

/// As many literals as `bits` hold, or what else they begin with.
fn step(all: &[(u16, u8)], distances: &[(u16, u8)], bits: usize) -> Step {
    let (mut bytes, mut count, mut used) = ([0; 4], 0_u8, 0_u8);
    while count < 3 {
        let (symbol, length) = all[bits >> used];
        let is_seen = u32::from(used + length) <= AT_ONCE;
        match (is_seen, usize::from(symbol)) {
            (true, literal) if literal < END => {
                bytes[usize::from(count)] = literal as u8;
                (count, used) = (count + 1, used + length);
            }
            (true, symbol) if symbol >= FIRST_LENGTH && count == 0 => {
                let range = LENGTHS[symbol - FIRST_LENGTH];
                return match_step(range, length, distances, bits >> length);
            }
            _ => break,
        }
    }
    if count == 0 { Step::Long } else { Step::Literals { bytes, count, bits: used } }
}

/// The match that begins with a length of `range`, `used` bits long, if what follows it can be seen.
fn match_step(range: Range, used: u8, distances: &[(u16, u8)], bits: usize) -> Step {
    let (symbol, count) = distances[bits >> range.extra];
    let far = RANGES_OF_DISTANCES[usize::from(symbol)];
    let all = used + range.extra + count + far.extra;
    if u32::from(all) > AT_ONCE {
        return Step::Length { base: range.base, extra: range.extra, bits: used };
    }
    let extra = |bits: usize, range: Range| range.base + (bits & ((1 << range.extra) - 1)) as u16;
    Step::Match { length: extra(bits, range), distance: extra(bits >> (range.extra + count), far), bits: all }
}

/// Bits that are read from the front.
struct BitReader<'b> {
    bytes: &'b [u8],
    at: usize,
    hold: u64,
    held: u32,
}

impl BitReader<'_> {
    /// Makes sure that 56 bits are there. The padding is there for that.
    #[inline]
    fn refill(&mut self) {
        let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) else { return };
        self.hold |= u64::from_le_bytes(*word) << self.held;
        self.at += (63 - self.held as usize) / 8;
        self.held |= 0b11_1000;
    }

    #[inline]
    fn peek(&self, count: u32) -> usize {
        (self.hold & ((1 << count) - 1)) as usize
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.hold >>= count;
        self.held -= count;
    }

    #[inline]
    fn take(&mut self, count: u32) -> usize {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }
}

/// Appends the text of a run, whose bits lie in `bits` with [`PADDING`] after the last.
pub fn unpack(bits: &[u8], run: &Run, text: &mut Vec<u8>) {
    let decoder = &super::code::of(run.kind).decoder;
    let (start, end) = (text.len(), text.len() + run.text_bytes as usize);
    text.resize(end + SLACK, 0);
    let room = &mut text[..];
    let mut reader = BitReader { bytes: &bits[run.start as usize..], at: 0, hold: 0, held: 0 };
    let mut at = start;
    while at < end {
        reader.refill();
        let mut step = decoder.steps[reader.peek(AT_ONCE)];
        if let Step::Literals { bytes, count, bits } = step {
            room[at..at + 4].copy_from_slice(&bytes);
            at += usize::from(count);
            reader.skip(u32::from(bits));
            step = decoder.steps[reader.peek(AT_ONCE)];
        }
        match step {
            Step::Literals { bytes, count, bits } => {
                room[at..at + 4].copy_from_slice(&bytes);
                at += usize::from(count);
                reader.skip(u32::from(bits));
            }
            // It may be the padding.
            _ if at >= end => break,
            Step::Match { length, distance, bits } => {
                reader.skip(u32::from(bits));
                repeat(room, at, usize::from(length), usize::from(distance));
                at += usize::from(length);
            }
            Step::Length { base, extra, bits } => {
                reader.skip(u32::from(bits));
                let length = usize::from(base) + reader.take(u32::from(extra));
                let distance = decoder.distance(&mut reader);
                repeat(room, at, length, distance);
                at += length;
            }
            Step::Long => {
                reader.refill();
                at = decoder.long(&mut reader, room, at);
            }
        }
    }
    text.truncate(end);
}

impl Decoder {
    /// A symbol of many bits. Gives where the text goes on.
    #[cold]
    fn long(&self, reader: &mut BitReader<'_>, text: &mut [u8], at: usize) -> usize {
        let (symbol, bits) = self.all[reader.peek(MOST_BITS.into())];
        reader.skip(u32::from(bits));
        let Some(range) = usize::from(symbol).checked_sub(FIRST_LENGTH).map(|i| LENGTHS[i]) else {
            text[at] = symbol as u8;
            return at + 1;
        };
        let length = usize::from(range.base) + reader.take(u32::from(range.extra));
        let distance = self.distance(reader);
        repeat(text, at, length, distance);
        at + length
    }

    #[inline]
    fn distance(&self, reader: &mut BitReader<'_>) -> usize {
        let (mut symbol, mut bits) = self.distances[reader.peek(AT_ONCE_OF_DISTANCES)];
        if bits == 0 {
            let (long, count) = self.all_distances[reader.peek(MOST_BITS.into())];
            (symbol, bits) = (long as u8, count);
        }
        reader.skip(u32::from(bits));
        let range = RANGES_OF_DISTANCES[usize::from(symbol)];
        usize::from(range.base) + reader.take(u32::from(range.extra))
    }
}

/// Writes at `at` again what stands `distance` before.
#[inline]
fn repeat(text: &mut [u8], at: usize, length: usize, distance: usize) {
    let from = at - distance;
    if distance >= PIECE {
        let mut done = 0;
        while done < length {
            let mut piece = [0; PIECE];
            piece.copy_from_slice(&text[from + done..from + done + PIECE]);
            text[at + done..at + done + PIECE].copy_from_slice(&piece);
            done += PIECE;
        }
    } else {
        (0..length).for_each(|i| text[at + i] = text[from + i]);
    }
}
