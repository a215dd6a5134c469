//! The language of the split cases: which parts are asked for when so much is missing.
//!
//! `missing GRID… step LENGTH [interval LENGTH] [widest LENGTH] [max N]`: each part comes with its instants and, if it
//! asks for more than is missing, with how many of them are held.

use promfront::model::grid::StepGrid;
use promfront::split::plan::{SplitPolicy, plan_parts};

use crate::{Language, Words, grid, length_ms, show_grid, step};

#[derive(Default)]
pub(crate) struct Split;

/// More parts than this are shown by the first and the last few.
const SHOWN_PARTS: usize = 16;

impl Language for Split {
    fn run(&mut self, line: &mut Words<'_>) -> Vec<String> {
        let (mut grids, mut the_step, mut widest_ms) = (Vec::new(), None, 0);
        let mut policy = SplitPolicy { interval_ms: length_ms("1d"), max_parts: 64 };
        assert_eq!(line.word(), "missing", "the only verb");
        while let Some(word) = line.next() {
            match word {
                "step" => the_step = Some(step(line.word())),
                "interval" => policy.interval_ms = line.length_ms(),
                "widest" => widest_ms = line.length_ms(),
                "max" => policy.max_parts = line.word().parse().expect("a number"),
                word if word.contains(':') => grids.push(word),
                word => line.unknown(word),
            }
        }
        let the_step = the_step.expect("a step");
        let missing: Vec<StepGrid> = grids.into_iter().map(|text| grid(text, the_step)).collect();
        show(&missing, &plan_parts(&missing, widest_ms, &policy))
    }
}

fn show(missing: &[StepGrid], parts: &[StepGrid]) -> Vec<String> {
    let wanted_of = |part: &StepGrid| -> u64 {
        missing.iter().filter_map(|hole| hole.overlap(part)).map(|common| common.len()).sum()
    };
    let wanted: u64 = missing.iter().map(StepGrid::len).sum();
    let (asked, found): (u64, u64) = (parts.iter().map(StepGrid::len).sum(), parts.iter().map(wanted_of).sum());
    let mut shown = vec![format!("{} parts, {found} of {wanted} missing, {} held", parts.len(), asked - found)];
    let line = |part: &StepGrid| match part.len() - wanted_of(part) {
        0 => show_grid(part),
        held => format!("{}, {held} of them held", show_grid(part)),
    };
    if parts.len() <= SHOWN_PARTS {
        shown.extend(parts.iter().map(line));
        return shown;
    }
    let (first, last) = (&parts[..3], &parts[parts.len() - 2..]);
    let between = &parts[3..parts.len() - 2];
    let mut lengths: Vec<u64> = between.iter().map(StepGrid::len).collect();
    lengths.sort_unstable();
    shown.extend(first.iter().map(line));
    shown.push(format!("… {} of {} to {} instants", between.len(), lengths[0], lengths[lengths.len() - 1]));
    shown.extend(last.iter().map(line));
    shown
}
