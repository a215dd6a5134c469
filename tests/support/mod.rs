//! Real servers for the tests: each on a free loopback port, in a folder of its own, stopped when it is dropped.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub mod caches;
pub mod faults;
pub mod frames;
pub mod gzip;
pub mod log;
pub mod nginx;
pub mod only_ipv4;
pub mod port;
pub mod querier;
pub mod recorded;
pub mod redis;
pub mod remote_write;
pub mod scripted;
pub mod victoriametrics;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;

use self::port::Port;

/// Starting a server may take this long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The end of the test data: 2024-02-11T00:00:00Z, in seconds. It begins ten days before.
pub const DATA_END: i64 = 1_707_609_600;
/// Its first instant.
pub const DATA_START: i64 = DATA_END - 10 * 86_400;

/// A child process that is killed and waited for when it goes out of scope.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Sends SIGTERM and waits for the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        if self.is_running() {
            self.signal("TERM");
        }
        self.0.wait().expect("it is our child").code()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.id().to_string()]).status().expect("kill is there");
        assert!(sent.success(), "process {} gets a {name}", self.id());
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is removed when it goes out of scope.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty one.
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("promfront-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("it is bound").port()
}

/// A real Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    folder: Folder,
    port: Port,
    flags: Vec<String>,
    /// `http://127.0.0.1:port`
    pub url: String,
}

impl Prometheus {
    /// With the test data.
    pub async fn with_test_data() -> Self {
        Self::start(Some(test_data()), &[]).await
    }

    /// Empty, and taking samples by remote write.
    pub async fn empty() -> Self {
        Self::start(None, &["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"]).await
    }

    /// With the blocks of a folder and more flags.
    pub async fn start(blocks: Option<&Path>, flags: &[&str]) -> Self {
        let (folder, port) = (Folder::new("prometheus"), Port::reserved());
        let data = folder.path().join("data");
        fs::create_dir_all(&data).expect("a folder");
        fs::write(folder.path().join("prometheus.yml"), "").expect("a file");
        if let Some(blocks) = blocks {
            let copied = Command::new("cp").arg("-r").arg(format!("{}/.", blocks.display())).arg(&data).status();
            assert!(copied.expect("cp is there").success(), "the blocks are copied");
        }
        let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
        let url = format!("http://127.0.0.1:{}", port.number());
        let mut process = Self::spawn(&folder, &port, &flags);
        wait_until_ready(&url, &mut process).await;
        Self { process, folder, port, flags, url }
    }

    fn spawn(folder: &Folder, port: &Port, flags: &[String]) -> Process {
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new("prometheus")
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .arg("--storage.tsdb.retention.time=100y")
            .args(flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        Process(child.expect("prometheus is not on the PATH: run `make tools`"))
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
    }

    /// Kills it if it runs, and starts it in its place with what it has on the disk; returns when it answers.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = Self::spawn(&self.folder, &self.port, &self.flags);
        wait_until_ready(&self.url, &mut self.process).await;
    }
}

async fn wait_until_ready(url: &str, process: &mut Process) {
    let (began, http) = (Instant::now(), Http::new());
    while !matches!(http.try_get(&format!("{url}/-/ready")).await, Some(answer) if answer.status.is_success()) {
        assert!(process.is_running(), "the server at {url} ended before it was ready");
        assert!(began.elapsed() < PATIENCE, "the server at {url} is not ready after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The blocks of the test data, made once and kept under `target/`.
pub fn test_data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let generator: Vec<u8> = ["demo/backfill.py", "demo/profile_test.py", "demo/series.py"]
            .iter()
            .flat_map(|file| fs::read(root.join(file)).expect("it is in the repository"))
            .collect();
        let name = format!("testdata-{:016x}", xxhash_rust::xxh3::xxh3_64(&generator));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if !folder.exists() {
            // Made beside its place and then moved there: another test program may be making it too.
            let unfinished = folder.with_extension(std::process::id().to_string());
            let made = Command::new("python3")
                .arg(root.join("demo/backfill.py"))
                .args([
                    "--profile",
                    "test",
                    "--days",
                    "10",
                    "--interval",
                    "60",
                    "--end",
                    &DATA_END.to_string(),
                    "--out",
                ])
                .arg(&unfinished)
                .stdout(Stdio::null())
                .status()
                .expect("python3 is there");
            assert!(made.success(), "the test data can be made");
            if fs::rename(&unfinished, &folder).is_err() {
                fs::remove_dir_all(&unfinished).expect("ours to remove");
            }
        }
        folder
    })
}

/// A promfront process.
#[derive(Debug)]
pub struct Promfront {
    process: Process,
    _folder: Folder,
    log: Arc<Mutex<Vec<String>>>,
    /// `http://127.0.0.1:port`
    pub url: String,
}

impl Promfront {
    /// In front of `downstream`, with the defaults.
    pub fn before(downstream: &str) -> Self {
        Self::configured(downstream, "")
    }

    /// In front of `downstream`, with a configuration file.
    pub fn configured(downstream: &str, yaml: &str) -> Self {
        Self::launched(downstream, yaml, |_| ())
    }

