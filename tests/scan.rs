//! The scanner beside a plain one, on sound bodies, on bodies that something happened to, and on any bytes.
//!
//! The scanner of `wire/response.rs` looks at eight and sixteen bytes at a time where they are what was expected. The one here
//! reads a token after the other with regular expressions and knows no short cut: what it takes and what it refuses, and
//! for which reason, is the rule.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use promfront::model::grid::StepGrid;
use promfront::model::response::{Annotations, RangeAnswer};
use promfront::model::series::{SeriesSpans, Span, compare_metrics, compare_strings, labels};
use promfront::model::time::{Step, Timestamp};
use promfront::wire::response::{Foreign, Reading, Refused, scan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use regex::Regex;
use serde::de::IgnoredAny;

const STRING: &str = r#""(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*""#;
const VALUE: &str = r#""[-0-9+.eENaInf]+""#;

/// The tokens, each at the beginning of what is left.
struct Tokens {
    string: Regex,
    metric: Regex,
    time: Regex,
    value: Regex,
    histogram: Regex,
}

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let token = |pattern: &str| Regex::new(&format!("^(?:{pattern})")).expect("a pattern of this file");
    let label = format!("{STRING}:{STRING}");
    let bucket = format!(r"\[(?:0|[1-3][0-9]{{0,14}})(?:\.[0-9]{{1,3}})?,{VALUE},{VALUE},{VALUE}\]");
    Tokens {
        string: token(STRING),
        metric: token(&format!(r"\{{(?:{label}(?:,{label})*)?\}}")),
        time: token(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,3})?"),
        value: token(VALUE),
        histogram: token(&format!(
            r#"\{{"count":{VALUE},"sum":{VALUE}(?:,"buckets":\[(?:{bucket}(?:,{bucket})*)?\])?\}}"#
        )),
    }
});

/// What a body holds: the same for both scanners.
type Held = (Vec<SeriesSpans>, Annotations, Option<Box<str>>);

/// The plain scanner's place in a text.
struct Plain<'t> {
    text: &'t str,
    at: usize,
    grid: StepGrid,
}

