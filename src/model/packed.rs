//! Series whose points are packed: what the first tier holds.
//!
//! The labels are text, to be compared. The points are runs of a deflate stream (`deflate`), a third of their text, which an answer
//! that is sent as gzip takes as they are. Packing and unpacking give back the very bytes: a packed matrix says what its text says.

use bytes::Bytes;

use super::grid::StepGrid;
use super::series::{SeriesSpans, Span, TextMatrix};
use crate::deflate::{MOST_PACKED, Packer, Points, Run, SLACK, unpack};

/// One series of a packed matrix: floats, histograms, or both.
#[derive(Clone, Copy, Debug)]
pub struct PackedSeries {
    metric: Span,
    floats: Option<Run>,
    /// Histograms are rare: their runs stand apart.
    histograms: Option<u32>,
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
        self.series.push(PackedSeries { metric, floats: floats_run, histograms: at });
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
