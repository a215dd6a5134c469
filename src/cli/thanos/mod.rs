//! `promfront query-frontend`: the flags of Thanos's query-frontend, so that its Deployment runs with the image changed.
//!
//! Rule: a flag that means the same is mapped; one that can be left away without changing an answer is taken, and if somebody
//! might miss what it did, that is logged once; one that cannot is refused with what to do instead. So nobody believes that
//! something holds which does not. It ends in the same configuration as a file does, which is checked in the same way.

mod backend;
mod flags;
mod go;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use self::backend::{Backend, Kind};
use self::flags::{FLAGS, Flag, Means, Takes};
use super::{ServeArgs, load, log};
use crate::config::{Config, Remote};

/// The first argument.
pub(super) const COMMAND: &str = "query-frontend";

/// What the first tier may weigh before a shared one: Thanos has none there, so its memory was not planned for.
const FIRST_TIER_BYTES: u64 = 256 << 20;

/// Serves as the flags say.
pub(super) fn run(words: &[String]) -> Result<(), String> {
    if words.iter().any(|word| ["-h", "--help", "--help-long"].contains(&word.as_str())) {
        print!("{}", help());
        return Ok(());
    }
    if words.iter().any(|word| word == "--version") {
        println!("{}", super::version());
        return Ok(());
    }
    let draft = draft(words)?;
    log::init(draft.log_level, draft.log_format);
    for note in &draft.notes {
        tracing::warn!(note, "a flag of Thanos");
    }
    // The files that flags name may have changed.
    let words = words.to_vec();
    super::serve(&draft.config, &draft.serve, move || draft_config(&words))
}

fn draft(words: &[String]) -> Result<Draft, String> {
    let args = ThanosArgs::read(words, &|path| fs::read_to_string(path).map_err(|error| error.to_string()))?;
    let draft = config(&args)?;
    load::check(&draft.config).map_err(|error| error.to_string())?;
    Ok(draft)
}

fn draft_config(words: &[String]) -> Result<Config, String> {
    draft(words).map(|draft| draft.config)
}