impl<'t> Plain<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn has(&mut self, literal: &str) -> bool {
        let has = self.rest().starts_with(literal);
        self.at += if has { literal.len() } else { 0 };
        has
    }

    fn literal(&mut self, literal: &str) -> Result<(), Foreign> {
        if self.has(literal) { Ok(()) } else { Err(Foreign::Shape) }
    }

    fn token(&mut self, token: &Regex) -> Result<Range<usize>, Foreign> {
        let length = token.find(self.rest()).ok_or(Foreign::Shape)?.len();
        self.at += length;
        Ok(self.at - length..self.at)
    }

    fn body(mut self) -> Result<Held, Foreign> {
        self.literal(r#"{"status":"#)?;
        if !self.has(r#""success""#) {
            return Err(if self.has("\"") { Foreign::Type } else { Foreign::Shape });
        }
        if self.has(r#","isPartial":true"#) {
            return Err(Foreign::Partial);
        }
        self.literal(r#","data":{"resultType":"#)?;
        if !self.has(r#""matrix""#) {
            return Err(Foreign::Type);
        }
        self.literal(r#","result":["#)?;
        let mut series = Vec::new();
        while !self.has("]") {
            if !series.is_empty() {
                self.literal(",")?;
            }
            let one = self.series(series.last())?;
            series.push(one);
        }
        let stats = if self.has(r#","stats":"#) { Some(self.stats()?) } else { None };
        self.literal("}")?;
        let mut annotations = Annotations::default();
        if self.has(r#","warnings":["#) {
            annotations.warnings = self.strings()?;
        }
        if self.has(r#","infos":["#) {
            annotations.infos = self.strings()?;
        }
        self.literal("}")?;
        if self.rest().is_empty() { Ok((series, annotations, stats)) } else { Err(Foreign::Shape) }
    }

    fn stats(&mut self) -> Result<Box<str>, Foreign> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<IgnoredAny>();
        let is_object = matches!(values.next(), Some(Ok(_))) && self.rest().starts_with('{');
        let stats = &self.rest()[..values.byte_offset()];
        self.at += stats.len();
        if is_object { Ok(stats.into()) } else { Err(Foreign::Shape) }
    }

    fn strings(&mut self) -> Result<Vec<Box<str>>, Foreign> {
        let mut strings = Vec::new();
        loop {
            let string = self.token(&TOKENS.string)?;
            strings.push(self.text[string].into());
            if self.has("]") {
                return Ok(strings);
            }
            self.literal(",")?;
        }
    }

    fn series(&mut self, before: Option<&SeriesSpans>) -> Result<SeriesSpans, Foreign> {
        let bytes = self.text.as_bytes();
        self.literal(r#"{"metric":"#)?;
        let metric = self.token(&TOKENS.metric)?;
        let names: Vec<&[u8]> = labels(&bytes[metric.clone()]).map(|(name, _)| name).collect();
        if !names.is_sorted_by(|a, b| compare_strings(a, b).is_lt()) {
            return Err(Foreign::Labels);
        }
        match before.map(|before| compare_metrics(&bytes[before.metric.range()], &bytes[metric.clone()])) {
            None | Some(Ordering::Less) => {}
            Some(Ordering::Equal) => return Err(Foreign::Duplicate),
            Some(Ordering::Greater) => return Err(Foreign::Unsorted),
        }
        let floats = self.points(r#","values":["#, &TOKENS.value)?;
        let histograms = self.points(r#","histograms":["#, &TOKENS.histogram)?;
        self.literal("}")?;
        if floats.is_empty() && histograms.is_empty() {
            return Err(Foreign::Shape);
        }
        Ok(SeriesSpans { metric: Span::new(&metric), floats: Span::new(&floats), histograms: Span::new(&histograms) })
    }

    fn points(&mut self, opening: &str, value: &Regex) -> Result<Range<usize>, Foreign> {
        if !self.has(opening) {
            return Ok(0..0);
        }
        let (start, mut previous) = (self.at, None);
        loop {
            self.literal("[")?;
            let time = self.token(&TOKENS.time)?;
            let time = Timestamp::parse_sample(self.text[time].as_bytes()).expect("the token is a time");
            self.literal(",")?;
            if previous.is_some_and(|previous| time <= previous) {
                return Err(Foreign::Unordered);
            }
            if !self.grid.contains(time) {
                return Err(Foreign::OffGrid);
            }
            previous = Some(time);
            self.token(value)?;
            self.literal("]")?;
            if self.has("]") {
                return Ok(start..self.at - 1);
            }
            self.literal(",")?;
        }
    }
}

/// What the plain scanner says; no reason if the body is broken.
fn plain(body: &[u8], grid: StepGrid) -> Result<Held, Option<Foreign>> {
    let is_whole = || serde_json::from_str::<IgnoredAny>(&String::from_utf8_lossy(body)).is_ok();
    let held = match std::str::from_utf8(body) {
        Ok(text) => Plain { text, at: 0, grid }.body(),
        Err(_) => Err(Foreign::Shape),
    };
    held.map_err(|why| is_whole().then_some(why))
}

/// What the scanner says, which is the same for what comes in pieces.
fn scanned(body: &[u8], grid: StepGrid) -> Result<Held, Option<Foreign>> {
    let body = Bytes::copy_from_slice(body);
    let held = |answer: RangeAnswer| (answer.matrix.unpacked().series().to_vec(), answer.annotations, answer.stats);
    let whole = scan(&body, &grid).map(held);
    for size in [1, 13, 100, body.len() / 2 + 1] {
        let mut reading = Reading::new(&grid);
        (0..body.len()).step_by(size).for_each(|end| reading.advance(&body[..end]));
        assert_eq!(reading.finish(&body).map(held), whole, "in pieces of {size} bytes");
    }
    whole.map_err(|refused| match refused {
        Refused::Foreign(why) => Some(why),
        Refused::Broken { at, length } => {
            assert!(at <= length && length == body.len(), "byte {at} of {length}");
            None
        }
    })
}

const LABELS: [&str; 9] =
    ["", "a", "1234567", "12345678", "10.0.0.1:9100", "é", "データベース", r"\\\u00e9\n", r#"1234567\"/"#];
const VALUES: [&str; 15] = [
    "0",
    "1",
    "42",
    "-1.5",
    "NaN",
    "+Inf",
    "-Inf",
    "3e-05",
    "1234567",
    "12345678",
    "-12345678",
    "1.7976931348623157e+308",
    "1234567.8",
    "0.30000000000000004",
    "1234567890123456",
];
const HISTOGRAMS: [&str; 3] = [
    r#"{"count":"0","sum":"0"}"#,
    r#"{"count":"3","sum":"7.5","buckets":[[0,"1","2","1"],[3,"-0.5","0.5","2"]]}"#,
    r#"{"count":"1","sum":"-8","buckets":[[1,"-8.5","-8","1"]]}"#,
];

/// Times with and without a fraction, and those where a digit more begins; steps likewise.
fn grid() -> impl Strategy<Value = StepGrid> {
    const STARTS: [i64; 8] = [
        -30_000,
        0,
        999_999_990_000,
        1_700_000_000_000,
        1_700_000_000_500,
        1_699_999_999_123,
        9_999_999_900_000,
        999_980_000_000_000_000,
    ];
    const STEPS: [i64; 9] = [1, 500, 1000, 7000, 15_000, 60_000, 300_000, 86_400_000, 1_000_000_000_000];
    (select(&STARTS[..]), select(&STEPS[..]), 1..12_i64).prop_map(|(start, step, points)| {
        let (start, end) = (Timestamp::from_ms(start), Timestamp::from_ms(start + step * (points - 1)));
        StepGrid::new(start, Step::from_ms(step).expect("positive"), end).expect("it ends after it begins")
    })
}

/// The points of one series: a value at each instant, of which some are left out.
fn points(grid: &StepGrid, picks: &[(usize, bool)], values: &[&str], quote: &str) -> String {
    let picks = picks.iter().cycle().enumerate();
    let chosen = grid.instants().zip(picks).filter(|(_, (i, (_, is_there)))| *i == 0 || *is_there);
    chosen
        .map(|(t, (_, (i, _)))| format!("[{t},{quote}{}{quote}]", values[i % values.len()]))
        .collect::<Vec<_>>()
        .join(",")
}

/// A body that a server might send, and the grid that it was asked for.
fn sound() -> impl Strategy<Value = (StepGrid, Bytes)> {
    let label = || select(&LABELS[..]);
    let picks = || vec((any::<usize>(), prop::bool::weighted(0.8)), 1..8);
    let series = vec((label(), label(), picks(), select(&["floats", "histograms", "both"][..])), 0..4);
    let annotations = vec(select(&["", r#","warnings":["PromQL warning: é","b\n"]"#, r#","infos":["x"]"#][..]), 0..2);
    let stats = select(&["", "", r#","stats":{"timings":{"é":[1.5,null]}}"#][..]);
    (grid(), series, stats, annotations).prop_map(|(grid, series, stats, mut annotations)| {
        let series = series.iter().enumerate().map(|(i, (first, second, picks, kind))| {
            let floats = format!(r#","values":[{}]"#, points(&grid, picks, &VALUES, "\""));
            let histograms = format!(r#","histograms":[{}]"#, points(&grid, picks, &HISTOGRAMS, ""));
            let points = match *kind {
                "floats" => floats,
                "histograms" => histograms,
                _ => floats + &histograms,
            };
            format!(r#"{{"metric":{{"__name__":"{i}{first}","job":"{second}"}}{points}}}"#)
        });
        let series = series.collect::<Vec<_>>().join(",");
        // Warnings come first, and each list once.
        annotations.sort_unstable_by(|a, b| b.cmp(a));
        annotations.dedup();
        let annotations = annotations.concat();
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]{stats}}}{annotations}}}"#
        );
        (grid, Bytes::from(body))
    })
}

/// What happens to a body on its way.
#[derive(Clone, Debug)]
enum Change {
    Set(u8),
    Flip(u32),
    Insert(u8),
    Remove(usize),
    /// A stretch again, behind itself.
    Repeat(usize),
    /// The first series twice.
    Series,
    /// The next digit becomes another.
    Digit(u8),
    End,
}

fn change() -> impl Strategy<Value = Change> {
    let byte = || prop_oneof![select(&b"0123456789+-.eENaInf\",[]{}: \\\n\xC3\xA9"[..]), any::<u8>()];
    prop_oneof![
        byte().prop_map(Change::Set),
        (0..8_u32).prop_map(Change::Flip),
        byte().prop_map(Change::Insert),
        (1..40_usize).prop_map(Change::Remove),
        (1..40_usize).prop_map(Change::Repeat),
        (b'0'..=b'9').prop_map(Change::Digit),
        Just(Change::Series),
        Just(Change::End),
    ]
}

fn apply(body: &mut Vec<u8>, place: Index, change: &Change) {
    if body.is_empty() {
        return;
    }
    let at = place.index(body.len());
    let until = |length: &usize| (at + length).min(body.len());
    match change {
        Change::Set(byte) => body[at] = *byte,
        Change::Flip(bit) => body[at] ^= 1 << bit,
        Change::Insert(byte) => body.insert(at, *byte),
        Change::Remove(length) => drop(body.drain(at..until(length))),
        Change::Repeat(length) => {
            let stretch = body[at..until(length)].to_vec();
            body.splice(at..at, stretch);
        }
        Change::Series => {
            let found = memchr::memmem::find_iter(body, r#"{"metric""#).take(2).collect::<Vec<_>>();
            if let [first, second] = found[..] {
                let stretch = body[first..second].to_vec();
                body.splice(first..first, stretch);
            }
        }
        Change::Digit(digit) => {
            if let Some(found) = body[at..].iter().position(u8::is_ascii_digit) {
                body[at + found] = *digit;
            }
        }
        Change::End => body.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sound_is_taken_as_it_is((grid, body) in sound()) {
        let held = scanned(&body, grid);
        prop_assert!(held.is_ok(), "{:?}: {}", held, String::from_utf8_lossy(&body));
        prop_assert_eq!(held, plain(&body, grid));
    }

    #[test]
    fn what_something_happened_to_is_judged_as_a_plain_scanner_judges_it(
        (grid, sound) in sound(),
        changes in vec(vec((any::<Index>(), change()), 1..3), 12),
        fewer in 0..3_i64,
    ) {
        // A server may also answer past the end.
        let end = grid.last().ms() - fewer * grid.step().ms();
        let grid = grid.until(Timestamp::from_ms(end)).unwrap_or(grid);
        prop_assert_eq!(scanned(&sound, grid), plain(&sound, grid));
        for changes in changes {
            let mut body = sound.to_vec();
            for (place, change) in &changes {
                apply(&mut body, *place, change);
            }
            prop_assert_eq!(scanned(&body, grid), plain(&body, grid), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn any_bytes_are_judged(grid in grid(), (_, sound) in sound(), place in any::<Index>(), bytes in vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(scanned(&bytes, grid), plain(&bytes, grid));
        let begun = [&sound[..place.index(sound.len())], &bytes].concat();
        prop_assert_eq!(scanned(&begun, grid), plain(&begun, grid));
    }
}

#[test]
fn changes_lead_to_every_verdict() {
    let mut runner = TestRunner::deterministic();
    let strategy = (sound(), vec((any::<Index>(), change()), 1..3));
    let mut met = BTreeSet::new();
    for _ in 0..20_000 {
        let ((grid, sound), changes) = strategy.new_tree(&mut runner).expect("nothing is rejected").current();
        let mut body = sound.to_vec();
        for (place, change) in &changes {
            apply(&mut body, *place, change);
        }
        met.insert(match scanned(&body, grid) {
            Ok(_) => "taken",
            Err(None) => "broken",
            Err(Some(why)) => why.as_str(),
        });
    }
    let wanted = [
        "broken",
        "foreign-duplicate",
        "foreign-grid",
        "foreign-label-order",
        "foreign-series-order",
        "foreign-shape",
        "foreign-time-order",
        "foreign-type",
        "taken",
    ];
    for verdict in wanted {
        assert!(met.contains(verdict), "{verdict} is not among {met:?}");
    }
}
