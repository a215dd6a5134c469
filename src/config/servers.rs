//! The options about the servers that answer, and about how their names are resolved.

use std::path::PathBuf;
use std::time::Duration;

use super::bounds;
use super::options::{options, words};

options! {
    /// The servers that answer.
    pub struct Downstream {
        /// The base URLs of the servers that answer: Prometheus, Thanos, Cortex, Mimir, VictoriaMetrics. All of them must have the
        /// same data. A path prefix is kept. http:// or https://; dns+http://host:port is a server for each address of the name,
        /// `dnssrv+http://_service._tcp.name` and dnssrvnoa+http://… for each SRV record. The flag --downstream.url overrides them.
        urls: Vec<String> as Address = vec!["http://127.0.0.1:9090".to_owned()];
        /// Who sends queries to them: http (workers of promfront's own), pull (queriers that connect to `sched.grpc_listen_address`)
        /// or both (whoever is free first).
        mode: Mode;
        /// Queries in flight at the same time, for each server.
        max_concurrent: usize = 16, bounds::count;
        /// How long a range query may take in all; a client's own `timeout` may shorten it. A little above the server's own
        /// --query.timeout (2m), so that its message is the one that is seen.
        timeout: Duration = Duration::from_secs(130), bounds::some_time;
        /// How long connecting may take.
        connect_timeout: Duration = Duration::from_secs(5), bounds::some_time;
        /// The client's headers that are passed on; "*" is all of them.
        forward_headers: Vec<String> = vec!["*".to_owned()];
        /// A user and a password to send instead of the client's Authorization. The file is read again when it changes.
        basic_auth: Option<BasicAuth>;
        /// Or a file with a token to send; empty for none. It is read again when it changes.
        bearer_token_file: PathBuf;
        /// For https://. The files are read again when they change.
        tls: Tls;
        /// Whether requests that change the server's data or administer it (write, otlp, push, import, admin) are passed on.
        /// promfront stands before the server for reading: otherwise they are refused.
        allow_writes: bool;
    }
}

words! {
    /// Who sends queries downstream.
    pub enum Mode {
        /// Workers of our own, over HTTP.
        #[default]
        Http = "http",
        /// Remote queriers, that pull over gRPC.
        Pull = "pull",
        /// Whoever is free first.
        Both = "both",
    }
}

impl Downstream {
    /// Whether a server is on this machine, so that its address says nothing to other replicas.
    pub fn is_on_this_machine(&self) -> bool {
        let is_loopback = |url: &String| ["//127.", "//localhost", "//[::1]"].iter().any(|host| url.contains(host));
        self.urls.iter().any(is_loopback)
    }
}

impl Mode {
    /// Whether workers of our own send queries.
    pub fn has_workers(self) -> bool {
        self != Self::Pull
    }

    /// Whether remote queriers may pull.
    pub fn has_queriers(self) -> bool {
        self != Self::Http
    }
}

options! {
    /// A user and a password.
    pub struct BasicAuth {
        /// The user.
        username: String;
        /// A file with the password; read again when it changes.
        password_file: PathBuf;
    }
}

options! {
    /// How a TLS server is believed, and what it is shown. Files are read again when they change.
    pub struct Tls {
        /// Certificates of authorities to trust instead of the system's (PEM).
        ca_file: PathBuf;
        /// A certificate of our own (PEM), and its key.
        cert_file: PathBuf;
        /// The key of `cert_file` (PEM).
        key_file: PathBuf;
        /// The name that the server's certificate must have, if not the URL's host.
        server_name: String;
        /// Whether any certificate is believed.
        insecure_skip_verify: bool;
    }
}

options! {
    /// How names are resolved whose addresses change.
    pub struct Discovery {
        /// How often names with dns+, dnssrv+ and dnssrvnoa+ are resolved again. What resolved last stays while a name does not.
        interval: Duration = Duration::from_secs(30), bounds::ends;
        /// Name servers as ip:port, instead of the system's.
        nameservers: Vec<String>;
    }
}
