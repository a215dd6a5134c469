//! A cell of the matrix: two replicas of promfront, a shared tier that both reach through a proxy, and a fault.
//!
//! What is asked was taught to the shared tier by a replica that is gone, so that the answers of these come from there. Each
//! answer is held against the server's own; at the end the metrics must show that the tier was used before the fault, that
//! the fault was met, and that the tier is used again soon after it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::truth::{Truth, is_full, probe, questions};
use crate::support::caches::{MemcachedServer, RedisServer};
use crate::support::faults::{FaultProxy, Mode};
use crate::support::frames::Protocol;
use crate::support::{Answer, Http, Metrics, Promfront, until};

/// Hits are back after this at the latest.
pub const BACK_WITHIN: Duration = Duration::from_secs(15);
/// No answer waits longer than this for the shared tier, whatever it does.
const LOOKED_UP_WITHIN_MS: f64 = 5_000.0;
/// Or altogether, on a busy machine.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);
/// A fault has struck by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between looks whether something has happened that takes a while.
const PAUSE: Duration = Duration::from_millis(200);
/// A replica does not log more lines than this.
const MOST_LOG_LINES: usize = 20;

/// The server of a shared tier.
#[derive(Debug)]
pub enum Cache {
    /// A Redis.
    Redis(RedisServer),
    /// A memcached.
    Memcached(MemcachedServer),
    /// Several, which the test holds itself; the configuration that leads to them, and their name.
    Several(&'static str, String),
}

impl Cache {
    /// A Redis with more options.
    pub async fn redis(args: &[&str]) -> Self {
        Self::Redis(RedisServer::start(args).await)
    }

    /// A memcached with more options.
    pub async fn memcached(args: &[&str]) -> Self {
        Self::Memcached(MemcachedServer::start(args).await)
    }

    /// One of each.
    pub async fn both() -> [Self; 2] {
        [Self::redis(&[]).await, Self::memcached(&[]).await]
    }

    /// As it stands in a table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Memcached(_) => "memcached",
            Self::Several(name, _) => name,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Redis(server) => server.port(),
            Self::Memcached(server) => server.port(),
            Self::Several(..) => 1,
        }
    }

    /// A configuration that uses it by way of `port`.
    pub fn yaml(&self, port: u16) -> String {
        match self {
            Self::Redis(_) => redis_yaml(&format!("url: redis://127.0.0.1:{port}")),
            Self::Memcached(_) => memcached_yaml(&format!("addresses: [\"127.0.0.1:{port}\"]")),
            Self::Several(_, yaml) => yaml.clone(),
        }
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        match self {
            Self::Redis(server) => server.kill(),
            Self::Memcached(server) => server.kill(),
            Self::Several(..) => panic!("the test holds them itself"),
        }
    }

    /// Starts it again, empty.
    pub async fn restart(&mut self) {
        match self {
            Self::Redis(server) => server.restart().await,
            Self::Memcached(server) => server.restart().await,
            Self::Several(..) => panic!("the test holds them itself"),
        }
    }

    /// Stops it where it stands.
    pub async fn pause(&self) {
        match self {
            Self::Redis(server) => server.pause().await,
            Self::Memcached(server) => server.pause().await,
            Self::Several(..) => panic!("the test holds them itself"),
        }
    }

    /// Lets it go on.
    pub fn resume(&self) {
        match self {
            Self::Redis(server) => server.resume(),
            Self::Memcached(server) => server.resume(),
            Self::Several(..) => panic!("the test holds them itself"),
        }
    }

    /// The pages that lie in it, in the order of their keys.
    pub async fn pages(&self) -> Vec<(String, Vec<u8>)> {
        let mut pages = Vec::new();
        for key in self.keys().await.into_iter().filter(|key| !key.contains("purges")) {
            let value = self.get(&key).await;
            pages.extend(value.map(|value| (key, value)));
        }
        pages.sort();
        pages
    }

    /// All keys of promfront's.
    pub async fn keys(&self) -> Vec<String> {
        match self {
            Self::Redis(server) => {
                let mut reply = server.command(&["KEYS", "promfront:*"]).await;
                let reply = Protocol::Resp.take_reply(&mut reply).expect("a whole reply");
                reply.values().map(|key| String::from_utf8(key.to_vec()).expect("keys are ASCII")).collect()
            }
            Self::Memcached(server) => server.keys().await,
            Self::Several(..) => panic!("the test holds them itself"),
        }
    }

    /// The value under a key.
    pub async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let (protocol, mut reply) = match self {
            Self::Redis(server) => (Protocol::Resp, server.command(&["GET", key]).await),
            Self::Memcached(server) => (Protocol::Memcached, server.command(format!("get {key}\r\n")).await),
            Self::Several(..) => panic!("the test holds them itself"),
        };
        let reply = protocol.take_reply(&mut reply).expect("a whole reply");
        reply.values().next().map(<[u8]>::to_vec)
    }

    /// Puts a value under a key.
    pub async fn put(&self, key: &str, value: &[u8]) {
        match self {
            Self::Redis(server) => {
                let stored = server.command(&[b"SET", key.as_bytes(), value, b"PX", b"600000"]).await;
                assert_eq!(stored, b"+OK\r\n");
            }
            Self::Memcached(server) => {
                let head = format!("set {key} 0 600 {}\r\n", value.len());
                let stored = server.command([head.as_bytes(), value, b"\r\n"].concat()).await;
                assert_eq!(stored, b"STORED\r\n");
            }
            Self::Several(..) => panic!("the test holds them itself"),
        }
    }
}

