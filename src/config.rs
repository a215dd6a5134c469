//! Every option: its default, its bound, and how it is written.
//!
//! The file is YAML and strict: an unknown key or a bad value is refused with its place. Durations are Prometheus's
//! (`1h30m`), sizes have binary units (`512MiB`). `config/promfront.yaml` lists all of this with its reasons, and a test
//! holds it against these defaults.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::model::tenant::TenantId;
use crate::model::time::{Timestamp, parse_duration};
use crate::sched::shuffle::{ShardSize, Share};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The servers that answer.
    pub downstream: Downstream,
    /// How queries are cut.
    pub split: Split,
    /// What is kept, and how long.
    pub cache: Cache,
    /// How requests wait, and who pulls them.
    pub sched: Sched,
    /// How names are resolved whose addresses change.
    pub discovery: Discovery,
    /// Whether requests belong to tenants.
    pub multitenancy: Multitenancy,
    /// What a request may cost.
    pub limits: Limits,
    /// What is otherwise for some tenants.
    pub tenants: BTreeMap<String, Tenant>,
    /// What is not answered at all.
    pub block: Vec<BlockRule>,
}

/// What is not answered: all of its conditions must hold, and those that are empty or zero are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockRule {
    /// The tenant is one of these.
    pub tenants: Vec<String>,
    /// The query is this text.
    pub query: String,
    /// The whole text of the query matches.
    pub query_regex: String,
    /// The dashboard that asks (`X-Dashboard-Uid`).
    pub dashboard: String,
    /// The panel that asks (`X-Panel-Id`).
    pub panel: String,
    /// The whole `User-Agent` matches.
    pub user_agent_regex: String,
    /// The range is longer.
    #[serde(deserialize_with = "duration")]
    pub range_longer_than: Duration,
    /// The step is shorter.
    #[serde(deserialize_with = "duration")]
    pub step_shorter_than: Duration,
    /// Why, for those who are refused.
    pub reason: String,
    /// Whom they may ask.
    pub owner: String,
    /// From when on it does not hold any more.
    #[serde(deserialize_with = "time")]
    pub expires: Option<Timestamp>,
}

/// The servers that answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Downstream {
    /// Base URLs: `http://` or `https://`, before them `dns+`, `dnssrv+` or `dnssrvnoa+` for names whose addresses change.
    pub urls: Vec<String>,
    /// Who sends queries to them.
    pub mode: Mode,
    /// Queries in flight per endpoint.
    pub max_concurrent: usize,
    /// How long a range query may take in all; a client's own `timeout` may shorten it.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// How long connecting may take.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// The client's headers that are passed on; `*` is all of them.
    pub forward_headers: Vec<String>,
    /// A user and a password to send.
    pub basic_auth: Option<BasicAuth>,
    /// A file with a token to send; empty for none.
    pub bearer_token_file: PathBuf,
    /// For `https://`.
    pub tls: Tls,
    /// Whether what changes or administers the server is passed on.
    pub allow_writes: bool,
}

/// Who sends queries downstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Workers of our own, over HTTP.
    #[default]
    Http,
    /// Remote queriers, that pull over gRPC.
    Pull,
    /// Whoever is free first.
    Both,
}

impl Mode {
    /// Whether workers of our own send queries.
    pub fn has_workers(self) -> bool {
        self != Self::Pull
    }

    /// Whether remote queriers may pull.
    pub fn has_queriers(self) -> bool {
        self != Self::Http
    }
}

/// A user and a password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// A file with the password; read again when it changes.
    pub password_file: PathBuf,
}

/// How a TLS server is believed, and what it is shown. Files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates of authorities to trust instead of the system's (PEM).
    pub ca_file: PathBuf,
    /// A certificate of our own (PEM).
    pub cert_file: PathBuf,
    /// The key of `cert_file` (PEM).
    pub key_file: PathBuf,
    /// The name that the server's certificate must have, if not the URL's host.
    pub server_name: String,
    /// Whether any certificate is believed.
    pub insecure_skip_verify: bool,
}

