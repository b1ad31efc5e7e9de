//! A [`Config`] that has been understood: typed ports, blocks and user ids, or every mistake at once.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::Config;
use crate::contract;
use crate::parse::{self, Mistake};
use crate::range::{IdRange, PortRange};
use crate::rules::Family;
use crate::safeguard::Safeguard;

/// What to redirect and what to leave alone in one network namespace. A value of this type is always applicable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    proxy_uid: u32,
    proxy_gid: Option<u32>,
    inbound_port: u16,
    outbound_port: u16,
    dns: Option<Dns>,
    exclude_inbound_ports: Vec<PortRange>,
    exclude_outbound_ports: Vec<PortRange>,
    exclude_outbound_cidrs: Vec<IpNet>,
    exclude_uids: Vec<IdRange>,
    exclude_gids: Vec<IdRange>,
    safeguards: Vec<Safeguard>,
    probe_ports: Vec<PortRange>,
    probe_sources: Vec<IpNet>,
    proof: bool,
    dual_stack: bool,
}

/// Which DNS queries go to the mesh's DNS server. Only the family of that server is concerned: IPv4 in a single-stack
/// policy, IPv6 in a dual-stack one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dns {
    /// Every query, whomever it was sent to, keeping port 53.
    Everything {
        /// The server.
        server: IpAddr,
    },
    /// Queries to the server's own address, moved from port 53 to the port it listens on.
    Addressed {
        /// The server.
        server: IpAddr,
        /// Where it listens.
        port: u16,
    },
}

impl Dns {
    /// The family whose queries are concerned.
    #[must_use]
    pub fn family(&self) -> Family {
        let (Self::Everything { server } | Self::Addressed { server, .. }) = *self;
        Family::of(server)
    }
}

/// Every mistake of a [`Config`], each with the key it is under; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyErrors(Vec<(&'static str, Mistake)>);

impl PolicyErrors {
    /// The mistakes, in the order of the configuration's keys: `(key, mistake)`.
    #[must_use]
    pub fn mistakes(&self) -> &[(&'static str, Mistake)] {
        &self.0
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("use the redirect configuration: ")?;
        for (index, (key, mistake)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match mistake.entry {
                Some(_) => write!(f, "{separator}{key} {mistake}")?,
                None => write!(f, "{separator}{key} = {mistake}")?,
            }
        }
        Ok(())
    }
}

impl Policy {
    /// Understands `config`. With `dual_stack` both families are redirected and DNS is IPv6's; without, IPv4 only.
    ///
    /// # Errors
    /// [`PolicyErrors`] with all mistakes.
    pub fn from_config(config: &Config, dual_stack: bool) -> Result<Self, PolicyErrors> {
        let mut mistakes = Vec::new();
        let dns = keep(&mut mistakes, dns(config, dual_stack)).flatten();
        let proxy_uid = keep(&mut mistakes, proxy_uid(&config.proxy_user_id));
        let proxy_gid = keep(&mut mistakes, proxy_gid(&config.proxy_group_id)).flatten();
        let inbound_port =
            keep(&mut mistakes, port("ProxyInboundPort", config.proxy_inbound_port, "the inbound listener's port"));
        let outbound_port = match config.proxy_outbound_port {
            0 => Some(contract::OUTBOUND_PORT),
            set => keep(&mut mistakes, port("ProxyOutboundPort", set, "the outbound listener's port")),
        };
        let lists = (
            list(&mut mistakes, "ExcludeInboundPorts", &config.exclude_inbound_ports, ports),
            list(&mut mistakes, "ExcludeOutboundPorts", &config.exclude_outbound_ports, ports),
            list(&mut mistakes, "ExcludeOutboundCIDRs", &config.exclude_outbound_cidrs, parse::cidr),
            list(&mut mistakes, "ExcludeUIDs", &config.exclude_uids, ids),
            list(&mut mistakes, "ExcludeGIDs", &config.exclude_gids, ids),
            list(&mut mistakes, "Safeguards", &config.safeguards, Safeguard::named),
            list(&mut mistakes, "ProbePorts", &config.probe_ports, ports),
            list(&mut mistakes, "ProbeSources", &config.probe_sources, parse::cidr),
        );
        match (proxy_uid, inbound_port, outbound_port) {
            (Some(proxy_uid), Some(inbound_port), Some(outbound_port)) if mistakes.is_empty() => Ok(Self {
                proxy_uid,
                proxy_gid,
                inbound_port,
                outbound_port,
                dns,
                exclude_inbound_ports: lists.0,
                exclude_outbound_ports: lists.1,
                exclude_outbound_cidrs: lists.2,
                exclude_uids: lists.3,
                exclude_gids: lists.4,
                safeguards: lists.5,
                probe_ports: lists.6,
                probe_sources: lists.7,
                proof: config.proof,
                dual_stack,
            }),
            _ => Err(PolicyErrors(mistakes)),
        }
    }

