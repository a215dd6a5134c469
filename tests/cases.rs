//! Wrong answers that users of other caching proxies have met, each by its number (C1 to C96; `README.md` has the
//! table).
//!
//! Need: the differential suite is broad, but whether it meets one of these in the state that hurts is chance. Rule:
//! a case brings the cache into the state in which others failed, shows by `X-Promfront-Result` that it is in it, and
//! compares bytes with the server itself: a real Prometheus, or a model of one where the requests have to be watched.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use promfront::model::time::Timestamp;
use support::remote_write::{Sample, Series, write};
use support::scripted::{Asked, Scripted, ok, with_head};
use support::{Answer, DATA_START, Http, Prometheus, Promfront, Random, escaped};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The midnight in the middle of the test data, where some of its series end and others begin.
const MIDNIGHT: i64 = (DATA_START + 5 * 86_400) * SECOND;

/// What a range query asks for, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    start: i64,
    end: i64,
    step: i64,
}

const fn window(start: i64, end: i64, step: i64) -> Window {
    Window { start, end, step }
}

impl Window {
    /// So many steps more on either side.
    fn widened(self, steps: i64) -> Self {
        window(self.start - steps * self.step, self.end + steps * self.step, self.step)
    }

    fn params(self, query: &str) -> String {
        let [start, end, step] = [self.start, self.end, self.step].map(seconds);
        format!("query={}&start={start}&end={end}&step={step}", escaped(query))
    }

    fn instants(self) -> impl Iterator<Item = i64> {
        (0..=(self.end - self.start) / self.step).map(move |k| self.start + k * self.step)
    }

    /// What a server was asked for.
    fn of(asked: &Asked) -> Self {
        let time = |name| asked.param(name).and_then(|text| Timestamp::parse(&text)).map(Timestamp::ms);
        let [start, end, step] = ["start", "end", "step"].map(|name| time(name).expect("a range query has it"));
        window(start, end, step)
    }
}

/// As Prometheus writes a time.
fn seconds(ms: i64) -> String {
    Timestamp::from_ms(ms).to_string()
}

/// A server, and promfront in front of it.
struct Both {
    server: String,
    promfront: Promfront,
    http: Http,
}

impl Both {
    fn before(server: &str, yaml: &str) -> Self {
        Self { server: server.to_owned(), promfront: Promfront::configured(server, yaml), http: Http::new() }
    }

    /// Asks both, and holds the answers against each other and against the grid.
    async fn same(&self, query: &str, window: Window) -> Answer {
        let answer = self.same_params(&window.params(query)).await;
        if answer.status.is_success() {
            let grid: BTreeSet<i64> = window.instants().collect();
            for (labels, times) in times_by_series(&answer) {
                assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{query} in {window:?}: order of {labels}");
                assert!(times.iter().all(|time| grid.contains(time)), "{query} in {window:?}: {labels} off the grid");
            }
            let fetched = fetched(&answer);
            assert!(fetched.windows(2).all(|pair| pair[0].1 < pair[1].0), "asked twice: {}", answer.result());
            assert!(fetched.iter().all(|(from, until)| grid.contains(from) && grid.contains(until)), "{query}");
        }
        answer
    }

    /// The same by its parameters.
    async fn same_params(&self, params: &str) -> Answer {
        let [want, got] = [&self.server, &self.promfront.url].map(|url| format!("{url}/api/v1/query_range?{params}"));
        let (want, got) = (self.http.get(&want).await, self.http.get(&got).await);
        assert_same(&got, &want, params);
        got
    }

    /// As `same`, and that it came about in this way.
    async fn same_by(&self, status: &str, query: &str, window: Window) -> Answer {
        let answer = self.same(query, window).await;
        assert!(is(&answer, status), "{query} in {window:?}: {} instead of {status}", answer.result());
        answer
    }

    async fn through(&self, params: &str) -> Answer {
        self.http.get(&format!("{}/api/v1/query_range?{params}", self.promfront.url)).await
    }
}

fn assert_same(got: &Answer, want: &Answer, what: &str) {
    if (got.status, &got.body) != (want.status, &want.body) {
        let at = got.body.iter().zip(&want.body).take_while(|(a, b)| a == b).count();
        let near = |answer: &Answer| {
            let text = &answer.body[at.saturating_sub(100)..answer.body.len().min(at + 200)];
            format!("{} …{}", answer.status, String::from_utf8_lossy(text))
        };
        panic!("{what}: {}\n  direct: {}\n  got:    {}", got.result(), near(want), near(got));
    }
}

fn is(answer: &Answer, status: &str) -> bool {
    answer.result().split("; ").next() == Some(&format!("status={status}"))
}

/// What was asked for downstream, from the answer's own account (it lists the first twelve).
fn fetched(answer: &Answer) -> Vec<(i64, i64)> {
    let Some((_, list)) = answer.result().split_once("fetched=[") else { return Vec::new() };
    let ranges = list.trim_end_matches(']').split(',').filter(|range| !range.is_empty() && *range != "...");
    let numbers = ranges.map(|range| range.split_once('-').expect("from-until"));
    numbers.map(|(from, until)| (from.parse().expect("ms"), until.parse().expect("ms"))).collect()
}

fn times_by_series(answer: &Answer) -> Vec<(String, Vec<i64>)> {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a known time")]
    let time = |point: &serde_json::Value| (point[0].as_f64().expect("a number") * 1000.0).round() as i64;
    let body = answer.json();
    let series = body["data"]["result"].as_array().expect("a matrix");
    let times = |one: &serde_json::Value| one["values"].as_array().into_iter().flatten().map(time).collect();
    series.iter().map(|one| (one["metric"].to_string(), times(one))).collect()
}

/// Asks for a window, for more on either side, for a piece of it, and for all again: nothing, then its edges, then
/// nothing.
async fn in_pieces(both: &Both, query: &str, inner: Window, steps: i64) {
    both.same_by("miss", query, inner).await;
    let wide = inner.widened(steps);
    let edges = both.same_by("phit", query, wide).await;
    let is_held = |(from, until): &(i64, i64)| *until >= inner.start && *from <= inner.end;
    assert!(!fetched(&edges).iter().any(is_held), "{query}: what was held was asked for: {}", edges.result());
    let before_midnight = inner.start + ((MIDNIGHT - inner.start) / inner.step - 3) * inner.step;
    both.same_by("hit", query, window(before_midnight, MIDNIGHT + HOUR, inner.step)).await;
    both.same_by("hit", query, wide).await;
}

