//! What each stage of a range query costs, on one core, on text like a server's.
//!
//! Figures and what they mean: `README.md` beside this file. `make stages` runs it.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use promfront::answer::RangeBody;
use promfront::cache::codec::{VERSION, decode, encode};
use promfront::cache::extent::{Extent, Lifetimes, Reads, Slot};
use promfront::cache::finished::{Finished, FinishedAnswers, Known};
use promfront::cache::page::Page;
use promfront::cache::plan::look_up;
use promfront::metrics::Metrics;
use promfront::model::grid::StepGrid;
use promfront::model::response::{Piece, RangeAnswer};
use promfront::model::time::{Step, Timestamp};
use promfront::model::whole::Packing;
use promfront::promql;
use promfront::split::plan::{SplitPolicy, plan_parts};
use promfront::wire::response::scan;

fn main() {
    divan::main();
}

const MINUTE: i64 = 60_000;
const DAY: i64 = 1440 * MINUTE;

/// A day, or several, at a step of minutes, from some midnight.
fn grid(days: i64, step_minutes: i64) -> StepGrid {
    let start = 19_700 * DAY;
    let step = Step::from_ms(step_minutes * MINUTE).expect("positive");
    StepGrid::new(Timestamp::from_ms(start), step, Timestamp::from_ms(start + days * DAY - 1)).expect("not empty")
}

