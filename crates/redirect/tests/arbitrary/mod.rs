//! Random policies, and random packets that are worth sending through them: near what a policy names, not far from it.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use redirect::{Config, Hook, Packet, Policy, Protocol, Safeguard};

/// Users that packets come from; policies name some of them.
pub(crate) const UIDS: [u32; 8] = [0, 1, 999, 1000, 1001, 1234, 5995, 5996];
/// Groups that packets come from.
pub(crate) const GIDS: [u32; 4] = [0, 100, 1000, 5995];
/// Ports that packets go to; the neighbours of what policies name are among them.
pub(crate) const PORTS: [u16; 14] = [1, 22, 53, 79, 80, 81, 443, 8199, 8200, 8201, 9090, 20200, 32767, 65535];
/// Addresses outside the Pod: a service's, external ones, the edges of blocks, metadata, documentation.
pub(crate) const REMOTE: [&str; 18] = [
    "10.9.0.2",
    "240.0.0.1",
    "198.51.100.10",
    "3.3.2.255",
    "3.3.3.0",
    "3.3.3.3",
    "3.3.3.255",
    "3.3.4.0",
    "10.2.3.4",
    "10.2.3.5",
    "169.254.169.254",
    "169.254.20.10",
    "fd00:9::2",
    "fd00:3::1",
    "fd00:3:ffff::1",
    "fd00:4::1",
    "fd00:ec2::254",
    "2001:db8::1",
];
/// Addresses of the Pod itself.
pub(crate) const LOCAL: [&str; 6] = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "10.9.0.1", "::1", "fd00:9::1"];

/// Addresses that connections come from: the neighbour's own, and others that it can take.
const SOURCES: [&str; 7] = ["10.9.0.2", "192.0.2.0", "192.0.2.1", "192.0.2.2", "fd00:9::2", "fd00:8::1", "fd00:8:1::1"];
const PROBE_SOURCES: [&str; 9] = [
    "192.0.2.1",
    "192.0.2.0/31",
    "192.0.2.2/32",
    "10.9.0.2",
    "0.0.0.0/0",
    "fd00:8::1",
    "fd00:8::/48",
    "fd00:9::/64",
    "::/0",
];

const EXCLUDED_PORTS: [&str; 10] =
    ["80", "443", "8200", "8201", "9090", "8199:8201", "79-81", "1:65535", "20200", "53"];
const BLOCKS: [&str; 12] = [
    "3.3.3.0/24",
    "3.3.3.3",
    "3.3.3.3/24",
    "10.0.0.0/8",
    "10.2.3.4/32",
    "0.0.0.0/0",
    "169.254.0.0/16",
    "fd00:3::/32",
    "fd00:3::/48",
    "::/0",
    "fd00:ec2::254",
    "240.0.0.0/4",
];
const IDS: [&str; 8] = ["0", "1000", "1234", "999-1001", "0-4294967294", "5996", "100", "1001-1001"];

fn strings(values: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    vec(select(values).prop_map(str::to_owned), 0..=most)
}

/// Most lists are short; now and then one is long.
fn config() -> impl Strategy<Value = (Config, bool)> {
    let lists = (strings(&EXCLUDED_PORTS, 3), strings(&EXCLUDED_PORTS, 3), strings(&BLOCKS, 4), strings(&IDS, 3));
    let dns = select(&[("", 0), ("address", 8600), ("", 8600), ("address", 0)][..]);
    let probes = (strings(&EXCLUDED_PORTS, 2), strings(&PROBE_SOURCES, 3));
    let more = (prop_oneof![3 => Just(Vec::new()), 1 => strings(&IDS, 2)], safeguards(), any::<bool>(), dns);
    (lists, probes, more).prop_map(|((inbound, outbound, blocks, uids), probes, (gids, safeguards, dual, dns))| {
        let server = if dual { "fd00:9::2" } else { "10.9.0.2" };
        let loopback = if dual { "::1" } else { "127.0.0.1" };
        let consul_dns_ip = match dns {
            ("", _) => "",
            (_, 0) => server,
            _ => loopback,
        };
        let config = Config {
            consul_dns_ip: consul_dns_ip.to_owned(),
            consul_dns_port: dns.1,
            proxy_user_id: "5995".into(),
            proxy_inbound_port: 20000,
            proxy_outbound_port: 15001,
            exclude_inbound_ports: inbound,
            exclude_outbound_ports: outbound,
            exclude_outbound_cidrs: blocks,
            exclude_uids: uids,
            exclude_gids: gids,
            safeguards: safeguards.into_iter().map(|safeguard: Safeguard| safeguard.name().to_owned()).collect(),
            probe_ports: probes.0,
            probe_sources: probes.1,
            proof: dns.1 % 2 == 0,
            proxy_group_id: if dual { "5995".into() } else { String::new() },
            net_ns: String::new(),
        };
        (config, dual)
    })
}

fn safeguards() -> impl Strategy<Value = Vec<Safeguard>> {
    prop_oneof![2 => Just(Vec::new()), 3 => subsequence(Safeguard::ALL.to_vec(), 0..=5)]
}

/// A policy that can be applied.
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    config().prop_map(|(config, dual)| Policy::from_config(&config, dual).expect("made of valid entries"))
}

/// The first packet of a connection that can be made between the Pod and its neighbour.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
    let place = prop_oneof![
        3 => select(&REMOTE[..]).prop_map(|to| (Hook::Output, to, false)),
        1 => select(&LOCAL[..]).prop_map(|to| (Hook::Output, to, true)),
        2 => select(&SOURCES[..]).prop_map(|from| (Hook::Prerouting, from, false)),
    ];
    (protocol, place, select(&PORTS[..]), select(&UIDS[..]), select(&GIDS[..])).prop_map(
        |(protocol, (hook, other, local), port, uid, gid)| {
            let other: IpAddr = other.parse().expect("a literal address");
            let packet = match hook {
                Hook::Output => Packet { gid: Some(gid), ..Packet::tcp_out(other, port, uid) },
                Hook::Prerouting => {
                    let pod = if other.is_ipv4() { "10.9.0.1" } else { "fd00:9::1" };
                    Packet::tcp_in(other, pod.parse().expect("a literal address"), port)
                }
            };
            Packet { protocol, local, ..packet }
        },
    )
}
