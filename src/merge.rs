//! Puts an answer together from pieces that follow one another in time.
//!
//! Each piece holds its series in label order, so one walk over all of them meets equal series side by side and keeps the
//! order that the server itself would give. Points are not looked at: the pieces are disjoint and in order, so a series
//! is the concatenation of its stretches; only the run of packed points that
//! a piece begins or ends in is unpacked and cut. Which piece came from the cache and which was fetched makes no difference here.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::deflate::{Points, Run, unpack};
use crate::model::grid::StepGrid;
use crate::model::packed::Within;
use crate::model::response::{Annotations, MergedSeries, Piece, Stretch};
use crate::model::series::{Matrix, compare_metrics, cut_points};

/// Prometheus lists at most this many annotations of a kind and then says how many it left out.
const LISTED_ANNOTATIONS: usize = 10;

/// How far the lists of series of some pieces have been merged: where each of them goes on.
#[derive(Clone, Debug, Default)]
pub struct Places(Vec<usize>);

/// Gives every series of `pieces` to `emit`, in label order.
///
/// The pieces' grids are disjoint and ascending.
pub fn merge_series<'p>(pieces: &'p [Piece], mut emit: impl FnMut(&MergedSeries<'p>)) {
    merge_on(pieces, &mut Places::default(), |series| {
        emit(series);
        ControlFlow::Continue(())
    });
}

/// Gives series to `emit` as [`merge_series`] does, from `places` on, until it breaks. Whether there was no more series.
pub fn merge_on<'p>(
    pieces: &'p [Piece],
    places: &mut Places,
    mut emit: impl FnMut(&MergedSeries<'p>) -> ControlFlow<()>,
) -> bool {
    debug_assert!(
        pieces.windows(2).all(|pair| pair[0].grid.last() < pair[1].grid.start()),
        "pieces follow one another"
    );
    places.0.resize(pieces.len(), 0);
    let mut cursors: Vec<PieceCursor<'p>> =
        pieces.iter().zip(&places.0).map(|(piece, next)| PieceCursor::new(piece, *next)).collect();
    let mut merged = MergedSeries { metric: b"", floats: Vec::new(), histograms: Vec::new() };
    let mut holders = Vec::new();
    let is_done = loop {
        let Some(metric) = least(&cursors, &mut holders) else { break true };
        merged.metric = metric;
        merged.floats.clear();
        merged.histograms.clear();
        for &holder in &holders {
            cursors[holder].take_into(&mut merged);
        }
        let is_there = !merged.floats.is_empty() || !merged.histograms.is_empty();
        if is_there && emit(&merged).is_break() {
            break false;
        }
    };
    places.0.iter_mut().zip(&cursors).for_each(|(place, cursor)| *place = cursor.next);
    is_done
}

/// The least of the series that come next, and which cursors stand at it, in order.
fn least<'p>(cursors: &[PieceCursor<'p>], holders: &mut Vec<usize>) -> Option<&'p [u8]> {
    let mut least: Option<&[u8]> = None;
    holders.clear();
    for (i, cursor) in cursors.iter().enumerate() {
        let Some(metric) = cursor.metric else { continue };
        match least.map_or(Ordering::Less, |least| compare_metrics(metric, least)) {
            Ordering::Less => {
                least = Some(metric);
                holders.clear();
                holders.push(i);
            }
            Ordering::Equal => holders.push(i),
            Ordering::Greater => {}
        }
    }
    least
}

/// The place in one piece's list of series.
struct PieceCursor<'p> {
    piece: &'p Piece,
    is_whole: bool,
    next: usize,
    metric: Option<&'p [u8]>,
}

impl<'p> PieceCursor<'p> {
    fn new(piece: &'p Piece, next: usize) -> Self {
        debug_assert!(piece.answer.grid.covers(&piece.grid), "a piece is taken from what holds it");
        let mut cursor = Self { piece, is_whole: piece.grid == piece.answer.grid, next, metric: None };
        cursor.look();
        cursor
    }

    fn look(&mut self) {
        let matrix = &self.piece.answer.matrix;
        self.metric = (self.next < matrix.len()).then(|| matrix.metric(self.next));
    }

    fn take_into(&mut self, merged: &mut MergedSeries<'p>) {
        match &self.piece.answer.matrix {
            Matrix::Text(matrix) => {
                let series = &matrix.series()[self.next];
                for (span, to) in [(series.floats, &mut merged.floats), (series.histograms, &mut merged.histograms)] {
                    let span =
                        if self.is_whole || span.is_empty() { span } else { matrix.within(span, &self.piece.grid) };
                    if !span.is_empty() {
                        to.push(Stretch::Text(matrix.bytes(span)));
                    }
                }
            }
            Matrix::Packed(matrix) => {
                for (points, to) in [(Points::Floats, &mut merged.floats), (Points::Histograms, &mut merged.histograms)]
                {
                    for packed in matrix.runs(self.next, points) {
                        match if self.is_whole { Within::All } else { packed.within(&self.piece.grid) } {
                            Within::Nothing => {}
                            Within::All => to.push(Stretch::Packed(matrix.bits(), &packed.run)),
                            Within::Some => to.extend(cut(matrix.bits(), &packed.run, &self.piece.grid)),
                        }
                    }
                }
            }
        }
        self.next += 1;
        self.look();
    }
}

