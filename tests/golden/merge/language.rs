//! The language of the merge cases: the answer that some pieces make.
//!
//! `step LENGTH`. `piece GRID [of GRID]`: the next piece, taken from an answer to the second grid; `held` and `fetched`
//! are pieces that are assembled first. Of the answer: `SERIES: …`, where SERIES is a label set and `…` a value for
//! each instant of the answer's grid: `_` for none, `hN` for a histogram of N observations, anything else a float;
//! `warning TEXT`, `info TEXT`, `stats JSON`. `merge`: the body, a line for each series, and under it whatever it has
//! besides.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use promfront::cache::plan::assemble;
use promfront::merge::{merge_annotations, merge_series, merge_stats};
use promfront::model::grid::StepGrid;
use promfront::model::response::Piece;
use promfront::model::time::{Step, Timestamp};
use promfront::model::whole::Packing;
use promfront::wire::body::Writer;
use promfront::wire::response::scan;

use crate::{Language, Words, show_grid, step};

#[derive(Default)]
pub(crate) struct Merge {
    step: Option<Step>,
    pieces: Vec<Draft>,
}

#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Given,
    Held,
    Fetched,
}

/// A piece whose answer is still being told.
struct Draft {
    origin: Origin,
    grid: StepGrid,
    of: StepGrid,
    series: Vec<String>,
    warnings: Vec<String>,
    infos: Vec<String>,
    stats: String,
}

impl Language for Merge {
    fn run(&mut self, line: &mut Words<'_>) -> Vec<String> {
        match line.word() {
            "step" => self.step = Some(step(line.word())),
            "piece" => self.begin(Origin::Given, line),
            "held" => self.begin(Origin::Held, line),
            "fetched" => self.begin(Origin::Fetched, line),
            "warning" => self.last().warnings.push(format!("\"{}\"", line.rest())),
            "info" => self.last().infos.push(format!("\"{}\"", line.rest())),
            "stats" => self.last().stats = format!(r#","stats":{}"#, line.rest()),
            "merge" => return self.merge(),
            _ => {
                let (metric, values) = line.line.rsplit_once(": ").expect("SERIES: VALUES");
                self.last().add(metric, values);
            }
        }
        Vec::new()
    }
}

impl Merge {
    fn begin(&mut self, origin: Origin, line: &mut Words<'_>) {
        let step = *self.step.get_or_insert_with(|| step("10m"));
        let grid = line.grid(step);
        let of = match line.next() {
            Some("of") => line.grid(step),
            None => grid,
            Some(word) => line.unknown(word),
        };
        let (series, warnings, infos, stats) = (Vec::new(), Vec::new(), Vec::new(), String::new());
        self.pieces.push(Draft { origin, grid, of, series, warnings, infos, stats });
    }

    fn last(&mut self) -> &mut Draft {
        self.pieces.last_mut().expect("a piece comes first")
    }

    fn merge(&self) -> Vec<String> {
        let of = |origin| -> Vec<Piece> {
            self.pieces.iter().filter(|draft| draft.origin == origin).map(Draft::finish).collect()
        };
        let given = of(Origin::Given);
        let is_assembled = given.len() < self.pieces.len();
        let pieces = if is_assembled { assemble(of(Origin::Held), of(Origin::Fetched)) } else { given };
        let mut writer = Writer::new(Packing::Plain);
        merge_series(&pieces, |series| writer.series(series));
        let count = writer.series_written();
        let Some(annotations) = merge_annotations(&pieces, None) else {
            return vec!["no answer of its own: the annotations speak of the whole".to_owned()];
        };
        let body = writer.finish(&annotations, merge_stats(&pieces).as_deref());
        let body = String::from_utf8(body).expect("text");
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok(), "{body}");
        check_times(&body, &pieces);
        let mut shown = Vec::new();
        if is_assembled {
            let grids: Vec<String> = pieces.iter().map(|piece| show_grid(&piece.grid)).collect();
            shown.push(format!("pieces {}", grids.join(", ")));
        }
        shown.push(format!("{count} series"));
        let marks = ["{\"metric\"", ",\"stats\":", ",\"warnings\":", ",\"infos\":"];
        let body = marks.iter().fold(body, |body, mark| body.replace(mark, &format!("\n{mark}")));
        shown.extend(body.lines().map(str::to_owned));
        shown
    }
}

/// C4: what was merged can be read again as the answer to the whole, so its times ascend and its series too.
fn check_times(body: &str, pieces: &[Piece]) {
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return };
    let whole = first.grid.hull(&last.grid);
    scan(&Bytes::copy_from_slice(body.as_bytes()), &whole).expect("what is written can be read");
}

impl Draft {
    fn add(&mut self, metric: &str, values: &str) {
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        let values: Vec<&str> = values.split_whitespace().collect();
        assert_eq!(values.len() as u64, self.of.len(), "a value for each instant of {metric}");
        for (t, value) in self.of.instants().zip(values) {
            match value.strip_prefix('h') {
                _ if value == "_" => {}
                Some(count) => histograms.push(histogram(t, count)),
                None => floats.push(format!(r#"[{t},"{value}"]"#)),
            }
        }
        let mut series = format!(r#"{{"metric":{metric}"#);
        for (kind, points) in [("values", floats), ("histograms", histograms)] {
            if !points.is_empty() {
                write!(series, r#","{kind}":[{}]"#, points.join(",")).expect("a String takes every write");
            }
        }
        self.series.push(series + "}");
    }

    fn finish(&self) -> Piece {
        let list = |kind: &str, texts: &[String]| match texts {
            [] => String::new(),
            texts => format!(r#","{kind}":[{}]"#, texts.join(",")),
        };
        let (series, stats) = (self.series.join(","), &self.stats);
        let (warnings, infos) = (list("warnings", &self.warnings), list("infos", &self.infos));
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]{stats}}}{warnings}{infos}}}"#
        );
        let answer = scan(&Bytes::from(body), &self.of).expect("a well-formed answer");
        Piece { grid: self.grid, answer: Arc::new(answer) }
    }
}

fn histogram(t: Timestamp, count: &str) -> String {
    format!(r#"[{t},{{"count":"{count}","sum":"1.50","buckets":[[1,"0.5","1","{count}"]]}}]"#)
}
