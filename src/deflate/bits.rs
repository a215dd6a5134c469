//! Bits on their way into bytes, the lowest first, as deflate wants them.

/// At most so many bits are given at once.
pub const AT_ONCE: u32 = 56;

/// Some bits, the first lowest, and zeros above them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Word {
    pub bits: u64,
    pub count: u32,
}

impl Word {
    /// Followed by others. Both together are few enough to be given at once.
    #[inline]
    pub fn then(self, next: Self) -> Self {
        Self { bits: self.bits | next.bits << self.count, count: self.count + next.count }
    }
}

/// Writes bits.
#[derive(Debug, Default)]
pub struct BitWriter {
    /// What is written, and behind it bytes that will be written over.
    bytes: Vec<u8>,
    written: usize,
    /// Bits that make no byte yet, below 8 of them, and zeros above.
    hold: u64,
    held: u32,
}

impl BitWriter {
    /// Goes on after whole bytes.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self { written: bytes.len(), bytes, hold: 0, held: 0 }
    }

    /// Makes room for `bytes` more, so that it need not be made little by little.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) {
        let needed = self.written + bytes + size_of::<u64>();
        if self.bytes.len() < needed {
            self.bytes.resize(needed.max(self.bytes.len() + self.bytes.len() / 2), 0);
        }
    }

    /// Appends the lowest `count` bits of `bits`, at most [`AT_ONCE`]; those above are zeros.
    #[inline]
    pub fn put(&mut self, bits: u64, count: u32) {
        debug_assert!(count <= AT_ONCE && bits >> count == 0, "{count} bits are given, and no others");
        self.hold |= bits << self.held;
        self.held += count;
        let Some(room) = self.bytes.get_mut(self.written..).and_then(|rest| rest.first_chunk_mut()) else {
            return self.put_slowly();
        };
        *room = self.hold.to_le_bytes();
        self.let_go();
    }

    /// Appends bits.
    #[inline]
    pub fn put_word(&mut self, word: Word) {
        self.put(word.bits, word.count);
    }

    #[cold]
    fn put_slowly(&mut self) {
        self.reserve(256);
        self.bytes[self.written..self.written + 8].copy_from_slice(&self.hold.to_le_bytes());
        self.let_go();
    }

    /// Goes on in a room of so many bytes, which [`Self::go_on`] has to be told the end of.
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Room<'_> {
        self.reserve(bytes);
        Room { bytes: &mut self.bytes, written: self.written, hold: self.hold, held: self.held }
    }

    /// Goes on where a [`Room`] ended.
    #[inline]
    pub fn go_on(&mut self, end: End) {
        (self.written, self.hold, self.held) = (end.written, end.rest.bits, end.rest.count);
    }

    /// Whole bytes are written.
    #[inline]
    fn let_go(&mut self) {
        self.written += self.held as usize / 8;
        self.hold >>= self.held & !7;
        self.held &= 7;
    }

    /// Appends the first `count` bits of `packed`.
    pub fn splice(&mut self, packed: &[u8], count: usize) {
        self.reserve(count / 8 + 8);
        let (words, _) = packed[..count / 8].as_chunks::<8>();
        if self.held == 0 {
            self.bytes[self.written..self.written + words.len() * 8].copy_from_slice(words.as_flattened());
        } else {
            let (room, _) = self.bytes[self.written..].as_chunks_mut::<8>();
            for (room, word) in room.iter_mut().zip(words) {
                let word = u64::from_le_bytes(*word);
                *room = (self.hold | word << self.held).to_le_bytes();
                self.hold = word >> (64 - self.held);
            }
        }
        self.written += words.len() * 8;
        let mut left = count - words.len() * 64;
        for byte in &packed[words.len() * 8..count.div_ceil(8)] {
            let taken = left.min(8);
            self.put(u64::from(*byte) & ((1 << taken) - 1), u32::try_from(taken).expect("at most 8"));
            left -= taken;
        }
    }

    /// Fills the last byte with zeros.
    pub fn align(&mut self) {
        self.put(0, (8 - self.held) % 8);
    }

    /// Appends whole bytes. The last one before is whole.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.held, 0, "bytes are aligned");
        for byte in bytes {
            self.put(u64::from(*byte), 8);
        }
    }

    /// How many bits were written and not taken.
    pub fn len(&self) -> usize {
        self.written * 8 + self.held as usize
    }

    /// The whole bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.written]
    }

    /// The whole bytes, in the memory that they were written in.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.written);
        self.bytes
    }

    /// Takes the whole bytes so far, in as much memory as they need: what they were written in is written in again.
    pub fn take(&mut self) -> Vec<u8> {
        let taken = self.bytes().to_vec();
        self.written = 0;
        taken
    }
}

/// Where a [`Room`] ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Whole bytes.
    written: usize,
    /// Bits that make no byte yet.
    rest: Word,
}

/// The end of a [`BitWriter`] while much is written to it: what it holds stays in registers, and there is room for all of it.
#[derive(Debug)]
pub struct Room<'w> {
    bytes: &'w mut [u8],
    written: usize,
    hold: u64,
    held: u32,
}

#[expect(clippy::inline_always, reason = "or the bits that are held go through memory")]
impl Room<'_> {
    /// Appends bits, at most [`AT_ONCE`].
    #[inline(always)]
    pub fn put(&mut self, word: Word) {
        debug_assert!(word.count <= AT_ONCE && word.bits >> word.count == 0, "so many bits, and no others");
        self.hold |= word.bits << self.held;
        self.held += word.count;
        let room = self.bytes[self.written..].first_chunk_mut().expect("the room is large enough");
        *room = self.hold.to_le_bytes();
        self.written += self.held as usize / 8;
        self.hold >>= self.held & !7;
        self.held &= 7;
    }

    /// Appends bits and those that follow them.
    #[inline(always)]
    pub fn put_both(&mut self, first: Word, second: Word) {
        if first.count + second.count <= AT_ONCE {
            self.put(first.then(second));
        } else {
            self.put(first);
            self.put(second);
        }
    }

    /// Where it ends.
    #[inline(always)]
    pub fn end(self) -> End {
        End { written: self.written, rest: Word { bits: self.hold, count: self.held } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits_of(bytes: &[u8], count: usize) -> Vec<bool> {
        (0..count).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bits_come_out_as_they_went_in(
            first in prop::collection::vec((any::<u64>(), 0..=AT_ONCE), 0..20),
            packed in prop::collection::vec(any::<u8>(), 0..64),
            cut in 0_usize..8,
            last in prop::collection::vec((any::<u64>(), 0..=AT_ONCE), 0..20),
        ) {
            let (mut writer, mut want) = (BitWriter::default(), Vec::new());
            let put = |writer: &mut BitWriter, want: &mut Vec<bool>, all: &[(u64, u32)]| {
                for (bits, count) in all {
                    let bits = bits & ((1 << count) - 1);
                    writer.put(bits, *count);
                    want.extend((0..*count).map(|i| bits >> i & 1 == 1));
                }
            };
            put(&mut writer, &mut want, &first);
            let count = (packed.len() * 8).saturating_sub(cut);
            writer.splice(&packed, count);
            want.extend(bits_of(&packed, count));
            put(&mut writer, &mut want, &last);
            prop_assert_eq!(writer.len(), want.len());
            writer.align();
            prop_assert_eq!(bits_of(writer.bytes(), want.len()), want);
        }
    }
}
