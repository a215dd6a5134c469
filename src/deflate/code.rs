//! The house's codes: what bits each symbol has, by what points of a kind are expected to look like.
//!
//! A code of its own would make a series 8 to 20 % shorter, but would have to be told at each of its runs, fifty bytes of the two to seven
//! hundred that a run has, and runs with different codes do not fit together. So there are a few for all, each made from the number
//! of times that a symbol is met in a thousand points (measured on rates, gauges, counters, capacities and flags at steps of 15 s to
//! 1 h, some 600,000 points). They may be far off: then a text becomes longer, and nothing else. Changing them changes what is held in
//! this process and nothing that leaves it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::LazyLock;

use super::Kind;
use super::bits::{BitWriter, Word};
use super::symbols::{DISTANCES, END, FIRST_LENGTH, LENGTHS, LITERALS, LONGEST, RANGES_OF_DISTANCES, SHORTEST, find};
use super::unpack::Decoder;

/// The code for points of a kind.
pub fn of(kind: Kind) -> &'static Code {
    match kind {
        Kind::Fractions => &CODES[0],
        Kind::Counters => &CODES[1],
        Kind::Flat => &CODES[2],
    }
}

static CODES: LazyLock<[Code; 3]> =
    LazyLock::new(|| [FRACTIONS, COUNTERS, FLAT].map(|often| Code::new(&often.expected())));

const FRACTIONS: Often = Often {
    digits: 13_548,
    dots: 314,
    lengths: &[
        (3, 14),
        (4, 75),
        (5, 140),
        (6, 238),
        (7, 336),
        (8, 192),
        (9, 142),
        (10, 294),
        (11, 590),
        (13, 16),
        (15, 2),
        (17, 3),
        (19, 4),
        (23, 2),
        (31, 18),
        (35, 2),
    ],
    distances: &[(1, 207), (17, 32), (25, 471), (33, 1_485)],
};

const COUNTERS: Often = Often {
    digits: 5_730,
    dots: 137,
    lengths: &[
        (3, 28),
        (4, 83),
        (5, 125),
        (6, 268),
        (7, 133),
        (8, 33),
        (9, 78),
        (10, 179),
        (11, 389),
        (13, 8),
        (17, 7),
        (19, 12),
        (23, 36),
        (27, 20),
        (31, 265),
    ],
    distances: &[(1, 45), (17, 812), (25, 307), (33, 528)],
};

const FLAT: Often = Often {
    digits: 2_294,
    dots: 40,
    lengths: &[
        (3, 5),
        (4, 17),
        (5, 26),
        (6, 41),
        (7, 16),
        (8, 4),
        (9, 9),
        (10, 16),
        (11, 80),
        (13, 46),
        (15, 314),
        (17, 94),
        (19, 100),
        (23, 190),
        (27, 88),
        (31, 53),
    ],
    distances: &[(17, 719), (25, 322), (33, 57)],
};

/// What is met often in a thousand points: digits in all, dots, lengths and distances by the least of their range.
struct Often {
    digits: u32,
    dots: u32,
    lengths: &'static [(u16, u32)],
    distances: &'static [(u16, u32)],
}