impl Default for Downstream {
    fn default() -> Self {
        Self {
            urls: vec!["http://127.0.0.1:9090".to_owned()],
            max_concurrent: 16,
            timeout: Duration::from_secs(130),
            connect_timeout: Duration::from_secs(5),
            mode: Mode::default(),
            forward_headers: vec!["*".to_owned()],
            basic_auth: None,
            bearer_token_file: PathBuf::new(),
            tls: Tls::default(),
            allow_writes: false,
        }
    }
}

/// How queries are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// Queries are cut at multiples of this since the epoch.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// At most this many parts for one query.
    pub max_parts: usize,
}

impl Default for Split {
    fn default() -> Self {
        Self { interval: Duration::from_hours(24), max_parts: 64 }
    }
}

/// What is kept, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// The tier in this process.
    pub memory: Memory,
    /// The tier that replicas share, if there is one.
    pub remote: Option<Remote>,
    /// Points that read data younger than this are never kept.
    #[serde(deserialize_with = "duration")]
    pub freshness: Duration,
    /// How long an extent holds, counted from its fetch.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// How far back samples may still arrive.
    #[serde(deserialize_with = "duration")]
    pub out_of_order_window: Duration,
    /// How long points hold that lay inside that window when they were fetched.
    #[serde(deserialize_with = "duration")]
    pub out_of_order_ttl: Duration,
    /// Request headers, besides the built-in ones, by which the downstream tells callers apart.
    pub key_headers: Vec<String>,
    /// Whether the queries of alert rules may be answered from the cache.
    pub alerts: bool,
    /// Answers that are kept whole.
    pub whole: Whole,
}

/// Answers that are kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Whole {
    /// What they may weigh in this process.
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
    /// How long instant queries at a past time hold.
    #[serde(deserialize_with = "duration")]
    pub instant_ttl: Duration,
    /// How long series, labels and label values of a past range hold.
    #[serde(deserialize_with = "duration")]
    pub labels_ttl: Duration,
}

impl Default for Whole {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, instant_ttl: Duration::from_mins(10), labels_ttl: Duration::from_mins(10) }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            memory: Memory::default(),
            remote: None,
            freshness: Duration::from_mins(10),
            ttl: Duration::from_hours(7 * 24),
            out_of_order_window: Duration::ZERO,
            out_of_order_ttl: Duration::from_mins(10),
            key_headers: Vec::new(),
            alerts: false,
            whole: Whole::default(),
        }
    }
}

/// The tier in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// How much it may hold; 0 turns the cache off.
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { max_bytes: 1 << 30 }
    }
}

/// The tier that replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remote {
    /// Redis, or a server that speaks its protocol.
    pub redis: Option<Redis>,
    /// memcached.
    pub memcached: Option<Memcached>,
    /// What data the answers are made from: replicas that share it share their entries. By default the downstream's URL.
    pub namespace: String,
    /// How much may wait to be written; what does not fit is dropped.
    #[serde(deserialize_with = "size")]
    pub max_queued_bytes: u64,
}

impl Default for Remote {
    fn default() -> Self {
        Self { redis: None, memcached: None, namespace: String::new(), max_queued_bytes: 64 << 20 }
    }
}

/// Redis: one server, Sentinel or Cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port/db`, or `rediss://` with TLS; several hosts, separated by commas, for Sentinel and Cluster.
    pub url: String,
    /// Whether the hosts are nodes of a Cluster.
    pub cluster: bool,
    /// If the hosts are Sentinels: the name of the master that they watch.
    pub sentinel_master: String,
    /// The user of the servers; empty for the default one.
    pub username: String,
    /// A file with the password of the servers.
    pub password_file: PathBuf,
    /// The user of the Sentinels.
    pub sentinel_username: String,
    /// A file with the password of the Sentinels.
    pub sentinel_password_file: PathBuf,
    /// Certificates of authorities to trust instead of the system's (PEM).
    pub ca_file: PathBuf,
    /// A certificate of our own (PEM), and its key.
    pub cert_file: PathBuf,
    /// The key of `cert_file` (PEM).
    pub key_file: PathBuf,
    /// How long reading for one query may take in all.
    pub timeout: RemoteTimeout,
}

