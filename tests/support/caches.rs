//! Real caches for the tests, and what stands around them: Redis, memcached, a name server, another clock.
//!
//! Each server has a folder of its own and a port that stays its own while it is killed, restarted or paused. It is started
//! when it answers, and is killed when it is dropped.

use std::fmt::Write;
use std::fs;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::Protocol;
use super::port::Port;
use super::{Folder, PATIENCE, Process};

/// A server that can be killed and started again in its place.
#[derive(Debug)]
pub struct Daemon<K> {
    args: Vec<String>,
    /// Whether it understands [`Kind::PROBE`] as it is: not if it speaks TLS.
    is_plain: bool,
    /// What `redis-cli` must be told besides, to be understood by it and let in.
    pub(super) cli_args: Vec<String>,
    process: Option<Process>,
    port: Port,
    folder: Folder,
    kind: PhantomData<K>,
}

/// A real Redis.
pub type RedisServer = Daemon<Redis>;
/// A real memcached.
pub type MemcachedServer = Daemon<Memcached>;
/// A real name server, dnsmasq. What it is not told does not exist.
pub type DnsServer = Daemon<Dns>;

/// What tells daemons apart.
pub trait Kind {
    /// Its program.
    const PROGRAM: &'static str;
    /// What it speaks.
    const PROTOCOL: Protocol;
    /// What it answers as soon as it is up; nothing if it is up when it listens.
    const PROBE: &'static [u8];
}

/// The kind of a [`RedisServer`].
#[derive(Debug)]
pub enum Redis {}

impl Kind for Redis {
    const PROGRAM: &'static str = "redis-server";
    const PROTOCOL: Protocol = Protocol::Resp;
    const PROBE: &'static [u8] = b"*1\r\n$4\r\nPING\r\n";
}

/// The kind of a [`MemcachedServer`].
#[derive(Debug)]
pub enum Memcached {}

impl Kind for Memcached {
    const PROGRAM: &'static str = "memcached";
    const PROTOCOL: Protocol = Protocol::Memcached;
    const PROBE: &'static [u8] = b"version\r\n";
}

/// The kind of a [`DnsServer`].
#[derive(Debug)]
pub enum Dns {}

impl Kind for Dns {
    const PROGRAM: &'static str = "dnsmasq";
    const PROTOCOL: Protocol = Protocol::Opaque;
    const PROBE: &'static [u8] = b"";
}

impl<K: Kind> Daemon<K> {
    /// Starts it with the arguments for its port and its folder.
    pub(super) async fn start_with(is_plain: bool, args: impl FnOnce(u16, &Path) -> Vec<String>) -> Self {
        Self::start_on(Port::reserved(), is_plain, args).await
    }

