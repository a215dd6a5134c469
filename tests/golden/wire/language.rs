//! The language of the wire cases: how a body is read, cut and written back.
//!
//! `grid GRID step LENGTH`: what was asked for. `| TEXT`: more of the body; `|x HEX…`: more of it as bytes.
//! `scan`: the spans, or the word of the refusal and the place. `cut GRID`: what of each series lies in it.
//! `prefixes`: what becomes of the body if it ends at each of its bytes.

use std::sync::Arc;

use bytes::Bytes;
use promfront::merge::merge_series;
use promfront::model::grid::StepGrid;
use promfront::model::response::{Piece, RangeAnswer};
use promfront::model::whole::Packing;
use promfront::wire::body::Writer;
use promfront::wire::response::{Refused, scan};

use crate::{Language, Words, grid, step};

#[derive(Default)]
pub(crate) struct Wire {
    grid: Option<StepGrid>,
    body: Vec<u8>,
}

impl Language for Wire {
    fn run(&mut self, line: &mut Words<'_>) -> Vec<String> {
        match line.word() {
            "grid" => {
                let text = line.word();
                assert_eq!(line.word(), "step", "grid GRID step LENGTH");
                self.grid = Some(grid(text, step(line.word())));
            }
            "|" => self.body.extend_from_slice(line.rest().as_bytes()),
            "|x" => {
                let bytes = line.rest().split(' ').map(|hex| u8::from_str_radix(hex, 16).expect("two hex digits"));
                self.body.extend(bytes);
            }
            "scan" => return self.show_scan(),
            "cut" => {
                let part = line.grid(self.asked().step());
                return self.show_cut(&part);
            }
            "prefixes" => return self.show_prefixes(),
            word => line.unknown(word),
        }
        Vec::new()
    }
}

impl Wire {
    fn asked(&self) -> StepGrid {
        self.grid.expect("a grid comes first")
    }

    fn read(&self) -> Result<RangeAnswer, Refused> {
        scan(&Bytes::from(self.body.clone()), &self.asked())
    }

    fn show_scan(&self) -> Vec<String> {
        let answer = match self.read() {
            Ok(answer) => answer,
            Err(refused) => return vec![self.show_refusal(&refused)],
        };
        let mut shown = show_series(&answer);
        let annotations = &answer.annotations;
        shown.extend(annotations.warnings.iter().map(|text| format!("warning {text}")));
        shown.extend(annotations.infos.iter().map(|text| format!("info {text}")));
        shown.extend(answer.stats.iter().map(|text| format!("stats {text}")));
        if !answer.is_divisible() {
            let promql = if annotations.come_from_promql() { "" } else { ", not from PromQL alone" };
            shown.push(format!("indivisible{promql}"));
        }
        let written = write(answer);
        let body = self.body.strip_suffix(b"\n").unwrap_or(&self.body);
        shown.push(if written == body {
            "written back: the same bytes".to_owned()
        } else {
            format!("written back: {}", String::from_utf8_lossy(&written))
        });
        shown
    }

    fn show_refusal(&self, refused: &Refused) -> String {
        match refused {
            Refused::Foreign(why) => format!("foreign: {}", why.as_str()),
            Refused::Broken { at, length } => {
                let before = String::from_utf8_lossy(&self.body[at.saturating_sub(12)..*at]);
                let after = String::from_utf8_lossy(&self.body[*at..(*at + 12).min(self.body.len())]);
                format!("broken at byte {at} of {length}: {}▸{}", before.escape_debug(), after.escape_debug())
            }
        }
    }

    fn show_cut(&self, part: &StepGrid) -> Vec<String> {
        let answer = self.read().expect("a body that is taken");
        let mut shown = show_series(&answer.packed_part(part));
        if shown.is_empty() {
            shown.push("nothing".to_owned());
        }
        shown
    }

    fn show_prefixes(&self) -> Vec<String> {
        let (mut broken, mut others) = (0, Vec::new());
        for end in 0..self.body.len() {
            match scan(&Bytes::copy_from_slice(&self.body[..end]), &self.asked()) {
                Err(Refused::Broken { at, length }) if at <= end && length == end => broken += 1,
                other => others.push(format!("{end} bytes: {other:?}")),
            }
        }
        others.insert(0, format!("{broken} of {} prefixes are broken", self.body.len()));
        others
    }
}

fn show_series(answer: &RangeAnswer) -> Vec<String> {
    let matrix = answer.matrix.unpacked();
    let text = |span| String::from_utf8_lossy(matrix.bytes(span)).into_owned();
    let mut shown = Vec::new();
    for series in matrix.series() {
        shown.push(format!("series {}", text(series.metric)));
        for (kind, span) in [("floats", series.floats), ("histograms", series.histograms)] {
            if !span.is_empty() {
                shown.push(format!("  {kind} {}", text(span)));
            }
        }
    }
    shown
}

fn write(answer: RangeAnswer) -> Vec<u8> {
    let (annotations, stats, grid) = (answer.annotations.clone(), answer.stats.clone(), answer.grid);
    let pieces = [Piece { grid, answer: Arc::new(answer) }];
    let mut writer = Writer::new(Packing::Plain);
    merge_series(&pieces, |series| writer.series(series));
    writer.finish(&annotations, stats.as_deref())
}