/// How often each symbol is expected.
struct Expected {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

impl Often {
    /// With all that is rare: labels, punctuation, other lengths. Whatever a text has can be written.
    fn expected(&self) -> Expected {
        let mut literals = [1; LITERALS];
        (b' '..=b'~').for_each(|byte| literals[usize::from(byte)] = 4);
        b"\",][-".iter().for_each(|byte| literals[usize::from(*byte)] = 25);
        (b'0'..=b'9').for_each(|digit| literals[usize::from(digit)] = self.digits / 10);
        literals[usize::from(b'.')] = self.dots;
        literals[FIRST_LENGTH..].fill(3);
        for (base, often) in self.lengths {
            literals[FIRST_LENGTH + find(&LENGTHS, usize::from(*base))] = *often;
        }
        let mut distances = [4; DISTANCES];
        for (base, often) in self.distances {
            distances[find(&RANGES_OF_DISTANCES, usize::from(*base))] = *often;
        }
        Expected { literals, distances }
    }
}

/// A code for literals, lengths and distances.
#[derive(Debug)]
pub struct Code {
    /// For each literal, and the end of a block.
    literals: [Word; END + 1],
    /// For two bytes of seven bits, the second above the first: the bits of both, and in the lowest five bits how many they are.
    /// A zero stands for no byte.
    pairs: Box<[u32; 1 << 14]>,
    /// For each length, its symbol and what follows it.
    lengths: [Word; LONGEST + 1],
    /// For each symbol of a distance, without what follows it.
    distances: [Word; DISTANCES],
    /// For each of the distances that are met nearly always, its symbol and what follows it. Others are looked for.
    near: [Word; 257],
    /// How a block begins that has this code.
    header: (Vec<u8>, usize),
    /// How it is read.
    pub(super) decoder: Decoder,
}

impl Code {
    fn new(expected: &Expected) -> Self {
        let (literals, distances) = (huffman(&expected.literals, MOST_BITS), huffman(&expected.distances, MOST_BITS));
        let (words, distance_words) = (words_of(&literals), words_of(&distances));
        let mut code = Self {
            literals: std::array::from_fn(|symbol| words[symbol]),
            pairs: pairs(&words),
            lengths: std::array::from_fn(|length| {
                if length < SHORTEST {
                    return Word::default();
                }
                let symbol = find(&LENGTHS, length);
                let rest = length - usize::from(LENGTHS[symbol].base);
                words[FIRST_LENGTH + symbol].then(Word { bits: rest as u64, count: u32::from(LENGTHS[symbol].extra) })
            }),
            distances: std::array::from_fn(|symbol| distance_words[symbol]),
            near: [Word::default(); 257],
            header: header(&literals, &distances),
            decoder: Decoder::new(&literals, &distances),
        };
        code.near = std::array::from_fn(|distance| if distance == 0 { Word::default() } else { code.far(distance) });
        code
    }

    /// A literal, or the end of the block.
    #[inline]
    pub fn literal(&self, symbol: usize) -> Word {
        self.literals[symbol]
    }

    /// Up to four bytes, the first lowest. None has the highest bit; a zero is no byte.
    #[inline]
    pub fn four(&self, bytes: u64) -> Word {
        let pair = |shift: u32| {
            let index = (bytes >> shift & 0x7f) | (bytes >> (shift + 1) & 0x3f80);
            let pair = self.pairs[(index & 0x3fff) as usize];
            Word { bits: u64::from(pair >> 5), count: pair & 0x1f }
        };
        pair(0).then(pair(16))
    }

    /// What stood so far before, so long.
    #[inline]
    pub fn again(&self, length: usize, distance: usize) -> Word {
        self.length(length).then(self.distance(distance))
    }

    /// A length.
    #[inline]
    pub fn length(&self, length: usize) -> Word {
        self.lengths[length]
    }

    /// A distance.
    #[inline]
    pub fn distance(&self, distance: usize) -> Word {
        self.near.get(distance).copied().unwrap_or_else(|| self.far(distance))
    }

    #[cold]
    fn far(&self, distance: usize) -> Word {
        let symbol = find(&RANGES_OF_DISTANCES, distance);
        let range = RANGES_OF_DISTANCES[symbol];
        let rest = distance - usize::from(range.base);
        self.distances[symbol].then(Word { bits: rest as u64, count: u32::from(range.extra) })
    }

