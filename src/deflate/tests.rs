//! What is packed is what is unpacked, by us and by another decoder.

use std::fmt::Write as _;
use std::io::Read as _;

use proptest::prelude::*;

use super::unpack::unpack;
use super::{Gzip, Kind, Packer, Points, Run};

/// What a strict decoder makes of one gzip member, which is all there is.
fn inflate(packed: &[u8]) -> Vec<u8> {
    let (mut text, mut rest) = (Vec::new(), packed);
    flate2::bufread::GzDecoder::new(&mut rest).read_to_end(&mut text).expect("a gzip member");
    assert!(rest.is_empty(), "{} bytes follow", rest.len());
    text
}

fn pack_all(texts: &[(Points, Vec<u8>)]) -> (Vec<Run>, Vec<u8>) {
    let mut packer = Packer::default();
    let runs = texts.iter().map(|(points, text)| packer.pack(*points, points.kind(text), text)).collect();
    (runs, packer.finish())
}

/// Any text in which things are repeated.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        3 => prop::sample::select(vec!["[1700000000,\"", "\"],", "0.333333333333", "1", "{\"count\":\"", "9999999", "[,"])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 0_usize..900).prop_map(|(byte, count)| vec![byte; count]),
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

/// Float points of many shapes: steady and ragged times, values that repeat, count, or are anything.
fn floats() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("1".to_owned()),
        (0_u32..3).prop_map(|n| n.to_string()),
        prop::sample::select(vec!["NaN", "+Inf", "-Inf", "-0", "1e+300", "-1.5e-07"]).prop_map(str::to_owned),
        any::<f64>().prop_map(|value| value.to_string()),
        (1_u32..4000).prop_map(|n| (f64::from(n) / 60.0).to_string()),
    ];
    let times =
        (-10_000_000_i64..2_000_000_000_000, prop::sample::select(vec![1, 15, 1000, 15_000, 60_000, 300_000, 7_300]));
    let still = (value.clone(), 1_usize..300).prop_map(|(value, count)| vec![(value, 0); count]);
    let values = prop_oneof![3 => prop::collection::vec((value, 0_i64..4), 0..200), 1 => still];
    (times, values).prop_map(|((start, step), values)| {
        let (mut text, mut t) = (String::new(), start);
        for (value, gap) in values {
            t += step * (1 + gap / 3);
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}[{},\"{value}\"]", written(t)).expect("a string takes every write");
        }
        text.into_bytes()
    })
}

/// As Prometheus writes times.
fn written(ms: i64) -> String {
    match ms % 1000 {
        0 => (ms / 1000).to_string(),
        _ => format!("{}{}.{:03}", if ms < 0 { "-" } else { "" }, ms.abs() / 1000, ms.abs() % 1000),
    }
}

