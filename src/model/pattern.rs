//! Regular expressions for a whole text, anchored as Prometheus anchors its own.

use regex::{Regex, RegexBuilder};

/// Compiled it is at most this large.
const MOST_BYTES: usize = 1 << 20;

/// Reads a pattern that a whole text has to match. The reason says why it is none.
pub fn whole(pattern: &str) -> Result<Regex, String> {
    // By itself first, so that no bracket of it can close ours.
    let compiled = build(pattern).and_then(|_| build(&format!("^(?s:{pattern})$")));
    compiled.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("{pattern:?} is too large; compiled it must have at most 1MiB"),
        error => {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or_default();
            format!("{pattern:?} is no regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    })
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MOST_BYTES).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_for_the_whole_text() {
        let matches = |pattern: &str, text: &str| whole(pattern).expect("a pattern").is_match(text);
        assert!(matches("a|b", "b") && matches("a.b", "a\nb") && matches("", ""));
        assert!(!matches("a|b", "ab") && !matches("a", "ba"));
        for (wrong, says) in [("(", "unclosed group"), ("a)|(b", "unopened group"), ("\\w{1000000}", "at most 1MiB")] {
            let why = whole(wrong).expect_err("no pattern");
            assert!(why.contains(says), "{wrong}: {why}");
        }
    }
}