/// memcached: one or more servers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memcached {
    /// `host:port`, `dns+host:port`, `dnssrv+_service._tcp.name` or `dnssrvnoa+…`.
    pub addresses: Vec<String>,
    /// The longest item that the servers take (`-I`); longer entries are cut into several.
    #[serde(deserialize_with = "size")]
    pub max_item_bytes: u64,
    /// How long reading for one query may take in all.
    pub timeout: RemoteTimeout,
}

impl Default for Memcached {
    fn default() -> Self {
        Self { addresses: Vec::new(), max_item_bytes: 1 << 20, timeout: RemoteTimeout::default() }
    }
}

/// How long a query waits for the shared tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RemoteTimeout(#[serde(deserialize_with = "duration")] pub Duration);

impl Default for RemoteTimeout {
    fn default() -> Self {
        Self(Duration::from_millis(50))
    }
}

/// How requests wait, and who pulls them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sched {
    /// Where remote queriers connect; empty for nowhere.
    pub grpc_listen_address: String,
    /// What is shown to them, and what they must show.
    pub grpc_tls: ServerTls,
    /// The longest message to or from a querier.
    #[serde(deserialize_with = "size")]
    pub grpc_max_message_bytes: u64,
    /// What comes before `/api/v1` on the queriers' side.
    pub querier_path_prefix: String,
    /// Whether queriers are asked what each query cost them, which is what is charged then instead of the time that it took.
    pub querier_stats: bool,
    /// How long a vanished querier keeps its place in the tenants' shards.
    #[serde(deserialize_with = "duration")]
    pub querier_forget_delay: Duration,
    /// How long a request waits while nobody is there to pull it.
    #[serde(deserialize_with = "duration")]
    pub max_wait_for_querier: Duration,
    /// Requests that may wait in all.
    pub max_queued: usize,
    /// Requests of one tenant that may wait.
    pub max_queued_per_tenant: usize,
    /// The status code that refuses what does not fit: 503, or 429 for clients that know what it means.
    pub full_status: FullStatus,
}

impl Default for Sched {
    fn default() -> Self {
        Self {
            grpc_listen_address: String::new(),
            grpc_tls: ServerTls::default(),
            grpc_max_message_bytes: 100 << 20,
            querier_path_prefix: "/prometheus".to_owned(),
            querier_stats: false,
            querier_forget_delay: Duration::from_mins(1),
            max_wait_for_querier: Duration::from_secs(10),
            max_queued: 100_000,
            max_queued_per_tenant: 800,
            full_status: FullStatus::default(),
        }
    }
}

/// The status code of a refusal because too much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum FullStatus {
    /// `503`: every client of Prometheus knows it, and Grafana shows its reason.
    #[default]
    #[serde(rename = "503")]
    Unavailable,
    /// `429`: for clients that slow down when they see it.
    #[serde(rename = "429")]
    TooManyRequests,
}

/// TLS where we are the server. Files are read at start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerTls {
    /// Our certificate (PEM); empty for clear text.
    pub cert_file: PathBuf,
    /// Its key (PEM).
    pub key_file: PathBuf,
    /// Authorities that a client's certificate must come from (PEM); empty if it need not have one.
    pub client_ca_file: PathBuf,
}

/// How names are resolved whose addresses change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// How often they are resolved again.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// Name servers as `ip:port`, instead of the system's.
    pub nameservers: Vec<String>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), nameservers: Vec::new() }
    }
}

/// Whether requests belong to tenants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Multitenancy {
    /// Whether each request must say whose it is. Otherwise all are of one tenant.
    pub enabled: bool,
    /// The header that says it.
    pub header: String,
    /// Whether one request may be of several tenants, `a|b`.
    pub federation: bool,
}

