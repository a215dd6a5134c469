//! The oracle: every query of the corpus, in many windows, through promfront and directly, byte for byte.
//!
//! The order is shuffled so that most requests meet extents that other windows left, each is asked twice as it is and once packed,
//! GET and POST in turn. At the end the metrics must show that the cached path was taken. Bodies are compared as bytes; where the server is
//! known to differ from itself (`differential/order_dependent.txt`), that is shown anew before anything looser is accepted.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use futures::StreamExt;
use http::Request;
use support::gzip::one_member;
use support::{
    Answer, DATA_END, DATA_START, Http, Prometheus, Promfront, Random, corpus, escaped, range_params, unescaped,
};

const QUERIES: &str = include_str!("differential/queries.txt");
const ORDER_DEPENDENT: &str = include_str!("differential/order_dependent.txt");
const CONSTRUCTS: &str = include_str!("differential/constructs.txt");

/// What promfront says besides.
const OWN_HEADERS: [&str; 2] = ["x-promfront-result", "server-timing"];

const MIDNIGHT: i64 = DATA_START + 5 * 86_400;

/// The windows: name, start, end, step, as they stand in the request.
fn windows() -> Vec<(&'static str, String, String, &'static str)> {
    let window = |name, start: i64, end: i64, step| (name, start.to_string(), end.to_string(), step);
    let day = 86_400;
    vec![
        window("aligned", MIDNIGHT - 2 * day, MIDNIGHT + day, "10m"),
        window("the same, extended", MIDNIGHT - 3 * day, MIDNIGHT + day + 7200, "600"),
        window("the same, zoomed", MIDNIGHT - day + 3600, MIDNIGHT - 1800, "10m"),
        window("the same, shifted by a day", MIDNIGHT - day, MIDNIGHT + 2 * day, "10m"),
        window("seven seconds late", MIDNIGHT - 2 * day + 7, MIDNIGHT + day + 7, "10m"),
        window("a time zone's phase", DATA_START - 19_800, DATA_END, "6h"),
        window("a step that divides no day", MIDNIGHT - 2 * day, MIDNIGHT + day, "37m"),
        window("another", MIDNIGHT - day - 100, MIDNIGHT + 900, "7m"),
        window("a third", DATA_START, DATA_END, "50m"),
        window("seconds across midnight", MIDNIGHT - 3600, MIDNIGHT + 3600, "37"),
        window("a step over a day", DATA_START + 55, DATA_END, "1d12h"),
        window("one instant", MIDNIGHT, MIDNIGHT, "60"),
        window("across midnight", MIDNIGHT - 1800, MIDNIGHT + 1800, "1m"),
        window("the end is no instant", MIDNIGHT - 1000, MIDNIGHT + 1001, "300"),
        window("beyond the data", DATA_END - 3600, DATA_END + 3 * day, "30m"),
        ("fractions", format!("{}.705", MIDNIGHT - 40_000), format!("{}.1", MIDNIGHT + 40_000), "432.1"),
        ("RFC 3339", "2024-02-05T20:00:00.125Z".to_owned(), "2024-02-06T05:30:00+05:30".to_owned(), "17m"),
    ]
}

