//! A TLS server with a certificate that nobody vouches for.

use std::sync::Arc;

use anyhow::Context;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

/// A new certificate for this name.
pub(super) fn acceptor(name: &str) -> anyhow::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).context("make a self-signed certificate")?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .context("use a self-signed certificate")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
