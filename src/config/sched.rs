//! The options about how requests wait, and who pulls them.

use std::path::PathBuf;
use std::time::Duration;

use super::bounds;
use super::options::{options, words};

options! {
    /// How requests wait, and who pulls them.
    pub struct Sched {
        /// Where queriers connect over gRPC (`promfront querier`, or Cortex with -querier.frontend-address). It carries no credentials:
        /// whoever reaches it gets every tenant's queries. Keep it private, or give it certificates.
        grpc_listen_address: String;
        /// What queriers are shown, and what they must show.
        grpc_tls: ServerTls;
        /// The longest message to or from a querier. (Cortex queriers send at most 16MiB unless told otherwise.)
        grpc_max_message_bytes: u64 as Size = 100 << 20, bounds::message;
        /// What comes before /api/v1 on the queriers' side (Cortex: -http.prometheus-http-prefix).
        querier_path_prefix: String = "/prometheus".to_owned(), bounds::path_prefix;
        /// Whether Cortex and Mimir queriers are asked what each query cost them, so that this is charged and not the time that it took.
        /// They log two lines more for each.
        querier_stats: bool;
        /// How long a vanished querier keeps its place among a tenant's queriers: about as long as it takes to restart.
        querier_forget_delay: Duration = Duration::from_mins(1);
        /// With nobody there to pull, a request waits this long.
        max_wait_for_querier: Duration = Duration::from_secs(10), bounds::some_time;
        /// Requests that may wait in all.
        max_queued: usize = 100_000, bounds::waiting;
        /// Requests of one tenant that may wait.
        max_queued_per_tenant: usize = 800, bounds::waiting;
        /// With what the next one is refused: 503, or 429 for clients that know what it means.
        full_status: FullStatus;
    }
}

words! {
    /// The status code of a refusal because too much waits.
    pub enum FullStatus {
        /// `503`: every client of Prometheus knows it, and Grafana shows its reason.
        #[default]
        Unavailable = "503",
        /// `429`: for clients that slow down when they see it.
        TooManyRequests = "429",
    }
}

options! {
    /// TLS where we are the server. Files are read at start.
    pub struct ServerTls {
        /// Our certificate (PEM); empty for clear text.
        cert_file: PathBuf;
        /// Its key (PEM).
        key_file: PathBuf;
        /// Authorities that a client's certificate must come from (PEM); empty if it need not have one.
        client_ca_file: PathBuf;
    }
}