impl Default for Multitenancy {
    fn default() -> Self {
        Self { enabled: false, header: "X-Scope-OrgID".to_owned(), federation: true }
    }
}

/// What is otherwise for one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenant {
    /// Its limits.
    pub limits: TenantLimits,
}

/// Limits of one tenant; those that are not there are the common ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantLimits {
    /// See [`Limits::weight`].
    pub weight: Option<TenantWeight>,
    /// See [`Limits::max_in_flight`].
    pub max_in_flight: Option<InFlightShare>,
    /// See [`Limits::max_queriers`].
    pub max_queriers: Option<MaxQueriers>,
    /// See [`Sched::max_queued_per_tenant`].
    pub max_queued: Option<usize>,
    /// See [`Limits::max_points`].
    pub max_points: Option<u64>,
    /// See [`Limits::max_query_bytes`].
    #[serde(deserialize_with = "own_size")]
    pub max_query_bytes: Option<u64>,
    /// See [`Limits::max_query_length`].
    #[serde(deserialize_with = "own_duration")]
    pub max_query_length: Option<Duration>,
    /// See [`Limits::max_query_lookback`].
    #[serde(deserialize_with = "own_duration")]
    pub max_query_lookback: Option<Duration>,
    /// See [`Limits::max_parallelism`].
    pub max_parallelism: Option<usize>,
    /// See [`Limits::max_response_bytes`].
    #[serde(deserialize_with = "own_size")]
    pub max_response_bytes: Option<u64>,
}

/// How much of the service a tenant gets beside others, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TenantWeight(#[serde(deserialize_with = "thousandths")] pub u32);

/// A share of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightShare(pub Share);

impl<'de> Deserialize<'de> for InFlightShare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = u16::try_from(thousandths(deserializer)?).ok().and_then(Share::from_thousandths);
        share
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a share of the slots is above 0 and at most 1, for example 0.75"))
    }
}

/// How many queriers a tenant is confined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxQueriers(pub ShardSize);

