//! The reading of queries: the golden file of facts, and the properties that hold for every text.

use std::fmt::Write as _;

use promfront::promql::{Facts, Kind, Opaque, read};
use proptest::prelude::*;

const QUERIES: &str = include_str!("golden/promql/queries.txt");

fn queries() -> impl Iterator<Item = String> {
    QUERIES.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).map(|line| line.replace('⏎', "\n"))
}

/// The golden file: what is read off each query of `golden/promql/queries.txt`.
#[test]
fn facts() {
    let mut shown = String::new();
    for line in QUERIES.lines() {
        writeln!(shown, "{line}").expect("a String takes every write");
        if !line.is_empty() && !line.starts_with("# ") {
            show(&mut shown, &line.replace('⏎', "\n"));
        }
    }
    insta::with_settings!({ snapshot_path => "golden/promql", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("facts", shown);
    });
}

/// One line for what was read, and one for the text if it is pinned.
fn show(out: &mut String, query: &str) {
    const START_MS: i64 = 1_543_578_564_705;
    const END_MS: i64 = 1_543_600_000_000;
    let facts = match read(query) {
        Ok(facts) => facts,
        Err(opaque) => return writeln!(out, "    opaque: {opaque}").expect("a String takes every write"),
    };
    let widest = length(facts.widest_range_ms());
    write!(out, "    reach {}, widest {widest}", reach(&facts)).expect("a String takes every write");
    // At a step of a minute, and of a week if that makes a difference.
    let reasons = [60_000, 7 * 86_400_000].map(|step_ms| facts.whole_range(step_ms, 0));
    match reasons {
        [Some(reason), _] => write!(out, ", whole: {}", reason.as_str()),
        [None, Some(reason)] => write!(out, ", whole at a coarse step: {}", reason.as_str()),
        [None, None] => Ok(()),
    }
    .expect("a String takes every write");
    // What is said of most is left out.
    if facts.kind() != Kind::Vector {
        write!(out, ", a {}", facts.kind().as_str()).expect("a String takes every write");
    }
    if !facts.reads_series() {
        out.push_str(", reads no series");
    }
    let pinned = facts.pin(query, START_MS, END_MS);
    if pinned != query {
        write!(out, "\n    pinned {}", pinned.replace('\n', "⏎")).expect("a String takes every write");
    }
    out.push('\n');
}

/// The reach in terms of the instant, fixed times, and the edges of the range, found by asking from far apart.
fn reach(facts: &Facts) -> String {
    const FAR_MS: i64 = 1_000_000_000_000_000;
    let mut parts = Vec::new();
    let from_instant = facts.latest_read_ms(FAR_MS, -FAR_MS, -FAR_MS) - FAR_MS;
    parts.push(past("t", from_instant));
    let fixed_ms = facts.latest_read_ms(-FAR_MS, -FAR_MS, -FAR_MS);
    if fixed_ms > -FAR_MS / 2 {
        parts.push(format!("{}s", seconds(fixed_ms)));
    }
    let from_start = facts.latest_read_ms(-FAR_MS, FAR_MS, -FAR_MS) - FAR_MS;
    if from_start > -FAR_MS / 2 {
        parts.push(past("start", from_start));
    }
    let from_end = facts.latest_read_ms(-FAR_MS, -FAR_MS, FAR_MS) - FAR_MS;
    if from_end > -FAR_MS / 2 {
        parts.push(past("end", from_end));
    }
    parts.join(" ")
}

fn past(anchor: &str, ahead_ms: i64) -> String {
    match ahead_ms {
        0 => anchor.to_owned(),
        1.. => format!("{anchor}+{}", length(ahead_ms)),
        _ => format!("{anchor}-{}", length(-ahead_ms)),
    }
}

fn seconds(time_ms: i64) -> String {
    let sign = if time_ms < 0 { "-" } else { "" };
    let (whole, part) = (time_ms.abs() / 1000, time_ms.abs() % 1000);
    if part == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part:03}") }
}

fn length(mut length_ms: i64) -> String {
    let mut shown = String::new();
    for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if length_ms >= unit_ms {
            write!(shown, "{}{unit}", length_ms / unit_ms).expect("a String takes every write");
            length_ms %= unit_ms;
        }
    }
    if shown.is_empty() { "0".to_owned() } else { shown }
}

