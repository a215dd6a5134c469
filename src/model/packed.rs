//! Series whose points are packed: what the first tier holds.
//!
//! The labels are text, to be compared. The points are runs of a deflate stream (`deflate`), a third of their text, which an answer
//! that is sent as gzip takes as they are. Packing and unpacking give back the very bytes: a packed matrix says what its text says.

use bytes::Bytes;
use memchr::{memchr, memrchr};

use super::grid::StepGrid;
use super::series::{SeriesSpans, Span, TextMatrix};
use super::time::Timestamp;
use crate::deflate::{MOST_PACKED, Packer, Points, Run, SLACK, unpack};

/// One series of a packed matrix: floats, histograms, or both.
#[derive(Clone, Copy, Debug)]
pub struct PackedSeries {
    metric: Span,
    floats: Option<Run>,
    /// When its first and its last float point are.
    times: (Timestamp, Timestamp),
    /// Histograms are rare: their runs stand apart.
    histograms: Option<u32>,
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
    histograms: Box<[Run]>,
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

    /// The run of a series, of one sort of points.
    pub fn run(&self, series: usize, points: Points) -> Option<&Run> {
        let series = &self.series[series];
        match points {
            Points::Floats => series.floats.as_ref(),
            Points::Histograms => series.histograms.map(|at| &self.histograms[at as usize]),
        }
    }

    /// How much of a run lies in `grid`, as far as it is known without unpacking it: most series of a piece that is cut may be
    /// those that ended before.
    pub fn within(&self, series: usize, points: Points, grid: &StepGrid) -> Within {
        let (first, last) = self.series[series].times;
        match points {
            Points::Floats if last < grid.start() || grid.last() < first => Within::Nothing,
            Points::Floats if grid.start() <= first && last <= grid.last() => Within::All,
            Points::Floats | Points::Histograms => Within::Some,
        }
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
        self.labels.len() + self.bits.len() + size_of_val(&*self.series) + size_of_val(&*self.histograms)
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
                if let Some(run) = self.run(i, points) {
                    unpack(&self.bits, run, &mut text);
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
    histograms: Vec<Run>,
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
        let floats_run = (!floats.is_empty()).then(|| self.packer.pack(Points::Floats, floats));
        let at = (!histograms.is_empty()).then(|| {
            self.histograms.push(self.packer.pack(Points::Histograms, histograms));
            u32::try_from(self.histograms.len() - 1).expect("fewer than bytes")
        });
        let metric = Span::new(&(start..self.labels.len()));
        self.text_bytes += metric.len() + floats.len() + histograms.len();
        let times = times_of(floats).unwrap_or((Timestamp::from_ms(i64::MIN), Timestamp::from_ms(i64::MAX)));
        self.series.push(PackedSeries { metric, floats: floats_run, times, histograms: at });
    }

    /// All that was added.
    pub fn finish(self) -> PackedMatrix {
        PackedMatrix {
            labels: self.labels.into(),
            bits: self.packer.finish().into(),
            series: self.series.into(),
            histograms: self.histograms.into(),
            text_bytes: self.text_bytes,
        }
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
