//! The rules of a policy as data, before any backend writes them in its own way.
//!
//! Chains and their order are Consul's. A rule that is about a list of values stands here once: nf_tables keeps the list in a
//! set, iptables writes one rule for each value.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::Family;
use crate::contract::{PROOF, chain};
use crate::packet::{DNS_PORT, Protocol};
use crate::policy::{Dns, Policy};
use crate::range::{IdRange, PortRange};
use crate::safeguard::{LINK_LOCAL, METADATA, MULTICAST, Safeguard, whole};

/// Where the kernel calls a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Base {
    /// Translation of what processes send.
    NatOutput,
    /// Translation of what arrives.
    NatPrerouting,
    /// Admission of what processes send, after translation.
    FilterOutput,
    /// Admission of what arrives for processes, after translation.
    FilterInput,
}

/// What connection tracking says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tracked {
    /// It belongs to a connection that was let through, or is an error about one.
    Known,
    /// It belongs to none.
    Invalid,
}

/// A list of values with the name of its set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T> {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<T>,
}

/// One condition of a rule; all of them must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    Family(Family),
    Protocol(Protocol),
    Users(List<IdRange>),
    Groups(List<IdRange>),
    /// Sent with another group than this.
    OtherGroup(u32),
    To(List<IpNet>),
    From(List<IpNet>),
    Ports(List<PortRange>),
    /// Leaves by the loopback interface.
    OutLoopback,
    /// Arrived by the loopback interface.
    InLoopback,
    Tracked(Tracked),
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Counted, by nf_tables alone, and the next rule is tried.
    Count,
    /// Nothing more in this chain.
    Return,
    Jump(&'static str),
    /// To a port of the namespace itself.
    Redirect(u16),
    /// To another address; the port is kept where it is 0.
    Translate(SocketAddr),
    /// Answered with a TCP reset.
    Reset,
    /// Answered with an ICMP error.
    Unreachable,
    Drop,
}

/// A rule, and why it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) action: Action,
    /// A phrase that follows "because".
    pub(crate) why: &'static str,
}

/// Rules that are tried in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    /// Where the kernel calls it; in iptables its rules stand in the built-in chain there.
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

impl Chain {
    fn new(name: &'static str, base: Option<Base>) -> Self {
        Self { name, base, rules: Vec::new() }
    }

    /// Adds a rule, unless it is about a list with nothing in it.
    fn rule(&mut self, matches: Vec<Match>, action: Action, why: &'static str) {
        if !matches.iter().any(Match::is_empty) {
            self.rules.push(Rule { matches, action, why });
        }
    }
}

impl Match {
    fn is_empty(&self) -> bool {
        match self {
            Self::Users(list) | Self::Groups(list) => list.values.is_empty(),
            Self::To(list) | Self::From(list) => list.values.is_empty(),
            Self::Ports(list) => list.values.is_empty(),
            Self::Family(_)
            | Self::Protocol(_)
            | Self::OtherGroup(_)
            | Self::OutLoopback
            | Self::InLoopback
            | Self::Tracked(_) => false,
        }
    }
}

const TCP: Match = Match::Protocol(Protocol::Tcp);
const UDP: Match = Match::Protocol(Protocol::Udp);

fn one<T>(value: T) -> List<T> {
    List { name: "", values: vec![value] }
}

/// All chains of a policy, those that the kernel calls last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) chains: Vec<Chain>,
}

impl Program {
    pub(crate) fn of(policy: &Policy) -> Self {
        let mut chains = nat(policy);
        chains.extend(guard(policy));
        Self { chains }
    }

