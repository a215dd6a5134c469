//! Series whose points are packed: what the first tier holds.
//!
//! The labels are text, to be compared. The points are [runs](PackedRun) of a deflate stream (`deflate`), a third of their text, which an answer
//! that is sent as gzip takes as they are. Packing and unpacking give back the very bytes: a packed matrix says what its text says.

use bytes::Bytes;
use memchr::{memchr, memrchr};

use super::grid::StepGrid;
use super::series::{SeriesSpans, Span, TextMatrix};
use super::time::Timestamp;
use crate::deflate::{MOST_PACKED, Packer, Points, Run, SLACK, unpack};

/// Float points are packed in runs of about so many bytes of text, or up to half as many more: only those that a window begins or
/// ends in are unpacked when it is cut out. Each run costs some fifty bytes.
const RUN_BYTES: usize = 2 << 10;

/// One series of a packed matrix: floats, histograms, or both.
#[derive(Clone, Copy, Debug)]
struct PackedSeries {
    metric: Span,
    floats: Runs,
    histograms: Runs,
}

/// Some of a matrix's runs that follow one another.
#[derive(Clone, Copy, Debug)]
struct Runs {
    start: u32,
    end: u32,
}

/// Points of a series that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct PackedRun {
    /// Their bits.
    pub run: Run,
    /// When the first and the last of them are, if they are floats.
    times: Option<(Timestamp, Timestamp)>,
}

impl PackedRun {
    /// How much of it lies in `grid`, as far as that is known without unpacking it.
    pub fn within(&self, grid: &StepGrid) -> Within {
        match self.times {
            Some((first, last)) if last < grid.start() || grid.last() < first => Within::Nothing,
            Some((first, last)) if grid.start() <= first && last <= grid.last() => Within::All,
            _ => Within::Some,
        }
    }
}

/// How much of a run lies in a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// No point of it.
    Nothing,
    /// All of it.
    All,
    /// What, is seen when it is unpacked.
    Some,
}

/// Series in label order with their points, packed.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    labels: Box<[u8]>,
    bits: Box<[u8]>,
    series: Box<[PackedSeries]>,
    runs: Box<[PackedRun]>,
    text_bytes: usize,
}

impl PackedMatrix {
    /// What `matrix` has of `grid`, packed; nothing if there is too much of it.
    pub fn of(matrix: &TextMatrix, grid: &StepGrid) -> Option<Self> {
        let part = matrix.part(grid);
        if part.weight() > MOST_PACKED {
            return None;
        }
        let mut builder = Builder::default();
        for series in part.series() {
            let points = |span| part.bytes(span);
            builder.add(part.bytes(series.metric), points(series.floats), points(series.histograms));
        }
        Some(builder.finish())
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The labels of a series.
    pub fn metric(&self, series: usize) -> &[u8] {
        &self.labels[self.series[series].metric.range()]
    }

    /// The points of a series, of one sort: with commas between them, these runs.
    pub fn runs(&self, series: usize, points: Points) -> &[PackedRun] {
        let series = &self.series[series];
        let runs = match points {
            Points::Floats => series.floats,
            Points::Histograms => series.histograms,
        };
        &self.runs[runs.start as usize..runs.end as usize]
    }

    /// What the runs are runs of.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// How many bytes its labels and points have as text.
    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// How many bytes its labels have.
    pub fn label_bytes(&self) -> usize {
        self.labels.len()
    }

    /// How much memory it holds, in bytes.
    pub fn weight(&self) -> usize {
        self.labels.len() + self.bits.len() + size_of_val(&*self.series) + size_of_val(&*self.runs)
    }

    /// As text.
    pub fn unpacked(&self) -> TextMatrix {
        let mut text = Vec::with_capacity(self.text_bytes + SLACK);
        let mut series = Vec::with_capacity(self.len());
        for i in 0..self.len() {
            let start = text.len();
            text.extend_from_slice(self.metric(i));
            let metric = Span::new(&(start..text.len()));
            let [floats, histograms] = [Points::Floats, Points::Histograms].map(|points| {
                let start = text.len();
                for (i, packed) in self.runs(i, points).iter().enumerate() {
                    if i > 0 {
                        text.push(b',');
                    }
                    unpack(&self.bits, &packed.run, &mut text);
                }
                Span::new(&(start..text.len()))
            });
            series.push(SeriesSpans { metric, floats, histograms });
        }
        TextMatrix::new(Bytes::from(text), series)
    }
}

/// Packs one series after another, in label order.
#[derive(Debug, Default)]
pub struct Builder {
    labels: Vec<u8>,
    packer: Packer,
    series: Vec<PackedSeries>,
    runs: Vec<PackedRun>,
    text_bytes: usize,
}

impl Builder {
    /// Adds a series; one without points is left out. All texts are at most [`MOST_PACKED`] bytes.
    pub fn add(&mut self, metric: &[u8], floats: &[u8], histograms: &[u8]) {
        if floats.is_empty() && histograms.is_empty() {
            return;
        }
        let start = self.labels.len();
        self.labels.extend_from_slice(metric);
        let metric = Span::new(&(start..self.labels.len()));
        self.text_bytes += metric.len() + floats.len() + histograms.len();
        let floats = self.pack(Points::Floats, floats);
        let histograms = self.pack(Points::Histograms, histograms);
        self.series.push(PackedSeries { metric, floats, histograms });
    }

