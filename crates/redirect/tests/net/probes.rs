//! Ports that the node's own addresses may reach, and nobody else.

use std::net::SocketAddr;

use redirect::{Backend, Config, Packet};
use rstest::rstest;

use crate::bed::*;
use crate::traffic::Street;

/// Addresses that connections come from: the node's, which the policy names, and others.
const ADDRESSES: &str = "for a in 192.0.2.1 192.0.2.2; do ip addr add $a/32 dev lo; done
     for a in fd00:8::1 fd00:8::2; do ip addr add $a/128 dev lo nodad; done";

fn probed() -> Config {
    Config {
        probe_ports: list(&["80", "9091"]),
        probe_sources: list(&["192.0.2.1", "198.51.100.0/24", "fd00:8::1"]),
        ..config()
    }
}

fn street(config: &Config, dual_stack: bool, backend: Backend) -> Street {
    let street = Street::build(policy(config, dual_stack), backend);
    sh(&street.neighbour, ADDRESSES);
    street
}

/// Each row says who answers, so that rules and specification cannot be wrong together.
#[rstest]
fn the_port_and_the_source_must_both_be_right(#[values(0, 1, 2)] backend: usize) {
    let street = street(&probed(), true, BACKENDS[backend]);
    for (from, to, port, answer) in [
        ("192.0.2.1", POD, 80, "pod"),
        ("192.0.2.1", POD, 9091, "pod"),
        ("198.51.100.10", POD, 80, "pod"),
        ("fd00:8::1", "fd00:9::1", 80, "pod"),
        ("fd00:8::1", "fd00:9::1", 9091, "pod"),
        // nobody else may
        ("192.0.2.2", POD, 80, "inbound"),
        (NEIGHBOUR, POD, 80, "inbound"),
        ("fd00:8::2", "fd00:9::1", 80, "inbound"),
        // and the node may nowhere else
        ("192.0.2.1", POD, 15001, "inbound"),
        ("198.51.100.10", POD, 15001, "inbound"),
        ("fd00:8::1", "fd00:9::1", 15001, "inbound"),
        // what is excluded for all is no less open
        ("192.0.2.2", POD, 9090, "pod"),
    ] {
        street.compare(Packet::tcp_in(ip(from), ip(to), port), "pod");
        let peer = SocketAddr::new(ip(to), port);
        assert_eq!(ask_from(&street.neighbour, ip(from), peer, 0, 0), answer, "{from} to {peer}");
    }
}

#[rstest]
fn without_sources_the_ports_are_as_closed_as_without_ports(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let sourceless = Config { probe_sources: Vec::new(), ..probed() };
    let portless = Config { probe_ports: Vec::new(), ..probed() };
    let street = street(&sourceless, true, backend);
    let plain = held(&street.pod);
    let peer = SocketAddr::new(ip(POD), 80);
    assert_eq!(ask_from(&street.neighbour, ip("192.0.2.1"), peer, 0, 0), "inbound");
    for same in [portless, config()] {
        assert_eq!(expected(backend, &policy(&same, true)), plain, "no rule more, and none less");
    }
}

/// In single stack IPv6 is left alone, and a safeguard that refuses it does not refuse probes.
#[rstest]
#[case::the_node("fd00:8::1", 80, "pod")]
#[case::another_source("fd00:8::2", 80, "ConnectionRefused")]
#[case::another_port("fd00:8::1", 15001, "ConnectionRefused")]
fn refused_ipv6_spares_probes(
    #[values(0, 1, 2)] backend: usize,
    #[case] from: &str,
    #[case] port: u16,
    #[case] answer: &str,
) {
    let config = Config { safeguards: list(&["refuse-ipv6"]), ..probed() };
    let street = street(&config, false, BACKENDS[backend]);
    let peer = SocketAddr::new(ip("fd00:9::1"), port);
    assert_eq!(ask_from(&street.neighbour, ip(from), peer, 0, 0), answer, "{:#?}", held(&street.pod));
}

#[rstest]
fn a_source_that_somebody_adds_is_drift(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let street = street(&probed(), false, backend);
    assert_eq!(drift(&street.pod, backend, &street.policy), Vec::<String>::new());
    let wider = Config { probe_sources: list(&["192.0.2.0/24"]), ..probed() };
    let found = drift(&street.pod, backend, &policy(&wider, false));
    assert!(found.iter().any(|line| line.contains("192.0.2.0")), "{found:#?}");
}
