//! YAML as a small tree in which everything knows its place.
//!
//! The need: the people who write configurations are told line and column, whatever is wrong. The rule: of YAML there are
//! sections, lists and scalars; what only makes files hard to read or large in memory (aliases, merging, tags, several
//! documents, keys that are no words) is refused, and so is a key that is written twice. All is bounded.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::problem::{At, Problem};

/// The longest configuration.
pub(super) const MOST_BYTES: usize = 4 << 20;

/// So many levels may stand in one another.
const MOST_LEVELS: usize = 32;

/// Where a text begins.
const START: At = At { line: 1, column: 1, length: 1 };

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Where.
    pub(super) at: At,
    /// What.
    pub(super) is: Is,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Is {
    /// Nothing, or `null` or `~`.
    Nothing,
    /// A scalar. Quotes make no difference: a number may have them, which `${…}` inside of braces needs.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A section.
    Section(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) at: At,
    /// Its value.
    pub(super) value: Node,
}

impl Node {
    /// What stands at a path; if that is not there, what is nearest above it, but for the whole.
    pub(super) fn place_of(&self, path: &[String]) -> Option<At> {
        let (mut node, mut found) = (self, None);
        for name in path {
            let next = match &node.is {
                Is::Section(entries) => entries.iter().find(|entry| entry.key == *name).map(|entry| {
                    found = Some(if matches!(entry.value.is, Is::Text(_)) { entry.value.at } else { entry.at });
                    &entry.value
                }),
                Is::List(items) => {
                    let number = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
                    number.and_then(|number| items.get(number.parse::<usize>().ok()?)).inspect(|item| {
                        found = Some(item.at);
                    })
                }
                Is::Nothing | Is::Text(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        found
    }
}

/// The tree of a text. An empty text is nothing.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    if text.len() > MOST_BYTES {
        let sentence = format!("a configuration has at most 4MiB, and this one has {} bytes", text.len());
        return Err(vec![Problem::at(START, sentence)]);
    }
    let options = granit_parser::options! { emit_comments: false };
    let mut reader = Reader { events: Parser::new_from_str_with_options(text, options), problems: Vec::new() };
    match reader.document() {
        Ok(node) if reader.problems.is_empty() => Ok(node),
        Ok(_) | Err(Stop) => Err(reader.problems),
    }
}

/// Nothing can be read from here on; the last problem says why.
struct Stop;

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let mark = error.marker();
                let at = At { line: mark.line(), column: mark.col() + 1, length: 1 };
                Err(self.stop(at, format!("this is no YAML: {}", error.kind())))
            }
            None => Err(self.stop(START, "the text ends too early")),
        }
    }

    fn stop(&mut self, at: At, sentence: impl Into<String>) -> Stop {
        self.refuse(at, sentence);
        Stop
    }

    fn refuse(&mut self, at: At, sentence: impl Into<String>) {
        self.problems.push(Problem::at(at, sentence));
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut whole = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                _ if whole.is_some() => return Err(self.stop(at(&span), "a second document begins; a file has one")),
                event => whole = Some(self.node(event, &span, 0)?),
            }
        }
        Ok(whole.unwrap_or(Node { at: START, is: Is::Nothing }))
    }

    fn node(&mut self, event: Event<'t>, span: &Span, level: usize) -> Result<Node, Stop> {
        let at = at(span);
        if level > MOST_LEVELS {
            return Err(self.stop(at, format!("more than {MOST_LEVELS} levels stand in one another")));
        }
        if event.tag().is_some() {
            self.refuse(at, "tags (!…) are not taken; write the value alone");
        }
        let is = match event {
            Event::Scalar(text, style, ..) => match (&*text, style) {
                ("" | "~" | "null" | "Null" | "NULL", ScalarStyle::Plain) => Is::Nothing,
                _ => Is::Text(text.into_owned()),
            },
            Event::SequenceStart(..) => self.list(level)?,
            Event::MappingStart(..) => self.section(level)?,
            _ => return Err(self.stop(at, "aliases (*…) are not taken; write the value itself")),
        };
        Ok(Node { at, is })
    }

    fn list(&mut self, level: usize) -> Result<Is, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Is::List(items)),
                (event, span) => items.push(self.node(event, &span, level + 1)?),
            }
        }
    }

    fn section(&mut self, level: usize) -> Result<Is, Stop> {
        let (mut entries, mut lines) = (Vec::new(), HashMap::new());
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(Is::Section(entries));
            }
            let at = at(&span);
            let key = self.node(event, &span, level + 1)?.is;
            let (event, span) = self.next()?;
            let value = self.node(event, &span, level + 1)?;
            match key {
                Is::Text(key) if key == "<<" => {
                    self.refuse(at, "merging (<<) is not taken; write the options themselves");
                }
                Is::Text(key) => {
                    if let Some(first) = lines.insert(key.clone(), at.line) {
                        self.refuse(at, format!("{key:?} is written twice; the first time in line {first}"));
                    }
                    entries.push(Entry { key, at, value });
                }
                Is::Nothing | Is::List(_) | Is::Section(_) => self.refuse(at, "a key must be a word"),
            }
        }
    }
}

fn at(span: &Span) -> At {
    let length = if span.start.line() == span.end.line() { span.len() } else { 1 };
    At { line: span.start.line(), column: span.start.col() + 1, length: length.max(1) }
}
