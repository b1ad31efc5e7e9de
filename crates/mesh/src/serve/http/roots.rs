//! `/v1/connect/ca/roots`: whom proxies trust.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use x509_parser::prelude::{ParsedExtension, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{Answer, Parameters, Refusal, switch, try_answer};
use crate::serve::Shared;

pub(super) async fn roots(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    let pem = shared.authority.root_pem();
    if switch(&query, "pem")? {
        return Ok(([(CONTENT_TYPE, "application/pem-certificate-chain")], pem).into_response());
    }
    try_answer(&shared, &query, |world, _| {
        let root = root(&pem, world.names.trust_domain(), world.index)?;
        Ok(json!({"ActiveRootID": root["ID"], "TrustDomain": world.names.trust_domain(), "Roots": [root]}))
    })
    .await
}

fn root(pem: &str, trust_domain: &str, index: u64) -> Result<Value, Refusal> {
    let unreadable = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, format!("read the root certificate: {error}"));
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| unreadable(e.to_string()))?;
    let certificate = block.parse_x509().map_err(|e| unreadable(e.to_string()))?;
    let key = hex(key_id(&certificate).unwrap_or_default());
    let serial = certificate.raw_serial().iter().fold(0_u64, |serial, byte| (serial << 8) | u64::from(*byte));
    let validity = certificate.validity();
    Ok(json!({
        "ID": key, "Name": "Pellucid CA Root Cert", "SerialNumber": serial, "SigningKeyID": key,
        "ExternalTrustDomain": trust_domain.split('.').next(),
        "NotBefore": time(validity.not_before), "NotAfter": time(validity.not_after),
        "RootCert": pem, "IntermediateCerts": null, "Active": true, "PrivateKeyType": "ec", "PrivateKeyBits": 256,
        "CreateIndex": index, "ModifyIndex": index,
    }))
}

/// The identifier of the certificate's key.
fn key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

/// Bytes as Consul shows them: `c7:bd:55`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn time(at: ASN1Time) -> String {
    let at = jiff::Timestamp::from_second(at.timestamp()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
