//! What is known of an expression's series before they are seen: their metric names and which labels set them apart.
//!
//! Prometheus refuses a result in which two series have the same labels. Most evaluation checks that instant by
//! instant, and there a cut changes nothing. But a function over a range vector is evaluated series by series over
//! the whole range asked, drops the names, and then compares all of its output at once (`Call` in the engine, up to
//! and including 3.14; unary minus up to 3.8): `{__name__=~"a|b"}[5m]` fails if `a{x="1"}` was there on Monday and
//! `b{x="1"}` on Tuesday, while each day alone has an answer.
//!
//! The rule: a cut is sound where dropping the name cannot make two series equal. The series of a selector differ in
//! name or labels. The series of every other expression differ over the whole range as well, because `rangeEval`
//! gathers its output by labels (a series that is there on Monday and one that is there on Tuesday, with equal
//! labels, are one series). So it is enough that the series carry no name at all, or all the same one. That also
//! makes `or` between two sides without names safe: its result is gathered by labels, and there is no name to drop.

use promql_parser::label::{METRIC_NAME, MatchOp};
use promql_parser::parser::{LabelModifier, VectorSelector};

use super::normalise::UNKNOWN;

/// The metric names that the series of an expression carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// No series carries a name.
    None,
    /// All series carry this one.
    One(String),
    /// Not known.
    Any,
}

/// Which labels set the series of an expression apart from each other. The metric name is not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Labels {
    /// The labels that may differ between series; `None` is any label.
    varying: Option<Vec<String>>,
    /// Labels that don't, all the same.
    fixed: Vec<String>,
}

impl Labels {
    /// Any label may differ.
    pub(super) fn any() -> Self {
        Self { varying: None, fixed: Vec::new() }
    }

    /// There is one series at most.
    pub(super) fn none() -> Self {
        Self { varying: Some(Vec::new()), fixed: Vec::new() }
    }

    /// True if no two series differ in this label.
    fn is_fixed(&self, label: &str) -> bool {
        self.fixed.iter().any(|fixed| fixed == label)
            || self.varying.as_ref().is_some_and(|varying| varying.iter().all(|varying| varying != label))
    }

    /// Only these labels are kept.
    pub(super) fn only(self, labels: &[String]) -> Self {
        let varying = labels.iter().filter(|label| !self.is_fixed(label)).cloned().collect();
        Self { varying: Some(varying), fixed: self.fixed }
    }

    /// These labels are removed.
    pub(super) fn without(mut self, labels: &[String]) -> Self {
        self.fixed.extend_from_slice(labels);
        self
    }

    /// These labels are written anew.
    pub(super) fn with(mut self, labels: &[String]) -> Self {
        self.fixed.retain(|fixed| !labels.contains(fixed));
        if let Some(varying) = &mut self.varying {
            varying.extend_from_slice(labels);
        }
        self
    }
}

/// What is known of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// A scalar or a string.
    pub(super) is_scalar: bool,
    /// A literal, or computed from literals alone.
    pub(super) is_constant: bool,
    pub(super) names: Names,
    pub(super) labels: Labels,
    /// `@` nails all it reads, so that every step has the same value.
    pub(super) is_invariant: bool,
    /// How far back of an instant its ranges reach, nested ones added up.
    pub(super) back_ms: i64,
}

impl Shape {
    /// A scalar or a string.
    pub(super) fn scalar(is_invariant: bool, back_ms: i64) -> Self {
        let (names, labels) = (Names::None, Labels::none());
        Self { is_scalar: true, is_constant: false, names, labels, is_invariant, back_ms }
    }

