//! Entries that are not what they should be: somebody else's, another version's, bombs, too large, or gone (rows 10 to 14,
//! 22 and 23).

use std::collections::BTreeMap;
use std::fs;

use futures::FutureExt;
use xxhash_rust::xxh3::xxh3_64;

use crate::cell::{
    Afterwards, BACK_WITHIN, Cache, Cell, Sign, cell, hits, in_use, memcached_yaml, misses, redis_yaml, together,
    written,
};
use crate::support::scripted::{Scripted, ok};
use crate::support::{DATA_START, Http, Prometheus, Promfront, Random, range_params, until};
use crate::truth::is_full;

/// What stands before a page: the length and the mark of the whole, and the number of the piece.
const PIECE_HEAD: usize = 14;
/// Magic, version and checksum of a page.
const PAGE_HEAD: usize = 12;

async fn nothing(_: &mut Cell) {}

/// Gives each page's value to another page.
async fn exchange(cell: &mut Cell) {
    let mut pages = cell.cache.pages().await;
    assert!(pages.len() >= 10, "{} pages", pages.len());
    let (_, mut value) = pages.last().cloned().expect("there are some");
    for (key, own) in &mut pages {
        std::mem::swap(own, &mut value);
        cell.cache.put(key, own).await;
    }
}

/// Row 10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_another_key_is_a_miss() {
    let cells = Cache::both()
        .await
        .map(|cache| cell("exchanged", cache, exchange, &[Sign::Miss("key")], nothing, Afterwards::Lost).boxed_local());
    together(cells).await;
}

/// Row 10: what was learnt about other data is a canary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_of_another_tenant_is_a_miss() {
    let cells = Cache::both().await.map(|cache| exchanged_with_another_tenant(cache).boxed_local());
    together(cells).await;
}

async fn exchanged_with_another_tenant(cache: Cache) {
    let (others, http) = (Prometheus::empty().await, Http::new());
    let mut cell = Cell::taught("another tenant's", cache).await;
    let yaml = cell.yaml.replace("namespace: test", "namespace: others");
    let all: Vec<String> = cell.questions.iter().flatten().cloned().collect();
    let asks_all = async |sign: &str| {
        let promfront = Promfront::configured(&others.url, &yaml);
        in_use(&promfront).await;
        for params in &all {
            let [want, got] = [&others.url, &promfront.url].map(|url| format!("{url}/api/v1/query_range?{params}"));
            let (want, got) = (http.get(&want).await, http.get(&got).await);
            assert_eq!((got.status, got.text()), (want.status, want.text()), "{params}: of another tenant");
        }
        assert!(misses(&promfront.metrics().await, sign) > 0.5, "the shared tier was asked");
        promfront.stop().await;
    };
    asks_all("absent").await;
    exchange(&mut cell).await;
    cell.start_replicas();
    cell.until_shared(BACK_WITHIN).await;
    for phase in 0..3 {
        cell.ask_phase(phase).await;
    }
    assert!(misses(&cell.reader().metrics().await, "key") > 0.5, "the entries were met");
    asks_all("key").await;
    cell.end();
}

/// Row 22: two queries whose keys collide find each other's pages, and nothing else tells them apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_whose_hashes_collide_share_a_place_and_no_answers() {
    let cells = Cache::both()
        .await
        .map(|cache| cell("collisions", cache, collide, &[Sign::Miss("key")], nothing, Afterwards::Lost).boxed_local());
    together(cells).await;
}

/// Exchanges the pages of the same name of two queries each.
async fn collide(cell: &mut Cell) {
    let mut pages_by_name = BTreeMap::<String, Vec<(String, Vec<u8>)>>::new();
    for (key, value) in cell.cache.pages().await {
        let (_, name) = key.split_once('}').expect("a hash stands in braces");
        pages_by_name.entry(name.to_owned()).or_default().push((key, value));
    }
    let mut pairs = 0;
    for pages in pages_by_name.values() {
        for pair in pages.chunks_exact(2) {
            cell.cache.put(&pair[0].0, &pair[1].1).await;
            cell.cache.put(&pair[1].0, &pair[0].1).await;
            pairs += 1;
        }
    }
    assert!(pairs >= 3, "{pairs} pairs");
}

