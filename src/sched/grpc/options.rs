//! How queriers are served.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::config;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How queriers are served.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is shown to queriers, and what they must show; none for clear text.
    pub(super) tls: Option<ServerTlsConfig>,
    /// The longest message, to a querier or from one.
    pub max_message_bytes: usize,
    /// What comes before `/api/v1` on their side.
    pub path_prefix: String,
    /// How long a querier may take to say who it is.
    pub greeting: Duration,
    /// How long a querier that is not ours may go on with what nobody waits for. A Cortex querier whose stream was ended
    /// five times stays away for up to a second after each further time, so most queries are better left to finish.
    pub grace: Duration,
    /// Whether queriers are asked what a query cost. They log two lines more for each.
    pub wants_stats: bool,
}

impl Options {
    /// Reads what the configuration names.
    pub fn new(sched: &config::Sched) -> Result<Self, String> {
        Ok(Self {
            tls: tls(&sched.grpc_tls)?,
            max_message_bytes: usize::try_from(sched.grpc_max_message_bytes).unwrap_or(usize::MAX),
            path_prefix: sched.querier_path_prefix.clone(),
            greeting: Duration::from_secs(10),
            grace: Duration::from_secs(2),
            wants_stats: sched.querier_stats,
        })
    }
}

fn tls(files: &config::ServerTls) -> Result<Option<ServerTlsConfig>, String> {
    let is_set = |file: &Path| !file.as_os_str().is_empty();
    if !is_set(&files.cert_file) && !is_set(&files.key_file) {
        return if is_set(&files.client_ca_file) {
            Err("sched.grpc_tls: client_ca_file needs cert_file and key_file".to_owned())
        } else {
            Ok(None)
        };
    }
    let read = |option: &str, file: &Path| {
        let what = format!("sched.grpc_tls.{option}: can't read {}", file.display());
        std::fs::read(file).map_err(|error| format!("{what}: {error}"))
    };
    let identity = Identity::from_pem(read("cert_file", &files.cert_file)?, read("key_file", &files.key_file)?);
    let mut tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT);
    if is_set(&files.client_ca_file) {
        tls = tls.client_ca_root(Certificate::from_pem(read("client_ca_file", &files.client_ca_file)?));
    }
    Ok(Some(tls))
}
