//! What must become of a packet: the executable specification that rules of every backend are held against.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::contract::PROOF;
use crate::policy::{Dns, Policy};
use crate::range::any;
use crate::rules::Family;
use crate::safeguard::{LINK_LOCAL, METADATA, MULTICAST, Safeguard};

/// DNS, over UDP and TCP.
pub(crate) const DNS_PORT: u16 = 53;

/// Where in the namespace the first packet of a connection is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Sent by a process of the namespace, also when the destination is in the namespace itself.
    Output,
    /// Arrived from outside.
    Prerouting,
}

/// The transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Another one, by its IP protocol number.
    Other(u8),
}

/// The first packet of a connection; later ones, and the answers, follow what was decided for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Where it is seen.
    pub hook: Hook,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Address it comes from.
    pub source: IpAddr,
    /// Port it comes from; 0 where the protocol has none.
    pub source_port: u16,
    /// Address it is sent to.
    pub destination: IpAddr,
    /// Port it is sent to; 0 where the protocol has none.
    pub destination_port: u16,
    /// The user that owns the sending socket; `None` at [`Hook::Prerouting`], and for what the kernel sends itself.
    pub uid: Option<u32>,
    /// The group that owns the sending socket.
    pub gid: Option<u32>,
    /// Whether the destination is an address of the namespace itself, which packets reach over the loopback interface. Meant for
    /// [`Hook::Output`].
    pub local: bool,
}

impl Packet {
    /// A TCP dial by a process of the namespace, from wherever the kernel chooses.
    #[must_use]
    pub fn tcp_out(destination: IpAddr, destination_port: u16, uid: u32) -> Self {
        let is_loopback = destination.is_loopback();
        Self { destination_port, uid: Some(uid), ..Self::new(Hook::Output, unspecified_like(destination), destination) }
            .staying(is_loopback)
    }

    /// A TCP dial that arrives from outside.
    #[must_use]
    pub fn tcp_in(source: IpAddr, destination: IpAddr, destination_port: u16) -> Self {
        Self { destination_port, ..Self::new(Hook::Prerouting, source, destination) }
    }

    fn new(hook: Hook, source: IpAddr, destination: IpAddr) -> Self {
        Self {
            hook,
            protocol: Protocol::Tcp,
            source,
            source_port: 0,
            destination,
            destination_port: 0,
            uid: None,
            gid: None,
            local: false,
        }
    }

    /// The same packet, with its destination in the namespace itself or not.
    #[must_use]
    pub fn staying(self, local: bool) -> Self {
        Self { local, ..self }
    }

    /// Whether its protocol has ports, which rules can tell apart.
    fn has_ports(&self) -> bool {
        matches!(self.protocol, Protocol::Tcp | Protocol::Udp)
    }

    /// The address family, which is the destination's.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.destination)
    }
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes where it was sent.
    Accept,
    /// It goes to this port of the namespace itself: of the loopback address at [`Hook::Output`], of the interface's own
    /// address at [`Hook::Prerouting`].
    RedirectTo(u16),
    /// It goes to this DNS server.
    DnsTo(SocketAddr),
    /// It goes nowhere, and its sender is told at once: by a reset, or an ICMP error.
    Refuse,
}