    pub(super) fn selector(selector: &VectorSelector) -> Self {
        let matchers = if selector.matchers.or_matchers.is_empty() { &selector.matchers.matchers[..] } else { &[] };
        let equal = matchers.iter().filter(|matcher| matcher.op == MatchOp::Equal && !matcher.value.contains(UNKNOWN));
        let (names, fixed): (Vec<_>, Vec<_>) = equal.partition(|matcher| matcher.name == METRIC_NAME);
        let name = selector.name.clone().or_else(|| names.first().map(|matcher| matcher.value.clone()));
        Self {
            is_scalar: false,
            is_constant: false,
            names: name.filter(|name| !name.is_empty()).map_or(Names::Any, Names::One),
            labels: Labels { varying: None, fixed: fixed.into_iter().map(|matcher| matcher.name.clone()).collect() },
            is_invariant: selector.at.is_some(),
            back_ms: 0,
        }
    }

    /// The name is dropped.
    pub(super) fn nameless(mut self) -> Self {
        self.names = Names::None;
        self
    }

    /// The name is dropped by some versions and kept by others.
    pub(super) fn perhaps_nameless(mut self) -> Self {
        if self.names != Names::None {
            self.names = Names::Any;
        }
        self
    }

    /// What `by (…)`, `on (…)`, `without (…)` and `ignoring (…)` leave. Only the latter keeps a name it isn't told.
    pub(super) fn grouped(mut self, grouping: &LabelModifier) -> Self {
        let labels = &grouping.labels().labels;
        if names_it(labels) != grouping.is_include() {
            self.names = Names::None;
        }
        self.labels = match grouping {
            LabelModifier::Include(_) => self.labels.only(labels),
            LabelModifier::Exclude(_) => self.labels.without(labels),
        };
        self
    }

    /// These labels come from elsewhere.
    pub(super) fn relabelled(mut self, labels: &[String]) -> Self {
        if names_it(labels) {
            self.names = Names::Any;
        }
        self.labels = self.labels.with(labels);
        self
    }

    /// True if no two series differ in this label.
    pub(super) fn is_fixed(&self, label: &str) -> bool {
        if label == METRIC_NAME { self.names != Names::Any } else { self.labels.is_fixed(label) }
    }

    /// The series of both.
    pub(super) fn or(self, other: &Self) -> Self {
        let names = if self.names == other.names { self.names } else { Names::Any };
        Self { names, labels: Labels::any(), ..self }
    }
}

fn names_it(labels: &[String]) -> bool {
    labels.iter().any(|label| label == METRIC_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|&label| label.to_owned()).collect()
    }

    #[test]
    fn labels_know_what_does_not_differ() {
        assert!(!Labels::any().is_fixed("a"));
        assert!(Labels::none().is_fixed("a"));
        let by_a = Labels::any().only(&list(&["a"]));
        assert!(!by_a.is_fixed("a") && by_a.is_fixed("b"));
        let without_b = Labels::any().without(&list(&["b"]));
        assert!(!without_b.is_fixed("a") && without_b.is_fixed("b"));
        let rewritten = by_a.with(&list(&["b"]));
        assert!(!rewritten.is_fixed("b") && rewritten.is_fixed("c"));
        assert!(without_b.only(&list(&["a", "b"])).is_fixed("b"));
    }

    #[test]
    fn names_survive_only_what_keeps_them() {
        let metric = |name: &str| Shape { names: Names::One(name.to_owned()), ..Shape::scalar(false, 0) };
        let by = |labels| LabelModifier::include(labels);
        let without = |labels| LabelModifier::exclude(labels);
        assert_eq!(metric("m").grouped(&by(vec!["a"])).names, Names::None);
        assert_eq!(metric("m").grouped(&by(vec!["__name__"])).names, Names::One("m".to_owned()));
        assert_eq!(metric("m").grouped(&without(vec!["a"])).names, Names::One("m".to_owned()));
        assert_eq!(metric("m").grouped(&without(vec!["__name__"])).names, Names::None);
        assert_eq!(metric("m").or(&metric("m")).names, Names::One("m".to_owned()));
        assert_eq!(metric("m").or(&metric("n")).names, Names::Any);
        assert_eq!(metric("m").or(&metric("m").nameless()).names, Names::Any);
        assert_eq!(metric("m").nameless().or(&metric("n").nameless()).names, Names::None);
    }
}
