//! Series as text: a sample is the downstream's own digits, never a number of ours.
//!
//! A [`TextMatrix`] is one piece of response text and, for each series, three spans into it: its labels (`{"job":"api"}`), its
//! float points and its histogram points (`[t,v],[t,v]`, without the outer brackets). Cutting finds the byte where a
//! timestamp begins; nothing is parsed to a float, so nothing can be rounded. Only a scanner that has checked every byte
//! (`wire::response`) or a copy of what it checked makes a matrix: the functions here rely on that shape. What is held is [packed](PackedMatrix).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memrchr};

use super::grid::StepGrid;
use super::packed::PackedMatrix;
use super::time::Timestamp;

/// A stretch of a matrix's text. Texts are below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes of `range`, which lies within a text of less than 4 GiB.
    pub fn new(range: &Range<usize>) -> Self {
        let narrow = |at: usize| u32::try_from(at).expect("a matrix's text is shorter than 4 GiB");
        Self { start: narrow(range.start), end: narrow(range.end) }
    }

    /// As a range of byte offsets.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// Where one series stands in its matrix's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesSpans {
    /// The labels, a JSON object with its names in order.
    pub metric: Span,
    /// Float points, `[t,"v"],…`, possibly none.
    pub floats: Span,
    /// Native histogram points, `[t,{…}],…`, possibly none.
    pub histograms: Span,
}

impl SeriesSpans {
    /// How many bytes of the text it takes.
    fn len(&self) -> usize {
        self.metric.len() + self.floats.len() + self.histograms.len()
    }
}

/// Series in label order with their points, as text.
#[derive(Clone, Debug)]
pub struct TextMatrix {
    text: Bytes,
    series: Vec<SeriesSpans>,
}

impl TextMatrix {
    /// Spans into a checked text.
    pub fn new(text: Bytes, series: Vec<SeriesSpans>) -> Self {
        Self { text, series }
    }

    /// The text that the spans point into.
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The bytes of one span.
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.text[span.range()]
    }

    /// The series, in label order.
    pub fn series(&self) -> &[SeriesSpans] {
        &self.series
    }

    /// How much memory it holds, in bytes: its stretches of the text, which it may share.
    pub fn weight(&self) -> usize {
        self.series.iter().map(|series| series.len() + size_of::<SeriesSpans>()).sum()
    }

    /// The points of `span` whose instants lie in `grid`; the whole span when the matrix is known to lie inside.
    pub fn within(&self, span: Span, grid: &StepGrid) -> Span {
        let points = self.bytes(span);
        let kept = cut_points(points, grid.start(), grid.last());
        let base = span.range().start;
        Span::new(&(base + kept.start..base + kept.end))
    }

    /// What lies in `grid`, as stretches of the same text.
    #[must_use]
    pub fn part(&self, grid: &StepGrid) -> Self {
        let part = |s: &SeriesSpans| SeriesSpans {
            floats: self.within(s.floats, grid),
            histograms: self.within(s.histograms, grid),
            ..*s
        };
        let is_there = |s: &SeriesSpans| !s.floats.is_empty() || !s.histograms.is_empty();
        Self { text: self.text.clone(), series: self.series.iter().map(part).filter(is_there).collect() }
    }

    /// A copy of what lies in `grid`, in a text of its own: it keeps nothing else of the response alive.
    #[must_use]
    pub fn extract(&self, grid: &StepGrid) -> Self {
        let part = self.part(grid);
        let length = part.series.iter().map(SeriesSpans::len).sum();
        let mut text = Vec::with_capacity(length);
        let mut copy = |span: Span| {
            let start = text.len();
            text.extend_from_slice(self.bytes(span));
            Span::new(&(start..text.len()))
        };
        let series = part
            .series
            .iter()
            .map(|s| SeriesSpans { metric: copy(s.metric), floats: copy(s.floats), histograms: copy(s.histograms) })
            .collect();
        Self { text: Bytes::from(text), series }
    }
}

