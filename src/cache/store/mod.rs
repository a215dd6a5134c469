//! Where entries lie: in this process, and outside it where all replicas find them.
//!
//! What lies outside is an *item*: a key and bytes. A [`Store`] moves items and knows nothing of what is in them. It has no
//! error type, because a cache cannot fail a query: what was not read is lost for a reason from a closed list, which is
//! counted, and the caller goes on without it. A store never waits longer than it was told to, never waits at all for a
//! server that it knows to be gone ([`breaker`]), and never gives a late reply to the next question: a connection on which
//! a reply did not come in time is thrown away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::config;
use crate::discovery;

pub mod breaker;
pub mod chunks;
pub mod memcached;
pub mod memory;
pub mod redis;

/// Items outside this process.
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads items, in one batch. As many outcomes as keys, in their order, at `deadline` at the latest: what has not come
    /// by then is lost.
    ///
    /// Items of one `place` lie on the same server, so that one query is one question to one server, and a server that is
    /// slow or gone concerns only its share of the queries.
    fn read<'a>(&'a self, place: u128, keys: &'a [String], deadline: Instant) -> BoxFuture<'a, Vec<Read>>;

    /// Writes items, in one batch: as many outcomes as items, in their order, at `deadline` at the latest.
    fn write(&self, place: u128, items: Vec<Item>, deadline: Instant) -> BoxFuture<'_, Vec<Write>>;

    /// No value may be longer than this, in bytes.
    fn max_value_bytes(&self) -> usize;

    /// The servers as they are now: the names under which they stand in metrics, and whether their breaker is open.
    fn servers(&self) -> Vec<Server>;
}

/// An item that is written.
#[derive(Clone, Debug)]
pub struct Item {
    /// At most 200 bytes of printable ASCII, without blanks. The part in braces decides the node of a Redis Cluster.
    pub key: String,
    /// What lies there.
    pub value: Bytes,
    /// The server may forget it after this; at least a second.
    pub ttl: Duration,
}

/// What became of reading one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It is there.
    Value(Bytes),
    /// The server says that it is not there.
    Absent,
    /// It is not known.
    Lost(Loss),
}

/// What became of writing one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The server says that it is stored.
    Stored,
    /// It is not, as far as is known.
    Lost(Loss),
}

/// Why something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server did not answer in time.
    Timeout,
    /// There is no connection, or it broke.
    Unavailable,
    /// The breaker is open: the server was not asked.
    Breaker,
    /// The server answered with an error: out of memory, read-only, loading, no permission, too large.
    Refused,
    /// The server answered with something that is no answer.
    Garbage,
}

impl Loss {
    /// As it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Breaker => "breaker",
            Self::Refused => "refused",
            Self::Garbage => "garbage",
        }
    }
}

/// A store, and how long reading from it may take for one query.
pub type Opened = (Arc<dyn Store>, Duration);

/// Whether the options can be meant, but for what files hold and DNS says; if not, which one and why.
pub fn check(options: &config::Remote) -> Result<(), (&'static str, String)> {
    if let Some(redis) = &options.redis {
        redis::check(redis).map_err(|problem| ("cache.remote.redis", problem))?;
    }
    let mut addresses = options.memcached.iter().flat_map(|memcached| &memcached.addresses);
    let parsed = addresses.try_for_each(|text| discovery::Address::parse(text).map(drop));
    parsed.map_err(|problem| ("cache.remote.memcached.addresses", problem))
}

/// The store that is configured, and how long reading from it may take. Inside of a tokio runtime; nothing is waited for.
pub fn open(options: &config::Remote, resolving: &config::Discovery) -> Result<Option<Opened>, String> {
    if let Some(options) = &options.redis {
        let store = redis::Redis::new(options).map_err(|problem| format!("cache.remote.redis: {problem}"))?;
        return Ok(Some((Arc::new(store), options.timeout.0)));
    }
    let Some(options) = &options.memcached else { return Ok(None) };
    let addresses: Result<_, _> = options.addresses.iter().map(|text| discovery::Address::parse(text)).collect();
    let addresses = addresses.map_err(|problem| format!("cache.remote.memcached.addresses: {problem}"))?;
    let resolving = discovery::Options::configured(resolving)?;
    let max_item_bytes = usize::try_from(options.max_item_bytes).unwrap_or(usize::MAX);
    let store_options = memcached::Options {
        // A key and what the server adds count too.
        max_value_bytes: max_item_bytes.saturating_sub(1024),
        discovery: resolving,
        ..memcached::Options::default()
    };
    Ok(Some((Arc::new(memcached::Memcached::new(addresses, store_options)), options.timeout.0)))
}

/// A server of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address, as configured or discovered.
    pub name: String,
    /// Whether it is not asked at present.
    pub is_open: bool,
}
