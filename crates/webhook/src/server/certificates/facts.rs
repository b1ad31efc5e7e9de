//! What certificates say about themselves.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::net::IpAddr;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// A certificate's life, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Life {
    /// Whether it is over, or has not begun.
    pub(super) fn is_over(self, now: i64) -> bool {
        now >= self.until || now < self.from
    }

    /// Whether two thirds of it are over.
    pub(super) fn is_due(self, now: i64) -> bool {
        self.is_over(now) || self.until - now <= (self.until - self.from) / 3
    }
}

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) life: Life,
    /// The authority that signs now has signed it.
    pub(super) by_authority: bool,
    /// Names and addresses.
    pub(super) hosts: BTreeSet<String>,
}

/// What a Secret with certificates says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The authority that signs, the first of the bundle.
    pub(super) authority: Life,
    /// Those before it, which are still trusted.
    pub(super) earlier: Vec<Life>,
    /// The server's certificate, where it can be read.
    pub(super) leaf: Option<Leaf>,
}

impl Facts {
    /// Reads a bundle of authorities and a server's certificate; `None` where the bundle is of no use.
    pub(super) fn read(bundle_pem: &str, leaf_pem: &str) -> Option<Self> {
        let bundle = authorities(bundle_pem)?;
        let (_, authority) = X509Certificate::from_der(bundle.first()?).ok()?;
        let earlier = bundle.iter().skip(1).map(|der| Some(life(&X509Certificate::from_der(der).ok()?.1)));
        let leaf = || {
            let der = CertificateDer::pem_slice_iter(leaf_pem.as_bytes()).next()?.ok()?;
            let (_, leaf) = X509Certificate::from_der(&der).ok()?;
            Some(Leaf {
                life: life(&leaf),
                // each authority has a name of its own
                by_authority: leaf.issuer().as_raw() == authority.subject().as_raw(),
                hosts: hosts(&leaf),
            })
        };
        Some(Self { authority: life(&authority), earlier: earlier.collect::<Option<_>>()?, leaf: leaf() })
    }
}

/// The authorities of a bundle.
pub(super) fn authorities(bundle_pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(bundle_pem.as_bytes()).collect::<Result<_, _>>().ok()
}

/// A certificate's life.
pub(super) fn life_of(der: &CertificateDer<'_>) -> Option<Life> {
    Some(life(&X509Certificate::from_der(der).ok()?.1))
}

/// When a certificate expires, in Unix seconds.
pub(super) fn expiry(der: &CertificateDer<'_>) -> Option<i64> {
    life_of(der).map(|life| life.until)
}

fn life(certificate: &X509Certificate<'_>) -> Life {
    let validity = certificate.validity();
    Life { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() }
}

fn hosts(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        _ => None,
    });
    names.collect()
}