    /// Whether every user's dial of [`contract::PROOF`] is redirected.
    #[must_use]
    pub fn proof(&self) -> bool {
        self.proof
    }

    /// The user the proxy runs as; its own traffic is never redirected.
    #[must_use]
    pub fn proxy_uid(&self) -> u32 {
        self.proxy_uid
    }

    /// The group the proxy runs as, where it is known: what its user sends with another one is counted.
    #[must_use]
    pub fn proxy_gid(&self) -> Option<u32> {
        self.proxy_gid
    }

    /// Where connections from outside go.
    #[must_use]
    pub fn inbound_port(&self) -> u16 {
        self.inbound_port
    }

    /// Where the processes' own connections go.
    #[must_use]
    pub fn outbound_port(&self) -> u16 {
        self.outbound_port
    }

    /// Which DNS queries are redirected, and where to.
    #[must_use]
    pub fn dns(&self) -> Option<Dns> {
        self.dns
    }

    /// Destination ports of connections from outside that are left alone.
    #[must_use]
    pub fn exclude_inbound_ports(&self) -> &[PortRange] {
        &self.exclude_inbound_ports
    }

    /// Destination ports of the processes' own connections that are left alone.
    #[must_use]
    pub fn exclude_outbound_ports(&self) -> &[PortRange] {
        &self.exclude_outbound_ports
    }

    /// Destination blocks of the processes' own connections that are left alone, host bits cleared.
    #[must_use]
    pub fn exclude_outbound_cidrs(&self) -> &[IpNet] {
        &self.exclude_outbound_cidrs
    }

    /// Users, other than the proxy, whose connections are left alone.
    #[must_use]
    pub fn exclude_uids(&self) -> &[IdRange] {
        &self.exclude_uids
    }

    /// Groups whose connections are left alone.
    #[must_use]
    pub fn exclude_gids(&self) -> &[IdRange] {
        &self.exclude_gids
    }

    /// Destination ports of TCP connections from outside that are left alone when they come from [`Self::probe_sources`].
    #[must_use]
    pub fn probe_ports(&self) -> &[PortRange] {
        &self.probe_ports
    }

    /// Blocks that probes come from, host bits cleared.
    #[must_use]
    pub fn probe_sources(&self) -> &[IpNet] {
        &self.probe_sources
    }

    /// Whether something that Consul leaves open is closed.
    #[must_use]
    pub fn has(&self, safeguard: Safeguard) -> bool {
        self.safeguards.contains(&safeguard)
    }

    /// The address families that are redirected.
    #[must_use]
    pub fn families(&self) -> &'static [Family] {
        if self.dual_stack { &[Family::V4, Family::V6] } else { &[Family::V4] }
    }
}

/// A port or a range, with either sign that somebody's tool understands: iptables' colon and nft's dash.
fn ports(text: &str) -> Result<PortRange, String> {
    parse::ports_of(text, &[':', '-'])
}

fn ids(text: &str) -> Result<IdRange, String> {
    parse::ids_of(text, &['-'])
}

