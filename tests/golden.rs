//! Golden files: what limits, split, cache, wire and merge decide, in cases that can be checked by eye.
//!
//! `tests/golden/<topic>/<name>.txt` is a script in the topic's own small language (`language.rs` beside it says which
//! words there are). A paragraph is a case: it starts from nothing, `#` gives its reason, and `C…` is the number of the
//! correctness case that it holds. `<name>.snap` is the same script with what came of each line indented under it.
//! Times are of the days since the epoch: `05:30:07` is of day 0, `d2/05:30` of day 2, `d-1/23:50` of the day before.

#[path = "golden/cache/language.rs"]
mod cache;
#[path = "golden/limits/language.rs"]
mod limits;
#[path = "golden/merge/language.rs"]
mod merge;
#[path = "golden/split/language.rs"]
mod split;
#[path = "golden/wire/language.rs"]
mod wire;

use std::fmt::Write as _;
use std::path::Path;

use promfront::model::grid::StepGrid;
use promfront::model::time::{Step, Timestamp, millis, parse_duration};

/// One topic's language.
trait Language: Default {
    /// Does what a line says; what comes of it is one line each.
    fn run(&mut self, line: &mut Words<'_>) -> Vec<String>;
}

#[test]
fn split() {
    golden::<split::Split>("split");
}

#[test]
fn cache() {
    golden::<cache::Cache>("cache");
}

#[test]
fn limits() {
    golden::<limits::Limits>("limits");
}

#[test]
fn wire() {
    golden::<wire::Wire>("wire");
}

#[test]
fn merge() {
    golden::<merge::Merge>("merge");
}

/// Plays every script of a topic. A snapshot without a script would show what nobody checks any more.
fn golden<L: Language>(topic: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(topic);
    let entries = std::fs::read_dir(&folder).expect("a topic is a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    files.sort();
    let named =
        |extension: &'static str| files.iter().filter(move |file| file.extension().is_some_and(|e| e == extension));
    for snapshot in named("snap") {
        assert!(snapshot.with_extension("txt").exists(), "{} is of no script", snapshot.display());
    }
    assert!(named("txt").count() > 0, "{topic} has no cases");
    for script in named("txt") {
        let name = script.file_stem().and_then(|stem| stem.to_str()).expect("scripts have plain names");
        let shown = play::<L>(&std::fs::read_to_string(script).expect("a script can be read"));
        insta::with_settings!({
            snapshot_path => &folder, prepend_module_to_snapshot => false, omit_expression => true
        }, {
            insta::assert_snapshot!(name, shown);
        });
    }
}

fn play<L: Language>(script: &str) -> String {
    let (mut shown, mut case) = (String::new(), L::default());
    for line in script.lines() {
        writeln!(shown, "{line}").expect("a String takes every write");
        if line.is_empty() {
            case = L::default();
        } else if !line.starts_with('#') {
            for came in case.run(&mut Words::of(line)) {
                writeln!(shown, "    {came}").expect("a String takes every write");
            }
        }
    }
    shown
}

/// The words of a line, taken from the front.
struct Words<'l> {
    line: &'l str,
    rest: &'l str,
}

impl<'l> Words<'l> {
    fn of(line: &'l str) -> Self {
        Self { line, rest: line.trim() }
    }

    fn next(&mut self) -> Option<&'l str> {
        let end = self.rest.find(' ').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        Some(word).filter(|word| !word.is_empty())
    }

    fn word(&mut self) -> &'l str {
        self.next().unwrap_or_else(|| panic!("a word is missing: {}", self.line))
    }

    /// All that is left of the line.
    fn rest(&mut self) -> &'l str {
        std::mem::take(&mut self.rest)
    }

    fn time(&mut self) -> Timestamp {
        time(self.word())
    }

    fn length_ms(&mut self) -> i64 {
        length_ms(self.word())
    }

    fn grid(&mut self, step: Step) -> StepGrid {
        grid(self.word(), step)
    }

    fn unknown(&self, word: &str) -> ! {
        panic!("no such word: {word} in {}", self.line)
    }
}

const DAY_MS: i64 = 86_400_000;

fn time(text: &str) -> Timestamp {
    let (day, clock) = match text.strip_prefix('d').and_then(|dated| dated.split_once('/')) {
        Some((day, clock)) => (day.parse::<i64>().expect("a day has a number"), clock),
        None => (0, text),
    };
    let mut fields = clock.split(':');
    let mut field = || fields.next().unwrap_or("0");
    let (hours, minutes, seconds) = (field(), field(), field());
    let whole = |digits: &str| digits.parse::<i64>().unwrap_or_else(|_| panic!("not a time: {text}"));
    let seconds_ms = Timestamp::parse_sample(seconds.as_bytes()).unwrap_or_else(|| panic!("not a time: {text}")).ms();
    Timestamp::from_ms(day * DAY_MS + whole(hours) * 3_600_000 + whole(minutes) * 60_000 + seconds_ms)
}

fn show_time(t: Timestamp) -> String {
    let (day, ms) = (t.ms().div_euclid(DAY_MS), t.ms().rem_euclid(DAY_MS));
    let mut shown = if day == 0 { String::new() } else { format!("d{day}/") };
    write!(shown, "{:02}:{:02}", ms / 3_600_000, ms / 60_000 % 60).expect("a String takes every write");
    let seconds_ms = ms % 60_000;
    match (seconds_ms / 1000, seconds_ms % 1000) {
        (0, 0) => {}
        (seconds, 0) => write!(shown, ":{seconds:02}").expect("a String takes every write"),
        (seconds, ms) => write!(shown, ":{seconds:02}.{ms:03}").expect("a String takes every write"),
    }
    shown
}

fn length_ms(text: &str) -> i64 {
    millis(parse_duration(text).unwrap_or_else(|| panic!("not a length of time: {text}")))
}

fn show_length(length_ms: i64) -> String {
    Step::from_ms(length_ms).map_or_else(|| "0s".to_owned(), |length| length.to_string())
}

fn step(text: &str) -> Step {
    Step::parse(text).unwrap_or_else(|| panic!("not a step: {text}"))
}

/// `from..until`, or one time alone.
fn grid(text: &str, step: Step) -> StepGrid {
    let (from, until) = text.split_once("..").unwrap_or((text, text));
    StepGrid::new(time(from), step, time(until)).unwrap_or_else(|| panic!("not a grid: {text}"))
}

/// From where to where, and how many instants.
fn show_grid(grid: &StepGrid) -> String {
    match grid.len() {
        1 => format!("{} (1)", show_time(grid.start())),
        more => format!("{}..{} ({more})", show_time(grid.start()), show_time(grid.last())),
    }
}

fn show_grids(grids: &[StepGrid]) -> String {
    if grids.is_empty() { "nothing".to_owned() } else { grids.iter().map(show_grid).collect::<Vec<_>>().join(", ") }
}
