//! Texts that no Prometheus of this machine writes: a server that plays them.
//!
//! Need: what repeats far away, what repeats nowhere, what repeats all the time, and what stands after the points are the corners of a
//! packed answer. Rule: the server is a function of what it is asked for, so that its answer to the whole is what has to come.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::rig::{Coding, Rig, Row, is};
use crate::states::in_every_state;
use crate::support::scripted::{Asked, Scripted, ok};

const START_MS: i64 = 1_707_177_600_000;

/// Words that a server may write as they are, or with any of JSON's escapes.
const WORDS: &[&str] = &[
    "é日本🦀\u{2028}\u{00ff}",
    r"\u00e9\u65e5\u672c\ud83e\udd80\u2028",
    r#"\"\\\/\b\f\n\r\t"#,
    r#"]],[[,{}\\\\\\\"],\"values\":[[1,"#,
    "",
    " ",
    "\u{7f}",
];

/// A number that looks like chance.
fn chance(of: i64, seed: usize) -> u64 {
    xxh3_64_with_seed(&of.to_le_bytes(), seed as u64)
}

/// Text in which nothing repeats.
fn noise(length: usize, seed: usize) -> String {
    (0..length)
        .map(|at| char::from(b'0' + u8::try_from(chance(at.cast_signed() as i64, seed) % 75).expect("small")))
        .collect::<String>()
        .replace('\\', "-")
}

/// The labels of each series of a query, and its value at an instant, if it has one there.
struct Play {
    labels: Vec<String>,
    value: fn(usize, i64) -> Option<String>,
    notes: &'static str,
}

fn play(query: &str) -> Play {
    let play = |labels, value: fn(usize, i64) -> Option<String>| Play { labels, value, notes: "" };
    let numbered = |count: usize| (0..count).map(|number| format!("{number:05}")).collect();
    match query {
        // Nothing of it can be made shorter.
        "noise" => play((0..12).map(|seed| format!("{seed:02}{}", noise(3000, seed))).collect(), |series, t| {
            Some(format!("0.{}{}", chance(t, series), chance(t, series + 100)))
        }),
        // The same again, further away than a window of deflate reaches, and just within it.
        "far" => play(
            [8_000, 32_000, 32_768, 33_000, 70_000]
                .iter()
                .enumerate()
                .map(|(n, &length)| format!("{n}{}", noise(length, 7)))
                .collect(),
            |_, t| Some(t.to_string()),
        ),
        // Nothing else than the same.
        "same" => play(vec!["a".repeat(100_000), "b".to_owned()], |_, _| Some("0".to_owned())),
        "words" => {
            play(WORDS.iter().enumerate().map(|(n, word)| format!("{n}{word}")).collect(), |_, _| Some("1".to_owned()))
        }
        // From one digit to as many as the largest number has when it is written out.
        "long" => play(numbered(5), |series, t| {
            let length = usize::try_from(chance(t, series) % 310).expect("small");
            Some(format!("{}{}", if t % 2 == 0 { "-" } else { "" }, "1797".repeat(length / 4 + 1)))
        }),
        "letters" => play(numbered(4), |series, t| {
            let words = ["NaN", "+Inf", "-Inf", "-0", "1e-324", "1.7976931348623157e+308"];
            Some(words[usize::try_from(chance(t / 5000, series) % 6).expect("small")].to_owned())
        }),
        // Each has a point now and then, and most have none in any one piece.
        "sparse" => {
            play(numbered(300), |series, t| chance(t, series).is_multiple_of(90).then(|| (series % 7).to_string()))
        }
        // More labels and punctuation than points.
        "wide" => play(numbered(2000), |series, t| (t / 1000 % 100 == 0).then(|| series.to_string())),
        "warned" => Play {
            notes: r#","warnings":["PromQL warning: é \"conflicting\" counter resets (1:5)"],"infos":["PromQL info: metric might not be a counter (1:1)"]"#,
            ..play(numbered(3), |_, t| Some((t / 1000).to_string()))
        },
        other => panic!("nobody plays {other}"),
    }
}

fn answer(asked: &Asked) -> Vec<u8> {
    if asked.head.contains("/status/buildinfo") {
        return ok(br#"{"status":"success","data":{"version":"3.9.0"}}"#);
    }
    let ms = |name: &str| {
        let text = asked.param(name).expect("a range query");
        #[expect(clippy::cast_possible_truncation, reason = "times of our own, far below")]
        let ms = (text.parse::<f64>().expect("a number of seconds") * 1000.0).round() as i64;
        ms
    };
    let (start, end, step) = (ms("start"), ms("end"), usize::try_from(ms("step")).expect("positive"));
    let play = play(&asked.param("query").expect("a query"));
    let mut series = Vec::new();
    for (number, label) in play.labels.iter().enumerate() {
        let mut points = String::new();
        for t in (start..=end).step_by(step) {
            let Some(value) = (play.value)(number, t) else { continue };
            let comma = if points.is_empty() { "" } else { "," };
            let fraction = format!(".{:03}", t % 1000);
            let time = format!("{}{}", t / 1000, fraction.trim_end_matches('0').trim_end_matches('.'));
            write!(points, "{comma}[{time},\"{value}\"]").expect("a string can be written to");
        }
        if !points.is_empty() {
            series.push(format!(r#"{{"metric":{{"__name__":"x","l":"{label}"}},"values":[{points}]}}"#));
        }
    }
    let series = series.join(",");
    let body = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}{}}}"#, play.notes);
    // It closes after each answer, and says so.
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_are_hard_to_pack() {
    let server = Scripted::start(|asked| Some(answer(asked))).await;
    let rig = Rig::before(&server.url);
    for (turn, query) in ["noise", "far", "same", "words", "long", "letters", "sparse"].into_iter().enumerate() {
        for (step_ms, off_ms) in [(60_000, 0), (500, 250)] {
            let row = Row { query: query.to_owned(), start_ms: START_MS - 200 * step_ms + off_ms, step_ms };
            in_every_state(&rig, &row, turn).await;
        }
    }
    // What is said about an answer is said about that window alone, after the points.
    let warned = Row { query: "warned".to_owned(), start_ms: START_MS, step_ms: 60_000 };
    for (turn, (first, last)) in [(100, 299), (320, 1100), (1200, 1203)].into_iter().enumerate() {
        rig.same(&warned.params(first, last), "miss", Coding::of(turn)).await;
    }
    // A window around them is made of them too; one that has a part of one in it cannot be.
    for (turn, (first, last, again)) in [(-1500, 1500, "hit"), (150, 400, "miss")].into_iter().enumerate() {
        let params = warned.params(first, last);
        let (want, coding) = (rig.direct(&params).await, Coding::of(turn));
        for status in [None, Some(again)] {
            let got = rig.through(&params, coding).await;
            assert!(status.is_none_or(|status| is(&got, status)), "{first} to {last}: {}", got.result());
            rig.judge(&params, coding, &got, &want.body);
        }
    }
    // Few points in many series.
    let wide = Row { query: "wide".to_owned(), start_ms: START_MS, step_ms: 10_000 };
    for (turn, (first, last, status)) in
        [(0, 99, "miss"), (15, 85, "hit"), (50, 150, "phit"), (-60, 180, "phit")].into_iter().enumerate()
    {
        rig.same(&wide.params(first, last), status, Coding::of(turn)).await;
    }
    rig.finish();
}
