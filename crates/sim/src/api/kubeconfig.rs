//! The kubeconfig file, and a client that does what it says.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

/// Writes a kubeconfig with the authority's certificate and the token inside; mode 0600.
pub(crate) fn write(path: &Path, server: SocketAddr, ca_pem: &str, token: &str) -> io::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "pellucid", "cluster": {
            "server": format!("https://{server}"),
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{ "name": "admin", "user": { "token": token } }],
        "contexts": [{ "name": "pellucid", "context": { "cluster": "pellucid", "user": "admin" } }],
        "current-context": "pellucid",
    });
    let text = serde_yaml_ng::to_string(&config).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// A client of the server at an address.
pub(crate) fn client(server: SocketAddr, ca_pem: &str, token: &str) -> Result<kube::Client, kube::Error> {
    let url = format!("https://{server}")
        .parse()
        .map_err(|error: http::uri::InvalidUri| kube::Error::Service(error.into()))?;
    let authority =
        CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|error| kube::Error::Service(error.into()))?;
    let mut config = kube::Config::new(url);
    config.root_cert = Some(vec![authority.to_vec()]);
    config.auth_info = serde_json::from_value(json!({ "token": token })).map_err(kube::Error::SerdeError)?;
    kube::Client::try_from(config)
}
