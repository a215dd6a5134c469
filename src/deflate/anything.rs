//! Any text to bits: what it repeats is searched for.
//!
//! Histograms are written so: they are few, and hardly two of their points are equally long.

use super::bits::BitWriter;
use super::code::Code;
use super::points::common;
use super::symbols::{FARTHEST, LONGEST};

const SLOTS: u32 = 12;

/// Writes any text.
pub fn write(text: &[u8], code: &Code, out: &mut BitWriter) {
    let mut seen = [0_u32; 1 << SLOTS]; // where four such bytes were seen last, plus one
    let mut at = 0;
    while let Some(four) = text.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let slot = u32::from_le_bytes(*four).wrapping_mul(0x9E37_79B1) >> (32 - SLOTS);
        let candidate = std::mem::replace(&mut seen[slot as usize], at as u32 + 1) as usize;
        // No further than a match goes, or each step through a long repetition would compare all the rest of it.
        let most = (text.len() - at).min(LONGEST);
        let length = match candidate.checked_sub(1) {
            Some(from) if at - from <= FARTHEST => common(&text[at..at + most], &text[from..]),
            _ => 0,
        };
        if length >= four.len() {
            out.put_word(code.again(length, at + 1 - candidate));
            at += length;
        } else {
            out.put_word(code.literal(usize::from(text[at])));
            at += 1;
        }
    }
    text[at..].iter().for_each(|byte| out.put_word(code.literal(usize::from(*byte))));
}
