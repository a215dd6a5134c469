//! A slot that grows is written about twice in all, in whatever steps it grows, and what is asked in other ways is paid for
//! likewise.
//!
//! Bytes are counted where they are given to the store, chunk heads included, and compared with what one write of the whole
//! slot would have taken, fetched at once. `-- --nocapture` shows the table.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use promfront::cache::codec::{VERSION, encode};
use promfront::cache::extent::{Extent, Lifetimes, Reads, Slot};
use promfront::cache::page::Page;
use promfront::model::grid::StepGrid;
use promfront::model::response::{Annotations, RangeAnswer};
use promfront::model::series::{Matrix, SeriesSpans, Span, TextMatrix};

use super::model::{
    Asked, DAY, EPOCH_MS, HOUR, MINUTE, Replica, Request, SECOND, Settings, at, grid, is_thorough, mix, read, runtime,
    span, usual,
};
use super::store::Items;

const FRESHNESS_MS: i64 = 10 * MINUTE;

/// Figures with fewer differ in the second digit after the point.
fn series_count() -> i64 {
    if is_thorough() { 100 } else { 20 }
}

/// An answer of many series, with samples where the data is final: what else comes is not kept, and costs a test time.
fn answer(grid: &StepGrid, now_ms: i64) -> RangeAnswer {
    let (mut text, mut series) = (Vec::new(), Vec::new());
    let last = grid.until(at(now_ms - FRESHNESS_MS));
    for number in 0..series_count() {
        let start = text.len();
        write!(
            text,
            r#"{{"__name__":"http_requests_total","instance":"10.20.0.{number:03}:8080","job":"api","pod":"api-7f9c-{number:05}"}}"#
        )
        .expect("a Vec takes every write");
        let metric = Span::new(&(start..text.len()));
        let start = text.len();
        for t in last.iter().flat_map(StepGrid::instants) {
            let noise = mix(&[number, t.ms()]);
            let comma = if text.len() > start { "," } else { "" };
            match number % 3 {
                0 => write!(text, "{comma}[{t},\"{}\"]", t.ms().cast_unsigned() / 700 + noise % 900),
                1 => write!(text, "{comma}[{t},\"{}.{:03}\"]", noise % 80, noise / 80 % 1000),
                _ => write!(text, "{comma}[{t},\"0.{:016}\"]", noise % 10_000_000_000_000_000),
            }
            .expect("a Vec takes every write");
        }
        let floats = Span::new(&(start..text.len()));
        if floats.is_empty() {
            text.truncate(metric.range().start);
        } else {
            series.push(SeriesSpans { metric, floats, histograms: Span::new(&(0..0)) });
        }
    }
    let matrix = Matrix::Text(TextMatrix::new(Bytes::from(text), series));
    RangeAnswer { grid: *grid, matrix, annotations: Annotations::default(), stats: None }
}

/// A panel that is asked for again and again: all of it in milliseconds.
#[derive(Clone, Copy)]
struct Panel {
    step: i64,
    window: i64,
    refresh: i64,
}

impl Panel {
    fn asked(&self) -> Asked {
        let request = Request { text: "up", start_ms: EPOCH_MS, end_ms: EPOCH_MS + self.step, step_ms: self.step };
        read(&request, &usual())
    }

    /// Its slot that begins at the epoch.
    fn slot(&self) -> (i64, StepGrid) {
        let asked = self.asked();
        let (width_ms, step_ms) = (asked.key.slots.width_ms(), self.step);
        let index = EPOCH_MS.div_euclid(width_ms);
        (index, grid(index * width_ms, step_ms, (index + 1) * width_ms - 1))
    }

    /// What one write of it takes.
    fn once(&self) -> u64 {
        let (index, all) = self.slot();
        let asked = self.asked();
        let whole = Arc::new(answer(&all, i64::MAX / 2));
        let extent = Extent { answer: whole, fetched_at: at(EPOCH_MS), reads: Reads::default() };
        let slot = Slot::from_extents(vec![extent], &all).expect("one extent");
        let page = Page { slot: index, section: None };
        encode(VERSION, asked.key.identity.bytes(), page, &slot).expect("it is not large").len() as u64
    }
}

