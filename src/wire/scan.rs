//! A cursor over JSON text that accepts one exact shape and says where it met another.
//!
//! Prometheus writes compact JSON. The cursor takes just that; whitespace or an unexpected key is [`Odd`], which the
//! caller turns into a verdict. It never recurses, never allocates, and never reads past the end.

use std::ops::Range;

use super::stride::Joint;

/// The text is not of the expected shape at this byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Odd {
    pub(super) at: usize,
}

pub(super) type Scan<T> = Result<T, Odd>;

/// A place in a text.
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn at_byte(text: &'t [u8], at: usize) -> Self {
        Self { text, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn odd<T>(&self) -> Scan<T> {
        Err(Odd { at: self.at })
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Takes `literal` if it comes next.
    #[inline]
    pub(super) fn take(&mut self, literal: &[u8]) -> bool {
        let taken = self.text[self.at..].starts_with(literal);
        if taken {
            self.at += literal.len();
        }
        taken
    }

    /// Takes `literal`, which must come next.
    #[inline]
    pub(super) fn expect(&mut self, literal: &[u8]) -> Scan<()> {
        if self.take(literal) { Ok(()) } else { self.odd() }
    }

    /// Takes a string and gives the range of its inside, which is UTF-8, its escapes checked but not resolved.
    pub(super) fn string(&mut self) -> Scan<Range<usize>> {
        self.expect(b"\"")?;
        let start = self.at;
        let mut seen = 0;
        loop {
            self.skip(|word| {
                seen |= word;
                (is(word, b'"') | is(word, b'\\') | below(word, 0x20)) & HIGHS
            });
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(byte @ 0x20..) => {
                    seen |= u64::from(byte);
                    self.at += 1;
                }
                _ => return self.odd(),
            }
        }
        let inside = start..self.at;
        self.at += 1;
        let is_text = seen & HIGHS == 0 || std::str::from_utf8(&self.text[inside.clone()]).is_ok();
        if is_text { Ok(inside) } else { self.odd() }
    }

    /// Passes the bytes before the first that `stops` marks, as far as there are eight to be looked at together.
    #[inline]
    fn skip(&mut self, mut stops: impl FnMut(u64) -> u64) {
        while let Some(&word) = self.text[self.at..].first_chunk() {
            let passed = stops(u64::from_le_bytes(word)).trailing_zeros() as usize / 8;
            self.at += passed;
            if passed < 8 {
                break;
            }
        }
    }

    fn escape(&mut self) -> Scan<()> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.text.get(self.at + 2..self.at + 6) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => self.at += 6,
                _ => return self.odd(),
            },
            _ => return self.odd(),
        }
        Ok(())
    }

    /// Takes `[item,…]`, possibly empty.
    pub(super) fn array(&mut self, item: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.listed(b"[", b"]", item)
    }

    /// Takes `{"key":value,…}`, possibly empty; `member` is given the key's range and takes the value.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, Range<usize>) -> Scan<()>) -> Scan<()> {
        self.listed(b"{", b"}", |cursor| {
            let key = cursor.string()?;
            cursor.expect(b":")?;
            member(cursor, key)
        })
    }

    fn listed(&mut self, open: &[u8], close: &[u8], mut item: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        self.expect(open)?;
        if self.take(close) {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(close) {
                return Ok(());
            }
            self.expect(b",")?;
        }
    }

    /// Takes the time of a sample, in milliseconds: seconds with at most three decimals.
    #[inline]
    pub(super) fn sample_time(&mut self) -> Scan<i64> {
        let negative = self.take(b"-");
        let leads_with_zero = self.peek() == Some(b'0');
        let (mut ms, digits) = self.digits(0);
        if digits == 0 || digits > 15 || (leads_with_zero && digits > 1) {
            return self.odd();
        }
        let mut decimals = 0;
        if self.take(b".") {
            (ms, decimals) = self.digits(ms);
            if decimals == 0 || decimals > 3 {
                return self.odd();
            }
        }
        for _ in decimals..3 {
            ms *= 10;
        }
        Ok(if negative { -ms } else { ms })
    }

    /// Appends the digits that come next to `value`; stops after sixteen, which no caller accepts.
    #[inline]
    fn digits(&mut self, mut value: i64) -> (i64, usize) {
        let start = self.at;
        if let Some(&word) = self.text[start..].first_chunk()
            && let Some(eight) = eight_digits(u64::from_le_bytes(word))
        {
            value = value.wrapping_mul(100_000_000).wrapping_add(eight);
            self.at += 8;
        }
        while let Some(byte) = self.peek().filter(u8::is_ascii_digit) {
            value = value.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
            self.at += 1;
            if self.at - start > 15 {
                break;
            }
        }
        (value, self.at - start)
    }

    /// Takes a sample value: a string of the characters that floats are written with.
    #[inline]
    pub(super) fn value(&mut self) -> Scan<()> {
        self.expect(b"\"")?;
        self.float()?;
        self.expect(b"\"")
    }

    /// Takes the inside of a sample value: the characters that floats are written with, as far as they go.
    #[inline]
    pub(super) fn float(&mut self) -> Scan<()> {
        let start = self.at;
        self.take(b"-");
        self.skip(|word| beyond(word ^ DIGITS, 9) & beyond(word ^ DOTS, 0) & HIGHS);
        while self.peek().is_some_and(|byte| OF_A_FLOAT[usize::from(byte)]) {
            self.at += 1;
        }
        if self.at == start { self.odd() } else { Ok(()) }
    }

    /// Takes points of which each follows the one before by one step, from the inside of a value to the inside of the last
    /// one, and gives the last one's time.
    #[inline]
    pub(super) fn floats(&mut self, mut joint: Joint<'_>, last: i64) -> Scan<i64> {
        self.float()?;
        while let Some(length) = joint.meet(&self.text[self.at..], last) {
            self.at += length;
            self.float()?;
        }
        Ok(joint.time())
    }
}

// Eight bytes at once: a byte's highest bit is its mark. Sums and differences run over into the bytes after the first that
// is marked, so the marks of those mean nothing.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;
const DIGITS: u64 = ONES * b'0' as u64;
const DOTS: u64 = ONES * b'.' as u64;

/// Marks the first byte below `limit`, which is at most 0x80.
#[inline]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word
}

/// Marks the first byte that is `byte`.
#[inline]
fn is(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Marks the first byte beyond `limit`, which is less than 0x80.
#[inline]
fn beyond(word: u64, limit: u8) -> u64 {
    word.wrapping_add(ONES * u64::from(0x7F - limit)) | word
}

/// The number that eight digits write, the first of them in the lowest byte: neighbours are joined to pairs, to fours, to all.
#[inline]
fn eight_digits(word: u64) -> Option<i64> {
    const PAIRS: u64 = 0x00FF_00FF_00FF_00FF;
    const FOURS: u64 = 0x0000_FFFF_0000_FFFF;
    let digits = word ^ DIGITS;
    if beyond(digits, 9) & HIGHS != 0 {
        return None;
    }
    let pairs = ((digits * 10) + (digits >> 8)) & PAIRS;
    let fours = ((pairs * 100) + (pairs >> 16)) & FOURS;
    let eight = (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF;
    Some(eight.cast_signed())
}

/// The characters of `-1.5e+06`, `NaN`, `+Inf`.
static OF_A_FLOAT: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"0123456789+-.eENaInf";
    let mut i = 0;
    while i < allowed.len() {
        table[allowed[i] as usize] = true;
        i += 1;
    }
    table
};