/// A configuration with a Redis.
pub fn redis_yaml(options: &str) -> String {
    remote_yaml("redis", options)
}

/// A configuration with memcached.
pub fn memcached_yaml(options: &str) -> String {
    remote_yaml("memcached", options)
}

fn remote_yaml(kind: &str, options: &str) -> String {
    format!("cache:\n  remote:\n    namespace: test\n    {kind}:\n      {}\n", options.replace('\n', "\n      "))
}

/// What shows that a fault was met.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    /// Pages were not read for this reason.
    Miss(&'static str),
    /// For one of these.
    MissOf(&'static [&'static str]),
    /// Pages were not written, with this result.
    Written(&'static str),
    /// A server is left alone: it has no connection, or its breaker is open.
    LeftAlone,
}

impl Sign {
    fn count(self, metrics: &Metrics) -> f64 {
        match self {
            Self::Miss(reason) => misses(metrics, reason),
            Self::MissOf(reasons) => reasons.iter().map(|reason| misses(metrics, reason)).sum(),
            Self::Written(result) => written(metrics, result),
            Self::LeftAlone => misses(metrics, "breaker") + misses(metrics, "unavailable"),
        }
    }
}

/// Slots of which the shared tier had all or some of what was missing.
pub fn hits(metrics: &Metrics) -> f64 {
    let of = |outcome| metrics.sum("promfront_cache_slots_total", &["tier=\"remote\"", outcome]);
    of("outcome=\"hit\"") + of("outcome=\"partial\"")
}

/// Pages that were not read for this reason.
pub fn misses(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum("promfront_cache_misses_total", &["tier=\"remote\"", &format!("reason=\"{reason}\"")])
}

/// Pages to be written of which this became.
pub fn written(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("promfront_cache_remote_writes_total", &[&format!("result=\"{result}\"")])
}

/// Asks a replica for what nobody knows until it looks into the shared tier.
pub async fn in_use(promfront: &Promfront) {
    let (http, mut number) = (Http::new(), 1_000_000 * promfront.id() as usize);
    until("the shared tier is in use", async || {
        number += 1;
        http.get(&format!("{}/api/v1/query_range?{}", promfront.url, probe(number))).await;
        tokio::time::sleep(PAUSE / 2).await;
        misses(&promfront.metrics().await, "absent") > 0.5
    })
    .await;
}

/// Requests that went downstream.
pub fn asked_downstream(metrics: &Metrics) -> f64 {
    metrics.sum("promfront_downstream_requests_total", &[])
}

/// How long an answer waited for the cache, as it says itself; nothing if it passed whole.
fn lookup_ms(answer: &Answer) -> f64 {
    let timing = answer.header("server-timing").split_once("cache;dur=");
    timing.and_then(|(_, rest)| rest.split(';').next()?.parse().ok()).unwrap_or(0.0)
}

