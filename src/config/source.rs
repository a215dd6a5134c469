//! A configuration as it was written: a text, its name, and where each option stands in it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::Config;
use super::expand::expand;
use super::problem::{ConfigError, Problem, Report, in_text};
use super::value::Value;
use super::yaml::{self, Is, MOST_BYTES, Node};

/// What it is called that comes from no file.
const NO_FILE: &str = "configuration";

/// A text and its tree.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    tree: Node,
}

/// What is in a file, up to the first byte that is too many.
pub fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than is taken, so that the bound is seen to be passed.
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX) + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Source {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        Self::from_file(path, content(path))
    }

    /// Reads what was found in a file.
    pub fn from_file(path: &Path, content: io::Result<Vec<u8>>) -> Result<Self, ConfigError> {
        let failed = |why: String| ConfigError::File { path: path.to_owned(), why };
        let bytes = content.map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
        Self::of(&path.display().to_string(), text)
    }

    /// Reads a text that comes from no file.
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        Self::of(NO_FILE, text.to_owned())
    }

    fn of(name: &str, text: String) -> Result<Self, ConfigError> {
        match yaml::parse(&text) {
            Ok(tree) => Ok(Self { name: name.to_owned(), text, tree }),
            Err(problems) => Err(in_text(problems, name, &text)),
        }
    }

    /// Puts variables in the place of `${NAME}`, in values only.
    pub fn expand(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        expand_all(&mut self.tree, variable, &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(self.wrong(problems)) }
    }

    /// What it says. If a value cannot be read, all other values are still held against their bounds.
    pub fn read(&self) -> Result<Config, ConfigError> {
        let mut report = Report::default();
        let config = Config::read(&self.tree, &mut report).unwrap_or_default();
        if report.problems.is_empty() {
            return Ok(config);
        }
        Value::check(&config, &mut report);
        Err(self.wrong(report.problems))
    }

    /// The same problems, with the places of their options.
    pub fn locate(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Wrong(problems) => self.wrong(problems),
            error @ ConfigError::File { .. } => error,
        }
    }

    /// All values, each with the names that lead to it: `config.addresses[]` for each one of a list. For texts that are no
    /// configuration of promfront's.
    pub fn values(&self) -> Vec<(String, String)> {
        let mut values = Vec::new();
        flatten(&self.tree, String::new(), &mut values);
        values
    }

    fn wrong(&self, mut problems: Vec<Problem>) -> ConfigError {
        for problem in &mut problems {
            problem.at = problem.at.or_else(|| self.tree.place_of(&problem.path));
        }
        // As one reads; what has no place comes last.
        problems.sort_by_key(|problem| problem.at.map_or((usize::MAX, 0), |at| (at.line, at.column)));
        in_text(problems, &self.name, &self.text)
    }
}

fn expand_all(node: &mut Node, variable: &dyn Fn(&str) -> Option<String>, problems: &mut Vec<Problem>) {
    match &mut node.is {
        Is::Nothing => {}
        Is::Text(text) => match expand(text, variable) {
            Ok(expanded) => *text = expanded,
            Err(sentence) => problems.push(Problem::at(node.at, sentence)),
        },
        Is::List(items) => {
            for item in items {
                expand_all(item, variable, problems);
            }
        }
        Is::Section(entries) => {
            for entry in entries {
                expand_all(&mut entry.value, variable, problems);
            }
        }
    }
}

fn flatten(node: &Node, name: String, values: &mut Vec<(String, String)>) {
    match &node.is {
        Is::Nothing => {}
        Is::Text(text) => values.push((name, text.clone())),
        Is::List(items) => items.iter().for_each(|item| flatten(item, format!("{name}[]"), values)),
        Is::Section(entries) => {
            for entry in entries {
                let dot = if name.is_empty() { "" } else { "." };
                flatten(&entry.value, format!("{name}{dot}{}", entry.key), values);
            }
        }
    }
}
