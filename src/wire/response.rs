//! A range answer's body, scanned once into spans.
//!
//! Nothing that a server sends is trusted. A body is taken only if it is complete, well-formed, `success`, a matrix, on
//! the grid that was asked for, each series in time order, the series in label order and without duplicates. What is
//! sound JSON but of another shape is *foreign*: not an error, but nothing to be cut, cached or merged (the query then
//! passes whole). What is not even JSON, or ends too early, is *broken*, and never reaches a client as a success.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;
use memchr::memrchr_iter;

use super::scan::{Cursor, Odd, Scan};
use super::stride::Stride;
use crate::model::grid::StepGrid;
use crate::model::response::{Annotations, RangeAnswer};
use crate::model::series::{Matrix, SeriesSpans, Span, TextMatrix, compare_metrics, compare_strings};

/// Statistics are taken apart to be added up, which costs many times their length.
const MOST_STATS_BYTES: usize = 1 << 20;

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not JSON, or cut short.
    #[error("the body is not complete JSON (byte {at} of {length})")]
    Broken {
        /// Where the text stopped making sense.
        at: usize,
        /// How long it is.
        length: usize,
    },
    /// JSON, but not an answer that could be cut.
    #[error("{}", .0.as_str())]
    Foreign(Foreign),
}

/// What is unusual about a sound answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Another shape than Prometheus's: other keys, whitespace, numbers written otherwise.
    Shape,
    /// Another content type, or `status` is not `success`, or `resultType` is not `matrix`.
    Type,
    /// A sample that lies beside the grid that was asked for, or outside of it: a server that moves points.
    OffGrid,
    /// Samples of a series that are not in time order.
    Unordered,
    /// Series that are not sorted by their labels.
    Unsorted,
    /// The same series twice.
    Duplicate,
    /// Labels that are not sorted by name.
    Labels,
    /// The server says that data is missing.
    Partial,
    /// The server is VictoriaMetrics: it moves the client's times, and guesses each selector's lookback from the range that it
    /// is asked for, so no part of an answer is the answer to a part.
    Dialect,
}

impl Foreign {
    /// As it stands in headers, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shape => "foreign-shape",
            Self::Type => "foreign-type",
            Self::OffGrid => "foreign-grid",
            Self::Unordered => "foreign-time-order",
            Self::Unsorted => "foreign-series-order",
            Self::Duplicate => "foreign-duplicate",
            Self::Labels => "foreign-label-order",
            Self::Partial => "partial-response",
            Self::Dialect => "foreign-dialect",
        }
    }
}

/// Reads a whole body as the answer to `grid`.
pub fn scan(body: &Bytes, grid: &StepGrid) -> Result<RangeAnswer, Refused> {
    Reading::new(grid).finish(body)
}

/// Whether a body begins as a server begins an answer that is a list of series, as far as it has come.
pub fn begins_like_an_answer(so_far: &[u8]) -> bool {
    const HEAD: &[u8] = b"{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[";
    let length = so_far.len().min(HEAD.len());
    so_far[..length] == HEAD[..length]
}

/// Reads a body while it comes, series by series, so that little is left to be read when all of it is there.
#[derive(Debug)]
pub struct Reading {
    grid: StepGrid,
    /// The series before `at`.
    series: Vec<SeriesSpans>,
    /// Where the next series begins; 0 as long as the list of them has not begun.
    at: usize,
    /// As far as series were looked for.
    seen: usize,
    /// What comes next is not what was expected: that is judged at the end.
    is_odd: bool,
}

impl Reading {
    /// Nothing has come yet of the answer to `grid`.
    pub fn new(grid: &StepGrid) -> Self {
        Self { grid: *grid, series: Vec::new(), at: 0, seen: 0, is_odd: false }
    }

    /// Reads the series that are complete in what has come so far.
    pub fn advance(&mut self, so_far: &[u8]) {
        if self.is_odd || so_far.len() >= u32::MAX as usize {
            return;
        }
        // All before the last series that has begun are there.
        let unseen = self.seen.saturating_sub(SERIES.len() - 1);
        let begun = memrchr_iter(b'{', &so_far[unseen..]).find(|at| so_far[unseen + at..].starts_with(SERIES));
        self.seen = so_far.len();
        let Some(last) = begun.map(|at| unseen + at) else { return };
        let mut scanner = Scanner::resume(so_far, self);
        let mut read = scanner.series.len();
        self.is_odd = self.at == 0 && scanner.head().is_err();
        while !self.is_odd {
            (self.at, read) = (scanner.cursor.at(), scanner.series.len());
            if self.at >= last {
                break;
            }
            self.is_odd = scanner.one_series().and_then(|()| scanner.cursor.expect(b",")).is_err();
        }
        self.series = scanner.series;
        self.series.truncate(read);
    }

