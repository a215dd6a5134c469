//! Writes the *analysis copy*: the same query in the plain spelling that the parser digests.
//!
//! The parser lags behind the grammar (duration expressions, `smoothed`, histogram trims), stumbles over spellings
//! (back-quotes, `1_000`, keywords as labels) and compiles every regex it meets. The copy has none of these: one
//! blank between tokens, strings in double quotes, label names quoted, numbers and durations as decimal seconds,
//! every regex matcher an equality with [`UNKNOWN`].
//!
//! The rule: facts come from the copy, so what the copy loses is noted beside it, and what cannot be noted makes the
//! query opaque. The copy is never sent, never a cache key, and its strings are compared with nothing but label
//! names and metric names.

use super::facts::WholeRange;
use super::lexer::{Kind, Token};

/// Stands in the copy for a label value that is not known: a regex, or bytes that are not UTF-8.
pub(super) const UNKNOWN: &str = "\u{FFFD}";

/// The copy, and what could not be written into it.
#[derive(Debug, Default)]
pub(super) struct Copy {
    pub(super) text: String,
    /// What its tokens alone say against cutting the range.
    pub(super) whole_range: Option<WholeRange>,
    /// A histogram trim (`</`, `>/`) is written as a comparison.
    pub(super) has_trim: bool,
}

/// The copy of a query, given by its significant tokens. `None` for a string that does not end its escapes or a
/// duration expression that is none.
pub(super) fn copy(tokens: &[Token<'_>]) -> Option<Copy> {
    let mut writer = Writer { copy: Copy::default(), parens: Vec::new(), in_braces: false, is_operand: false };
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        rest = match token.kind {
            Kind::Text => writer.text(token, after)?,
            Kind::Number(seconds) => writer.operand(&number(seconds), after),
            Kind::Word if writer.in_braces || writer.in_grouping() => writer.operand(&quote(token.text), after),
            Kind::Word => writer.word(token, after)?,
            Kind::Symbol if token.text == "[" => writer.range(after)?,
            Kind::Symbol => writer.symbol(token, after),
            Kind::Blank | Kind::Comment => after,
        };
    }
    Some(writer.copy)
}

type Tokens<'t, 'q> = &'t [Token<'q>];

struct Writer {
    copy: Copy,
    /// For each open parenthesis, whether it holds label names or a fill value rather than an expression.
    parens: Vec<Paren>,
    in_braces: bool,
    /// The copy ends in an operand, so that a modifier may follow.
    is_operand: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Paren {
    Expression,
    Labels,
    Fill,
}

/// Words that stand between operands or open a list; after them an operand is due.
const JOINTS: [&str; 11] =
    ["and", "or", "unless", "atan2", "bool", "by", "without", "on", "ignoring", "group_left", "group_right"];
const LABEL_LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const FILLS: [&str; 3] = ["fill", "fill_left", "fill_right"];
const DURATION_FUNCTIONS: [&str; 6] = ["step", "range", "min_of", "max_of", "start", "end"];

impl Writer {
    fn put(&mut self, text: &str) {
        if !self.copy.text.is_empty() {
            self.copy.text.push(' ');
        }
        self.copy.text.push_str(text);
    }

    fn operand<'t, 'q>(&mut self, text: &str, after: Tokens<'t, 'q>) -> Tokens<'t, 'q> {
        self.put(text);
        self.is_operand = true;
        after
    }

    fn must_stay_whole(&mut self, reason: WholeRange) {
        self.copy.whole_range = Some(reason.or_earlier(self.copy.whole_range));
    }

    fn in_grouping(&self) -> bool {
        self.parens.last() == Some(&Paren::Labels)
    }

    fn text<'t, 'q>(&mut self, token: &Token<'_>, after: Tokens<'t, 'q>) -> Option<Tokens<'t, 'q>> {
        let value = unquote(token.text)?;
        Some(self.operand(&quote(&value), after))
    }

    fn symbol<'t, 'q>(&mut self, token: &Token<'_>, after: Tokens<'t, 'q>) -> Tokens<'t, 'q> {
        self.is_operand = false;
        match token.text {
            "=~" | "!~" if after.first().is_some_and(|value| value.kind == Kind::Text) => {
                self.put("=");
                return self.operand(&quote(UNKNOWN), &after[1..]);
            }
            "(" => self.parens.push(Paren::Expression),
            ")" => self.is_operand = self.parens.pop() == Some(Paren::Expression),
            "{" => self.in_braces = true,
            "}" => {
                self.in_braces = false;
                self.is_operand = true;
            }
            "</" | ">/" => self.copy.has_trim = true,
            _ => {}
        }
        self.put(match token.text {
            "</" => "<",
            ">/" => ">",
            symbol => symbol,
        });
        after
    }