/// C1, C2, C3, C6, C11, C14, C15: whatever the step and the interval at which queries are cut, shorter or longer than
/// the step, every instant is there once and none is asked for twice. The intervals are those of processes of their
/// own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_step_meets_any_split_interval() {
    let prometheus = Prometheus::with_test_data().await;
    let query = "temperature_celsius{room=\"attic\"}";
    for interval in ["1m", "15m", "1h", "24h"] {
        let both = Both::before(&prometheus.url, &format!("split: {{interval: {interval}}}\n"));
        for step in [37 * SECOND, 7 * MINUTE, 50 * MINUTE, 61 * MINUTE, 3 * HOUR, 6 * HOUR, DAY, 36 * HOUR] {
            let days = if step < MINUTE { 1 } else { 3 };
            let inner = window(MIDNIGHT - days * DAY + 3_600_000 + 7, MIDNIGHT + DAY / 2, step);
            both.same_by("miss", query, inner).await;
            both.same_by("hit", query, inner).await;
            both.same_by("phit", query, inner.widened(2)).await;
            both.same_by("hit", query, inner.widened(2)).await;
        }
        let metrics = both.promfront.metrics().await;
        let hits = metrics.sum("promfront_range_queries_total", &["status=\"hit\""]);
        assert!((hits - 16.0).abs() < 0.5, "{interval}: {hits}");
    }
}

/// C7, C9: a range of one instant, asked for cold, warm and where a longer one is held; and the last instant of a
/// range, whether it is the end or lies before it.
#[tokio::test]
async fn one_instant_cold_warm_and_inside_what_is_held() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    for query in ["up", "time()", "sum(rate(http_requests_total[5m]))", "collide_b", "1 + 1"] {
        for instant in [MIDNIGHT, MIDNIGHT - 1, MIDNIGHT + 7 * MINUTE + 705] {
            let one = window(instant, instant, MINUTE);
            let cold = both.same_by("miss", query, one).await;
            assert_eq!(fetched(&cold), [(instant, instant)], "{query}");
            both.same_by("hit", query, one).await;
            // Servers evaluate one instant by rules of its own: it shares nothing with a range that holds it.
            both.same_by("miss", query, one.widened(30)).await;
            for offset in [-30, -1, 1, 30] {
                let other = instant + offset * MINUTE;
                for status in ["miss", "hit"] {
                    both.same_by(status, query, window(other, other, MINUTE)).await;
                }
            }
            // The end is no instant: the last one before it is in the answer, cold and warm.
            let uneven = window(instant - 30 * MINUTE, instant + 30 * MINUTE + 59_999, MINUTE);
            let warm = both.same_by("hit", query, uneven).await;
            if query == "up" {
                let times = times_by_series(&warm);
                assert!(times.iter().all(|(_, times)| times.last() == Some(&(instant + 30 * MINUTE))));
            }
        }
    }
}

/// C8, C9, C10, C12: points of another phase or another step are other points.
#[tokio::test]
async fn phases_and_steps_do_not_share_points() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    let query = "temperature_celsius{site=\"cairo\"}";
    for phase in [0, 7 * SECOND, 1, 59_999] {
        let shifted = window(MIDNIGHT - DAY + phase, MIDNIGHT + DAY + phase, MINUTE * 5);
        both.same_by("miss", query, shifted).await;
        both.same_by("hit", query, shifted).await;
    }
    // C10: extents of 0 to 75 and 75 to 120 at 15 s must not answer for 30 s.
    for (from, until) in [(0, 75), (75, 120)] {
        both.same(query, window(MIDNIGHT + from * SECOND, MIDNIGHT + until * SECOND, 15 * SECOND)).await;
    }
    both.same_by("hit", query, window(MIDNIGHT, MIDNIGHT + 120 * SECOND, 15 * SECOND)).await;
    for start in [0, 15] {
        let every_other = window(MIDNIGHT + start * SECOND, MIDNIGHT + 120 * SECOND, 30 * SECOND);
        both.same_by("miss", query, every_other).await;
    }
    // C12: days begin at midnight at +05:30, at -04:00, and an hour later after the clocks change.
    for zone in [330 * MINUTE, -240 * MINUTE, -300 * MINUTE] {
        let days = window(MIDNIGHT - 4 * DAY - zone, MIDNIGHT + 2 * DAY - zone, DAY);
        let cold = both.same_by("miss", query, days).await;
        let first = times_by_series(&cold)[0].1[0];
        assert_eq!(first.rem_euclid(DAY), (-zone).rem_euclid(DAY), "bars begin at local midnight");
        both.same_by("phit", query, days.widened(1)).await;
        both.same_by("hit", query, days.widened(1)).await;
    }
}

/// C96: two refreshes a second apart agree on every instant that they share.
#[tokio::test]
async fn refreshes_a_second_apart_agree() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    for (step, query) in
        [(1, "temperature_celsius{room=\"roof\"}"), (7, "sum by (code) (rate(http_requests_total[5m]))")]
    {
        let mut seen = BTreeMap::<(String, String), String>::new();
        for refresh in 0..3 * step {
            let end = MIDNIGHT + HOUR + refresh * SECOND;
            let answer = both.same(query, window(end - 2 * HOUR, end, step * SECOND)).await;
            assert!(is(&answer, if refresh < step { "miss" } else { "phit" }), "{}", answer.result());
            for series in answer.json()["data"]["result"].as_array().expect("a matrix") {
                for point in series["values"].as_array().expect("points") {
                    let key = (series["metric"].to_string(), point[0].to_string());
                    let before = seen.insert(key, point[1].to_string());
                    assert!(before.is_none_or(|before| *before == *point[1].to_string()), "{series} at {point}");
                }
            }
        }
    }
}

/// Spellings of a time, before and after 1970, finer than a millisecond, and wrong ones.
#[rustfmt::skip]
const TIMES: [&str; 36] = [
    "1543578564.705", "1.001", "123.123", "1567092749.3346083", "1529991846.946", "-59.200", "-0.0004", "1e-4000",
    "1e3", ".5", "-.5", "5.", "+7", "1e9", "1.5e9", "2147483647.999", "2147483648.001", "4294967295.9995", "-1.0005",
    "0.0005", "0.00049999", "0.9999", "0.99951", "253402300799.999", "2015-06-03T13:21:58.555999999Z",
    "2015-06-03T13:21:58.5559999994Z", "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.9999Z",
    "2024-02-06T05:30:00+05:30", "2024-02-29T23:59:59.001-23:59", "0001-01-01T00:00:00Z", "2023-02-29T00:00:00Z",
    "2024-02-06T24:00:00Z", "2024-02-06T05:30:00,5Z", "2024-02-06T5:30:00Z", "2024-02-06T05:30:00z",
];

