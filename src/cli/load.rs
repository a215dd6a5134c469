//! From a file to a configuration that can be served.

use std::path::Path;

use crate::cache::store;
use crate::config::{Config, ConfigError, Problem, Source};
use crate::discovery;
use crate::downstream::endpoints;

/// What stands for `${NAME}` in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expansion {
    /// It is a text like any other.
    None,
    /// The variable of the environment.
    Environment,
}

/// Reads the file, if there is one, lets the flag override the servers, and checks all of it.
pub(super) fn load(file: Option<&Path>, expansion: Expansion, urls: &[String]) -> Result<Config, String> {
    let source = file.map(|file| open(file, expansion)).transpose().map_err(|error| error.to_string())?;
    let mut config = match &source {
        Some(source) => source.read().map_err(|error| error.to_string())?,
        None => Config::default(),
    };
    if !urls.is_empty() {
        config.downstream.urls = urls.to_vec();
    }
    match (check(&config), source) {
        (Ok(()), _) => Ok(config),
        (Err(error), Some(source)) => Err(source.locate(error).to_string()),
        (Err(error), None) => Err(error.to_string()),
    }
}

/// Opens a file.
pub(super) fn open(file: &Path, expansion: Expansion) -> Result<Source, ConfigError> {
    let mut source = Source::open(file)?;
    if expansion == Expansion::Environment {
        source.expand(&|name| std::env::var(name).ok())?;
    }
    Ok(source)
}

/// What the options say together, and what those who use them say.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut problems = match config.check() {
        Ok(()) => Vec::new(),
        Err(ConfigError::Wrong(problems)) => problems,
        Err(error @ ConfigError::File { .. }) => return Err(error),
    };
    let of_store = config.cache.remote.as_ref().map_or(Ok(()), store::check);
    for (option, problem) in [endpoints::check(&config.downstream), of_store].into_iter().filter_map(Result::err) {
        // What is missing has been told.
        if problems.iter().all(|known| !known.option().starts_with(option)) {
            problems.push(Problem::of(option, problem));
        }
    }
    if let Err(problem) = discovery::Options::configured(&config.discovery) {
        let problem = problem.strip_prefix("discovery.nameservers: ").map_or(problem.clone(), str::to_owned);
        problems.push(Problem::of("discovery.nameservers", problem));
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Wrong(problems)) }
}