    pub(crate) fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

fn users(policy: &Policy) -> List<IdRange> {
    List { name: "exclude_uids", values: policy.exclude_uids().to_vec() }
}

fn groups(policy: &Policy) -> List<IdRange> {
    List { name: "exclude_gids", values: policy.exclude_gids().to_vec() }
}

fn outbound_ports(policy: &Policy) -> List<PortRange> {
    List { name: "exclude_outbound_ports", values: policy.exclude_outbound_ports().to_vec() }
}

fn inbound_ports(policy: &Policy) -> List<PortRange> {
    List { name: "exclude_inbound_ports", values: policy.exclude_inbound_ports().to_vec() }
}

fn of_family(name: &'static str, blocks: &[IpNet], family: Family) -> List<IpNet> {
    List { name, values: blocks.iter().copied().filter(|block| Family::of(block.addr()) == family).collect() }
}

/// Blocks of one family.
fn blocks(policy: &Policy, family: Family) -> List<IpNet> {
    let name = if family == Family::V4 { "exclude_outbound_v4" } else { "exclude_outbound_v6" };
    of_family(name, policy.exclude_outbound_cidrs(), family)
}

/// What a probe of one family is known by.
fn probe(policy: &Policy, family: Family) -> Vec<Match> {
    let name = if family == Family::V4 { "probe_sources_v4" } else { "probe_sources_v6" };
    let ports = List { name: "probe_ports", values: policy.probe_ports().to_vec() };
    vec![Match::From(of_family(name, policy.probe_sources(), family)), TCP, Match::Ports(ports)]
}

const BY_USER: &str = "its user is excluded (ExcludeUIDs)";
const BY_GROUP: &str = "its group is excluded (ExcludeGIDs)";
const BY_BLOCK: &str = "its destination is in an excluded block (ExcludeOutboundCIDRs)";
const BY_OUTBOUND_PORT: &str = "its destination port is excluded (ExcludeOutboundPorts)";
const BY_INBOUND_PORT: &str = "its destination port is excluded (ExcludeInboundPorts)";
const BY_PROBE: &str = "it is a probe by its source and its port (ProbeSources, ProbePorts)";
const BY_PROXY: &str = "it is the proxy's own (ProxyUserID)";

fn nat(policy: &Policy) -> Vec<Chain> {
    let families = policy.families();
    let mut output = Chain::new(chain::NAT_OUTPUT, Some(Base::NatOutput));
    let mut dns = Chain::new(chain::DNS, None);
    if let Some(server) = policy.dns() {
        name_queries(&mut output, &mut dns, server);
    }
    for family in families {
        output.rule(vec![Match::Family(*family), TCP], Action::Jump(chain::OUTPUT), "it is TCP that a process sends");
    }

    let mut deciding = Chain::new(chain::OUTPUT, None);
    if policy.proof() {
        let to = Match::To(one(whole((*PROOF.ip()).into())));
        let matches = vec![to, TCP, Match::Ports(one(PROOF.port().into()))];
        deciding.rule(matches, Action::Jump(chain::REDIRECT), "it is a proof of redirection (Proof)");
    }
    deciding.rule(vec![Match::Users(users(policy))], Action::Return, BY_USER);
    deciding.rule(vec![Match::Groups(groups(policy))], Action::Return, BY_GROUP);
    for family in families {
        deciding.rule(vec![Match::To(blocks(policy, *family))], Action::Return, BY_BLOCK);
    }
    deciding.rule(vec![TCP, Match::Ports(outbound_ports(policy))], Action::Return, BY_OUTBOUND_PORT);
    if let Some(group) = policy.proxy_gid() {
        let matches = vec![Match::Users(one(policy.proxy_uid().into())), Match::OtherGroup(group)];
        deciding.rule(matches, Action::Count, "its user is the proxy's and its group is not (ProxyGroupID)");
    }
    deciding.rule(vec![Match::Users(one(policy.proxy_uid().into()))], Action::Return, BY_PROXY);
    for family in families {
        let to = Match::To(one(whole(family.loopback())));
        deciding.rule(vec![to], Action::Return, "its destination is the loopback address itself");
    }
    if policy.has(Safeguard::LocalDirect) {
        deciding.rule(vec![Match::OutLoopback], Action::Return, "it stays in the namespace (local-direct)");
    }
    if policy.has(Safeguard::RefuseMetadata) {
        for address in METADATA.iter().filter(|address| families.contains(&Family::of(**address))) {
            deciding.rule(vec![Match::To(one(whole(*address)))], Action::Return, "a later rule refuses it");
        }
    }
    deciding.rule(vec![], Action::Jump(chain::REDIRECT), "nothing excludes it");
    let mut redirecting = Chain::new(chain::REDIRECT, None);
    redirecting.rule(vec![TCP], Action::Redirect(policy.outbound_port()), "it is for the outbound listener");

    let mut prerouting = Chain::new(chain::NAT_PREROUTING, Some(Base::NatPrerouting));
    for family in families {
        prerouting.rule(vec![Match::Family(*family), TCP], Action::Jump(chain::INBOUND), "it is TCP that arrives");
    }
    let mut inbound = Chain::new(chain::INBOUND, None);
    inbound.rule(vec![TCP, Match::Ports(inbound_ports(policy))], Action::Return, BY_INBOUND_PORT);
    for family in families {
        inbound.rule(probe(policy, *family), Action::Return, BY_PROBE);
    }
    inbound.rule(vec![TCP], Action::Jump(chain::IN_REDIRECT), "nothing excludes it");
    let mut inwards = Chain::new(chain::IN_REDIRECT, None);
    inwards.rule(vec![TCP], Action::Redirect(policy.inbound_port()), "it is for the inbound listener");
    vec![dns, inbound, inwards, deciding, redirecting, output, prerouting]
}

/// Both protocols, each with a jump and the translation behind it.
fn name_queries(output: &mut Chain, translating: &mut Chain, dns: Dns) {
    for protocol in [UDP, TCP] {
        let mut matches = vec![Match::Family(dns.family())];
        let server = match dns {
            Dns::Everything { server } => SocketAddr::new(server, 0),
            Dns::Addressed { server, port } => {
                matches.push(Match::To(one(whole(server))));
                SocketAddr::new(server, port)
            }
        };
        matches.extend([protocol, Match::Ports(one(DNS_PORT.into()))]);
        output.rule(matches.clone(), Action::Jump(chain::DNS), "it is a DNS query");
        translating.rule(matches, Action::Translate(server), "it is for the mesh's DNS server");
    }
}

/// What safeguards refuse. Nothing where there are none.
fn guard(policy: &Policy) -> Vec<Chain> {
    let udp = policy.has(Safeguard::RefuseUdp);
    let ipv6 = policy.has(Safeguard::RefuseIpv6) && !policy.families().contains(&Family::V6);
    let metadata = policy.has(Safeguard::RefuseMetadata);
    let invalid = policy.has(Safeguard::DropInvalid);
    let mut output = Chain::new(chain::GUARD_OUTPUT, None);
    let mut input = Chain::new(chain::GUARD_INPUT, None);
    if invalid {
        for chain in [&mut output, &mut input] {
            chain.rule(
                vec![Match::Tracked(Tracked::Invalid)],
                Action::Drop,
                "it is part of no connection (drop-invalid)",
            );
        }
    }
    let known = || vec![Match::Tracked(Tracked::Known)];
    const KNOWN: &str = "it belongs to a connection that was let through";
    if udp || ipv6 || metadata {
        output.rule(known(), Action::Return, KNOWN);
        output.rule(vec![Match::Users(one(policy.proxy_uid().into()))], Action::Return, BY_PROXY);
        output.rule(vec![Match::Users(users(policy))], Action::Return, BY_USER);
        output.rule(vec![Match::Groups(groups(policy))], Action::Return, BY_GROUP);
        for family in Family::BOTH {
            output.rule(vec![Match::To(blocks(policy, family))], Action::Return, BY_BLOCK);
        }
        for protocol in [TCP, UDP] {
            let ports = Match::Ports(outbound_ports(policy));
            output.rule(vec![protocol, ports], Action::Return, BY_OUTBOUND_PORT);
        }
        output.rule(vec![Match::OutLoopback], Action::Return, "it stays in the namespace");
    }
    if metadata {
        for address in METADATA {
            refuse(&mut output, &Match::To(one(whole(address))), "it is for a metadata service (refuse-metadata)");
        }
    }
    if udp || ipv6 {
        for block in [LINK_LOCAL, MULTICAST] {
            output.rule(vec![Match::To(one(block))], Action::Return, "IPv6 does not work without it");
        }
        input.rule(known(), Action::Return, KNOWN);
        input.rule(vec![Match::InLoopback], Action::Return, "it comes from the namespace itself");
        for protocol in [TCP, UDP] {
            input.rule(vec![protocol, Match::Ports(inbound_ports(policy))], Action::Return, BY_INBOUND_PORT);
        }
        if ipv6 {
            input.rule(probe(policy, Family::V6), Action::Return, BY_PROBE);
        }
        input.rule(vec![Match::From(one(LINK_LOCAL))], Action::Return, "IPv6 does not work without it");
    }
    if ipv6 {
        for chain in [&mut output, &mut input] {
            refuse(chain, &Match::Family(Family::V6), "it is IPv6 in a single-stack policy (refuse-ipv6)");
        }
    }
    if udp {
        output.rule(vec![UDP, Match::Ports(one(DNS_PORT.into()))], Action::Return, "it is a DNS query");
        for chain in [&mut output, &mut input] {
            chain.rule(vec![UDP], Action::Unreachable, "it is UDP (refuse-udp)");
        }
    }
    let bases = [(output, chain::FILTER_OUTPUT, Base::FilterOutput), (input, chain::FILTER_INPUT, Base::FilterInput)];
    let mut chains = Vec::new();
    for (guard, name, base) in bases.into_iter().filter(|(guard, ..)| !guard.rules.is_empty()) {
        let mut called = Chain::new(name, Some(base));
        called.rule(vec![], Action::Jump(guard.name), "a safeguard is asked for");
        chains.extend([guard, called]);
    }
    chains
}

/// TCP is answered in TCP's own way.
fn refuse(chain: &mut Chain, what: &Match, why: &'static str) {
    chain.rule(vec![what.clone(), TCP], Action::Reset, why);
    chain.rule(vec![what.clone(), UDP], Action::Unreachable, why);
}