/// These, and all eras with any number of decimals.
fn times() -> Vec<String> {
    let mut times = TIMES.map(str::to_owned).to_vec();
    let mut random = Random::seeded("times");
    for _ in 0..300 {
        let era = [100, 1 << 31, 1 << 33, 250_000_000_000][random.below(4)];
        let sign = if random.below(5) == 0 { "-" } else { "" };
        let digits: String = (0..random.below(10)).map(|_| random.below(10).to_string()).collect();
        times.push(format!("{sign}{}.{digits}", random.below(era)));
    }
    times
}

/// C17, C18, C19, C20, C21, C22: the millisecond that a text means is the server's, in ranges and for instants.
#[tokio::test]
async fn times_are_read_as_the_server_reads_them() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    for time in times() {
        let time = escaped(&time);
        let answer = both.same_params(&format!("query=time()&start={time}&end={time}&step=60")).await;
        let instant = format!("/api/v1/query?query=time()&time={time}");
        let (want, got) = (
            both.http.get(&format!("{}{instant}", both.server)).await,
            both.http.get(&format!("{}{instant}", both.promfront.url)).await,
        );
        assert_same(&got, &want, &time);
        assert!(!answer.status.is_success() || got.status.is_success(), "{time}");
    }
    let answer = both.through("query=time()&start=1543578564.705&end=1543578564.705&step=60").await;
    assert!(is(&answer, "hit") && answer.text().contains("[[1543578564.705,\"1543578564.705\"]]"), "{}", answer.text());
    let now = both.http.get(&format!("{}/api/v1/query?query=time()", both.promfront.url)).await.json();
    assert!(now["data"]["result"][0].as_f64().is_some_and(|now| now > 1.7e9), "C20: no time is now, not 0: {now}");
    let metrics = both.promfront.metrics().await;
    assert!(
        metrics.sum("promfront_range_queries_total", &["status=\"miss\""]) > 150.0,
        "they were read, not passed on"
    );
}

/// C17, C22: the server counts nanoseconds in 64 bits, so a range that begins before 2262 and ends after it, or
/// begins before 1677, is another range to it. It is not cut: only the server knows what becomes of it.
#[tokio::test]
async fn ranges_past_the_end_of_the_servers_time_are_the_servers() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    let (day, beyond) = (seconds(MIDNIGHT), "9300000000");
    for (start, end, step) in [
        (day.as_str(), "9223372036", "864000000"),
        (day.as_str(), beyond, "864000000"),
        (day.as_str(), "9223372036.855", "864000000"),
        (day.as_str(), "2262-04-12T00:00:00Z", "10000d"),
        (day.as_str(), "9999-12-31T23:59:59Z", "30000d"),
        ("-9300000000", &day, "864000000"),
        ("-9223372037", &day, "864000000"),
        (beyond, beyond, "60"),
        ("18446744073.8", "18446744080", "1"),
    ] {
        for query in ["time()", "up", "vector(1) > 2"] {
            for _ in 0..2 {
                both.same_params(&format!("query={}&start={start}&end={end}&step={step}", escaped(query))).await;
            }
        }
    }
}

/// C23: a range that ends, or lies, beyond promfront's own clock is neither cut short nor refused nor kept: what the
/// server, whose clock is ten minutes ahead, knows of it is answered, and asked for anew each time.
#[tokio::test]
async fn what_lies_ahead_of_the_clock_is_not_cut_off() {
    let prometheus = Prometheus::empty().await;
    let both = Both::before(&prometheus.url, "");
    let now = Timestamp::now().ms() / MINUTE * MINUTE;
    let samples = |range: std::ops::Range<i64>| {
        let times = range.step_by(15_000);
        #[expect(clippy::cast_precision_loss, reason = "any number will do")]
        [Series::new("x", "a", times.map(|t| (t, Sample::Float((t % 1_000_003) as f64))))]
    };
    write(&prometheus.url, &samples(now - 2 * HOUR..now + 5 * MINUTE)).await;
    let ahead = window(now - HOUR, now + 10 * MINUTE, MINUTE);
    both.same_by("miss", "x", ahead).await;
    let again = both.same_by("phit", "x", ahead).await;
    assert!(again.result().contains("reason=fresh"), "{}", again.result());
    write(&prometheus.url, &samples(now + 5 * MINUTE..now + 10 * MINUTE + SECOND)).await;
    let last = both.same_by("phit", "x", ahead).await;
    assert_eq!(times_by_series(&last)[0].1.last(), Some(&(now + 10 * MINUTE)), "the right edge is there");
    for (start, end) in [(now + MINUTE, now + 10 * MINUTE), (now + HOUR, now + 2 * HOUR), (now - HOUR, now + 3 * DAY)] {
        for query in ["x", "time()"] {
            let answer = both.same(query, window(start, end, MINUTE)).await;
            assert!(answer.status.is_success() && !is(&answer, "hit"), "{}", answer.result());
        }
    }
}

/// C24: steps of a millisecond and of a year, a subquery without a step, and what is no step at all.
#[tokio::test]
async fn steps_of_any_length_are_steps() {
    let prometheus = Prometheus::with_test_data().await;
    for interval in ["1m", "24h"] {
        let both = Both::before(&prometheus.url, &format!("split: {{interval: {interval}}}\n"));
        for query in
            ["up", "max_over_time(temperature_celsius{room=\"hall\"}[1h:])", "sum_over_time(vector(time())[10m:])"]
        {
            both.same_by("bypass", query, window(MIDNIGHT - 500, MIDNIGHT + 500, 1)).await;
            let fine = window(MIDNIGHT - 500, MIDNIGHT + 500, 2);
            let coarse = window(MIDNIGHT - 3 * 365 * DAY, MIDNIGHT + 365 * DAY, 365 * DAY);
            for inner in [fine, coarse] {
                both.same_by("miss", query, inner).await;
                both.same_by("phit", query, inner.widened(1)).await;
                both.same_by("hit", query, inner).await;
            }
        }
        for step in ["0", "0s", "-1", "-1m", "0.0001", "", "x", "1e300", "300y"] {
            let times = format!("start={}&end={}", seconds(MIDNIGHT), seconds(MIDNIGHT + HOUR));
            let answer = both.same_params(&format!("query=up&{times}&step={step}")).await;
            assert!(is(&answer, "bypass") || step == "0.0001", "{step}: {}", answer.result());
        }
    }
}

