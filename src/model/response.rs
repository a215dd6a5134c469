//! What a downstream answered to one range query, taken apart but still its own text.

use super::grid::StepGrid;
use super::series::Matrix;
use crate::deflate::{Kind, Run, unpack};

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

    /// The answer to the part of its grid that lies in `grid`, as stretches of the same text if it is one.
    #[must_use]
    pub fn part(&self, grid: &StepGrid) -> Self {
        self.with(grid, self.matrix.part(grid))
    }

    /// The answer to the part of its grid that lies in `grid`, as it is held: it keeps nothing else of a response alive.
    #[must_use]
    pub fn packed_part(&self, grid: &StepGrid) -> Self {
        self.with(grid, self.matrix.packed_part(grid))
    }

    fn with(&self, grid: &StepGrid, matrix: Matrix) -> Self {
        Self { grid: *grid, matrix, annotations: self.annotations.clone(), stats: self.stats.clone() }
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

/// One series of an answer that is put together.
#[derive(Debug)]
pub struct MergedSeries<'p> {
    /// Its labels.
    pub metric: &'p [u8],
    /// Float points, in time order, none of them empty.
    pub floats: Vec<Stretch<'p>>,
    /// Histogram points, in time order, none of them empty.
    pub histograms: Vec<Stretch<'p>>,
}

/// Points of one series that follow one another in one piece.
#[derive(Clone, Debug)]
pub enum Stretch<'p> {
    /// As text.
    Text(&'p [u8]),
    /// Packed: a run of these bits.
    Packed(&'p [u8], &'p Run),
    /// A part of a run, as text, and by which code that was packed.
    Cut(Box<[u8]>, Kind),
}

impl Stretch<'_> {
    /// Appends its text.
    pub fn append_to(&self, text: &mut Vec<u8>) {
        match self {
            Self::Text(own) => text.extend_from_slice(own),
            Self::Cut(own, _) => text.extend_from_slice(own),
            Self::Packed(bits, run) => unpack(bits, run, text),
        }
    }
}