    /// The same, with more flags or in other surroundings.
    pub fn launched(downstream: &str, yaml: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new("promfront");
        let config = folder.path().join("promfront.yaml");
        fs::write(&config, yaml).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_promfront"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--downstream.url={downstream}"))
            .arg("--web.listen-address=127.0.0.1:0");
        prepare(&mut command);
        Self::running(folder, command)
    }

    /// With a configuration file of the test's own, which says everything and may change.
    pub fn of_file(file: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promfront"));
        command.arg(format!("--config.file={}", file.display())).arg("--web.listen-address=127.0.0.1:0");
        prepare(&mut command);
        Self::running(Folder::new("promfront"), command)
    }

    /// With flags alone.
    pub fn of_flags(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promfront"));
        command.arg("--web.listen-address=127.0.0.1:0").args(flags);
        Self::running(Folder::new("promfront"), command)
    }

    /// With the flags of Thanos's query-frontend.
    pub fn as_thanos(downstream: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_promfront"));
        command
            .arg("query-frontend")
            .arg(format!("--query-frontend.downstream-url={downstream}"))
            .arg("--http-address=127.0.0.1:0")
            .args(flags);
        Self::running(Folder::new("promfront"), command)
    }

    fn running(folder: Folder, mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("promfront was built");
        let stderr = child.stderr.take().expect("it is piped");
        let mut process = Process(child);
        let (tell, told) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        // The log is read to its end, so that the child never waits for us to read it.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                match line.split_once(" address=").filter(|_| line.contains(" msg=listening ")) {
                    Some((_, rest)) => drop(tell.send(rest.split(' ').next().unwrap_or_default().to_owned())),
                    None if line.contains("level=INFO") => {}
                    None => eprintln!("promfront: {line}"),
                }
                kept.lock().push(line);
            }
        });
        let address = told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("promfront did not begin to listen (running: {})", process.is_running());
        });
        Self { process, _folder: folder, log, url: format!("http://{address}") }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Tells it to load its configuration again.
    pub fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The lines that it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Lets it end in order, and everything else go on meanwhile.
    pub async fn stop(mut self) {
        self.process.signal("TERM");
        let began = Instant::now();
        while self.process.is_running() {
            assert!(began.elapsed() < PATIENCE, "promfront does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(self.process.terminate(), Some(0), "it ended in order");
    }

    /// Its metrics.
    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&Http::new().get(&format!("{}/metrics", self.url)).await.text())
    }
}

/// Scraped metrics: `name{labels}` to value.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// The sum of all samples of a metric whose text contains all of `parts`.
    pub fn sum(&self, name: &str, parts: &[&str]) -> f64 {
        let matching = self.0.iter().filter(|(key, _)| {
            key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && parts.iter().all(|part| key.contains(part))
        });
        matching.map(|(_, value)| value).sum()
    }

    /// All samples of a metric.
    pub fn all(&self, name: &str) -> Vec<(&str, f64)> {
        self.0.iter().filter(|(key, _)| key.starts_with(name)).map(|(key, value)| (key.as_str(), *value)).collect()
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text, unpacked if it is packed in the one way that a client may be sent; else a text that says how.
    pub fn plain(&self) -> String {
        let packed = flate2::read::GzDecoder::new(self.body.as_ref());
        match self.header("content-encoding") {
            "" | "identity" => self.text(),
            "gzip" => std::io::read_to_string(packed).unwrap_or_else(|error| panic!("no gzip: {error}")),
            other => format!("(packed as {other}, which not every client can read)"),
        }
    }

    /// What promfront says came of it.
    pub fn result(&self) -> &str {
        self.header("x-promfront-result")
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct Http(Client<HttpConnector, Body>);

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// With connections of its own.
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Sends a request; `None` if there is no whole answer.
    pub async fn try_send(&self, request: Request<Body>) -> Option<Answer> {
        let (head, body) = self.0.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    /// Sends a request that is answered.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|| panic!("no answer to {what}"))
    }

    /// GET, if it is answered.
    pub async fn try_get(&self, url: &str) -> Option<Answer> {
        self.try_send(Request::get(url).body(Body::empty()).expect("a sound URL")).await
    }

    /// GET.
    pub async fn get(&self, url: &str) -> Answer {
        self.send(Request::get(url).body(Body::empty()).expect("a sound URL")).await
    }

    /// POST of a form.
    pub async fn post(&self, url: &str, form: &str) -> Answer {
        let request = Request::post(url).header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).expect("a sound URL")).await
    }
}

/// A text as the value of a parameter.
pub fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// The parameters of a range query.
pub fn range_params(query: &str, start: &str, end: &str, step: &str) -> String {
    format!("query={}&start={}&end={}&step={}", escaped(query), escaped(start), escaped(end), escaped(step))
}

/// The lines of a corpus, without comments.
pub fn corpus(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(unescaped).collect()
}

/// The signs that stand for what a line cannot hold.
pub fn unescaped(line: &str) -> String {
    line.replace('⏎', "\n").replace('␍', "\r").replace('⇥', "\t").replace('␠', " ")
}

/// Polls until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Random numbers that a seed repeats.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From `PROMFRONT_SEED`, or a fixed one; printed, so that a failure can be repeated.
    pub fn seeded(name: &str) -> Self {
        let seed = std::env::var("PROMFRONT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_211);
        println!("{name}: PROMFRONT_SEED={seed}");
        Self(seed ^ 0x9E37_79B9_7F4A_7C15)
    }

    /// From a number.
    pub fn from(number: usize) -> Self {
        Self((number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// From the same seed for each name, so that each name has numbers of its own.
    pub fn named(name: &str) -> Self {
        Self(Self::seeded(name).0 ^ xxhash_rust::xxh3::xxh3_64(name.as_bytes()) | 1)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).expect("below a usize")
    }

    /// Puts items in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
