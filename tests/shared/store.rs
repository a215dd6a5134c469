//! A shared tier in this process: a map on a clock of its own, that can be told to fail in every way that servers have.
//!
//! All replicas of a test share the [`Items`]; each has a [`Door`] of its own to them, which counts what it is given. What a
//! replica may never hand to a store (a key that is no key, a value that is too long, a lifetime of nothing) is noted, for
//! [`Items::check`] to complain of.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use promfront::cache::store::{Item, Loss, Read, Server, Store, Write};
use tokio::time::Instant;

use super::model::mix;

/// The copies of the purge rules lie under keys that begin so.
pub const RULES: &str = "promfront:purges:";

/// What goes wrong with one item of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is not known what came of it; nothing did.
    Lost(Loss),
    /// Nothing is heard until the deadline.
    Hangs,
    /// A write is done, and its reply is lost.
    Unheard,
    /// It is said to be stored, and is not; or it is forgotten when it is read.
    Forgotten,
    /// A read gives bytes that are no value.
    Garbage,
    /// A read gives what lies under another key.
    Another,
    /// A read gives what lay there before.
    Older,
    /// A bit of what is read is another.
    Damaged,
    /// The end of what is read is missing.
    Cut,
}

/// One item of one call.
#[derive(Clone, Copy, Debug)]
pub struct Op<'k> {
    /// Whether it is written.
    pub is_write: bool,
    /// Reads are numbered from 1, and so are writes; those about rules are not counted.
    pub call: u64,
    /// Under which key.
    pub key: &'k str,
}

type Plan = Box<dyn FnMut(Op<'_>) -> Fault + Send>;

/// What all replicas share.
pub struct Items {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<String, Kept>,
    now_ms: i64,
    plan: Option<Plan>,
    are_rules_lost: bool,
    reads: u64,
    writes: u64,
    in_flight: u64,
    lag: u64,
    complaints: Vec<String>,
}

struct Kept {
    value: Bytes,
    before: Option<Bytes>,
    until_ms: i64,
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items")
    }
}

impl Items {
    /// None.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// From now on it is this late, and what has expired is gone.
    pub fn set_clock(&self, now_ms: i64) {
        let mut state = self.state.lock();
        state.now_ms = now_ms;
        state.kept.retain(|_, kept| kept.until_ms > now_ms);
    }

    /// From now on calls fail by this plan, but not those about rules.
    pub fn fail(&self, plan: impl FnMut(Op<'_>) -> Fault + Send + 'static) {
        self.state.lock().plan = Some(Box::new(plan));
    }

    /// From now on no rule can be read or written.
    pub fn lose_rules(&self) {
        self.state.lock().are_rules_lost = true;
    }

    /// From now on all is well.
    pub fn recover(&self) {
        let mut state = self.state.lock();
        (state.plan, state.are_rules_lost) = (None, false);
    }

    /// Calls take up to so many turns of other tasks.
    pub fn lag(&self, turns: u64) {
        self.state.lock().lag = turns;
    }

    /// How many calls there were, and how many are under way.
    pub fn calls(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.reads + state.writes, state.in_flight)
    }

    /// What lies there, rules excepted.
    pub fn pages(&self) -> BTreeMap<String, Bytes> {
        let pages = |(key, kept): (&String, &Kept)| (key.clone(), kept.value.clone());
        self.state.lock().kept.iter().filter(|(key, _)| !key.starts_with(RULES)).map(pages).collect()
    }

    /// The copies of the rules that lie there.
    pub fn rules(&self) -> BTreeMap<String, Bytes> {
        let copies = |(key, kept): (&String, &Kept)| (key.clone(), kept.value.clone());
        self.state.lock().kept.iter().filter(|(key, _)| key.starts_with(RULES)).map(copies).collect()
    }

    /// Until when something lies under a key.
    pub fn expiry(&self, key: &str) -> Option<i64> {
        self.state.lock().kept.get(key).map(|kept| kept.until_ms)
    }

    /// Puts something there.
    pub fn put(&self, key: &str, value: Bytes) {
        self.state.lock().put(key, value, Duration::from_hours(10_000));
    }