    /// All of it has come.
    pub fn finish(mut self, body: &Bytes) -> Result<RangeAnswer, Refused> {
        let broken = |at| Refused::Broken { at, length: body.len() };
        if body.len() >= u32::MAX as usize {
            return Err(Refused::Foreign(Foreign::Shape));
        }
        // Prometheus 3 writes the bytes of a label that is no UTF-8 as they are: no JSON, strictly, but what clients are sent.
        let is_whole = || serde_json::from_str::<serde::de::IgnoredAny>(&String::from_utf8_lossy(body)).is_ok();
        let refused = |at, foreign| if is_whole() { Refused::Foreign(foreign) } else { broken(at) };
        let mut scanner = Scanner::resume(body, &mut self);
        // What is taken is UTF-8: its strings were checked, and the rest is ASCII. What is not taken is judged as a whole first.
        scanner.envelope().map_err(|Odd { at }| match std::str::from_utf8(body) {
            Err(error) => refused(error.valid_up_to(), Foreign::Shape),
            Ok(_) => refused(at, scanner.foreign.unwrap_or(Foreign::Shape)),
        })?;
        Ok(RangeAnswer {
            grid: self.grid,
            matrix: Matrix::Text(TextMatrix::new(body.clone(), scanner.series)),
            annotations: scanner.annotations,
            stats: scanner.stats,
        })
    }
}

/// How a series begins. Inside of a string quotes are escaped, so it begins nowhere else.
const SERIES: &[u8] = b"{\"metric\":";

struct Scanner<'t> {
    text: &'t [u8],
    cursor: Cursor<'t>,
    grid: StepGrid,
    stride: Option<Stride>,
    series: Vec<SeriesSpans>,
    annotations: Annotations,
    stats: Option<Box<str>>,
    foreign: Option<Foreign>,
}

impl<'t> Scanner<'t> {
    /// Goes on where `reading` is, whose series it takes.
    fn resume(text: &'t [u8], reading: &mut Reading) -> Self {
        Self {
            text,
            cursor: Cursor::at_byte(text, reading.at),
            grid: reading.grid,
            stride: Stride::new(reading.grid.step().ms()),
            series: std::mem::take(&mut reading.series),
            annotations: Annotations::default(),
            stats: None,
            foreign: None,
        }
    }

    fn refuse<T>(&mut self, why: Foreign) -> Scan<T> {
        self.foreign = Some(why);
        self.cursor.odd()
    }

    /// `{"status":"success","data":{"resultType":"matrix","result":[…],"stats":{…}},"warnings":[…],"infos":[…]}`
    fn envelope(&mut self) -> Scan<()> {
        if self.cursor.at() == 0 {
            self.head()?;
        }
        if !self.series.is_empty() || !self.cursor.take(b"]") {
            loop {
                self.one_series()?;
                if self.cursor.take(b"]") {
                    break;
                }
                self.cursor.expect(b",")?;
            }
        }
        if self.cursor.take(b",\"stats\":") {
            self.stats = Some(self.stats()?);
        }
        self.cursor.expect(b"}")?;
        if self.cursor.take(b",\"warnings\":") {
            self.annotations.warnings = self.strings()?;
        }
        if self.cursor.take(b",\"infos\":") {
            self.annotations.infos = self.strings()?;
        }
        self.cursor.expect(b"}")?;
        if self.cursor.is_at_end() { Ok(()) } else { self.cursor.odd() }
    }

    /// All before the first series.
    fn head(&mut self) -> Scan<()> {
        self.cursor.expect(b"{\"status\":")?;
        if !self.cursor.take(b"\"success\"") {
            let is_a_status = self.cursor.peek() == Some(b'"');
            return if is_a_status { self.refuse(Foreign::Type) } else { self.cursor.odd() };
        }
        if self.cursor.take(b",\"isPartial\":true") {
            return self.refuse(Foreign::Partial);
        }
        self.cursor.expect(b",\"data\":")?;
        self.cursor.expect(b"{\"resultType\":")?;
        if !self.cursor.take(b"\"matrix\"") {
            return self.refuse(Foreign::Type);
        }
        self.cursor.expect(b",\"result\":[")
    }

    /// The `stats` object is small and of no fixed shape: it is read by the general parser.
    fn stats(&mut self) -> Scan<Box<str>> {
        let start = self.cursor.at();
        let mut values =
            serde_json::Deserializer::from_slice(&self.text[start..]).into_iter::<&serde_json::value::RawValue>();
        match values.next() {
            Some(Ok(stats)) if stats.get().starts_with('{') && stats.get().len() <= MOST_STATS_BYTES => {
                let text: Box<str> = stats.get().into();
                self.cursor.expect(text.as_bytes())?;
                Ok(text)
            }
            _ => self.cursor.odd(),
        }
    }

