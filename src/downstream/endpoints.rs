//! The servers that there are at present: those of all configured URLs together, each once.
//!
//! Rule: a server that stays keeps its connections, one that leaves loses them when its last request has ended. If two URLs
//! stand for one server, it is spoken with as the first of them says.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::select_all;
use rustls::pki_types::ServerName;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::credentials;
use super::endpoint::{Endpoint, Manner};
use super::headers::Forwarding;
use super::url::{DownstreamUrl, Scheme};
use crate::config;
use crate::discovery::{self, Discovery, Servers};

/// The servers, kept up to date until it is dropped.
#[derive(Debug)]
pub struct Endpoints {
    current: watch::Receiver<Arc<[Endpoint]>>,
    sources: Arc<[Source]>,
    task: AbortHandle,
}

/// A URL, and the servers that it stands for.
#[derive(Debug)]
struct Source {
    url: DownstreamUrl,
    discovery: Discovery,
}

/// Whether the options about servers can be meant, but for what files hold and DNS says; if not, which one and why.
pub fn check(options: &config::Downstream) -> Result<(), (&'static str, String)> {
    urls(options).map_err(|problem| ("downstream.urls", problem))?;
    Forwarding::parse(&options.forward_headers).map_err(|problem| ("downstream.forward_headers", problem))?;
    credentials::check(options)?;
    let tls = &options.tls;
    if tls.cert_file.as_os_str().is_empty() != tls.key_file.as_os_str().is_empty() {
        let problem = "cert_file and key_file belong together; write both or none";
        return Err(("downstream.tls", problem.to_owned()));
    }
    if !tls.server_name.is_empty() && ServerName::try_from(tls.server_name.as_str()).is_err() {
        let problem = format!("{:?} is no name that a certificate can have", tls.server_name);
        return Err(("downstream.tls.server_name", problem));
    }
    Ok(())
}

fn urls(options: &config::Downstream) -> Result<Vec<DownstreamUrl>, String> {
    if options.urls.is_empty() {
        return Err("there are none; write [\"http://127.0.0.1:9090\"], for example".to_owned());
    }
    options.urls.iter().map(|text| DownstreamUrl::parse(text)).collect()
}

impl Endpoints {
    /// Begins with the URLs that say where their server is; those of the others follow when DNS has answered. Inside of a tokio
    /// runtime; reads files, and connects to nothing.
    pub fn open(options: &config::Downstream, resolving: &config::Discovery) -> Result<Self, String> {
        check(options).map_err(|(option, problem)| format!("{option}: {problem}"))?;
        let urls = urls(options)?;
        let resolving = discovery::Options::configured(resolving)?;
        let has_tls = urls.iter().any(|url| url.scheme == Scheme::Https);
        let manner = Arc::new(Manner::open(options, has_tls)?);
        let source = |url: DownstreamUrl| Source {
            discovery: Discovery::new(vec![url.address.clone()], resolving.clone()),
            url,
        };
        let sources: Arc<[_]> = urls.into_iter().map(source).collect();
        // From before they are looked at for the first time, so that no change is missed.
        let changes: Vec<_> = sources.iter().map(|source| source.discovery.subscribe()).collect();
        let (tell, current) = watch::channel(united(&sources, &[], &manner));
        let task = tokio::spawn(follow(Arc::clone(&sources), changes, manner, tell)).abort_handle();
        Ok(Self { current, sources, task })
    }

    /// The servers as they are now, in the order of their names.
    pub fn current(&self) -> Arc<[Endpoint]> {
        Arc::clone(&self.current.borrow())
    }

    /// The servers as they are now, and word of each change.
    pub fn changed(&self) -> watch::Receiver<Arc<[Endpoint]>> {
        self.current.clone()
    }

    /// How many times a URL was resolved without a whole answer.
    pub fn failures(&self) -> u64 {
        self.sources.iter().map(|source| source.discovery.failures()).sum()
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    sources: Arc<[Source]>,
    mut changes: Vec<watch::Receiver<Servers>>,
    manner: Arc<Manner>,
    tell: watch::Sender<Arc<[Endpoint]>>,
) {
    loop {
        let (outcome, ..) = select_all(changes.iter_mut().map(|change| change.changed().boxed())).await;
        if outcome.is_err() {
            return;
        }
        let known = Arc::clone(&tell.borrow());
        let now = united(&sources, &known, &manner);
        tell.send_if_modified(|current| {
            let is_new = now.len() != current.len() || now.iter().zip(&**current).any(|(new, old)| !new.is_same(old));
            *current = now;
            is_new
        });
    }
}

/// The servers of all URLs; those that are known already as they are.
fn united(sources: &[Source], known: &[Endpoint], manner: &Arc<Manner>) -> Arc<[Endpoint]> {
    let mut endpoints = BTreeMap::new();
    for Source { url, discovery } in sources {
        for server in &*discovery.servers() {
            let Entry::Vacant(place) = endpoints.entry(url.name_of(server)) else { continue };
            let kept = known.iter().find(|endpoint| {
                endpoint.name() == place.key() && endpoint.host().as_bytes() == url.host_of(server).as_bytes()
            });
            match kept.map_or_else(|| Endpoint::new(url, server, manner), |kept| Ok(kept.clone())) {
                Ok(endpoint) => drop(place.insert(endpoint)),
                // Only a name out of an SRV record can be like that.
                Err(why) => tracing::warn!(%url, %why, "a server can't be asked: it is left out"),
            }
        }
    }
    endpoints.into_values().collect()
}
