//! Cuts a query into tokens whose spans tile the text.
//!
//! The parser gives no source positions and stops at things the downstream accepts, so the text is cut here first:
//! the guard counts these tokens, the analysis copy is written from them, and pins are placed by them.
//!
//! The rule: where a string, a comment or a bracket begins and ends must be what Prometheus would say. What stands
//! inside the brackets is the parser's business. One pass, no recursion, and each byte is looked at a bounded number
//! of times.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Spaces, tabs and line ends.
    Blank,
    /// `#` to the end of the line.
    Comment,
    /// A name or a keyword; outside brackets it may hold colons.
    Word,
    /// A number or a duration, with its value (a duration counts in seconds).
    Number(f64),
    /// A quoted string, quotes included.
    Text,
    /// An operator, a bracket or a separator.
    Symbol,
}

/// One token: its kind, its text, and where the text starts in the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token<'q> {
    pub(super) kind: Kind,
    pub(super) text: &'q str,
    pub(super) start: usize,
}

impl Token<'_> {
    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn is_significant(&self) -> bool {
        !matches!(self.kind, Kind::Blank | Kind::Comment)
    }

    /// True for this operator, bracket or separator.
    pub(super) fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// True for this word; keywords don't mind case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_any_word(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_word(word))
    }
}

/// All tokens of the query, or `None` where it cannot be cut.
pub(super) fn lex(query: &str) -> Option<Vec<Token<'_>>> {
    let mut state = State::default();
    let mut tokens = Vec::new();
    let mut start = 0;
    while start < query.len() {
        let (kind, length) = state.next(&query[start..])?;
        let text = &query[start..start + length];
        tokens.push(Token { kind, text, start });
        start += length;
    }
    Some(tokens)
}

/// Brackets change what a colon and a name are.
#[derive(Default)]
struct State {
    in_braces: bool,
    in_brackets: bool,
}

impl State {
    fn next(&mut self, rest: &str) -> Option<(Kind, usize)> {
        let bytes = rest.as_bytes();
        let second = bytes.get(1).copied().unwrap_or_default();
        let token = match bytes[0] {
            byte if is_blank(byte) => (Kind::Blank, run(bytes, is_blank)),
            b'#' => (Kind::Comment, run(bytes, |byte| byte != b'\n' && byte != b'\r')),
            b'"' | b'\'' => (Kind::Text, quoted(bytes)?),
            b'`' => (Kind::Text, 2 + rest[1..].find('`')?),
            byte if is_name(byte) && !byte.is_ascii_digit() => (Kind::Word, run(bytes, |byte| self.is_in_word(byte))),
            b':' if self.is_in_word(b':') => (Kind::Word, run(bytes, |byte| self.is_in_word(byte))),
            byte if byte.is_ascii_digit() || (byte == b'.' && second.is_ascii_digit()) => {
                let length = number_length(bytes);
                (Kind::Number(seconds(&rest[..length])?), length)
            }
            _ => (Kind::Symbol, self.symbol(rest)?),
        };
        Some(token)
    }

    fn is_in_word(&self, byte: u8) -> bool {
        is_name(byte) || (byte == b':' && !self.in_braces && !self.in_brackets)
    }

    fn symbol(&mut self, rest: &str) -> Option<usize> {
        const IN_BRACES: [&str; 7] = ["=~", "!~", "!=", "=", ",", "{", "}"];
        const OUTSIDE: [&str; 24] = [
            "==", "!=", "<=", ">=", "</", ">/", "<", ">", "=", "+", "-", "*", "/", "%", "^", "@", ",", ":", "(", ")",
            "[", "]", "{", "}",
        ];
        let known = if self.in_braces { &IN_BRACES[..] } else { &OUTSIDE[..] };
        let symbol = known.iter().find(|symbol| rest.starts_with(**symbol))?;
        match *symbol {
            "{" => self.in_braces = true,
            "}" => self.in_braces = false,
            "[" => self.in_brackets = true,
            "]" => self.in_brackets = false,
            _ => {}
        }
        Some(symbol.len())
    }
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len())
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Length of a string in `"` or `'`; a line may not end inside it.
fn quoted(bytes: &[u8]) -> Option<usize> {
    let quote = bytes[0];
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' => return None,
            _ if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Length of a number or duration: everything that looks like its letters, and the sign of an exponent.
fn number_length(bytes: &[u8]) -> usize {
    let is_part = |byte: u8| is_name(byte) || byte == b'.';
    let length = run(bytes, is_part);
    let is_exponent = matches!(bytes[length - 1], b'e' | b'E')
        && bytes[..length - 1].iter().all(|&byte| byte.is_ascii_digit() || byte == b'.' || byte == b'_');
    if is_exponent && matches!(bytes.get(length), Some(b'+' | b'-')) {
        length + 1 + run(&bytes[length + 1..], is_part)
    } else {
        length
    }
}

/// The value of a number or duration literal; `None` if it is neither.
fn seconds(literal: &str) -> Option<f64> {
    if literal.bytes().all(|byte| byte.is_ascii_digit()) && !literal.starts_with('0') {
        return literal.parse().ok();
    }
    duration(literal).or_else(|| number(literal))
}

/// `1h30m` and its like: units in falling order, each at most once.
fn duration(literal: &str) -> Option<f64> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("ms", 1),
        ("m", 60_000),
        ("s", 1000),
    ];
    let mut rest = literal;
    let mut total_ms: u64 = 0;
    let mut last_ms = u64::MAX;
    while !rest.is_empty() {
        let digits = run(rest.as_bytes(), |byte| byte.is_ascii_digit());
        let count: u64 = rest[..digits].parse().ok()?;
        let (unit, unit_ms) = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        if *unit_ms >= last_ms {
            return None;
        }
        last_ms = *unit_ms;
        total_ms = total_ms.checked_add(count.checked_mul(*unit_ms)?)?;
        rest = &rest[digits + unit.len()..];
    }
    #[expect(clippy::cast_precision_loss, reason = "the guard refuses what is too long to be exact")]
    Some(total_ms as f64 / 1000.0)
}

