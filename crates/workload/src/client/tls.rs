//! TLS as a client that believes every server: what is tried is who the *client* may be.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::attempt::{Attempt, Failure};

/// Without a certificate of its own.
pub(super) fn anonymous() -> anyhow::Result<Arc<ClientConfig>> {
    Ok(Arc::new(builder()?.with_no_client_auth()))
}

/// With this certificate chain and key, PEM files.
pub(super) fn presenting(cert: &Path, key: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let open = |path: &Path| File::open(path).map(BufReader::new).with_context(|| format!("open {}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_reader_iter(open(cert)?)
        .collect::<Result<_, _>>()
        .with_context(|| format!("read the certificates in {}", cert.display()))?;
    let private = PrivateKeyDer::from_pem_reader(open(key)?)
        .with_context(|| format!("read the private key in {}", key.display()))?;
    let config = builder()?
        .with_client_auth_cert(chain, private)
        .with_context(|| format!("use {} with {}", cert.display(), key.display()))?;
    Ok(Arc::new(config))
}

fn builder() -> anyhow::Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyServer(Arc::clone(&provider)));
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.context("set TLS up")?.dangerous().with_custom_certificate_verifier(verifier))
}

/// Greets the other end for this server name; for an address no name is sent.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &Attempt,
    stream: S,
    config: Arc<ClientConfig>,
    name: &str,
) -> Result<TlsStream<S>, Failure> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Failure::Local(format!("{name:?} cannot be a TLS server name")))?;
    let secured = TlsConnector::from(config).connect(name, stream).await?;
    attempt.secured();
    Ok(secured)
}

/// Checks that the server has the key of its certificate, and nothing else.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