fn points() -> impl Strategy<Value = (Points, Vec<u8>)> {
    prop_oneof![
        4 => floats().prop_map(|text| (Points::Floats, text)),
        1 => any_text().prop_map(|text| (Points::Floats, text)),
        2 => any_text().prop_map(|text| (Points::Histograms, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_is_unpacked(texts in prop::collection::vec(points(), 1..6)) {
        let (runs, bits) = pack_all(&texts);
        for (run, (_, text)) in runs.iter().zip(&texts) {
            let mut unpacked = b"before".to_vec();
            unpack(&bits, run, &mut unpacked);
            prop_assert_eq!(&unpacked[..6], b"before");
            prop_assert!(unpacked[6..] == text[..], "{}", String::from_utf8_lossy(text));
        }
    }

    /// Runs in any order, texts between them, and points that were not packed.
    #[test]
    fn a_member_is_what_was_put_into_it(
        texts in prop::collection::vec(points(), 1..6),
        order in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any_text()), 0..12),
    ) {
        let (runs, bits) = pack_all(&texts);
        let (mut gzip, mut want, mut packed) = (Gzip::default(), Vec::new(), Vec::new());
        for (i, (index, is_packed, between)) in order.iter().enumerate() {
            let at = index.index(texts.len());
            gzip.text(between);
            match is_packed {
                true => gzip.run(&bits, &runs[at]),
                false => gzip.points(texts[at].0, texts[at].0.kind(&texts[at].1), &texts[at].1),
            }
            want.extend_from_slice(between);
            want.extend_from_slice(&texts[at].1);
            if i % 3 == 0 {
                packed.extend(gzip.take());
            }
        }
        packed.extend(gzip.finish());
        prop_assert!(inflate(&packed) == want);
    }
}

#[test]
fn nothing_is_a_member_too() {
    assert_eq!(inflate(&Gzip::default().finish()), b"");
}

/// A long repetition is gone through once: what each match compares is no longer than a match.
#[test]
fn a_long_repetition_is_packed() {
    let text = [br#"[1,{"count":""#.to_vec(), vec![b'0'; 32 << 20], br#""}]"#.to_vec()].concat();
    let (runs, bits) = pack_all(&[(Points::Histograms, text.clone())]);
    let mut unpacked = Vec::new();
    unpack(&bits, &runs[0], &mut unpacked);
    assert!(unpacked == text);
    assert!(bits.len() < text.len() / 50, "{}", bits.len());
}

/// Also the last point of a text tells what it looks like.
#[test]
fn two_points_have_a_kind() {
    for value in ["1", "17", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789"] {
        let text = format!("[1700000000,\"{value}\"],[1700000300,\"{value}\"]");
        assert_eq!(Points::Floats.kind(text.as_bytes()), Kind::Flat, "{text}");
    }
}

/// A dashboard that moves on has a point more than what is packed: by its own code it would cost two blocks a series.
#[test]
fn few_points_are_written_by_the_code_of_those_before() {
    let flat: Vec<String> = (0..100).map(|i| format!("[{},\"1\"]", 1_700_000_000 + 300 * i)).collect();
    let (runs, bits) = pack_all(&[(Points::Floats, flat.join(",").into_bytes())]);
    let member = |tail: &str| {
        let mut gzip = Gzip::default();
        for _ in 0..100 {
            gzip.run(&bits, &runs[0]);
            if !tail.is_empty() {
                gzip.points(Points::Floats, Points::Floats.kind(tail.as_bytes()), tail.as_bytes());
            }
        }
        gzip.finish()
    };
    let (without, with) = (member(""), member(r#",[1700030000,"0.123456789"]"#));
    assert_eq!(inflate(&with).len(), inflate(&without).len() + 2700);
    assert!(with.len() - without.len() < 100 * 40, "{} and {}", with.len(), without.len());
}

/// A hundred series that stand still are hardly more than one, packed or not.
#[test]
fn series_that_stand_still_are_told_by_the_one_before() {
    let flat: Vec<String> = (0..80).map(|i| format!("[{},\"1\"]", 1_700_000_000 + 300 * i)).collect();
    let flat = flat.join(",").into_bytes();
    let (runs, bits) = pack_all(&[(Points::Floats, flat.clone())]);
    for is_packed in [true, false] {
        let member = |count: u32| {
            let mut gzip = Gzip::default();
            for i in 0..count {
                gzip.text(
                    format!(r#"]}},{{"metric":{{"__name__":"up","instance":"host-{i:03}"}},"values":["#).as_bytes(),
                );
                if is_packed {
                    gzip.run(&bits, &runs[0]);
                } else {
                    gzip.points(Points::Floats, Kind::Flat, &flat);
                }
            }
            gzip.finish()
        };
        let (one, hundred) = (member(1), member(100));
        assert!(inflate(&hundred).len() > 99 * flat.len());
        assert!((hundred.len() - one.len()) / 99 < 30, "{} and {}", one.len(), hundred.len());
    }
}

/// Whatever is left of a length after the longest matches.
#[test]
fn points_of_any_length_are_told_by_the_ones_before() {
    for count in 2..300 {
        let flat: Vec<String> = (0..count).map(|i| format!("[{},\"1\"]", 1_700_000_000 + 300 * i)).collect();
        let flat = flat.join(",").into_bytes();
        let (runs, bits) = pack_all(&[(Points::Floats, flat.clone())]);
        let mut gzip = Gzip::default();
        (0..2).for_each(|_| gzip.run(&bits, &runs[0]));
        (0..2).for_each(|_| gzip.points(Points::Floats, Kind::Flat, &flat));
        assert!(inflate(&gzip.finish()) == flat.repeat(4), "{count} points");
    }
}

/// Labels that are like those before are told by what differs.
#[test]
fn what_is_repeated_between_runs_is_not_written_again() {
    let labels = |i: u32| {
        format!(r#"]}},{{"metric":{{"__name__":"node_cpu_seconds_total","cpu":"{i}","mode":"idle"}},"values":["#)
    };
    let points = r#"[1700000000,"1"],[1700000300,"1"]"#;
    let member = |count: u32| {
        let mut gzip = Gzip::default();
        for i in 0..count {
            gzip.text(labels(i).as_bytes());
            gzip.points(Points::Floats, Points::Floats.kind(points.as_bytes()), points.as_bytes());
        }
        gzip.finish()
    };
    let (one, hundred) = (member(1), member(100));
    assert_eq!(inflate(&hundred).len(), (0..100).map(|i| labels(i).len() + points.len()).sum::<usize>());
    assert!((hundred.len() - one.len()) / 99 < 50, "{} and {}", one.len(), hundred.len());
}