/// Series in label order with their points: as a server sent them, or as they are held.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// As text.
    Text(TextMatrix),
    /// Packed.
    Packed(PackedMatrix),
}

impl Matrix {
    /// How many series there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(matrix) => matrix.series().len(),
            Self::Packed(matrix) => matrix.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of a series.
    pub fn metric(&self, series: usize) -> &[u8] {
        match self {
            Self::Text(matrix) => matrix.bytes(matrix.series()[series].metric),
            Self::Packed(matrix) => matrix.metric(series),
        }
    }

    /// How many bytes its labels and points have as text.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Text(matrix) => matrix.series().iter().map(SeriesSpans::len).sum(),
            Self::Packed(matrix) => matrix.text_bytes(),
        }
    }

    /// How many bytes its labels have.
    pub fn label_bytes(&self) -> usize {
        match self {
            Self::Text(matrix) => matrix.series().iter().map(|series| series.metric.len()).sum(),
            Self::Packed(matrix) => matrix.label_bytes(),
        }
    }

    /// How much memory it holds, in bytes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Text(matrix) => matrix.weight(),
            Self::Packed(matrix) => matrix.weight(),
        }
    }

    /// As text.
    pub fn unpacked(&self) -> Cow<'_, TextMatrix> {
        match self {
            Self::Text(matrix) => Cow::Borrowed(matrix),
            Self::Packed(matrix) => Cow::Owned(matrix.unpacked()),
        }
    }

    /// What lies in `grid`: of a text as stretches of it, of what is packed as it is packed.
    #[must_use]
    pub fn part(&self, grid: &StepGrid) -> Self {
        match self {
            Self::Text(matrix) => Self::Text(matrix.part(grid)),
            Self::Packed(_) => self.packed_part(grid),
        }
    }

    /// What lies in `grid`, packed; as a text of its own if there is too much to be packed.
    #[must_use]
    pub fn packed_part(&self, grid: &StepGrid) -> Self {
        let text = self.unpacked();
        PackedMatrix::of(&text, grid).map_or_else(|| Self::Text(text.extract(grid)), Self::Packed)
    }
}

/// The byte range of the points with `from <= t <= until`, without the commas around it.
pub fn cut_points(points: &[u8], from: Timestamp, until: Timestamp) -> Range<usize> {
    // What follows the time tells a point from a bucket: `"` in a text of floats, `{` in a text of histograms.
    let Some(&opening) = memchr(b',', points).and_then(|comma| points.get(comma + 1)) else {
        return 0..0;
    };
    let start = match next_point(points, opening, 0) {
        Some((_, first)) if first >= from => 0,
        _ => first_at_or_after(points, opening, from),
    };
    // Mostly all of a series lies inside.
    let last = memrchr(b'[', points).and_then(|at| next_point(points, opening, at));
    if last.is_some_and(|(at, last)| at >= start && last <= until) {
        return start..points.len();
    }
    let after = Timestamp::from_ms(until.ms().saturating_add(1));
    let end = match first_at_or_after(&points[start..], opening, after) {
        0 => start,
        rest if start + rest == points.len() => points.len(),
        rest => start + rest - 1, // the comma before the point that stays behind
    };
    start..end
}

/// Where the first point at or after `t` begins; the length if there is none. A binary search over the bytes.
fn first_at_or_after(points: &[u8], opening: u8, t: Timestamp) -> usize {
    let (mut low, mut high) = (0, points.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match next_point(points, opening, middle) {
            Some((at, time)) if time < t => low = at + 1,
            _ => high = middle,
        }
    }
    next_point(points, opening, low).map_or(points.len(), |(at, _)| at)
}

/// The first point that begins at or after `offset`, and its time.
fn next_point(points: &[u8], opening: u8, offset: usize) -> Option<(usize, Timestamp)> {
    memchr_iter(b'[', &points[offset..]).find_map(|found| {
        let at = offset + found;
        let comma = at + memchr(b',', &points[at..])?;
        let time = Timestamp::parse_sample(&points[at + 1..comma])?;
        (points.get(comma + 1) == Some(&opening)).then_some((at, time))
    })
}

