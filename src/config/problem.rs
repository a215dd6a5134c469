//! What is wrong with a configuration, in which option and at which place, and how people are told.
//!
//! Rule: all of it is told, not only the first; each with the line that it is about and a mark under it. Passwords in addresses
//! are not part of what is shown.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

/// So many problems are shown; of more it is only said how many there are.
const MOST_SHOWN: usize = 10;

/// So much of a line is shown.
const MOST_OF_A_LINE: usize = 150;

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("can't read {}: {why}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It says what cannot be meant.
    #[error("{}", shown(.0))]
    Wrong(Vec<Problem>),
}

fn shown(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(MOST_SHOWN).map(ToString::to_string).collect();
    if problems.len() > MOST_SHOWN {
        lines.push(format!("and {} more problems", problems.len() - MOST_SHOWN));
    }
    lines.join("\n")
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The names that lead to the option, or nothing if the sentence says which one it is.
    pub(super) path: Vec<String>,
    /// Where it stands, if that is known.
    pub(super) at: Option<At>,
    /// What is wrong and what would be right.
    pub(super) sentence: String,
    /// How the place is shown: before the sentence, and after it.
    pub(super) shown: Option<(String, String)>,
}

impl Problem {
    /// Of an option that is known by its dotted name.
    pub fn of(option: &str, sentence: impl Into<String>) -> Self {
        let path = option.split('.').map(str::to_owned).collect();
        Self { path, at: None, sentence: sentence.into(), shown: None }
    }

    /// The dotted name of the option; nothing if the sentence says which one it is.
    pub fn option(&self) -> String {
        dotted(&self.path)
    }

    /// Of no option, or of one that the sentence names.
    pub(super) fn at(at: At, sentence: impl Into<String>) -> Self {
        Self { path: Vec::new(), at: Some(at), sentence: sentence.into(), shown: None }
    }

    /// Now that it is known in which text.
    fn shown_in(mut self, name: &str, text: &str) -> Self {
        self.shown = Some(match self.at {
            Some(at) => (format!("{name}:{}:{}: ", at.line, at.column), excerpt(text, at)),
            None => (format!("{name}: "), String::new()),
        });
        self
    }
}

/// With the places of those that will be shown: of a long line that is all wrong the others would take long.
pub(super) fn in_text(problems: Vec<Problem>, name: &str, text: &str) -> ConfigError {
    let shown = |(i, problem): (usize, Problem)| if i < MOST_SHOWN { problem.shown_in(name, text) } else { problem };
    ConfigError::Wrong(problems.into_iter().enumerate().map(shown).collect())
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.shown.as_ref().map(|(b, a)| (b.as_str(), a.as_str())).unwrap_or_default();
        f.write_str(before)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", dotted(&self.path))?;
        }
        write!(f, "{}{after}", self.sentence)
    }
}

/// `block[0].reason`
pub(super) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for name in path {
        if !text.is_empty() && !name.starts_with('[') {
            text.push('.');
        }
        text.push_str(name);
    }
    text
}

/// A place in a text: from where, and how many characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    /// In characters.
    pub(super) length: usize,
}

/// The line, and a mark under the place; nothing if there is no such line.
fn excerpt(text: &str, at: At) -> String {
    let Some(line) = text.lines().nth(at.line.saturating_sub(1)) else { return String::new() };
    let line = masked(line);
    let before = at.column.saturating_sub(1);
    let skipped = if line.chars().count() > MOST_OF_A_LINE { before.saturating_sub(MOST_OF_A_LINE / 3) } else { 0 };
    let part: String = line.chars().skip(skipped).take(MOST_OF_A_LINE).collect();
    let pad: String = part.chars().take(before - skipped).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let left = part.chars().count().saturating_sub(before - skipped).max(1);
    let (number, carets) = (at.line.to_string(), "^".repeat(at.length.clamp(1, left)));
    let empty = " ".repeat(number.len());
    let mut shown = String::new();
    let _ = write!(shown, "\n  {number} | {part}\n  {empty} | {pad}{carets}");
    shown
}

/// The same line, as long as before, without passwords of addresses and without what a terminal would obey.
fn masked(line: &str) -> String {
    let mut shown: Vec<char> = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    let mut from = 0;
    while let Some(found) = (from..shown.len().saturating_sub(2)).find(|&i| shown[i..].starts_with(&[':', '/', '/'])) {
        from = found + 3;
        let ends = |c: &char| c.is_whitespace() || matches!(c, '"' | '\'' | '/');
        let until = shown[from..].iter().position(ends).map_or(shown.len(), |at| from + at);
        let Some(at_sign) = shown[from..until].iter().rposition(|&c| c == '@').map(|at| from + at) else { continue };
        let Some(colon) = shown[from..at_sign].iter().position(|&c| c == ':').map(|at| from + at) else { continue };
        shown[colon + 1..at_sign].fill('*');
    }
    shown.into_iter().collect()
}

/// Collects what is wrong, while somebody walks through the options.
#[derive(Debug, Default)]
pub(super) struct Report {
    path: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

impl Report {
    /// Goes into an option, and out of it again.
    pub(super) fn within<R>(&mut self, name: impl Into<String>, walk: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(name.into());
        let found = walk(self);
        self.path.pop();
        found
    }

    /// The option that we are in is wrong.
    pub(super) fn refuse(&mut self, sentence: impl Into<String>) {
        let problem = Problem { path: self.path.clone(), at: None, sentence: sentence.into(), shown: None };
        self.problems.push(problem);
    }

    /// An option inside of the one that we are in is wrong.
    pub(super) fn refuse_of(&mut self, option: &[&str], sentence: &str) {
        match option {
            [] => self.refuse(sentence),
            [name, inside @ ..] => self.within(*name, |report| report.refuse_of(inside, sentence)),
        }
    }

    /// The option that we are in is wrong, and it is known where it stands.
    pub(super) fn refuse_at(&mut self, at: At, sentence: impl Into<String>) {
        let problem = Problem { path: self.path.clone(), at: Some(at), sentence: sentence.into(), shown: None };
        self.problems.push(problem);
    }

    /// Something else is wrong, which says itself what it is about.
    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Holds a value against its bound, if there is a value.
    pub(super) fn hold<T>(&mut self, value: &impl Given<T>, bound: fn(&T) -> Result<(), String>) {
        if let Some(Err(sentence)) = value.given().map(bound) {
            self.refuse(sentence);
        }
    }

    /// The name of the section that we are in.
    pub(super) fn here(&self) -> String {
        dotted(&self.path)
    }

    /// Whether anything is wrong.
    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigError::Wrong(self.problems)) }
    }
}

/// What is there always, or may be.
pub(super) trait Given<T> {
    /// It, if it is there.
    fn given(&self) -> Option<&T>;
}

impl<T> Given<T> for T {
    fn given(&self) -> Option<&T> {
        Some(self)
    }
}

impl<T> Given<T> for Option<T> {
    fn given(&self) -> Option<&T> {
        self.as_ref()
    }
}
