//! The language of the cache cases: a history of answers that are kept and looked up, each at its own time.
//!
//! Settings: `step`, `interval`, `ttl`, `freshness LENGTH`; `window LENGTH ttl LENGTH` (out-of-order); `query PROMQL`.
//! `keep GRID at TIME [of GRID] [no-store] [empty] [warning TEXT | info TEXT]`: the answer to GRID (a part of the
//! client's `of GRID`) comes in; shown is what is final, what is kept, and then every extent. Each answer's samples
//! have its number as their value, so that `1×60 2×61` says what was replaced.
//! `look GRID at TIME`: what is held, how old, and what is missing.
//! `ask PARAMETERS [header NAME=VALUE] [path PATH]`: under which entry (a letter for each identity) a query is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use promfront::cache::extent::{Extent, Lifetimes, Slot};
use promfront::cache::key::{Identity, Slots};
use promfront::cache::plan::{admit, final_instants, look_up, reads};
use promfront::model::grid::StepGrid;
use promfront::model::params::Params;
use promfront::model::response::RangeAnswer;
use promfront::model::tenant::TenantId;
use promfront::model::time::{Step, Timestamp};
use promfront::promql;
use promfront::request::PlannedQuery;
use promfront::wire::request::read_range_query;
use promfront::wire::response::scan;

use crate::{Language, Words, length_ms, show_grid, show_grids, show_length, show_time, step};

pub(crate) struct Cache {
    step: Step,
    interval_ms: i64,
    lifetimes: Lifetimes,
    freshness: Duration,
    query: String,
    slots: BTreeMap<i64, Slot>,
    answers: usize,
    identities: Vec<Arc<[u8]>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            step: step("1m"),
            interval_ms: length_ms("1d"),
            lifetimes: Lifetimes {
                ttl: span("7d"),
                out_of_order_window: Duration::ZERO,
                out_of_order_ttl: span("10m"),
            },
            freshness: span("10m"),
            query: "up".to_owned(),
            slots: BTreeMap::new(),
            answers: 0,
            identities: Vec::new(),
        }
    }
}

fn span(text: &str) -> Duration {
    promfront::model::time::parse_duration(text).unwrap_or_else(|| panic!("not a length of time: {text}"))
}

impl Language for Cache {
    fn run(&mut self, line: &mut Words<'_>) -> Vec<String> {
        match line.word() {
            "step" => self.step = step(line.word()),
            "interval" => self.interval_ms = line.length_ms(),
            "ttl" => self.lifetimes.ttl = span(line.word()),
            "freshness" => self.freshness = span(line.word()),
            "window" => {
                self.lifetimes.out_of_order_window = span(line.word());
                assert_eq!(line.word(), "ttl", "how long it holds inside the window");
                self.lifetimes.out_of_order_ttl = span(line.word());
            }
            "query" => line.rest().clone_into(&mut self.query),
            "keep" => return self.keep(line),
            "look" => return self.look(line),
            "ask" => return self.ask(line),
            word => line.unknown(word),
        }
        Vec::new()
    }
}

/// An answer as it comes in.
struct Incoming {
    asked: StepGrid,
    now: Timestamp,
    answer: RangeAnswer,
    is_no_store: bool,
}

impl Cache {
    /// As the cache's layer does it.
    fn keep(&mut self, line: &mut Words<'_>) -> Vec<String> {
        let incoming = self.incoming(line);
        let (answer, now) = (&incoming.answer, incoming.now);
        let planned = planned(&self.query, &incoming.asked);
        let finals = final_instants(&planned, &answer.grid, now, self.freshness);
        let slots = Slots::new(&incoming.asked, self.interval_ms);
        let mut shown = vec![format!("final: {}", finals.map_or("nothing".to_owned(), |grid| show_grid(&grid)))];
        match admit(answer, finals, incoming.is_no_store, slots.of(&answer.grid).len()) {
            Err(why) => shown.push(format!("not kept: {}", why.as_str())),
            Ok(kept) => {
                for (index, part) in slots.of(&kept) {
                    let (answer, reads) = (Arc::new(answer.packed_part(&part)), reads(&planned));
                    let fresh = Extent { answer, fetched_at: now, reads };
                    let slot = self.slots.entry(index).or_default();
                    *slot = slot.with(fresh, now, &self.lifetimes);
                    slot.check();
                }
            }
        }
        shown.extend(self.show_extents());
        shown
    }

