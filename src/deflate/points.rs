//! Float points to bits: what a point has in common with the one before it is a match, the rest are literals.
//!
//! In `[1700000000,"17.25"],[1700000300,"17.5"]` most of a point stands where it stood in the one before, as far back as that one is
//! long. So nothing has to be searched for: a comparison finds how far the time goes on alike, and how far the value does. Digits
//! that are new are not looked for elsewhere: a match far back costs more than they do.
//!
//! Packing is two fifths of what a miss costs. So eight bytes are read at once, four literals are two look-ups, and what is branched
//! on is mostly what it was at the point before. Some bytes more are behind the text, so that reading on needs no care.

use super::Kind;
use super::bits::{BitWriter, End, Room, Word};
use super::code::Code;
use super::symbols::{FARTHEST, LONGEST, SHORTEST};

/// So many points tell the kind of a series.
const LOOKED_AT: usize = 12;
/// New digits of a value, in a hundred points, from which on it is of another kind.
const COUNTERS_FROM: usize = 200;
const FRACTIONS_FROM: usize = 750;
/// `"],`: so many bytes are between the value of a point and the next point.
const BETWEEN: usize = 3;
/// What may be read behind a text.
const PADDING: [u8; 16] = [b' '; 16];
/// A match or a literal has at most so many bytes of bits for each of its text.
const MOST_GROWTH: usize = 2;

/// Where a float point stands in a text: `[`time`,"`value`"]`.
#[derive(Clone, Copy)]
struct Point {
    /// The bracket.
    start: usize,
    /// The comma after the time.
    comma: usize,
    /// The quote after the value.
    close: usize,
}

impl Point {
    /// The one that begins at `start` and follows `before`: their times are mostly equally long. (What stands at the place of the
    /// comma may be another comma. Then too little is found to be alike, and nothing else.)
    #[inline]
    fn read(text: &[u8], start: usize, before: Option<Self>) -> Option<Self> {
        let as_before = before.map(|before| start + (before.comma - before.start));
        let comma = match as_before {
            Some(comma) if text.get(comma) == Some(&b',') => comma,
            _ => other_comma(text, start)?,
        };
        Some(Self { start, comma, close: find(b'"', text, comma + 2)? })
    }

    /// Where the one after it begins, if there is one.
    fn next(self) -> usize {
        self.close + BETWEEN
    }
}

#[cold]
fn other_comma(text: &[u8], start: usize) -> Option<usize> {
    find(b',', text, start)
}

/// What float points look like.
pub fn kind_of(text: &[u8]) -> Kind {
    let (mut seen, mut new) = (0, 0);
    let mut before = Point::read(text, 0, None);
    while let Some(point) = before.filter(|_| seen < LOOKED_AT) {
        let next = Point::read(text, point.next(), before);
        if let Some(next) = next {
            let (value, value_before) = (&text[next.comma..next.close], &text[point.comma..point.close]);
            new += value.len() - common(value, value_before);
            seen += 1;
        }
        before = next;
    }
    match new * 100 / seen.max(1) {
        _ if seen == 0 => Kind::Fractions,
        FRACTIONS_FROM.. => Kind::Fractions,
        COUNTERS_FROM.. => Kind::Counters,
        _ => Kind::Flat,
    }
}

/// Whether [`write_floats`] may write this: no byte is a zero or has the highest bit.
pub fn is_printable(text: &[u8]) -> bool {
    // Without a branch, which would be taken byte by byte.
    !text.iter().fold(false, |is_other, byte| is_other | !(b' '..=b'~').contains(byte))
}

/// Writes printable text, float points as what they are. `copy`: where the text may be written with something behind it.
pub fn write_floats(text: &[u8], code: &Code, out: &mut BitWriter, copy: &mut Vec<u8>) {
    copy.clear();
    copy.extend_from_slice(text);
    copy.extend_from_slice(&PADDING);
    let room = out.room(text.len() * MOST_GROWTH + size_of::<u64>());
    let end = write_padded(copy, text.len(), code, room);
    out.go_on(end);
}

/// Apart, so that it is known here that what is written is not what is read.
#[inline(never)]
fn write_padded(text: &[u8], length: usize, code: &Code, out: Room<'_>) -> End {
    let mut writer = Floats { text, code, out, length: 0, distance: 0 };
    let (mut before, mut written) = (None, 0);
    while let Some(point) = Point::read(text, before.map_or(0, Point::next), before) {
        written = match before {
            // The second has no neighbour before the first that its own could be compared with.
            None => writer.literals(0, point.next().min(length)),
            Some(before) => writer.point_after(before, point, written),
        };
        before = Some(point);
    }
    writer.flush(written);
    writer.literals(written, length);
    writer.out.end()
}

/// Writes literals and matches; matches that follow one another from the same distance are one.
struct Floats<'t, 'o> {
    /// With its padding.
    text: &'t [u8],
    code: &'t Code,
    out: Room<'o>,
    /// The match that is not written yet, which ends where the next thing begins: at most the longest.
    length: usize,
    distance: usize,
}

#[expect(clippy::inline_always, reason = "so the bits that are held stay in registers")]
impl Floats<'_, '_> {
    /// Writes a point from `from` on, which is where its neighbour's value ends or it begins itself. Gives where its value ends.
    #[inline(always)]
    fn point_after(&mut self, before: Point, point: Point, from: usize) -> usize {
        let new = self.point_before_new_digits(before, point, from);
        self.literals(new, point.close)
    }