/// Compares two label sets in the order in which Prometheus sorts a matrix: name by name and value by value, as bytes.
///
/// Both are JSON objects of strings, checked before.
pub fn compare_metrics(a: &[u8], b: &[u8]) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut a, mut b) = (labels(a), labels(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some((name_a, value_a)), Some((name_b, value_b))) => {
                let order = compare_strings(name_a, name_b).then_with(|| compare_strings(value_a, value_b));
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

/// The names and values of a checked label set, still escaped.
pub fn labels(metric: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = metric;
    std::iter::from_fn(move || {
        let name = take_string(&mut rest)?;
        let value = take_string(&mut rest)?;
        Some((name, value))
    })
}

/// The inside of the next string, and moves past it.
fn take_string<'t>(rest: &mut &'t [u8]) -> Option<&'t [u8]> {
    let open = memchr(b'"', rest)? + 1;
    let mut close = open;
    while *rest.get(close)? != b'"' {
        close += if rest[close] == b'\\' { 2 } else { 1 };
    }
    let inside = &rest[open..close];
    *rest = &rest[close + 1..];
    Some(inside)
}

/// Compares what two JSON strings stand for, byte by byte of their UTF-8.
pub fn compare_strings(a: &[u8], b: &[u8]) -> Ordering {
    if memchr(b'\\', a).is_none() && memchr(b'\\', b).is_none() {
        return a.cmp(b);
    }
    unescaped(a).cmp(unescaped(b))
}

/// The bytes that the inside of a checked JSON string stands for.
fn unescaped(inside: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (bytes, length, used) = unescape_at(inside.get(at..).filter(|rest| !rest.is_empty())?);
        at += used;
        Some(bytes.into_iter().take(length))
    })
    .flatten()
}

