//! Clients that ask random range queries one after the other, and hold each answer against that of an undisturbed server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::support::{Answer, DATA_END, DATA_START, Http, Promfront, Random, range_params};

/// Clients at the same time.
pub const CLIENTS: usize = 8;
/// Who waits longer for an answer has lost it: well below `downstream.timeout`, well above any pause.
const PATIENCE: Duration = Duration::from_mins(1);
/// None of these adds floats in an order that is chance: the server answers them twice with the same bytes.
const QUERIES: [&str; 14] = [
    "up",
    "sum by (job) (up)",
    "count(up == 1)",
    "sum by (code) (http_requests_total)",
    "rate(http_requests_total{code=\"500\",method=\"GET\"}[5m])",
    "increase(http_requests_total{code=\"200\",method=\"POST\"}[1h])",
    "max by (site) (temperature_celsius)",
    "temperature_celsius > 15",
    "queue_depth offset 1h",
    "max_over_time(node_memory_free_bytes[30m])",
    "quantile_over_time(0.5, temperature_celsius[2h])",
    "histogram_quantile(0.9, rate(http_request_duration_seconds_bucket{instance=\"api-0:8080\"}[10m]))",
    "absent(no_such_metric)",
    "max(node_memory_free_bytes) + time()",
];
const STEPS: [(i64, &str); 4] = [(300, "5m"), (600, "10m"), (900, "900"), (3660, "61m")];

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    pub asked: usize,
    /// Answers that are those of the server itself.
    pub right: usize,
    /// Of those, answers that came out of the cache as a whole or in part.
    pub held: usize,
    /// Answers that are not.
    pub wrong: Vec<String>,
    /// Requests without any answer.
    pub lost: Vec<String>,
    /// Errors by what they are.
    pub errors: BTreeMap<String, usize>,
}

impl Tally {
    pub fn errors(&self) -> usize {
        self.errors.values().sum()
    }

    /// Errors that have these words in them, to compare with metrics.
    pub fn errors_with(&self, words: &str) -> f64 {
        let errors = self.errors.iter().filter(|(kind, _)| kind.contains(words)).map(|(_, count)| *count);
        f64::from(u32::try_from(errors.sum::<usize>()).expect("few"))
    }

    /// Whatever happened to the queriers, these hold.
    pub fn assert_sound(&self) {
        assert!(self.wrong.is_empty(), "{} wrong answers: {:#?}", self.wrong.len(), &self.wrong[..1]);
        assert!(self.lost.is_empty(), "{} requests were not answered: {:#?}", self.lost.len(), self.lost);
        assert_eq!(self.right + self.errors(), self.asked);
        assert!(self.right > 100, "there was load: {self:?}");
    }

    fn judge(&mut self, question: &Question, want: &Answer, got: Option<Answer>) {
        self.asked += 1;
        assert_eq!(want.status.as_u16(), 200, "{question:?}: {}", want.text());
        let Some(got) = got else {
            self.lost.push(format!("{question:?}"));
            return;
        };
        if got.status.as_u16() != 200 {
            *self.errors.entry(kind(&got)).or_default() += 1;
        } else if got.body == want.body {
            self.right += 1;
            self.held += usize::from(got.result().starts_with("status=hit") || got.result().starts_with("status=phit"));
        } else {
            self.wrong.push(format!("{question:?} ({})\nwant {}\ngot  {}", got.result(), want.text(), got.text()));
        }
    }
}

/// What an error is, without what is different each time.
fn kind(got: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_slice(&got.body).unwrap_or_default();
    let text = body["error"].as_str().map_or_else(|| got.text(), str::to_owned);
    let words = [
        "quarantined",
        "the querier left before it answered",
        "can't be reached",
        "closed the connection",
        "ended early",
        "Service Unavailable",
    ];
    let word = words.iter().find(|word| text.contains(**word)).map_or(text.as_str(), |word| *word);
    format!("{} {}: {word}", got.status.as_u16(), body["errorType"].as_str().unwrap_or_default())
}

/// One request.
#[derive(Clone, Debug)]
struct Question {
    params: String,
    is_no_store: bool,
}

impl Question {
    /// A client's windows have a phase of their own: two clients never wait for the same part, so that each failure is met by
    /// one client alone.
    fn random(random: &mut Random, client: usize) -> Self {
        let query = QUERIES[random.below(QUERIES.len())];
        let (step, text) = STEPS[random.below(STEPS.len())];
        let most = usize::try_from((DATA_END - DATA_START) / step).expect("small");
        let count = 1 + random.below(most.min(300));
        let first = random.below(most - count + 1);
        let signed = |number: usize| i64::try_from(number).expect("small");
        let start = DATA_START + signed(client) + 1 + signed(first) * step;
        let end = start + (signed(count) - 1) * step;
        Self {
            params: range_params(query, &start.to_string(), &end.to_string(), text),
            is_no_store: random.below(2) == 0,
        }
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Asks `promfront`, and the server at `truth`, until it is ended.
    pub fn begin(name: &str, promfront: &Promfront, truth: &str) -> Self {
        let (tally, is_over) = (Arc::default(), Arc::default());
        let clients = (0..CLIENTS).map(|client| {
            let random = Random::named(&format!("{name}, client {client}"));
            let asker = Asker { truth: truth.to_owned(), promfront: promfront.url.clone(), http: Http::new() };
            tokio::spawn(asker.ask_on(client, random, Arc::clone(&tally), Arc::clone(&is_over)))
        });
        let clients = clients.collect();
        Self { tally, is_over, clients }
    }

    /// How many requests have an outcome so far.
    pub fn asked(&self) -> usize {
        self.tally.lock().asked
    }

    /// Lets each client end what it asks, and returns what became of all.
    pub async fn end(self) -> Tally {
        self.is_over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.expect("no panic");
        }
        std::mem::take(&mut self.tally.lock())
    }
}

struct Asker {
    truth: String,
    promfront: String,
    http: Http,
}

impl Asker {
    async fn ask_on(self, client: usize, mut random: Random, tally: Arc<Mutex<Tally>>, is_over: Arc<AtomicBool>) {
        while !is_over.load(Ordering::SeqCst) {
            let question = Question::random(&mut random, client);
            let (want, got) = futures::join!(self.ask(&self.truth, &question), self.ask(&self.promfront, &question));
            let want = want.expect("the undisturbed server answers");
            tally.lock().judge(&question, &want, got);
        }
    }

    async fn ask(&self, server: &str, question: &Question) -> Option<Answer> {
        let mut request = Request::get(format!("{server}/api/v1/query_range?{}", question.params));
        if question.is_no_store {
            request = request.header("cache-control", "no-store");
        }
        let request = request.body(Body::empty()).expect("sound");
        tokio::time::timeout(PATIENCE, self.http.try_send(request)).await.ok().flatten()
    }
}
