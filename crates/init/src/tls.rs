//! TLS to the Consul servers.

use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// How to talk TLS to a Consul server.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Whom to believe, and who we are.
    pub(crate) config: TlsConfig,
    /// The name in the server's certificate; without it, the one it was reached by.
    pub server_name: Option<String>,
}

/// What TLS is to be like, as text.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Certificates of authorities, as PEM; none means those of the system.
    pub authorities: Vec<String>,
    /// Our certificate and its key, as PEM.
    pub client: Option<(String, String)>,
    /// The name in the server's certificate.
    pub server_name: Option<String>,
    /// Whether to believe any certificate.
    pub insecure: bool,
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A phrase that says which of them is none.
    pub fn new(wanted: Wanted) -> Result<Self, String> {
        let mut authorities = Vec::new();
        for text in &wanted.authorities {
            authorities.extend(certificates(text, "the CA")?);
        }
        let roots = if wanted.authorities.is_empty() {
            RootCerts::PlatformVerifier
        } else {
            RootCerts::new_with_certs(&authorities)
        };
        let client = wanted.client.map(|(chain, key)| {
            let chain = certificates(&chain, "the client certificate")?;
            let key = PrivateKey::from_pem(key.as_bytes())
                .map_err(|error| format!("the client's key is not PEM: {error}"))?;
            Ok::<_, String>(ClientCert::new_with_certs(&chain, key))
        });
        let config = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots)
            .client_cert(client.transpose()?)
            .disable_verification(wanted.insecure)
            .build();
        Ok(Self { config, server_name: wanted.server_name })
    }
}

/// The certificates in a PEM text; at least one.
fn certificates(text: &str, whose: &str) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in parse_pem(text.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(format!("{whose} is not PEM: {error}")),
        }
    }
    if found.is_empty() { Err(format!("{whose} holds no PEM block CERTIFICATE")) } else { Ok(found) }
}