/// Row 11: entries of an older and a newer form, whether they lie under our keys or under their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_another_version_are_misses_and_stay_what_they_are() {
    let [redis, memcached] = Cache::both().await;
    together([of_another_version(redis, -1).boxed_local(), of_another_version(memcached, 1).boxed_local()]).await;
    if is_full() {
        let [redis, memcached] = Cache::both().await;
        together([of_another_version(redis, 1).boxed_local(), of_another_version(memcached, -1).boxed_local()]).await;
    }
}

async fn of_another_version(cache: Cache, change: i8) {
    let mut cell = Cell::taught(&format!("version {change:+}"), cache).await;
    cell.begin().await;
    let version = |of: &[u8]| of[PIECE_HEAD + 3].wrapping_add_signed(change);
    let mut theirs = Vec::new();
    for (key, mut value) in cell.cache.pages().await {
        let of_them = key.replacen(":1:", &format!(":{}:", version(&value)), 1);
        assert_ne!(key, of_them);
        value[PIECE_HEAD + 3] = version(&value);
        cell.cache.put(&key, &value).await;
        cell.cache.put(&of_them, &value).await;
        theirs.push((of_them, value));
    }
    cell.suffer(&[Sign::Miss("version")]).await;
    cell.recover(Afterwards::Lost).await;
    for (key, value) in theirs {
        assert_eq!(cell.cache.get(&key).await, Some(value), "{key} was touched");
    }
    cell.end();
}

/// Row 12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_cost_no_memory() {
    let nothing = |length| zstd::bulk::compress(&vec![b' '; length], 1).expect("it can be compressed");
    let label = |length| {
        let text = format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{"l":"{}"}},"values":[[{},"1"]]}}]}}}}"#,
            "x".repeat(length),
            DATA_START + 3600
        );
        (u32::try_from(text.len()).expect("short"), zstd::bulk::compress(text.as_bytes(), 1).expect("it can be"))
    };
    let one = |length: u32, packed: Vec<u8>| vec![(length, packed)];
    let bombs = [
        ("says 4 GiB", one(u32::MAX, nothing(64 << 20)), "size"),
        ("says 255 MiB, and is", one(255 << 20, nothing(255 << 20)), "size"),
        ("says 1 KiB, and is 64 MiB", one(1024, nothing(64 << 20)), "text"),
        ("is large in all", vec![label(15 << 20); 16], "size"),
    ];
    for cache in Cache::both().await {
        let mut cell = Cell::taught("bombs", cache).await;
        let (start, end) = (DATA_START + 3600, DATA_START + 3600 + 60 * 60);
        cell.start_replicas();
        cell.until_shared(BACK_WITHIN).await;
        // Each is laid in the place of a page that nobody has read yet.
        let mut number = 0;
        for (name, extents, reason) in &bombs {
            number += 1;
            let params = range_params(&format!("sum(up) + {number}"), &start.to_string(), &end.to_string(), "60");
            let known: Vec<_> = cell.cache.keys().await;
            let learner = cell.start_one(BACK_WITHIN).await;
            cell.same(&learner, &params).await;
            learner.stop().await;
            let text = format!("sum(up) + {number}");
            let mut laid = 0;
            for (key, value) in cell.cache.pages().await {
                let is_ours = value.windows(text.len()).any(|part| part == text.as_bytes());
                if !known.contains(&key) && is_ours {
                    cell.cache.put(&key, &with_extents(&value, extents)).await;
                    laid += 1;
                }
            }
            assert!(laid >= 1, "{name}: it lies there");
            let reader = cell.reader();
            let (met, before) = (misses(&reader.metrics().await, reason), peak_bytes(reader));
            cell.same(reader, &params).await;
            let (met, grown) = (misses(&reader.metrics().await, reason) - met, peak_bytes(reader) - before);
            assert!(met > 0.5, "{name}: it was met as {reason}");
            assert!(grown <= 16 << 20, "{name}: {grown} bytes");
            cell.note(format_args!("{name}: {} KiB", grown >> 10));
        }
        cell.end_of_few();
    }
}

