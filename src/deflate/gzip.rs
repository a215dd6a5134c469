//! A gzip member that is put together: packed runs as they are, and what stands between them.
//!
//! All of it is one deflate stream in blocks of the house's codes; a block ends only where a run of another kind begins, or many points of another kind. What
//! stands between runs (labels and punctuation) is written when the next run comes, by its code; what it has in common with what stood
//! before the series before is a match. So are points that stood still, of a series whose neighbour's are the same.

use crc32fast::Hasher;

use super::bits::{BitWriter, Word};
use super::code::{self, Code};
use super::crc;
use super::points::common;
use super::recent::Recent;
use super::symbols::{END, FARTHEST, LONGEST, SHORTEST};
use super::{Kind, Points, Run};

/// ID, deflate, no flags, no time, nothing about the compressor, an unknown system (RFC 1952, 2.3).
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// What is shorter than this is not worth remembering.
const WORTH_REPEATING: usize = 24;
/// Points of so little text are not looked for.
const WORTH_FINDING: usize = 8;
/// So much text has to be before another code saves more than the some fifty bytes that a block begins with, and those of the next.
const WORTH_A_BLOCK: usize = 1 << 10;

/// Writes a gzip member.
#[derive(Debug)]
pub struct Gzip {
    out: BitWriter,
    /// The block that is open.
    block: Option<(Kind, &'static Code)>,
    crc: u32,
    length: u64,
    /// Text that waits for the next run.
    between: Vec<u8>,
    /// Of points that are packed here.
    copy: Vec<u8>,
    /// The last long text that was written, and where it began.
    before: (Vec<u8>, u64),
    /// Runs that stand still.
    runs: Recent,
    /// Points that were packed here and stand still, or are few.
    texts: Recent,
}

impl Default for Gzip {
    fn default() -> Self {
        Self {
            out: BitWriter::after(HEAD.to_vec()),
            block: None,
            crc: 0,
            length: 0,
            between: Vec::new(),
            copy: Vec::new(),
            before: (Vec::new(), 0),
            runs: Recent::default(),
            texts: Recent::default(),
        }
    }
}

impl Gzip {
    /// Appends text that is no points.
    pub fn text(&mut self, text: &[u8]) {
        self.between.extend_from_slice(text);
    }

    /// Appends a run of the packed `bits`.
    pub fn run(&mut self, bits: &[u8], run: &Run) {
        let (bits, count) = (&bits[run.start as usize..], run.bits as usize);
        let is_still = run.kind == Kind::Flat && run.text_bytes as usize >= WORTH_FINDING;
        let at = self.at();
        if let Some(distance) = is_still.then(|| self.runs.distance(&bits[..count.div_ceil(8)], at)).flatten() {
            let code = self.go_on(run.kind);
            self.again(code, run.text_bytes as usize, distance);
        } else {
            self.open(run.kind);
            self.out.splice(bits, count);
        }
        self.crc = crc::append(self.crc, run.crc, run.text_bytes);
        self.length += u64::from(run.text_bytes);
    }

    /// Appends points that are not packed, by the code of a kind; a few by that of the points before them.
    pub fn points(&mut self, points: Points, kind: Kind, text: &[u8]) {
        let are_few = text.len() < WORTH_A_BLOCK;
        let may_be_found = (are_few || kind == Kind::Flat) && text.len() >= WORTH_FINDING;
        let at = self.at();
        let distance = may_be_found.then(|| self.texts.distance(text, at)).flatten();
        let code = if are_few || distance.is_some() { self.go_on(kind) } else { self.open(kind) };
        match distance {
            Some(distance) => self.again(code, text.len(), distance),
            None => points.write(text, code, &mut self.out, &mut self.copy),
        }
        self.count(text);
    }

    /// Where the points that come next begin.
    fn at(&self) -> u64 {
        self.length + self.between.len() as u64
    }

    /// How many bytes are there to be taken.
    pub fn ready(&self) -> usize {
        self.out.bytes().len()
    }

    /// Takes what is there.
    pub fn take(&mut self) -> Vec<u8> {
        self.out.take()
    }

    /// Ends the member, and gives the rest of it.
    pub fn finish(mut self) -> Vec<u8> {
        // What still waits goes into the block that is open, whichever that is.
        let code = self.go_on(Kind::Fractions);
        put(&mut self.out, code.literal(END));
        self.out.put(0b011, 3); // the last block, by the fixed code
        self.out.put(0, 7); // which ends
        self.out.align();
        self.out.put_bytes(&self.crc.to_le_bytes());
        self.out.put_bytes(&self.length.to_le_bytes()[..4]);
        self.out.take()
    }

    fn count(&mut self, text: &[u8]) {
        let mut hasher = Hasher::new_with_initial(self.crc);
        hasher.update(text);
        self.crc = hasher.finalize();
        self.length += text.len() as u64;
    }

    /// Goes on in the block that is open, or opens one.
    fn go_on(&mut self, kind: Kind) -> &'static Code {
        self.open(self.block.map_or(kind, |(kind, _)| kind))
    }

    /// Opens a block for runs of a kind, and writes in it what waits.
    fn open(&mut self, kind: Kind) -> &'static Code {
        let code = match self.block {
            Some((open, code)) if open == kind => code,
            other => {
                if let Some((_, code)) = other {
                    put(&mut self.out, code.literal(END));
                }
                let code = code::of(kind);
                code.begin(&mut self.out);
                self.block = Some((kind, code));
                code
            }
        };
        if !self.between.is_empty() {
            self.write_between(code);
        }
        code
    }

    fn write_between(&mut self, code: &Code) {
        let text = std::mem::take(&mut self.between);
        let at = self.length;
        let (before, before_at) = &self.before;
        // From the start of one to the start of the other, and from end to end.
        let from_start = usize::try_from(at - before_at).unwrap_or(usize::MAX);
        let from_end = (from_start.saturating_add(text.len())).saturating_sub(before.len());
        let (mut start, mut end) = (0, 0);
        if from_start.max(from_end) <= FARTHEST && from_start > 0 && text.len() >= WORTH_REPEATING {
            start = common(&text, before);
            let rest = text.len().min(before.len()) - start;
            end = text.iter().rev().zip(before.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
        }
        let (middle, last) = (start, text.len() - end);
        self.repeat(code, &text[..start], from_start);
        text[middle..last].iter().for_each(|byte| put(&mut self.out, code.literal(usize::from(*byte))));
        self.repeat(code, &text[last..], from_end);
        self.count(&text);
        if text.len() >= WORTH_REPEATING {
            self.between = std::mem::replace(&mut self.before.0, text);
            self.before.1 = at;
        } else {
            self.between = text;
        }
        self.between.clear();
    }

    /// Writes a text that stood `distance` before.
    fn repeat(&mut self, code: &Code, text: &[u8], distance: usize) {
        if text.len() >= SHORTEST {
            return self.again(code, text.len(), distance);
        }
        for byte in text {
            put(&mut self.out, code.literal(usize::from(*byte)));
        }
    }

    /// Writes so many bytes, no fewer than the shortest match, that stood `distance` before.
    fn again(&mut self, code: &Code, length: usize, distance: usize) {
        let mut left = length;
        while left > 0 {
            // What is left then is a match too.
            let next = if left > LONGEST { LONGEST.min(left - SHORTEST) } else { left };
            put(&mut self.out, code.again(next, distance));
            left -= next;
        }
    }
}

#[inline]
fn put(out: &mut BitWriter, word: Word) {
    out.put(word.bits, word.count);
}
