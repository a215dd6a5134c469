//! A range answer's body, written in Prometheus's form: as it is, or as gzip.
//!
//! Both are the same bytes once they are unpacked. What is held packed goes into gzip as it is, and is unpacked for those who
//! want it plain.

use crate::deflate::{Gzip, Points};
use crate::model::response::{Annotations, MergedSeries, Stretch};
use crate::model::whole::Packing;

/// Writes a body, series by series.
#[derive(Debug)]
pub struct Writer {
    out: Out,
    series: u64,
}

#[derive(Debug)]
enum Out {
    Plain(Vec<u8>),
    Gzip(Box<Gzip>),
}

impl Writer {
    /// Begins a body.
    pub fn new(packing: Packing) -> Self {
        let out = match packing {
            Packing::Plain => Out::Plain(Vec::new()),
            Packing::Gzip => Out::Gzip(Box::default()),
        };
        let mut writer = Self { out, series: 0 };
        writer.out.text(br#"{"status":"success","data":{"resultType":"matrix","result":["#);
        writer
    }

    /// How many series were written.
    pub fn series_written(&self) -> u64 {
        self.series
    }

    /// Adds a series. They are given in label order.
    pub fn series(&mut self, series: &MergedSeries<'_>) {
        self.out.text(if self.series > 0 { br#",{"metric":"# } else { br#"{"metric":"# });
        self.out.text(series.metric);
        self.points(br#","values":["#, Points::Floats, &series.floats);
        self.points(br#","histograms":["#, Points::Histograms, &series.histograms);
        self.out.text(b"}");
        self.series += 1;
    }

    fn points(&mut self, open: &[u8], points: Points, stretches: &[Stretch<'_>]) {
        for (i, stretch) in stretches.iter().enumerate() {
            self.out.text(if i == 0 { open } else { b"," });
            self.out.points(points, stretch);
        }
        if !stretches.is_empty() {
            self.out.text(b"]");
        }
    }

    /// How many bytes are there to be taken.
    pub fn ready(&self) -> usize {
        match &self.out {
            Out::Plain(text) => text.len(),
            Out::Gzip(gzip) => gzip.ready(),
        }
    }

    /// Takes what is there, in as much memory as it needs: it may be kept, and what it was written in is written in again.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.out {
            Out::Plain(text) => {
                let taken = text.as_slice().to_vec();
                text.clear();
                taken
            }
            Out::Gzip(gzip) => gzip.take(),
        }
    }

    /// Ends the body, and gives the rest of it.
    pub fn finish(mut self, annotations: &Annotations, stats: Option<&str>) -> Vec<u8> {
        self.out.text(b"]");
        if let Some(stats) = stats {
            self.out.text(br#","stats":"#);
            self.out.text(stats.as_bytes());
        }
        self.out.text(b"}");
        self.strings(br#","warnings":["#, &annotations.warnings);
        self.strings(br#","infos":["#, &annotations.infos);
        self.out.text(b"}");
        match self.out {
            Out::Plain(text) => text.as_slice().to_vec(),
            Out::Gzip(gzip) => gzip.finish(),
        }
    }

    fn strings(&mut self, open: &[u8], strings: &[Box<str>]) {
        for (i, text) in strings.iter().enumerate() {
            self.out.text(if i == 0 { open } else { b"," });
            self.out.text(text.as_bytes());
        }
        if !strings.is_empty() {
            self.out.text(b"]");
        }
    }
}

impl Out {
    fn text(&mut self, text: &[u8]) {
        match self {
            Self::Plain(out) => out.extend_from_slice(text),
            Self::Gzip(gzip) => gzip.text(text),
        }
    }

    fn points(&mut self, points: Points, stretch: &Stretch<'_>) {
        match (self, stretch) {
            (Self::Plain(out), stretch) => stretch.append_to(out),
            (Self::Gzip(gzip), Stretch::Text(text)) => gzip.points(points, points.kind(text), text),
            (Self::Gzip(gzip), Stretch::Cut(text, kind)) => gzip.points(points, *kind, text),
            (Self::Gzip(gzip), Stretch::Packed(bits, run)) => gzip.run(bits, run),
        }
    }
}
