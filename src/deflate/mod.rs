//! Points as pieces of a deflate stream that fit together anywhere, so that a gzip answer is put together and not compressed.
//!
//! Need: Grafana always asks for gzip, and compressing an answer costs ten times what sending it does. Rule: points are packed once,
//! by a code that all of the house share ([`Code`]), as bits that refer to nothing before themselves. Such [runs](Run) follow one
//! another in any order, without a header and without starting at a byte; what stands between them is written by the same code; the
//! checksum of the whole is made of theirs. Any decoder reads the stream (RFC 1951, RFC 1952). The same bits are what the first tier
//! holds, a third of the text.

#[expect(clippy::cast_possible_truncation, reason = "a text is at most MOST_PACKED bytes")]
mod anything;
mod bits;
mod code;
mod crc;
mod gzip;
mod points;
mod recent;
#[expect(clippy::cast_possible_truncation, reason = "symbols, lengths and their bits are below 32,768")]
mod symbols;
#[expect(clippy::cast_possible_truncation, reason = "symbols are below 286, and bits are masked to as few as fit")]
mod unpack;

pub use gzip::Gzip;

pub use unpack::{SLACK, unpack};

#[cfg(test)]
mod tests;

/// What points look like, and so by which code they are packed best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Most digits of a value are new: rates, averages, gauges.
    Fractions,
    /// A value begins as the one before it: counters.
    Counters,
    /// A value is mostly the one before it: flags, capacities.
    Flat,
}

/// Points of one series, packed: where their bits are, and what has to be known of their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The byte that the bits begin at.
    pub start: u32,
    /// How many bits there are.
    pub bits: u32,
    /// How many bytes the text has.
    pub text_bytes: u32,
    /// The CRC-32 of the text.
    pub crc: u32,
    /// By which code it is packed.
    pub kind: Kind,
}

/// Which points are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Points {
    /// `[t,"v"],…`
    Floats,
    /// `[t,{…}],…`
    Histograms,
}

impl Points {
    /// What they look like.
    pub fn kind(self, text: &[u8]) -> Kind {
        match self {
            Self::Floats => points::kind_of(text),
            Self::Histograms => Kind::Fractions,
        }
    }

    fn write(self, text: &[u8], code: &code::Code, out: &mut bits::BitWriter, copy: &mut Vec<u8>) {
        match self {
            Self::Floats if points::is_printable(text) => points::write_floats(text, code, out, copy),
            Self::Floats | Self::Histograms => anything::write(text, code, out),
        }
    }
}

/// Packs the points of one series after another.
#[derive(Debug, Default)]
pub struct Packer {
    out: bits::BitWriter,
    /// Of the text that is packed.
    copy: Vec<u8>,
}

impl Packer {
    /// Packs points by the code of a kind, from a whole byte on. All texts of a packer are at most [`MOST_PACKED`] bytes.
    pub fn pack(&mut self, points: Points, kind: Kind, text: &[u8]) -> Run {
        let start = self.out.bytes().len();
        points.write(text, code::of(kind), &mut self.out, &mut self.copy);
        let count = self.out.len() - start * 8;
        self.out.align();
        let narrow = |number: usize| u32::try_from(number).expect("no byte of so few becomes more than fifteen bits");
        let (start, bits, text_bytes) = (narrow(start), narrow(count), narrow(text.len()));
        Run { start, bits, text_bytes, crc: crc32fast::hash(text), kind }
    }

    /// The bits of all runs.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.put_bytes(&[0; unpack::PADDING]);
        self.out.into_bytes()
    }
}

/// So many bytes of text are packed together at most: then no number of theirs has more than 32 bits.
pub const MOST_PACKED: usize = 256 << 20;
