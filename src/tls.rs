//! TLS towards servers: whom to believe, and what to show.
//!
//! Need: the shared tier and the downstream speak TLS alike. Rule: reading files and making a configuration of them are two
//! steps, so that who reads them again and again sees whether they changed. What is wrong with a key is never told, since the
//! text could repeat it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Where certificates are, in PEM. Empty paths: the system's authorities, and no certificate of our own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may vouch for the server.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What the files held when they were read. Nothing for an empty path.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    ca: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

/// Whether a server must prove its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It must.
    Proven,
    /// It need not: whoever answers is believed.
    Anybody,
}

impl TlsFiles {
    /// Reads the files.
    pub fn read(&self) -> Result<Pem, String> {
        let read = |path: &Path| {
            let wanted = Some(path).filter(|path| !path.as_os_str().is_empty());
            let bytes =
                wanted.map(|path| fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display())));
            bytes.transpose()
        };
        Ok(Pem { ca: read(&self.ca)?, cert: read(&self.cert)?, key: read(&self.key)? })
    }

    /// What they mean.
    pub fn configuration(&self, pem: &Pem, trust: Trust) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match trust {
            Trust::Proven => builder.with_root_certificates(self.authorities(pem)?),
            Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Gullible(provider))),
        };
        let Some(cert) = &pem.cert else { return Ok(builder.with_no_client_auth()) };
        let key = pem.key.as_deref().unwrap_or_default();
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| format!("{} holds no private key in PEM", self.key.display()))?;
        let chain = certificates(&self.cert, cert)?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("{} and {}: {error}", self.cert.display(), self.key.display()))
    }

    fn authorities(&self, pem: &Pem) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        match &pem.ca {
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Some(ca) => {
                for certificate in certificates(&self.ca, ca)? {
                    roots.add(certificate).map_err(|error| format!("{}: {error}", self.ca.display()))?;
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// Believes every certificate, but not that somebody has its key who has not.
#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