    /// Forgets the items whose key is one of these.
    pub fn forget(&self, is_gone: impl Fn(&str) -> bool) {
        self.state.lock().kept.retain(|key, _| !is_gone(key));
    }

    /// Panics if a replica did what it must not.
    pub fn check(&self) {
        assert_eq!(self.state.lock().complaints, Vec::<String>::new());
    }

    /// Waits until nothing is written any more.
    ///
    /// The runtime has one thread for work that blocks, which takes it in order: what was handed to it before is done when
    /// our own, handed to it last, is done. After a few rounds of that without a call to the store none is to come.
    pub async fn settle(&self) {
        let (mut quiet, mut before) = (0, self.calls());
        while quiet < 3 {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(|| ()).await.expect("nothing panics");
            let now = self.calls();
            quiet = if now == before && now.1 == 0 { quiet + 1 } else { 0 };
            before = now;
        }
    }

    fn begin(&self, is_write: bool, is_about_rules: bool) -> (u64, u64) {
        let mut state = self.state.lock();
        state.in_flight += 1;
        let count = if is_write { &mut state.writes } else { &mut state.reads };
        *count += u64::from(!is_about_rules);
        let call = *count;
        let turns = mix(&[state.reads.cast_signed(), state.writes.cast_signed()]) % (state.lag + 1);
        (call, turns)
    }

    fn end(&self) {
        self.state.lock().in_flight -= 1;
    }
}

impl State {
    fn fault(&mut self, op: Op<'_>) -> Fault {
        if op.key.starts_with(RULES) {
            return if self.are_rules_lost { Fault::Lost(Loss::Unavailable) } else { Fault::None };
        }
        self.plan.as_mut().map_or(Fault::None, |plan| plan(op))
    }

    fn read(&self, fault: Fault, op: Op<'_>) -> Read {
        let kept = self.kept.get(op.key).filter(|kept| kept.until_ms > self.now_ms);
        let value = |bytes: Option<&Bytes>| bytes.map_or(Read::Absent, |bytes| Read::Value(bytes.clone()));
        let at = |length: usize| usize::try_from(mix(&[op.call.cast_signed()])).unwrap_or(0) % length;
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = kept.map(|kept| kept.value.to_vec());
            bytes.iter_mut().for_each(change);
            bytes.map_or(Read::Absent, |bytes| Read::Value(bytes.into()))
        };
        match fault {
            Fault::None | Fault::Unheard => value(kept.map(|kept| &kept.value)),
            Fault::Lost(loss) => Read::Lost(loss),
            Fault::Hangs => Read::Lost(Loss::Timeout),
            Fault::Forgotten => Read::Absent,
            Fault::Garbage => Read::Value(Bytes::from_static(b"SERVER_ERROR out of memory storing object\r\nEND\r\n")),
            Fault::Another => {
                let is_another = |key: &String| key != op.key && !key.starts_with(RULES);
                value(self.kept.iter().find(|(key, _)| is_another(key)).map(|(_, kept)| &kept.value))
            }
            Fault::Older => value(kept.and_then(|kept| kept.before.as_ref())),
            Fault::Damaged => changed(&|bytes| {
                let at = at(bytes.len());
                bytes[at] ^= 1 << (op.call % 8);
            }),
            Fault::Cut => changed(&|bytes| bytes.truncate(at(bytes.len()))),
        }
    }

    fn write(&mut self, fault: Fault, item: &Item, longest: usize) -> Write {
        let is_key = item.key.len() <= 200 && item.key.bytes().all(|byte| byte.is_ascii_graphic());
        let is_short = item.value.len() <= longest || item.key.starts_with(RULES);
        if !is_key || !is_short || item.ttl < Duration::from_secs(1) {
            self.complaints.push(format!("{} of {} bytes for {:?}", item.key, item.value.len(), item.ttl));
        }
        match fault {
            Fault::Lost(loss) => return Write::Lost(loss),
            Fault::Hangs => return Write::Lost(Loss::Timeout),
            Fault::Forgotten => return Write::Stored,
            _ => self.put(&item.key, item.value.clone(), item.ttl),
        }
        if fault == Fault::Unheard { Write::Lost(Loss::Timeout) } else { Write::Stored }
    }

    fn put(&mut self, key: &str, value: Bytes, ttl: Duration) {
        let ttl_ms = i64::try_from(ttl.as_millis()).expect("a life is short");
        let before = self.kept.remove(key).map(|kept| kept.value);
        self.kept.insert(key.to_owned(), Kept { value, before, until_ms: self.now_ms.saturating_add(ttl_ms) });
    }
}