/// A stored value with other extents in its page, sound to the last checksum.
fn with_extents(stored: &[u8], extents: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let page = &stored[PIECE_HEAD..];
    let identity_bytes = u32::from_le_bytes(*page[PAGE_HEAD..].first_chunk().expect("a length")) as usize;
    // After the identity the slot and the section stand.
    let count_at = PAGE_HEAD + 4 + identity_bytes + 9;
    let times = &page[count_at + 1..count_at + 1 + 40];
    let mut bytes = page[..count_at].to_vec();
    bytes.push(u8::try_from(extents.len()).expect("few"));
    for (length, packed) in extents {
        bytes.extend_from_slice(times);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(packed.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(packed);
    }
    let checksum = xxh3_64(&bytes[PAGE_HEAD..]);
    bytes[4..PAGE_HEAD].copy_from_slice(&checksum.to_le_bytes());
    let mut value = u32::try_from(bytes.len()).expect("short").to_le_bytes().to_vec();
    value.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    value.extend_from_slice(&[0, 0]);
    value.extend_from_slice(&bytes);
    value
}

/// The most memory that a process has had since it was last asked for it.
fn peak_bytes(promfront: &Promfront) -> u64 {
    let folder = format!("/proc/{}", promfront.id());
    let status = fs::read_to_string(format!("{folder}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
    fs::write(format!("{folder}/clear_refs"), "5").expect("it is our child");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Row 13: what is longer than an item is cut, or refused by a server that takes less than it was said to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_longer_than_an_item_are_cut_or_refused() {
    let noon = (DATA_START + 86_400 + 43_200).to_string();
    let (start, end) = ((DATA_START + 86_400).to_string(), (DATA_START + 2 * 86_400 - 60).to_string());
    let [half, whole] = [noon, end].map(|end| range_params("{__name__!=\"\"}", &start, &end, "60"));
    let limits = [
        // Name, options of the server, of promfront, what becomes of large pages, whether the others find them.
        ("cut", vec![], "max_item_bytes: 64KiB", "stored", true),
        ("refused", vec!["-I", "512k"], "max_item_bytes: 1MiB", "refused", false),
    ];
    for (name, args, option, outcome, is_shared) in limits {
        let cache = Cache::memcached(&args).await;
        let address = format!("addresses: [\"127.0.0.1:{}\"]", cache.port());
        let yaml = memcached_yaml(&format!("{address}\n{option}\ntimeout: 2s"));
        large_values(&format!("oversized: {name}"), cache, yaml, &half, (outcome, is_shared)).await;
    }
    let cache = Cache::redis(&[]).await;
    let yaml = redis_yaml(&format!("url: redis://127.0.0.1:{}\ntimeout: 2s", cache.port()));
    large_values("oversized: cut", cache, yaml, &whole, ("stored", true)).await;
}

async fn large_values(name: &str, cache: Cache, yaml: String, large: &str, (outcome, is_shared): (&str, bool)) {
    let mut cell = Cell::untaught(name, cache).await;
    cell.yaml = yaml;
    cell.start_replicas();
    cell.until_shared(BACK_WITHIN).await;
    let before = written(&cell.replicas[1].metrics().await, outcome);
    cell.same(&cell.replicas[1], large).await;
    until("it is written or not", async || written(&cell.replicas[1].metrics().await, outcome) > before + 0.5).await;
    let pages = cell.cache.pages().await;
    let pieces = pages.iter().filter(|(key, _)| key.contains('/')).count();
    let before = hits(&cell.reader().metrics().await);
    cell.same(cell.reader(), large).await;
    let is_hit = hits(&cell.reader().metrics().await) > before + 0.5;
    assert_eq!(is_hit, is_shared, "{name}: the other replica finds it");
    assert_eq!(pieces > 0, is_shared, "{name}: {pieces} more pieces");
    for phase in 0..3 {
        cell.ask_phase(phase).await;
    }
    cell.until_shared(BACK_WITHIN).await;
    cell.note(format_args!("{pieces} more pieces"));
    cell.end();
}

/// Row 13: what would be too many pieces is left out, once and without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_too_many_pieces_are_left_out() {
    // Digits are packed to half their length: 64 items of 64 KiB are not enough.
    let mut random = Random::named("digits");
    let digits: String = (0..12 << 20).map(|_| char::from(b"0123456789abcdef"[random.below(16)])).collect();
    let at = DATA_START + 3600;
    let series = format!(r#"{{"metric":{{"l":"{digits}"}},"values":[[{at},"1"]]}}"#);
    let body = format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{series}]}}}}"#);
    let answer = ok(body.as_bytes());
    let downstream = Scripted::start(move |_| Some(answer.clone())).await;
    let memcached = Cache::memcached(&[]).await;
    let address = format!("addresses: [\"127.0.0.1:{}\"]", memcached.port());
    let promfront =
        Promfront::configured(&downstream.url, &memcached_yaml(&format!("{address}\nmax_item_bytes: 64KiB")));
    in_use(&promfront).await;
    let (before, http) = (written(&promfront.metrics().await, "too-large"), Http::new());
    let params = range_params("too_large", &at.to_string(), &(at + 600).to_string(), "60");
    for _ in 0..3 {
        let got = http.get(&format!("{}/api/v1/query_range?{params}", promfront.url)).await;
        assert!(got.body == body.as_bytes(), "{}", got.result());
    }
    until("it is left out", async || written(&promfront.metrics().await, "too-large") > before + 0.5).await;
    assert!(memcached.pages().await.iter().all(|(_, value)| value.len() < 1 << 16), "nothing of it lies there");
    assert!(promfront.log().len() < 5, "{:?}", promfront.log());
}