    fn pack(&mut self, points: Points, text: &[u8]) -> Runs {
        let place = |runs: &[PackedRun]| u32::try_from(runs.len()).expect("fewer runs than bytes");
        let start = place(&self.runs);
        let (kind, mut rest) = (points.kind(text), Some(text).filter(|text| !text.is_empty()));
        while let Some(text) = rest {
            let first;
            (first, rest) = split(points, text);
            let times = if points == Points::Floats { times_of(first) } else { None };
            self.runs.push(PackedRun { run: self.packer.pack(points, kind, first), times });
        }
        Runs { start, end: place(&self.runs) }
    }

    /// All that was added.
    pub fn finish(self) -> PackedMatrix {
        PackedMatrix {
            labels: self.labels.into(),
            bits: self.packer.finish().into(),
            series: self.series.into(),
            runs: self.runs.into(),
            text_bytes: self.text_bytes,
        }
    }
}

/// The points of the next run, and those after it.
fn split(points: Points, text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let is_short = points == Points::Histograms || text.len() <= RUN_BYTES + RUN_BYTES / 2;
    let rest = if is_short { None } else { memchr(b'[', &text[RUN_BYTES..]) };
    match rest.map(|from| RUN_BYTES + from) {
        Some(next) => (&text[..next - 1], Some(&text[next..])),
        None => (text, None),
    }
}

/// When the first and the last of float points are.
fn times_of(floats: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let time = |start: usize| {
        let comma = start + memchr(b',', &floats[start..])?;
        Timestamp::parse_sample(&floats[start + 1..comma])
    };
    Some((time(0)?, time(memrchr(b'[', floats)?)?))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::model::series::cut_points;
    use crate::model::time::Step;

    const STEP_MS: i64 = 15_000;

    fn grid(first: i64, last: i64) -> StepGrid {
        let at = |instant: i64| Timestamp::from_ms(1_700_000_000_000 + instant * STEP_MS);
        StepGrid::new(at(first), Step::from_ms(STEP_MS).expect("positive"), at(last)).expect("not empty")
    }

    /// A series with a float point at each of these instants.
    fn floats(instants: &[i64]) -> String {
        let mut text = String::new();
        for instant in instants {
            let comma = if text.is_empty() { "" } else { "," };
            let (time, value) = (grid(*instant, *instant).start(), (instant * instant) % 1009);
            write!(text, "{comma}[{time},\"{value}\"]").expect("a string takes every write");
        }
        text
    }

    /// As a server would have sent it.
    fn matrix(points: &str) -> TextMatrix {
        let text = format!("{{}}{points}");
        let series = SeriesSpans {
            metric: Span::new(&(0..2)),
            floats: Span::new(&(2..text.len())),
            histograms: Span::new(&(text.len()..text.len())),
        };
        TextMatrix::new(Bytes::from(text), vec![series])
    }

    /// What a window takes of a run, and whether that had to be cut.
    fn taken(packed: &PackedMatrix, run: &PackedRun, window: &StepGrid) -> Option<(String, bool)> {
        let mut text = Vec::new();
        unpack(packed.bits(), &run.run, &mut text);
        let within = run.within(window);
        let kept = match within {
            Within::Nothing => 0..0,
            Within::All => 0..text.len(),
            Within::Some => cut_points(&text, window.start(), window.last()),
        };
        let kept = String::from_utf8(text[kept].to_vec()).expect("a text");
        (!kept.is_empty()).then_some((kept, within == Within::Some))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Long series have many runs; whatever a window takes of them is what it takes of the text, and it cuts two runs at most.
        #[test]
        fn a_window_takes_of_the_runs_what_it_takes_of_the_text(
            gaps in prop::collection::vec(prop_oneof![20 => Just(1_i64), 1 => 2_i64..300], 1..900),
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let instants: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let (points, last) = (floats(&instants), instants[instants.len() - 1] + 2);
            let packed = PackedMatrix::of(&matrix(&points), &grid(0, last)).expect("it is short");
            let unpacked = packed.unpacked();
            prop_assert_eq!(&unpacked.text()[2..], points.as_bytes());
            prop_assert_eq!(packed.text_bytes(), 2 + points.len());
            let runs = packed.runs(0, Points::Floats);
            prop_assert_eq!(runs.len() > 1, points.len() > RUN_BYTES * 3 / 2);
            let instant = |index: prop::sample::Index| *index.get(&(0..=last).collect::<Vec<i64>>());
            let ends = (instant(ends.0), instant(ends.1));
            let window = grid(ends.0.min(ends.1), ends.0.max(ends.1));
            let taken: Vec<(String, bool)> = runs.iter().filter_map(|run| taken(&packed, run, &window)).collect();
            let want = &points[cut_points(points.as_bytes(), window.start(), window.last())];
            prop_assert_eq!(taken.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","), want);
            prop_assert!(taken.iter().filter(|(_, is_cut)| *is_cut).count() <= 2);
        }
    }
}
