//! Connections to one server: TCP, and TLS with its name verified.
//!
//! A connector of our own rather than `hyper-rustls`: certificates are followed as they change, the name that is verified is not
//! that of the address, and one bound covers all of connecting. With that there is nothing left that the crate would do.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, InvalidMessage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tower::{Service, ServiceExt};

use super::watched::Watched;

/// Connects to one server.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Option<Tls>,
    timeout: Duration,
}

/// How a server is believed.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// For each connection as it is then.
    pub configuration: Arc<Watched<Arc<ClientConfig>>>,
    /// What its certificate must be for.
    pub name: String,
}

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new().extra(OpenedAt(Instant::now()))
    }
}

/// When a connection was opened, for who has to know whether it was a kept one.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenedAt(pub Instant);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct ConnectError(String);

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for ConnectError {}

impl Connector {
    /// Without `tls` the server is spoken with as it is. All of connecting has so much time.
    pub(super) fn new(timeout: Duration, tls: Option<Tls>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // Of a host with several addresses each has its share.
        tcp.set_connect_timeout(Some(timeout));
        tcp.enforce_http(false);
        Self { tcp, tls, timeout }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Box<dyn Stream>>, ConnectError> {
        let timeout = self.timeout;
        let late = || ConnectError(format!("no connection within {timeout:?} (downstream.connect_timeout)"));
        let connecting = async {
            let tcp = self
                .tcp
                .oneshot(uri)
                .await
                .map_err(|error| if is_late(&error) { late() } else { ConnectError(root_cause(&error)) })?;
            let tcp = tcp.into_inner();
            let Some(tls) = self.tls else { return Ok(Box::new(tcp) as Box<dyn Stream>) };
            let name = ServerName::try_from(tls.name.clone())
                .map_err(|_| ConnectError(format!("TLS: {:?} is no name that a certificate can have", tls.name)))?;
            let stream = TlsConnector::from(tls.configuration.get()).connect(name, tcp).await;
            Ok(Box::new(stream.map_err(|error| ConnectError(explained(&error)))?) as Box<dyn Stream>)
        };
        let stream = tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| Err(late()))?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.clone().connect(uri).boxed()
    }
}

/// What is wrong with a handshake, with the option that is about it.
fn explained(error: &io::Error) -> String {
    let option = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            " (downstream.tls.ca_file says which authorities are trusted)"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => " (downstream.tls.server_name says which name is expected)",
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            " (is it a server of http:// rather than https://?)"
        }
        _ => "",
    };
    format!("TLS: {error}{option}")
}

/// Whether a server did not answer in time.
fn is_late(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |cause: &&(dyn Error + 'static)| (*cause).source());
    causes.any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut))
}

/// The innermost reason of an error: `connection refused` rather than `client error (Connect)`.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