/// C26, C27: `@ start()` and `@ end()` are those of the client's range in every part, hidden in a subquery or not;
/// another range means another text; and what is no query gets the server's refusal.
#[tokio::test]
async fn start_and_end_are_the_clients_in_every_part() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    let three_days = window(MIDNIGHT - DAY - HOUR + 7, MIDNIGHT + DAY, 13 * MINUTE);
    for query in [
        "sum(up @ start())",
        "sum(queue_depth @ end())",
        "temperature_celsius{room=\"hall\"} - temperature_celsius @ start()",
        "max_over_time((temperature_celsius{site=\"lima\"} @ end())[1h:5m])",
        "sum_over_time(sum(queue_depth @ start() offset -1h)[30m:7m])",
        "avg_over_time(max_over_time(temperature_celsius{room=\"hall\"}[30m:10m] @ start())[1h:30m])",
        "rate(http_requests_total{code=\"200\"}[1h] @ end()) + rate(http_requests_total{code=\"200\"}[1h] @ start())",
    ] {
        let cold = both.same_by("miss", query, three_days).await;
        assert!(fetched(&cold).len() >= 3, "{query} is cut: {}", cold.result());
        both.same_by("hit", query, three_days).await;
        let shifted = window(three_days.start + three_days.step, three_days.end + three_days.step, three_days.step);
        both.same_by("miss", query, shifted).await;
        both.same_by("hit", query, three_days).await;
    }
    for query in
        ["sum(up @ start()", "up @ start", "up @ end() offset", "up @ start() @ end()", "start() + up", "up @ now()"]
    {
        let refused = both.same(query, three_days).await;
        assert!(refused.status.is_client_error() || query == "start() + up", "{query}: {}", refused.status);
    }
}

/// What is put together of what was held and what was fetched; the numbers are the cases.
#[rustfmt::skip]
const IN_PIECES: &[(&str, &[&str])] = &[
    ("C31: a shifted read is shifted once", &[
        "temperature_celsius{site=\"oslo\"} offset 1d",
        "temperature_celsius{site=\"oslo\"} offset -1d",
        "rate(http_requests_total{code=\"200\"}[5m] offset 26h)",
        "queue_depth - queue_depth offset 1d",
    ]),
    ("C34: subquery and offset", &[
        "avg_over_time(sum(rate(http_requests_total[2m] offset 24h))[1h:])",
        "max_over_time((temperature_celsius{room=\"hall\"} offset 1d)[2h:7m] offset 3h)",
        "sum_over_time(queue_depth[1h:10m] offset -90m)",
    ]),
    ("C35: a range as long as the whole panel's", &[
        "sum_over_time(queue_depth[74h])",
        "increase(http_requests_total{method=\"GET\"}[74h])",
        "max_over_time(temperature_celsius{room=\"hall\"}[3d:1h])",
    ]),
    ("C36: absence is judged at each instant", &[
        "absent(collide_a)",
        "absent(collide_b{x=\"1\",y!=\"2\"})",
        "absent_over_time(collide_a{x=\"1\"}[30m])",
        "absent(queue_depth{queue=\"sparse\"})",
        "absent(build_info{version=\"1.9.3\",instance=\"api-0:8080\"})",
        "absent(no_such_metric{a=\"b\",c=~\"d\"})",
        "absent(sum(collide_b))",
        "scalar(collide_a)",
        "vector(scalar(queue_depth{queue=\"sparse\"})) * 2",
        "count(absent(collide_a)) or vector(0)",
    ]),
    ("C37: the choice is made at each instant, and the order is by labels", &[
        "topk(3, temperature_celsius)",
        "bottomk by (site) (1, temperature_celsius)",
        "topk(3, pod_cpu_usage)",
        "topk(2, rate(http_requests_total[5m]))",
        "sort(temperature_celsius)",
        "sort_desc(pod_cpu_usage)",
        "quantile(0.9, temperature_celsius)",
    ]),
    ("C38, C39: holes, resets and series that come and go", &[
        "queue_depth",
        "last_over_time(queue_depth{queue=\"sparse\"}[7m])",
        "resets(http_requests_total{code=\"200\"}[6h])",
        "increase(http_requests_total{method=\"POST\"}[1d])",
        "rate(node_cpu_seconds_total{mode=\"idle\"}[26h])",
        "changes(build_info[2h])",
        "pod_cpu_usage",
    ]),
    ("C41: functions of time, with and without a selector", &[
        "time()",
        "timestamp(queue_depth)",
        "time() - timestamp(up)",
        "predict_linear(node_memory_free_bytes[1h], 3600)",
        "deriv(temperature_celsius{room=\"hall\"}[2h])",
        "day_of_week()",
        "hour() * 60 + minute()",
        "day_of_month(vector(time()))",
        "days_in_month(batch_last_success_timestamp_seconds)",
        "scalar(vector(time())) % 86400",
        "vector(1)",
        "1 + 1",
        "pi()",
    ]),
    ("C81, C94: odd labels, odd values, nothing", &[
        "odd_labels",
        "special_values",
        "no_such_metric",
        "up > 7",
    ]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_together_of_pieces_is_the_whole() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    for (case, queries) in IN_PIECES {
        println!("{case}");
        for query in *queries {
            in_pieces(&both, query, window(MIDNIGHT - 30 * HOUR + 7 * SECOND, MIDNIGHT + 20 * HOUR, 11 * MINUTE), 65)
                .await;
        }
    }
}

/// C37: instants pass through in the order that the server gives.
#[tokio::test]
async fn instant_orders_are_the_servers() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    for query in [
        "sort(temperature_celsius)",
        "sort_desc(temperature_celsius)",
        "topk(3, temperature_celsius)",
        "bottomk by (site) (1, temperature_celsius)",
        "sort(topk(3, rate(http_requests_total[1d])))",
        "increase(http_requests_total{code=\"200\"}[3d])",
    ] {
        let instant = format!("/api/v1/query?query={}&time={}", escaped(query), seconds(MIDNIGHT));
        let [want, got] = [&both.server, &both.promfront.url].map(|url| format!("{url}{instant}"));
        let (want, got) = (both.http.get(&want).await, both.http.get(&got).await);
        assert_same(&got, &want, query);
        assert!(want.json()["data"]["result"].as_array().is_some_and(|vector| vector.len() > 1), "{query}");
    }
}

#[rustfmt::skip]
const PANELS: [&str; 11] = [
    "temperature_celsius", "temperature_celsius offset 1d", "temperature_celsius offset 1h",
    "temperature_celsius offset -1d", "temperature_celsius @ 1707004800",
    "temperature_celsius @ 1707004801 offset 1d", "rate(http_requests_total[5m])", "rate(http_requests_total[6m])",
    "rate(http_requests_total[5m] offset 1d)", "sum_over_time(up[1h:5m])", "sum_over_time(up[1h:6m])",
];

