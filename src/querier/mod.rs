//! `promfront querier`: pulls queries from frontends, and asks the server beside it.
//!
//! It opens streams to every frontend that its addresses stand for, and runs on each one request at a time. It reaches the
//! frontends, so nothing has to reach it, and a slow server is given no more than it has streams. Frontends may be of
//! promfront or of Cortex: the protocol is the same (`sched/grpc`).

mod executor;
mod frontends;
mod stream;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use self::executor::Executor;
use crate::config::{self, Config, ConfigError, Source};
use crate::discovery::{self, Address};

/// The flags of `promfront querier`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where frontends are: host:port, dns+host:port, dnssrv+name or dnssrvnoa+name; several times for several.
    #[arg(long = "frontend.address", value_name = "ADDRESS", required = true)]
    frontend_address: Vec<String>,
    /// The authorities that a frontend's certificate must come from (PEM); with it, connections are TLS.
    #[arg(long = "frontend.tls-ca-file", value_name = "FILE")]
    frontend_tls_ca_file: Option<PathBuf>,
    /// A certificate that frontends are shown (PEM).
    #[arg(long = "frontend.tls-cert-file", value_name = "FILE", requires = "frontend_tls_key_file")]
    frontend_tls_cert_file: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long = "frontend.tls-key-file", value_name = "FILE", requires = "frontend_tls_cert_file")]
    frontend_tls_key_file: Option<PathBuf>,
    /// The name that a frontend's certificate must have, if not that of its address.
    #[arg(long = "frontend.tls-server-name", value_name = "NAME")]
    frontend_tls_server_name: Option<String>,
    /// The base URL of the server that answers; overrides the file.
    #[arg(long = "downstream.url", value_name = "URL")]
    downstream_url: Vec<String>,
    /// How many queries run at the same time: shared out over the frontends, at least one for each.
    #[arg(long = "concurrency", value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// By which name frontends know this querier; by default the host's and the process's number.
    #[arg(long = "querier.id", value_name = "NAME")]
    id: Option<String>,
    /// The configuration file; its sections `downstream` and `discovery` and `sched.grpc_max_message_bytes` are read.
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Whether ${NAME} and ${NAME:-default} in values of the file are variables of the environment; $$ is a dollar then.
    #[arg(long = "config.expand-env")]
    expand_env: bool,
    /// How long queries in flight may take to finish after SIGTERM, in seconds.
    #[arg(long = "shutdown-timeout", value_name = "SECONDS", default_value_t = 120)]
    shutdown_timeout: u64,
}

/// How to pull, and from whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the frontends are.
    pub frontends: Vec<Address>,
    /// How they are spoken with, if not in clear text.
    pub tls: Option<ClientTlsConfig>,
    /// The name that their certificates must have, if not that of their address.
    pub tls_server_name: Option<String>,
    /// How their names are resolved.
    pub discovery: config::Discovery,
    /// The servers that answer.
    pub downstream: config::Downstream,
    /// Queries at the same time.
    pub concurrency: usize,
    /// By which name frontends know us.
    pub id: String,
    /// The longest message, from a frontend or to one.
    pub max_message_bytes: usize,
    /// How long queries in flight may take to finish.
    pub shutdown_timeout: Duration,
}

impl Options {
    /// What the flags say, and the files that they name.
    pub fn new(args: Args) -> Result<Self, String> {
        let mut config = match &args.config_file {
            Some(path) => configured(path, args.expand_env).map_err(|error| error.to_string())?,
            None => Config::default(),
        };
        if !args.downstream_url.is_empty() {
            config.downstream.urls.clone_from(&args.downstream_url);
        }
        let address = |text: &String| Address::parse(text).map_err(|problem| format!("--frontend.address: {problem}"));
        Ok(Self {
            frontends: args.frontend_address.iter().map(address).collect::<Result<_, _>>()?,
            tls: tls(&args)?,
            tls_server_name: args.frontend_tls_server_name,
            discovery: config.discovery,
            downstream: config.downstream,
            concurrency: usize::from(args.concurrency),
            id: args.id.filter(|id| !id.is_empty()).unwrap_or_else(own_name),
            max_message_bytes: usize::try_from(config.sched.grpc_max_message_bytes).unwrap_or(usize::MAX),
            shutdown_timeout: Duration::from_secs(args.shutdown_timeout),
        })
    }
}

fn configured(path: &Path, expand_env: bool) -> Result<Config, ConfigError> {
    let mut source = Source::open(path)?;
    if expand_env {
        source.expand(&|name| std::env::var(name).ok())?;
    }
    source.read()
}

fn tls(args: &Args) -> Result<Option<ClientTlsConfig>, String> {
    let Some(ca) = &args.frontend_tls_ca_file else {
        return match (&args.frontend_tls_cert_file, &args.frontend_tls_server_name) {
            (None, None) => Ok(None),
            _ => Err("the flags --frontend.tls-… need --frontend.tls-ca-file".to_owned()),
        };
    };
    let read = |path: &Path| fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()));
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let (Some(cert), Some(key)) = (&args.frontend_tls_cert_file, &args.frontend_tls_key_file) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(Some(tls))
}

/// The host's name and the process's number: two queriers of one host are two.
fn own_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("promfront");
    format!("{host}-{}", std::process::id())
}

/// Pulls until `stop` resolves. Then it announces that it leaves, finishes what it holds, and returns.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), String> {
    let executor = Executor::new(&options.downstream, &options.discovery, options.max_message_bytes)?;
    let resolving = discovery::Options::configured(&options.discovery)?;
    frontends::pull(&options, resolving, Arc::new(executor), stop).await;
    Ok(())
}