/// Asks for `window`, fetches what is missing, and keeps it. How many final instants of `slot` were fetched.
async fn ask(
    (replica, items): (&Replica, &Items),
    asked: &mut Asked,
    (window, slot): (StepGrid, &StepGrid),
    now_ms: i64,
) -> u64 {
    (asked.planned.query.grid, asked.planned.query.end) = (window, window.last());
    items.set_clock(now_ms);
    let lookup = replica.cache.look_up(&asked.key, &asked.planned, at(now_ms)).await;
    let (mut has_finals, mut fetched) = (false, 0);
    for missing in lookup.missing.iter().flat_map(|missing| missing.cut(DAY)) {
        let finals = replica.cache.finals(&asked.planned, &missing, at(now_ms));
        has_finals |= finals.is_some();
        fetched += finals.and_then(|finals| finals.overlap(slot)).map_or(0, |finals| finals.len());
        replica.cache.keep(&asked.key, &asked.planned, &Arc::new(answer(&missing, now_ms)), false, at(now_ms));
    }
    if has_finals {
        items.settle().await;
    }
    fetched
}

/// How often a replica wrote a slot, and how often it fetched it, in whole slots.
#[derive(Clone, Copy, Debug)]
struct Times {
    written: f64,
    fetched: f64,
}

/// Refreshes a panel from the beginning of a slot until it has ended and become final.
///
/// At the end a replica that has just started is served all of the slot.
fn grow(panel: Panel, settings: Settings, replicas: usize) -> Vec<Times> {
    let (index, slot) = panel.slot();
    let seen: Vec<(u64, u64)> = runtime().block_on(async {
        let items = Items::new();
        let mut fleet = Vec::new();
        for _ in 0..replicas {
            fleet.push((Replica::start(settings, &items, EPOCH_MS).await, 0));
        }
        let mut asked = panel.asked();
        let (begin_ms, end_ms) = (slot.start().ms(), slot.last().ms() + FRESHNESS_MS + 2 * panel.refresh);
        let mut now_ms = begin_ms;
        while now_ms <= end_ms {
            for ((replica, fetched), number) in fleet.iter_mut().zip(0..) {
                let now_ms = now_ms + number * panel.refresh / 2;
                let last = now_ms - now_ms.rem_euclid(panel.step);
                let window = grid(last - panel.window, panel.step, last);
                *fetched += ask((replica, &items), &mut asked, (window, &slot), now_ms).await;
            }
            now_ms += panel.refresh;
        }
        items.check();
        if settings.lifetimes.ttl > span(slot.last().ms() - begin_ms)
            && settings.lifetimes.out_of_order_window.is_zero()
        {
            let late = Replica::start(settings, &items, now_ms).await;
            assert_eq!(ask((&late, &items), &mut asked, (slot, &slot), now_ms).await, 0, "all of it is shared");
        }
        let written = |replica: &Replica| replica.door.tally().bytes_written.get(&index).copied().unwrap_or(0);
        fleet.iter().map(|(replica, fetched)| (written(replica), *fetched)).collect()
    });
    let once = panel.once();
    let times = |(written, fetched)| Times { written: ratio(written, once), fetched: ratio(fetched, slot.len()) };
    let times: Vec<Times> = seen.into_iter().map(times).collect();
    let Panel { step, window, refresh } = panel;
    println!("{} s, {} h, each {} s: {once} bytes {times:.2?}", step / 1000, window / HOUR, refresh / 1000);
    times
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a day are few")]
fn ratio(written: u64, once: u64) -> f64 {
    written as f64 / once as f64
}

#[test]
fn a_day_of_refreshes_every_ten_seconds_is_written_about_twice() {
    for step_ms in [15 * SECOND, MINUTE, 5 * MINUTE] {
        for window_ms in [6 * HOUR, DAY] {
            if !is_thorough() && (step_ms == 15 * SECOND) == (window_ms == DAY) {
                continue;
            }
            let times = grow(Panel { step: step_ms, window: window_ms, refresh: 10 * SECOND }, usual(), 1);
            assert!((1.0..2.25).contains(&times[0].written), "{times:?}");
        }
    }
}

#[test]
fn a_coarse_step_is_written_about_twice_too() {
    let times = grow(Panel { step: HOUR, window: 7 * DAY, refresh: 10 * MINUTE }, usual(), 1);
    assert!((1.0..2.25).contains(&times[0].written), "{times:?}");
}

/// What expires is fetched again, and is written again as often as it is fetched, not each time that a bit of it is.
#[test]
fn what_expires_is_not_written_more_often_than_it_is_fetched() {
    for (panel, ttl_ms) in [
        (Panel { step: 6 * HOUR, window: 30 * DAY, refresh: HOUR }, 7 * DAY),
        (Panel { step: 5 * MINUTE, window: DAY, refresh: MINUTE }, 5 * HOUR),
    ] {
        let lifetimes = Lifetimes { ttl: span(ttl_ms), ..usual().lifetimes };
        let times = grow(panel, Settings { lifetimes, ..usual() }, 1);
        assert!(times[0].written < 2.0 * times[0].fetched + 2.25, "{times:?}");
    }
}

#[test]
fn how_often_it_is_refreshed_makes_no_difference() {
    for refresh_ms in [MINUTE, 5 * MINUTE] {
        for step_ms in [15 * SECOND, MINUTE, 5 * MINUTE] {
            if !is_thorough() && step_ms == 15 * SECOND {
                continue;
            }
            let times = grow(Panel { step: step_ms, window: 6 * HOUR, refresh: refresh_ms }, usual(), 1);
            assert!((1.0..2.25).contains(&times[0].written), "{times:?}");
        }
    }
}

#[test]
fn two_replicas_write_no_more_than_that_each() {
    for refresh_ms in [10 * SECOND, 5 * MINUTE] {
        let times = grow(Panel { step: MINUTE, window: 6 * HOUR, refresh: refresh_ms }, usual(), 2);
        assert!(times.iter().all(|times| times.written < 2.25), "{times:?}");
    }
}

/// Small windows of a day that has long ended, in any order, until each instant was fetched once: pages double.
#[test]
fn a_past_day_in_small_windows_is_written_about_thrice() {
    for (seed, step_ms) in [(1, MINUTE), (2, MINUTE), (3, 5 * MINUTE)] {
        let panel = Panel { step: step_ms, window: 0, refresh: 0 };
        let (index, slot) = panel.slot();
        let (written, asked_for) = runtime().block_on(async {
            let items = Items::new();
            let mut now_ms = EPOCH_MS + 3 * DAY;
            let replica = Replica::start(usual(), &items, now_ms).await;
            let (mut asked, mut fetched, mut turn) = (panel.asked(), 0, 0);
            while fetched < slot.len() {
                turn += 1;
                now_ms += 20 * SECOND;
                let share = |what, most: u64| (mix(&[seed, turn, what]) % most).cast_signed();
                let first = slot.start().ms() + share(0, slot.len()) * step_ms;
                // Now and then a larger one, or it would take for ever to meet the last hole.
                let length = share(1, slot.len() / if turn % 16 == 0 { 4 } else { 36 });
                let window = grid(first, step_ms, (first + length * step_ms).min(slot.last().ms()));
                fetched += ask((&replica, &items), &mut asked, (window, &slot), now_ms).await;
            }
            let late = Replica::start(usual(), &items, now_ms).await;
            assert_eq!(ask((&late, &items), &mut asked, (slot, &slot), now_ms).await, 0, "all of it is shared");
            items.check();
            (replica.door.tally().bytes_written[&index], turn)
        });
        let times = ratio(written, panel.once());
        println!("{} s, {asked_for} small windows: {times:.2}", step_ms / 1000);
        assert!((1.0..3.5).contains(&times), "{times}");
    }
}

/// A window that is moved over a past week, hour by hour: its slots fill from one side.
#[test]
fn paging_through_a_past_day_is_written_about_thrice() {
    let panel = Panel { step: MINUTE, window: 0, refresh: 0 };
    for (window_ms, pace_ms) in [(HOUR, HOUR), (6 * HOUR, 25 * MINUTE), (20 * MINUTE, 7 * MINUTE)] {
        let (index, slot) = panel.slot();
        let written = runtime().block_on(async {
            let (items, mut now_ms) = (Items::new(), EPOCH_MS + 3 * DAY);
            let replica = Replica::start(usual(), &items, now_ms).await;
            let (mut asked, mut first) = (panel.asked(), slot.start().ms() - 2 * HOUR);
            while first <= slot.last().ms() {
                ask((&replica, &items), &mut asked, (grid(first, MINUTE, first + window_ms), &slot), now_ms).await;
                (first, now_ms) = (first + pace_ms, now_ms + 5 * SECOND);
            }
            replica.door.tally().bytes_written[&index]
        });
        let times = ratio(written, panel.once());
        println!("{} m paged by {} m: {times:.2}", window_ms / MINUTE, pace_ms / MINUTE);
        assert!((1.0..3.25).contains(&times), "{times}");
    }
}