/// Row 14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_always_evicts_is_of_little_use_and_does_no_harm() {
    let evicts = ["--maxmemory-policy", "allkeys-random", "--maxmemory"];
    let cells = [
        // A Redis needs a megabyte for itself: there is never any room in it.
        evicting(Cache::redis(&[&evicts[..], &["1mb"]].concat()).await, "OOM").boxed_local(),
        evicting(Cache::redis(&[&evicts[..], &["2mb"]].concat()).await, "evicted_keys:").boxed_local(),
        evicting(Cache::memcached(&["-m", "1", "-I", "512k"]).await, "STAT evictions ").boxed_local(),
    ];
    together(cells).await;
}

async fn evicting(cache: Cache, sign: &str) {
    let mut cell = Cell::untaught(&format!("evicts, {sign}"), cache).await;
    cell.start_replicas();
    for replica in &cell.replicas {
        in_use(replica).await;
    }
    let storm = storm(0..36);
    for phase in 0..3 {
        for replica in &cell.replicas {
            let some: Vec<_> = storm.iter().skip(phase * 12).take(12).chain(&cell.questions[phase]).cloned().collect();
            cell.all_same(replica, &some).await;
        }
    }
    let mut count = 0.0;
    until("there is no room", async || {
        let stats = match &cell.cache {
            Cache::Memcached(server) => server.command("stats\r\n").await,
            Cache::Redis(server) => server.command(&["INFO"]).await,
            Cache::Several(..) => Vec::new(),
        };
        let stats = String::from_utf8_lossy(&stats);
        count = match stats.lines().find_map(|line| line.strip_prefix(sign)) {
            Some(evicted) => evicted.trim().parse().expect("a number"),
            None => written(&cell.reader().metrics().await, "refused"),
        };
        count > 0.5
    })
    .await;
    let hits = hits(&cell.reader().metrics().await);
    cell.note(format_args!("{hits} hits, {count} {sign}"));
    cell.end();
}

/// Questions whose entries are some ten KiB.
fn storm(numbers: std::ops::Range<usize>) -> Vec<String> {
    let (start, end) = ((DATA_START + 86_400).to_string(), (DATA_START + 2 * 86_400 - 60).to_string());
    numbers.map(|number| range_params(&format!("temperature_celsius * {number}"), &start, &end, "60")).collect()
}

/// Row 23.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_under_a_storm_of_queries() {
    let cache = Cache::redis(&[]).await;
    let mut cell = Cell::untaught("storm", cache).await;
    cell.yaml = cell.yaml.replacen("cache:\n", "cache:\n  memory:\n    max_bytes: 16MiB\n", 1);
    cell.start_replicas();
    cell.until_shared(BACK_WITHIN).await;
    // Each is some hundred KiB: these would be several times of what there is room for.
    cell.all_same(cell.reader(), &storm(0..45)).await;
    let (_, before) = (peak_bytes(cell.reader()), peak_bytes(cell.reader()));
    cell.all_same(cell.reader(), &storm(45..105)).await;
    let grown = peak_bytes(cell.reader()).saturating_sub(before);
    let metrics = cell.reader().metrics().await;
    let held = metrics.sum("promfront_cache_size_bytes", &[]);
    assert!(metrics.sum("promfront_cache_evictions_total", &[]) > 20.0, "the storm was one");
    assert!(held <= 1.1 * f64::from(16 << 20), "{held} bytes are held");
    assert!(grown <= 16 << 20, "{grown} bytes more than when it was full");
    cell.note(format_args!("{held} bytes held, {} MiB more under the storm", grown >> 20));
    cell.end_of_few();
}