impl<'de> Deserialize<'de> for MaxQueriers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let count = || Some(NonZeroUsize::new(text.parse().ok()?).map_or(ShardSize::All, ShardSize::Count));
        let share = || Some(ShardSize::Share(Share::from_thousandths(u16::try_from(read_thousandths(&text)?).ok()?)?));
        count().or_else(share).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is no number of queriers; write 0 for all of them, 4 for four, or 0.25 for a quarter"
            ))
        })
    }
}

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Points per series of a range query, judged on the client's own request as Prometheus does; 0 leaves it to the server.
    pub max_points: u64,
    /// The length of a query's text.
    #[serde(deserialize_with = "size")]
    pub max_query_bytes: u64,
    /// How long the range of a query may be; 0 is any.
    #[serde(deserialize_with = "duration")]
    pub max_query_length: Duration,
    /// How far back instants may lie that are answered; 0 is any.
    #[serde(deserialize_with = "duration")]
    pub max_query_lookback: Duration,
    /// How much of the service a tenant gets beside others: with 2 twice as much as with 1.
    pub weight: TenantWeight,
    /// The share of the slots that one tenant may hold, unless nobody else has asked for anything of late.
    pub max_in_flight: InFlightShare,
    /// How many queriers one tenant is confined to: a number, or a share; 0 is all of them.
    pub max_queriers: MaxQueriers,
    /// Parts of one query in flight.
    pub max_parallelism: usize,
    /// The decoded bodies of the answers to the parts of one query, together.
    #[serde(deserialize_with = "size")]
    pub max_response_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_points: 11_000,
            max_query_bytes: 1 << 20,
            max_query_length: Duration::ZERO,
            max_query_lookback: Duration::ZERO,
            weight: TenantWeight(1_000),
            max_in_flight: InFlightShare(Share::from_thousandths(750).expect("three quarters are a share")),
            max_queriers: MaxQueriers(ShardSize::All),
            max_parallelism: 14,
            max_response_bytes: 1 << 30,
        }
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("can't read {path}: {error}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The text is not a configuration.
    #[error("{path}: {message}")]
    Syntax {
        /// Which file.
        path: String,
        /// What and where.
        message: String,
    },
    /// A value is out of bounds.
    #[error("{option}: {problem}")]
    Value {
        /// Its name, as a path.
        option: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File { path: name.clone(), error })?;
        Self::parse(&text).map_err(|message| ConfigError::Syntax { path: name, message })
    }

    /// Reads a text. Empty means all defaults.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Checks what the types do not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |option, problem: String| Err(ConfigError::Value { option, problem });
        if self.downstream.mode.has_workers() && self.downstream.urls.is_empty() {
            return wrong(
                "downstream.urls",
                "there is none; write [\"http://127.0.0.1:9090\"], for example".to_owned(),
            );
        }
        if self.downstream.mode.has_queriers() && self.sched.grpc_listen_address.is_empty() {
            let problem = "queriers have nowhere to connect, but downstream.mode says that they pull; write 127.0.0.1:9095, \
                           for example";
            return wrong("sched.grpc_listen_address", problem.to_owned());
        }
        if self.split.interval < Duration::from_mins(1) {
            return wrong("split.interval", format!("{:?} is too short; it must be at least 1m", self.split.interval));
        }
        for (option, value) in [
            ("downstream.max_concurrent", self.downstream.max_concurrent),
            ("split.max_parts", self.split.max_parts),
            ("limits.max_parallelism", self.limits.max_parallelism),
        ] {
            if value == 0 || value > 10_000 {
                return wrong(option, format!("{value} is out of bounds; it must be 1 to 10000"));
            }
        }
        for (option, value) in [
            ("downstream.timeout", self.downstream.timeout),
            ("downstream.connect_timeout", self.downstream.connect_timeout),
            ("sched.max_wait_for_querier", self.sched.max_wait_for_querier),
        ] {
            if value.is_zero() {
                return wrong(option, "0s leaves no time for an answer; write 2m10s, for example".to_owned());
            }
        }
        for (option, value) in [
            ("sched.max_queued", self.sched.max_queued),
            ("sched.max_queued_per_tenant", self.sched.max_queued_per_tenant),
        ] {
            if value == 0 || value > 1_000_000 {
                return wrong(option, format!("{value} is out of bounds; it must be 1 to 1000000"));
            }
        }
        for (name, tenant) in &self.tenants {
            if let Err(problem) = TenantId::parse(name) {
                return wrong("tenants", problem);
            }
            if tenant.limits.max_queued.is_some_and(|queued| !(1..=1_000_000).contains(&queued)) {
                return wrong(
                    "tenants",
                    format!("{name}: limits.max_queued is out of bounds; it must be 1 to 1000000"),
                );
            }
            if tenant.limits.max_parallelism.is_some_and(|parts| !(1..=10_000).contains(&parts)) {
                return wrong(
                    "tenants",
                    format!("{name}: limits.max_parallelism is out of bounds; it must be 1 to 10000"),
                );
            }
            if tenant.limits.max_response_bytes.is_some_and(|bytes| !(1..=4_000_000_000).contains(&bytes)) {
                let problem = format!("{name}: limits.max_response_bytes must be above 0 and at most 3814MiB");
                return wrong("tenants", problem);
            }
        }
        if !(1 << 20..=1 << 30).contains(&self.sched.grpc_max_message_bytes) {
            return wrong("sched.grpc_max_message_bytes", "it must be 1MiB to 1GiB".to_owned());
        }
        let prefix = &self.sched.querier_path_prefix;
        if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/')) {
            return wrong(
                "sched.querier_path_prefix",
                format!("{prefix:?} must begin with / and not end with it, or be empty"),
            );
        }
        if self.cache.ttl.is_zero() {
            return wrong(
                "cache.ttl",
                "0s keeps nothing; set cache.memory.max_bytes to 0 to turn the cache off".to_owned(),
            );
        }
        if self.discovery.interval.is_zero() {
            return wrong("discovery.interval", "0s never stops; write 30s, for example".to_owned());
        }
        if let Some(remote) = &self.cache.remote {
            self.check_remote(remote)?;
        }
        if self.limits.max_response_bytes == 0 || self.limits.max_response_bytes > 4_000_000_000 {
            return wrong("limits.max_response_bytes", "it must be above 0 and at most 3814MiB".to_owned());
        }
        Ok(())
    }
}