    fn word<'t, 'q>(&mut self, token: &Token<'_>, after: Tokens<'t, 'q>) -> Option<Tokens<'t, 'q>> {
        let opens = after.first().is_some_and(|next| next.is("("));
        let list = match () {
            () if opens && token.is_any_word(&LABEL_LISTS) => Some(Paren::Labels),
            () if opens && token.is_any_word(&FILLS) => Some(Paren::Fill),
            () => None,
        };
        if let Some(list) = list {
            self.put(token.text);
            self.put("(");
            self.parens.push(list);
            self.is_operand = false;
            return Some(&after[1..]);
        }
        if self.is_operand && token.is_word("offset") {
            return self.offset(after);
        }
        for (modifier, metric) in [("smoothed", ":smoothed:"), ("anchored", ":anchored:")] {
            if token.is_word(modifier) {
                if !self.is_operand {
                    return Some(self.operand(metric, after));
                }
                if modifier == "smoothed" {
                    self.must_stay_whole(WholeRange::Smoothed);
                }
                return Some(after);
            }
        }
        let is_renamed = opens && token.text == "holt_winters";
        self.put(if is_renamed { "double_exponential_smoothing" } else { token.text });
        self.is_operand = !token.is_any_word(&JOINTS);
        Some(after)
    }

    /// Writes `[…]`, cut at its colon. An expression becomes a millisecond: where it reads to is unchanged, since a
    /// range only reaches back; how far is then not known.
    fn range<'t, 'q>(&mut self, after: Tokens<'t, 'q>) -> Option<Tokens<'t, 'q>> {
        let end = after.iter().position(|token| token.is("]"))?;
        self.put("[");
        for (index, part) in after[..end].split(|token| token.is(":")).enumerate() {
            if index > 0 {
                self.put(":");
            }
            match part {
                [] => {}
                [Token { kind: Kind::Number(seconds), .. }] => self.put(&number(*seconds)),
                expression => {
                    self.duration_expression(expression)?;
                    self.put(&number(0.001));
                }
            }
        }
        self.put("]");
        self.is_operand = true;
        Some(&after[end + 1..])
    }

    /// Writes the offset that follows the word. A literal stays; `step()` becomes zero, which reads no less than a
    /// positive step would; of anything else the value is not known, so the query is noted.
    fn offset<'t, 'q>(&mut self, after: Tokens<'t, 'q>) -> Option<Tokens<'t, 'q>> {
        self.put("offset");
        self.is_operand = false;
        let signs = after.iter().take_while(|token| token.is("+") || token.is("-")).count();
        let length = expression_length(&after[signs..])?;
        if length == 0 {
            return Some(after);
        }
        let expression = &after[signs..signs + length];
        self.duration_expression(expression)?;
        let is_negative = after[..signs].iter().any(|token| token.is("-"));
        if is_negative || !expression[0].is_word("step") {
            self.must_stay_whole(WholeRange::OffsetExpression);
        }
        Some(self.operand(&number(0.0), &after[signs + length..]))
    }

    /// Notes what a duration expression depends on; `None` if it holds what no duration expression does.
    fn duration_expression(&mut self, expression: Tokens<'_, '_>) -> Option<()> {
        for token in expression {
            match token.kind {
                Kind::Word if !token.is_any_word(&DURATION_FUNCTIONS) => return None,
                Kind::Text => return None,
                _ if token.is("@") => return None,
                _ => {}
            }
        }
        if expression.iter().any(|token| token.is_any_word(&["range", "start", "end"])) {
            self.must_stay_whole(WholeRange::RangeValue);
        }
        Some(())
    }
}

/// How many tokens an offset's expression takes: a call or a parenthesis with all it holds. Zero if it is none.
fn expression_length(tokens: Tokens<'_, '_>) -> Option<usize> {
    let is_call = tokens.first().is_some_and(|token| token.is_any_word(&DURATION_FUNCTIONS));
    let open = usize::from(is_call);
    if !tokens.get(open).is_some_and(|token| token.is("(")) {
        return Some(0);
    }
    let mut depth: usize = 0;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth -= 1;
        }
        if depth == 0 {
            return Some(index + 1);
        }
    }
    None
}

/// A number in digits the parser takes for a decimal (it takes `0e0` for an octal).
fn number(value: f64) -> String {
    if value == 0.0 { "0.0".to_owned() } else { format!("{value:e}") }
}

fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a string literal. Bytes that are not UTF-8 become [`UNKNOWN`].
fn unquote(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    let body = &literal[1..literal.len() - 1];
    if quote == '`' {
        return Some(body.to_owned());
    }
    let mut value = Vec::with_capacity(body.len());
    let mut letters = body.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\' {
            let escape = letters.next()?;
            let rest = letters.as_str();
            let used = unescape(escape, quote, rest, &mut value)?;
            letters = rest[used..].chars();
        } else {
            value.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// Adds what an escape stands for, and says how many digits after its letter it took.
fn unescape(escape: char, quote: char, rest: &str, value: &mut Vec<u8>) -> Option<usize> {
    let byte = match escape {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' | '\'' if escape == quote => u8::try_from(escape).ok()?,
        '0'..='7' => {
            let digits = format!("{escape}{}", rest.get(..2)?);
            value.push(u8::from_str_radix(&digits, 8).ok()?);
            return Some(2);
        }
        'x' => {
            value.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
            return Some(2);
        }
        'u' | 'U' => {
            let digits = if escape == 'u' { 4 } else { 8 };
            let letter = char::from_u32(u32::from_str_radix(rest.get(..digits)?, 16).ok()?)?;
            value.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(digits);
        }
        _ => return None,
    };
    value.push(byte);
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::lexer;

    fn tokens(query: &str) -> Vec<Token<'_>> {
        lexer::lex(query).expect("lexable").into_iter().filter(Token::is_significant).collect()
    }

    fn of(query: &str) -> Copy {
        copy(&tokens(query)).expect("copied")
    }

    #[test]
    fn spellings_become_plain() {
        for (query, expected) in [
            ("up # now", "up"),
            (r"{a=~`\d+`,b!~'x'}", "{ \"a\" = \"\u{FFFD}\" , \"b\" = \"\u{FFFD}\" }"),
            (r"{a=`\d\`}", r#"{ "a" = "\\d\\" }"#),
            (r#"{a='"\'\\\''}"#, r#"{ "a" = "\"'\\'" }"#),
            (r#"{a="\x41\102\u0043\U00000044\n"}"#, r#"{ "a" = "ABCD\n" }"#),
            (r#"{a="\xff"}"#, "{ \"a\" = \"\u{FFFD}\" }"),
            ("{or =\"x\"}", r#"{ "or" = "x" }"#),
            ("sum by (a:b, or) (x)", r#"sum by ( "a:b" , "or" ) ( x )"#),
            ("1_000 + 0x10 + 0s + 5m", "1e3 + 1.6e1 + 0.0 + 3e2"),
            ("x[5m] offset 0s", "x [ 3e2 ] offset 0.0"),
            ("x[1h : 1m]", "x [ 3.6e3 : 6e1 ]"),
            ("x[1h:]", "x [ 3.6e3 : ]"),
            ("a + on (l) fill(5m) b", r#"a + on ( "l" ) fill ( 3e2 ) b"#),
        ] {
            assert_eq!(of(query).text, expected, "{query}");
        }
    }

    #[test]
    fn modifiers_are_told_from_metrics() {
        for (query, expected) in [
            ("rate(x[5m] smoothed)", "rate ( x [ 3e2 ] )"),
            ("x smoothed offset 1m", "x offset 6e1"),
            ("smoothed", ":smoothed:"),
            ("anchored{a=\"b\"}", r#":anchored: { "a" = "b" }"#),
            ("x * on (l) anchored offset -1h", r#"x * on ( "l" ) :anchored: offset - 3.6e3"#),
            ("x + bool smoothed", "x + bool :smoothed:"),
            ("offset - (x)", "offset - ( x )"),
            ("x * on (l) offset - (x)", r#"x * on ( "l" ) offset - ( x )"#),
            ("offset offset step()", "offset offset 0.0"),
            ("fill + fill(2) fill", "fill + fill ( 2e0 ) fill"),
        ] {
            assert_eq!(of(query).text, expected, "{query}");
        }
        assert_eq!(of("x smoothed").whole_range, Some(WholeRange::Smoothed));
        assert_eq!(of("x anchored").whole_range, None);
        assert_eq!(of("sum by (smoothed) (smoothed)").whole_range, None);
    }

    #[test]
    fn what_the_copy_loses_is_noted() {
        for (query, expected, whole_range) in [
            ("x[5m*2]", "x [ 1e-3 ]", None),
            ("x[range():step()]", "x [ 1e-3 : 1e-3 ]", Some(WholeRange::RangeValue)),
            ("x offset step()", "x offset 0.0", None),
            ("x offset -step()", "x offset 0.0", Some(WholeRange::OffsetExpression)),
            ("x offset -(min_of(1m, 2m))^2", "x offset 0.0 ^ 2e0", Some(WholeRange::OffsetExpression)),
            ("x offset range()", "x offset 0.0", Some(WholeRange::RangeValue)),
        ] {
            let copy = of(query);
            assert_eq!((copy.text.as_str(), copy.whole_range), (expected, whole_range), "{query}");
        }
        assert!(of("x </ 2").has_trim);
        assert!(!of("x < 2").has_trim);
    }

    #[test]
    fn what_no_duration_expression_holds_is_refused() {
        for query in ["x[5m", "x[foo()]", "x[\"a\"+1]", "x offset (1m", "{a=\"\\z\"}", "{a=\"\\x4\"}", "{a=\"\\'\"}"] {
            assert!(copy(&tokens(query)).is_none(), "{query}");
        }
    }
}