/// One request of the suite.
#[derive(Clone, Debug)]
struct Case {
    query: Arc<str>,
    window: &'static str,
    params: String,
    is_post: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_that_of_the_server_itself() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let mut random = Random::seeded("differential");
    let queries = corpus(QUERIES);
    assert!(queries.len() >= 400, "{} queries", queries.len());
    // `PROMFRONT_SHARE=1` asks every query in every window; the default asks a third of the windows of each.
    let share: usize = std::env::var("PROMFRONT_SHARE").ok().and_then(|share| share.parse().ok()).unwrap_or(3);
    let mut cases = Vec::new();
    for query in &queries {
        for (name, start, end, step) in windows() {
            if random.below(share) == 0 {
                let params = range_params(query, &start, &end, step);
                cases.push(Case { query: query.as_str().into(), window: name, params, is_post: random.below(2) == 0 });
            }
        }
    }
    random.shuffle(&mut cases);
    let total = cases.len();
    let (direct, through) = (Arc::new(Judge::new(&prometheus.url)), Arc::new(Asker::new(&promfront.url)));
    let problems: Vec<String> = futures::stream::iter(cases)
        .map(|case| {
            let (direct, through) = (Arc::clone(&direct), Arc::clone(&through));
            tokio::spawn(async move { direct.compare(&case, &through).await })
        })
        .buffer_unordered(4)
        .filter_map(|outcome| async move { outcome.expect("no panic") })
        .collect()
        .await;
    let mut report = String::new();
    for problem in problems.iter().take(20) {
        writeln!(report, "{problem}").expect("a string can be written to");
    }
    assert!(problems.is_empty(), "{} of {total} differ:\n{report}", problems.len());
    println!("{} queries, {total} requests, each asked twice and once packed: 0 differ", queries.len());
    the_cached_path_was_taken(&promfront, total, through.packed.load(Ordering::Relaxed)).await;
}

/// What would make the comparison empty: an answer that never came out of the cache, or never was packed.
async fn the_cached_path_was_taken(promfront: &Promfront, total: usize, packed: usize) {
    assert!(packed > total / 2, "{packed} answers were packed");
    let metrics = promfront.metrics().await;
    for (name, value) in metrics.all("promfront_range_queries_total") {
        println!("{name} {value}");
    }
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let asked = 3.0 * total as f64;
    let queries = |parts: &[&str]| metrics.sum("promfront_range_queries_total", parts);
    assert!((metrics.sum("promfront_range_queries_total", &[]) - asked).abs() < 0.5, "every request was counted");
    assert!(queries(&["status=\"hit\""]) > asked * 0.45, "later askings are hits");
    assert!(queries(&["status=\"phit\""]) > asked / 150.0, "windows overlap");
    assert!(metrics.sum("promfront_range_query_points_total", &["cache"]) > 100_000.0, "points came out of the cache");
    assert!(queries(&["status=\"bypass\""]) < asked * 0.4, "most queries are understood");
    assert!(metrics.sum("promfront_split_parts_total", &[]) > asked * 0.5, "queries were cut");
}

/// A client of promfront.
struct Asker {
    http: Http,
    url: String,
    packed: AtomicUsize,
}

impl Asker {
    fn new(url: &str) -> Self {
        Self { http: Http::new(), url: format!("{url}/api/v1/query_range"), packed: AtomicUsize::new(0) }
    }

    async fn ask(&self, case: &Case) -> Answer {
        self.ask_for(case, "identity").await
    }

    /// Asks for it packed, and unpacks it if it is.
    async fn ask_packed(&self, case: &Case) -> Answer {
        let mut answer = self.ask_for(case, "gzip").await;
        if answer.header("content-encoding") == "gzip" {
            let plain = one_member(&answer.body).unwrap_or_else(|problem| format!("(gzip that is {problem})").into());
            answer.body = plain.into();
            self.packed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn ask_for(&self, case: &Case, coding: &str) -> Answer {
        let (request, body) = if case.is_post {
            // As Grafana sends it: custom parameters in the URL, the query in the body.
            let request = Request::post(format!("{}?grafana=custom%2Fparameter", self.url));
            (request.header("content-type", "application/x-www-form-urlencoded"), Body::from(case.params.clone()))
        } else {
            (Request::get(format!("{}?{}", self.url, case.params)), Body::empty())
        };
        self.http.send(request.header("accept-encoding", coding).body(body).expect("a sound request")).await
    }
}

/// The direct server, and what is known of its moods.
struct Judge {
    direct: Asker,
    moods: BTreeMap<String, Mood>,
}

/// In what a server's answer may differ from its own next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// The last digits.
    Values,
    /// Which of equals it takes.
    Series,
    /// Which series the error names.
    ErrorText,
}

impl Judge {
    fn new(url: &str) -> Self {
        let mut moods = BTreeMap::new();
        let mut mood = Mood::Values;
        for line in ORDER_DEPENDENT.lines() {
            match line.strip_prefix("# == ").and_then(|heading| heading.split(':').next()) {
                Some("values") => mood = Mood::Values,
                Some("series") => mood = Mood::Series,
                Some("error text") => mood = Mood::ErrorText,
                Some(other) => panic!("unknown group {other}"),
                None if line.is_empty() || line.starts_with('#') => {}
                None => drop(moods.insert(unescaped(line), mood)),
            }
        }
        Self { direct: Asker::new(url), moods }
    }

