//! The iptables rules of a [`Policy`]: Consul's five chains in table `nat`, with the rules in Consul's order.
//!
//! Rules are written as `iptables-save` prints them, so what a namespace holds can be compared with them as text. The
//! names of the built-in chains and of ours never clash with anyone else's, and nothing but our chains and the jumps to
//! them is ever read, changed or removed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::contract::chain;
use crate::packet::DNS_PORT;
use crate::policy::{Dns, Policy};

mod chain_set;

pub(crate) use chain_set::ChainSet;

/// An address family, which has tables and programs of its own in iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The loopback address that is never redirected. The other addresses of 127.0.0.0/8 are, as in Consul.
    #[must_use]
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The rules that make a namespace follow a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    families: Vec<(Family, ChainSet)>,
}

impl Ruleset {
    /// Renders `policy`.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let families = policy.families().iter().map(|family| (*family, render(policy, *family))).collect();
        Self { families }
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
/// other chains, then the rules of each chain in order. Counters, comments and everything that is not ours are left out.
#[must_use]
pub fn normalise(iptables_save: &str) -> Vec<String> {
    ChainSet::parse(iptables_save).lines()
}

/// Consul installs exclusions at the head of the chain one by one, so that they stand there in reverse.
fn render(policy: &Policy, family: Family) -> ChainSet {
    let mut chains =
        ChainSet::declaring([chain::INBOUND, chain::IN_REDIRECT, chain::OUTPUT, chain::REDIRECT, chain::DNS]);
    let loopback = family.loopback();

    chains.add(chain::REDIRECT, format!("-p tcp -j REDIRECT --to-ports {}", policy.outbound_port()));
    if let Some(dns) = policy.dns().filter(|dns| dns.family() == family) {
        render_dns(&mut chains, dns);
    }
    chains.add("OUTPUT", format!("-p tcp -j {}", chain::OUTPUT));
    for uid in policy.exclude_uids().iter().rev() {
        chains.add(chain::OUTPUT, format!("-m owner --uid-owner {uid} -j RETURN"));
    }
    for block in policy.exclude_outbound_cidrs().iter().rev() {
        match (Family::of(block.addr()), block.prefix_len()) {
            (other, _) if other != family => {}
            // iptables leaves "everything" unsaid
            (_, 0) => chains.add(chain::OUTPUT, "-j RETURN".to_owned()),
            _ => chains.add(chain::OUTPUT, format!("-d {block} -j RETURN")),
        }
    }
    for port in policy.exclude_outbound_ports().iter().rev() {
        chains.add(chain::OUTPUT, format!("-p tcp -m tcp --dport {port} -j RETURN"));
    }
    chains.add(chain::OUTPUT, format!("-m owner --uid-owner {} -j RETURN", policy.proxy_uid()));
    let whole = if family == Family::V4 { 32 } else { 128 };
    chains.add(chain::OUTPUT, format!("-d {loopback}/{whole} -j RETURN"));
    chains.add(chain::OUTPUT, format!("-j {}", chain::REDIRECT));

    chains.add(chain::IN_REDIRECT, format!("-p tcp -j REDIRECT --to-ports {}", policy.inbound_port()));
    chains.add("PREROUTING", format!("-p tcp -j {}", chain::INBOUND));
    for port in policy.exclude_inbound_ports().iter().rev() {
        chains.add(chain::INBOUND, format!("-p tcp -m tcp --dport {port} -j RETURN"));
    }
    chains.add(chain::INBOUND, format!("-p tcp -j {}", chain::IN_REDIRECT));
    chains
}

fn render_dns(chains: &mut ChainSet, dns: Dns) {
    for protocol in ["udp", "tcp"] {
        let (matching, target) = match dns {
            Dns::Everything { server } => {
                (format!("-p {protocol} -m {protocol} --dport {DNS_PORT}"), server.to_string())
            }
            Dns::Addressed { server, port } => {
                let whole = if server.is_ipv4() { 32 } else { 128 };
                let matching = format!("-d {server}/{whole} -p {protocol} -m {protocol} --dport {DNS_PORT}");
                (matching, SocketAddr::new(server, port).to_string())
            }
        };
        chains.add(chain::DNS, format!("{matching} -j DNAT --to-destination {target}"));
        chains.add("OUTPUT", format!("{matching} -j {}", chain::DNS));
    }
}

#[cfg(test)]
mod tests;