impl Policy {
    /// What must happen to `packet` in a namespace where this policy is in force.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict {
        match packet.hook {
            Hook::Output => self.dns_verdict(packet).unwrap_or_else(|| self.outbound_verdict(packet)),
            Hook::Prerouting => self.inbound_verdict(packet),
        }
    }

    fn redirects(&self, packet: &Packet) -> bool {
        packet.protocol == Protocol::Tcp && self.families().contains(&packet.family())
    }

    fn inbound_verdict(&self, packet: &Packet) -> Verdict {
        let excluded = packet.has_ports() && any(self.exclude_inbound_ports(), packet.destination_port);
        if excluded || self.is_probe(packet) {
            Verdict::Accept
        } else if self.redirects(packet) {
            Verdict::RedirectTo(self.inbound_port())
        } else if !LINK_LOCAL.contains(&packet.source) && (self.refuses_ipv6(packet) || self.refuses_udp(packet)) {
            Verdict::Refuse
        } else {
            Verdict::Accept
        }
    }

    /// Both must be right: a port that is probed is open to nobody but the node, and no other port is open to the node.
    fn is_probe(&self, packet: &Packet) -> bool {
        packet.protocol == Protocol::Tcp
            && any(self.probe_ports(), packet.destination_port)
            && self.probe_sources().iter().any(|block| block.contains(&packet.source))
    }

    fn refuses_ipv6(&self, packet: &Packet) -> bool {
        let is_captured = self.families().contains(&Family::V6);
        packet.has_ports() && packet.family() == Family::V6 && !is_captured && self.has(Safeguard::RefuseIpv6)
    }

    fn refuses_udp(&self, packet: &Packet) -> bool {
        packet.protocol == Protocol::Udp && self.has(Safeguard::RefuseUdp)
    }

    /// DNS comes first, and for every user, the proxy's and excluded ones too.
    fn dns_verdict(&self, packet: &Packet) -> Option<Verdict> {
        let is_dns = packet.has_ports() && packet.destination_port == DNS_PORT;
        let dns = self.dns().filter(|dns| is_dns && dns.family() == packet.family())?;
        match dns {
            Dns::Everything { server } => Some(Verdict::DnsTo(SocketAddr::new(server, DNS_PORT))),
            Dns::Addressed { server, .. } if server != packet.destination => None,
            Dns::Addressed { server, port } => Some(Verdict::DnsTo(SocketAddr::new(server, port))),
        }
    }

    fn outbound_verdict(&self, packet: &Packet) -> Verdict {
        let Packet { destination, destination_port, uid, gid, local, .. } = *packet;
        let proof = SocketAddr::from(PROOF);
        if self.proof() && packet.protocol == Protocol::Tcp && SocketAddr::new(destination, destination_port) == proof {
            return Verdict::RedirectTo(self.outbound_port());
        }
        let exempt = uid.is_some_and(|uid| uid == self.proxy_uid() || any(self.exclude_uids(), uid))
            || gid.is_some_and(|gid| any(self.exclude_gids(), gid))
            || self.exclude_outbound_cidrs().iter().any(|block| block.contains(&destination))
            || packet.has_ports() && any(self.exclude_outbound_ports(), destination_port)
            || destination == packet.family().loopback();
        if exempt {
            return Verdict::Accept;
        }
        if packet.has_ports() && self.has(Safeguard::RefuseMetadata) && METADATA.contains(&destination) {
            return if local { Verdict::Accept } else { Verdict::Refuse };
        }
        if self.redirects(packet) {
            let stays = local && self.has(Safeguard::LocalDirect);
            return if stays { Verdict::Accept } else { Verdict::RedirectTo(self.outbound_port()) };
        }
        let on_the_link = [LINK_LOCAL, MULTICAST].iter().any(|block| block.contains(&destination));
        let refused = self.refuses_ipv6(packet) || self.refuses_udp(packet) && destination_port != DNS_PORT;
        if refused && !local && !on_the_link { Verdict::Refuse } else { Verdict::Accept }
    }
}