    fn strings(&mut self) -> Scan<Vec<Box<str>>> {
        let text = self.text;
        let mut strings = Vec::new();
        self.cursor.array(|cursor| {
            let inside = cursor.string()?;
            let quoted = &text[inside.start - 1..=inside.end];
            strings.push(std::str::from_utf8(quoted).map_err(|_| Odd { at: inside.start })?.into());
            Ok(())
        })?;
        // Prometheus leaves an empty list out, and so does the writer.
        if strings.is_empty() { self.cursor.odd() } else { Ok(strings) }
    }

    /// `{"metric":{…},"values":[[t,"v"],…],"histograms":[[t,{…}],…]}`
    fn one_series(&mut self) -> Scan<()> {
        self.cursor.expect(b"{\"metric\":")?;
        let metric = self.metric()?;
        let floats = if self.cursor.take(b",\"values\":[") { self.floats()? } else { 0..0 };
        let histograms = if self.cursor.take(b",\"histograms\":[") { self.histograms()? } else { 0..0 };
        self.cursor.expect(b"}")?;
        if floats.is_empty() && histograms.is_empty() {
            return self.refuse(Foreign::Shape);
        }
        self.series.push(SeriesSpans {
            metric: Span::new(&metric),
            floats: Span::new(&floats),
            histograms: Span::new(&histograms),
        });
        Ok(())
    }

    /// A label set: names in order, after the series before it.
    fn metric(&mut self) -> Scan<Range<usize>> {
        let (text, start) = (self.text, self.cursor.at());
        let (mut previous, mut sorted) = (None::<Range<usize>>, true);
        self.cursor.object(|cursor, name| {
            if let Some(previous) = previous.replace(name.clone()) {
                sorted &= compare_strings(&text[previous], &text[name]) == Ordering::Less;
            }
            cursor.string().map(drop)
        })?;
        if !sorted {
            return self.refuse(Foreign::Labels);
        }
        let metric = start..self.cursor.at();
        if let Some(before) = self.series.last() {
            match compare_metrics(&text[before.metric.range()], &text[metric.clone()]) {
                Ordering::Less => {}
                Ordering::Equal => return self.refuse(Foreign::Duplicate),
                Ordering::Greater => return self.refuse(Foreign::Unsorted),
            }
        }
        Ok(metric)
    }

    fn floats(&mut self) -> Scan<Range<usize>> {
        let (text, stride, last) = (self.text, self.stride, self.grid.last().ms());
        self.points(|cursor, at, time, follows| {
            cursor.expect(b"\"")?;
            let stride = stride.filter(|_| follows);
            let time = match stride.and_then(|stride| stride.after(time, &text[at..cursor.at()])) {
                Some(joint) => cursor.floats(joint, last)?,
                None => cursor.float().map(|()| time)?,
            };
            cursor.expect(b"\"")?;
            Ok(time)
        })
    }

    fn histograms(&mut self) -> Scan<Range<usize>> {
        self.points(|cursor, _, time, _| histogram(cursor).map(|()| time))
    }

    /// Points up to and with the closing bracket; the range is without it. `values` is given where a point's time begins and
    /// the time; it takes the value, perhaps points after it too, and gives the time of the last one.
    #[inline]
    fn points(&mut self, values: impl Fn(&mut Cursor<'t>, usize, i64, bool) -> Scan<i64>) -> Scan<Range<usize>> {
        let start = self.cursor.at();
        let (step, first, last) = (self.grid.step().ms(), self.grid.start().ms(), self.grid.last().ms());
        let mut previous = None;
        loop {
            self.cursor.expect(b"[")?;
            let at = self.cursor.at();
            let time = self.cursor.sample_time()?;
            self.cursor.expect(b",")?;
            let follows = match previous {
                Some(previous) if time <= previous => return self.refuse(Foreign::Unordered),
                Some(previous) => time - previous == step,
                None => false,
            };
            if !(follows || (time >= first && (time - first) % step == 0)) || time > last {
                return self.refuse(Foreign::OffGrid);
            }
            previous = Some(values(&mut self.cursor, at, time, follows || previous.is_none())?);
            self.cursor.expect(b"]")?;
            if self.cursor.take(b"]") {
                return Ok(start..self.cursor.at() - 1);
            }
            self.cursor.expect(b",")?;
        }
    }
}

/// `{"count":"…","sum":"…","buckets":[[rule,"…","…","…"],…]}`; no `buckets` if none is populated.
fn histogram(cursor: &mut Cursor<'_>) -> Scan<()> {
    cursor.expect(b"{\"count\":")?;
    cursor.value()?;
    cursor.expect(b",\"sum\":")?;
    cursor.value()?;
    if cursor.take(b",\"buckets\":") {
        cursor.array(|cursor| {
            cursor.expect(b"[")?;
            match cursor.peek() {
                Some(b'0'..=b'3') => cursor.sample_time().map(drop)?,
                _ => return cursor.odd(),
            }
            for _ in 0..3 {
                cursor.expect(b",")?;
                cursor.value()?;
            }
            cursor.expect(b"]")
        })?;
    }
    cursor.expect(b"}")
}