/// The stack of a worker thread is 2 MiB, and a debug build spends it fastest.
#[test]
fn the_worst_admitted_queries_fit_a_worker_stack() {
    let nested = |open: &str, inner: &str, close: &str| {
        let depth = 198;
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let chain = |term: &str| format!("a{}", term.repeat(999));
    let deep_chain = |open: &str, close: &str| nested(open, &format!("{}a", "-".repeat(999)), close);
    let bombs = [
        nested("(", "a", ")"),
        nested("sum(", "a", ")"),
        nested("abs(", "a", ")"),
        nested("max_over_time(", "a", "[1m:])"),
        nested("topk(1,", "a", ")"),
        nested("max_of(1,", "1", ")"),
        nested("label_replace(", "a", ",\"a\",\"b\",\"c\",\"d\")"),
        chain("+a"),
        chain("^a"),
        chain(" or a"),
        chain(" and on (x) a"),
        chain(" == bool a"),
        chain(" > on (x) group_left (y) a"),
        format!("{}a", "-".repeat(1000)),
        format!("a{}", "[1m:]".repeat(1000)),
        format!("a{}", " offset 1m".repeat(1000)),
        format!("a{}", " @ 1".repeat(1000)),
        deep_chain("(", ")"),
        deep_chain("sum(", ")"),
        deep_chain("topk(1,", ")"),
        deep_chain("abs(", ")"),
        nested("(", &chain("^a"), ")"),
        nested("a^(", &format!("{}a", "a^".repeat(799)), ")"),
        format!("sum by ({}a) (x)", "a,".repeat(32_000)),
        format!("x{{{}}}", "a=\"b\",".repeat(10_000)),
        format!("label_join(x,{}\"a\")", "\"a\",".repeat(16_000)),
        format!("{{{}}}", "a=~\"\\\\pL{50}\",".repeat(100)),
        format!("x[{}1m]", "(".repeat(198)),
        format!("x offset {}1m{}", "(".repeat(198), ")".repeat(198)),
        "(".repeat(65_536),
        " ".repeat(65_536),
        "#".repeat(65_536),
        "1e300+".repeat(1000) + "1",
        format!("x{{a=\"{}\"}}", "\\\\".repeat(32_000)),
        format!("f({}x)", "1e300,".repeat(10_000)),
    ];
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for bomb in &bombs {
            assert_ne!(read(bomb).err(), Some(Opaque::ParserPanicked), "{}", bomb.chars().take(40).collect::<String>());
        }
    });
    worker.expect("a thread can be started").join().expect("no bomb goes off");
}

#[rustfmt::skip]
const FRAGMENTS: [&str; 75] = [
    "a", "up", "sum", "rate", "topk", "label_replace", "max_over_time", "predict_linear", "offset", "smoothed",
    "anchored", "and", "or", "unless", "atan2", "by", "without", "on", "ignoring", "group_left", "group_right",
    "bool", "fill", "start", "end", "step", "range", "min_of", "time", "inf", "NaN", "(", ")", "[", "]", "{", "}",
    "()", ",", ":", "=", "==", "!=", "=~", "!~", "<", "<=", "</", ">/", ">", "+", "-", "*", "/", "%", "^", "@",
    "@ start()", "@ end()", "1", "0", "0x1f", "0755", "1_000", "1e3", ".5", "5m", "1h30m", "\"s\"", "'\\''", "`\\`",
    "# c\n", "__name__", "\n", "é",
];

fn soup() -> impl Strategy<Value = String> {
    let fragment = prop::sample::select(&FRAGMENTS[..]);
    (prop::collection::vec(fragment, 0..40), any::<bool>())
        .prop_map(|(fragments, is_spaced)| fragments.join(if is_spaced { " " } else { "" }))
}

/// A query of the golden file with a few fragments put in, taken out or doubled.
fn mutant() -> impl Strategy<Value = String> {
    let queries: Vec<String> = queries().collect();
    let cut = (any::<prop::sample::Index>(), 0_usize..4, prop::sample::select(&FRAGMENTS[..]));
    (prop::sample::select(queries), prop::collection::vec(cut, 0..4)).prop_map(|(mut query, cuts)| {
        for (at, removed, fragment) in cuts {
            let letters: Vec<char> = query.chars().collect();
            let at = at.index(letters.len() + 1);
            let before = letters[..at].iter();
            query = before.chain(letters.iter().skip(at + removed)).collect();
            let byte = query.char_indices().nth(at).map_or(query.len(), |(byte, _)| byte);
            query.insert_str(byte, fragment);
        }
        query
    })
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    for letter in ["x", "(", "\"", " ", "é"] {
        assert_eq!(read(&letter.repeat(10 << 20)).err(), Some(Opaque::TooLong));
    }
}

/// Never a panic; a pinned text has the facts of the text it was pinned from, and nothing left to pin.
fn holds(query: &str, start_ms: i64, end_ms: i64) -> Result<(), TestCaseError> {
    let facts = match read(query) {
        Ok(facts) => facts,
        Err(opaque) => {
            prop_assert_ne!(opaque, Opaque::ParserPanicked, "{}", query);
            return Ok(());
        }
    };
    let pinned = facts.pin(query, start_ms, end_ms);
    let pinned_facts = read(&pinned).map_err(|opaque| TestCaseError::fail(format!("{opaque}: {query} -> {pinned}")))?;
    prop_assert_eq!(pinned_facts.widest_range_ms(), facts.widest_range_ms(), "{}", query);
    prop_assert_eq!(pinned_facts.whole_range(60_000, 0), facts.whole_range(60_000, 0), "{}", query);
    for t_ms in [start_ms, start_ms / 2 + end_ms / 2, end_ms] {
        let latest_ms = facts.latest_read_ms(t_ms, start_ms, end_ms);
        prop_assert!(latest_ms >= t_ms, "{}", query);
        // The pinned text is asked for another range, as a piece of the query would be.
        prop_assert_eq!(pinned_facts.latest_read_ms(t_ms, t_ms, t_ms), latest_ms, "{}", query);
    }
    let again = pinned_facts.pin(&pinned, 1, 2);
    prop_assert!(matches!(again, std::borrow::Cow::Borrowed(_)), "{}", query);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn soups_hold(query in soup(), start_ms in -10_000_000_i64..10_000_000, length_ms in 0_i64..100_000_000) {
        holds(&query, start_ms, start_ms + length_ms)?;
    }

    #[test]
    fn mutants_hold(query in mutant(), start_ms in -10_000_000_i64..10_000_000, length_ms in 0_i64..100_000_000) {
        holds(&query, start_ms, start_ms + length_ms)?;
    }

    #[test]
    fn any_text_holds(query in any::<String>()) {
        holds(&query, 0, 1)?;
    }
}