    /// Asks directly, twice through promfront, and once more for a packed answer; says how they differ.
    async fn compare(&self, case: &Case, through: &Asker) -> Option<String> {
        let want = self.direct.ask(case).await;
        for attempt in ["first", "second", "third, packed"] {
            let got = if attempt == "third, packed" { through.ask_packed(case).await } else { through.ask(case).await };
            if got.status == want.status && got.body == want.body {
                continue;
            }
            if self.is_a_mood_of_the_server(case, &want, &got).await {
                continue;
            }
            return Some(format!(
                "{} in {} ({attempt} time, {})\n  {}\n  direct: {} {}\n  got:    {} {}",
                case.query,
                case.window,
                if case.is_post { "POST" } else { "GET" },
                got.result(),
                want.status,
                excerpt(&want, &got),
                got.status,
                excerpt(&got, &want),
            ));
        }
        None
    }

    /// Whether the server was just now seen to differ from itself on this query, and promfront differs from it in the same way.
    async fn is_a_mood_of_the_server(&self, case: &Case, want: &Answer, got: &Answer) -> bool {
        let Some(mood) = self.moods.get(&*case.query) else { return false };
        if got.status != want.status {
            return false;
        }
        let is_alike = match mood {
            Mood::Values => values_are_close(want, got),
            Mood::Series => same_values_at_each_instant(want, got),
            Mood::ErrorText => {
                let before_the_group = |answer: &Answer| {
                    answer.json()["error"].as_str().and_then(|text| text.split('{').next().map(str::to_owned))
                };
                before_the_group(want) == before_the_group(got) && want.json()["errorType"] == got.json()["errorType"]
            }
        };
        is_alike && self.differs_from_itself(case, want).await
    }

    async fn differs_from_itself(&self, case: &Case, first: &Answer) -> bool {
        // A window with few samples may show it seldom: the whole of the data is asked as well.
        let wide = Case {
            params: range_params(&case.query, &DATA_START.to_string(), &DATA_END.to_string(), "600"),
            ..case.clone()
        };
        let first_wide = self.direct.ask(&wide).await;
        for _ in 0..100 {
            if self.direct.ask(case).await.body != first.body || self.direct.ask(&wide).await.body != first_wide.body {
                return true;
            }
        }
        false
    }
}

fn matrix(answer: &Answer) -> Vec<serde_json::Value> {
    answer.json()["data"]["result"].as_array().cloned().unwrap_or_default()
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs()) || a.to_bits() == b.to_bits() || (a - b).abs() < 1e-12
}

fn values_are_close(want: &Answer, got: &Answer) -> bool {
    let (want, got) = (matrix(want), matrix(got));
    want.len() == got.len()
        && want.iter().zip(&got).all(|(want, got)| {
            let points = |series: &serde_json::Value| series["values"].as_array().cloned().unwrap_or_default();
            let (a, b) = (points(want), points(got));
            want["metric"] == got["metric"]
                && a.len() == b.len()
                && a.iter().zip(&b).all(|(a, b)| a[0] == b[0] && is_close(number(&a[1]), number(&b[1])))
        })
}

fn same_values_at_each_instant(want: &Answer, got: &Answer) -> bool {
    let by_instant = |answer: &Answer| {
        let mut instants = BTreeMap::<String, Vec<String>>::new();
        for series in matrix(answer) {
            for point in series["values"].as_array().into_iter().flatten() {
                instants.entry(point[0].to_string()).or_default().push(point[1].to_string());
            }
        }
        for values in instants.values_mut() {
            values.sort();
        }
        instants
    };
    by_instant(want) == by_instant(got)
}

