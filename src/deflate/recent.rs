//! What was written not long ago: series that stand still have the same points at the same times, and are told by where they stood before.
//!
//! Packed runs refer to nothing before themselves, so of a hundred such series each would be written out, where a compressor of the
//! whole finds the one before. Here equal runs are found, and nothing less: that costs a comparison each.

use super::symbols::FARTHEST;

/// So many are remembered: the text of as many runs is what a decoder remembers.
const MOST: usize = 16;
/// Longer ones are not: what decoders remember is less than a few of them.
const MOST_BYTES: usize = 8 << 10;

/// Texts, or bits that stand for a text, and where the text was written last.
#[derive(Debug, Default)]
pub struct Recent {
    entries: Vec<(Vec<u8>, u64)>,
    /// The oldest.
    next: usize,
}

impl Recent {
    /// How far before `at` these `bytes` were written, if a decoder remembers that. From now on they are written at `at`.
    pub fn distance(&mut self, bytes: &[u8], at: u64) -> Option<usize> {
        if bytes.len() > MOST_BYTES {
            return None;
        }
        if let Some((_, before)) = self.entries.iter_mut().find(|(other, _)| other == bytes) {
            let distance = usize::try_from(at - std::mem::replace(before, at)).ok();
            return distance.filter(|distance| *distance <= FARTHEST);
        }
        if self.entries.len() < MOST {
            self.entries.push((bytes.to_vec(), at));
            return None;
        }
        let (oldest, before) = &mut self.entries[self.next];
        oldest.clear();
        oldest.extend_from_slice(bytes);
        *before = at;
        self.next = (self.next + 1) % MOST;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_found() {
        let mut recent = Recent::default();
        assert_eq!(recent.distance(b"one", 10), None);
        assert_eq!(recent.distance(b"one", 100), Some(90));
        assert_eq!(recent.distance(b"one", 150), Some(50), "from the last time on");
        assert_eq!(recent.distance(b"on", 151), None);
        assert_eq!(recent.distance(b"one", 151 + FARTHEST as u64), None, "too far");
        assert_eq!(recent.distance(b"one", 151 + 2 * FARTHEST as u64), Some(FARTHEST));
        for other in 0..MOST {
            assert_eq!(recent.distance(&[0, u8::try_from(other).expect("few")], 200_000), None);
        }
        assert_eq!(recent.distance(b"one", 200_000), None, "others came in its place");
        let long = vec![b'1'; MOST_BYTES + 1];
        assert_eq!((recent.distance(&long, 200_000), recent.distance(&long, 200_000)), (None, None));
    }
}
