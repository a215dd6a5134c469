//! What became of a question: the one vocabulary of `X-Promfront-Result`, the metrics and the log.

use std::time::Duration;

use crate::model::grid::StepGrid;

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All of it was held.
    Hit,
    /// Some of it was held.
    PartialHit,
    /// None of it was held.
    Miss,
    /// None was held, and somebody else had just asked for it.
    Coalesced,
    /// The cache was not consulted.
    Bypass,
    /// There is no answer.
    Error,
}

impl Status {
    /// As it stands in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::PartialHit => "phit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }
}

/// What happened, and where the time went.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// In one word.
    pub status: Status,
    /// Why it was not a hit: a word from a closed list of the stage that decided it. Empty for a hit.
    pub reason: &'static str,
    /// Pieces that the answer is made of.
    pub pieces: usize,
    /// Pieces among them that were held.
    pub held: usize,
    /// What was asked for downstream.
    pub fetched: Vec<StepGrid>,
    /// Time spent looking up.
    pub cache: Duration,
    /// Time spent waiting for parts.
    pub downstream: Duration,
    /// Time spent putting the pieces together, but not on writing them: that is done as they are sent.
    pub merge: Duration,
}

impl Verdict {
    /// A verdict with nothing but a word and its reason.
    pub fn new(status: Status, reason: &'static str) -> Self {
        let none = Duration::ZERO;
        Self { status, reason, pieces: 0, held: 0, fetched: Vec::new(), cache: none, downstream: none, merge: none }
    }
}
