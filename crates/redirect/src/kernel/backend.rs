//! The ways to install rules, and which of them is taken.

use std::fmt;
use std::str::FromStr;

use super::iptables::{self, Programs, Variant};
use super::nft::Survey;
use super::{ApplyError, legacy};
use crate::rules::Family;

/// A way to install rules. All of them come to the same for every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// What the namespace uses already, or else the first of the others that works.
    Auto,
    /// nf_tables over netlink: one transaction for both families, no program.
    Nftables,
    /// `iptables-nft-restore`: the kernel's nf_tables, in the shape of iptables.
    IptablesNft,
    /// `iptables-legacy-restore`: the kernel's x_tables.
    IptablesLegacy,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Nftables, Self::IptablesNft, Self::IptablesLegacy];

    /// Its name in flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Nftables => "nftables",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|backend| backend.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no backend; there are {names}")
        })
    }
}

/// What a namespace holds, as far as it can be seen without running a program.
pub(super) struct Scene {
    /// nf_tables, or why there is none.
    pub(super) nft: Result<Survey, ApplyError>,
    /// Tables that x_tables keeps for this namespace, by family.
    legacy: [(Family, Vec<String>); 2],
}

impl Scene {
    pub(super) fn look() -> Result<Self, ApplyError> {
        iptables::require_net_admin()?;
        let nft = match Survey::take().map_err(ApplyError::from) {
            Err(error) if !error.is_unsupported() => return Err(error),
            other => other,
        };
        Ok(Self { nft, legacy: Family::BOTH.map(|family| (family, legacy::tables(family))) })
    }

    /// Tables that x_tables keeps for this namespace.
    pub(super) fn legacy(&self, family: Family) -> &[String] {
        self.legacy.iter().find(|(own, _)| *own == family).map_or(&[], |(_, tables)| tables)
    }

    /// The programs of a variant with what they find. Nothing is run for what is known to be empty.
    pub(super) fn programs(&self, variant: Variant, families: &[Family]) -> Result<Programs, ApplyError> {
        Programs::find(variant, families, |family| self.is_empty(variant, family))
    }

    /// Whether a variant of iptables is known to have no rules of a family, anybody's.
    pub(super) fn is_empty(&self, variant: Variant, family: Family) -> bool {
        match variant {
            Variant::Legacy => self.legacy(family).is_empty(),
            Variant::Nft => self.nft.as_ref().is_ok_and(|survey| !survey.has_iptables(family)),
        }
    }

    /// The backends to try, best first, with why.
    pub(super) fn candidates(&self, asked: Backend) -> Vec<(Backend, String)> {
        if asked != Backend::Auto {
            return vec![(asked, "it was asked for".to_owned())];
        }
        let mut candidates = Vec::new();
        if let Ok(survey) = &self.nft {
            if survey.has_own() || survey.has_consul() {
                candidates.push((Backend::Nftables, "the namespace is redirected by nf_tables already".to_owned()));
            } else if Family::BOTH.into_iter().any(|family| survey.has_compat(family)) {
                candidates
                    .push((Backend::IptablesNft, "the namespace has the chains in iptables-nft already".to_owned()));
            } else if let Some(why) = self.legacy_in_use() {
                candidates.push((Backend::IptablesLegacy, why));
            }
        }
        let usual = [
            (Backend::Nftables, "it needs no program and changes both families at once"),
            (Backend::IptablesNft, "nf_tables cannot be used directly"),
            (Backend::IptablesLegacy, "nf_tables cannot be used at all"),
        ];
        for (backend, why) in usual {
            if !candidates.iter().any(|(other, _)| *other == backend) {
                candidates.push((backend, why.to_owned()));
            }
        }
        candidates
    }

    /// Why x_tables is to be followed, if it is: it translates in this namespace already.
    fn legacy_in_use(&self) -> Option<String> {
        if !self.legacy(Family::V4).iter().any(|table| table == "nat") {
            return None;
        }
        let programs = self.programs(Variant::Legacy, &[Family::V4]).ok()?;
        programs.has_rules().then(|| "the namespace has translation rules in iptables-legacy already".to_owned())
    }
}
