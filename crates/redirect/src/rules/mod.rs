//! The rules of a [`Policy`]: Consul's five chains, with the rules in Consul's order, written for each backend.
//!
//! Rules for iptables are written as `iptables-save` prints them, so what a namespace holds can be compared with them as text;
//! rules for nf_tables are compared expression by expression (`kernel::nft`). The names of the built-in chains and of ours
//! never clash with anyone else's, and nothing but our chains and the jumps to them is ever read, changed or removed.

use crate::policy::Policy;

mod chain_set;
mod explain;
mod family;
mod iptables;
pub(crate) mod program;

pub(crate) use chain_set::{ChainSet, OURS, Table};
pub use explain::{Explanation, explain};
pub use family::Family;
pub(crate) use program::Program;

/// The rules of iptables that make a namespace follow a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    families: Vec<(Family, ChainSet)>,
}

impl Ruleset {
    /// Renders `policy`.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let program = Program::of(policy);
        Self { families: Family::BOTH.map(|family| (family, iptables::render(&program, family))).to_vec() }
    }

    /// Input for `iptables-restore --noflush` (or `ip6tables-restore`) that brings a namespace without our rules to this
    /// state in one transaction. Empty for a family the policy does not touch.
    #[must_use]
    pub fn restore_script(&self, family: Family) -> String {
        self.chains(family).script_from(&ChainSet::default())
    }

    /// Our chains and rules as [`normalise`] reports them once the policy is in force; empty for a family it does not touch.
    #[must_use]
    pub fn expected(&self, family: Family) -> Vec<String> {
        self.chains(family).lines()
    }

    pub(crate) fn chains(&self, family: Family) -> ChainSet {
        self.families.iter().find(|(own, _)| *own == family).map(|(_, chains)| chains.clone()).unwrap_or_default()
    }
}

/// The part of an `iptables-save` dump that is ours, in canonical form: `-N` for each chain by name, then the jumps from
/// other chains, then the rules of each chain in order, first of table `nat` and then, marked `-t filter`, of table `filter`.
/// Counters, comments and everything that is not ours are left out.
#[must_use]
pub fn normalise(iptables_save: &str) -> Vec<String> {
    ChainSet::parse(iptables_save).lines()
}

#[cfg(test)]
mod tests;
