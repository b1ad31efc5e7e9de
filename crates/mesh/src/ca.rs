//! The certificate authority of the mesh: one root, and a leaf certificate for each service identity.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::names::Names;

/// A certificate with its private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// The leaf certificate first, PEM.
    pub cert_chain_pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: String,
}

/// When a leaf is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// From a minute ago, for three days, as Consul's are.
    Now,
    /// It ended an hour ago.
    Expired,
}

/// How long a leaf lives.
const LEAF_TTL: Duration = Duration::hours(72);

/// Why a certificate could not be made: the crypto library has no randomness or refuses its own key.
#[derive(Debug, thiserror::Error)]
#[error("make the certificate of {subject}")]
pub struct CaError {
    subject: String,
    source: rcgen::Error,
}

/// One root with its signing key.
#[derive(Clone)]
pub(crate) struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    root: Arc<Leaf>,
    names: Names,
}

impl Authority {
    /// Makes a new root for the trust domain of `names`.
    pub(crate) fn new(names: Names) -> Result<Self, CaError> {
        let subject = format!("Pellucid CA {}", names.trust_domain());
        let fail = |source| CaError { subject: subject.clone(), source };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject.as_str());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri(&format!("spiffe://{}", names.trust_domain())).map_err(fail)?];
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(3650);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let cert_chain_pem = params.self_signed(&key).map_err(fail)?.pem();
        let root = Leaf { cert_chain_pem, key_pem: key.serialize_pem() };
        Ok(Self { issuer: Arc::new(Issuer::new(params, key)), root: Arc::new(root), names })
    }

    /// Goes on with a root that was made before.
    pub(crate) fn resume(names: Names, root: Leaf) -> Result<Self, CaError> {
        let fail = |source| CaError { subject: format!("the kept root of {}", names.trust_domain()), source };
        let key = KeyPair::from_pem(&root.key_pem).map_err(fail)?;
        let issuer = Issuer::from_ca_cert_pem(&root.cert_chain_pem, key).map_err(fail)?;
        Ok(Self { issuer: Arc::new(issuer), root: Arc::new(root), names })
    }

    /// The same root, for services in this partition.
    pub(crate) fn in_partition(&self, partition: &str) -> Self {
        Self { names: self.names.in_partition(partition), ..self.clone() }
    }

    /// The root with its private key.
    pub(crate) fn root(&self) -> &Leaf {
        &self.root
    }

    /// The root certificate, PEM.
    pub(crate) fn root_pem(&self) -> String {
        self.root.cert_chain_pem.clone()
    }

    /// A leaf for `service`, signed by this root.
    pub(crate) fn issue(&self, service: &str, validity: Validity) -> Result<Leaf, CaError> {
        let fail = |source| CaError { subject: service.to_owned(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let params = leaf_params(&self.names, service, validity).map_err(fail)?;
        let certificate = params.signed_by(&key, &*self.issuer).map_err(fail)?;
        Ok(Leaf { cert_chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

/// A certificate that says it is `service` and is signed by nobody but itself.
pub(crate) fn self_signed(names: &Names, service: &str) -> Result<Leaf, CaError> {
    let fail = |source| CaError { subject: service.to_owned(), source };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
    let certificate = leaf_params(names, service, Validity::Now).and_then(|p| p.self_signed(&key)).map_err(fail)?;
    Ok(Leaf { cert_chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn leaf_params(names: &Names, service: &str, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![uri(&names.spiffe(service))?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = match validity {
        Validity::Now => (now - Duration::minutes(1), now + LEAF_TTL),
        Validity::Expired => (now - LEAF_TTL, now - Duration::hours(1)),
    };
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_is_what_it_says() -> Result<(), Box<dyn std::error::Error>> {
        let names = Names::new("dc1", "11111111-2222-3333-4444-555555555555.consul");
        let authority = Authority::new(names.clone())?;
        let good = authority.issue("web", Validity::Now)?;
        let expired = authority.issue("web", Validity::Expired)?;
        let own = self_signed(&names, "web")?;
        for leaf in [&good, &expired, &own] {
            assert!(leaf.cert_chain_pem.starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(leaf.key_pem.contains("PRIVATE KEY"));
        }
        assert_ne!(good.cert_chain_pem, expired.cert_chain_pem);
        assert!(authority.root_pem().starts_with("-----BEGIN CERTIFICATE-----"));
        Ok(())
    }

    #[test]
    fn a_kept_root_signs_as_before() -> Result<(), Box<dyn std::error::Error>> {
        let names = Names::new("dc1", "11111111-2222-3333-4444-555555555555.consul");
        let first = Authority::new(names.clone())?;
        let again = Authority::resume(names, first.root().clone())?;
        assert_eq!(again.root_pem(), first.root_pem());
        let (_, root) = x509_parser::pem::parse_x509_pem(first.root_pem().as_bytes())?;
        let leaf = again.issue("web", Validity::Now)?;
        let (_, leaf) = x509_parser::pem::parse_x509_pem(leaf.cert_chain_pem.as_bytes())?;
        let (root, leaf) = (root.parse_x509()?, leaf.parse_x509()?);
        leaf.verify_signature(Some(root.public_key()))?;
        assert_eq!(leaf.issuer(), root.subject());
        Ok(())
    }
}
