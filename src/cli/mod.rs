//! The command line: from arguments to a running server.

mod check;
mod load;
mod log;
mod reloads;
mod thanos;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::load::{Expansion, File};
use crate::config::{Config, Shown};
use crate::http::cors::Cors;
use crate::http::reload::Loader;
use crate::http::{App, Door, router, server};
use crate::model::time::{Timestamp, parse_duration};
use crate::querier;
use crate::sched::grpc;

/// How many connections are served at the same time, if nothing is said.
const MAX_CONNECTIONS: usize = 512;

/// When requests are done, streams of queriers have so long to end.
const QUERIERS_LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// A PromQL query frontend and caching proxy.
#[derive(Clone, Debug, Parser)]
#[command(name = "promfront", disable_version_flag = true, args_conflicts_with_subcommands = true)]
#[expect(clippy::struct_excessive_bools, reason = "flags are flags")]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file; without it the defaults serve one Prometheus with an in-process cache.
    #[arg(long = "config.file", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Whether ${NAME} and ${NAME:-default} in values of the file are variables of the environment; $$ is a dollar then.
    #[arg(long = "config.expand-env")]
    expand_env: bool,
    /// The address to serve on.
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", default_value = ":9190")]
    listen_address: String,
    /// The base URL of a server that answers; several times for several. Overrides the file.
    #[arg(long = "downstream.url", value_name = "URL")]
    downstream_url: Vec<String>,
    /// How many connections are served at the same time; more wait.
    #[arg(long = "web.max-connections", value_name = "N", default_value_t = MAX_CONNECTIONS)]
    max_connections: usize,
    /// How long requests in flight may take to finish after SIGTERM, in seconds.
    #[arg(long = "web.shutdown-timeout", value_name = "SECONDS", default_value_t = 120)]
    shutdown_timeout: u64,
    /// Whether POST /promfront/api/v1/purge is there for everybody who can reach this address.
    #[arg(long = "web.enable-admin-api")]
    admin_api: bool,
    /// Whether POST /-/reload and POST /-/quit are there for everybody who can reach this address.
    #[arg(long = "web.enable-lifecycle")]
    lifecycle: bool,
    /// Whether the configuration file is looked at again and again, and loaded when its content has changed.
    #[arg(long = "config.auto-reload", requires = "config_file")]
    auto_reload: bool,
    /// How often.
    #[arg(long = "config.auto-reload-interval", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    auto_reload_interval: Duration,
    /// Which origins' pages may read answers in a browser: a regular expression for the whole origin.
    #[arg(long = "web.cors.origin", value_name = "REGEX", default_value = ".*")]
    cors_origin: String,
    /// What is logged.
    #[arg(long = "log.level", global = true, value_name = "LEVEL", default_value = "info")]
    log_level: log::Level,
    /// How it is written.
    #[arg(long = "log.format", global = true, value_name = "FORMAT", default_value = "logfmt")]
    log_format: log::Format,
    /// Print the version.
    #[arg(long)]
    version: bool,
}

/// What else the program can be.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Stands beside a server, pulls queries from frontends (of promfront, or of Cortex) and has that server answer them.
    Querier(Box<querier::Args>),
    /// Prints every option with its default and its reason: a file to start from.
    PrintConfig,
    /// Checks configuration files: 0 all are right, 1 one is wrong, 3 there is only something to look at (with --lint).
    CheckConfig(check::Args),
}

/// How to serve, apart from the configuration.
#[derive(Clone, Debug)]
struct ServeArgs {
    listen_address: String,
    max_connections: usize,
    shutdown_timeout: Duration,
    admin_api: bool,
    lifecycle: bool,
    cors_origin: String,
    /// The file that is looked at again and again, and how often.
    auto_reload: Option<(Arc<File>, Duration)>,
}

/// Runs the program.
pub fn run() -> ExitCode {
    // Thanos's flags have a grammar of their own.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((thanos::COMMAND, flags)) = words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return ended(thanos::run(flags));
    }
    let args = Args::parse();
    if args.version {
        println!("{}", version());
        return ExitCode::SUCCESS;
    }
    log::init(args.log_level, args.log_format);
    ended(match args.command {
        None => serve_file(&args),
        Some(Command::Querier(args)) => pull(*args),
        Some(Command::PrintConfig) => {
            print!("{}", Config::default().print(Shown::Reference));
            Ok(())
        }
        Some(Command::CheckConfig(args)) => return check::run(&args, Timestamp::now()),
    })
}