/// C32: panels that differ in a shift, a range or a time only do not share an answer.
#[tokio::test]
async fn panels_that_differ_in_a_shift_do_not_share() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    let panel = window(MIDNIGHT - DAY, MIDNIGHT + DAY, 10 * MINUTE);
    let mut bodies = BTreeSet::new();
    for query in PANELS {
        let cold = both.same_by("miss", query, panel).await;
        assert!(bodies.insert(cold.body), "{query} answers as another does");
    }
    for query in PANELS {
        both.same_by("hit", query, panel).await;
    }
    // The dashboard goes a day back: the same text, and half of it is held.
    both.same_by("phit", "temperature_celsius", window(panel.start - DAY, panel.end - DAY, panel.step)).await;
}

/// C40: parentheses, blanks and comments are the author's own; every writing of a query gets the same numbers.
#[tokio::test]
async fn parentheses_change_nothing() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    let (a, b) = ("http_requests_total{code=\"200\"}", "http_requests_total{code=\"404\"}");
    let inner = window(MIDNIGHT - 30 * HOUR, MIDNIGHT + 20 * HOUR, 10 * MINUTE);
    let mut bodies = BTreeSet::new();
    for query in [
        format!("sum({a})-sum({b})"),
        format!("((sum({a})-sum({b})))"),
        format!("(sum({a}))-(sum(({b})))"),
        format!("( ( sum( {a} ) )\n - sum({b}) # (the rest\n)"),
        format!("sum(({a})) - ((sum((({b})))))"),
    ] {
        in_pieces(&both, &query, inner, 65).await;
        bodies.insert(both.same_by("hit", &query, inner).await.body);
    }
    assert_eq!(bodies.len(), 1, "all of them mean the same");
    for query in
        ["2 ^ 3 ^ 2 * time()", "2 ^ (3 ^ 2) * time()", "(2 ^ 3) ^ 2 * time()", "-2 ^ 2 * time()", "(-2) ^ 2 * time()"]
    {
        in_pieces(&both, query, inner, 65).await;
    }
}

/// Samples every 30 s up to a slot's boundary, and then: a stale marker on it, a hair before it, or none at all;
/// later again.
fn ending_at(edge: i64) -> Vec<Series> {
    let sample = |t: i64| (t, Sample::Float(1.5));
    let until = |end: i64| (edge - HOUR..end).step_by(30_000).map(sample);
    let again = || (edge + 10 * MINUTE..edge + 20 * MINUTE).step_by(30_000).map(sample);
    let stale = |t: i64| std::iter::once((t, Sample::Stale));
    vec![
        Series::new("s", "on", until(edge).chain(stale(edge)).chain(again())),
        Series::new("s", "before", until(edge).chain(stale(edge - 1)).chain(again())),
        Series::new("s", "after", until(edge + 1).chain(stale(edge + 1)).chain(again())),
        Series::new("s", "unmarked", until(edge).chain(again())),
        Series::new(
            "s",
            "blinking",
            until(edge)
                .chain(stale(edge))
                .chain(std::iter::once(sample(edge + 1500)))
                .chain(stale(edge + 2000))
                .chain(again()),
        ),
    ]
}

/// C38: a stale marker exactly where one extent ends and the next begins, at a step of a second over a scrape of 30
/// s: nothing bleeds over the seam, and nothing is missing at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_bleeds_over_a_seam() {
    let prometheus = Prometheus::empty().await;
    write(&prometheus.url, &ending_at(MIDNIGHT)).await;
    let both = Both::before(&prometheus.url, "split: {interval: 1m}\n");
    let raw = both.same("s", window(MIDNIGHT - MINUTE, MIDNIGHT + 9 * MINUTE, SECOND)).await;
    let lasts: BTreeMap<String, i64> = times_by_series(&raw)
        .into_iter()
        .map(|(labels, times)| (labels, *times.last().expect("some") - MIDNIGHT))
        .collect();
    let last = |l: &str| lasts.iter().find(|(labels, _)| labels.contains(l)).map(|(_, last)| *last);
    assert_eq!((last("\"on\""), last("\"after\""), last("\"unmarked\"")), (Some(-1000), Some(0), Some(270_000)));
    let queries = [
        "s",
        "count(s)",
        "rate(s[1m])",
        "last_over_time(s[2m])",
        "absent(s{l=\"on\"})",
        "timestamp(s)",
        "s offset 30s",
    ];
    // The seam between what is held and what is fetched lies before, on and after each edge.
    for (k, seam) in [-1000, 0, 1000, 1500, 2000, 29_000, 270_000, 271_000, 600_000].into_iter().enumerate() {
        for query in queries {
            let query = format!("{query} # {k}");
            for step in [SECOND, 7 * SECOND] {
                let held = window(MIDNIGHT + seam - 40 * step, MIDNIGHT + seam, step);
                both.same_by("miss", &query, held).await;
                let tail = both.same_by("phit", &query, window(held.start, MIDNIGHT + seam + 60 * step, step)).await;
                assert_eq!(
                    fetched(&tail).first().map(|(from, _)| *from),
                    Some(MIDNIGHT + seam + step),
                    "{}",
                    tail.result()
                );
                both.same_by("hit", &query, window(MIDNIGHT + seam, MIDNIGHT + seam + 30 * step, step)).await;
            }
        }
    }
}

/// Counters every minute over two days around midnight, reset on and about it, with hours of silence on either side.
fn resetting() -> Vec<Series> {
    let counter = |name: &str, resets: &'static [i64], silences: &'static [(i64, i64)]| {
        let times = (MIDNIGHT - DAY..MIDNIGHT + DAY).step_by(60_000);
        let since = |t: i64| {
            t - resets.iter().map(|at| MIDNIGHT + at).filter(|at| *at <= t).max().unwrap_or(MIDNIGHT - 2 * DAY)
        };
        let speaks = |t: &i64| !silences.iter().any(|(from, until)| (*from..*until).contains(&(t - MIDNIGHT)));
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let value = |t: i64| Sample::Float(since(t) as f64 / 7000.0 + ((t / MINUTE) % 5) as f64 / 100.0);
        Series::new("c_total", name, times.filter(speaks).map(|t| (t, value(t))).collect::<Vec<_>>())
    };
    vec![
        counter("at", &[0], &[]),
        counter("about", &[-60_000, 0, 60_000, 120_000], &[]),
        counter("silent", &[HOUR], &[(-3 * HOUR, -HOUR), (0, 2 * HOUR)]),
        counter("across", &[HOUR / 2], &[(-HOUR, HOUR)]),
        counter("rarely", &[], &[(-20 * HOUR, -1), (1, 20 * HOUR)]),
    ]
}