/// The points of a run that lie in `grid`, if there are any.
fn cut(bits: &[u8], run: &Run, grid: &StepGrid) -> Option<Stretch<'static>> {
    let mut text = Vec::new();
    unpack(bits, run, &mut text);
    let kept = cut_points(&text, grid.start(), grid.last());
    (!kept.is_empty()).then(|| Stretch::Cut(text[kept].into(), run.kind))
}

/// The annotations of all pieces: each once, at most ten of a kind, and then how many more, as Prometheus does.
///
/// `None` if pieces cannot tell what the whole would say: where a list was cut short, a text counts what it is about, or the
/// same is said of two places in the query, of which the whole names one.
pub fn merge_annotations(pieces: &[Piece], added_warning: Option<&str>) -> Option<Annotations> {
    if let ([only], None) = (pieces, added_warning) {
        return Some(only.answer.annotations.clone());
    }
    let all = || pieces.iter().map(|piece| &piece.answer.annotations);
    let added: Vec<Box<str>> = added_warning.into_iter().map(Box::from).collect();
    Some(Annotations {
        warnings: unite(all().flat_map(|a| &a.warnings).chain(&added), "warning")?,
        infos: unite(all().flat_map(|a| &a.infos), "info")?,
    })
}

fn unite<'a>(texts: impl Iterator<Item = &'a Box<str>>, kind: &str) -> Option<Vec<Box<str>>> {
    let mut united = Vec::<Box<str>>::new();
    for text in texts {
        if speaks_of_the_whole(text) {
            return None;
        }
        if !united.contains(text) {
            if united.iter().any(|other| without_place(other) == without_place(text)) {
                return None;
            }
            united.push(text.clone());
        }
    }
    let omitted = united.len().saturating_sub(LISTED_ANNOTATIONS);
    if omitted > 0 {
        united.truncate(LISTED_ANNOTATIONS);
        united.push(format!("\"{omitted} more {kind} annotations omitted\"").into());
    }
    Some(united)
}

/// `PromQL info: … "x" (1:6)` without the place in the query.
fn without_place(text: &str) -> &str {
    let place = |c: char| c.is_ascii_digit() || c == ':';
    text.strip_suffix(")\"").and_then(|text| text.trim_end_matches(place).strip_suffix(" (")).unwrap_or(text)
}

/// `N more … annotations omitted`, `… over N samples from T to T`, `… (N occurrences)`.
fn speaks_of_the_whole(text: &str) -> bool {
    text.ends_with(" annotations omitted\"")
        || text.contains(" occurrences)")
        || (text.contains(" over ") && text.contains(" samples from "))
}

/// The statistics of all pieces, if each has some: counts and times are added up, peaks are the highest, per-step lists
/// follow one another.
pub fn merge_stats(pieces: &[Piece]) -> Option<String> {
    if let [only] = pieces {
        return only.answer.stats.as_deref().map(str::to_owned);
    }
    let texts: Option<Vec<&str>> = pieces.iter().map(|piece| piece.answer.stats.as_deref()).collect();
    let mut values = texts?.into_iter().map(|text| serde_json::from_str::<Value>(text).ok());
    let first = values.next()??;
    let whole = values.try_fold(first, |whole, next| Some(add("", whole, next?)))?;
    Some(whole.to_string())
}

fn add(name: &str, whole: Value, next: Value) -> Value {
    match (whole, next) {
        (Value::Object(mut whole), Value::Object(next)) => {
            for (key, value) in next {
                let sum = match whole.remove(&key) {
                    Some(before) => add(&key, before, value),
                    None => value,
                };
                whole.insert(key, sum);
            }
            Value::Object(whole)
        }
        (Value::Array(mut whole), Value::Array(next)) => {
            whole.extend(next);
            Value::Array(whole)
        }
        (Value::Number(whole), Value::Number(next)) => match (whole.as_u64(), next.as_u64()) {
            (Some(a), Some(b)) if name.starts_with("peak") => Value::from(a.max(b)),
            (Some(a), Some(b)) => Value::from(a.saturating_add(b)),
            _ => Value::from(whole.as_f64().unwrap_or(0.0) + next.as_f64().unwrap_or(0.0)),
        },
        (whole, _) => whole,
    }
}
