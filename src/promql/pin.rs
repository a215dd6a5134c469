//! Nails `@ start()` and `@ end()` to the client's own range.
//!
//! A piece of a query that is cut has another start and end than the query the client asked. The literal is spliced
//! at its place into the client's own bytes; everything else stays as it was written.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use super::lexer::Token;

/// The edge of the client's range that a pin names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    Start,
    End,
}

/// One `start()` or `end()` behind an `@`: the bytes from its name to its closing parenthesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    span: Range<usize>,
    edge: Edge,
}

/// All pins of a query, in order. The tokens are the significant ones. An `@` symbol stands only where it is the
/// modifier (strings and comments are other tokens), so a function or a metric of that name is never taken for one.
pub(super) fn find(tokens: &[Token<'_>]) -> Vec<Pin> {
    let pins = tokens.windows(4).filter_map(|window| {
        let [at, name, open, close] = window else { return None };
        let edge = match () {
            () if name.is_word("start") => Edge::Start,
            () if name.is_word("end") => Edge::End,
            () => return None,
        };
        let is_call = at.is("@") && open.is("(") && close.is(")");
        is_call.then(|| Pin { span: name.start..close.end(), edge })
    });
    pins.collect()
}

/// The query with a literal at every pin.
pub(super) fn splice<'q>(query: &'q str, pins: &[Pin], start_ms: i64, end_ms: i64) -> Cow<'q, str> {
    if pins.is_empty() {
        return Cow::Borrowed(query);
    }
    let mut pinned = String::with_capacity(query.len() + 8 * pins.len());
    let mut copied = 0;
    for pin in pins {
        pinned.push_str(&query[copied..pin.span.start]);
        let time_ms = match pin.edge {
            Edge::Start => start_ms,
            Edge::End => end_ms,
        };
        seconds(&mut pinned, time_ms);
        copied = pin.span.end;
        // `@ start()offset 5m` is well formed, `@ 1.500offset 5m` is not.
        if query[copied..].starts_with(|next: char| next.is_ascii_alphanumeric() || "_.:".contains(next)) {
            pinned.push(' ');
        }
    }
    pinned.push_str(&query[copied..]);
    Cow::Owned(pinned)
}

/// Writes a time in seconds, with three decimals unless it is whole.
fn seconds(out: &mut String, time_ms: i64) {
    let sign = if time_ms < 0 { "-" } else { "" };
    let (whole, milliseconds) = (time_ms.unsigned_abs() / 1000, time_ms.unsigned_abs() % 1000);
    if milliseconds == 0 { write!(out, "{sign}{whole}") } else { write!(out, "{sign}{whole}.{milliseconds:03}") }
        .expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::lexer;
    use proptest::prelude::*;

    fn pin(query: &str, start_ms: i64, end_ms: i64) -> String {
        let tokens = lexer::lex(query).expect("lexable");
        let tokens: Vec<_> = tokens.into_iter().filter(Token::is_significant).collect();
        splice(query, &find(&tokens), start_ms, end_ms).into_owned()
    }

    #[test]
    fn a_time_has_three_decimals_unless_it_is_whole() {
        for (time_ms, expected) in [
            (1_543_578_564_705, "1543578564.705"),
            (1_543_578_564_000, "1543578564"),
            (-5500, "-5.500"),
            (-1, "-0.001"),
            (7, "0.007"),
            (0, "0"),
        ] {
            assert_eq!(pin("x @ start()", time_ms, 0), format!("x @ {expected}"));
        }
    }

    #[test]
    fn a_pin_keeps_every_other_byte() {
        assert_eq!(pin("x@start ( )offset 5m", 1500, 0), "x@1.500 offset 5m");
        assert_eq!(pin("x @ # why\n END(#\n)+y@end()", 0, -2000), "x @ # why\n -2+y@-2");
    }

    proptest! {
        /// Prometheus reads the literal as a 64-bit float of seconds and rounds its thousandfold.
        #[test]
        fn a_literal_reads_back_as_its_millisecond(time_ms in -(1_i64 << 51)..(1_i64 << 51)) {
            let mut literal = String::new();
            seconds(&mut literal, time_ms);
            let read: f64 = literal.parse().expect("a number");
            #[expect(clippy::cast_possible_truncation, reason = "rounded, and far inside the range")]
            let read_ms = (read * 1000.0).round() as i64;
            prop_assert_eq!(read_ms, time_ms);
        }
    }
}
