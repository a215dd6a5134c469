//! Values of a shared tier that are made to take memory take none.
//!
//! A program of its own with one test, for what it measures is the whole process: the peak of resident memory, which is set
//! back before each value.

use std::fs;

use promfront::cache::codec::{Unreadable, VERSION, decode, encode};
use promfront::cache::extent::Slot;
use promfront::cache::page::Page;
use promfront::model::grid::StepGrid;
use promfront::model::time::{Step, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

const IDENTITY: &[u8] = b"a query";
const PAGE: Page = Page { slot: 0, section: None };
const MIB: usize = 1 << 20;

fn grid() -> StepGrid {
    let step = Step::from_ms(1000).expect("a step");
    StepGrid::new(Timestamp::from_ms(0), step, Timestamp::from_ms(999_000)).expect("a grid")
}

/// A page of extents of one instant each: how long the text says to be, and its compressed bytes.
fn page(extents: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = encode(VERSION, IDENTITY, PAGE, &Slot::default()).expect("it is empty");
    *bytes.last_mut().expect("the count of extents") = u8::try_from(extents.len()).expect("few");
    for ((length, packed), instant) in extents.iter().zip(0_i64..) {
        for number in [0, 0, i64::MIN, instant * 1000, instant * 1000] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(packed.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(packed);
    }
    let checksum = xxh3_64(&bytes[12..]);
    bytes[4..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn packed(text: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(text, 19).expect("zstd takes all")
}

/// A sound answer at `instant`, most of it one label.
fn answer(instant: i64, length: usize) -> Vec<u8> {
    let label = "x".repeat(length);
    format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"a":"{label}"}},"values":[[{instant},"1"]]}}]}}}}"#
    )
    .into_bytes()
}

fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).expect("short")
}

/// In KiB.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

#[test]
fn bombs_cost_no_memory() {
    let zeros = |length| packed(&vec![0; length]);
    let (large, sound) = (zeros(200 * MIB), answer(0, 64 * MIB));
    let many: Vec<_> = (0..16).map(|i| answer(i, 15 * MIB)).map(|text| (length(&text), packed(&text))).collect();
    let claims_small = vec![(1000, large.clone())];
    let bombs = [
        ("4 GiB, as it says", page(&[(u32::MAX, vec![0; 100])]), Unreadable::Size),
        ("200 MiB of nothing", page(&[(u32::try_from(200 * MIB).expect("short"), large)]), Unreadable::Size),
        ("a sound answer of 64 MiB", page(&[(length(&sound), packed(&sound))]), Unreadable::Size),
        ("sixteen sound answers of 15 MiB", page(&many), Unreadable::Size),
        ("200 MiB that say to be 1000 bytes", page(&claims_small), Unreadable::Text),
        ("no frame at all", page(&[(u32::try_from(MIB).expect("short"), vec![7; 5000])]), Unreadable::Text),
    ];
    drop((many, sound));
    for (what, bytes, why) in bombs {
        assert!(bytes.len() < MIB, "{what} is small: {}", bytes.len());
        // Five sets the peak back to what is resident now.
        fs::write("/proc/self/clear_refs", "5").expect("it is our own process");
        let before = status("VmRSS:");
        let outcome = decode(VERSION, &bytes, IDENTITY, PAGE, &grid()).map(|slot| slot.extents().len());
        let grown = status("VmHWM:").saturating_sub(before);
        assert_eq!(outcome, Err(why), "{what}");
        assert!(grown < 16 * 1024, "{what} took {grown} KiB");
    }
}