    #[inline(always)]
    fn point_before_new_digits(&mut self, before: Point, point: Point, from: usize) -> usize {
        let distance = point.start - before.start;
        if distance > FARTHEST || point.comma - distance != before.comma {
            return from;
        }
        if self.length > 0 && self.distance != distance {
            self.flush(from);
        }
        let differs = self.repeat(from, distance, point.close);
        if differs >= point.comma {
            return differs;
        }
        let again = (point.comma - common_end(&self.text[..point.comma], &self.text[..before.comma])).max(differs + 1);
        if again - differs <= 4 {
            let before = self.matched(differs);
            let bytes = eight(self.text, differs) & ((1 << (8 * (again - differs))) - 1);
            self.out.put_both(before, self.code.four(bytes));
        } else {
            self.literals(differs, again);
        }
        let mut at = self.repeat(again, distance, point.close);
        if point.close - at >= RUN && may_end_with_a_run(self.text, point.close) {
            while let Some(run) = find_run(&self.text[at..point.close]) {
                self.literals(at, at + run + 1);
                at = self.repeat(at + run + 1, 1, point.close);
            }
        }
        at
    }

    /// What stands at `at`, as far as `end` and as far as it does, stood `distance` before. Gives where it does not any more.
    #[inline(always)]
    fn repeat(&mut self, at: usize, distance: usize, end: usize) -> usize {
        let most = (end - at).min(LONGEST - self.length);
        let mut length = 0;
        loop {
            let differs = eight(self.text, at + length) ^ eight(self.text, at + length - distance);
            length += differs.trailing_zeros() as usize / 8;
            if differs != 0 || length >= most {
                break;
            }
        }
        let length = length.min(most);
        self.length += length;
        self.distance = distance;
        at + length
    }

    /// Literals, if any, and the match before them.
    #[inline(always)]
    fn literals(&mut self, from: usize, to: usize) -> usize {
        if from == to {
            return to;
        }
        let before = self.matched(from);
        let [first, second] = self.up_to_eight(from, to);
        self.out.put_both(before, first);
        self.out.put(second);
        let mut at = from + 8;
        while at < to {
            let [first, second] = self.up_to_eight(at, to);
            self.out.put_both(first, second);
            at += 8;
        }
        to
    }

    #[inline(always)]
    fn up_to_eight(&self, from: usize, to: usize) -> [Word; 2] {
        let mut bytes = eight(self.text, from);
        if to - from < 8 {
            bytes &= (1 << (8 * (to - from))) - 1;
        }
        [self.code.four(bytes), self.code.four(bytes >> 32)]
    }

    /// Writes the match that ends at `end`, if there is one.
    #[inline(always)]
    fn flush(&mut self, end: usize) {
        let word = self.matched(end);
        self.out.put(word);
    }

    /// The match that ends at `end`; as literals if it is too short to be one.
    #[inline(always)]
    fn matched(&mut self, end: usize) -> Word {
        let length = std::mem::take(&mut self.length);
        if length >= SHORTEST {
            self.code.again(length, self.distance)
        } else {
            self.code.four(eight(self.text, end - length) & ((1 << (8 * length)) - 1))
        }
    }
}

/// The eight bytes at `at`, the first lowest.
#[inline]
fn eight(text: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*text[at..].first_chunk().expect("a text is padded"))
}

/// Where `byte` stands first from `at` on.
#[inline]
fn find(byte: u8, text: &[u8], mut at: usize) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    loop {
        let rest = text.get(at..)?;
        let Some(eight) = rest.first_chunk() else {
            return rest.iter().position(|other| *other == byte).map(|found| at + found);
        };
        let differs = u64::from_le_bytes(*eight) ^ (LOW * u64::from(byte));
        let found = differs.wrapping_sub(LOW) & !differs & (LOW << 7);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
}

/// A match of the same digit is worth its bits from this length on.
const RUN: usize = 6;

/// Whether one of the last digits before `to` may be among [`RUN`] of the same: mostly none is, and then nothing is searched. Behind
/// such digits come those that the last bits of a number make, up to five.
#[inline]
fn may_end_with_a_run(text: &[u8], to: usize) -> bool {
    let Some(at) = to.checked_sub(8) else { return true };
    let bytes = eight(text, at);
    let differs = bytes ^ bytes >> 8; // zero where a byte is followed by the same
    differs & 0xFF_FF00_0000 == 0 || differs.trailing_zeros() >= 16
}

/// Where the same byte stands [`RUN`] times, or somewhat before: the first such place of a text of at most some twenty bytes.
#[inline]
fn find_run(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(eight) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        // Zero where a byte is followed by the same; then where by three of the same.
        let pairs = word ^ word >> 8;
        let differs = (pairs | pairs >> 8 | pairs >> 16) & 0xFF_FFFF_FFFF;
        let zeros = differs.wrapping_sub(0x01_0101_0101) & !differs & 0x80_8080_8080;
        if zeros != 0 {
            let run = at + zeros.trailing_zeros() as usize / 8;
            let is_long = text[run..].iter().take(RUN).filter(|byte| **byte == text[run]).count() == RUN;
            if is_long {
                return Some(run);
            }
        }
        at += 5;
    }
    None
}

/// How many bytes two texts begin with alike.
#[inline]
pub fn common(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    let (mut at, (a, b)) = (0, (&a[..length], &b[..length]));
    while let (Some(x), Some(y)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) {
        let differs = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differs != 0 {
            return at + differs.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(x, y)| x == y).count()
}

/// How many bytes, at most eight, two texts end with alike.
#[inline]
fn common_end(a: &[u8], b: &[u8]) -> usize {
    if let (Some(x), Some(y)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        let differs = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        return differs.leading_zeros() as usize / 8;
    }
    a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
}
