//! What one reading of a query found.

use std::borrow::Cow;

use super::pin::{self, Pin};

/// Why an answer at one instant may depend on the whole range that was asked, so that the range must stay in one
/// piece and the answer out of the cache. The first that applies, in this order, is the one that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WholeRange {
    /// `smoothed` reads past the instant, by a lookback that the downstream alone knows.
    Smoothed,
    /// `info()` chooses its info series over the range that was asked.
    Info,
    /// `limitk` keeps the first series of a storage order that may differ with the range asked.
    Limitk,
    /// `start()`, `end()`, `range()` or `step()` as a value.
    RangeValue,
    /// An offset that is computed; how far it reads is not known.
    OffsetExpression,
    /// An aggregation whose parameter may vary: it is judged by its extremes over the range (3.x), and taken at the
    /// range's first instant when the operand is nailed by `@`.
    VaryingParameter,
    /// A range vector nailed by `@`, in a call that varies: before 2.51 its window moves on from the range's start.
    WanderingWindow,
    /// A metric name is dropped from series that may differ in nothing else: an error if any two of them appear
    /// anywhere in the range, be it at different instants.
    MayCollide,
    /// A subquery that may fail, narrower than the step or run on past the last instant: it fails the whole range even
    /// where no piece would evaluate it.
    GappedSubquery,
    /// `label_replace` or `label_join` may make series equal: the same error, from 2.51 to 3.8 only. It ranks last,
    /// so a caller that knows its downstream to be older or newer may disregard it.
    LabelRewrite,
}

impl WholeRange {
    /// The one to name of those known and another.
    pub(super) fn or_earlier(self, known: Option<Self>) -> Self {
        known.map_or(self, |known| known.min(self))
    }

    /// The word for metrics, headers and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Smoothed => "smoothed",
            Self::Info => "info",
            Self::Limitk => "limitk",
            Self::RangeValue => "range-value",
            Self::OffsetExpression => "offset-expression",
            Self::VaryingParameter => "varying-parameter",
            Self::WanderingWindow => "wandering-window",
            Self::MayCollide => "may-collide",
            Self::GappedSubquery => "gapped-subquery",
            Self::LabelRewrite => "label-rewrite",
        }
    }
}

/// The facts of one query. Times and lengths are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub(super) reach: Reach,
    pub(super) widest_range_ms: i64,
    pub(super) whole_range: Option<WholeRange>,
    /// With a longer step than this the range must stay in one piece.
    pub(super) coarsest_step_ms: Option<i64>,
    pub(super) pins: Vec<Pin>,
    pub(super) reads_series: bool,
    pub(super) kind: Kind,
}

/// What an evaluation at one instant gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One value, a number or a text; there is always one.
    Scalar,
    /// Series with one sample each.
    Vector,
    /// Series with samples over a range.
    Matrix,
}

impl Kind {
    /// Prometheus's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }
}

/// The latest instants that selectors read, one for each thing they may be measured from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "a unit comes last in every name")]
pub(super) struct Reach {
    /// Past the evaluated instant; never negative.
    pub(super) past_instant_ms: i64,
    /// `@ T`.
    pub(super) absolute_ms: Option<i64>,
    /// Past the start of the client's range.
    pub(super) past_start_ms: Option<i64>,
    /// Past the end of the client's range.
    pub(super) past_end_ms: Option<i64>,
}

impl Facts {
    /// The latest instant whose data the evaluation at `t_ms` may read, for a client's range from `start_ms` to
    /// `end_ms`. At least `t_ms`.
    #[must_use]
    pub fn latest_read_ms(&self, t_ms: i64, start_ms: i64, end_ms: i64) -> i64 {
        self.nailed_ms(start_ms, end_ms).fold(t_ms.saturating_add(self.ahead_ms()), i64::max)
    }

    /// How far past the evaluated instant it may read; not negative.
    #[must_use]
    pub const fn ahead_ms(&self) -> i64 {
        self.reach.past_instant_ms
    }

    /// The instants that it reads whichever is evaluated, for a client's range from `start_ms` to `end_ms`.
    pub fn nailed_ms(&self, start_ms: i64, end_ms: i64) -> impl Iterator<Item = i64> + use<> {
        let reach = self.reach;
        let from_start = reach.past_start_ms.map(|past_ms| start_ms.saturating_add(past_ms));
        let from_end = reach.past_end_ms.map(|past_ms| end_ms.saturating_add(past_ms));
        [reach.absolute_ms, from_start, from_end].into_iter().flatten()
    }

    /// The longest stretch of data that one instant reads: ranges and subquery ranges, nested ones added up; 0 if
    /// there is none. A range that is computed (`[step()]`) counts as a millisecond, so this is a measure of cost and
    /// not a bound.
    #[must_use]
    pub const fn widest_range_ms(&self) -> i64 {
        self.widest_range_ms
    }

    /// Some reason if a range of this step must stay in one piece. `ragged_ms` is how far its end lies past its last
    /// instant: the server evaluates subqueries up to there.
    #[must_use]
    pub fn whole_range(&self, step_ms: i64, ragged_ms: i64) -> Option<WholeRange> {
        let has_gaps = self.coarsest_step_ms.is_some_and(|coarsest_ms| step_ms > coarsest_ms || ragged_ms > 0);
        if has_gaps { Some(WholeRange::GappedSubquery.or_earlier(self.whole_range)) } else { self.whole_range }
    }

    /// Whether it reads any series; `1+1` and `time()` read none.
    #[must_use]
    pub const fn reads_series(&self) -> bool {
        self.reads_series
    }

    /// What an instant query for it is answered with.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The client's text with literals in the place of `@ start()` and `@ end()`.
    ///
    /// # Panics
    ///
    /// May panic if `query` is not the text these facts were read from.
    #[must_use]
    pub fn pin<'q>(&self, query: &'q str, start_ms: i64, end_ms: i64) -> Cow<'q, str> {
        pin::splice(query, &self.pins, start_ms, end_ms)
    }
}
