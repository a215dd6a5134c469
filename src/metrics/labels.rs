//! The labels. Their values come from closed lists of ours, but for tenants' names and servers' addresses.

use std::fmt::Write;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// A word from one of our closed lists, as a label value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(pub &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

/// `status` and `reason` of an answer, the words of `X-Promfront-Result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// `hit`, `phit`, `miss`, `coalesced`, `bypass` or `error`.
    pub status: Word,
    /// Why it was not a hit; empty for one.
    pub reason: Word,
}

/// What became of a question whose answer is taken whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WholeLabels {
    /// `query`, `listing`, `fact`, `state` …
    pub endpoint: Word,
    /// As in [`ResultLabels`].
    pub status: Word,
    /// Why it was not a hit; empty for one.
    pub reason: Word,
}

/// Which of our handlers answered, and with what code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandlerLabels {
    /// `query_range`, `api` or `other`; our own pages are not counted.
    pub handler: Word,
    /// The status code.
    pub code: u16,
}

/// Why something was done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// A word from a closed list.
    pub reason: Word,
}

/// What came of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `memory` or `remote`.
    pub tier: Word,
    /// `hit`, `partial` or `miss`.
    pub outcome: Word,
}

/// Why a tier did not have what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MissLabels {
    /// `memory` or `remote`.
    pub tier: Word,
    /// A word from a closed list.
    pub reason: Word,
}

/// Reading or writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    /// `read` or `write`.
    pub operation: Word,
}

/// What became of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultOf {
    /// A word from a closed list.
    pub result: Word,
}

/// Which server of the shared tier: an address from the configuration, or that discovery found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServerLabels {
    /// Its address.
    pub server: String,
}

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabels {
    /// `alert`, `small` or `normal`.
    pub lane: Word,
}

/// Which tenant: one of those with most requests, or all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TenantLabels {
    /// Its name.
    pub tenant: String,
}

/// Whether a querier is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StandingLabels {
    /// `serving`, `leaving` or `vanished`.
    pub standing: Word,
}

/// Where points came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// `cache` or `downstream`.
    pub source: Word,
}

/// What the downstream answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabels {
    /// The status code; `0` if there was no answer.
    pub code: u16,
}

/// Which of our handlers answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandlerName {
    /// As in [`HandlerLabels`].
    pub handler: Word,
}