    /// Begins a block of this code.
    pub fn begin(&self, out: &mut BitWriter) {
        out.splice(&self.header.0, self.header.1);
    }
}

/// No symbol has more bits, so that two of them and their number fit into 32. (Deflate would allow for 15.)
pub const MOST_BITS: u8 = 13;
/// No symbol of those that tell a code's lengths has more.
const MOST_BITS_OF_LENGTHS: u8 = 7;

/// The words of all pairs of literals of seven bits.
fn pairs(words: &[Word]) -> Box<[u32; 1 << 14]> {
    let word = |byte: usize| if byte == 0 { Word::default() } else { words[byte] };
    let pair = |bytes: usize| word(bytes & 0x7f).then(word(bytes >> 7));
    let packed =
        |pair: Word| u32::try_from(pair.bits << 5).expect("two words and the number of their bits") | pair.count;
    let all: Box<[u32]> = (0..1 << 14).map(|bytes| packed(pair(bytes))).collect();
    all.try_into().expect("so many")
}

/// How many bits each symbol has in the shortest code without any of more than `most` bits (or nearly the shortest).
fn huffman(often: &[u32], most: u8) -> Vec<u8> {
    let mut often: Vec<u64> = often.iter().map(|count| u64::from(*count)).collect();
    loop {
        let depths = depths(&often);
        if depths.iter().all(|depth| *depth <= most) {
            return depths;
        }
        // Rare symbols are made out to be less rare.
        often.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
    }
}

/// How deep each symbol lies in the tree; 0 for those that are never met.
fn depths(often: &[u64]) -> Vec<u8> {
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> =
        often.iter().enumerate().filter(|(_, count)| **count > 0).map(|(i, count)| Reverse((*count, i))).collect();
    let mut parents: Vec<usize> = (0..often.len()).collect();
    while let (Some(Reverse(a)), Some(Reverse(b))) = (heap.pop(), heap.pop()) {
        let parent = parents.len();
        parents.push(parent);
        (parents[a.1], parents[b.1]) = (parent, parent);
        if heap.is_empty() {
            break;
        }
        heap.push(Reverse((a.0 + b.0, parent)));
    }
    let depth = |mut node: usize| {
        let mut depth = 0;
        while parents[node] != node {
            (node, depth) = (parents[node], depth + 1);
        }
        depth
    };
    (0..often.len()).map(depth).collect()
}

/// The canonical words for such lengths (RFC 1951, 3.2.2), turned round: the first bit lowest.
pub fn words_of(lengths: &[u8]) -> Vec<Word> {
    let mut words = vec![Word::default(); lengths.len()];
    let mut next = 0_u32;
    for count in 1..=MOST_BITS {
        next <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, length)| **length == count) {
            let bits = next.reverse_bits() >> (32 - u32::from(count));
            words[symbol] = Word { bits: bits.into(), count: u32::from(count) };
            next += 1;
        }
    }
    words
}

/// The beginning of a block that is not the last, and tells its code (RFC 1951, 3.2.7).
fn header(literals: &[u8], distances: &[u8]) -> (Vec<u8>, usize) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let told = repetitions(&[literals, distances].concat());
    let mut often = [0; 19];
    for (symbol, ..) in &told {
        often[usize::from(*symbol)] += 1;
    }
    let lengths = huffman(&often, MOST_BITS_OF_LENGTHS);
    let words = words_of(&lengths);
    let used = ORDER.iter().rposition(|symbol| lengths[*symbol] > 0).map_or(4, |last| (last + 1).max(4));
    let mut out = BitWriter::default();
    out.put(0b100, 3); // not the last; a code of its own
    out.put(literals.len() as u64 - 257, 5);
    out.put(distances.len() as u64 - 1, 5);
    out.put(used as u64 - 4, 4);
    ORDER[..used].iter().for_each(|symbol| out.put(u64::from(lengths[*symbol]), 3));
    for (symbol, more, count) in told {
        let word = words[usize::from(symbol)];
        out.put(word.bits, word.count);
        out.put(more, count);
    }
    let count = out.len();
    out.align();
    (out.take(), count)
}

/// Lengths of a code as symbols of the code for lengths, each with what follows it: 16 repeats the one before.
fn repetitions(lengths: &[u8]) -> Vec<(u8, u64, u32)> {
    let mut told = Vec::new();
    for run in lengths.chunk_by(|a, b| a == b) {
        let mut left = run.len();
        told.push((run[0], 0, 0));
        left -= 1;
        while left >= 3 {
            let repeated = left.min(6);
            told.push((16, repeated as u64 - 3, 2));
            left -= repeated;
        }
        told.extend(std::iter::repeat_n((run[0], 0, 0), left));
    }
    told
}