    fn incoming(&mut self, line: &mut Words<'_>) -> Incoming {
        let (grid, mut asked, mut now) = (line.grid(self.step), None, None);
        let (mut is_no_store, mut is_empty, mut annotations) = (false, false, String::new());
        while let Some(word) = line.next() {
            match word {
                "at" => now = Some(line.time()),
                "of" => asked = Some(line.grid(self.step)),
                "no-store" => is_no_store = true,
                "empty" => is_empty = true,
                "warning" | "info" => annotations = format!(r#","{word}s":["{}"]"#, line.rest()),
                word => line.unknown(word),
            }
        }
        self.answers += 1;
        let points: Vec<String> = grid.instants().map(|t| format!(r#"[{t},"{}"]"#, self.answers)).collect();
        let series = format!(r#"{{"metric":{{}},"values":[{}]}}"#, points.join(","));
        let result = if is_empty { "" } else { &series };
        let body =
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}{annotations}}}"#);
        let answer = scan(&Bytes::from(body), &grid).expect("a well-formed answer");
        Incoming { asked: asked.unwrap_or(grid), now: now.expect("when it came"), answer, is_no_store }
    }

    fn show_extents(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for (index, slot) in &self.slots {
            for extent in slot.extents() {
                let (grid, fetched) = (show_grid(&extent.answer.grid), show_time(extent.fetched_at));
                let of_slot = if *index == 0 { String::new() } else { format!("slot {index}: ") };
                shown.push(format!(
                    "{of_slot}{grid} fetched {fetched}, {}",
                    contents(&extent.answer, &extent.answer.grid)
                ));
            }
        }
        if shown.is_empty() { vec!["empty".to_owned()] } else { shown }
    }

    fn look(&self, line: &mut Words<'_>) -> Vec<String> {
        let grid = line.grid(self.step);
        assert_eq!(line.word(), "at", "when it is looked up");
        let now = line.time();
        let slots = Slots::new(&grid, self.interval_ms).of(&grid);
        let slots: Vec<_> = slots.into_iter().map(|(index, part)| (part, self.slots.get(&index))).collect();
        let lookup = look_up(&slots, now, &self.lifetimes);
        let fetched_at = |answer: &Arc<RangeAnswer>| {
            let mut extents = self.slots.values().flat_map(Slot::extents);
            extents.find(|extent| Arc::ptr_eq(&extent.answer, answer)).expect("a piece is of an extent").fetched_at
        };
        let mut shown = Vec::new();
        for piece in &lookup.held {
            let age_ms = now.ms() - fetched_at(&piece.answer).ms();
            let what = contents(&piece.answer, &piece.grid);
            shown.push(format!("held {}, {} old, {what}", show_grid(&piece.grid), show_length(age_ms)));
        }
        shown.push(format!("missing {}", show_grids(&lookup.missing)));
        let (hit, partial, missed) = (lookup.hit_slots, lookup.partial_slots, lookup.missed_slots);
        shown.push(format!("slots: {hit} hit, {partial} partial, {missed} missed"));
        shown
    }

    fn ask(&mut self, line: &mut Words<'_>) -> Vec<String> {
        let parameters = line.word();
        let (mut headers, mut path) = (Vec::new(), "/api/v1/query_range");
        while let Some(word) = line.next() {
            match word {
                "header" => {
                    let (name, value) = line.word().split_once('=').expect("NAME=VALUE");
                    headers.push((name, value.as_bytes()));
                }
                "path" => path = line.word(),
                word => line.unknown(word),
            }
        }
        let Some(query) = Params::read(Some(parameters), None).and_then(read_range_query) else {
            return vec!["not read: passes whole".to_owned()];
        };
        let grid = query.grid;
        let facts = promql::read(query.text()).expect("a query that is understood");
        let pinned = facts.pin(query.text(), grid.start().ms(), query.end.ms());
        let slots = Slots::new(&grid, self.interval_ms);
        let identity = Identity::new(("data", &TenantId::anonymous(), path), &query, &pinned, slots, &headers);
        let known = self.identities.iter().position(|known| known == identity.bytes());
        let entry = known.unwrap_or(self.identities.len());
        if known.is_none() {
            self.identities.push(Arc::clone(identity.bytes()));
        }
        let letter = char::from(b'A' + u8::try_from(entry).expect("a few entries"));
        let (phase, width) = (show_length(grid.phase_ms()), show_length(slots.width_ms()));
        let touched: Vec<String> =
            slots.of(&grid).iter().map(|(index, part)| format!("{index}: {}", show_grid(part))).collect();
        vec![format!("entry {letter}, phase {phase}, slots of {width}: {}", touched.join(", "))]
    }
}

/// The query as the client asked it.
fn planned(text: &str, asked: &StepGrid) -> PlannedQuery {
    let facts = promql::read(text).expect("a query that is understood");
    let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC);
    let (start, end, step_ms) = (asked.start(), asked.last(), asked.step().ms());
    let parameters = format!("query={encoded}&start={start}&end={end}&step={step_ms}ms");
    let query = Params::read(Some(&parameters), None).and_then(read_range_query).expect("a range query");
    assert_eq!((query.grid, query.text()), (*asked, text));
    let pinned = facts.pin(text, start.ms(), end.ms()).into_owned();
    PlannedQuery { query, facts: facts.into(), pinned }
}

/// Which answers' samples there are in `grid`, and what was said about them.
fn contents(answer: &RangeAnswer, grid: &StepGrid) -> String {
    let part = answer.matrix.packed_part(grid);
    let part = part.unpacked();
    let mut runs: Vec<(String, usize)> = Vec::new();
    for series in part.series() {
        let points = std::str::from_utf8(part.bytes(series.floats)).expect("text");
        for value in points.split('"').skip(1).step_by(2) {
            match runs.last_mut() {
                Some((last, count)) if last == value => *count += 1,
                _ => runs.push((value.to_owned(), 1)),
            }
        }
    }
    let mut shown: Vec<String> = runs.iter().map(|(value, count)| format!("{value}×{count}")).collect();
    if shown.is_empty() {
        shown.push("no series".to_owned());
    }
    shown
        .extend(answer.annotations.warnings.iter().chain(&answer.annotations.infos).map(|text| format!("with {text}")));
    shown.join(" ")
}
