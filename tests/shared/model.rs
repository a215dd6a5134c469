//! The server behind, and replicas before it: real caches, and the pipeline's decisions around them.
//!
//! The server is a function of query, instant and time whose data changes until it is as old as the freshness window; or it
//! says with each sample when it was asked, so that an answer shows how old it is.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use promfront::cache::extent::Lifetimes;
use promfront::cache::key::{Identity, Slots};
use promfront::cache::layer::{CacheKey, ExtentCache};
use promfront::cache::plan::assemble;
use promfront::cache::shared::SharedTier;
use promfront::cache::store::Store;
use promfront::config;
use promfront::merge::{merge_annotations, merge_series};
use promfront::metrics::{Metrics, MissLabels, Word};
use promfront::model::grid::StepGrid;
use promfront::model::params::Params;
use promfront::model::response::Piece;
use promfront::model::tenant::TenantId;
use promfront::model::time::{Step, Timestamp};
use promfront::model::whole::Packing;
use promfront::promql;
use promfront::request::PlannedQuery;
use promfront::split::plan::{SplitPolicy, plan_parts};
use promfront::wire::body::Writer;
use promfront::wire::request::read_range_query;
use promfront::wire::response::scan;

use super::store::{Door, Items};

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
/// When the histories begin: a midnight. It lies ahead of the wall clock, by which each replica's own exchange of rules
/// (every five seconds) forgets the old ones: here only the tests' clock does.
pub const EPOCH_MS: i64 = 40_000 * DAY;

pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

pub fn span(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).expect("a length is not negative"))
}

pub fn grid(start_ms: i64, step_ms: i64, end_ms: i64) -> StepGrid {
    StepGrid::new(at(start_ms), Step::from_ms(step_ms).expect("a step"), at(end_ms)).expect("a grid")
}

pub fn mix(numbers: &[i64]) -> u64 {
    numbers.iter().fold(0x9E37_79B9_7F4A_7C15, |hash, &number| {
        let hash = (hash ^ number.cast_unsigned()).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (hash ^ (hash >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ (hash >> 32)
    })
}

/// Whether the environment asks for more than usual.
pub fn is_thorough() -> bool {
    std::env::var_os("PROPTEST_CASES").is_some()
}

/// One thread, and one more for what blocks (see [`Items::settle`]).
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .expect("a runtime can be built")
}

// The server.

/// What a sample's value says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speech {
    /// What the data says.
    Data,
    /// When it was asked.
    Stamp,
}

/// A server whose data at `d` exists from `d` on and changes once more at most one freshness window later.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub now_ms: i64,
    pub settles_within_ms: i64,
    pub speech: Speech,
}

/// Queries, and the latest data that each reads at `t`.
pub const QUERIES: [&str; 7] =
    ["up", "up offset -7m", "up offset 1h", "max_over_time(up[2h])", "up @ 3455996400", "noisy", "nothing"];

fn latest_read(text: &str, t: i64) -> i64 {
    match text {
        "up offset -7m" => t + 7 * MINUTE,
        "up offset 1h" => t - HOUR,
        "up @ 3455996400" => 3_455_996_400_000,
        _ => t,
    }
}

const METRICS: [&str; 4] = [
    r#"{"__name__":"up","job":"a"}"#,
    r#"{"__name__":"up","job":"a\"]},[0,\"1\"]"}"#,
    r#"{"__name__":"up","job":"é\u00ff"}"#,
    r#"{"__name__":"up","zone":"1"}"#,
];