/// The flags as they were given, each with its value; switches with `true` or `false`.
#[derive(Debug)]
struct ThanosArgs(Vec<(&'static Flag, String)>);

impl ThanosArgs {
    /// Reads the words of the command line, and with `read` the files whose content is a flag.
    fn read(words: &[String], read: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, String> {
        let (mut given, mut words) = (Vec::<(&Flag, String)>::new(), words.iter());
        while let Some(word) = words.next() {
            let Some(word) = word.strip_prefix("--") else {
                return Err(format!("{word:?} is no flag; flags begin with --"));
            };
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let (flag, is_switched_off) = known(name)?;
            let value = match (flag.takes, value) {
                (Takes::Switch, None) => (!is_switched_off).to_string(),
                (Takes::Switch, Some(_)) => {
                    return Err(format!("--{name} takes no value; write --{name} or --no-{name}"));
                }
                (_, Some(value)) => value.to_owned(),
                (_, None) => words.next().cloned().ok_or_else(|| format!("--{name} has no value"))?,
            };
            if flag.takes != Takes::Values && given.iter().any(|(other, _)| other.name == flag.name) {
                return Err(format!("--{name} is given twice"));
            }
            let value = match flag.takes {
                Takes::File => read(&value).map_err(|why| format!("--{name}: can't read {value}: {why}"))?,
                Takes::Value | Takes::Values | Takes::Switch => value,
            };
            given.push((flag, value));
        }
        Ok(Self(given))
    }
}

/// The flag of that name, and whether `no-` stands before it.
fn known(name: &str) -> Result<(&'static Flag, bool), String> {
    let find = |name: &str| FLAGS.iter().find(|flag| flag.name == name);
    if let Some(flag) = find(name) {
        return Ok((flag, false));
    }
    let switch = name.strip_prefix("no-").and_then(find).filter(|flag| flag.takes == Takes::Switch);
    switch.map(|flag| (flag, true)).ok_or_else(|| {
        let likeness = |flag: &&Flag| strsim::jaro_winkler(flag.name, name);
        let near = FLAGS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let near = near.map(|flag| format!("; did you mean --{}?", flag.name)).unwrap_or_default();
        format!("Thanos's query-frontend has no flag --{name} that promfront knows{near}")
    })
}

/// What the flags say so far.
#[derive(Debug)]
struct Draft {
    config: Config,
    serve: ServeArgs,
    log_level: log::Level,
    log_format: log::Format,
    range_cache: Option<Backend>,
    labels_cache: Option<Backend>,
    labels_freshness: Option<Duration>,
    /// What an operator should know.
    notes: Vec<String>,
}

impl Draft {
    /// Thanos's defaults, where they are others than ours.
    fn new() -> Self {
        let mut config = Config::default();
        config.downstream.urls = vec!["http://localhost:9090".to_owned()];
        let serve = ServeArgs {
            listen_address: "0.0.0.0:10902".to_owned(),
            max_connections: super::MAX_CONNECTIONS,
            shutdown_timeout: Duration::from_mins(2),
            admin_api: false,
            lifecycle: false,
            cors_origin: ".*".to_owned(),
            auto_reload: None,
        };
        Self {
            config,
            serve,
            log_level: log::Level::Info,
            log_format: log::Format::Logfmt,
            range_cache: None,
            labels_cache: None,
            labels_freshness: None,
            notes: Vec::new(),
        }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// What is kept, where, and how long.
    fn keep(&mut self) {
        let cache = &mut self.config.cache;
        match self.range_cache.take() {
            None => {
                cache.memory.max_bytes = 0;
                self.notes.push(
                    "nothing is kept, as without --query-range.response-cache-config in Thanos; give \
                     {type: IN-MEMORY, config: {max_size: 1GB}}, for example"
                        .to_owned(),
                );
            }
            Some(backend) => {
                cache.ttl = backend.ttl.unwrap_or(cache.ttl);
                self.notes.extend(backend.notes);
                let (redis, memcached) = match backend.kind {
                    Kind::Memory(max_bytes) => {
                        cache.memory.max_bytes = max_bytes;
                        if max_bytes == 0 {
                            self.notes.push("nothing is kept: the cache may hold 0 bytes (max_size)".to_owned());
                        }
                        (None, None)
                    }
                    Kind::Redis(redis) => (Some(redis), None),
                    Kind::Memcached(memcached, interval) => {
                        self.config.discovery.interval = interval.unwrap_or(self.config.discovery.interval);
                        (None, Some(memcached))
                    }
                };
                if redis.is_some() || memcached.is_some() {
                    cache.memory.max_bytes = FIRST_TIER_BYTES;
                    // Its address would not tell replicas apart. Thanos's own keys do not say either before which server they were made.
                    let is_here = self.config.downstream.is_on_this_machine();
                    let namespace = if is_here { "thanos".to_owned() } else { String::new() };
                    cache.remote = Some(Remote { redis, memcached, namespace, ..Remote::default() });
                }
            }
        }
        if let Some(freshness) = self.labels_freshness {
            self.config.cache.freshness = self.config.cache.freshness.max(freshness);
        }
        // Thanos keeps no instant queries.
        let whole = &mut self.config.cache.whole;
        whole.instant_ttl = Duration::ZERO;
        match self.labels_cache.take() {
            None => whole.max_bytes = 0,
            Some(backend) => {
                whole.labels_ttl = backend.ttl.unwrap_or(whole.labels_ttl);
                self.notes.extend(backend.notes);
                match backend.kind {
                    Kind::Memory(max_bytes) => whole.max_bytes = max_bytes,
                    Kind::Redis(_) | Kind::Memcached(..) => {
                        self.note("labels are kept in this process; only range queries are shared");
                    }
                }
            }
        }
    }
}

/// The configuration that the flags stand for. Reads nothing and checks nothing that the configuration checks itself.
fn config(args: &ThanosArgs) -> Result<Draft, String> {
    let mut draft = Draft::new();
    for (flag, value) in &args.0 {
        let is_off = matches!(value.trim(), "" | "0" | "0s" | "false" | "{}" | "null");
        let outcome = match &flag.means {
            Means::Mapped(_, map) => map(&mut draft, value),
            Means::Refused(sentence) if !is_off => Err((*sentence).to_owned()),
            Means::Noted(sentence) if !is_off => {
                draft.note(format!("--{}: {sentence}", flag.name));
                Ok(())
            }
            Means::Nothing(_) | Means::Refused(_) | Means::Noted(_) => Ok(()),
        };
        outcome.map_err(|sentence| format!("--{}: {sentence}", flag.name))?;
    }
    draft.keep();
    Ok(draft)
}

fn help() -> String {
    let mut text = "The flags of Thanos's query-frontend, and what they are to promfront:\n\n".to_owned();
    for flag in FLAGS {
        let (before, after) = match flag.takes {
            Takes::Switch => ("[no-]", ""),
            Takes::Value | Takes::Values => ("", "=…"),
            Takes::File => ("", "=FILE"),
        };
        let means = match flag.means {
            Means::Mapped(means, _) | Means::Nothing(means) => means.to_owned(),
            Means::Noted(sentence) => format!("taken; {sentence}"),
            Means::Refused(sentence) => format!("refused; {sentence}"),
        };
        writeln!(text, "  --{before}{}{after}\n        {means}", flag.name).expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests;
