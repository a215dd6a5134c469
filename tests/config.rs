//! The configuration: what is taken, what is refused and in which words, and that the reference is the code's own.
//!
//! `tests/golden/config/valid/<name>.yaml` is taken, and `<name>.snap` beside it is what it changes; those in `invalid/` are
//! refused, and `<name>.snap` is what people are told; those in `lint/` are taken, and somebody should look at them. A file that begins with `# with NAME=value …` is read with these variables.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use promfront::config::{Config, ConfigError, Shown, Source};
use promfront::downstream::endpoints;
use promfront::model::time::Timestamp;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use support::scripted::{Scripted, ok};
use support::{Http, Promfront};

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
        let difference = config.print(Shown::Difference);
        assert_eq!(Config::parse(&difference).expect("it reads back"), config, "{difference}");
        let whole = config.print(Shown::Effective);
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
fn what_somebody_should_look_at() {
    let now = Timestamp::parse("2026-06-01T00:00:00Z").expect("a time");
    golden("tests/golden/config/lint", 4, |file| {
        let name = file.file_name().and_then(|name| name.to_str()).expect("files have plain names");
        let config = read(file).unwrap_or_else(|error| panic!("{error}"));
        let findings = ConfigError::Wrong(config.lint(now));
        let source = Source::open(file).expect("it has been read");
        source.locate(findings).to_string().replace(&file.display().to_string(), name)
    });
}

