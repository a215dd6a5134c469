//! Items in Redis: one server, a master that sentinels watch, or a cluster.
//!
//! The keys of one call share a hash tag, so they lie on one node: a read is one `MGET`, a write one pipeline. The client
//! library moves bytes and parses; who is asked, on which connection and how long is decided here. It has a client for
//! clusters, which is not used: under short deadlines it does not notice that a node hangs and another one has taken over,
//! while it learns the map of slots every call waits, and it cannot read a rotated password.

mod address;
mod cluster;
mod dial;
mod pool;
mod reply;

use std::sync::Arc;

use futures::future::BoxFuture;
use redis::Value;
use tokio::time::Instant;

use super::{Item, Loss, Read, Server, Store, Write};
use crate::config;
use crate::tls::TlsFiles;
use address::{Kind, Target};
use cluster::Cluster;
use dial::{Dialer, Login};
use pool::{Place, Pool};
use reply::Question;

/// No value may be longer, so that it does not hold up the others on its connection.
const MOST_VALUE_BYTES: usize = 1 << 20;

/// Items in Redis.
#[derive(Debug)]
pub struct Redis {
    servers: Servers,
}

#[derive(Debug)]
enum Servers {
    One(Pool),
    Cluster(Cluster),
}

/// Whether the options can be meant.
pub(super) fn check(options: &config::Redis) -> Result<(), String> {
    Target::new(options).map(drop)
}

impl Redis {
    /// Begins to connect in the background, which ends when this is dropped. Needs a runtime; connects to nothing before it
    /// returns.
    pub fn new(options: &config::Redis) -> Result<Self, String> {
        let Target { kind, is_tls, db } = Target::new(options)?;
        let options = options.clone();
        let tls = is_tls.then_some(TlsFiles { ca: options.ca_file, cert: options.cert_file, key: options.key_file });
        let login = Login { username: options.username, password_file: options.password_file };
        let must_be_master = matches!(kind, Kind::Sentinel { .. });
        let dialer = Dialer { login, tls, db, must_be_master };
        let one = |name, place, dialer| Servers::One(Pool::new(name, place, dialer, Arc::default()));
        let servers = match kind {
            Kind::Cluster(seeds) => Servers::Cluster(Cluster::new(seeds, dialer)),
            Kind::Single(address) => one(address.to_string(), Place::Fixed(address), dialer),
            Kind::Sentinel { sentinels, master } => {
                let login =
                    Login { username: options.sentinel_username, password_file: options.sentinel_password_file };
                let to_sentinels = Dialer { login, tls: dialer.tls.clone(), db: 0, must_be_master: false };
                one(master.clone(), Place::Master { dialer: to_sentinels, sentinels, name: master }, dialer)
            }
        };
        Ok(Self { servers })
    }

    async fn ask(&self, key: &str, questions: &[Question<'_>], deadline: Instant) -> Result<Vec<Value>, Loss> {
        match &self.servers {
            Servers::One(pool) => pool.ask(questions, deadline).await,
            Servers::Cluster(cluster) => cluster.ask(key, questions, deadline).await,
        }
    }

    async fn store(&self, items: &[Item], deadline: Instant) -> Vec<Write> {
        let fits = |item: &&Item| item.value.len() <= MOST_VALUE_BYTES;
        let Some(first) = items.iter().find(fits) else { return vec![Write::Lost(Loss::Refused); items.len()] };
        let questions: Vec<_> = items.iter().filter(fits).map(Question::Set).collect();
        match self.ask(&first.key, &questions, deadline).await {
            Err(loss) => vec![Write::Lost(loss); items.len()],
            Ok(replies) => {
                let mut outcomes = replies.iter().map(reply::write);
                let mut outcome = |item| fits(&item).then(|| outcomes.next()).flatten();
                items.iter().map(|item| outcome(item).unwrap_or(Write::Lost(Loss::Refused))).collect()
            }
        }
    }
}

impl Store for Redis {
    /// `place` says nothing here: the hash tag in the keys does.
    fn read<'a>(&'a self, _place: u128, keys: &'a [String], deadline: Instant) -> BoxFuture<'a, Vec<Read>> {
        Box::pin(async move {
            let Some(first) = keys.first() else { return Vec::new() };
            reply::reads(keys, self.ask(first, &Question::gets(keys), deadline).await)
        })
    }

    fn write(&self, _place: u128, items: Vec<Item>, deadline: Instant) -> BoxFuture<'_, Vec<Write>> {
        Box::pin(async move { self.store(&items, deadline).await })
    }

    fn max_value_bytes(&self) -> usize {
        MOST_VALUE_BYTES
    }

    fn servers(&self) -> Vec<Server> {
        match &self.servers {
            Servers::One(pool) => vec![pool.server()],
            Servers::Cluster(cluster) => cluster.servers(),
        }
    }
}
