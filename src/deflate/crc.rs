//! The checksum of a text that is put together, from the checksums of its parts: CRC-32 as gzip has it.
//!
//! To append a part is to move what came before on by so many zero bytes, and moving is a multiplication by a power of x modulo
//! the polynomial (bits are kept in reverse: the highest is the coefficient of x^0).

use std::sync::LazyLock;

const POLYNOMIAL: u32 = 0xEDB8_8320;
/// x^0.
const ONE: u32 = 1 << 31;

/// The checksum of one text after another, of which the second is `length` bytes long.
pub fn append(before: u32, after: u32, length: u32) -> u32 {
    multiply(shift(length), before) ^ after
}

/// x^(8 length).
fn shift(length: u32) -> u32 {
    let bytes = length.to_le_bytes();
    let powers = bytes.iter().zip(SHIFTS.iter()).filter(|(byte, _)| **byte != 0);
    powers.map(|(byte, row)| row[usize::from(*byte)]).reduce(multiply).unwrap_or(ONE)
}

/// For each byte of a length, the shift that it stands for.
static SHIFTS: LazyLock<[[u32; 256]; 4]> = LazyLock::new(|| {
    let mut by_one = ONE >> 8;
    let mut rows = [[ONE; 256]; 4];
    for row in &mut rows {
        for i in 1..256 {
            row[i] = multiply(row[i - 1], by_one);
        }
        by_one = multiply(row[255], by_one);
    }
    rows
});

/// The product modulo the polynomial. No branch depends on the bits.
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for i in 0..32 {
        product ^= b & (a << i).cast_signed().wrapping_shr(31).cast_unsigned();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_have_the_checksum_of_the_whole(
            before in prop::collection::vec(any::<u8>(), 0..600),
            after in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let length = u32::try_from(after.len()).expect("short");
            let whole = crc32fast::hash(&[before.as_slice(), &after].concat());
            prop_assert_eq!(append(crc32fast::hash(&before), crc32fast::hash(&after), length), whole);
        }
    }

    #[test]
    fn long_parts_too() {
        for length in [0, 255, 256, 65_535, 65_536, 16_777_216, 20_000_001] {
            let after = vec![7; length];
            let whole = crc32fast::hash(&[b"before".as_slice(), &after].concat());
            let length = u32::try_from(length).expect("below 4 GiB");
            assert_eq!(append(crc32fast::hash(b"before"), crc32fast::hash(&after), length), whole, "{length}");
        }
    }
}
