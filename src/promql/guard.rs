//! The limits that stand before the parser.
//!
//! The parser recurses (in its checks, and when its tree is dropped) and some of its work is quadratic. A stack that
//! overflows ends the process and nothing catches it, so whatever decides depth and work is counted on the tokens
//! first. The limits are far above what people write and a fifth of what has been seen to hurt.
//!
//! Literals that the parser's own conversion panics on (`offset Inf`, `x[9e20]`) are refused here as well.

use super::Opaque;
use super::lexer::{Kind, Token};

const MAX_BYTES: usize = 64 * 1024;
const MAX_DEPTH: usize = 200;
const MAX_OPERATORS: usize = 1000;
const MAX_REGEXES: usize = 100;
const MAX_REGEX_BYTES: usize = 16 * 1024;

/// Beyond this the downstream's nanosecond duration overflows.
const MAX_DURATION_SECONDS: f64 = 9.2e9;
/// Beyond this the downstream's millisecond time overflows.
const MAX_TIME_SECONDS: f64 = 9.2e15;

/// Refuses a text before a byte of it is looked at.
pub(super) fn length(query: &str) -> Result<(), Opaque> {
    if query.len() > MAX_BYTES { Err(Opaque::TooLong) } else { Ok(()) }
}

/// Refuses what the parser should not be given. The tokens are the significant ones.
pub(super) fn structure(tokens: &[Token<'_>]) -> Result<(), Opaque> {
    depth(tokens)?;
    let operators = tokens.iter().filter(|token| is_operator(token)).count();
    if operators > MAX_OPERATORS {
        return Err(Opaque::TooManyOperators);
    }
    regexes(tokens)?;
    times(tokens)
}

fn depth(tokens: &[Token<'_>]) -> Result<(), Opaque> {
    let mut depth: usize = 0;
    for token in tokens.iter().filter(|token| token.kind == Kind::Symbol) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Opaque::TooDeep);
        }
    }
    Ok(())
}

/// Everything that adds a level to the tree without a bracket around it; a range is one (`x[1m:][1m:][1m:]`).
fn is_operator(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Symbol => !matches!(token.text, "(" | ")" | "]" | "{" | "}" | "," | ":" | "="),
        Kind::Word => token.is_any_word(&["and", "or", "unless", "atan2", "offset"]),
        _ => false,
    }
}

fn regexes(tokens: &[Token<'_>]) -> Result<(), Opaque> {
    let lengths = tokens.windows(2).filter(|pair| pair[0].is("=~") || pair[0].is("!~")).map(|pair| pair[1].text.len());
    let (count, bytes) = lengths.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length));
    if count > MAX_REGEXES {
        Err(Opaque::TooManyRegexes)
    } else if bytes > MAX_REGEX_BYTES {
        Err(Opaque::RegexTooLong)
    } else {
        Ok(())
    }
}

/// Bounds every literal in `[ ]`, after `offset` and after `@`.
fn times(tokens: &[Token<'_>]) -> Result<(), Opaque> {
    let mut in_brackets = false;
    let mut awaited = None;
    for token in tokens {
        match awaited {
            Some(_) if token.is("+") || token.is("-") => continue,
            Some(bound) => within(token, bound)?,
            None => {}
        }
        awaited = None;
        if token.is("[") || token.is("]") {
            in_brackets = token.is("[");
        } else if in_brackets {
            within(token, MAX_DURATION_SECONDS)?;
        } else if token.is_word("offset") {
            awaited = Some(MAX_DURATION_SECONDS);
        } else if token.is("@") {
            awaited = Some(MAX_TIME_SECONDS);
        }
    }
    Ok(())
}

fn within(token: &Token<'_>, bound: f64) -> Result<(), Opaque> {
    let refused = match token.kind {
        Kind::Number(seconds) => seconds.is_nan() || seconds > bound,
        _ => token.is_any_word(&["inf", "nan"]),
    };
    if refused { Err(Opaque::TimeOutOfRange) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::lexer;

    fn guard(query: &str) -> Result<(), Opaque> {
        length(query)?;
        let tokens = lexer::lex(query).ok_or(Opaque::Unlexable)?;
        let tokens: Vec<_> = tokens.into_iter().filter(Token::is_significant).collect();
        structure(&tokens)
    }

    #[test]
    fn each_limit_admits_its_value_and_refuses_the_next() {
        let regexes = |count: usize, length: usize| vec![format!("{{a=~\"{}\"}}", "x".repeat(length)); count].join("+");
        for (at_limit, over, reason) in [
            (" ".repeat(MAX_BYTES), " ".repeat(MAX_BYTES + 1), Opaque::TooLong),
            ("(".repeat(MAX_DEPTH), "(".repeat(MAX_DEPTH + 1), Opaque::TooDeep),
            ("-".repeat(MAX_OPERATORS), "-".repeat(MAX_OPERATORS + 1), Opaque::TooManyOperators),
            (" or".repeat(MAX_OPERATORS), " or".repeat(MAX_OPERATORS + 1), Opaque::TooManyOperators),
            (" x[1m]".repeat(MAX_OPERATORS), " x[1m]".repeat(MAX_OPERATORS + 1), Opaque::TooManyOperators),
            (regexes(MAX_REGEXES, 1), regexes(MAX_REGEXES + 1, 1), Opaque::TooManyRegexes),
            (regexes(1, MAX_REGEX_BYTES - 2), regexes(1, MAX_REGEX_BYTES - 1), Opaque::RegexTooLong),
        ] {
            assert_eq!(guard(&at_limit), Ok(()), "{reason}");
            assert_eq!(guard(&over), Err(reason), "{reason}");
        }
    }

    #[test]
    fn times_that_cannot_be_held_are_refused() {
        for query in [
            "x offset Inf",
            "x offset - nan",
            "x[9.5e20]",
            "x[1m:NaN]",
            "x[Inf + 1]",
            "x @ Inf",
            "x @ -inf",
            "x @ 1e17",
            "x offset +99999999999999999",
            "x[400y]",
        ] {
            assert_eq!(guard(query), Err(Opaque::TimeOutOfRange), "{query}");
        }
        for query in ["x[200y]", "x + Inf", "Inf", "NaN", "1e300", "x @ 5 + Inf", "x[5m] + 1e300", "inf{a=\"b\"}"] {
            assert_eq!(guard(query), Ok(()), "{query}");
        }
    }
}