/// Batches of reading that took as long as they might, or nearly.
fn slow_reads(metrics: &Metrics) -> f64 {
    let of = |name, part| metrics.sum(name, &["operation=\"read\"", part]);
    of("promfront_cache_remote_duration_seconds_count", "")
        - of("promfront_cache_remote_duration_seconds_bucket", "le=\"0.02\"")
}

/// Whether what the shared tier held is still there when a fault is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is.
    Kept,
    /// It is not, or not all of it.
    Lost,
}

/// A cell.
#[derive(Debug)]
pub struct Cell {
    name: String,
    truth: Arc<Truth>,
    http: Http,
    /// What is asked before, during and after the fault.
    pub questions: [Vec<String>; 3],
    /// The server of the shared tier.
    pub cache: Cache,
    /// What stands before it.
    pub proxy: FaultProxy,
    /// The configuration of the replicas.
    pub yaml: String,
    /// One that is watched, and one that writes what the other has not seen.
    pub replicas: Vec<Promfront>,
    probes: usize,
    asked: AtomicUsize,
    report: String,
}

impl Cell {
    /// A cell whose shared tier has been taught what will be asked. No replica runs yet.
    pub async fn taught(name: &str, cache: Cache) -> Self {
        let cell = Self::untaught(name, cache).await;
        let yaml = cell.cache.yaml(cell.cache.port());
        cell.taught_by(&yaml).await
    }

    /// A cell with nothing in its shared tier.
    pub async fn untaught(name: &str, cache: Cache) -> Self {
        let proxy = FaultProxy::before(cache.port()).await;
        let yaml = cache.yaml(proxy.port());
        Self {
            name: format!("{name} ({})", cache.name()),
            truth: Truth::shared().await,
            http: Http::new(),
            questions: questions(&format!("{name} {}", cache.name())),
            cache,
            proxy,
            yaml,
            replicas: Vec::new(),
            probes: 0,
            asked: AtomicUsize::new(0),
            report: String::new(),
        }
    }

    /// Has a replica with this configuration ask everything, write what it learnt, and end.
    pub async fn taught_by(mut self, yaml: &str) -> Self {
        let yaml = std::mem::replace(&mut self.yaml, yaml.to_owned());
        // What is learnt while the tier is not in use yet is written only when it is looked at again.
        let teacher = self.start_one(PATIENCE).await;
        self.yaml = yaml;
        for phase in &self.questions {
            self.all_same(&teacher, phase).await;
        }
        teacher.stop().await;
        self
    }

    /// The URL of the server itself.
    pub fn downstream(&self) -> &str {
        self.truth.url()
    }

    /// Starts the two replicas, with nothing in their first tiers.
    pub fn start_replicas(&mut self) {
        self.replicas = (0..2).map(|_| Promfront::configured(self.truth.url(), &self.yaml)).collect();
    }

    /// Starts one, and has it learn something new until it uses the shared tier, or for so long.
    pub async fn start_one(&mut self, patience: Duration) -> Promfront {
        let (replica, began) = (Promfront::configured(self.truth.url(), &self.yaml), Instant::now());
        loop {
            self.probes += 1;
            self.same(&replica, &probe(self.probes)).await;
            if misses(&replica.metrics().await, "absent") > 0.5 || began.elapsed() > patience {
                return replica;
            }
            tokio::time::sleep(PAUSE / 2).await;
        }
    }

    /// The replica that is watched.
    pub fn reader(&self) -> &Promfront {
        &self.replicas[0]
    }

    /// Questions that nobody has asked yet.
    pub fn fresh_questions(&mut self) -> Vec<String> {
        self.probes += 20;
        (self.probes - 19..=self.probes).map(probe).collect()
    }

    /// Asks a replica, and holds its answer against the server's own.
    pub async fn same(&self, promfront: &Promfront, params: &str) -> Answer {
        let (answer, problem) = self.compare(promfront, params).await;
        assert!(problem.is_none(), "{}: {}", self.name, problem.unwrap_or_default());
        answer
    }