fn ended(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("promfront: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_file(args: &Args) -> Result<(), String> {
    let expansion = if args.expand_env { Expansion::Environment } else { Expansion::None };
    let file = args.config_file.clone().map(|path| Arc::new(File::new(path, expansion)));
    let looked_at = file.clone().filter(|_| args.auto_reload);
    let urls = args.downstream_url.clone();
    let load = move || load::load(file.as_deref(), &urls);
    let serve_args = ServeArgs {
        listen_address: args.listen_address.clone(),
        max_connections: args.max_connections,
        shutdown_timeout: Duration::from_secs(args.shutdown_timeout),
        admin_api: args.admin_api,
        lifecycle: args.lifecycle,
        cors_origin: args.cors_origin.clone(),
        auto_reload: looked_at.zip(Some(args.auto_reload_interval)),
    };
    serve(&load()?, &serve_args, load)
}

/// Serves, until the process is told to stop. The configuration has been checked; `load` reads and checks the next one.
fn serve(
    config: &Config,
    args: &ServeArgs,
    load: impl Fn() -> Result<Config, String> + Send + Sync + 'static,
) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("can't start: {error}"))?;
    runtime.block_on(async {
        let door = Door {
            has_admin_api: args.admin_api,
            has_lifecycle: args.lifecycle,
            cors: Cors::parse(&args.cors_origin)?,
        };
        let app = App::new(config.clone(), Loader::new(load), door)?;
        tokio::spawn(reloads::at_hangup(Arc::clone(&app)));
        if let Some((file, interval)) = args.auto_reload.clone() {
            tokio::spawn(reloads::at_change(Arc::clone(&app), file, interval));
        }
        let address = &args.listen_address;
        let listener = bind(address).await.map_err(|error| format!("can't listen on {address}: {error}"))?;
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        // Who answers.
        let downstream =
            if config.downstream.mode.has_workers() { config.downstream.urls.join(",") } else { "queriers".to_owned() };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), address = %bound, downstream, "listening");
        let queriers = Queriers::listen(config, &app).await?;
        let stopping = app.clone();
        let stop = async move {
            tokio::select! {
                () = stop_signal() => {}
                () = stopping.asked_to_quit() => {}
            }
            stopping.stop();
        };
        let grace = args.shutdown_timeout;
        // A task of its own: those who work would have to wake this thread for each connection.
        let serving =
            tokio::spawn(server::serve(listener, router(Arc::clone(&app)), args.max_connections, stop, grace));
        serving.await.map_err(|error| format!("the port met a fault of promfront's own: {error}"))?;
        // Nobody waits for an answer any more.
        if let Some(queriers) = queriers {
            queriers.stop().await;
        }
        app.finish().await;
        Ok(())
    })
}

/// Where remote queriers connect.
struct Queriers {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), String>>,
}

impl Queriers {
    async fn listen(config: &Config, app: &App) -> Result<Option<Self>, String> {
        if !config.downstream.mode.has_queriers() {
            return Ok(None);
        }
        let address = &config.sched.grpc_listen_address;
        let options = grpc::options::Options::new(&config.sched)?;
        let listener = bind(address).await.map_err(|error| format!("can't listen on {address}: {error}"))?;
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        tracing::info!(address = %bound, "queriers may connect");
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(grpc::server::serve(listener, app.dispatcher(), options, stopped));
        Ok(Some(Self { stop, serving }))
    }

    /// Idle streams end at once; a querier connects again, to whoever is there then.
    async fn stop(self) {
        let _ = self.stop.send(());
        match tokio::time::timeout(QUERIERS_LEAVE_WITHIN, self.serving).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(error, "the port for queriers ended early"),
            Ok(Err(error)) => tracing::warn!(%error, "the port for queriers met a fault of promfront's own"),
            Err(_) => tracing::warn!("stopped with streams of queriers open"),
        }
    }
}

/// Pulls queries, instead of serving.
fn pull(args: querier::Args) -> Result<(), String> {
    let options = querier::Options::new(args)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("can't start: {error}"))?;
    runtime.block_on(async {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            id = options.id,
            downstream = options.downstream.urls.join(","),
            "pulling"
        );
        querier::run(options, stop_signal()).await
    })
}

/// Resolves when the process is told to stop.
async fn stop_signal() {
    if let Err(error) = server::stop_signal().await {
        tracing::error!(%error, "can't wait for signals");
        std::future::pending::<()>().await;
    }
}

/// `:9190` means every address, as in Go: of both families, or of the one that there is.
async fn bind(address: &str) -> io::Result<TcpListener> {
    if !address.starts_with(':') {
        return TcpListener::bind(address).await;
    }
    match TcpListener::bind(format!("[::]{address}")).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(format!("0.0.0.0{address}")).await,
        bound => bound,
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| format!("{text:?} is not a duration; write it as 30s, 10m, 1h30m or 7d"))
}

fn version() -> String {
    format!(
        "promfront, version {} (revision: {})\n  platform:  {}/{}",
        env!("CARGO_PKG_VERSION"),
        option_env!("PROMFRONT_REVISION").unwrap_or("unknown"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