/// Decimal, hexadecimal (`0x`) and octal (leading `0`) numbers, as Go reads them.
fn number(literal: &str) -> Option<f64> {
    let digits = literal.replace('_', "").to_ascii_lowercase();
    #[expect(clippy::cast_precision_loss, reason = "the downstream rounds an integer to a float in the same way")]
    let integer = |digits: &str, radix| i64::from_str_radix(digits, radix).ok().map(|value| value as f64);
    if let Some(hex) = digits.strip_prefix("0x") {
        return integer(hex, 16);
    }
    let octal = digits.strip_prefix('0').and_then(|octal| integer(octal, 8));
    if !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'+' | b'-')) {
        return None;
    }
    octal.or_else(|| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(query: &str) -> Option<Vec<f64>> {
        let numbers = lex(query)?.into_iter().filter_map(|token| match token.kind {
            Kind::Number(value) => Some(value),
            _ => None,
        });
        Some(numbers.collect())
    }

    fn texts(query: &str) -> Vec<&str> {
        lex(query).expect("lexable").into_iter().filter(Token::is_significant).map(|token| token.text).collect()
    }

    #[test]
    fn numbers_have_the_value_that_go_reads() {
        for (text, value) in [
            ("1", 1.0),
            ("0", 0.0),
            ("1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("1e-3", 0.001),
            ("1_000", 1000.0),
            ("0x10", 16.0),
            ("0X_fF", 255.0),
            ("0755", 493.0),
            ("08", 8.0),
            ("00.5", 0.5),
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("1y2w3d4h5m6s7ms", 33_019_506.007),
            ("0s", 0.0),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
        ] {
            assert_eq!(values(text), Some(vec![value]), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_does_not_lex() {
        for text in ["5i", "1m1h", "5m5m", "1..2", "0xg", "0b1", "1e", "5min", "99999999999999999999y"] {
            assert_eq!(values(text), None, "{text}");
        }
    }

    #[test]
    fn a_sign_belongs_to_an_exponent_only() {
        assert_eq!(texts("1e-3-5m-2"), ["1e-3", "-", "5m", "-", "2"]);
        assert_eq!(texts("0x1e-3"), ["0x1e", "-", "3"]);
    }

    #[test]
    fn a_colon_is_part_of_a_name_or_cuts_a_range() {
        assert_eq!(texts("a:b[5m:1m]"), ["a:b", "[", "5m", ":", "1m", "]"]);
        assert_eq!(texts("a[5m:step()]"), ["a", "[", "5m", ":", "step", "(", ")", "]"]);
    }

    #[test]
    fn strings_and_comments_hide_what_they_hold() {
        assert_eq!(
            texts(r##"{a="}\"#", b='\'', c=`\`} # end "##),
            ["{", "a", "=", r##""}\"#""##, ",", "b", "=", r"'\''", ",", "c", "=", r"`\`", "}"]
        );
        assert_eq!(texts("a # { \" '\n+ b"), ["a", "+", "b"]);
    }

    #[test]
    fn what_prometheus_cannot_cut_is_refused() {
        for text in ["\"open", "'a\nb'", "`open", "a ~ b", "é", "{a=1.5.}", "a =~ b", "{a==\"\"} $", "\"end\\"] {
            assert!(lex(text).is_none() || text == "{a==\"\"}", "{text}");
        }
    }

    proptest! {
        #[test]
        fn spans_tile_the_text(query in "([a-z_:]{1,3}|[0-9.xesm]{1,4}|\\PC|[\"'`#{}\\[\\]()@=!~<>/ \\t\\n,+-]){0,40}") {
            if let Some(tokens) = lex(&query) {
                let mut end = 0;
                for token in &tokens {
                    prop_assert_eq!(token.start, end);
                    prop_assert!(!token.text.is_empty());
                    end = token.end();
                }
                prop_assert_eq!(end, query.len());
                prop_assert_eq!(tokens.iter().map(|token| token.text).collect::<String>(), query);
            }
        }
    }
}