    async fn compare(&self, promfront: &Promfront, params: &str) -> (Answer, Option<String>) {
        let want = self.truth.answer(&self.http, params).await;
        let url = format!("{}/api/v1/query_range?{params}", promfront.url);
        let got = tokio::time::timeout(ANSWERED_WITHIN, self.http.get(&url)).await;
        let got = got.unwrap_or_else(|_| panic!("{}: no answer within {ANSWERED_WITHIN:?}: {params}", self.name));
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (looked_up_ms, most_ms) = (lookup_ms(&got), LOOKED_UP_WITHIN_MS);
        assert!(looked_up_ms < most_ms, "{}: {looked_up_ms} ms were spent on the cache: {params}", self.name);
        let is_same = (got.status, &got.body) == (want.status, &want.body);
        let problem = (!is_same).then(|| {
            let bytes = got.body.iter().zip(&want.body).take_while(|(a, b)| a == b).count();
            format!("{params}: {} instead of {}, differs at byte {bytes}: {}", got.status, want.status, got.result())
        });
        (got, problem)
    }

    /// Asks a replica all of these, some at the same time.
    pub async fn all_same(&self, promfront: &Promfront, questions: &[String]) {
        let answers = futures::stream::iter(questions).map(|params| self.compare(promfront, params));
        let problems: Vec<_> = answers.buffer_unordered(4).filter_map(async |(_, problem)| problem).collect().await;
        let first = problems.first().cloned().unwrap_or_default();
        assert!(problems.is_empty(), "{}: {} of {} differ: {first}", self.name, problems.len(), questions.len());
    }

