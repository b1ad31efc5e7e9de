//! The server's certificate and key, read from the files of a mounted Secret.

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read, or there is nothing of the kind in it.
    #[error(
        "failed to read {what} from {path}; check that the Secret is mounted there and has keys tls.crt and tls.key"
    )]
    File {
        /// What was to be read.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate file has no certificate in it.
    #[error("failed to find a certificate in {0}; it must hold the leaf first, as PEM")]
    Empty(PathBuf),
    /// The two do not belong together, or are of a kind that is not known.
    #[error("failed to use the certificate and key of {path}; check that they belong together")]
    Pair {
        /// Their directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// TLS with `tls.crt` and `tls.key` of a directory.
///
/// # Errors
/// A file is missing or not usable.
pub fn server_config(directory: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    let (certificates, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    let chain: Vec<_> = CertificateDer::pem_file_iter(&certificates)
        .and_then(Iterator::collect)
        .map_err(|source| CertificateError::File { what: "the certificate", path: certificates.clone(), source })?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(certificates));
    }
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|source| CertificateError::File {
        what: "the private key",
        path: key,
        source,
    })?;
    let pair = |source| CertificateError::Pair { path: directory.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
