//! What is asked in each cell, and what the Prometheus itself answers to it.
//!
//! A question's answer is asked for once in a test program and remembered; the data is fixed, so it is the same whichever
//! Prometheus of the program gave it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use crate::support::{Answer, DATA_END, DATA_START, Http, Prometheus, Random, corpus, range_params, unescaped};

const QUERIES: &str = include_str!("../differential/queries.txt");
const ORDER_DEPENDENT: &str = include_str!("../differential/order_dependent.txt");

const MIDNIGHT: i64 = DATA_START + 5 * 86_400;
const DAY: i64 = 86_400;

/// Start, end and step. The first four share their step and phase, so that they share entries.
const WINDOWS: [(i64, i64, &str); 11] = [
    (MIDNIGHT - 2 * DAY, MIDNIGHT + DAY, "10m"),
    (MIDNIGHT - 3 * DAY, MIDNIGHT + DAY + 7200, "600"),
    (MIDNIGHT - DAY + 3600, MIDNIGHT - 1800, "10m"),
    (MIDNIGHT - DAY, MIDNIGHT + 2 * DAY, "10m"),
    (DATA_START - 19_800, DATA_END, "6h"),
    (MIDNIGHT - 2 * DAY, MIDNIGHT + DAY, "37m"),
    (DATA_START, DATA_END, "50m"),
    (MIDNIGHT - 1800, MIDNIGHT + 1800, "37"),
    (MIDNIGHT, MIDNIGHT, "60"),
    (MIDNIGHT - 7200, MIDNIGHT + 7200, "1m"),
    (MIDNIGHT - 1000, MIDNIGHT + 1001, "300"),
];

/// Queries of which each cell takes some.
const POOL: usize = 93;

/// Whether `PROMFRONT_SHARE=1` asks for all of the questions in each cell.
pub fn is_full() -> bool {
    std::env::var("PROMFRONT_SHARE").is_ok_and(|share| share == "1")
}

/// The parameters of range queries for the three phases of a cell: before, during and after the fault. No two phases have a
/// query in common, so what one phase asks is not in the first tier because of another.
pub fn questions(cell: &str) -> [Vec<String>; 3] {
    let mut random = Random::named(cell);
    let mut queries = pool().clone();
    random.shuffle(&mut queries);
    let (each, windows) = if is_full() { (POOL / 3, WINDOWS.len()) } else { (2, 3) };
    [1, 2, 3].map(|phase| {
        let mut mine = queries.split_off(queries.len() - each);
        // One that is cached for certain.
        mine.push(format!("sum by (code) (http_requests_total) * {phase}"));
        let mut asked = Vec::new();
        for query in &mine {
            let mut order = WINDOWS;
            random.shuffle(&mut order);
            for (start, end, step) in &order[..windows] {
                asked.push(range_params(query, &start.to_string(), &end.to_string(), step));
            }
        }
        random.shuffle(&mut asked);
        asked
    })
}

/// A question that no other has anything in common with, and whose answer is one page.
pub fn probe(number: usize) -> String {
    let (start, end) = (MIDNIGHT + 3600, MIDNIGHT + 7200);
    range_params(&format!("sum(up) * 1000 + {number}"), &start.to_string(), &end.to_string(), "60")
}

/// Without those whose answers differ by themselves; few of the many that fail, for they are never kept.
fn pool() -> &'static Vec<String> {
    static POOL_OF_QUERIES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let (answering, failing) = QUERIES.split_once("\n# == errors in evaluation").expect("it has such a group");
        let moody: Vec<_> = ORDER_DEPENDENT.lines().map(unescaped).collect();
        let mut random = Random::seeded("questions");
        let mut pick = |text, count| {
            let mut queries = corpus(text);
            queries.retain(|query| !moody.contains(query));
            random.shuffle(&mut queries);
            queries.truncate(count);
            queries
        };
        let failures = POOL / 15;
        let mut pool = pick(answering, POOL - failures);
        pool.extend(pick(failing.split_once('\n').expect("more lines").1, failures));
        pool
    });
    &POOL_OF_QUERIES
}

/// The server itself.
#[derive(Debug)]
pub struct Truth {
    prometheus: Prometheus,
}

/// The one of the tests that run now.
static SHARED: tokio::sync::Mutex<Weak<Truth>> = tokio::sync::Mutex::const_new(Weak::new());
static KNOWN: LazyLock<Mutex<HashMap<String, Answer>>> = LazyLock::new(Mutex::default);

impl Truth {
    /// With the test data; one for all that use it at the same time.
    pub async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(truth) = shared.upgrade() {
            return truth;
        }
        let truth = Arc::new(Self { prometheus: Prometheus::with_test_data().await });
        *shared = Arc::downgrade(&truth);
        truth
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.prometheus.url
    }

    /// What it answers.
    pub async fn answer(&self, http: &Http, params: &str) -> Answer {
        if let Some(known) = KNOWN.lock().get(params) {
            return known.clone();
        }
        let answer = http.get(&format!("{}/api/v1/query_range?{params}", self.url())).await;
        KNOWN.lock().insert(params.to_owned(), answer.clone());
        answer
    }
}
