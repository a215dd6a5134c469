//! The house stays as ARCHITECTURE.md draws it: floors, openings, and no word that does not belong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each floor's rooms, lowest first: a file or a folder under `src/`. A file names only lower floors, or its own folder.
const FLOORS: [(&str, &[&str]); 11] = [
    ("bits", &["deflate/"]),
    ("words", &["error.rs", "jitter.rs", "model/", "sched/shuffle.rs"]),
    ("facts", &["config/", "promql/"]),
    ("the request", &["api.rs", "request.rs", "verdict.rs"]),
    ("texts", &["wire/", "merge.rs"]),
    (
        "decisions",
        &[
            "limits/",
            "answer.rs",
            "split/plan.rs",
            "cache/directive.rs",
            "cache/key.rs",
            "cache/extent.rs",
            "cache/plan.rs",
            "cache/page.rs",
            "cache/codec.rs",
            "cache/purge.rs",
            "cache/terms.rs",
            "sched/queue/",
            "sched/health.rs",
            "sched/budget.rs",
        ],
    ),
    ("surroundings", &["metrics/", "tls.rs", "discovery/"]),
    ("the queue at work", &["sched/dispatch/"]),
    (
        "adapters",
        &[
            "downstream/",
            "sched/grpc/",
            "cache/store/",
            "cache/coalesce.rs",
            "cache/finished.rs",
            "cache/packer.rs",
            "cache/texts.rs",
            "cache/purger.rs",
            "cache/remote.rs",
            "cache/behind.rs",
            "cache/shared.rs",
            "cache/layer.rs",
            "cache/whole.rs",
        ],
    ),
    ("dispatch", &["split/layer.rs", "split/part.rs", "split/passing.rs"]),
    ("shell", &["pipeline.rs", "whole.rs", "service.rs", "http/", "querier/", "cli/", "main.rs"]),
];

/// Floors whose files decide: no clock, no I/O, no metrics, nothing async.
const PURE: [&str; 6] = ["bits", "words", "facts", "the request", "texts", "decisions"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(under: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("it is a folder") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(under), extension, &mut found);
    let base = root().join(under);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&base).expect("it lies in it").display().to_string();
            (name, fs::read_to_string(&path).expect("it is text"))
        })
        .collect()
}

/// The floor of a file such as `cache/plan.rs`; `None` for `lib.rs` and the `mod.rs` of a folder with several floors.
fn floor(file: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, rooms)| {
        rooms.iter().any(|room| file == *room || (room.ends_with('/') && file.starts_with(room)))
    })
}

/// The rooms that a text names by `crate::…`: `crate::cache::plan::Lookup` names `cache/plan.rs`.
fn named(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.match_indices("crate::").map(|(at, _)| &line[at + "crate::".len()..]))
        .map(|path| path.chars().take_while(|&c| is_path(c)).collect::<String>())
        .filter_map(|path| {
            let names: Vec<&str> = path.split("::").collect();
            let candidates = [
                names.get(..3).map(|n| format!("{}/{}/{}.rs", n[0], n[1], n[2])),
                names.get(..2).map(|n| format!("{}/{}.rs", n[0], n[1])),
                names.first().map(|n| format!("{n}.rs")),
                names.first().map(|n| format!("{n}/mod.rs")),
            ];
            candidates.into_iter().flatten().find(|file| root().join("src").join(file).exists())
        })
        .collect()
}

#[test]
fn a_file_names_only_lower_floors_or_its_own_folder() {
    let folder = |file: &str| file.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, text) in files("src", "rs") {
        let Some(own) = floor(&file) else {
            assert!(file == "lib.rs" || file.ends_with("/mod.rs"), "{file} stands on no floor");
            continue;
        };
        for other in named(&text) {
            let Some(named) = floor(&other) else { continue };
            seen += 1;
            let is_own_folder = folder(&file).is_some() && folder(&file) == folder(&other) && named <= own;
            if named >= own && !is_own_folder && FLOORS[own].0 != "shell" {
                wrong.push(format!("{file} ({}) names {other} ({})", FLOORS[own].0, FLOORS[named].0));
            }
        }
    }
    assert!(seen > 60, "the rule reads the code: {seen} names");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_decides_is_pure() {
    for (file, text) in files("src", "rs") {
        let Some((name, _)) = floor(&file).map(|floor| FLOORS[floor]) else { continue };
        if !PURE.contains(&name) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for impure in ["async ", "tokio", "Instant::now", "prometheus_client", "std::net", "parking_lot"] {
            assert!(!code.contains(impure), "{file} ({name}) holds {impure:?}");
        }
        let reads_the_clock = code.contains("SystemTime::now") && file != "model/time.rs";
        assert!(!reads_the_clock, "{file} reads the clock");
    }
}

#[test]
fn every_file_opens_with_its_why() {
    for (folder, extension) in [("src", "rs"), ("tests", "rs"), ("benches", "rs")] {
        for (file, text) in files(folder, extension) {
            assert!(text.starts_with("//! "), "{folder}/{file} does not open with what it is for");
        }
    }
}

#[test]
fn the_architecture_shows_these_floors() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 5) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        rows.insert(cells[1].to_owned(), (cells[2].to_owned(), cells[3].to_owned()));
    }
    for (number, (name, rooms)) in FLOORS.iter().enumerate() {
        let (shown_name, shown_rooms) =
            rows.get(&number.to_string()).unwrap_or_else(|| panic!("no row for floor {number}"));
        assert_eq!(shown_name, name);
        for room in *rooms {
            assert!(shown_rooms.contains(&format!("`{room}`")), "floor {number} does not show {room}");
        }
    }
}

#[test]
fn the_tests_that_hold_the_invariants_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("it is there");
    let all: String = files("src", "rs").into_iter().chain(files("tests", "rs")).map(|(_, text)| text).collect();
    let names: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.strip_suffix("()"))
        .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .collect();
    assert!(names.len() >= 10, "the invariants name their tests");
    for name in names {
        assert!(all.contains(&format!("fn {name}(")), "ARCHITECTURE.md names a test that is not there: {name}");
    }
}

#[test]
fn every_room_of_the_table_is_there() {
    for (floor, rooms) in FLOORS {
        for room in rooms {
            assert!(root().join("src").join(room).exists(), "{floor}: {room}");
        }
    }
}
