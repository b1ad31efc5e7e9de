//! What the server is identified by, which may change while it serves.

mod authority;
mod facts;
mod files;
mod lease;
mod managed;
mod plan;

pub use files::Files;
pub use managed::Managed;
pub use plan::Policy;

use super::metrics::Metrics;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Something cannot be read as PEM.
    #[error("failed to read {what} of {place}: {problem}; it must be PEM, the certificate of the server first")]
    Pem {
        /// `the certificate` or `the private key`.
        what: &'static str,
        /// Where it comes from.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("failed to use the certificate and key of {place}: {problem}; check that they belong together")]
    Pair {
        /// Where they come from.
        place: String,
        /// What is wrong with them.
        problem: String,
    },
    /// A certificate cannot be made.
    #[error("failed to make a certificate for {names}: {problem}")]
    Make {
        /// The names that it was to have.
        names: String,
        /// What is wrong.
        problem: String,
    },
    /// TLS itself cannot be set up.
    #[error("failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate that is served with at the moment. Clones share it.
#[derive(Clone)]
pub struct Certificates(Arc<Shared>);

struct Shared {
    now: RwLock<Serving>,
    metrics: Metrics,
}

#[derive(Default)]
struct Serving {
    key: Option<Arc<CertifiedKey>>,
    /// Why nobody could rely on it.
    doubt: Option<String>,
}

impl Certificates {
    /// None yet.
    #[must_use]
    pub fn none(metrics: Metrics) -> Self {
        Self(Arc::new(Shared { now: RwLock::default(), metrics }))
    }

    /// TLS with whatever certificate there is when a connection begins.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Serves with this chain and key from now on; what is served with already stays when they are of no use.
    ///
    /// # Errors
    /// They are of no use. `place` says where they come from.
    pub fn install(&self, chain_pem: &[u8], key_pem: &[u8], place: &str) -> Result<(), CertificateError> {
        let key = certified(chain_pem, key_pem, place)?;
        let expiry = key.end_entity_cert().ok().and_then(|leaf| facts::expiry(leaf));
        self.write(|serving| serving.key = Some(Arc::new(key)));
        self.0.metrics.certificate("loaded");
        self.0.metrics.certificate_expiry.set(expiry.unwrap_or_default());
        tracing::info!(place, expiry, "serving with a new certificate");
        Ok(())
    }

    /// Why nobody could rely on the certificate, if there is a reason.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        let serving = self.0.now.read().unwrap_or_else(PoisonError::into_inner);
        match serving.key {
            Some(_) => serving.doubt.clone(),
            None => Some("there is none yet".to_owned()),
        }
    }

    /// Notes whether somebody could rely on the certificate.
    fn doubt(&self, doubt: Option<String>) {
        self.write(|serving| serving.doubt = doubt);
    }

    fn failed(&self) {
        self.0.metrics.certificate("failed");
    }

    fn write(&self, change: impl FnOnce(&mut Serving)) {
        change(&mut self.0.now.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).key.clone()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

fn certified(chain_pem: &[u8], key_pem: &[u8], place: &str) -> Result<CertifiedKey, CertificateError> {
    let unreadable = |what, problem: String| CertificateError::Pem { what, place: place.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable("the certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(unreadable("the certificate", "there is none in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| unreadable("the private key", error.to_string()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| CertificateError::Pair { place: place.to_owned(), problem: error.to_string() })
}
