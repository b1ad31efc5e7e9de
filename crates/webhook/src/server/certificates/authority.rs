//! Makes authorities and server certificates.

use super::CertificateError;
use super::facts::{self, Facts};
use super::plan::Policy;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// Certificates are valid from a while ago, since no two clocks agree.
const LENIENCE: Duration = Duration::from_secs(60 * 60);

/// What the Secret holds, all of it PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Material {
    /// Authorities to trust; the first of them signs.
    pub(super) bundle: String,
    /// Key of the authority that signs.
    pub(super) authority_key: String,
    /// The server's certificate.
    pub(super) leaf: String,
    /// Its key.
    pub(super) leaf_key: String,
}

impl Material {
    /// What it says, if it is of any use: an authority whose key is there.
    pub(super) fn facts(&self) -> Option<Facts> {
        KeyPair::from_pem(&self.authority_key).ok()?;
        Facts::read(&self.bundle, &self.leaf)
    }

    /// A first authority and server certificate.
    pub(super) fn begin(hosts: &BTreeSet<String>, now: SystemTime, policy: &Policy) -> Result<Self, CertificateError> {
        let nothing =
            Self { bundle: String::new(), authority_key: String::new(), leaf: String::new(), leaf_key: String::new() };
        nothing.with_authority(hosts, now, policy)?.with_leaf(hosts, now, policy)
    }

    /// With a new authority before those that have not expired.
    pub(super) fn with_authority(
        &self,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        policy: &Policy,
    ) -> Result<Self, CertificateError> {
        let failed = |error: rcgen::Error| failure(hosts, &error);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = DistinguishedName::new();
        // the key's own name makes each authority's name another one, by which its certificates are known
        let id: String = key.public_key_raw().iter().rev().take(8).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name.push(DnType::CommonName, format!("Pellucid webhook authority {id}"));
        live(&mut params, now, policy.authority);
        let authority_key = key.serialize_pem();
        let authority = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        let bundle = format!("{}{}", authority.pem(), self.pruned(now));
        Ok(Self { bundle, authority_key, ..self.clone() })
    }

    /// With a new server certificate.
    pub(super) fn with_leaf(
        &self,
        hosts: &BTreeSet<String>,
        now: SystemTime,
        policy: &Policy,
    ) -> Result<Self, CertificateError> {
        let failed = |error: rcgen::Error| failure(hosts, &error);
        let authority_key = KeyPair::from_pem(&self.authority_key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.bundle, authority_key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(hosts.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let name = hosts.first().cloned().unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        live(&mut params, now, policy.leaf);
        let leaf = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Self { leaf: leaf.pem(), leaf_key: key.serialize_pem(), ..self.clone() })
    }

    /// Without authorities that have expired.
    pub(super) fn without_expired(&self, now: SystemTime) -> Self {
        Self { bundle: self.pruned(now), ..self.clone() }
    }

    fn pruned(&self, now: SystemTime) -> String {
        let now = unix(now);
        let all = facts::authorities(&self.bundle).unwrap_or_default();
        let living = all.iter().filter(|der| facts::life_of(der).is_some_and(|life| !life.is_over(now)));
        living.map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))).collect()
    }
}

/// Unix seconds.
pub(super) fn unix(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

fn live(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    // of the shortest lives, no more than a tenth is over already
    let from = now - LENIENCE.min(life / 10);
    params.not_before = from.into();
    params.not_after = (now + life).into();
}

fn failure(hosts: &BTreeSet<String>, error: &rcgen::Error) -> CertificateError {
    let names = hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    CertificateError::Make { names, problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::facts::Life;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn hosts() -> BTreeSet<String> {
        ["10.0.0.1", "::1", "webhook.consul.svc"].map(str::to_owned).into()
    }

    #[test]
    fn an_authority_follows_another() -> Result<(), CertificateError> {
        let policy = Policy { authority: 30 * DAY, leaf: 7 * DAY, ..Policy::default() };
        let start = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let first = Material::begin(&hosts(), start, &policy)?;
        let facts = first.facts().expect("readable");
        let Life { from, until } = facts.authority;
        assert_eq!((from, until), (unix(start) - 3600, unix(start + 30 * DAY)));
        let leaf = facts.leaf.expect("readable");
        assert!(leaf.by_authority && leaf.hosts == hosts(), "{leaf:?}");
        assert_eq!(leaf.life.until, unix(start + 7 * DAY));

        let later = start + 20 * DAY;
        let second = first.with_authority(&hosts(), later, &policy)?;
        let facts = second.facts().expect("readable");
        assert_eq!((facts.earlier.len(), facts.leaf.map(|leaf| leaf.by_authority)), (1, Some(false)));
        let third = second.with_leaf(&hosts(), later, &policy)?;
        assert_eq!(third.facts().and_then(|facts| facts.leaf).map(|leaf| leaf.by_authority), Some(true));

        let pruned = third.without_expired(start + 31 * DAY);
        let facts = pruned.facts().expect("readable");
        assert_eq!((facts.earlier.len(), facts.authority.until), (0, unix(later + 30 * DAY)));
        Ok(())
    }

    #[test]
    fn a_key_of_somebody_else_is_of_no_use() -> Result<(), CertificateError> {
        let material = Material::begin(&hosts(), SystemTime::now(), &Policy::default())?;
        assert_eq!(Material { authority_key: "none".to_owned(), ..material.clone() }.facts(), None);
        assert_eq!(Material { bundle: "none".to_owned(), ..material }.facts(), None);
        Ok(())
    }
}
