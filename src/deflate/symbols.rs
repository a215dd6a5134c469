//! How deflate writes lengths and distances: a symbol, and some bits that follow it (RFC 1951, 3.2.5).

/// How many literals and lengths there are, with the end of a block.
pub const LITERALS: usize = 286;
/// How many distances there are.
pub const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub const END: usize = 256;
/// The symbol of the shortest length.
pub const FIRST_LENGTH: usize = 257;
/// What a match is at least, and at most.
pub const SHORTEST: usize = 3;
pub const LONGEST: usize = 258;
/// How far back a match reaches at most.
pub const FARTHEST: usize = 32 << 10;

/// A symbol that stands for several numbers: the least of them, and how many bits tell which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub base: u16,
    pub extra: u8,
}

/// The lengths, from symbol 257 on.
pub const LENGTHS: [Range; 29] = {
    let mut ranges = [Range { base: 0, extra: 0 }; 29];
    let (mut i, mut base) = (0, SHORTEST as u16);
    while i < 28 {
        let extra = if i < 8 { 0 } else { (i as u8 - 4) / 4 };
        ranges[i] = Range { base, extra };
        base += 1 << extra;
        i += 1;
    }
    // The longest has a symbol of its own, although the one before could tell it.
    ranges[28] = Range { base: LONGEST as u16, extra: 0 };
    ranges
};

/// The distances.
pub const RANGES_OF_DISTANCES: [Range; DISTANCES] = {
    let mut ranges = [Range { base: 0, extra: 0 }; DISTANCES];
    let (mut i, mut base) = (0, 1_u16);
    while i < DISTANCES {
        let extra = if i < 4 { 0 } else { (i as u8 - 2) / 2 };
        ranges[i] = Range { base, extra };
        base = base.wrapping_add(1 << extra);
        i += 1;
    }
    ranges
};

/// Which of the ascending `ranges` a number lies in.
pub fn find(ranges: &[Range], number: usize) -> usize {
    ranges.partition_point(|range| range.base as usize <= number) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_those_of_the_standard() {
        let lengths: Vec<u16> = LENGTHS.iter().map(|range| range.base).collect();
        let standard = [
            3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
            227, 258,
        ];
        assert_eq!(lengths, standard);
        let distances: Vec<u16> = RANGES_OF_DISTANCES.iter().map(|range| range.base).collect();
        let standard = [
            1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
            4097, 6145, 8193, 12289, 16385, 24577,
        ];
        assert_eq!(distances, standard);
        assert_eq!(LENGTHS.map(|range| range.extra)[8..12], [1, 1, 1, 1]);
        assert_eq!(LENGTHS.map(|range| range.extra)[24..], [5, 5, 5, 5, 0]);
        assert_eq!(RANGES_OF_DISTANCES.map(|range| range.extra)[28..], [13, 13]);
        assert_eq!((find(&LENGTHS, 257), find(&LENGTHS, 258), find(&RANGES_OF_DISTANCES, FARTHEST)), (27, 28, 29));
    }
}