/// What the program says, on stdout and stderr, and its exit code.
fn check_config(arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_promfront"));
    let program = program.arg("check-config").args(arguments).current_dir(root().join("tests/golden/config"));
    let output = program.env("HOST", "prometheus").env("INTERVAL", "6h").output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is text");
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn check_config_speaks_as_promtool_does() {
    let (out, err, code) = check_config(&["valid/json.yaml", "valid/pull.yaml"]);
    let success = |name: &str| format!("Checking {name}\n  SUCCESS: {name} is valid promfront config\n");
    assert_eq!(out, success("valid/json.yaml") + &success("valid/pull.yaml"));
    assert_eq!((err.as_str(), code), ("", Some(0)));

    let (out, err, code) =
        check_config(&["valid/json.yaml", "invalid/unknown_option.yaml", "lint/tenants.yaml", "--lint"]);
    assert_eq!(out.matches("Checking ").count(), 3);
    assert_eq!(out.matches("SUCCESS").count(), 2);
    let refusal = "  FAILED:\ninvalid/unknown_option.yaml:2:3: split has no option \"intervall\"; did you mean \"interval\"?\n  \
                   2 |   intervall: 1d\n    |   ^^^^^^^^^\n";
    assert!(err.starts_with(refusal), "{err}");
    assert!(err.contains("  LINT:\nlint/tenants.yaml:"), "{err}");
    assert_eq!(code, Some(1), "wrong is worse than worth a look");

    assert_eq!(check_config(&["lint/tenants.yaml", "--lint"]).2, Some(3));
    assert_eq!(check_config(&["lint/tenants.yaml"]).2, Some(0));
    assert_eq!(
        check_config(&["/no/such/file"]),
        (
            "Checking /no/such/file\n".to_owned(),
            "  FAILED:\ncan't read /no/such/file: No such file or directory (os error 2)\n".to_owned(),
            Some(1),
        )
    );
}

#[test]
fn check_config_shows_what_holds() {
    let (out, err, code) = check_config(&["valid/json.yaml", "--show-effective"]);
    let effective = Config::parse(&out).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(effective, read(&root().join("tests/golden/config/valid/json.yaml")).expect("it is sound"));
    assert!(out.contains("max_parallelism: 14") && err.contains("SUCCESS") && code == Some(0), "{out}{err}");
    let (out, ..) = check_config(&["invalid/not_expanded.yaml", "--show-diff", "--config.expand-env"]);
    assert_eq!(out, "split:\n  interval: 6h\n");
    let (_, err, code) = check_config(&["invalid/not_expanded.yaml", "--show-diff"]);
    assert!(err.contains("\"${INTERVAL}\" is not a duration") && code == Some(1), "{err}");
}

/// What the users of options have to say is told with its place too.
#[test]
fn check_config_asks_those_who_use_the_options() {
    for (file, says) in [
        ("servers", "users/servers.yaml:2:3: downstream.urls: \"ftp://x\" must begin with http:// or https://"),
        ("tls", "users/tls.yaml:2:3: downstream.tls: cert_file and key_file belong together"),
        ("redis", "users/redis.yaml:4:5: cache.remote.redis: url"),
        ("memcached", "users/memcached.yaml:4:17: cache.remote.memcached.addresses: "),
        ("nameservers", "users/nameservers.yaml:1:13: discovery.nameservers: \"ns\" is not ip:port"),
    ] {
        let (_, err, code) = check_config(&[&format!("users/{file}.yaml")]);
        assert!(err.contains(says) && code == Some(1), "{file}: {err}");
    }
}

/// The same goes for a start, where the flag overrides the file, and the querier.
#[test]
fn a_start_is_refused_with_the_place() {
    let file = |name: &str| format!("--config.file={}", root().join("tests/golden/config").join(name).display());
    for (arguments, says) in [
        (vec![file("invalid/pull_without_address_beside.yaml")], ".yaml:2:1: sched.grpc_listen_address: queriers have"),
        (vec![file("invalid/unknown_option.yaml")], ".yaml:2:3: split has no option"),
        (vec![file("invalid/not_expanded.yaml"), "--config.expand-env".to_owned()], "the variable INTERVAL is not set"),
        (
            ["querier", "--frontend.address=127.0.0.1:1", "--config.expand-env"]
                .map(str::to_owned)
                .into_iter()
                .chain([file("invalid/not_expanded.yaml")])
                .collect(),
            "the variable INTERVAL is not set",
        ),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_promfront"));
        let output = program.args(&arguments).env_remove("INTERVAL").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
}

/// Two instants of a day that is over.
const MATRIX: &[u8] = br#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1000,"1"],[1060,"2"]]}]}}"#;

/// The Deployment of kube-thanos with the image changed: it answers, and keeps what the flags say it should.
#[tokio::test]
async fn a_query_frontend_of_thanos_is_one_of_promfront() {
    let downstream = Scripted::start(|_| Some(ok(MATRIX))).await;
    let memory = "--query-range.response-cache-config=\"config\":\n  \"max_size\": \"64MB\"\n\"type\": \"in-memory\"";
    let tracing = "--tracing.config=\"type\": \"JAEGER\"";
    let promfront = Promfront::as_thanos(&downstream.url, &["--log.level", "info", memory, tracing]);
    let http = Http::new();
    assert_eq!(http.get(&format!("{}/-/ready", promfront.url)).await.status.as_u16(), 200);
    let query = format!("{}/api/v1/query_range?query=up&start=1000&end=1060&step=60", promfront.url);
    let (first, again) = (http.get(&query).await, http.get(&query).await);
    assert_eq!((&first.body[..], &again.body[..]), (MATRIX, MATRIX));
    assert!(again.header("x-promfront-result").starts_with("status=hit"), "{}", again.header("x-promfront-result"));
    let log = promfront.log();
    let notes = log.iter().filter(|line| line.contains("--tracing.config: no traces are sent")).count();
    assert_eq!(notes, 1, "{log:?}");
}

#[test]
fn a_query_frontend_is_refused_what_promfront_does_not_do() {
    for (flag, says) in [
        (
            "--query-range.align-range-with-step",
            "promfront: --query-range.align-range-with-step: promfront never moves",
        ),
        ("--query-frontend.downstream-url=ftp://x", "downstream.urls: \"ftp://x\" must begin with http://"),
    ] {
        let program = Command::new(env!("CARGO_BIN_EXE_promfront")).args(["query-frontend", flag]).output();
        let output = program.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{flag}: {said}");
    }
    let help =
        Command::new(env!("CARGO_BIN_EXE_promfront")).args(["query-frontend", "--help"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&help.stdout).contains("--[no-]query-range.align-range-with-step"));
}

#[test]
fn the_reference_file_is_printed_from_the_code() {
    let printed = Config::default().print(Shown::Reference);
    let file = fs::read_to_string(root().join("config/promfront.yaml")).expect("it is there");
    assert!(file == printed, "renew it: cargo run -- print-config > config/promfront.yaml");
    assert_eq!(Config::parse(&printed).expect("it is sound"), Config::default());
}

/// What stands in comments in the reference can be used by taking the `# ` away.
#[test]
fn what_the_reference_shows_in_comments_can_be_read() {
    let printed = Config::default().print(Shown::Reference);
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

proptest! {
    /// Whatever a file says, it is taken or refused in words; and what is taken can be printed and read again.
    #[test]
    fn any_text_is_taken_or_refused(
        at in 0.0..1.0_f64,
        cut in 0_usize..40,
        put in "[\\[\\]{}:,#&*!|>'\"%@` \t\n$a0-]{0,6}|\\PC{0,4}",
    ) {
        let text = Config::default().print(Shown::Reference);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "any place")]
        let at = text.floor_char_boundary((at * text.len() as f64) as usize);
        let end = text.floor_char_boundary((at + cut).min(text.len())).max(at);
        let text = format!("{}{put}{}", &text[..at], &text[end..]);
        match Config::parse(&text) {
            Ok(config) => prop_assert_eq!(Config::parse(&config.print(Shown::Effective)).expect("it is sound"), config),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

/// A long line on which all is wrong is refused as fast as any other.
#[test]
fn a_great_many_problems_are_told_in_a_few() {
    let tenants: Vec<_> = (0..40_000).map(|i| format!("t{i}: {{limits: {{weight: x}}}}")).collect();
    let text = format!("tenants: {{{}}}", tenants.join(", "));
    let error = Config::parse(&text).expect_err("all is wrong").to_string();
    assert!(error.ends_with("and 39990 more problems") && error.len() < 10_000, "{}", error.len());
    let error = Config::parse(&"# \n".repeat(2 << 20)).expect_err("it is too long").to_string();
    assert!(error.contains("at most 4MiB"), "{error}");
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
