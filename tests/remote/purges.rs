//! Purging over HTTP: what should not have been kept is gone on every replica within the time that is promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::cell::{BACK_WITHIN, Cache, in_use, misses};
use crate::support::scripted::{Asked, Scripted, ok};
use crate::support::{Answer, DATA_START, Http, Promfront, escaped, range_params, until};

const DAY: i64 = 86_400;
/// What the answer to a purge promises.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(15);

/// A server whose answers can be changed, and replicas before it that share a cache.
struct Rig {
    downstream: Scripted,
    value: Arc<AtomicU64>,
    cache: Cache,
    http: Http,
    replicas: Vec<Promfront>,
}

/// One series, of which each instant has the value of the moment.
fn reply(asked: &Asked, value: u64) -> Vec<u8> {
    let time = |name| asked.param(name).and_then(|text| text.parse::<f64>().ok());
    let (Some(start), Some(end), Some(step)) = (time("start"), time("end"), time("step")) else {
        return ok(br#"{"status":"success","data":{"version":"3.9.0"}}"#);
    };
    let (mut points, mut at) = (Vec::new(), start);
    while at <= end {
        points.push(format!("[{at},\"{value}\"]"));
        at += step;
    }
    let series = format!(r#"{{"metric":{{"l":"a"}},"values":[{}]}}"#, points.join(","));
    ok(format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#).as_bytes())
}

impl Rig {
    async fn start(cache: Cache) -> Self {
        let value = Arc::new(AtomicU64::new(1));
        let told = Arc::clone(&value);
        let downstream = Scripted::start(move |asked| Some(reply(asked, told.load(Ordering::SeqCst)))).await;
        let mut rig = Self { downstream, value, cache, http: Http::new(), replicas: Vec::new() };
        for _ in 0..2 {
            rig.replicas.push(rig.replica("--web.enable-admin-api").await);
        }
        rig
    }

    async fn replica(&self, flag: &str) -> Promfront {
        let yaml = self.cache.yaml(self.cache.port()) + "      timeout: 2s\n";
        let replica = Promfront::launched(&self.downstream.url, &yaml, |command| {
            command.arg(flag);
        });
        in_use(&replica).await;
        replica
    }

    /// The one value of an answer.
    async fn value(&self, replica: &Promfront, query: &str, day: i64) -> u64 {
        let (start, end) = (DATA_START + day * DAY, DATA_START + day * DAY + 3600);
        let params = range_params(query, &start.to_string(), &end.to_string(), "60");
        let answer = self.http.get(&format!("{}/api/v1/query_range?{params}", replica.url)).await;
        let values: Vec<u64> = answer.json()["data"]["result"][0]["values"]
            .as_array()
            .expect("a series")
            .iter()
            .map(|point| point[1].as_str().and_then(|text| text.parse().ok()).expect("a number"))
            .collect();
        assert_eq!(values.len(), 61, "{query}");
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{query}: of one piece");
        values[0]
    }

    async fn purge(&self, replica: &Promfront, form: &str) -> Answer {
        self.http.post(&format!("{}/promfront/api/v1/purge", replica.url), form).await
    }

    async fn purged(&self, form: &str) -> serde_json::Value {
        let answer = self.purge(&self.replicas[0], form).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].clone()
    }

    /// All replicas have learnt what the server says now, one from the server and the others from the shared tier.
    async fn teach(&self, queries: &[(&str, i64)]) {
        let wanted = self.value.load(Ordering::SeqCst);
        for (query, day) in queries {
            assert_eq!(self.value(&self.replicas[0], query, *day).await, wanted);
        }
        for (query, day) in queries {
            until("it lies in the shared tier", async || {
                let pages = self.cache.pages().await;
                pages.iter().any(|(_, value)| value.windows(query.len()).any(|part| part == query.as_bytes()))
            })
            .await;
            assert_eq!(self.value(&self.replicas[1], query, *day).await, wanted);
        }
    }

    /// Changes all records of purges.
    async fn damage(&self, harm: fn(&mut Vec<u8>)) {
        let mut records = Vec::new();
        // Memcached lists its keys now and then without some of them.
        until("there are records", async || {
            records = self.cache.keys().await;
            records.retain(|key| key.contains("purges"));
            !records.is_empty()
        })
        .await;
        for key in &records {
            let mut record = self.cache.get(key).await.expect("it lies there");
            harm(&mut record);
            self.cache.put(key, &record).await;
        }
    }

    /// From now on the server says something else.
    fn changes(&self) -> u64 {
        self.value.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Both replicas say so: the one that was told at once, the other one in time.
    async fn is_gone(&self, query: &str, day: i64, wanted: u64) {
        let began = Instant::now();
        assert_eq!(self.value(&self.replicas[0], query, day).await, wanted, "{query}: where it was purged");
        while self.value(&self.replicas[1], query, day).await != wanted {
            assert!(began.elapsed() < EFFECTIVE_WITHIN, "{query}: the other replica still has it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{query}: gone on the other replica after {:.1?}", began.elapsed());
    }

    async fn is_kept(&self, query: &str, day: i64, wanted: u64) {
        for replica in &self.replicas {
            assert_eq!(self.value(replica, query, day).await, wanted, "{query} is kept");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_is_gone_on_all_replicas() {
    let [redis, memcached] = Cache::both().await;
    tokio::join!(purges(redis), purges(memcached));
}

async fn purges(cache: Cache) {
    let rig = Rig::start(cache).await;
    rig.teach(&[("by_query", 0), ("by_range", 0), ("by_range", 5), ("other", 0)]).await;
    let new = rig.changes();
    let is_old = async || {
        rig.is_kept("by_query", 0, 1).await;
        rig.is_kept("by_range", 0, 1).await;
    };
    is_old().await;

    let preview = rig.purged("query=by_query&dry_run=true").await;
    assert_eq!((&preview["extents"], &preview["dry_run"]), (&1.into(), &true.into()), "{preview}");
    assert!(preview["bytes"].as_u64() > Some(100) && preview.get("replicas").is_none(), "{preview}");
    is_old().await;

    let purged = rig.purged("query=by_query").await;
    assert_eq!(purged["effective_within_seconds"], EFFECTIVE_WITHIN.as_secs());
    let what = (&purged["extents"], &purged["dry_run"], &purged["replicas"]);
    assert_eq!(what, (&1.into(), &false.into(), &"told".into()));
    rig.is_gone("by_query", 0, new).await;
    rig.is_kept("other", 0, 1).await;

    let range = format!("query=by_range&start={}&end={}", DATA_START + 5 * DAY, DATA_START + 6 * DAY);
    assert_eq!(rig.purged(&range).await["extents"], 1);
    rig.is_gone("by_range", 5, new).await;
    rig.is_kept("by_range", 0, 1).await;
    rig.is_kept("other", 0, 1).await;

    assert_eq!(rig.purged("tenant=nobody").await["extents"], 0);
    rig.is_kept("other", 0, 1).await;

    rig.purged("all=true").await;
    rig.is_gone("other", 0, new).await;
    rig.is_gone("by_range", 0, new).await;
    // What was kept before lies in the shared tier still, perhaps; a replica that is new does not use it.
    let late = rig.replica("--web.enable-admin-api").await;
    for (query, day) in [("by_query", 0), ("by_range", 0), ("by_range", 5), ("other", 0)] {
        assert_eq!(rig.value(&late, query, day).await, new, "{query}: a replica that was not there");
    }
}

/// The records of purges are as little believed as pages are: while they are damaged, nothing of the shared tier is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_whose_records_are_damaged_are_not_forgotten() {
    let [redis, memcached] = Cache::both().await;
    tokio::join!(damages(redis), damages(memcached));
}

async fn damages(cache: Cache) {
    let mut rig = Rig::start(cache).await;
    let harms: [fn(&mut Vec<u8>); 3] = [
        |record| record.truncate(record.len() / 2),
        |record| record.iter_mut().for_each(|byte| *byte ^= u8::from(*byte == b'1')),
        Vec::clear,
    ];
    for (round, harm) in harms.into_iter().enumerate() {
        let query = format!("poisoned_{round}");
        rig.teach(&[(&query, 0)]).await;
        let new = rig.changes();
        rig.purged(&format!("query={query}")).await;
        // Who does not know of it yet would mend what is damaged without it; it is known everywhere soon enough.
        rig.is_gone(&query, 0, new).await;
        rig.damage(harm).await;
        let late = rig.replica("--web.enable-admin-api").await;
        assert_eq!(rig.value(&late, &query, 0).await, new, "round {round}: a purge was forgotten");
    }
    // If there is nobody left who knows better, that is not for ever.
    for replica in std::mem::take(&mut rig.replicas) {
        replica.stop().await;
    }
    rig.damage(harms[0]).await;
    let began = Instant::now();
    rig.replica("--web.enable-admin-api").await;
    assert!(began.elapsed() < BACK_WITHIN, "the shared tier is in use after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_that_cannot_be_meant_are_refused() {
    let rig = Rig::start(Cache::redis(&[]).await).await;
    rig.teach(&[("kept", 0)]).await;
    let new = rig.changes();
    for (form, says) in [
        ("", "say what to purge by tenant, query, start or end; or, for everything, by all=true alone"),
        ("all=false", "say what to purge"),
        ("all=true&query=kept", "say what to purge"),
        ("dry_run=true", "say what to purge"),
        ("all=yes", "all: \"yes\" is neither true nor false"),
        ("query=kept&dry_run=1", "dry_run: \"1\" is neither true nor false"),
        ("qeury=kept", "there is no parameter \"qeury\"; there are tenant, query, start, end, all, dry_run"),
        (
            "start=yesterday",
            "start: \"yesterday\" is not a time; write seconds since the epoch or 2024-02-01T00:00:00Z",
        ),
        ("end=x", "end: \"x\" is not a time"),
        ("start=20&end=10", "end lies before start"),
    ] {
        let answer = rig.purge(&rig.replicas[0], form).await;
        let (status, error) = (answer.status.as_u16(), answer.json());
        assert_eq!((status, &error["errorType"]), (400, &"bad_data".into()), "{form}: {error}");
        assert!(error["error"].as_str().is_some_and(|text| text.contains(says)), "{form}: {error}");
    }
    let long = format!("query={}", escaped(&"x".repeat(2049)));
    assert!(rig.purge(&rig.replicas[0], &long).await.text().contains("2049 bytes long and 2048 are the most"));
    let get = rig.http.get(&format!("{}/promfront/api/v1/purge?all=true", rig.replicas[0].url)).await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
    let closed = rig.replica("--log.level=info").await;
    let answer = rig.purge(&closed, "all=true").await;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text());
    assert_eq!(answer.json()["error"], "admin APIs disabled");
    assert_eq!(rig.value(&closed, "kept", 0).await, new - 1, "nothing was purged");
    rig.is_kept("kept", 0, new - 1).await;
    assert!(misses(&rig.replicas[1].metrics().await, "purged") < 0.5);
    // There may be no more of them than are remembered; a purge of everything makes room.
    let mut refused = None;
    for number in 0..300 {
        let answer = rig.purge(&rig.replicas[0], &format!("query=q{number}")).await;
        if !answer.status.is_success() {
            refused = Some(answer.text());
            break;
        }
    }
    assert!(refused.is_some_and(|text| text.contains("256 purges are remembered already")), "there is a bound");
    assert_eq!(rig.purge(&rig.replicas[0], "all=true").await.status, 200);
    assert_eq!(rig.purge(&rig.replicas[0], "query=q1000").await.status, 200);
}
