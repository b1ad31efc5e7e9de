//! The saboteurs: what each breaks, and which scenarios are about that.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mesh::EnvoyTamper;
use redirect::contract::{PROXY_UID, chain};
use sim::Tamper;

use super::tampers::{
    AllowEveryone, AnyServer, ExportAll, ForgetLabels, LastFirst, OpenGateway, Plaintext, Unacceptable,
};

/// Something that is broken on purpose, outside the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Saboteur {
    /// One excluded port is redirected after all.
    ExclusionDropped,
    /// One port is excluded that nobody asked for.
    ExclusionAdded,
    /// The proxy's own connections are redirected to itself.
    ProxyUidMissing,
    /// Nothing inbound is redirected.
    NoInbound,
    /// The webhook sees namespaces without the label.
    LabelIgnored,
    /// Proxies speak plaintext to each other.
    PlaintextMesh,
    /// Proxies let everyone in.
    AllowEveryone,
    /// Every proxy gets one listener too many, which its Envoy refuses.
    RefusedListener,
    /// Mesh gateways end the TLS that they should pass on.
    TerminatingGateway,
    /// Proxies take any server of the mesh for any service, and mesh gateways sit in the middle.
    UncheckedSan,
    /// What is not exported is, once anything is.
    IgnoredExport,
    /// Proxies fail over in the opposite order.
    WrongFailover,
}

impl Saboteur {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ExclusionDropped,
        Self::ExclusionAdded,
        Self::ProxyUidMissing,
        Self::NoInbound,
        Self::LabelIgnored,
        Self::PlaintextMesh,
        Self::AllowEveryone,
        Self::RefusedListener,
        Self::TerminatingGateway,
        Self::UncheckedSan,
        Self::IgnoredExport,
        Self::WrongFailover,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExclusionDropped => "exclusion-dropped",
            Self::ExclusionAdded => "exclusion-added",
            Self::ProxyUidMissing => "proxy-uid-missing",
            Self::NoInbound => "no-inbound",
            Self::LabelIgnored => "label-ignored",
            Self::PlaintextMesh => "plaintext-mesh",
            Self::AllowEveryone => "allow-everyone",
            Self::RefusedListener => "refused-listener",
            Self::TerminatingGateway => "terminating-gateway",
            Self::UncheckedSan => "unchecked-san",
            Self::IgnoredExport => "ignored-export",
            Self::WrongFailover => "wrong-failover",
        }
    }

    /// Tags of the scenarios that are about what it breaks.
    #[must_use]
    pub fn tags(self) -> &'static [&'static str] {
        match self {
            Self::ExclusionDropped => &["EX-01", "EX-02", "EX-06"],
            Self::ExclusionAdded => &["EX-02", "RD-01", "EX-03"],
            Self::ProxyUidMissing => &["RD-03", "EN-01", "RD-01"],
            Self::NoInbound => &["RD-02", "SE-01", "EN-01"],
            Self::LabelIgnored => &["EN-03", "EN-04"],
            Self::PlaintextMesh => &["EN-01", "EN-02", "SE-09", "IN-03"],
            Self::AllowEveryone => &["IN-01", "IN-04", "SE-02"],
            Self::RefusedListener => &["EN-01", "IN-03"],
            Self::TerminatingGateway => &["FW-01", "PE-01"],
            Self::UncheckedSan => &["FW-01"],
            Self::IgnoredExport => &["PE-02"],
            Self::WrongFailover => &["FW-04", "SG-01", "SG-05"],
        }
    }

    /// Tags of a suite that is worth running against it.
    #[must_use]
    pub fn expression(self) -> String {
        let tags: Vec<String> = self.tags().iter().map(|t| format!("@{t}")).collect();
        tags.join(" or ")
    }

    /// An `awk` program for the input of `iptables-restore`.
    pub(crate) fn rule_edit(self) -> Option<String> {
        let output = chain::OUTPUT;
        Some(match self {
            // the last port that was excluded stands first in either chain
            Self::ExclusionDropped => {
                "/^-[AI] .* --dport [0-9]+ -j RETURN/ && !done { done = 1; next } { print }".to_owned()
            }
            Self::ExclusionAdded => format!(
                "/^-[AI] {output} / && !done {{ done = 1; print \"-A {output} -p tcp -m tcp --dport 80 -j RETURN\"; \
                 print \"-A {output} -p tcp -m tcp --dport 8202 -j RETURN\" }} {{ print }}"
            ),
            Self::ProxyUidMissing => format!("/^-[AI] {output} .*--uid-owner {PROXY_UID} / {{ next }} {{ print }}"),
            Self::NoInbound => format!("/^-[AI] PREROUTING .*{}/ {{ next }} {{ print }}", chain::INBOUND),
            Self::LabelIgnored
            | Self::PlaintextMesh
            | Self::AllowEveryone
            | Self::RefusedListener
            | Self::TerminatingGateway
            | Self::UncheckedSan
            | Self::IgnoredExport
            | Self::WrongFailover => return None,
        })
    }

    pub(crate) fn api_tamper(self) -> Option<Arc<dyn Tamper>> {
        match self {
            Self::LabelIgnored => Some(Arc::new(ForgetLabels)),
            Self::IgnoredExport => Some(Arc::new(ExportAll)),
            _ => None,
        }
    }

    pub(crate) fn envoy_tamper(self) -> Option<Arc<dyn EnvoyTamper>> {
        match self {
            Self::PlaintextMesh => Some(Arc::new(Plaintext)),
            Self::AllowEveryone => Some(Arc::new(AllowEveryone)),
            Self::RefusedListener => Some(Arc::new(Unacceptable)),
            Self::TerminatingGateway => Some(Arc::new(OpenGateway)),
            Self::UncheckedSan => Some(Arc::new(AnyServer)),
            Self::WrongFailover => Some(Arc::new(LastFirst)),
            _ => None,
        }
    }
}

impl fmt::Display for Saboteur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Saboteur {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|s| s.name()).collect();
            format!("there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for saboteur in Saboteur::ALL {
            assert_eq!(saboteur.name().parse(), Ok(saboteur));
        }
        assert!("nobody".parse::<Saboteur>().is_err());
    }

    #[test]
    fn each_breaks_exactly_one_thing() {
        for saboteur in Saboteur::ALL {
            let ways =
                [saboteur.rule_edit().is_some(), saboteur.api_tamper().is_some(), saboteur.envoy_tamper().is_some()];
            assert_eq!(ways.into_iter().filter(|w| *w).count(), 1, "{saboteur}");
        }
    }
}
