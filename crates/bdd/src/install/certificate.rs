//! The webhook's certificate, made once for a run: every lab may have the same, because no lab can reach another.

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// PEM texts.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The authority's certificate.
    pub authority_pem: String,
    /// The webhook's certificate.
    pub chain_pem: String,
    /// Its key.
    pub key_pem: String,
}

const NAMES: [&str; 3] = [
    "consul-connect-injector",
    "consul-connect-injector.consul.svc",
    "consul-connect-injector.consul.svc.cluster.local",
];

impl Certificate {
    /// An authority and a certificate for the webhook's Service.
    ///
    /// # Errors
    /// When there is no randomness for keys.
    pub fn generate() -> Result<Self> {
        let authority_key = KeyPair::generate().context("make a key for the webhook's authority")?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "pellucid webhook authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = authority.self_signed(&authority_key).context("sign the webhook's authority")?;
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate().context("make a key for the webhook")?;
        let leaf = CertificateParams::new(NAMES.map(str::to_owned).to_vec())
            .and_then(|params| params.signed_by(&key, &issuer))
            .context("sign the webhook's certificate")?;
        Ok(Self { authority_pem: certificate.pem(), chain_pem: leaf.pem(), key_pem: key.serialize_pem() })
    }
}
