//! What a query says about itself: how far it reads, and whether its range may be cut.
//!
//! The rule: facts are taken, the text is not touched. A query is guarded (size, depth, operators, regexes), cut
//! into tokens, written again as a plain *analysis copy* that the parser can digest, parsed, and walked once.
//! The text that travels downstream is the client's own; only `@ start()` and `@ end()` are spliced, by position.
//!
//! What is not understood is [`Opaque`]: the caller passes it whole and lets the downstream judge. Nothing here
//! guesses, and nothing here reports a syntax error to a client.

mod facts;
mod function;
mod guard;
mod lexer;
mod normalise;
mod pin;
mod shape;
mod walk;

use std::fmt;

pub use facts::{Facts, Kind, WholeRange};

/// Why a query was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opaque {
    /// More than 64 KiB of text.
    TooLong,
    /// Brackets nested more than 200 deep.
    TooDeep,
    /// More than 1000 operators, modifiers and ranges.
    TooManyOperators,
    /// More than 100 regex matchers.
    TooManyRegexes,
    /// More than 16 KiB of regex in all its matchers together.
    RegexTooLong,
    /// A duration or an `@` time that is infinite, not a number or beyond what the downstream can hold.
    TimeOutOfRange,
    /// The text cannot be cut into tokens, or a token or a duration expression is none.
    Unlexable,
    /// The tokens don't form an expression the parser knows.
    Unparsable,
    /// A function whose reach is not known here.
    UnknownFunction,
    /// The parser panicked; the panic was contained.
    ParserPanicked,
}

impl Opaque {
    /// The word for metrics, headers and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::TooDeep => "too-deep",
            Self::TooManyOperators => "too-many-operators",
            Self::TooManyRegexes => "too-many-regexes",
            Self::RegexTooLong => "regex-too-long",
            Self::TimeOutOfRange => "time-out-of-range",
            Self::Unlexable => "unlexable",
            Self::Unparsable => "unparsable",
            Self::UnknownFunction => "unknown-function",
            Self::ParserPanicked => "parser-panicked",
        }
    }
}

impl fmt::Display for Opaque {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Reads one query.
///
/// # Errors
///
/// [`Opaque`] when the text is over a limit or is not understood. It carries none of the client's text.
pub fn read(query: &str) -> Result<Facts, Opaque> {
    guard::length(query)?;
    let tokens = lexer::lex(query).ok_or(Opaque::Unlexable)?;
    let tokens: Vec<_> = tokens.into_iter().filter(lexer::Token::is_significant).collect();
    guard::structure(&tokens)?;
    let copy = normalise::copy(&tokens).ok_or(Opaque::Unlexable)?;
    let tree = parse(&copy.text)?;
    walk::facts(&tree, &copy, pin::find(&tokens))
}

/// Whether one of the query's comments says `word`, among others or alone. A string that looks like a comment is none.
#[must_use]
pub fn comments_say(query: &str, word: &str) -> bool {
    // Nearly all queries are done with here.
    if !query.contains(word) || guard::length(query).is_err() {
        return false;
    }
    let says = |comment: &str| comment.trim_start_matches('#').split_whitespace().any(|said| said == word);
    let tokens = lexer::lex(query).unwrap_or_default();
    tokens.iter().any(|token| token.kind == lexer::Kind::Comment && says(token.text))
}

/// The only call into the parser. The guard has bounded its stack and its time; `catch_unwind` holds what is left.
fn parse(copy: &str) -> Result<promql_parser::parser::Expr, Opaque> {
    std::panic::catch_unwind(|| promql_parser::parser::parse(copy))
        .map_err(|_| Opaque::ParserPanicked)?
        .map_err(|_| Opaque::Unparsable)
}
