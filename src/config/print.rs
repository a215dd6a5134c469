//! A configuration as YAML again: with the reason of each option, with all values, or with those alone that are not the default.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What of it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Everything, with the reasons: a file to start from.
    Reference,
    /// All values.
    Effective,
    /// What is not the default.
    Difference,
}

/// A value, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    /// No value.
    Nothing,
    /// What needs no quotes: numbers, durations, sizes, words.
    Plain(String),
    /// A text, in quotes if it must be.
    Text(String),
    /// A list.
    List(Vec<Printed>),
    /// Names that are not options, and what is otherwise for them.
    Named(Vec<(String, Printed)>),
    /// Options.
    Section(Vec<Entry>),
}

/// An option with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is for, in lines that begin with a space.
    pub(super) reason: &'static [&'static str],
    /// Whether it is as it would be anyway.
    pub(super) is_default: bool,
    /// Its value.
    pub(super) value: Printed,
    /// What may stand inside.
    pub(super) example: Option<Printed>,
}

/// The text of the whole. Nothing is an empty text.
pub(super) fn text(whole: &Printed, extent: Shown) -> String {
    let mut writer = Writer { out: String::new(), told: BTreeSet::new() };
    if let Printed::Section(entries) = whole {
        writer.section(entries, extent, "", "");
    }
    writer.out
}

struct Writer {
    out: String,
    /// A reason is told once.
    told: BTreeSet<&'static [&'static str]>,
}

impl Writer {
    /// Each option on its line. The first one may follow what stands on the line already, such as `- `.
    fn section(&mut self, entries: &[Entry], extent: Shown, margin: &str, first_margin: &str) {
        let shown = entries.iter().filter(|entry| extent != Shown::Difference || !entry.is_default);
        for (i, entry) in shown.enumerate() {
            if extent == Shown::Reference {
                if margin.is_empty() && i > 0 {
                    self.out.push('\n');
                }
                self.reason(entry.reason, margin);
            }
            self.out.push_str(if i == 0 && extent != Shown::Reference { first_margin } else { margin });
            self.value(entry.name, &entry.value, extent, margin);
            let is_empty = matches!(&entry.value, Printed::Nothing)
                || matches!(&entry.value, Printed::List(items) if items.is_empty())
                || matches!(&entry.value, Printed::Named(named) if named.is_empty());
            if let (true, Shown::Reference, Some(example)) = (is_empty, extent, &entry.example) {
                let inside = format!("{margin}# ");
                self.out.push_str(&inside);
                self.value(entry.name, example, extent, &inside);
            }
        }
    }

    fn reason(&mut self, reason: &'static [&'static str], margin: &str) {
        if self.told.insert(reason) {
            for line in reason {
                writeln!(self.out, "{margin}#{line}").expect("a String takes every write");
            }
        }
    }

    /// `name: value`, on as many lines as it takes.
    fn value(&mut self, name: &str, value: &Printed, extent: Shown, margin: &str) {
        let is_block = match value {
            Printed::Nothing | Printed::Plain(_) | Printed::Text(_) => false,
            Printed::List(items) => items.iter().any(|item| matches!(item, Printed::Section(_))),
            Printed::Named(named) => !named.is_empty(),
            Printed::Section(entries) => is_shown(entries, extent),
        };
        if !is_block {
            self.out.push_str(name);
            self.out.push_str(": ");
            self.out.push_str(&flow(value));
            self.out.push('\n');
            return;
        }
        writeln!(self.out, "{name}:").expect("a String takes every write");
        let inside = format!("{margin}  ");
        // What is otherwise for somebody is told by what is otherwise.
        let of_each = if extent == Shown::Reference { extent } else { Shown::Difference };
        match value {
            Printed::Section(entries) => self.section(entries, extent, &inside, &inside),
            Printed::Named(named) => {
                for (name, value) in named {
                    self.out.push_str(&inside);
                    self.value(&quoted(name), value, of_each, &inside);
                }
            }
            Printed::List(items) => {
                for item in items {
                    match item {
                        Printed::Section(entries) if of_each == Shown::Reference => {
                            writeln!(self.out, "{inside}-").expect("a String takes every write");
                            self.section(entries, of_each, &format!("{inside}  "), "");
                        }
                        Printed::Section(entries) if is_shown(entries, of_each) => {
                            self.section(entries, of_each, &format!("{inside}  "), &format!("{inside}- "));
                        }
                        other => writeln!(self.out, "{inside}- {}", flow(other)).expect("a String takes every write"),
                    }
                }
            }
            Printed::Nothing | Printed::Plain(_) | Printed::Text(_) => {}
        }
    }
}

fn is_shown(entries: &[Entry], extent: Shown) -> bool {
    extent != Shown::Difference || entries.iter().any(|entry| !entry.is_default)
}

/// On one line.
fn flow(value: &Printed) -> String {
    match value {
        Printed::Nothing => "null".to_owned(),
        Printed::Plain(text) => text.clone(),
        Printed::Text(text) => quoted(text),
        Printed::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Printed::Named(_) | Printed::Section(_) => "{}".to_owned(),
    }
}

/// In quotes, unless it is a plain word or path that cannot be taken for anything else.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