fn unspecified_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::Config;

    const PROXY: u32 = 5995;
    const APP: u32 = 1000;

    fn policy(dual_stack: bool, dns: (&str, i64)) -> Policy {
        let config = Config {
            consul_dns_ip: dns.0.into(),
            consul_dns_port: dns.1,
            proxy_user_id: PROXY.to_string(),
            proxy_inbound_port: 20000,
            exclude_inbound_ports: vec!["9090".into()],
            exclude_outbound_ports: vec!["8200".into()],
            exclude_outbound_cidrs: vec!["3.3.3.0/24".into(), "fd00:3::/32".into()],
            exclude_uids: vec!["1234".into()],
            ..Config::default()
        };
        Policy::from_config(&config, dual_stack).expect("valid")
    }

    fn to(address: &str, port: u16, uid: u32) -> Packet {
        Packet::tcp_out(address.parse().expect("a literal"), port, uid)
    }

    const OUT: Verdict = Verdict::RedirectTo(15001);

    #[rstest]
    #[case::captured(to("198.51.100.1", 80, APP), OUT)]
    #[case::root_too(to("198.51.100.1", 80, 0), OUT)]
    #[case::the_proxy(to("198.51.100.1", 80, PROXY), Verdict::Accept)]
    #[case::uid(to("198.51.100.1", 80, 1234), Verdict::Accept)]
    #[case::port(to("198.51.100.1", 8200, APP), Verdict::Accept)]
    #[case::block(to("3.3.3.255", 80, APP), Verdict::Accept)]
    #[case::beside_the_block(to("3.3.4.0", 80, APP), OUT)]
    #[case::loopback(to("127.0.0.1", 80, APP), Verdict::Accept)]
    #[case::other_loopback(to("127.0.0.2", 80, APP), OUT)]
    #[case::inbound_exclusions_are_inbound(to("198.51.100.1", 9090, APP), OUT)]
    #[case::no_socket(Packet { uid: None, ..to("198.51.100.1", 80, APP) }, OUT)]
    #[case::udp(Packet { protocol: Protocol::Udp, ..to("198.51.100.1", 443, APP) }, Verdict::Accept)]
    #[case::icmp(Packet { protocol: Protocol::Other(1), ..to("198.51.100.1", 0, APP) }, Verdict::Accept)]
    fn outbound(#[case] packet: Packet, #[case] verdict: Verdict) {
        assert_eq!(policy(false, ("", 0)).verdict(&packet), verdict);
    }

    #[rstest]
    #[case("fd00:4::1", OUT)]
    #[case("fd00:3::1", Verdict::Accept)]
    #[case("::1", Verdict::Accept)]
    fn ipv6_is_captured_in_dual_stack_only(#[case] address: &str, #[case] dual: Verdict) {
        let packet = to(address, 80, APP);
        assert_eq!(policy(true, ("", 0)).verdict(&packet), dual);
        assert_eq!(policy(false, ("", 0)).verdict(&packet), Verdict::Accept);
    }

    #[rstest]
    #[case(80, Protocol::Tcp, Verdict::RedirectTo(20000))]
    #[case(8200, Protocol::Tcp, Verdict::RedirectTo(20000))]
    #[case(9090, Protocol::Tcp, Verdict::Accept)]
    #[case(53, Protocol::Udp, Verdict::Accept)]
    fn inbound(#[case] port: u16, #[case] protocol: Protocol, #[case] verdict: Verdict) {
        let address = |text: &str| text.parse().expect("a literal");
        let packet = Packet { protocol, ..Packet::tcp_in(address("10.0.0.2"), address("10.0.0.1"), port) };
        assert_eq!(policy(false, ("127.0.0.1", 8600)).verdict(&packet), verdict);
    }

    #[rstest]
    #[case::proof(PROOF, true, Verdict::RedirectTo(15001))]
    #[case::not_asked_for(PROOF, false, Verdict::Accept)]
    #[case::another_port(std::net::SocketAddrV4::new(*PROOF.ip(), 80), true, Verdict::Accept)]
    fn a_proof_is_for_excluded_users_too(
        #[case] to: std::net::SocketAddrV4,
        #[case] proof: bool,
        #[case] verdict: Verdict,
    ) {
        let config = Config {
            proxy_user_id: PROXY.to_string(),
            proxy_inbound_port: 20000,
            exclude_uids: vec!["5996".into()],
            proof,
            ..Config::default()
        };
        let policy = Policy::from_config(&config, false).expect("valid");
        for user in [5996, PROXY] {
            assert_eq!(policy.verdict(&Packet::tcp_out((*to.ip()).into(), to.port(), user)), verdict);
        }
    }

    #[rstest]
    #[case::both("10.0.0.1", 9000, Verdict::Accept)]
    #[case::both_over_ipv6("fd00::1", 9000, Verdict::Accept)]
    #[case::another_source("10.0.0.2", 9000, Verdict::RedirectTo(20000))]
    #[case::another_source_over_ipv6("fd00::2", 9000, Verdict::RedirectTo(20000))]
    #[case::another_port("10.0.0.1", 9001, Verdict::RedirectTo(20000))]
    fn a_probe_has_both_the_port_and_the_source(#[case] from: &str, #[case] port: u16, #[case] verdict: Verdict) {
        let config = Config {
            proxy_user_id: PROXY.to_string(),
            proxy_inbound_port: 20000,
            probe_ports: vec!["9000".into()],
            probe_sources: vec!["10.0.0.1".into(), "fd00::1".into()],
            ..Config::default()
        };
        let from: IpAddr = from.parse().expect("a literal");
        let packet = Packet::tcp_in(from, from, port);
        assert_eq!(Policy::from_config(&config, true).expect("valid").verdict(&packet), verdict);
        let no_sources = Config { probe_sources: Vec::new(), ..config };
        let policy = Policy::from_config(&no_sources, true).expect("valid");
        assert_eq!(policy.verdict(&packet), Verdict::RedirectTo(20000), "without sources nothing is exempt");
    }

    #[rstest]
    #[case::addressed(("127.0.0.1", 8600), "127.0.0.1", "127.0.0.1:8600")]
    #[case::default_address(("", 8600), "127.0.0.1", "127.0.0.1:8600")]
    #[case::everything(("10.0.0.53", 0), "9.9.9.9", "10.0.0.53:53")]
    fn dns_is_for_every_user_and_both_protocols(
        #[case] dns: (&str, i64),
        #[case] asked: &str,
        #[case] server: &str,
        #[values(APP, PROXY, 1234)] uid: u32,
        #[values(Protocol::Tcp, Protocol::Udp)] protocol: Protocol,
    ) {
        let packet = Packet { protocol, ..to(asked, 53, uid) };
        let server = server.parse().expect("a literal");
        assert_eq!(policy(false, dns).verdict(&packet), Verdict::DnsTo(server));
    }

    #[rstest]
    #[case::another_resolver(false, "127.0.0.1", to("9.9.9.9", 53, APP), OUT)]
    #[case::another_family(true, "::1", to("127.0.0.1", 53, APP), Verdict::Accept)]
    fn other_resolvers_are_ordinary(
        #[case] dual_stack: bool,
        #[case] server: &str,
        #[case] packet: Packet,
        #[case] verdict: Verdict,
    ) {
        assert_eq!(policy(dual_stack, (server, 8600)).verdict(&packet), verdict);
    }
}
