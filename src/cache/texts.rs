//! What was read of queries' texts: a dashboard asks the same few again and again, and a text says the same each time.

use std::sync::Arc;

use moka::sync::Cache;

use crate::promql::{self, Facts, Opaque};

/// So many bytes of texts are remembered, with what is remembered of them.
const MOST_BYTES: u64 = 8 << 20;
/// A longer text is read each time.
const LONGEST: usize = 8 << 10;
/// What a text weighs with all that may be remembered of it, in its own lengths …
const FACTS: usize = 4;
/// … and besides.
const OVERHEAD: usize = 256;

/// What a text says.
type Reading = Result<Arc<Facts>, Opaque>;

/// Facts by text.
#[derive(Debug)]
pub struct Texts {
    read: Cache<Arc<str>, Reading>,
}

impl Default for Texts {
    fn default() -> Self {
        let weight = |text: &Arc<str>, _: &Reading| u32::try_from(text.len() * FACTS + OVERHEAD).unwrap_or(u32::MAX);
        Self { read: Cache::builder().max_capacity(MOST_BYTES).weigher(weight).build() }
    }
}

impl Texts {
    /// What `text` says.
    pub fn read(&self, text: &str) -> Reading {
        if let Some(reading) = self.read.get(text) {
            return reading;
        }
        let reading = promql::read(text).map(Arc::new);
        if text.len() <= LONGEST {
            self.read.insert(text.into(), reading.clone());
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_the_same_the_second_time() {
        let texts = Texts::default();
        for text in ["up", "sum(rate(x[5m] @ end()))", "up{", "", "sum(up) / nothing_known(up)"] {
            let read = || format!("{:?}", texts.read(text));
            assert_eq!(read(), format!("{:?}", promql::read(text)), "{text}");
            assert_eq!(read(), read(), "{text}");
        }
        let long = format!("up{}", " ".repeat(LONGEST));
        assert!(texts.read(&long).is_ok());
        texts.read.run_pending_tasks();
        assert_eq!(texts.read.entry_count(), 5, "long texts are not remembered");
    }
}