type Finding<T> = Result<T, (&'static str, Mistake)>;

fn keep<T>(mistakes: &mut Vec<(&'static str, Mistake)>, finding: Finding<T>) -> Option<T> {
    finding.map_err(|mistake| mistakes.push(mistake)).ok()
}

fn list<T: Copy + Eq + Hash>(
    mistakes: &mut Vec<(&'static str, Mistake)>,
    key: &'static str,
    entries: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    parse::each(entries.iter().map(String::as_str), read).unwrap_or_else(|wrong| {
        mistakes.extend(wrong.into_iter().map(|mistake| (key, mistake)));
        Vec::new()
    })
}

fn mistake(key: &'static str, value: impl ToString, reason: impl Into<String>) -> (&'static str, Mistake) {
    (key, Mistake { entry: None, value: value.to_string(), reason: reason.into() })
}

fn proxy_uid(text: &str) -> Finding<u32> {
    const KEY: &str = "ProxyUserID";
    if text.trim().is_empty() {
        return Err(mistake(KEY, text, "the proxy's user id is required, or its own traffic would be sent back to it"));
    }
    parse::id(text.trim()).map_err(|reason| mistake(KEY, text, reason))
}

fn proxy_gid(text: &str) -> Finding<Option<u32>> {
    match text.trim() {
        "" => Ok(None),
        id => parse::id(id).map(Some).map_err(|reason| mistake("ProxyGroupID", text, reason)),
    }
}

fn port(key: &'static str, number: i64, what: &str) -> Finding<u16> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| mistake(key, number, format!("{what} is required, a number from 1 to 65535")))
}

fn dns(config: &Config, dual_stack: bool) -> Finding<Option<Dns>> {
    const IP: &str = "ConsulDNSIP";
    let text = config.consul_dns_ip.trim();
    let server = match text {
        "" => None,
        text => Some(parse::address(text).map_err(|reason| mistake(IP, text, reason))?),
    };
    match server {
        Some(IpAddr::V4(_)) if dual_stack => {
            return Err(mistake(IP, text, "in dual stack the DNS server's address is an IPv6 one, as ::1"));
        }
        Some(IpAddr::V6(_)) if !dual_stack => {
            return Err(mistake(IP, text, "in single stack the DNS server's address is an IPv4 one, as 127.0.0.1"));
        }
        _ => {}
    }
    match (server, config.consul_dns_port) {
        (None, 0) => Ok(None),
        (Some(server), 0) => Ok(Some(Dns::Everything { server })),
        (server, number) => {
            let port = port("ConsulDNSPort", number, "the DNS server's port")?;
            let default: IpAddr = if dual_stack { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
            Ok(Some(Dns::Addressed { server: server.unwrap_or(default), port }))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn valid() -> Config {
        Config { proxy_user_id: "5995".into(), proxy_inbound_port: 20000, ..Config::default() }
    }

    fn strings(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_are_trimmed_merged_and_masked() {
        let config = Config {
            exclude_inbound_ports: strings(&["9090", " 9090", "80 "]),
            exclude_outbound_cidrs: strings(&["3.3.3.3/24", "3.3.3.0/24", "fd00::1"]),
            ..valid()
        };
        let policy = Policy::from_config(&config, false).expect("valid");
        assert_eq!(policy.exclude_inbound_ports(), [9090, 80].map(PortRange::from));
        let blocks: Vec<String> = policy.exclude_outbound_cidrs().iter().map(ToString::to_string).collect();
        assert_eq!(blocks, ["3.3.3.0/24", "fd00::1/128"]);
        assert_eq!((policy.outbound_port(), policy.dns()), (contract::OUTBOUND_PORT, None));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let config = Config {
            proxy_user_id: String::new(),
            proxy_inbound_port: 0,
            proxy_outbound_port: 70000,
            consul_dns_ip: "localhost".into(),
            exclude_inbound_ports: strings(&["80", "http"]),
            exclude_outbound_ports: strings(&["", "8300:8200"]),
            exclude_outbound_cidrs: strings(&["3.3.3"]),
            exclude_uids: strings(&["1", "2", "-1"]),
            exclude_gids: strings(&["wheel"]),
            safeguards: strings(&["refuse-everything"]),
            probe_ports: strings(&["9000", "grpc"]),
            probe_sources: strings(&["node-1", "10.0.0.1"]),
            proof: true,
            proxy_group_id: "staff".into(),
            net_ns: String::new(),
            consul_dns_port: 0,
        };
        let errors = Policy::from_config(&config, false).expect_err("all wrong");
        let found: Vec<(&str, Option<usize>)> = errors.mistakes().iter().map(|(key, m)| (*key, m.entry)).collect();
        assert_eq!(
            found,
            [
                ("ConsulDNSIP", None),
                ("ProxyUserID", None),
                ("ProxyGroupID", None),
                ("ProxyInboundPort", None),
                ("ProxyOutboundPort", None),
                ("ExcludeInboundPorts", Some(2)),
                ("ExcludeOutboundPorts", Some(1)),
                ("ExcludeOutboundPorts", Some(2)),
                ("ExcludeOutboundCIDRs", Some(1)),
                ("ExcludeUIDs", Some(3)),
                ("ExcludeGIDs", Some(1)),
                ("Safeguards", Some(1)),
                ("ProbePorts", Some(2)),
                ("ProbeSources", Some(1)),
            ]
        );
        let text = errors.to_string();
        assert!(text.contains(r#"ProxyOutboundPort = "70000": the outbound listener's port"#), "{text}");
        assert!(text.contains(r#"ExcludeInboundPorts entry 2 "http": service names"#), "{text}");
    }

    #[rstest]
    #[case::v4_in_dual_stack("127.0.0.1", 8600, true, "in dual stack")]
    #[case::mapped_is_v4("::ffff:127.0.0.1", 8600, true, "in dual stack")]
    #[case::v6_in_single_stack("::1", 8600, false, "in single stack")]
    #[case::port("127.0.0.1", 65536, false, "the DNS server's port")]
    #[case::negative("", -1, false, "the DNS server's port")]
    fn dns_mistakes(#[case] ip: &str, #[case] port: i64, #[case] dual_stack: bool, #[case] expected: &str) {
        let config = Config { consul_dns_ip: ip.into(), consul_dns_port: port, ..valid() };
        let errors = Policy::from_config(&config, dual_stack).expect_err("refused");
        assert!(errors.to_string().contains(expected), "{errors}");
    }
}
