//! How options are read and printed: what each can be, and what holds options itself.
//!
//! Rule: what is printed reads back to the same value; what is refused is told how to write it, and all of it is.

use std::collections::BTreeMap;

use super::print::Printed;
use super::problem::Report;
use super::yaml::{Entry, Is, Node};

pub(super) use super::scalar::{Address, Size};

/// What an option can be.
pub(super) trait Value: Sized {
    /// Reads it; what is wrong goes into the report.
    fn read(node: &Node, report: &mut Report) -> Option<Self>;

    /// As it is written.
    fn print(&self) -> Printed;

    /// If it has options inside: these, for people to see where none is given.
    fn example() -> Option<Printed> {
        None
    }

    /// Holds what is inside against its bounds.
    fn check(&self, _: &mut Report) {}
}

/// How an option is written, where its type alone does not say it.
pub(super) trait Form<T> {
    /// See [`Value::read`].
    fn read(node: &Node, report: &mut Report) -> Option<T>;

    /// See [`Value::print`].
    fn print(value: &T) -> Printed;

    /// See [`Value::example`].
    fn example() -> Option<Printed> {
        None
    }

    /// See [`Value::check`].
    fn check(_: &T, _: &mut Report) {}
}

/// As its type is written by itself.
pub(super) struct Plain;

impl<T: Value> Form<T> for Plain {
    fn read(node: &Node, report: &mut Report) -> Option<T> {
        T::read(node, report)
    }

    fn print(value: &T) -> Printed {
        value.print()
    }

    fn example() -> Option<Printed> {
        T::example()
    }

    fn check(value: &T, report: &mut Report) {
        value.check(report);
    }
}

impl<T: Value> Value for Option<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        if node.is == Is::Nothing { Some(None) } else { T::read(node, report).map(Some) }
    }

    fn print(&self) -> Printed {
        self.as_ref().map_or(Printed::Nothing, T::print)
    }

    fn example() -> Option<Printed> {
        T::example()
    }

    fn check(&self, report: &mut Report) {
        if let Some(value) = self {
            value.check(report);
        }
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let Is::List(items) = &node.is else {
            report.refuse_at(node.at, format!("{} stands where a list belongs; write [] for none", what(node)));
            return None;
        };
        let read = |(i, item): (usize, &Node)| report.within(format!("[{i}]"), |report| T::read(item, report));
        // All of them, so that all that is wrong is told.
        let items: Vec<_> = items.iter().enumerate().map(read).collect();
        items.into_iter().collect()
    }

    fn print(&self) -> Printed {
        Printed::List(self.iter().map(T::print).collect())
    }

    fn example() -> Option<Printed> {
        T::example().map(|example| Printed::List(vec![example]))
    }

    fn check(&self, report: &mut Report) {
        for (i, item) in self.iter().enumerate() {
            report.within(format!("[{i}]"), |report| item.check(report));
        }
    }
}

impl<T: Value> Value for BTreeMap<String, T> {
    fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let mut read = |Entry { key, value, .. }: &Entry| {
            report.within(key.clone(), |report| Some((key.clone(), T::read(value, report)?)))
        };
        let entries: Vec<_> = match &node.is {
            Is::Nothing => Vec::new(),
            Is::Section(entries) => entries.iter().map(&mut read).collect(),
            Is::Text(_) | Is::List(_) => {
                report.refuse_at(node.at, format!("{} stands where names and their options belong", what(node)));
                return None;
            }
        };
        entries.into_iter().collect()
    }

    fn print(&self) -> Printed {
        Printed::Named(self.iter().map(|(name, value)| (name.clone(), value.print())).collect())
    }

    fn example() -> Option<Printed> {
        T::example().map(|example| Printed::Named(vec![("<name>".to_owned(), example)]))
    }

    fn check(&self, report: &mut Report) {
        for (name, value) in self {
            report.within(name.clone(), |report| value.check(report));
        }
    }
}

/// The entries of a section, none of which is unknown; those that are, are told.
pub(super) fn section<'n>(node: &'n Node, known: &[&str], report: &mut Report) -> Option<&'n [Entry]> {
    let entries = match &node.is {
        Is::Nothing => return Some(&[]),
        Is::Section(entries) => entries,
        Is::Text(_) | Is::List(_) => {
            report
                .refuse_at(node.at, format!("{} stands where options belong, such as {}", what(node), example(known)));
            return None;
        }
    };
    for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
        let here = report.here();
        let whose = if here.is_empty() { "there is".to_owned() } else { format!("{here} has") };
        let instead = near(&entry.key, known)
            .map_or_else(|| format!("it has {}", known.join(", ")), |near| format!("did you mean {near:?}?"));
        let instead = if here.is_empty() { instead.replacen("it has", "there are", 1) } else { instead };
        report.push(super::problem::Problem::at(entry.at, format!("{whose} no option {:?}; {instead}", entry.key)));
    }
    Some(entries)
}

fn example(known: &[&str]) -> String {
    known.first().map(|name| format!("{name}: …")).unwrap_or_default()
}

/// One option of a section, if it is given.
pub(super) fn option<T>(
    entries: &[Entry],
    name: &str,
    report: &mut Report,
    read: impl FnOnce(&Node, &mut Report) -> Option<T>,
) -> Option<T> {
    let entry = entries.iter().find(|entry| entry.key == name)?;
    report.within(name, |report| read(&entry.value, report))
}

/// One of a few words.
pub(super) fn word<'n>(node: &'n Node, words: &[&str], report: &mut Report) -> Option<&'n str> {
    let Is::Text(text) = &node.is else {
        report.refuse_at(node.at, format!("{} stands where one of {} belongs", what(node), words.join(", ")));
        return None;
    };
    if words.contains(&text.as_str()) {
        return Some(text);
    }
    let near = near(text, words).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    report.refuse_at(node.at, format!("{text:?} is none of {}{near}", words.join(", ")));
    None
}

/// The known word that was probably meant.
fn near<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let likeness = |known: &&str| strsim::jaro_winkler(&word.to_lowercase(), known);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.8).then_some(best)
}

/// What a scalar says; if it does not say that, what was expected.
pub(super) fn parsed<T>(
    node: &Node,
    report: &mut Report,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = match &node.is {
        Is::Text(text) => text,
        Is::Nothing => {
            report.refuse_at(node.at, format!("it is empty; it must be {expected}"));
            return None;
        }
        Is::List(_) | Is::Section(_) => {
            report.refuse_at(node.at, format!("{} is not {expected}", what(node)));
            return None;
        }
    };
    let value = parse(text);
    if value.is_none() {
        report.refuse_at(node.at, format!("{text:?} is not {expected}"));
    }
    value
}

fn what(node: &Node) -> &'static str {
    match node.is {
        Is::Nothing => "nothing",
        Is::Text(_) => "a single value",
        Is::List(_) => "a list",
        Is::Section(_) => "a section",
    }
}
