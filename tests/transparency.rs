//! Split, cache and merge give the server's answer to the whole query, whatever was asked before (invariants *cover*,
//! *transparency*, *harmless cache*, *freshness*).
//!
//! The whole stack of decisions runs here without I/O, as the pipeline runs it: look up, plan, fetch, scan, admit,
//! keep, assemble, merge, write. The server is a function of query, instant and time whose data changes until it is as
//! old as the freshness window. Histories are random: clocks that move and are set back, windows that slide and jump,
//! caches that forget, lose and lag, servers that answer in part. `PROPTEST_CASES` raises the number of histories.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use promfront::cache::extent::{Extent, Lifetimes, Slot};
use promfront::cache::key::{Identity, Slots};
use promfront::cache::plan::{Lookup, admit, assemble, final_instants, look_up, reads as latest_reads};
use promfront::merge::{merge_annotations, merge_series, merge_stats};
use promfront::model::grid::StepGrid;
use promfront::model::params::Params;
use promfront::model::response::{Piece, RangeAnswer};
use promfront::model::tenant::TenantId;
use promfront::model::time::{Timestamp, parse_duration};
use promfront::model::whole::Packing;
use promfront::promql;
use promfront::request::PlannedQuery;
use promfront::split::plan::{SplitPolicy, plan_parts};
use promfront::wire::body::Writer;
use promfront::wire::request::read_range_query;
use promfront::wire::response::scan;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// When the histories begin: a midnight.
const EPOCH_MS: i64 = 20_000 * DAY;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn span(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).expect("a length is not negative"))
}

/// How many histories: 300, unless the environment asks for more.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|digits| digits.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(300), failure_persistence: None, ..ProptestConfig::default() }
}

// The server.

/// A server whose data at `d` exists from `d` on and changes once more at most one freshness window later.
#[derive(Clone, Copy, Debug)]
struct Server {
    now_ms: i64,
    settles_within_ms: i64,
    speech: Speech,
}

/// What a sample's value says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speech {
    /// What the data says.
    Data,
    /// Not all of it, and the server says so by a warning or a header.
    Moment,
    /// When it was asked.
    Stamp,
}

const METRICS: [&str; 6] = [
    r#"{"__name__":"up","job":"a"}"#,
    r#"{"__name__":"up","job":"a\nb,"}"#,
    r#"{"__name__":"up","job":"a b"}"#,
    r#"{"__name__":"up","job":"a\"]},[0,\"1\"]"}"#,
    r#"{"__name__":"up","job":"é\u00ff"}"#,
    r#"{"__name__":"up","zone":"1"}"#,
];

/// What one instant of one series is.
enum Sample {
    Float(String),
    Histogram(String),
}

