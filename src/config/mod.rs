//! Every option: its default, its bound, and how it is written.
//!
//! The file is YAML and strict: what is unknown or cannot be meant is refused with its place, and all of it at once. Options are
//! declared once (`options.rs` says how), in the files that are named after them; `config/promfront.yaml` is printed from that,
//! and a test holds it against the declarations.

mod bounds;
mod cache;
mod check;
mod expand;
mod lint;
mod options;
mod print;
mod problem;
mod scalar;
mod sched;
mod servers;
mod source;
mod tenants;
mod units;
mod value;
mod yaml;

use std::collections::BTreeMap;

pub use self::cache::{Cache, Memcached, Memory, Redis, Remote, Split, Whole};
use self::options::options;
pub use self::print::Shown;
use self::problem::Report;
pub use self::problem::{ConfigError, Problem};
pub(crate) use self::scalar::parse_size;
pub use self::sched::{FullStatus, Sched, ServerTls};
pub use self::servers::{BasicAuth, Discovery, Downstream, Mode, Tls};
pub use self::source::{Source, content};
pub use self::tenants::{BlockRule, Limits, Multitenancy, Tenant, TenantLimits};
pub use self::units::{InFlightShare, MaxQueriers, RemoteTimeout, TenantWeight};
use self::value::Value;
use crate::model::time::Timestamp;

/// What stands at the head of the reference.
const HEAD: &str = "\
# promfront's options, each with its default. Every one may be left out.
# This file is what `promfront print-config` prints.

";

options! {
    /// The whole configuration.
    pub struct Config {
        /// The servers that answer.
        downstream: Downstream;
        /// How range queries are cut.
        split: Split;
        /// What is kept, and how long.
        cache: Cache;
        /// Everything that is sent downstream waits in one fair queue, until a worker or a querier is free.
        sched: Sched;
        /// How names are resolved whose addresses change.
        discovery: Discovery;
        /// Whether requests belong to tenants.
        multitenancy: Multitenancy;
        /// What a request may cost.
        limits: Limits;
        /// What is otherwise for some tenants.
        tenants: BTreeMap<String, Tenant>;
        /// Queries that are refused, by rules that say why.
        block: Vec<BlockRule>;
    }
}

impl Config {
    /// Reads a text. Empty means all defaults.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Source::from_text(text)?.read()
    }

    /// Checks what reading does not: bounds, and what several options mean together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut report = Report::default();
        Value::check(self, &mut report);
        check::check(self, &mut report);
        report.into_result()
    }

    /// What can be meant, and probably is not.
    pub fn lint(&self, now: Timestamp) -> Vec<Problem> {
        lint::lint(self, now)
    }

    /// As YAML, which reads back to the same.
    pub fn print(&self, extent: Shown) -> String {
        let text = print::text(&Value::print(self), extent);
        match extent {
            Shown::Reference => format!("{HEAD}{text}"),
            Shown::Effective | Shown::Difference => text,
        }
    }

    /// What data the answers are made from: replicas that share it may share entries.
    pub fn namespace(&self) -> String {
        let named = self.cache.remote.as_ref().map(|remote| remote.namespace.as_str()).unwrap_or_default();
        if named.is_empty() { self.downstream.urls.join(",") } else { named.to_owned() }
    }
}