/// C39: functions over long windows of counters that are reset or silent where the pieces meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_and_silences_across_pieces() {
    let prometheus = Prometheus::empty().await;
    write(&prometheus.url, &resetting()).await;
    for interval in ["1h", "24h"] {
        let both = Both::before(&prometheus.url, &format!("split: {{interval: {interval}}}\n"));
        for function in
            ["rate", "increase", "resets", "changes", "delta", "irate", "deriv", "avg_over_time", "count_over_time"]
        {
            for range in ["5m", "2h", "30h"] {
                let inner = window(MIDNIGHT - 5 * HOUR, MIDNIGHT + 5 * HOUR, 5 * MINUTE);
                in_pieces(&both, &format!("{function}(c_total[{range}])"), inner, 20).await;
            }
        }
    }
}

/// C16 and the bound on parts: 720 parts, or a year in hours, with nothing asked for twice; C3 on the requests
/// themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_parts_ask_for_every_instant_once() {
    for (yaml, whole, parts) in [
        ("split: {interval: 1h, max_parts: 1000}\n", window(MIDNIGHT - 30 * DAY, MIDNIGHT - 1, 10 * MINUTE), 720..=720),
        ("split: {interval: 1h}\n", window(MIDNIGHT - 365 * DAY, MIDNIGHT, HOUR), 50..=64),
        ("split: {interval: 15m}\n", window(MIDNIGHT - 7, MIDNIGHT + 60 * DAY, 6 * HOUR), 50..=64),
        ("split: {interval: 15m, max_parts: 1000}\n", window(MIDNIGHT - 7, MIDNIGHT + 60 * DAY, 6 * HOUR), 241..=241),
    ] {
        let model = Model::start(|asked| ok(body(asked).as_bytes())).await;
        let both = Both::before(&model.downstream.url, yaml);
        both.through(&whole.params("up")).await;
        let asked: Vec<Window> = model.take().iter().map(Window::of).collect();
        assert!(parts.contains(&asked.len()), "{} parts, not {parts:?}", asked.len());
        let mut instants: Vec<i64> = asked.iter().flat_map(|part| part.instants()).collect();
        instants.sort_unstable();
        assert_eq!(instants, whole.instants().collect::<Vec<_>>(), "each instant is asked for once");
        both.same_by("hit", "up", whole).await;
        assert_eq!(model.take().len(), 1, "only the direct one");
    }
}

/// C95: whatever pieces are held, and in whichever order they came, a hole costs at most one request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_costs_one_request() {
    let model = Model::start(|asked| ok(body(asked).as_bytes())).await;
    let both = Both::before(&model.downstream.url, "");
    let (mut random, whole) = (Random::seeded("holes"), window(MIDNIGHT, MIDNIGHT + HOUR, 15 * SECOND));
    for round in 0..60 {
        let query = format!("up + {round}");
        let mut held = BTreeSet::new();
        for _ in 0..random.below(12) {
            let (from, length) = (random.below(240), random.below(30));
            let at = |k: usize| MIDNIGHT + i64::try_from(k).expect("small") * whole.step;
            let piece = window(at(from), at((from + length).min(240)), whole.step);
            both.same(&query, piece).await;
            held.extend(piece.instants());
        }
        let is_hole = |t: &i64| !held.contains(t) && (*t == whole.start || held.contains(&(t - whole.step)));
        let holes = whole.instants().filter(is_hole).count();
        model.take();
        both.through(&whole.params(&query)).await;
        let asked = model.take();
        assert!(asked.len() <= holes, "{} requests for {holes} holes", asked.len());
        both.same_by("hit", &query, whole).await;
    }
}

/// C13: a server that moves an unaligned range onto its own grid is noticed by its times: its answer is handed on as
/// it is, never made empty, and never kept. On its own grid it is served like any other.
#[tokio::test]
async fn a_server_that_floors_its_times_is_noticed() {
    let floor = |asked: &Asked| {
        let Window { start, end, step } = Window::of(asked);
        ok(written(window(start - start.rem_euclid(step), end - end.rem_euclid(step), step), usize::MAX).as_bytes())
    };
    let model = Model::start(floor).await;
    let both = Both::before(&model.downstream.url, "");
    let bangalore = window(MIDNIGHT - 330 * MINUTE, MIDNIGHT + 2 * DAY, HOUR);
    for _ in 0..2 {
        let answer = both.same_params(&bangalore.params("up")).await;
        assert!(answer.result().starts_with("status=bypass; reason=foreign-grid"), "{}", answer.result());
        assert!(times_by_series(&answer).iter().all(|(_, times)| times.len() > 1), "there are points");
    }
    let aligned = window(MIDNIGHT - DAY, MIDNIGHT + DAY, HOUR);
    both.same_by("miss", "up", aligned).await;
    both.same_by("hit", "up", aligned).await;
}

/// What the servers we know take besides the query, and what nobody knows.
#[rustfmt::skip]
const PARAMETERS: [&str; 19] = [
    "", "dedup=false", "dedup=true", "partial_response=true", "max_source_resolution=5m", "max_source_resolution=1h",
    "replicaLabels%5B%5D=a", "replicaLabels%5B%5D=a&replicaLabels%5B%5D=b",
    "replicaLabels%5B%5D=b&replicaLabels%5B%5D=a", "storeMatch%5B%5D=%7Ba%3d%22b%22%7D", "engine=thanos",
    "analyze=true", "lookback_delta=1m", "lookback_delta=2m", "interval=30s", "nocache=1", "extra_label=a%3Db",
    "unknown", "unknown=%e2%82%ac",
];