fn mix(numbers: &[i64]) -> u64 {
    numbers.iter().fold(0x9E37_79B9_7F4A_7C15, |hash, &number| {
        let hash = (hash ^ number.cast_unsigned()).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (hash ^ (hash >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ (hash >> 32)
    })
}

/// Seconds, with three decimals if there is a fraction.
fn seconds(ms: i64) -> String {
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.abs());
    if ms % 1000 == 0 { format!("{sign}{}", ms / 1000) } else { format!("{sign}{}.{:03}", ms / 1000, ms % 1000) }
}

/// The times whose data `text` reads at `t`, by a reading of PromQL that is not the one under test: terms joined by
/// `+`, each with at most one range, one `@` and one offset.
fn reads(text: &str, t: i64, (start, end): (i64, i64)) -> Vec<i64> {
    let after = |term: &'static str, text: &str| -> Option<String> {
        let rest = &text[text.find(term)? + term.len()..];
        Some(rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-.()".contains(*c)).collect())
    };
    let length_ms = |text: &str| {
        let length = parse_duration(text).unwrap_or_else(|| panic!("{text} is a length"));
        i64::try_from(length.as_millis()).expect("a short one")
    };
    let term = |term: &str| {
        let anchor = match after("@ ", term).as_deref() {
            None => t,
            Some(word) if word.starts_with("start()") => start,
            Some(word) if word.starts_with("end()") => end,
            Some(number) => Timestamp::parse(number.trim_end_matches(')')).expect("a time").ms(),
        };
        let offset_ms =
            after("offset ", term).map_or(0, |offset| match offset.trim_end_matches(')').strip_prefix('-') {
                Some(ahead) => -length_ms(ahead),
                None => length_ms(offset.trim_end_matches(')')),
            });
        let range_ms = after("[", term).map_or(0, |range| length_ms(&range));
        let read = anchor - offset_ms;
        if range_ms == 0 { vec![read] } else { vec![read - range_ms, read] }
    };
    text.split(" + ").flat_map(term).collect()
}

impl Server {
    /// The body of its answer to `text` at each instant of `grid`, for a request that ends at `end`.
    fn body(&self, text: &str, grid: &StepGrid, end: Timestamp) -> Bytes {
        let range = (grid.start().ms(), end.ms());
        let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
        let mut is_first = true;
        for (number, metric) in METRICS.iter().enumerate() {
            let (mut floats, mut histograms) = (String::new(), String::new());
            for t in grid.instants() {
                let (list, value) = match self.sample(text, number, t.ms(), range) {
                    None => continue,
                    Some(Sample::Float(value)) => (&mut floats, value),
                    Some(Sample::Histogram(value)) => (&mut histograms, value),
                };
                let comma = if list.is_empty() { "" } else { "," };
                write!(list, "{comma}[{},{value}]", seconds(t.ms())).expect("a String takes every write");
            }
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            body.push_str(if is_first { "" } else { "," });
            is_first = false;
            write!(body, r#"{{"metric":{metric}"#).expect("a String takes every write");
            for (kind, list) in [("values", floats), ("histograms", histograms)] {
                if !list.is_empty() {
                    write!(body, r#","{kind}":[{list}]"#).expect("a String takes every write");
                }
            }
            body.push('}');
        }
        body.push_str("]}");
        self.annotate(&mut body, text, grid);
        body.push('}');
        Bytes::from(body)
    }

    fn sample(&self, text: &str, series: usize, t: i64, range: (i64, i64)) -> Option<Sample> {
        if text.starts_with("nothing") {
            return None;
        }
        let series = i64::try_from(series).expect("a few");
        let (mut facts, mut latest) = (vec![series, t], i64::MIN);
        for read in reads(text, t, range) {
            if read > self.now_ms {
                return None;
            }
            let settled_at = read + (mix(&[read]) % (self.settles_within_ms.unsigned_abs() + 1)).cast_signed();
            facts.extend([read, i64::from(self.now_ms >= settled_at)]);
            latest = latest.max(read);
        }
        if self.speech == Speech::Stamp {
            return (series == 0).then(|| Sample::Float(format!("\"{}\"", self.now_ms)));
        }
        facts.push(i64::from(self.speech == Speech::Moment));
        let value = mix(&facts);
        let block = latest.div_euclid(47 * MINUTE);
        if mix(&[series, block]).is_multiple_of(4) || value.is_multiple_of(13) {
            return None;
        }
        let is_histogram = mix(&[series, block / 3, 1]).is_multiple_of(3);
        Some(if is_histogram { Sample::Histogram(histogram(value)) } else { Sample::Float(float(value)) })
    }

    /// A query called `noisy` has something to say at some instants; a server with a bad moment always has.
    fn annotate(&self, body: &mut String, text: &str, grid: &StepGrid) {
        let mut said: [Vec<String>; 2] = Default::default();
        for t in grid.instants().filter(|_| text.starts_with("noisy")) {
            let block = t.ms().div_euclid(40 * MINUTE);
            let (speaks, kind) = (mix(&[block]).is_multiple_of(3), usize::from(mix(&[block, 2]).is_multiple_of(2)));
            let word = format!(r#""PromQL {}: \"{}\" (1:5)""#, ["warning", "info"][kind], mix(&[block, 3]) % 4);
            if speaks && !said[kind].contains(&word) {
                said[kind].push(word);
            }
        }
        if self.speech == Speech::Moment {
            said[0].push(r#""a store did not answer""#.to_owned());
        }
        for (kind, words) in ["warnings", "infos"].iter().zip(said) {
            if !words.is_empty() {
                write!(body, r#","{kind}":[{}]"#, words.join(",")).expect("a String takes every write");
            }
        }
    }
}

fn float(value: u64) -> String {
    match value % 7 {
        0 => "\"NaN\"".to_owned(),
        1 => "\"-Inf\"".to_owned(),
        2 => format!("\"{}e-07\"", value % 1000),
        3 => format!("\"-0.{value}\""),
        _ => format!("\"{}\"", value % 100_000),
    }
}

fn histogram(value: u64) -> String {
    let (count, sum) = (value % 100, value % 997);
    if count == 0 {
        return r#"{"count":"0","sum":"0"}"#.to_owned();
    }
    format!(r#"{{"count":"{count}","sum":"{sum}.50","buckets":[[1,"-0.5","{sum}","{count}"],[0,"600","1200","1"]]}}"#)
}

// What stands before it.

/// What the operator has set.
#[derive(Clone, Copy, Debug)]
struct Settings {
    policy: SplitPolicy,
    lifetimes: Lifetimes,
    freshness_ms: i64,
}

/// A client's request.
#[derive(Clone, Copy, Debug)]
struct Request {
    text: &'static str,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

/// What goes wrong with the cache: for each slot, by its index, a bit.
#[derive(Clone, Copy, Debug, Default)]
struct Mishaps {
    /// A read finds nothing.
    lost: u8,
    /// A read finds what was there before the last write.
    stale: u8,
    /// A write is dropped.
    dropped: u8,
}

fn strikes(mask: u8, index: i64) -> bool {
    mask & (1 << index.rem_euclid(8)) != 0
}

type Entry = (Arc<[u8]>, i64);

/// The decisions of the pipeline and a cache that forgets, loses and lags.
struct Frontend {
    settings: Settings,
    slots: HashMap<Entry, Slot>,
    before: HashMap<Entry, Slot>,
}

/// What came of a request.
struct Outcome {
    body: Vec<u8>,
    parts: Vec<StepGrid>,
    /// So many instants of it were held.
    held: u64,
    /// Some instants that were held were fetched nevertheless, with those beside them.
    is_gathered: bool,
}

/// A request that was read.
struct Asked {
    planned: PlannedQuery,
    identity: Identity,
    slots: Slots,
}

impl Frontend {
    fn new(settings: Settings) -> Self {
        Self { settings, slots: HashMap::new(), before: HashMap::new() }
    }

    fn read(&self, request: &Request) -> Asked {
        let (start, end, step) = (seconds(request.start_ms), seconds(request.end_ms), seconds(request.step_ms));
        let text = utf8_percent_encode(request.text, NON_ALPHANUMERIC);
        let parameters = format!("query={text}&start={start}&end={end}&step={step}");
        let query = Params::read(Some(&parameters), None).and_then(read_range_query).expect("a range query");
        let facts = promql::read(query.text()).expect("a query that is understood");
        assert_eq!(facts.whole_range(request.step_ms, 0), None, "{} may be cut", request.text);
        let pinned = facts.pin(query.text(), query.grid.start().ms(), query.end.ms()).into_owned();
        let slots = Slots::new(&query.grid, self.settings.policy.interval_ms);
        let scope = ("data", &TenantId::anonymous(), "/api/v1/query_range");
        let identity = Identity::new(scope, &query, &pinned, slots, &[]);
        Asked { planned: PlannedQuery { query, facts: facts.into(), pinned }, identity, slots }
    }

    /// As the pipeline answers it.
    fn answer(&mut self, request: &Request, now: Timestamp, server: &Server, mishaps: Mishaps) -> Outcome {
        let asked = self.read(request);
        let query = &asked.planned.query;
        let lookup = self.look_up(&asked, now, mishaps);
        check_lookup(&lookup, &query.grid);
        let policy = &self.settings.policy;
        let parts = plan_parts(&lookup.missing, asked.planned.facts.widest_range_ms(), policy);
        check_parts(&parts, &lookup.missing, &query.grid, policy);
        let held: u64 = lookup.held.iter().map(|piece| piece.grid.len()).sum();
        let is_gathered = parts.iter().map(StepGrid::len).sum::<u64>() + held > query.grid.len();
        let mut fetched = Vec::new();
        for part in &parts {
            let end = if part.last() == query.grid.last() { query.end } else { part.last() };
            let body = server.body(&asked.planned.pinned, part, end);
            let answer = scan(&body, part).unwrap_or_else(|refused| panic!("{refused}: {}", shown(&body)));
            self.keep(&asked, &answer, now, mishaps);
            fetched.push(Piece { grid: *part, answer: Arc::new(answer) });
        }
        let pieces = assemble(lookup.held, fetched);
        let whole = pieces.iter().map(|piece| piece.grid).reduce(|whole, next| whole.join(&next).expect("no gap"));
        assert_eq!(whole, Some(query.grid), "the pieces cover the grid");
        let annotations = merge_annotations(&pieces, None).expect("none of them counts");
        let [body, packed] = [Packing::Plain, Packing::Gzip].map(|packing| {
            let mut writer = Writer::new(packing);
            merge_series(&pieces, |series| writer.series(series));
            writer.finish(&annotations, merge_stats(&pieces).as_deref())
        });
        assert!(unpacked(&packed) == body, "gzip says the same");
        Outcome { body, parts, held, is_gathered }
    }

    fn look_up(&self, asked: &Asked, now: Timestamp, mishaps: Mishaps) -> Lookup {
        let get = |index| {
            let entry = (Arc::clone(asked.identity.bytes()), index);
            let stored = if strikes(mishaps.stale, index) { self.before.get(&entry) } else { self.slots.get(&entry) };
            stored.filter(|_| !strikes(mishaps.lost, index))
        };
        let slots = asked.slots.of(&asked.planned.query.grid);
        let slots: Vec<_> = slots.into_iter().map(|(index, part)| (part, get(index))).collect();
        look_up(&slots, now, &self.settings.lifetimes)
    }

    /// As the cache's layer keeps it.
    fn keep(&mut self, asked: &Asked, answer: &RangeAnswer, now: Timestamp, mishaps: Mishaps) {
        let finals = self.finals(asked, &answer.grid, now);
        let touched = asked.slots.of(&answer.grid).len();
        let Ok(kept) = admit(answer, finals, false, touched) else { return };
        for (index, part) in asked.slots.of(&kept) {
            // What is kept is a text for a moment, and packed then.
            let kept = if index % 2 == 0 { answer.part(&part) } else { answer.packed_part(&part) };
            let (answer, reads) = (Arc::new(kept), latest_reads(&asked.planned));
            let fresh = Extent { answer, fetched_at: now, reads };
            let entry = (Arc::clone(asked.identity.bytes()), index);
            let held = self.slots.get(&entry).cloned().unwrap_or_default();
            let slot = held.with(fresh, now, &self.settings.lifetimes);
            check_slot(&slot, asked.slots.width_ms() / part.step().ms() + 1);
            if !strikes(mishaps.dropped, index) {
                self.before.insert(entry.clone(), held);
                self.slots.insert(entry, slot);
            }
        }
    }

    fn finals(&self, asked: &Asked, grid: &StepGrid, now: Timestamp) -> Option<StepGrid> {
        final_instants(&asked.planned, grid, now, span(self.settings.freshness_ms))
    }

    /// What of a request is final, missing, and would be asked for once more.
    fn asked_again(&self, request: &Request, now: Timestamp) -> Vec<StepGrid> {
        let asked = self.read(request);
        let missing = self.look_up(&asked, now, Mishaps::default()).missing;
        missing.iter().filter_map(|grid| self.finals(&asked, grid, now)).collect()
    }

    /// How many extents there are, and how many bytes they hold.
    fn size(&self) -> (usize, usize) {
        let slots = || self.slots.values();
        (slots().map(|slot| slot.extents().len()).sum(), slots().map(Slot::weight).sum())
    }
}

/// What is held and what is missing are the grid, each instant once, both in order.
fn check_lookup(lookup: &Lookup, grid: &StepGrid) {
    let mut all: Vec<StepGrid> = lookup.missing.clone();
    all.extend(lookup.held.iter().map(|piece| piece.grid));
    assert!(lookup.held.windows(2).all(|pair| pair[0].grid.last() < pair[1].grid.start()), "held in order");
    assert!(lookup.missing.windows(2).all(|pair| pair[0].join(&pair[1]).is_none()), "neighbours are joined");
    all.sort_by_key(StepGrid::start);
    let whole = all.into_iter().reduce(|whole, next| whole.join(&next).expect("each instant once"));
    assert_eq!(whole, Some(*grid));
    assert!(lookup.held.iter().all(|piece| piece.answer.grid.covers(&piece.grid)));
}

/// Ordered, disjoint, inside of what was asked, all that is missing, few, and not much more than what is missing.
fn check_parts(parts: &[StepGrid], missing: &[StepGrid], grid: &StepGrid, policy: &SplitPolicy) {
    assert!(parts.windows(2).all(|pair| pair[0].last() < pair[1].start()), "{parts:?}");
    assert!(parts.iter().all(|part| grid.covers(part)), "{parts:?} of {grid:?}");
    for hole in missing {
        let found: u64 = parts.iter().filter_map(|part| part.overlap(hole)).map(|common| common.len()).sum();
        assert_eq!(found, hole.len(), "{hole:?} is asked for");
    }
    let gaps: usize = missing.iter().map(|hole| hole.cut(policy.interval_ms).len()).sum();
    assert!(parts.len() <= gaps.min(policy.max_parts), "{} parts for {gaps} gaps", parts.len());
    let count = |grids: &[StepGrid]| grids.iter().map(StepGrid::len).sum::<u64>();
    assert!(parts.len() == policy.max_parts || count(parts) <= 2 * count(missing), "{parts:?} for {missing:?}");
}

/// C5, P21: each instant once, few extents, and no more bytes than so many samples have.
fn check_slot(slot: &Slot, instants: i64) {
    slot.check();
    let extents = slot.extents();
    assert!(extents.len() <= 32, "{} extents", extents.len());
    assert!(extents.windows(2).all(|pair| pair[0].answer.grid.last() < pair[1].answer.grid.start()), "disjoint");
    let held: u64 = extents.iter().map(|extent| extent.answer.grid.len()).sum();
    assert!(held <= instants.unsigned_abs(), "{held} instants in a slot of {instants}");
    let of_extents = extents.len() * (size_of::<Extent>() + size_of::<RangeAnswer>() + METRICS.len() * 80 + 400);
    let most = of_extents + usize::try_from(held).expect("few") * METRICS.len() * 130;
    assert!(slot.weight() <= most, "{} bytes for {held} instants in {} extents", slot.weight(), extents.len());
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).replace("{\"metric\"", "\n{\"metric\"")
}

// Random histories.

const QUERIES: [&str; 14] = [
    "up",
    "up",
    "up offset 5m",
    "up offset -7m",
    "up offset -3h",
    "max_over_time(up[2h])",
    "max_over_time(up[3d])",
    "max_over_time(up[30m:1m] offset -20m)",
    "up @ 1727999000.500",
    "up @ start()",
    "up @ end()",
    "up offset -4m + up @ end() offset -2m",
    "noisy",
    "nothing",
];

/// Steps that divide a day and that don't, up to a week.
const STEPS_MS: [i64; 10] =
    [15 * SECOND, 37 * SECOND, MINUTE, 7 * MINUTE, 50 * MINUTE, 61 * MINUTE, 6 * HOUR, DAY, 26 * HOUR, 7 * DAY];

const INTERVALS_MS: [i64; 4] = [10 * MINUTE, HOUR, 6 * HOUR, DAY];

const PHASES_MS: [i64; 5] = [0, 7 * SECOND, 250, HOUR / 2 + 5 * HOUR, 1];

/// A panel of a dashboard: its windows lie on one lattice.
#[derive(Clone, Copy, Debug)]
struct Panel {
    text: &'static str,
    step_ms: i64,
    phase_ms: i64,
}

/// One request of a history, and what happens before it and to it.
#[derive(Clone, Copy, Debug)]
struct Turn {
    panel: prop::sample::Index,
    /// The window begins so many steps from now, and has so many instants.
    first: i64,
    length: i64,
    /// How far the end lies past the last instant, in thousandths of a step.
    past_end: i64,
    /// It is the request before it once more.
    repeats: bool,
    forward_ms: i64,
    /// The proxy's clock is so much behind.
    behind_ms: i64,
    evicts: Option<i64>,
    mishaps: Mishaps,
    is_moment: bool,
    ttl_ms: Option<i64>,
    /// Another interval is set, the cache being the same (C15).
    interval: Option<i64>,
}

impl Turn {
    /// What the operator and the cache do before the request comes.
    fn prepare(&self, frontend: &mut Frontend) {
        if let Some(ttl_ms) = self.ttl_ms {
            frontend.settings.lifetimes.ttl = span(ttl_ms);
        }
        if let Some(number) = self.interval {
            frontend.settings.policy.interval_ms = INTERVALS_MS[usize::try_from(number).expect("a small number")];
        }
        if let Some(third) = self.evicts {
            frontend.slots.retain(|(_, index), _| index.rem_euclid(3) != third);
        }
    }

    fn request(&self, panels: &[Panel], now_ms: i64, before: Option<Request>) -> Request {
        if let Some(before) = before.filter(|_| self.repeats) {
            return before;
        }
        let Panel { text, step_ms, phase_ms } = *self.panel.get(panels);
        let start_ms = ((now_ms - phase_ms).div_euclid(step_ms) + self.first) * step_ms + phase_ms;
        let past_end_ms = self.past_end * (step_ms - 1) / 1000;
        Request { text, start_ms, end_ms: start_ms + (self.length - 1) * step_ms + past_end_ms, step_ms }
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let interval = prop::sample::select(&INTERVALS_MS[..]);
    let ttl = prop::sample::select(vec![20 * MINUTE, 2 * HOUR, 7 * DAY, 7 * DAY]);
    let window = prop::sample::select(vec![0, 0, 0, 15 * MINUTE, HOUR, DAY]);
    let late_ttl = prop::sample::select(vec![2 * MINUTE, 10 * MINUTE, 3 * HOUR]);
    let freshness = prop::sample::select(vec![0, MINUTE, 10 * MINUTE]);
    let max_parts = prop::sample::select(vec![1_usize, 2, 5, 64]);
    (interval, max_parts, ttl, window, late_ttl, freshness).prop_map(
        |(interval_ms, max_parts, ttl, window, late_ttl, freshness_ms)| Settings {
            policy: SplitPolicy { interval_ms, max_parts },
            lifetimes: Lifetimes {
                ttl: span(ttl),
                out_of_order_window: span(window),
                out_of_order_ttl: span(late_ttl),
            },
            freshness_ms,
        },
    )
}

/// One or two panels; half of the pairs differ in nothing but the phase (C8).
fn panels() -> impl Strategy<Value = Vec<Panel>> {
    let one = || {
        let parts = (prop::sample::select(&QUERIES[..]), prop::sample::select(&STEPS_MS[..]));
        let parts = (parts, prop::sample::select(&PHASES_MS[..]));
        parts.prop_map(|((text, step_ms), phase_ms)| Panel { text, step_ms, phase_ms })
    };
    (one(), one(), 0..4).prop_map(|(panel, other, relation)| match relation {
        0 => vec![panel, other],
        1 => vec![panel, Panel { phase_ms: other.phase_ms, ..panel }],
        _ => vec![panel],
    })
}

fn mishaps() -> impl Strategy<Value = Mishaps> {
    let mask = || prop_oneof![15 => Just(0_u8), 1 => any::<u8>()];
    (mask(), mask(), mask()).prop_map(|(lost, stale, dropped)| Mishaps { lost, stale, dropped })
}

fn turn() -> impl Strategy<Value = Turn> {
    let first = prop_oneof![3 => -12_i64..4, 12 => -70_i64..0, 1 => -400_i64..-100];
    let length = (first, 0_i64..=1000).prop_map(|(first, share)| (first, 1 + (3 - first) * share / 1000));
    let window = (any::<prop::sample::Index>(), length, prop_oneof![Just(0), 0_i64..1000], prop::bool::weighted(0.2));
    let forward = prop_oneof![
        60 => Just(0),
        30 => Just(15 * SECOND),
        20 => 0..3 * MINUTE,
        5 => 0..20 * MINUTE,
        3 => 0..3 * HOUR,
        1 => 0..9 * DAY,
    ];
    let behind = prop_oneof![10 => Just(0), 1 => 0..10 * MINUTE, 1 => 0..5 * HOUR];
    let rare = |ms: std::ops::Range<i64>| prop_oneof![25 => Just(None), 1 => ms.prop_map(Some)];
    let events = (forward, behind, rare(0..3), prop::bool::weighted(0.06), rare(MINUTE..DAY), rare(0..4));
    (window, events, mishaps()).prop_map(
        |(
            (panel, (first, length), past_end, repeats),
            (forward_ms, behind_ms, evicts, is_moment, ttl_ms, interval),
            mishaps,
        )| Turn {
            panel,
            first,
            length,
            past_end,
            repeats,
            forward_ms,
            behind_ms,
            evicts,
            mishaps,
            is_moment,
            ttl_ms,
            interval,
        },
    )
}

/// How often the paths that matter were taken, in instants, answers and pieces.
#[derive(Default)]
struct Tally {
    histories: u64,
    held: u64,
    fetched: u64,
    hits: u64,
    cut_pieces: u64,
    cut_queries: u64,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.held += outcome.held;
        self.fetched += outcome.parts.iter().map(StepGrid::len).sum::<u64>();
        self.hits += u64::from(outcome.parts.is_empty());
        self.cut_pieces += u64::from(outcome.is_gathered);
        self.cut_queries += u64::from(outcome.parts.len() > 1);
    }

    fn add(&mut self, other: &Self) {
        self.histories += 1;
        self.held += other.held;
        self.fetched += other.fetched;
        self.hits += other.hits;
        self.cut_pieces += other.cut_pieces;
        self.cut_queries += other.cut_queries;
    }
}

/// Plays a history and compares each answer with the server's own.
fn play(settings: Settings, panels: &[Panel], turns: &[Turn]) -> Tally {
    let (mut frontend, mut now_ms, mut tally) = (Frontend::new(settings), EPOCH_MS, Tally::default());
    let mut before = None;
    for turn in turns {
        now_ms += turn.forward_ms;
        turn.prepare(&mut frontend);
        let request = turn.request(panels, now_ms, before);
        before = Some(request);
        let sound = Server { now_ms, settles_within_ms: settings.freshness_ms, speech: Speech::Data };
        let speech = if turn.is_moment { Speech::Moment } else { Speech::Data };
        let proxy_now = at(now_ms - turn.behind_ms);
        let outcome = frontend.answer(&request, proxy_now, &Server { speech, ..sound }, turn.mishaps);
        let asked = frontend.read(&request).planned.query;
        let whole = sound.body(request.text, &asked.grid, asked.end);
        // What the server itself got wrong is not held against us, unless it shows up again later.
        if !turn.is_moment || outcome.parts.is_empty() {
            let (ours, theirs) = (shown(&outcome.body), shown(&whole));
            assert!(outcome.body == whole, "{request:?} at {proxy_now}, server at {now_ms}\n{ours}\nnot\n{theirs}");
        }
        let was_kept = !turn.is_moment && turn.mishaps.dropped == 0 && turn.mishaps.stale == 0;
        if was_kept && request.text != "noisy" {
            let again = frontend.asked_again(&request, proxy_now);
            assert!(again.is_empty(), "{request:?} at {proxy_now} asks for {again:?} again");
        }
        tally.count(&outcome);
    }
    tally
}

/// Plays random histories; together they must have taken the paths that they are about.
fn histories(play: impl Fn(Settings, &[Panel], &[Turn]) -> Tally) {
    let total = RefCell::new(Tally::default());
    let history = (settings(), panels(), prop::collection::vec(turn(), 1..30));
    let outcome = TestRunner::new(cases()).run(&history, |(settings, panels, turns)| {
        total.borrow_mut().add(&play(settings, &panels, &turns));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let Tally { histories, held, fetched, hits, cut_pieces, cut_queries } = total.into_inner();
    assert!(held > fetched / 4, "{held} instants were held and {fetched} fetched");
    assert!(hits > histories / 3, "{hits} answers came from the cache alone");
    assert!(cut_pieces > histories / 15, "{cut_pieces} held pieces were fetched over");
    assert!(cut_queries > histories / 3, "{cut_queries} queries were asked for in parts");
}

#[test]
fn every_answer_is_the_servers_answer_to_the_whole() {
    histories(play);
}

/// C63, C64: every sample tells when it was fetched, so each answer shows whether it was final then and is not too old.
#[test]
fn nothing_is_held_too_early_or_too_long() {
    histories(|settings, panels, turns| {
        let (mut frontend, mut now_ms, mut tally) = (Frontend::new(settings), EPOCH_MS, Tally::default());
        let mut before = None;
        for turn in turns {
            now_ms += turn.forward_ms;
            turn.prepare(&mut frontend);
            let request = turn.request(panels, now_ms, before);
            before = Some(request);
            let server = Server { now_ms, settles_within_ms: 0, speech: Speech::Stamp };
            let outcome = frontend.answer(&request, at(now_ms), &server, turn.mishaps);
            check_stamps(&outcome.body, &request, now_ms, &frontend.settings);
            tally.count(&outcome);
        }
        tally
    });
}

/// One gzip member, its checksum and length checked, and nothing after it.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let (mut body, mut rest) = (Vec::new(), packed);
    flate2::bufread::GzDecoder::new(&mut rest).read_to_end(&mut body).expect("it is gzip");
    assert!(rest.is_empty(), "{} bytes follow", rest.len());
    body
}

/// Each sample of an answer: its instant, and when it was fetched.
fn stamps(body: &[u8], request: &Request) -> Vec<(i64, i64)> {
    let (start, end) = (at(request.start_ms), at(request.end_ms));
    let step = promfront::model::time::Step::from_ms(request.step_ms).expect("a step");
    let grid = StepGrid::new(start, step, end).expect("a grid");
    let answer = scan(&Bytes::copy_from_slice(body), &grid).expect("what is written can be read");
    let matrix = answer.matrix.unpacked();
    let Some(series) = matrix.series().first() else { return Vec::new() };
    let points = std::str::from_utf8(matrix.bytes(series.floats)).expect("text");
    let point = |text: &str| {
        let (t, stamp) = text.split_once(",\"").expect("a point");
        let t = Timestamp::parse_sample(t.as_bytes()).expect("a time").ms();
        (t, stamp.trim_end_matches(['"', ']']).parse().expect("a stamp"))
    };
    points.trim_start_matches('[').split(",[").map(point).collect()
}

fn check_stamps(body: &[u8], request: &Request, now_ms: i64, settings: &Settings) {
    let lifetimes = &settings.lifetimes;
    for (t, stamp) in stamps(body, request) {
        let age = at(now_ms).since(at(stamp));
        if age.is_zero() {
            continue;
        }
        let latest = reads(request.text, t, (request.start_ms, request.end_ms)).into_iter().fold(t, i64::max);
        assert!(latest <= stamp - settings.freshness_ms, "{request:?}: {t} was kept at {stamp} before it was final");
        assert!(age < lifetimes.ttl, "{request:?}: {t} of {stamp} is served at {now_ms}");
        let is_late = latest > at(stamp).before(lifetimes.out_of_order_window).ms();
        let is_unsettled = is_late && !lifetimes.out_of_order_window.is_zero();
        assert!(
            !is_unsettled || age < lifetimes.out_of_order_ttl,
            "{request:?}: {t} of {stamp} at {now_ms} is unsettled"
        );
    }
}

// Histories that have happened to others.

fn usual() -> Settings {
    Settings {
        policy: SplitPolicy { interval_ms: DAY, max_parts: 64 },
        lifetimes: Lifetimes {
            ttl: span(7 * DAY),
            out_of_order_window: Duration::ZERO,
            out_of_order_ttl: span(10 * MINUTE),
        },
        freshness_ms: 10 * MINUTE,
    }
}

/// The last hour, on the lattice of its step.
fn last_hour(now_ms: i64, step_ms: i64) -> Request {
    let end_ms = now_ms - now_ms.rem_euclid(step_ms);
    Request { text: "up", start_ms: end_ms - HOUR, end_ms, step_ms }
}

/// C5: the same few instants a thousand times: the first time fills the cache, and nothing grows after it.
#[test]
fn a_tiny_query_asked_a_thousand_times_holds_no_more_than_once() {
    let mut frontend = Frontend::new(usual());
    let request = Request { text: "up", start_ms: EPOCH_MS, end_ms: EPOCH_MS + 5 * MINUTE, step_ms: MINUTE };
    let mut sizes = Vec::new();
    for turn in 0..1000 {
        let now_ms = EPOCH_MS + DAY + turn * 15 * SECOND;
        let server = Server { now_ms, settles_within_ms: 0, speech: Speech::Data };
        // Every third time the read is lost, so that what is held is fetched and kept again.
        let lost = if turn % 3 == 1 { u8::MAX } else { 0 };
        let outcome = frontend.answer(&request, at(now_ms), &server, Mishaps { lost, ..Mishaps::default() });
        assert_eq!(outcome.parts.is_empty(), turn > 0 && lost == 0, "turn {turn}");
        sizes.push((frontend.size(), outcome.body.len()));
    }
    assert_eq!(sizes[0].0.0, 1, "one extent");
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{:?} became {:?}", sizes[0], sizes[999]);
}

/// P21: a window that slides for a day holds that day about once, in few extents, and each refresh asks for what is new
/// or may still change, in one part (two at midnight).
#[test]
fn a_dashboard_that_refreshes_all_day_holds_the_day_once() {
    let mut frontend = Frontend::new(usual());
    let mut most_extents = 0;
    for turn in 0..(22 * 60) {
        let now_ms = EPOCH_MS + 90 * MINUTE + turn * MINUTE;
        let server = Server { now_ms, settles_within_ms: 10 * MINUTE, speech: Speech::Data };
        let outcome = frontend.answer(&last_hour(now_ms, MINUTE), at(now_ms), &server, Mishaps::default());
        most_extents = most_extents.max(frontend.size().0);
        let asked: u64 = outcome.parts.iter().map(StepGrid::len).sum();
        assert!(turn == 0 || (outcome.parts.len() == 1 && asked == 11), "turn {turn} asks for {:?}", outcome.parts);
    }
    let (_, grown) = frontend.size();
    let (start_ms, now_ms) = (EPOCH_MS + 30 * MINUTE, EPOCH_MS + 90 * MINUTE + 22 * HOUR);
    let request = Request { text: "up", start_ms, end_ms: now_ms - 11 * MINUTE, step_ms: MINUTE };
    assert_eq!(frontend.asked_again(&request, at(now_ms)), []);
    let mut at_once = Frontend::new(usual());
    let server = Server { now_ms, settles_within_ms: 10 * MINUTE, speech: Speech::Data };
    at_once.answer(&request, at(now_ms), &server, Mishaps::default());
    let (_, once) = at_once.size();
    assert!(grown < once + once / 5, "{grown} bytes grown, {once} at once");
    assert!(most_extents <= 20, "{most_extents} extents");
}

/// C64: what was wrong when it was fetched dies at its own end of life, though its slot is written every 15 seconds.
#[test]
fn a_poisoned_answer_dies_at_its_own_end_of_life() {
    let ttl_ms = 2 * HOUR;
    let lifetimes = Lifetimes { ttl: span(ttl_ms), ..usual().lifetimes };
    let mut frontend = Frontend::new(Settings { lifetimes, ..usual() });
    let born_ms = EPOCH_MS + 2 * HOUR;
    let (mut oldest_ms, mut from_the_first) = (0, 0);
    for turn in 0..=(3 * HOUR / (15 * SECOND)) {
        let now_ms = born_ms + turn * 15 * SECOND;
        let request = Request { start_ms: EPOCH_MS + HOUR, ..last_hour(now_ms, 15 * SECOND) };
        let server = Server { now_ms, settles_within_ms: 0, speech: Speech::Stamp };
        let outcome = frontend.answer(&request, at(now_ms), &server, Mishaps::default());
        for (_, stamp) in stamps(&outcome.body, &request) {
            oldest_ms = oldest_ms.max(now_ms - stamp);
            from_the_first += i64::from(stamp == born_ms && now_ms == born_ms + ttl_ms - 15 * SECOND);
        }
    }
    assert!(oldest_ms < ttl_ms, "a sample was served {oldest_ms} ms after it was fetched");
    assert_eq!(from_the_first, 50 * 4 + 1, "and the first ones until then");
}

/// Settings with a window in which samples may still come in.
fn with_late_samples() -> Settings {
    let lifetimes = Lifetimes { out_of_order_window: span(HOUR), ..usual().lifetimes };
    Settings { lifetimes, ..usual() }
}

/// Extents are not merged if the younger one would be given an age at which what is in it no longer holds.
#[test]
fn a_merge_does_not_bury_what_was_just_fetched() {
    let mut frontend = Frontend::new(with_late_samples());
    let request = |until_ms| Request { text: "up", start_ms: EPOCH_MS, end_ms: EPOCH_MS + until_ms, step_ms: MINUTE };
    for (now_ms, until_ms) in [(150 * MINUTE, HOUR), (185 * MINUTE, 170 * MINUTE)] {
        let server = Server { now_ms: EPOCH_MS + now_ms, settles_within_ms: 0, speech: Speech::Data };
        frontend.answer(&request(until_ms), at(server.now_ms), &server, Mishaps::default());
        assert_eq!(frontend.asked_again(&request(until_ms), at(server.now_ms)), [], "{now_ms}");
    }
}

/// A sample that comes in late changes what reads it, be it earlier than the sample (a negative offset) or anywhere
/// (`@`).
#[test]
fn late_samples_are_expected_where_a_query_reads() {
    for text in ["up", "up offset -30m", "up @ 1728009000"] {
        let mut frontend = Frontend::new(with_late_samples());
        let request = Request { text, start_ms: EPOCH_MS + HOUR, end_ms: EPOCH_MS + 2 * HOUR, step_ms: MINUTE };
        for now_ms in [180 * MINUTE, 191 * MINUTE] {
            let server = Server { now_ms: EPOCH_MS + now_ms, settles_within_ms: 0, speech: Speech::Stamp };
            let outcome = frontend.answer(&request, at(server.now_ms), &server, Mishaps::default());
            check_stamps(&outcome.body, &request, server.now_ms, &frontend.settings);
        }
    }
}
