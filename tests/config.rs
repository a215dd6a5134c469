//! The configuration: what is taken, what is refused and in which words, and that the reference is the code's own.
//!
//! `tests/golden/config/valid/<name>.yaml` is taken, and `<name>.snap` beside it is what it changes; those in `invalid/` are
//! refused, and `<name>.snap` is what people are told. A file that begins with `# with NAME=value …` is read with these variables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use promfront::config::{Config, ConfigError, Extent, Source};
use promfront::downstream::endpoints;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("it is a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// As the program reads a file.
fn read(file: &Path) -> Result<Config, ConfigError> {
    let mut source = Source::open(file)?;
    let text = fs::read_to_string(file).unwrap_or_default();
    if let Some(with) = text.lines().next().and_then(|line| line.strip_prefix("# with ")) {
        let variables: BTreeMap<_, _> = with.split(' ').filter_map(|one| one.split_once('=')).collect();
        source.expand(&|name| variables.get(name).map(ToString::to_string))?;
    }
    let config = source.read()?;
    config.check().map_err(|error| source.locate(error))?;
    Ok(config)
}

/// Plays all files of a folder. A snapshot without a file would show what nobody checks any more.
fn golden(folder: &str, fewest: usize, shown: impl Fn(&Path) -> String) {
    let cases = files(folder, "yaml");
    assert!(cases.len() >= fewest, "{folder} has {} cases", cases.len());
    for snapshot in files(folder, "snap") {
        assert!(snapshot.with_extension("yaml").exists(), "{} is of no file", snapshot.display());
    }
    for file in cases {
        let name = file.file_stem().and_then(|stem| stem.to_str()).expect("files have plain names");
        insta::with_settings!({
            snapshot_path => root().join(folder), prepend_module_to_snapshot => false, omit_expression => true
        }, {
            insta::assert_snapshot!(name, shown(&file));
        });
    }
}

#[test]
fn what_is_taken() {
    golden("tests/golden/config/valid", 8, |file| {
        let config = read(file).unwrap_or_else(|error| panic!("{error}"));
        let difference = config.print(Extent::Difference);
        assert_eq!(Config::parse(&difference).expect("it reads back"), config, "{difference}");
        let whole = config.print(Extent::Effective);
        assert_eq!(Config::parse(&whole).expect("it reads back"), config, "{whole}");
        difference
    });
}

#[test]
fn what_is_refused() {
    golden("tests/golden/config/invalid", 30, |file| {
        let name = file.file_name().and_then(|name| name.to_str()).expect("files have plain names");
        let error = read(file).expect_err(name).to_string();
        error.replace(&file.display().to_string(), name)
    });
}

#[test]
fn the_reference_file_is_printed_from_the_code() {
    let printed = Config::default().print(Extent::Reference);
    let file = fs::read_to_string(root().join("config/promfront.yaml")).expect("it is there");
    assert!(file == printed, "renew it: cargo run -- print-config > config/promfront.yaml");
    assert_eq!(Config::parse(&printed).expect("it is sound"), Config::default());
}

/// What stands in comments in the reference can be used by taking the `# ` away.
#[test]
fn what_the_reference_shows_in_comments_can_be_read() {
    let printed = Config::default().print(Extent::Reference);
    let is_option = |text: &str| match text.trim_start_matches(['#', ' ']) {
        "-" => true,
        text => text.split_once(": ").map(|(name, _)| name).or(text.strip_suffix(':')).is_some_and(|name| {
            name.trim_matches('"').bytes().all(|byte| byte.is_ascii_lowercase() || b"_<>".contains(&byte))
        }),
    };
    let mut shown: Vec<String> = printed.lines().filter(|line| !line.contains("null")).map(str::to_owned).collect();
    for line in &mut shown {
        while line.trim_start().starts_with("# ") && is_option(line) {
            *line = line.replacen("# ", "", 1);
        }
    }
    // Those that stand for nothing give their place to the example below them.
    shown.retain(|line| !matches!(line.as_str(), "tenants: {}" | "block: []"));
    let shown = shown.join("\n");
    let config = Config::parse(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert!(config.tenants.len() == 1 && config.block.len() == 1 && config.downstream.basic_auth.is_some());
    let remote = config.cache.remote.expect("it is shown");
    assert!(remote.redis.is_some() && remote.memcached.is_some());
}

#[test]
fn the_examples_are_sound() {
    let mut tiers = 0;
    for file in files("config", "yaml") {
        let config = read(&file).unwrap_or_else(|error| panic!("{error}"));
        endpoints::check(&config.downstream).unwrap_or_else(|problem| panic!("{}: {problem:?}", file.display()));
        tiers += usize::from(config.cache.remote.is_some());
    }
    assert_eq!(tiers, 4, "one for each kind of shared tier");
}
