//! What a downstream answered to one range query, taken apart but still its own text.

use bytes::Bytes;

use super::grid::StepGrid;
use super::series::{Matrix, Span};

/// A whole, well-formed answer: every byte of it was checked.
#[derive(Clone, Debug)]
pub struct RangeAnswer {
    /// The instants that it answers for, whether or not there are samples at them.
    pub grid: StepGrid,
    /// The series, in label order, their samples on the grid.
    pub matrix: Matrix,
    /// What the server had to say about the answer.
    pub annotations: Annotations,
    /// The `stats` object, as text, if it was asked for.
    pub stats: Option<Box<str>>,
}

/// `warnings` and `infos`, each a JSON string with its quotes, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// What may be wrong with the answer.
    pub warnings: Vec<Box<str>>,
    /// What the author of the query may want to know.
    pub infos: Vec<Box<str>>,
}

impl Annotations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.infos.is_empty()
    }

    /// Whether all of them come from evaluating PromQL, so that asking again would bring them again. Anything else (a
    /// store that did not answer, a partial result) speaks of that one moment and must not be kept.
    pub fn come_from_promql(&self) -> bool {
        let from_promql = |text: &str| text.starts_with("\"PromQL warning: ") || text.starts_with("\"PromQL info: ");
        self.warnings.iter().chain(&self.infos).all(|text| from_promql(text))
    }

    /// How much memory they hold, in bytes.
    pub fn weight(&self) -> usize {
        self.warnings.iter().chain(&self.infos).map(|text| text.len() + size_of::<Box<str>>()).sum()
    }
}

impl RangeAnswer {
    /// How much memory it holds, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.matrix.weight()
            + self.annotations.weight()
            + self.stats.as_ref().map_or(0, |s| s.len())
    }

    /// Whether a part of its grid can be taken. Annotations and statistics speak of the whole and cannot be cut.
    pub fn is_divisible(&self) -> bool {
        self.annotations.is_empty() && self.stats.is_none()
    }

    /// The answer to the part of its grid that lies in `grid`, in a text of its own.
    #[must_use]
    pub fn extract(&self, grid: &StepGrid) -> Self {
        Self {
            grid: *grid,
            matrix: self.matrix.extract(grid),
            annotations: self.annotations.clone(),
            stats: self.stats.clone(),
        }
    }
}

/// One piece of an answer that is put together: the part `grid` of what `answer` holds.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The instants to take from it.
    pub grid: StepGrid,
    /// Where they are taken from; it covers them.
    pub answer: std::sync::Arc<RangeAnswer>,
}

/// One series of an answer that is put together, as slices of the texts it comes from.
#[derive(Debug)]
pub struct MergedSeries<'p> {
    /// Its labels.
    pub metric: &'p [u8],
    /// Runs of float points, in time order, none of them empty.
    pub floats: Vec<Slice<'p>>,
    /// Runs of histogram points, in time order, none of them empty.
    pub histograms: Vec<Slice<'p>>,
}

/// A stretch of a shared text, so that it can be handed over instead of copied.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'p> {
    /// The text that it lies in.
    pub text: &'p Bytes,
    /// Where.
    pub span: Span,
}
