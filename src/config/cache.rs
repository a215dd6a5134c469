//! The options about what is cut and what is kept.

use std::path::PathBuf;
use std::time::Duration;

use super::bounds;
use super::options::options;
use super::units::RemoteTimeout;

options! {
    /// How queries are cut.
    #[derive(Copy)]
    pub struct Split {
        /// Range queries are cut at multiples of this since the epoch, on their own step grid.
        interval: Duration = Duration::from_hours(24), bounds::at_least_a_minute;
        /// At most this many parts for one query; longer intervals are taken when there would be more.
        max_parts: usize = 64, bounds::count;
    }
}

options! {
    /// What is kept, and how long.
    pub struct Cache {
        /// The tier in this process.
        memory: Memory;
        /// A second tier that replicas share: redis or memcached, at most one. See redis.yaml, redis-sentinel.yaml,
        /// redis-cluster.yaml and memcached.yaml beside this file.
        remote: Option<Remote>;
        /// Answers that are kept whole: to instant queries at a past time, and series, labels and label values of a past range.
        whole: Whole;
        /// A point that reads data younger than this is never kept: it may still change.
        freshness: Duration = Duration::from_mins(10);
        /// How long an extent holds, counted from its own fetch.
        ttl: Duration = Duration::from_hours(7 * 24), bounds::keeps;
        /// If the server accepts samples out of order: how far back (Prometheus: `out_of_order_time_window`) …
        out_of_order_window: Duration;
        /// … and how long points hold that lay inside that window when they were fetched.
        out_of_order_ttl: Duration = Duration::from_mins(10);
        /// Whether the queries of alert rules may be answered from the cache.
        alerts: bool;
        /// Request headers by which the server chooses an answer. Always part of the key: Accept, Authorization, Cookie,
        /// X-Scope-OrgID, THANOS-TENANT, `AccountID`, `ProjectID`, X-Id-Token, X-Grafana-Id, X-Grafana-User.
        key_headers: Vec<String>, bounds::headers;
    }
}

options! {
    /// The tier in this process.
    #[derive(Copy)]
    pub struct Memory {
        /// What the extents of range queries may weigh in this process, an eighth of it as answers that were sent. 0 keeps none
        /// (`whole` is apart).
        max_bytes: u64 as Size = 1 << 30;
    }
}

options! {
    /// Answers that are kept whole.
    #[derive(Copy)]
    pub struct Whole {
        /// What they may weigh. 0 keeps none.
        max_bytes: u64 as Size = 256 << 20;
        /// How long the answer to an instant query holds. 0s keeps none.
        instant_ttl: Duration = Duration::from_mins(10);
        /// How long series, labels and label values hold. 0s keeps none.
        labels_ttl: Duration = Duration::from_mins(10);
        /// Such a list is kept only if its range ended so long before `cache.freshness`: servers list all that their newest block has
        /// (Prometheus's up to three hours, VictoriaMetrics's the whole day), whatever the end of the range.
        labels_freshness: Duration = Duration::from_hours(24);
    }
}

options! {
    /// The tier that replicas share.
    pub struct Remote {
        /// Redis, or a server that speaks its protocol.
        redis: Option<Redis>;
        /// memcached.
        memcached: Option<Memcached>;
        /// What data the answers are made from: replicas that share it share their entries. By default the downstream's URL; needed
        /// when that is on this machine.
        namespace: String;
        /// How much may wait to be written; what does not fit is dropped and counted.
        max_queued_bytes: u64 as Size = 64 << 20;
    }
}

options! {
    /// Redis: one server, Sentinel or Cluster.
    pub struct Redis {
        /// `redis://host:port/db`, or `rediss://` with TLS; several hosts, separated by commas, for Sentinel and Cluster.
        url: String as Address, bounds::redis_url;
        /// Whether the hosts are nodes of a Cluster.
        cluster: bool;
        /// If the hosts are Sentinels: the name of the master that they watch.
        sentinel_master: String;
        /// The user of the servers; empty for the default one.
        username: String;
        /// A file with the password of the servers; read again at each connect.
        password_file: PathBuf;
        /// The user of the Sentinels.
        sentinel_username: String;
        /// A file with the password of the Sentinels.
        sentinel_password_file: PathBuf;
        /// Certificates of authorities to trust instead of the system's (PEM).
        ca_file: PathBuf;
        /// A certificate of our own (PEM), and its key.
        cert_file: PathBuf;
        /// The key of `cert_file` (PEM).
        key_file: PathBuf;
        /// What a query waits for it at most, in all; what has not come by then is asked for downstream.
        timeout: RemoteTimeout, bounds::remote_timeout;
    }
}

options! {
    /// memcached: one or more servers.
    pub struct Memcached {
        /// host:port is one server, dns+host:port one for each address of the name, `dnssrv+_service._tcp.name` one for each address
        /// of each SRV record, dnssrvnoa+… one for each SRV record.
        addresses: Vec<String>, bounds::memcached_addresses;
        /// The longest item that the servers take (-I); longer entries are cut into several.
        max_item_bytes: u64 as Size = 1 << 20, bounds::memcached_item;
        /// What a query waits for it at most, in all; what has not come by then is asked for downstream.
        timeout: RemoteTimeout, bounds::remote_timeout;
    }
}
