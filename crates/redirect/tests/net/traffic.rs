//! Real connections against the specification.

use std::net::SocketAddr;

use netns::NetNs;
use redirect::{Backend, Config, Hook, Packet, Policy, Verdict};
use rstest::rstest;

use crate::bed::*;

/// A pod and its neighbour, and servers that say who they are. Rules for a policy are in force in the pod.
pub(crate) struct Street {
    pub(crate) pod: NetNs,
    pub(crate) neighbour: NetNs,
    pub(crate) policy: Policy,
}

impl Street {
    pub(crate) fn build(policy: Policy, backend: Backend) -> Self {
        let (pod, neighbour) = street();
        sh(
            &neighbour,
            "for a in 3.3.3.3 3.3.4.3 10.2.3.4 10.2.3.5 198.51.100.10 240.0.0.1; do ip addr add $a/32 dev lo; done
             for a in fd00:3::3 fd00:4::3; do ip addr add $a/128 dev lo nodad; done",
        );
        for (port, name) in [(15001, "outbound"), (20000, "inbound"), (80, "pod"), (9090, "pod"), (9091, "pod")] {
            serve(&pod, port, name);
        }
        for port in [80, 8200, 8201, 8443] {
            serve(&neighbour, port, "neighbour");
        }
        in_force(&pod, backend, &policy);
        Self { pod, neighbour, policy }
    }

    /// Who answers a TCP connection, and who the policy says should.
    pub(crate) fn compare(&self, packet: Packet, direct: &str) {
        let (namespace, uid) = match packet.hook {
            Hook::Output => (&self.pod, packet.uid.expect("a process has a user")),
            Hook::Prerouting => (&self.neighbour, 0),
        };
        let expected = match self.policy.verdict(&packet) {
            Verdict::Accept => direct,
            Verdict::RedirectTo(15001) => "outbound",
            Verdict::RedirectTo(20000) => "inbound",
            other => panic!("{packet:?} cannot become {other:?} here"),
        };
        let peer = SocketAddr::new(packet.destination, packet.destination_port);
        assert_eq!(ask_from(namespace, packet.source, peer, uid, 0), expected, "{packet:?}\n{:#?}", held(&self.pod));
    }
}

#[rstest]
fn connections_go_where_the_verdict_says(#[values(0, 1, 2)] backend: usize) {
    let street = Street::build(policy(&config(), true), BACKENDS[backend]);
    let out = |to: &str, port: u16, uid: u32, direct: &str| {
        street.compare(Packet::tcp_out(ip(to), port, uid), direct);
    };
    // captured: a service address, an external one, the pod's own, another loopback one
    for to in ["240.0.0.1", "198.51.100.10", POD, "127.0.0.2", "fd00:4::3", "fd00:9::1"] {
        out(to, 80, APP_UID, "never direct");
    }
    // each exclusion, and its neighbour
    for (to, port, uid, direct) in [
        ("198.51.100.10", 8200, APP_UID, "neighbour"),
        ("198.51.100.10", 8201, APP_UID, "never direct"),
        ("198.51.100.10", 8443, APP_UID, "neighbour"),
        ("3.3.3.3", 80, APP_UID, "neighbour"),
        ("3.3.4.3", 80, APP_UID, "never direct"),
        ("10.2.3.4", 80, APP_UID, "neighbour"),
        ("10.2.3.5", 80, APP_UID, "never direct"),
        ("fd00:3::3", 80, APP_UID, "neighbour"),
        ("fd00:9::2", 8443, APP_UID, "neighbour"),
        ("198.51.100.10", 80, 1234, "neighbour"),
        ("198.51.100.10", 80, 1235, "never direct"),
        ("198.51.100.10", 80, 5995, "neighbour"),
        ("fd00:4::3", 80, 5995, "neighbour"),
        ("198.51.100.10", 80, 0, "never direct"),
        ("127.0.0.1", 80, APP_UID, "pod"),
        ("::1", 80, APP_UID, "pod"),
    ] {
        out(to, port, uid, direct);
    }
    let inward = |from: &str, to: &str, port: u16| {
        street.compare(Packet::tcp_in(ip(from), ip(to), port), "pod");
    };
    for (from, to) in [(NEIGHBOUR, POD), ("fd00:9::2", "fd00:9::1")] {
        for port in [80, 9090, 9091, 20000] {
            inward(from, to, port);
        }
    }
}

/// Two lists that Consul's rules do not survive: with a range of inbound ports it stops when outbound is redirected and inbound is
/// not, and with a block of the other family before it has begun.
#[rstest]
fn ranges_and_blocks_of_the_other_family_are_no_trouble(
    #[values(0, 1, 2)] backend: usize,
    #[values(false, true)] dual_stack: bool,
) {
    let ranged = Config {
        exclude_inbound_ports: list(&["9000-9090"]),
        exclude_outbound_ports: list(&["8200-8300"]),
        exclude_outbound_cidrs: list(&["fd00:3::/32", "3.3.3.0/24"]),
        ..config()
    };
    let street = Street::build(policy(&ranged, dual_stack), BACKENDS[backend]);
    let out = |to: &str, port: u16, direct: &str| street.compare(Packet::tcp_out(ip(to), port, APP_UID), direct);
    out("198.51.100.10", 8200, "neighbour");
    out("198.51.100.10", 8201, "neighbour");
    out("198.51.100.10", 8443, "never direct");
    out("3.3.3.3", 80, "neighbour");
    out("fd00:3::3", 80, "neighbour");
    let inward = |port: u16| street.compare(Packet::tcp_in(ip(NEIGHBOUR), ip(POD), port), "pod");
    for port in [9090, 9091, 80] {
        inward(port);
    }
}

/// Whoever has the proxy's user and another group is not the proxy. The rules count it, and are no others for that.
#[test]
fn who_is_not_the_proxy_is_counted() {
    let (pod, peer) = street();
    serve(&peer, 80, "peer");
    let counting = Config { proxy_group_id: "5995".into(), ..config() };
    let policy = policy(&counting, false);
    let bypasses = || pod.run(redirect::bypasses).expect("enter").expect("read the rules");
    assert_eq!(bypasses(), None);
    in_force(&pod, Backend::Nftables, &policy);
    assert_eq!(bypasses(), Some(0));
    let to = SocketAddr::new(ip(NEIGHBOUR), 80);
    assert_eq!(ask(&pod, to, 5995, 5995), "peer", "the proxy's own");
    assert_eq!(bypasses(), Some(0));
    assert_eq!(ask(&pod, to, 5995, 0), "peer", "it goes around the proxy");
    assert_eq!(bypasses(), Some(1));
    assert!(drift(&pod, Backend::Nftables, &policy).is_empty());
    assert!(!in_force(&pod, Backend::Nftables, &policy).changed, "what has counted is in force");
    in_force(&pod, Backend::IptablesNft, &policy);
    assert_eq!(bypasses(), None);
}