/// One replica's way to the items.
pub struct Door {
    items: Arc<Items>,
    longest: usize,
    tally: Mutex<Tally>,
}

/// What went through a door, rules excepted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls that read.
    pub reads: u64,
    /// Keys that were read.
    pub keys_read: u64,
    /// Calls that wrote.
    pub writes: u64,
    /// Bytes of values that were given to be written, by slot.
    pub bytes_written: BTreeMap<i64, u64>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl Door {
    /// A door that takes values of at most `longest` bytes.
    pub fn new(items: &Arc<Items>, longest: usize) -> Arc<Self> {
        Arc::new(Self { items: Arc::clone(items), longest, tally: Mutex::default() })
    }

    /// What went through it.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }
}

impl Tally {
    fn wrote(&mut self, sizes: &[(i64, u64)]) {
        self.writes += u64::from(!sizes.is_empty());
        for (slot, bytes) in sizes {
            *self.bytes_written.entry(*slot).or_default() += bytes;
        }
    }
}

/// The slot that a page's key names.
pub fn slot_of(key: &str) -> i64 {
    let page = key.rsplit_once("}:").expect("a page's key").1;
    page.split(['.', '/']).next().and_then(|slot| slot.parse().ok()).expect("a slot")
}

impl Door {
    /// What is to become of the items of a call, when it is their turn.
    async fn faults(&self, is_write: bool, keys: &[&str], deadline: Instant) -> (u64, Vec<Fault>) {
        let (call, turns) = self.items.begin(is_write, keys.iter().any(|key| key.starts_with(RULES)));
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        let fault = |key: &&str| self.items.state.lock().fault(Op { is_write, call, key });
        let faults: Vec<Fault> = keys.iter().map(fault).collect();
        if faults.contains(&Fault::Hangs) {
            tokio::time::sleep_until(deadline).await;
        }
        (call, faults)
    }
}

impl Store for Door {
    fn read<'a>(&'a self, _place: u128, keys: &'a [String], deadline: Instant) -> BoxFuture<'a, Vec<Read>> {
        Box::pin(async move {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let pages = keys.iter().filter(|key| !key.starts_with(RULES)).count();
            if pages > 0 {
                let mut tally = self.tally.lock();
                tally.reads += 1;
                tally.keys_read += pages as u64;
            }
            let (call, faults) = self.faults(false, &keys, deadline).await;
            let state = self.items.state.lock();
            let read = |(key, fault)| state.read(fault, Op { is_write: false, call, key });
            let read = keys.into_iter().zip(faults).map(read).collect();
            drop(state);
            self.items.end();
            read
        })
    }

    fn write(&self, _place: u128, items: Vec<Item>, deadline: Instant) -> BoxFuture<'_, Vec<Write>> {
        Box::pin(async move {
            let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
            let pages = items.iter().filter(|item| !item.key.starts_with(RULES));
            let sizes: Vec<(i64, u64)> = pages.map(|item| (slot_of(&item.key), item.value.len() as u64)).collect();
            self.tally.lock().wrote(&sizes);
            let (_, faults) = self.faults(true, &keys, deadline).await;
            let mut state = self.items.state.lock();
            // Who finds the first piece of a value finds the others.
            let first_of_later =
                |(i, key): (usize, &&str)| keys[i..].iter().any(|later| later.starts_with(&format!("{key}/")));
            if keys.iter().enumerate().any(first_of_later) {
                state.complaints.push(format!("a first piece comes before others: {keys:?}"));
            }
            let written =
                items.iter().zip(faults).map(|(item, fault)| state.write(fault, item, self.longest)).collect();
            drop(state);
            self.items.end();
            written
        })
    }

    fn max_value_bytes(&self) -> usize {
        self.longest
    }

    fn servers(&self) -> Vec<Server> {
        Vec::new()
    }
}
