//! `promfront check-config`: whether files are right, in promtool's manner and with its exit codes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::load::{self, Expansion, File};
use crate::config::{Config, ConfigError, Shown, Source};
use crate::model::time::Timestamp;

/// The exit code if there is something to look at, and nothing wrong.
const LINT: u8 = 3;

/// The flags of `promfront check-config`.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Args {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Whether to tell what can be meant and probably is not.
    #[arg(long)]
    lint: bool,
    /// Whether to print all options with their values. What is told about the files goes to stderr then.
    #[arg(long)]
    show_effective: bool,
    /// Whether to print what is not the default.
    #[arg(long, conflicts_with = "show_effective")]
    show_diff: bool,
    /// Whether ${NAME} and ${NAME:-default} in values are variables of the environment; $$ is a dollar then.
    #[arg(long = "config.expand-env")]
    expand_env: bool,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Right,
    Lint,
    Wrong,
}

/// What is printed: for pipes, and for people.
#[derive(Debug, Default)]
struct Told {
    out: String,
    err: String,
}

/// Checks the files.
pub(super) fn run(args: &Args, now: Timestamp) -> ExitCode {
    let mut worst = Verdict::Right;
    for file in &args.files {
        let (verdict, told) = check(args, file, now);
        worst = worst.max(verdict);
        print!("{}", told.out);
        eprint!("{}", told.err);
    }
    match worst {
        Verdict::Right => ExitCode::SUCCESS,
        Verdict::Lint => ExitCode::from(LINT),
        Verdict::Wrong => ExitCode::FAILURE,
    }
}

fn check(args: &Args, file: &Path, now: Timestamp) -> (Verdict, Told) {
    let mut told = Told::default();
    let name = file.display();
    let (mut said, mut verdict) = (format!("Checking {name}\n"), Verdict::Right);
    match read(file, args.expand_env) {
        Err(error) => {
            told.err = format!("  FAILED:\n{error}\n");
            verdict = Verdict::Wrong;
        }
        Ok((source, config)) => {
            writeln!(said, "  SUCCESS: {name} is valid promfront config").expect("a String takes every write");
            let findings = if args.lint { config.lint(now) } else { Vec::new() };
            if !findings.is_empty() {
                told.err = format!("  LINT:\n{}\n", source.locate(ConfigError::Wrong(findings)));
                verdict = Verdict::Lint;
            }
            if args.show_effective {
                told.out = config.print(Shown::Effective);
            } else if args.show_diff {
                told.out = config.print(Shown::Difference);
            }
        }
    }
    if args.show_effective || args.show_diff {
        told.err.insert_str(0, &said);
    } else {
        told.out = said;
    }
    (verdict, told)
}

fn read(file: &Path, expand_env: bool) -> Result<(Source, Config), ConfigError> {
    let expansion = if expand_env { Expansion::Environment } else { Expansion::None };
    let source = File::new(file.to_owned(), expansion).open()?;
    let config = source.read()?;
    load::check(&config).map_err(|error| source.locate(error))?;
    Ok((source, config))
}