    /// One replica learns something new; whether the other one then has it from the shared tier.
    pub async fn is_shared(&mut self) -> bool {
        self.probes += 1;
        let params = probe(self.probes);
        let [reader, writer] = self.replicas.as_slice() else { panic!("two replicas") };
        let before = written(&writer.metrics().await, "stored");
        self.same(writer, &params).await;
        let began = Instant::now();
        while written(&writer.metrics().await, "stored") < before + 0.5 {
            if began.elapsed() > Duration::from_millis(300) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let before = hits(&reader.metrics().await);
        self.same(reader, &params).await;
        hits(&reader.metrics().await) > before + 0.5
    }

    /// Polls until the replicas share what they learn; how long that took.
    pub async fn until_shared(&mut self, patience: Duration) -> Duration {
        let began = Instant::now();
        while !self.is_shared().await {
            assert!(began.elapsed() < patience, "{}: no hits after {:?}", self.name, began.elapsed());
            tokio::time::sleep(PAUSE).await;
        }
        began.elapsed()
    }

    /// What is for one phase, and some of what was asked before.
    fn for_phase(&self, phase: usize) -> Vec<String> {
        let again = phase.checked_sub(1).map_or(&[][..], |before| &self.questions[before]);
        self.questions[phase].iter().chain(again.iter().step_by(5)).cloned().collect()
    }

    /// Asks what is for one phase; so many slots were found in the shared tier.
    pub async fn ask_phase(&self, phase: usize) -> f64 {
        let questions = self.for_phase(phase);
        let before = hits(&self.reader().metrics().await);
        self.all_same(self.reader(), &questions).await;
        hits(&self.reader().metrics().await) - before
    }

    /// Before the fault: the shared tier is in use, and has what was taught.
    pub async fn begin(&mut self) {
        self.start_replicas();
        self.until_shared(PATIENCE).await;
        let hits = self.ask_phase(0).await;
        assert!(hits > 0.5, "{}: nothing came out of the shared tier", self.name);
        self.note(format_args!("{hits} hits"));
    }

    /// During the fault: the answers are right, and the fault is met.
    pub async fn suffer(&mut self, signs: &[Sign]) {
        self.suffer_with(&self.for_phase(1), signs).await;
    }

    /// The same with questions of the test's.
    pub async fn suffer_with(&mut self, questions: &[String], signs: &[Sign]) {
        let (before, began) = (self.counts(signs).await, Instant::now());
        let slow = slow_reads(&self.reader().metrics().await);
        self.all_same(self.reader(), questions).await;
        loop {
            let now = self.counts(signs).await;
            if now.iter().zip(&before).all(|(now, before)| *now > before + 0.5) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{}: not all of {signs:?} within {PATIENCE:?}", self.name);
            tokio::time::sleep(PAUSE / 2).await;
            self.is_shared().await;
        }
        let slow = slow_reads(&self.reader().metrics().await) - slow;
        let met: Vec<_> = self.counts(signs).await.iter().zip(before).map(|(now, before)| now - before).collect();
        self.note(format_args!("met {met:?}, {slow} slow reads"));
        if signs.iter().any(|sign| matches!(sign, Sign::LeftAlone)) {
            // Ten in a row open the breaker; four clients and four writers may be under way then, and each ten seconds there
            // is a probe.
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let most = 18.0 + 2.0 * (began.elapsed().as_secs() / 10 + 1) as f64;
            assert!(slow <= most, "{}: {slow} reads were waited for", self.name);
        }
    }

    async fn counts(&self, signs: &[Sign]) -> Vec<f64> {
        let mut counts = vec![0.0; signs.len()];
        for replica in &self.replicas {
            let metrics = replica.metrics().await;
            for (count, sign) in counts.iter_mut().zip(signs) {
                *count += sign.count(&metrics);
            }
        }
        counts
    }

    /// After the fault: the shared tier is soon in use again.
    pub async fn recover(&mut self, afterwards: Afterwards) {
        let took = self.until_shared(BACK_WITHIN).await;
        self.note(format_args!("back after {took:.1?}"));
        if afterwards == Afterwards::Lost {
            // What was lost is learnt again, and written.
            self.all_same(&self.replicas[1], &self.questions[2]).await;
            self.replicas.remove(1).stop().await;
            self.replicas.push(Promfront::configured(self.truth.url(), &self.yaml));
        }
        let hits = self.ask_phase(2).await;
        assert!(hits > 0.5, "{}: nothing came out of the shared tier afterwards", self.name);
        self.note(format_args!("{hits} hits"));
    }

    /// Nobody logged much. Prints what the cell was like.
    pub fn end(&mut self) {
        let lines = self.replicas.iter().map(|replica| replica.log().len()).max().unwrap_or(0);
        let log = || self.replicas.iter().flat_map(Promfront::log).collect::<Vec<_>>().join("\n");
        assert!(lines <= MOST_LOG_LINES, "{}: {lines} lines in a log:\n{}", self.name, log());
        let asked = self.asked.load(Ordering::Relaxed);
        println!("cell {}: {asked} answers, 0 differ; {}; {lines} log lines", self.name, self.report);
        assert!(!is_full() || asked >= 1000, "{}: {asked} answers", self.name);
    }

    /// The same of a cell in which other things are asked.
    pub fn end_of_few(&mut self) {
        let asked = self.asked.load(Ordering::Relaxed);
        println!("cell {}: {asked} answers, 0 differ; {}", self.name, self.report);
    }

    /// Says something about the cell.
    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let comma = if self.report.is_empty() { "" } else { ", " };
        write!(self.report, "{comma}{what}").expect("a text takes it");
    }

    /// Sets the proxy's mode.
    pub async fn set(&mut self, mode: Mode) {
        self.proxy.set(mode).await;
    }
}

/// The shape of a cell: what was taught is asked before, during and after a fault.
pub async fn cell(
    name: &str,
    cache: Cache,
    inject: impl AsyncFnOnce(&mut Cell),
    signs: &[Sign],
    heal: impl AsyncFnOnce(&mut Cell),
    afterwards: Afterwards,
) {
    let mut cell = Cell::taught(name, cache).await;
    cell.begin().await;
    inject(&mut cell).await;
    cell.suffer(signs).await;
    heal(&mut cell).await;
    cell.recover(afterwards).await;
    cell.end();
}

/// Runs cells at the same time; one after the other where each asks everything.
pub async fn together<'c>(cells: impl IntoIterator<Item = futures::future::LocalBoxFuture<'c, ()>>) {
    let at_once = if is_full() { 1 } else { 10 };
    futures::stream::iter(cells).buffer_unordered(at_once).collect::<()>().await;
}