/// A body such as Prometheus sends: full-precision gauges, counters and flags in turn.
fn body(grid: &StepGrid, series: usize) -> Bytes {
    let mut text = r#"{"status":"success","data":{"resultType":"matrix","result":["#.to_owned();
    for i in 0..series {
        let comma = if i > 0 { "," } else { "" };
        let instance = format!("10.0.{}.{}:9100", i / 250, i % 250);
        write!(text, r#"{comma}{{"metric":{{"__name__":"node_load1","i":"{i:05}","instance":"{instance}","job":"node"}},"values":["#)
            .expect("a string");
        for (k, t) in grid.instants().enumerate() {
            let comma = if k > 0 { "," } else { "" };
            let seed = u32::try_from((k * 7919 + i * 104_729) % 1_000_003).expect("small");
            let value = match i % 3 {
                0 => format!("{}", f64::from(seed).sqrt()),
                1 => format!("{}", k * 15 + i),
                _ => format!("{}", seed % 2),
            };
            write!(text, r#"{comma}[{t},"{value}"]"#).expect("a string");
        }
        text.push_str("]}");
    }
    (text + "]}}").into()
}

fn answer(grid: &StepGrid, series: usize) -> RangeAnswer {
    scan(&body(grid, series), grid).expect("sound")
}

/// Six days at five minutes, as extents of one day: what a panel of a week's dashboard meets in the cache, or as it comes.
fn week(series: usize, is_held: bool) -> Vec<Piece> {
    let of_a_day = |grid: StepGrid| {
        let came = answer(&grid, series);
        Piece { grid, answer: Arc::new(if is_held { came.packed_part(&grid) } else { came }) }
    };
    grid(6, 5).cut(DAY).into_iter().map(of_a_day).collect()
}

#[divan::bench(args = [100, 5000])]
fn scan_a_day(bencher: Bencher<'_, '_>, series: usize) {
    let grid = grid(1, 5);
    let body = body(&grid, series);
    bencher.counter(BytesCount::new(body.len())).bench(|| scan(&body, &grid));
}

#[divan::bench(args = [10, 100, 1600])]
fn merge_and_write_a_week_that_came(bencher: Bencher<'_, '_>, series: usize) {
    write(bencher, week(series, false), Packing::Plain);
}

#[divan::bench(args = [10, 100, 1600])]
fn merge_and_write_a_week(bencher: Bencher<'_, '_>, series: usize) {
    write(bencher, week(series, true), Packing::Plain);
}

#[divan::bench(args = [10, 100, 1600])]
fn merge_and_write_a_week_as_gzip(bencher: Bencher<'_, '_>, series: usize) {
    write(bencher, week(series, true), Packing::Gzip);
}

/// Chunk by chunk, as an answer goes out.
fn write(bencher: Bencher<'_, '_>, pieces: Vec<Piece>, packing: Packing) {
    let body = RangeBody { pieces: pieces.into(), ..RangeBody::empty() };
    let length: usize = body.clone().chunks(Packing::Plain).map(|chunk| chunk.len()).sum();
    bencher
        .counter(BytesCount::new(length))
        .bench(|| body.clone().chunks(packing).map(|chunk| chunk.len()).sum::<usize>());
}

/// What is kept of a day: all of it, and a quarter that is cut out of it.
#[divan::bench(args = [1, 4])]
fn pack_a_share_of_a_day(bencher: Bencher<'_, '_>, share: i64) {
    let (whole, part) = (answer(&grid(1, 1), 100), grid(1, 1).cut(DAY / share)[0]);
    let length = whole.part(&part).matrix.text_bytes();
    bencher.counter(BytesCount::new(length)).bench(|| whole.packed_part(&part));
}

#[divan::bench]
fn unpack_a_day(bencher: Bencher<'_, '_>) {
    let grid = grid(1, 1);
    let packed = answer(&grid, 100).packed_part(&grid).matrix;
    bencher.counter(BytesCount::new(packed.text_bytes())).bench(|| packed.unpacked().into_owned());
}

/// What a hit costs when the very same pieces were sent before.
#[divan::bench(args = [1, 7, 28])]
fn find_an_answer_that_was_sent(bencher: Bencher<'_, '_>, days: i64) {
    let finished = FinishedAnswers::new(1 << 20, &Metrics::new());
    let pieces: Vec<Piece> = grid(days, 5)
        .cut(DAY)
        .into_iter()
        .map(|grid| Piece { grid, answer: Arc::new(answer(&grid, 1).packed_part(&grid)) })
        .collect();
    finished.keep(Packing::Gzip, &pieces, Finished::new(vec![Bytes::from_static(b"sent")], Packing::Gzip));
    bencher.bench(|| match finished.ask(Packing::Gzip, &pieces) {
        Known::Whole(sent) => sent,
        known => panic!("it was kept: {known:?}"),
    });
}

/// A day of one query as it travels to the shared tier. Prints how many bytes a sample takes there.
#[divan::bench(args = [10, 100, 1600])]
#[expect(clippy::cast_precision_loss, reason = "a ratio that is printed")]
fn encode_a_page(bencher: Bencher<'_, '_>, series: usize) {
    let (slot, grid) = (day_slot(series), grid(1, 5));
    let bytes = encode(VERSION, b"identity", PAGE, &slot).expect("not too large");
    println!("{:.1} bytes a sample", bytes.len() as f64 / (grid.len() * series as u64) as f64);
    bencher.counter(BytesCount::new(slot.weight())).bench(|| encode(VERSION, b"identity", PAGE, &slot));
}

#[divan::bench(args = [10, 100, 1600])]
fn decode_a_page(bencher: Bencher<'_, '_>, series: usize) {
    let (slot, grid) = (day_slot(series), grid(1, 5));
    let bytes = encode(VERSION, b"identity", PAGE, &slot).expect("not too large");
    bencher.counter(BytesCount::new(slot.weight())).bench(|| decode(VERSION, &bytes, b"identity", PAGE, &grid));
}

const PAGE: Page = Page { slot: 19_700, section: None };

fn day_slot(series: usize) -> Slot {
    let grid = grid(1, 5);
    let answer = Arc::new(answer(&grid, series).packed_part(&grid));
    let extent = Extent { answer, fetched_at: Timestamp::from_ms(19_710 * DAY), reads: Reads::default() };
    Slot::from_extents(vec![extent], &grid).expect("one extent of the whole day")
}

#[divan::bench]
fn look_a_week_up(bencher: Bencher<'_, '_>) {
    let lifetimes = Lifetimes {
        ttl: std::time::Duration::from_hours(168),
        out_of_order_window: std::time::Duration::ZERO,
        out_of_order_ttl: std::time::Duration::from_mins(10),
    };
    let now = Timestamp::from_ms(19_710 * DAY);
    let slots: Vec<(StepGrid, Slot)> = week(10, true)
        .into_iter()
        .map(|piece| {
            (
                piece.grid,
                Slot::default().with(
                    Extent { answer: piece.answer, fetched_at: now, reads: Reads::default() },
                    now,
                    &lifetimes,
                ),
            )
        })
        .collect();
    let slots: Vec<(StepGrid, Option<&Slot>)> = slots.iter().map(|(grid, slot)| (*grid, Some(slot))).collect();
    bencher.bench(|| look_up(&slots, now, &lifetimes));
}

#[divan::bench]
fn cut_a_year_into_parts(bencher: Bencher<'_, '_>) {
    let missing = [grid(365, 60)];
    let policy = SplitPolicy { interval_ms: DAY, max_parts: 64 };
    bencher.counter(ItemsCount::new(missing[0].len())).bench(|| plan_parts(&missing, 5 * MINUTE, &policy));
}

#[divan::bench(args = ["up", "sum by (code) (rate(http_requests_total{job=\"api\",code=~\"5..\"}[5m]))"])]
fn read_a_query(query: &str) -> bool {
    promql::read(query).is_ok()
}