impl Config {
    fn check_remote(&self, remote: &Remote) -> Result<(), ConfigError> {
        let wrong = |option, problem: &str| Err(ConfigError::Value { option, problem: problem.to_owned() });
        if remote.memcached.as_ref().is_some_and(|memcached| !MEMCACHED_ITEM.contains(&memcached.max_item_bytes)) {
            return wrong("cache.remote.memcached.max_item_bytes", "it must be 64KiB to 1GiB, as the servers' -I");
        }
        let (option, timeout) = match (&remote.redis, &remote.memcached) {
            (Some(redis), None) if redis.url.is_empty() => {
                return wrong("cache.remote.redis.url", "it is missing; write redis://127.0.0.1:6379, for example");
            }
            (None, Some(memcached)) if memcached.addresses.is_empty() => {
                let problem = "there are none; write [\"127.0.0.1:11211\"], for example";
                return wrong("cache.remote.memcached.addresses", problem);
            }
            (Some(redis), None) => ("cache.remote.redis.timeout", redis.timeout),
            (None, Some(memcached)) => ("cache.remote.memcached.timeout", memcached.timeout),
            _ => return wrong("cache.remote", "it takes exactly one of redis and memcached"),
        };
        if timeout.0.is_zero() {
            return wrong(option, "0s leaves no time for an answer; write 50ms, for example");
        }
        if self.cache.memory.max_bytes < FEWEST_MEMORY_BYTES {
            let problem = "it is the first tier before cache.remote and must have at least 16MiB";
            return wrong("cache.memory.max_bytes", problem);
        }
        let is_loopback = |url: &String| ["//127.", "//localhost", "//[::1]"].iter().any(|host| url.contains(host));
        if remote.namespace.is_empty() && self.downstream.urls.iter().any(is_loopback) {
            let problem = "the downstream is on this machine, so its address does not tell replicas whether they stand \
                           before the same data; name the data, for example namespace: prod";
            return wrong("cache.remote.namespace", problem);
        }
        Ok(())
    }

    /// What data the answers are made from: replicas that share it may share entries.
    pub fn namespace(&self) -> String {
        let named = self.cache.remote.as_ref().map(|remote| remote.namespace.as_str()).unwrap_or_default();
        if named.is_empty() { self.downstream.urls.join(",") } else { named.to_owned() }
    }
}

/// How long items may be that memcached takes.
const MEMCACHED_ITEM: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// A first tier before a shared one is at least this large.
const FEWEST_MEMORY_BYTES: u64 = 16 << 20;

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is not a duration; write it as 30s, 10m, 1h30m or 7d"))
    })
}

fn own_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn own_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size(deserializer).map(Some)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::parse(&text)
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a time; write it as 2030-01-31T00:00:00Z")))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_size(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is not a size; write it as 1048576, 512KiB, 64MiB or 1GiB"))
    })
}

/// A decimal number, in thousandths.
fn thousandths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    read_thousandths(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "{text:?} is not such a number; write 1, 0.5 or 0.125: above 0, at most three decimals"
        ))
    })
}

fn read_thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 3 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let thousandths = whole.parse::<u32>().ok()?.checked_mul(1_000)? + format!("{part:0<3}").parse::<u32>().ok()?;
    (1..=1_000_000).contains(&thousandths).then_some(thousandths)
}