/// The first character of a checked JSON string: its UTF-8 bytes, how many they are, and how many bytes were read.
fn unescape_at(rest: &[u8]) -> ([u8; 4], usize, usize) {
    if rest[0] != b'\\' {
        return ([rest[0], 0, 0, 0], 1, 1);
    }
    let simple = |byte| ([byte, 0, 0, 0], 1, 2);
    match rest.get(1).copied().unwrap_or(b'\\') {
        b'n' => simple(b'\n'),
        b't' => simple(b'\t'),
        b'r' => simple(b'\r'),
        b'b' => simple(8),
        b'f' => simple(12),
        b'u' => {
            let unit = |at: usize| {
                rest.get(at..at + 4)
                    .and_then(|hex| std::str::from_utf8(hex).ok())
                    .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            };
            let (code, used) = match (unit(2), rest.get(6..8), unit(8)) {
                (Some(high @ 0xD800..0xDC00), Some(b"\\u"), Some(low @ 0xDC00..0xE000)) => {
                    (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12)
                }
                (unit, ..) => (unit.unwrap_or(0xFFFD), 6),
            };
            let mut bytes = [0; 4];
            let length = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut bytes).len();
            (bytes, length, used)
        }
        byte => simple(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Step;

    const HISTOGRAM: &str = r#"{"count":"3","sum":"7.5","buckets":[[0,"1","2","1"],[3,"-0.5","0.5","2"]]}"#;

    fn floats(times: &[i64]) -> String {
        times.iter().map(|t| format!(r#"[{},"{}"]"#, Timestamp::from_ms(*t), t / 7)).collect::<Vec<_>>().join(",")
    }

    fn histograms(times: &[i64]) -> String {
        times.iter().map(|t| format!("[{},{HISTOGRAM}]", Timestamp::from_ms(*t))).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_cut_keeps_the_points_of_its_range_and_no_comma_more() {
        let times: Vec<i64> = (0..60).map(|i| (i - 20) * 7500 + i * i).collect();
        for (write, name) in [(floats as fn(&[i64]) -> String, "floats"), (histograms, "histograms")] {
            let text = write(&times);
            for from in (-160_000..460_000).step_by(3700) {
                for length in [0, 1, 7500, 40_000, 500_000] {
                    let kept: Vec<i64> = times.iter().copied().filter(|t| (from..=from + length).contains(t)).collect();
                    let range =
                        cut_points(text.as_bytes(), Timestamp::from_ms(from), Timestamp::from_ms(from + length));
                    assert_eq!(&text[range], write(&kept), "{name} from {from} for {length}");
                }
            }
        }
        assert_eq!(cut_points(b"", Timestamp::from_ms(0), Timestamp::from_ms(10)), 0..0);
    }

    #[test]
    fn a_histogram_without_buckets_is_cut_too() {
        let text = r#"[1,{"count":"0","sum":"0"}],[2,{"count":"0","sum":"0"}]"#;
        let range = cut_points(text.as_bytes(), Timestamp::from_ms(2000), Timestamp::from_ms(2000));
        assert_eq!(&text[range], r#"[2,{"count":"0","sum":"0"}]"#);
    }

    #[test]
    fn metrics_are_ordered_as_prometheus_orders_labels_not_as_text() {
        let in_order = [
            r"{}",
            r#"{"__name__":"a"}"#,
            r#"{"__name__":"a","x":""}"#,
            r#"{"__name__":"a","x":"\t"}"#,
            r#"{"__name__":"a","x":"v"}"#,
            r#"{"__name__":"a","x":"v","y":"1"}"#,
            r#"{"__name__":"a","x":"v w"}"#,
            r#"{"__name__":"a","x":"v!"}"#,
            r#"{"__name__":"a","x":"v\"q"}"#,
            r#"{"__name__":"a","x":"v\u003cb"}"#,
            r#"{"__name__":"a","x":"v]"}"#,
            r#"{"__name__":"a","x":"v\u00e9"}"#,
            r#"{"__name__":"a","x":"v\u2028"}"#,
            r#"{"__name__":"a","x":"v\ud83d\ude00"}"#,
            r#"{"__name__":"a","y":"a"}"#,
            r#"{"x":"a"}"#,
        ];
        for (i, a) in in_order.iter().enumerate() {
            for (j, b) in in_order.iter().enumerate() {
                assert_eq!(compare_metrics(a.as_bytes(), b.as_bytes()), i.cmp(&j), "{a} and {b}");
            }
        }
        assert_eq!(compare_metrics(r#"{"x":"é"}"#.as_bytes(), br#"{"x":"\u00e9"}"#), Ordering::Equal);
    }

    #[test]
    fn an_extract_holds_only_its_own_grid() {
        let text = format!(r#"{{"x":"1"}}{}{{"x":"2"}}{}"#, floats(&[0, 1000, 2000]), floats(&[0]));
        let at = |needle: &str| text.find(needle).map(|at| at..at + needle.len()).expect("it is there");
        let spans = |metric: &str, points: &str| SeriesSpans {
            metric: Span::new(&at(metric)),
            floats: Span::new(&at(points)),
            histograms: Span::new(&(0..0)),
        };
        let series = vec![spans(r#"{"x":"1"}"#, &floats(&[0, 1000, 2000])), spans(r#"{"x":"2"}"#, &floats(&[0]))];
        let matrix = TextMatrix::new(Bytes::from(text.clone()), series);
        let step = Step::from_ms(1000).expect("positive");
        let grid = StepGrid::new(Timestamp::from_ms(1000), step, Timestamp::from_ms(2000)).expect("not empty");
        let part = matrix.extract(&grid);
        assert_eq!(part.text(), format!(r#"{{"x":"1"}}{}"#, floats(&[1000, 2000])).as_bytes());
        assert_eq!(part.series().len(), 1, "a series without a point in the grid is not there");
    }
}