    async fn start_on(port: Port, is_plain: bool, args: impl FnOnce(u16, &Path) -> Vec<String>) -> Self {
        let folder = Folder::new(K::PROGRAM);
        let args = args(port.number(), folder.path());
        let mut server = Self { args, is_plain, cli_args: Vec::new(), process: None, port, folder, kind: PhantomData };
        server.restart().await;
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where it listens; a name server over UDP too.
    pub fn socket(&self) -> SocketAddr {
        self.port.socket()
    }

    /// As it stands in configurations.
    pub fn address(&self) -> String {
        self.socket().to_string()
    }

    /// Kills it at once; connections are refused then.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops it where it stands: the kernel still takes connections and bytes for it, and nobody answers.
    pub async fn pause(&self) {
        self.signal("STOP");
        self.poll("it stops", async || self.threads().iter().all(|state| *state == 'T')).await;
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it if it runs, and starts it in its place; returns when it answers.
    pub async fn restart(&mut self) {
        self.kill();
        let mut process = self.spawn();
        let probe = if self.is_plain { K::PROBE } else { b"" };
        self.poll("it answers", async || {
            if !process.is_running() {
                let words = self.last_words();
                // A name server wants the UDP port of this number too, which may be somebody's for a moment.
                assert!(words.contains("Address already in use"), "{} ended: {words}", K::PROGRAM);
                process = self.spawn();
            }
            if probe.is_empty() {
                return TcpStream::connect(self.socket()).await.is_ok();
            }
            // Not without a question: memcached counts connections, and what says nothing it may count later.
            self.send(probe).await.is_some_and(|reply| !reply.starts_with(b"-LOADING"))
        })
        .await;
        self.process = Some(process);
    }

    fn spawn(&self) -> Process {
        let log = fs::File::create(self.log()).expect("a file");
        let mut command = Command::new(program(K::PROGRAM));
        command.args(&self.args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("another handle")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}: run `make tools`", K::PROGRAM));
        Process(child)
    }

    async fn poll(&self, what: &str, mut happened: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !happened().await {
            assert!(began.elapsed() < PATIENCE, "{}: in vain: {what}: {}", K::PROGRAM, self.last_words());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends bytes on a connection of their own, and returns the first reply as it came; nothing if none comes.
    async fn send(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.socket()).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut received = Vec::new();
        while stream.read_buf(&mut received).await.ok()? > 0 {
            if let Some(reply) = K::PROTOCOL.take_reply(&mut received) {
                return Some(reply.bytes);
            }
        }
        None
    }

    async fn ask(&self, request: &[u8]) -> Vec<u8> {
        let reply = tokio::time::timeout(PATIENCE, self.send(request)).await.ok().flatten();
        reply.unwrap_or_else(|| panic!("{} does not answer: {}", K::PROGRAM, self.last_words()))
    }

    fn signal(&self, name: &str) {
        self.running().signal(name);
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// The state of each of its threads.
    fn threads(&self) -> Vec<char> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.running().id())).expect("it runs");
        let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
        stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn last_words(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl RedisServer {
    /// The options of one that keeps nothing on the disk, and does not wait for more replicas before it serves one.
    pub(super) const EMPTY: [&str; 6] = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];

    /// Empty, keeping nothing on the disk, with more options.
    pub async fn start(extra_args: &[&str]) -> Self {
        Self::start_with(true, |port, _| {
            let port = port.to_string();
            let args = ["--bind", "127.0.0.1", "--port", &port];
            args.iter().chain(&Self::EMPTY).chain(extra_args).map(ToString::to_string).collect()
        })
        .await
    }

    /// The raw reply to one command on a connection of its own.
    pub async fn command(&self, parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
        self.ask(&resp_command(parts)).await
    }
}

/// A command as it is sent to Redis.
pub fn resp_command(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts.iter().map(AsRef::as_ref) {
        request.extend(format!("${}\r\n", part.len()).bytes().chain(part.iter().copied()).chain(*b"\r\n"));
    }
    request
}

impl MemcachedServer {
    /// Empty, with more options.
    pub async fn start(extra_args: &[&str]) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, 0, extra_args).await
    }

    /// The same at an address of the loopback net and a port of it; 0 is any free one.
    pub async fn start_at(ip: Ipv4Addr, port: u16, extra_args: &[&str]) -> Self {
        Self::start_on(Port::reserved_at(ip, port), true, |port, folder| {
            let (port, is_root) = (port.to_string(), fs::metadata(folder).expect("it is ours").uid() == 0);
            let root: &[&str] = if is_root { &["-u", "root"] } else { &[] };
            let args = ["-l", &ip.to_string(), "-p", &port];
            args.iter().chain(root).chain(extra_args).map(ToString::to_string).collect()
        })
        .await
    }

    /// The raw reply to one command, with its line ends, on a connection of its own.
    pub async fn command(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        self.ask(request.as_ref()).await
    }

    /// What it counts under a name, as `stats` tells it.
    pub async fn stat(&self, name: &str) -> usize {
        let text = String::from_utf8_lossy(&self.command("stats\r\n").await).into_owned();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '));
        let number = lines.find(|line| line.0 == name).and_then(|line| line.1.parse().ok());
        number.unwrap_or_else(|| panic!("no number {name} in {text}"))
    }

    /// All keys in it.
    pub async fn keys(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(self.socket()).await.expect("it runs");
        stream.write_all(b"lru_crawler metadump all\r\n").await.expect("it runs");
        let mut received = Vec::new();
        while !received.ends_with(b"END\r\n") {
            assert!(stream.read_buf(&mut received).await.expect("it answers") > 0, "it tells its keys");
        }
        let text = String::from_utf8(received).expect("keys are ASCII");
        let key = |line: &str| {
            let escaped = line.strip_prefix("key=")?.split(' ').next()?;
            Some(percent_encoding::percent_decode_str(escaped).decode_utf8_lossy().into_owned())
        };
        text.lines().filter_map(key).collect()
    }
}

/// What a name server knows.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A name and its addresses.
    Host(&'a str, &'a [IpAddr]),
    /// The name of a service, and a host and a port that offer it; one record for each of them.
    Service(&'a str, &'a str, u16),
    /// A line of dnsmasq's configuration, for what is neither.
    Line(&'a str),
}

impl DnsServer {
    /// Knows these.
    pub async fn start(records: &[Record<'_>]) -> Self {
        let write = |port, folder: &Path| {
            write_records(port, folder, records);
            vec!["--conf-file=conf".to_owned()]
        };
        Self::start_with(true, write).await
    }

    /// Knows only these from now on. It is away for a moment.
    pub async fn set(&mut self, records: &[Record<'_>]) {
        write_records(self.port(), self.folder.path(), records);
        self.restart().await;
    }
}

fn write_records(port: u16, folder: &Path, records: &[Record<'_>]) {
    let mut config = format!("port={port}\nlisten-address=127.0.0.1\nbind-interfaces\n");
    // In its mode for debugging it neither gives up rights nor forks for a question over TCP: killed, all of it is gone.
    config += "no-daemon\nlog-facility=-\nno-resolv\nno-hosts\nlocal=/#/\n";
    // Nothing that changes may wait for this.
    config += "local-ttl=3600\n";
    writeln!(config, "addn-hosts={}", folder.join("hosts").display()).expect("a text takes it");
    let mut hosts = String::new();
    for record in records {
        match record {
            Record::Host(name, addresses) => hosts.extend(addresses.iter().map(|ip| format!("{ip} {name}\n"))),
            Record::Service(name, host, port) => {
                writeln!(config, "srv-host={name},{host},{port}").expect("a text takes it");
            }
            Record::Line(line) => writeln!(config, "{line}").expect("a text takes it"),
        }
    }
    fs::write(folder.join("hosts"), hosts).expect("a file");
    fs::write(folder.join("conf"), config).expect("a file");
}

/// Gives a command a wall clock that is off by so many seconds. Its timers, which go by the monotonic clock, are not.
pub fn shift_clock(command: &mut Command, seconds: i64) {
    let libraries = fs::read_dir("/usr/lib").expect("it is there").filter_map(Result::ok);
    let library = libraries.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    command
        .env("LD_PRELOAD", library.expect("libfaketime is not there: run `make tools`"))
        .env("FAKETIME", format!("{seconds:+}"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// Where a program is: what serves is not on every user's PATH.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.exists()).unwrap_or_else(|| name.into())
}