fn parse_size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u32); 8] =
        [("GiB", 30), ("MiB", 20), ("KiB", 10), ("GB", 30), ("MB", 20), ("KB", 10), ("B", 0), ("", 0)];
    let (unit, shift) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let count: u64 = text[..text.len() - unit.len()].trim_end().parse().ok()?;
    count.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_tenant_that_cannot_be_are_refused() {
        for (text, says) in [
            ("a/b: {limits: {weight: 2}}", "is not a tenant's name"),
            ("a: {limits: {max_queued: 0}}", "must be 1 to 1000000"),
        ] {
            let config = Config::parse(&format!("tenants: {{{text}}}")).expect("sound YAML");
            let error = config.check().expect_err("not a sound configuration").to_string();
            assert!(error.starts_with("tenants: ") && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn shares_and_weights_are_decimal_numbers() {
        for (text, want) in [
            ("1", Some(1_000)),
            ("0.75", Some(750)),
            ("2.5", Some(2_500)),
            ("0.001", Some(1)),
            ("1000", Some(1_000_000)),
            ("0", None),
            ("0.0001", None),
            ("-1", None),
            ("1001", None),
            (".5", None),
            ("5000000", None),
        ] {
            assert_eq!(read_thousandths(text), want, "{text}");
        }
        let limits = |text: &str| Config::parse(&format!("limits: {{{text}}}")).map(|config| config.limits);
        let queriers = |text: &str| limits(&format!("max_queriers: {text}")).map(|limits| limits.max_queriers.0);
        assert_eq!(queriers("0"), Ok(ShardSize::All));
        assert_eq!(queriers("4"), Ok(ShardSize::Count(NonZeroUsize::new(4).expect("not zero"))));
        assert_eq!(queriers("0.25"), Ok(ShardSize::Share(Share::from_thousandths(250).expect("a share"))));
        assert!(queriers("1.5").expect_err("more than all").contains("0.25 for a quarter"));
        assert!(limits("max_in_flight: 2").is_err() && limits("weight: 0").is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, want) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("512 KiB", Some(512 << 10)),
            ("1GiB", Some(1 << 30)),
            ("64MB", Some(64 << 20)),
            ("1.5GiB", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
    }

    #[test]
    fn the_reference_file_names_every_option_with_its_default() {
        let reference = include_str!("../config/promfront.yaml");
        assert_eq!(Config::parse(reference).expect("the reference is sound"), Config::default());
    }

    #[test]
    fn the_examples_are_sound() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut examples = 0;
        for file in std::fs::read_dir(folder).expect("it is there") {
            let path = file.expect("it can be read").path();
            let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            config.check().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            examples += usize::from(config.cache.remote.is_some());
        }
        assert_eq!(examples, 4, "one for each kind of shared tier");
    }

    #[test]
    fn a_shared_tier_that_cannot_be_meant_is_refused_with_what_to_change() {
        let remote =
            |text: &str| format!("downstream: {{urls: [\"http://prometheus:9090\"]}}\ncache: {{remote: {{{text}}}}}");
        for (text, says) in [
            (remote(""), "exactly one of redis and memcached"),
            (remote("redis: {url: \"redis://r:1\"}, memcached: {addresses: [\"m:1\"]}"), "exactly one"),
            (remote("redis: {}"), "redis://127.0.0.1:6379"),
            (remote("memcached: {}"), "127.0.0.1:11211"),
            (
                remote("memcached: {addresses: [\"m:1\"], timeout: 0s}"),
                "cache.remote.memcached.timeout: 0s leaves no time",
            ),
            ("cache: {remote: {memcached: {addresses: [\"m:1\"]}}}".to_owned(), "namespace: prod"),
            (
                "cache: {memory: {max_bytes: 0}, remote: {namespace: a, memcached: {addresses: [\"m:1\"]}}}".to_owned(),
                "16MiB",
            ),
        ] {
            let config = Config::parse(&text).expect("sound YAML");
            let error = config.check().expect_err("not a sound configuration").to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place() {
        let message = Config::parse("split:\n  intervall: 1d\n").expect_err("no such option");
        assert!(message.contains("intervall") && message.contains('2'), "{message}");
    }
}