/// The surroundings of the first byte in which two bodies differ.
fn excerpt(answer: &Answer, other: &Answer) -> String {
    let differs = answer
        .body
        .iter()
        .zip(&other.body)
        .position(|(a, b)| a != b)
        .unwrap_or(answer.body.len().min(other.body.len()));
    let text = answer.body.get(differs.saturating_sub(80)..(differs + 120).min(answer.body.len())).unwrap_or_default();
    format!("({} bytes, from {}) {}", answer.body.len(), differs.saturating_sub(80), String::from_utf8_lossy(text))
}

#[test]
fn the_corpus_has_no_query_twice_and_uses_every_construct() {
    let queries = corpus(QUERIES);
    let (answering, _) = QUERIES.split_once("\n# == errors").expect("the errors come last");
    let answering = corpus(answering);
    let distinct: BTreeSet<&String> = queries.iter().collect();
    assert_eq!(distinct.len(), queries.len(), "a query stands twice");
    for line in CONSTRUCTS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (construct, token) =
            line.split_once('\t').unwrap_or_else(|| (line, line.split(' ').nth(1).unwrap_or_default()));
        let token = unescaped(token);
        assert!(answering.iter().any(|query| uses(query, &token)), "no query uses {construct}");
    }
}

/// Whether a token stands in a query, not as a part of a longer word.
fn uses(query: &str, token: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let touches = |c: char| is_word(c) || c == ':';
    query.match_indices(token).any(|(at, found)| {
        let before = query[..at].chars().next_back().is_some_and(touches) && token.starts_with(is_word);
        let after = query[at + found.len()..].chars().next().is_some_and(touches) && token.ends_with(is_word);
        !before && !after
    })
}

/// The points are counted on the client's own request, although the server would see only parts of it (C1 and the limit).
#[tokio::test]
async fn eleven_thousand_points_and_one_more() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let http = Http::new();
    for (steps, code) in [(10_999, 200), (11_000, 200), (11_001, 400), (20_000, 400)] {
        for query in ["temperature_celsius", "sum(up)", "1 + 1", "not a query("] {
            let params = range_params(query, &(DATA_END - steps * 60).to_string(), &DATA_END.to_string(), "60");
            let [want, got, again] = [&prometheus.url, &promfront.url, &promfront.url]
                .map(|url| format!("{url}/api/v1/query_range?{params}"));
            let (want, got, again) = (http.get(&want).await, http.get(&got).await, http.get(&again).await);
            if !query.contains('(') || query == "sum(up)" {
                assert_eq!(want.status.as_u16(), code, "{query} {steps}");
            }
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{query} {steps}");
            assert_eq!((again.status, again.text()), (want.status, want.text()), "{query} {steps}");
        }
    }
    let metrics = promfront.metrics().await;
    assert!(
        metrics.sum("promfront_range_query_points_total", &["cache"]) >= 3.0 * 2.0 * 10_999.0,
        "the second answers came out of the cache"
    );
}

/// `HEAD` is a method like any other: the server knows it for none of its questions, and so says the head that it has for that.
#[tokio::test]
async fn head_is_answered_as_the_server_answers_it() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let http = Http::new();
    let held = range_params("up", &MIDNIGHT.to_string(), &(MIDNIGHT + 36_000).to_string(), "60");
    let path = "/api/v1/query_range";
    for turn in ["cold", "warm"] {
        for params in [format!("?{held}"), "?query=up".to_owned(), String::new()] {
            for coding in ["identity", "gzip"] {
                let ask = async |method: &str, url: &str| {
                    let request = Request::builder().method(method).uri(format!("{url}{path}{params}"));
                    http.send(request.header("accept-encoding", coding).body(Body::empty()).expect("a request")).await
                };
                let (want, got) = (ask("HEAD", &prometheus.url).await, ask("HEAD", &promfront.url).await);
                assert_eq!((got.status, got.text()), (want.status, want.text()), "{params} {coding} {turn}");
                for name in want.headers.keys().filter(|name| *name != "date") {
                    assert_eq!(got.header(name.as_str()), want.header(name.as_str()), "{name} of {params}");
                }
                let more: Vec<&str> = got.headers.keys().map(http::HeaderName::as_str).collect();
                let is_known = |name: &&str| want.headers.contains_key(*name) || OWN_HEADERS.contains(name);
                assert!(more.iter().all(is_known), "{params} {coding} {turn}: {more:?}");
                // The connection is fit for what comes next.
                let (want, got) = (ask("GET", &prometheus.url).await, ask("GET", &promfront.url).await);
                assert_eq!((got.status, got.plain()), (want.status, want.plain()), "{params} {coding} {turn}");
            }
        }
    }
    let metrics = promfront.metrics().await;
    assert!((metrics.sum("promfront_range_queries_total", &["status=\"hit\""]) - 3.0).abs() < 0.5, "what was held");
}