impl Server {
    /// The body of its answer to `text` at each instant of `grid`.
    pub fn body(&self, text: &str, grid: &StepGrid) -> Bytes {
        let mut body = String::from(r#"{"status":"success","data":{"resultType":"matrix","result":["#);
        let mut is_first = true;
        for (number, metric) in (0..).zip(METRICS) {
            let (mut floats, mut histograms) = (String::new(), String::new());
            for t in grid.instants() {
                let Some((is_histogram, value)) = self.sample(text, number, t.ms()) else { continue };
                let list = if is_histogram { &mut histograms } else { &mut floats };
                let comma = if list.is_empty() { "" } else { "," };
                write!(list, "{comma}[{t},{value}]").expect("a String takes every write");
            }
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            write!(body, r#"{}{{"metric":{metric}"#, if is_first { "" } else { "," }).expect("a String takes all");
            is_first = false;
            for (kind, list) in [("values", floats), ("histograms", histograms)] {
                if !list.is_empty() {
                    write!(body, r#","{kind}":[{list}]"#).expect("a String takes every write");
                }
            }
            body.push('}');
        }
        body.push_str("]}");
        if text == "noisy" {
            annotate(&mut body, grid);
        }
        body.push('}');
        Bytes::from(body)
    }

    fn sample(&self, text: &str, series: i64, t: i64) -> Option<(bool, String)> {
        let read = latest_read(text, t);
        if text == "nothing" || read > self.now_ms {
            return None;
        }
        if self.speech == Speech::Stamp {
            return (series == 0).then(|| (false, format!("\"{}\"", self.now_ms)));
        }
        let settled_at = read + (mix(&[read]) % (self.settles_within_ms.unsigned_abs() + 1)).cast_signed();
        let value = mix(&[series, t, read, i64::from(self.now_ms >= settled_at)]);
        let block = t.div_euclid(47 * MINUTE);
        if mix(&[series, block]).is_multiple_of(4) || value.is_multiple_of(13) {
            return None;
        }
        let is_histogram = mix(&[series, block / 3, 1]).is_multiple_of(3);
        let count = value % 1000;
        let value = match (is_histogram, count % 5) {
            (true, 0) => r#"{"count":"0","sum":"0"}"#.to_owned(),
            (true, _) => format!(r#"{{"count":"{count}","sum":"1.5","buckets":[[1,"-0.5","0.5","{count}"]]}}"#),
            (false, 0) => "\"NaN\"".to_owned(),
            (false, 1) => format!("\"-{count}e-07\""),
            (false, _) => format!("\"{count}\""),
        };
        Some((is_histogram, value))
    }
}

/// Some blocks of time have something to say.
fn annotate(body: &mut String, grid: &StepGrid) {
    let mut said: [Vec<String>; 2] = Default::default();
    for t in grid.instants() {
        let block = t.ms().div_euclid(40 * MINUTE);
        let (speaks, kind) = (mix(&[block]).is_multiple_of(3), usize::from(mix(&[block, 2]).is_multiple_of(2)));
        let word = format!(r#""PromQL {}: \"{}\" (1:5)""#, ["warning", "info"][kind], mix(&[block, 3]) % 4);
        if speaks && !said[kind].contains(&word) {
            said[kind].push(word);
        }
    }
    for (kind, words) in ["warnings", "infos"].iter().zip(said) {
        if !words.is_empty() {
            write!(body, r#","{kind}":[{}]"#, words.join(",")).expect("a String takes every write");
        }
    }
}

// What stands before it.

/// What the operator of a replica has set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub policy: SplitPolicy,
    pub lifetimes: Lifetimes,
    pub freshness_ms: i64,
    /// The longest item of the store.
    pub longest: usize,
    /// How much the first tier holds.
    pub memory_bytes: u64,
    /// How much may wait to be written.
    pub queued_bytes: u64,
    /// The form of the replica's entries.
    pub version: u8,
}

/// As shipped.
pub fn usual() -> Settings {
    Settings {
        policy: SplitPolicy { interval_ms: DAY, max_parts: 64 },
        lifetimes: Lifetimes {
            ttl: span(7 * DAY),
            out_of_order_window: Duration::ZERO,
            out_of_order_ttl: span(10 * MINUTE),
        },
        freshness_ms: 10 * MINUTE,
        longest: 1 << 20,
        memory_bytes: 1 << 30,
        queued_bytes: 64 << 20,
        version: promfront::cache::codec::VERSION,
    }
}

/// A client's request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub text: &'static str,
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Request {
    /// `up`, each minute from so many minutes after the epoch to so many.
    pub fn up(from_minute: i64, to_minute: i64) -> Self {
        let (start_ms, end_ms) = (EPOCH_MS + from_minute * MINUTE, EPOCH_MS + to_minute * MINUTE);
        Self { text: "up", start_ms, end_ms, step_ms: MINUTE }
    }

    pub fn grid(&self) -> StepGrid {
        grid(self.start_ms, self.step_ms, self.end_ms)
    }
}

/// What came of a request.
#[derive(Debug)]
pub struct Outcome {
    pub body: Vec<u8>,
    /// What was asked of the server.
    pub parts: Vec<StepGrid>,
    /// So many instants of it were final.
    pub final_fetched: u64,
    /// So many instants were held.
    pub held: u64,
}

/// A request that was read.
pub struct Asked {
    pub planned: PlannedQuery,
    pub key: CacheKey,
}

/// Reads a request as the pipeline does.
pub fn read(request: &Request, settings: &Settings) -> Asked {
    let (start, end, step) = (at(request.start_ms), at(request.end_ms), at(request.step_ms));
    let text = utf8_percent_encode(request.text, NON_ALPHANUMERIC);
    let parameters = format!("query={text}&start={start}&end={end}&step={step}");
    let query = Params::read(Some(&parameters), None).and_then(read_range_query).expect("a range query");
    let facts = promql::read(query.text()).expect("a query that is understood");
    assert_eq!(facts.whole_range(request.step_ms, 0), None, "{} may be cut", request.text);
    let pinned = facts.pin(query.text(), query.grid.start().ms(), query.end.ms()).into_owned();
    let slots = Slots::new(&query.grid, settings.policy.interval_ms);
    let scope = ("data", &TenantId::anonymous(), "/api/v1/query_range");
    let identity = Identity::new(scope, &query, &pinned, slots, &[]);
    Asked { planned: PlannedQuery { query, facts: facts.into(), pinned }, key: CacheKey { identity, slots } }
}

/// A promfront without its door and its downstream.
pub struct Replica {
    pub cache: ExtentCache,
    pub door: Arc<Door>,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
}

impl Replica {
    /// One that has just started, and has not read the rules.
    pub fn new(settings: Settings, items: &Arc<Items>) -> Self {
        let (door, metrics) = (Door::new(items, settings.longest), Arc::new(Metrics::new()));
        let store: Arc<dyn Store> = Arc::<Door>::clone(&door);
        let tier = SharedTier {
            version: settings.version,
            ..SharedTier::new(store, span(50), settings.queued_bytes, "data".into())
        };
        let options = config::Cache {
            memory: config::Memory { max_bytes: settings.memory_bytes },
            freshness: span(settings.freshness_ms),
            ttl: settings.lifetimes.ttl,
            out_of_order_window: settings.lifetimes.out_of_order_window,
            out_of_order_ttl: settings.lifetimes.out_of_order_ttl,
            ..config::Cache::default()
        };
        let cache = ExtentCache::new(&options, Some(tier), Arc::clone(&metrics));
        Self { cache, door, metrics, settings }
    }

    /// One that has read the rules.
    pub async fn start(settings: Settings, items: &Arc<Items>, now_ms: i64) -> Self {
        let replica = Self::new(settings, items);
        replica.exchange(now_ms).await;
        replica
    }

    /// Reads the rules and tells its own; whether all who could be told were.
    pub async fn exchange(&self, now_ms: i64) -> bool {
        self.cache.tell_purges(at(now_ms)).await.expect("there is a shared tier")
    }

    /// Answers as the pipeline does.
    pub async fn answer(&self, request: &Request, now_ms: i64, server: &Server) -> Outcome {
        let (asked, now) = (read(request, &self.settings), at(now_ms));
        let query = &asked.planned.query;
        let lookup = self.cache.look_up(&asked.key, &asked.planned, now).await;
        let widest = asked.planned.facts.widest_range_ms();
        let parts = plan_parts(&lookup.missing, widest, &self.settings.policy);
        let held = lookup.held.iter().map(|piece| piece.grid.len()).sum();
        let (mut fetched, mut final_fetched) = (Vec::new(), 0);
        for part in &parts {
            let body = server.body(request.text, part);
            let answer = scan(&body, part).unwrap_or_else(|refused| panic!("{refused}: {}", shown(&body)));
            self.cache.keep(&asked.key, &asked.planned, &Arc::new(answer.clone()), false, now);
            final_fetched += self.cache.finals(&asked.planned, part, now).map_or(0, |finals| finals.len());
            fetched.push(Piece { grid: *part, answer: Arc::new(answer) });
        }
        let pieces = assemble(lookup.held, fetched);
        let whole = pieces.iter().map(|piece| piece.grid).reduce(|whole, next| whole.join(&next).expect("no gap"));
        assert_eq!(whole, Some(query.grid), "the pieces cover the grid");
        let mut writer = Writer::new(Packing::Plain);
        merge_series(&pieces, |series| writer.series(series));
        let annotations = merge_annotations(&pieces, None).expect("none of them counts");
        Outcome { body: writer.finish(&annotations, None), parts, final_fetched, held }
    }

    /// Answers, and panics unless it is the server's own answer to the whole.
    pub async fn answer_rightly(&self, request: &Request, now_ms: i64) -> Outcome {
        self.answer_behind(request, now_ms, now_ms).await
    }

    /// The same where the replica's clock shows another time than the server's.
    pub async fn answer_behind(&self, request: &Request, now_ms: i64, server_ms: i64) -> Outcome {
        let settles_within_ms = self.settings.freshness_ms;
        let server = Server { now_ms: server_ms, settles_within_ms, speech: Speech::Data };
        let outcome = self.answer(request, now_ms, &server).await;
        let whole = server.body(request.text, &request.grid());
        let (ours, theirs) = (shown(&outcome.body), shown(&whole));
        assert!(outcome.body == whole, "{request:?} at {now_ms}, server at {server_ms}\n{ours}\nnot\n{theirs}");
        outcome
    }

    /// How often the shared tier did not have what was wanted for this reason.
    pub fn misses(&self, reason: &'static str) -> u64 {
        self.metrics.cache_misses.get_or_create(&MissLabels { tier: Word("remote"), reason: Word(reason) }).get()
    }
}

pub fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).replace("{\"metric\"", "\n{\"metric\"")
}

/// Each sample of an answer of a server that stamps: its instant, and when it was fetched.
pub fn stamps(body: &[u8], grid: &StepGrid) -> Vec<(i64, i64)> {
    let answer = scan(&Bytes::copy_from_slice(body), grid).expect("what is written can be read");
    let matrix = answer.matrix.unpacked();
    let Some(series) = matrix.series().first() else { return Vec::new() };
    let points = std::str::from_utf8(matrix.bytes(series.floats)).expect("text");
    let point = |text: &str| {
        let (t, stamp) = text.split_once(",\"").expect("a point");
        let t = Timestamp::parse_sample(t.as_bytes()).expect("a time").ms();
        (t, stamp.trim_end_matches(['"', ']']).parse().expect("a stamp"))
    };
    points.trim_start_matches('[').split(",[").map(point).collect()
}

/// Panics if a sample was kept before it was final, or is served after its end of life.
pub fn check_stamps(body: &[u8], request: &Request, now_ms: i64, settings: &Settings) {
    let lifetimes = &settings.lifetimes;
    for (t, stamp) in stamps(body, &request.grid()) {
        let age = at(now_ms).since(at(stamp));
        if age.is_zero() {
            continue;
        }
        let latest = latest_read(request.text, t).max(t);
        assert!(latest <= stamp - settings.freshness_ms, "{request:?}: {t} was kept at {stamp} before it was final");
        assert!(age < lifetimes.ttl, "{request:?}: {t} of {stamp} is served at {now_ms}");
        let is_late = latest > at(stamp).before(lifetimes.out_of_order_window).ms();
        let is_unsettled = is_late && !lifetimes.out_of_order_window.is_zero();
        assert!(!is_unsettled || age < lifetimes.out_of_order_ttl, "{request:?}: {t} of {stamp} is served at {now_ms}");
    }
}