/// C25, C33, C68 to C72: every parameter travels to every part with its own bytes, the query's text first of all; two
/// requests that differ in one never share an answer; those that differ in their method only do (C78).
#[tokio::test]
async fn every_parameter_travels_and_parts_answers() {
    let model = Model::start(|asked| ok(body(asked).as_bytes())).await;
    let both = Both::before(&model.downstream.url, "");
    let range = format!("start={}&end={}&step=600", seconds(MIDNIGHT - DAY - HOUR), seconds(MIDNIGHT + DAY - 1));
    let query = "query=sum%20(up)%20%20-+sum+%28up%20offset%201d%29%20%23%20caf%c3%a9";
    for pair in PARAMETERS {
        let params = format!("{query}&{range}&{pair}");
        let cold = both.through(&params).await;
        assert!(is(&cold, "miss"), "{pair}: {}", cold.result());
        let asked = model.take();
        assert_eq!(asked.len(), 3, "{pair}");
        for part in asked {
            let target = part.head.split(' ').nth(1).expect("a target");
            assert!(target.contains(query) && target.contains(pair), "{pair} in {target}");
        }
        let warm = both.through(&params).await;
        assert!(is(&warm, "hit") && warm.body == cold.body, "{pair}: {}", warm.result());
        let url = format!("{}/api/v1/query_range?{pair}", both.promfront.url);
        let posted = both.http.post(&url, &format!("{query}&{range}")).await;
        assert!(is(&posted, "hit") && posted.body == cold.body, "{pair} posted: {}", posted.result());
        assert_eq!(model.take().len(), 0, "{pair}");
    }
}

/// C78: a form, a URL, or both, on a real server: the same question is the same answer, and is kept once.
#[tokio::test]
async fn a_form_and_a_url_ask_the_same() {
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    let text = "query=avg_over_time(temperature_celsius[1h])";
    let range = format!("start={}&end={}", seconds(MIDNIGHT - DAY), seconds(MIDNIGHT + DAY));
    let mut status = "miss";
    for (url, form) in [
        (format!("{text}&{range}&step=600"), None),
        (String::new(), Some(format!("{text}&{range}&step=600"))),
        (text.to_owned(), Some(format!("{range}&step=600"))),
        (format!("{range}&step=10m"), Some(text.to_owned())),
        (format!("query=up&{range}&start=5&step=7"), Some(format!("step=600&{text}&{range}"))),
        (format!("{text}&{range}&step=600"), Some(String::new())),
    ] {
        let ask = async |server: &str| {
            let url = format!("{server}/api/v1/query_range?{url}");
            match &form {
                None => both.http.get(&url).await,
                Some(form) => both.http.post(&url, form).await,
            }
        };
        let (want, got) = (ask(&both.server).await, ask(&both.promfront.url).await);
        assert_same(&got, &want, &format!("{url} and {form:?}"));
        assert!(is(&got, status), "{url} and {form:?}: {}", got.result());
        status = "hit";
    }
}

/// C72: `limit` is for the whole answer: no part is asked with it, and the series that are left out are those that the
/// server would leave out, from the cache as well. What a server of unknown version would leave out it is asked.
#[tokio::test]
async fn a_limit_is_for_the_whole() {
    let whole = window(MIDNIGHT - DAY, MIDNIGHT + DAY, 10 * MINUTE);
    for version in ["3.9.0", "unknown"] {
        let model = Model::of_version(version, |asked| ok(body(asked).as_bytes())).await;
        let both = Both::before(&model.downstream.url, "");
        for (limit, status) in [("2", "miss"), ("2", "hit"), ("1", "hit"), ("3", "hit"), ("0", "hit"), ("4", "hit")] {
            let params = format!("{}&limit={limit}", whole.params("up"));
            let answer = both.through(&params).await;
            let status = if version == "unknown" && ["1", "2"].contains(&limit) { "bypass" } else { status };
            assert!(is(&answer, status), "{limit}: {}", answer.result());
            let is_part = |asked: &Asked| Window::of(asked) != whole;
            let asked = model.take();
            assert!(asked.iter().filter(|asked| is_part(asked)).all(|part| part.param("limit").is_none()), "{limit}");
            assert!(status == "bypass" || asked.iter().all(is_part), "{limit}: nothing else is asked");
            let direct = both.http.get(&format!("{}/api/v1/query_range?{params}", both.server)).await;
            assert_same(&answer, &direct, limit);
            model.take();
        }
    }
    let prometheus = Prometheus::with_test_data().await;
    let both = Both::before(&prometheus.url, "");
    for status in ["miss", "hit"] {
        let answer = both.same_params(&format!("{}&limit=1", whole.params("up"))).await;
        assert!(is(&answer, status), "{}", answer.result());
    }
}

