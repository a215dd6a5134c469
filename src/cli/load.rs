//! From a file to a configuration that can be served.

use std::io;
use std::path::PathBuf;

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_128;

use crate::cache::store;
use crate::config::{Config, ConfigError, Problem, Source, content};
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

/// The file of a configuration, and what was in it when it was last read.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    expansion: Expansion,
    /// A hash of its content; none if it could not be read, or was not read yet.
    last_read: Mutex<Option<u128>>,
}

impl File {
    /// One that was not read yet.
    pub(super) fn new(path: PathBuf, expansion: Expansion) -> Self {
        Self { path, expansion, last_read: Mutex::new(None) }
    }

    /// Reads it.
    pub(super) fn open(&self) -> Result<Source, ConfigError> {
        let content = content(&self.path);
        *self.last_read.lock() = hash(&content);
        let mut source = Source::from_file(&self.path, content)?;
        if self.expansion == Expansion::Environment {
            source.expand(&|name| std::env::var(name).ok())?;
        }
        Ok(source)
    }

    /// Whether its content is another than the one last read.
    ///
    /// The content is compared, not the time of the file: a mounted `ConfigMap` changes by a link that points elsewhere.
    pub(super) fn has_changed(&self) -> bool {
        hash(&content(&self.path)) != *self.last_read.lock()
    }
}

fn hash(content: &io::Result<Vec<u8>>) -> Option<u128> {
    content.as_deref().ok().map(xxh3_128)
}

/// Reads the file, if there is one, lets the flag override the servers, and checks all of it.
pub(super) fn load(file: Option<&File>, urls: &[String]) -> Result<Config, String> {
    let source = file.map(File::open).transpose().map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is read counts, not what a look saw before: else a wrong file that came in between is told twice.
    #[test]
    fn a_file_has_changed_until_it_is_read() {
        let path = std::env::temp_dir().join(format!("promfront-load-{}.yaml", std::process::id()));
        let file = File::new(path.clone(), Expansion::None);
        assert!(!file.has_changed(), "there was none, and there is none");
        let wrong = "limits: {max_query_bites: 2}\n";
        for text in ["limits: {}\n", wrong, "limits: {}\n", "limits: {}  # said again\n", "", "\0"] {
            fs::write(&path, "sched: {}\n").expect("a file");
            assert!(file.has_changed() && file.has_changed(), "a look reads nothing");
            fs::write(&path, text).expect("a file");
            assert_eq!(load(Some(&file), &[]).is_ok(), ![wrong, "\0"].contains(&text), "{text:?}");
            assert!(!file.has_changed(), "{text:?}");
        }
        fs::remove_file(&path).expect("it is there");
        assert!(file.has_changed());
        load(Some(&file), &[]).expect_err("it is gone");
        assert!(!file.has_changed());
    }
}