/// What no grid can be made of, the server judges in its own words.
#[tokio::test]
async fn refusals_are_those_of_the_server() {
    let prometheus = Prometheus::with_test_data().await;
    let promfront = Promfront::before(&prometheus.url);
    let http = Http::new();
    let (start, end) = (DATA_START, DATA_START + 3600);
    let up = |start: &str, end: &str, step: &str| range_params("up", start, end, step);
    let mut requests = vec![
        String::new(),
        "query=up".to_owned(),
        format!("start={start}&end={end}&step=60"),
        format!("query=&start={start}&end={end}&step=60"),
        format!("query=up&end={end}&step=60"),
        format!("query=up&start={start}&step=60"),
        format!("query=up&start={start}&end={end}"),
        format!("query=up&start={start}&end={end}&step=60&timeout=x"),
        format!("query=up&start={start}&end={end}&step=60&timeout="),
        format!("query=up&start={start}&end={end}&step=60&timeout=30s"),
        format!("query=up&start={start}&end={end}&step=60&timeout=-1s"),
        format!("query=up&start={start}&end={end}&step=60&limit=x"),
        format!("query=up;x=1&start={start}&end={end}&step=60"),
        format!("query=up%zz&start={start}&end={end}&step=60"),
        format!("query=up&query=down&start={start}&start=5&end={end}&step=60&step=1"),
    ];
    for step in
        ["0", "-1", "0s", "x", "NaN", "Inf", "1e300", "0.0000001", "9223372036854775807", "1h1h", "5m5", "0x10", "1_0"]
    {
        requests.push(up(&start.to_string(), &end.to_string(), step));
    }
    for time in [
        "x",
        "",
        "NaN",
        "+Inf",
        "-1h",
        "now",
        "1e400",
        "2024-02-01",
        "2024-02-01T00:00:00",
        "2024-02-01 00:00:00Z",
        "0x65bad380",
        "1_706_745_600",
    ] {
        requests.push(up(time, &end.to_string(), "60"));
        requests.push(up(&start.to_string(), time, "60"));
    }
    for (start, end, step) in [
        ("10", "9", "1"),
        ("-9223372036854775", "9223372036854775", "1000000000000"),
        ("-292273086-05-16T16:47:06Z", "2024-02-01T00:00:00Z", "9000000000"),
        ("2024-02-01T00:00:00Z", "+292277025-08-18T07:12:54.999999999Z", "9000000000"),
        ("2024-02-01T00:00:00.000000001Z", "2024-02-01T01:00:00.999999999Z", "60"),
        ("1706745600.0004", "1706749200.0006", "60.0001"),
        ("-1.5", "1.5", "0.5"),
    ] {
        requests.push(up(start, end, step));
    }
    for params in &requests {
        for is_post in [false, true] {
            let ask = async |url: &str| {
                let url = format!("{url}/api/v1/query_range");
                if is_post { http.post(&url, params).await } else { http.get(&format!("{url}?{params}")).await }
            };
            let (want, got) = (ask(&prometheus.url).await, ask(&promfront.url).await);
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{params} (post: {is_post})");
            assert!(got.result().starts_with("status="), "{params}: {}", got.result());
        }
    }
    assert!(escaped("+") == "%2B", "the requests above say what they seem to say");
}