/// C46, C57: what the server says about an answer is said once for the whole of it, from the cache as from the server.
#[tokio::test]
async fn annotations_are_those_of_the_whole() {
    let annotated = |asked: &Asked| {
        let mut notes = String::new();
        let (range, text) = (Window::of(asked), body(asked));
        for (kind, about, from) in [("warnings", "warning", MIDNIGHT), ("infos", "info", MIDNIGHT - 2 * DAY)] {
            if range.instants().any(|t| t >= from) {
                write!(notes, r#","{kind}":["PromQL {about}: conflicting counter resets (1:5)"]"#).expect("written");
            }
        }
        ok(text.replace("]}}", &format!("]}}{notes}}}")).as_bytes())
    };
    let model = Model::start(annotated).await;
    let both = Both::before(&model.downstream.url, "");
    let whole = window(MIDNIGHT - DAY, MIDNIGHT + DAY - 1, 10 * MINUTE);
    let direct = both.http.get(&format!("{}/api/v1/query_range?{}", both.server, whole.params("up"))).await.json();
    for status in ["miss", "hit"] {
        let answer = both.through(&whole.params("up")).await;
        assert!(is(&answer, status), "{}", answer.result());
        for key in ["data", "warnings", "infos", "status"] {
            assert_eq!(answer.json()[key], direct[key], "{key}, {status}");
        }
    }
    // A part without its warning is not made of one with it.
    let before = both.through(&window(MIDNIGHT - DAY, MIDNIGHT - 1, 10 * MINUTE).params("up")).await.json();
    assert!(before["warnings"].is_null() && before["infos"].is_array(), "{before}");
}

/// C47, C56: one part of three fails. The client gets that failure as the server words it, nothing stays behind, and
/// when the server is well again there is no gap.
#[tokio::test]
async fn one_failing_part_is_the_answer_and_leaves_no_gap() {
    let is_ill = Arc::new(AtomicBool::new(true));
    let health = Arc::clone(&is_ill);
    let model = Model::start(move |asked| {
        let code = asked.param("query").and_then(|text| text.strip_prefix("up + ")?.parse::<u16>().ok()).unwrap_or(200);
        if health.load(Ordering::SeqCst) && Window::of(asked).instants().any(|t| t == MIDNIGHT + 10 * MINUTE) {
            // A refusal of the query names what it was asked for: a part's is not that of the whole.
            let range = if code < 423 { format!("{:?}", Window::of(asked)) } else { String::new() };
            let body = format!(r#"{{"status":"error","errorType":"execution","error":"as {code}: \"no\" {range}"}}"#);
            let head = format!(
                "HTTP/1.1 {code} No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            return with_head(&head, body.as_bytes());
        }
        ok(body(asked).as_bytes())
    })
    .await;
    let both = Both::before(&model.downstream.url, "");
    let whole = window(MIDNIGHT - DAY, MIDNIGHT + 2 * DAY - 1, 10 * MINUTE);
    let codes = [400, 422, 429, 500, 502, 503, 504];
    for code in codes {
        let failed = both.same_by("error", &format!("up + {code}"), whole).await;
        assert_eq!(failed.status.as_u16(), code);
    }
    let error_200 = both.same_params(&whole.params("up + 200")).await;
    assert!(error_200.result().starts_with("status=bypass; reason=foreign"), "{}", error_200.result());
    is_ill.store(false, Ordering::SeqCst);
    for code in codes.into_iter().chain([200]) {
        let well = both.same(&format!("up + {code}"), whole).await;
        let day = (MIDNIGHT, MIDNIGHT + DAY - 10 * MINUTE);
        assert!(fetched(&well).contains(&day), "the failed day is asked for again: {}", well.result());
        both.same_by("hit", &format!("up + {code}"), whole).await;
    }
}

/// C48: `no-store` on one part of a miss, and on what a hit lacks: that part is not kept, the others are.
#[tokio::test]
async fn one_part_that_must_not_be_kept() {
    let is_partial = Arc::new(AtomicBool::new(true));
    let partial = Arc::clone(&is_partial);
    let model = Model::start(move |asked| {
        let body = body(asked);
        let forbids = partial.load(Ordering::SeqCst) && Window::of(asked).instants().any(|t| t >= MIDNIGHT);
        let control = if forbids { "cache-control: private, No-Store\r\n" } else { "" };
        with_head(&format!("HTTP/1.1 200 OK\r\n{control}content-length: {}\r\n\r\n", body.len()), body.as_bytes())
    })
    .await;
    let both = Both::before(&model.downstream.url, "");
    let (first, whole) =
        (window(MIDNIGHT - DAY, MIDNIGHT - 1, 10 * MINUTE), window(MIDNIGHT - DAY, MIDNIGHT + DAY - 1, 10 * MINUTE));
    let tail = [(MIDNIGHT, MIDNIGHT + DAY - 10 * MINUTE)];
    both.same_by("miss", "up + 1", first).await;
    for (query, status) in [("up", "miss"), ("up", "phit"), ("up + 1", "phit"), ("up + 1", "phit")] {
        let answer = both.same_by(status, query, whole).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{query}");
        assert!(status == "miss" || fetched(&answer) == tail, "{query}: {}", answer.result());
    }
    is_partial.store(false, Ordering::SeqCst);
    for status in ["phit", "hit"] {
        let answer = both.same_by(status, "up", whole).await;
        assert_eq!(answer.header("cache-control"), "", "{status}");
    }
}

/// The tables in `README.md` have a row for each of C1 to C46 and R1 to R23, and name only tests and golden files that are there.
#[test]
fn the_table_is_true() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let table = read("tests/README.md");
    for case in 1..=46 {
        assert!(table.contains(&format!("\n| C{case} |")), "C{case} has no row");
    }
    let is_of = |line: &str, letter| line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(letter));
    let is_row = |line: &&str| is_of(line, 'C') || is_of(line, 'R');
    for fault in 1..=23 {
        let is_named = |line: &str| line.split(" | ").next().is_some_and(|head| has_word(head, &format!("R{fault}")));
        assert!(table.lines().filter(|line| is_of(line, 'R')).any(is_named), "R{fault} has no row");
    }
    for row in table.lines().filter(is_row).filter(|row| row.chars().nth(3).is_some_and(|c| c.is_ascii_digit())) {
        let (case, tests) =
            (row.split(' ').nth(1).expect("a number"), row.rsplit(" | ").next().expect("three columns"));
        for clause in tests.split("; ") {
            let names: Vec<&str> = clause.split('`').skip(1).step_by(2).collect();
            let file = names.iter().rev().find_map(|name| name.strip_suffix(".rs")).unwrap_or("cases");
            let folder = if file.starts_with("src/") { "" } else { "tests/" };
            let code = read(&format!("{folder}{file}.rs"));
            for test in names.iter().filter_map(|name| name.strip_suffix("()")) {
                assert!(code.contains(&format!("fn {test}(")), "{case}: there is no {test} in {file}");
            }
            for script in names.iter().filter_map(|name| name.strip_suffix(".txt")) {
                let script = read(&format!("tests/golden/{script}.txt"));
                assert!(has_word(&script, case), "{case}: {clause}");
            }
        }
    }
}

/// Whether a text has this word in it.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|found| found == word)
}

/// A model of a server: three series whose value at an instant is the instant, one until midnight, one from then on,
/// one throughout; it knows `limit` as a new Prometheus does, and remembers what it was asked.
struct Model {
    downstream: Scripted,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Model {
    async fn start(reply: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::of_version("3.9.0", reply).await
    }

    async fn of_version(version: &'static str, reply: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        let downstream = Scripted::start(move |request| {
            if request.head.contains("/status/buildinfo") {
                return Some(ok(format!(r#"{{"status":"success","data":{{"version":"{version}"}}}}"#).as_bytes()));
            }
            record.lock().push(request.clone());
            // It closes after each answer, and says so.
            let answer = reply(request);
            let status_line = answer.windows(2).position(|two| two == b"\r\n").expect("there is a head");
            Some([&answer[..status_line], b"\r\nconnection: close", &answer[status_line..]].concat())
        })
        .await;
        Self { downstream, asked }
    }

    /// What it was asked since the last time.
    fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn body(asked: &Asked) -> String {
    let limit = asked.param("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    written(Window::of(asked), limit.unwrap_or(usize::MAX))
}

fn written(range: Window, limit: usize) -> String {
    let mut series = Vec::new();
    for (name, from, until) in
        [("early", i64::MIN, MIDNIGHT), ("late", MIDNIGHT, i64::MAX), ("through", i64::MIN, i64::MAX)]
    {
        let lives = |t: &i64| (from..until).contains(t);
        let points: Vec<String> =
            range.instants().filter(lives).map(|t| format!("[{0},\"{0}\"]", seconds(t))).collect();
        if !points.is_empty() {
            series.push(format!(r#"{{"metric":{{"__name__":"up","l":"{name}"}},"values":[{}]}}"#, points.join(",")));
        }
    }
    let warning = if series.len() > limit { r#","warnings":["results truncated due to limit"]"# } else { "" };
    series.truncate(limit);
    format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}{warning}}}"#, series.join(","))
}
