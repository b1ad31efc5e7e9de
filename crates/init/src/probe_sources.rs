//! Which addresses a Pod's probes come from, as far as the Pod itself can know.
//!
//! A configuration names the ports that are probed, and usually not the addresses that may reach them: whoever wrote it did not
//! know the node. Then they are found here, and there are two places that know something:
//!
//! - the variables `HOST_IPS` and `HOST_IP`, which the kubelet fills from `status.hostIPs` and `status.hostIP`;
//! - the Pod's default gateways, which on networks of veth pairs are the node's end. Link-local ones are left out: plugins that
//!   route by 169.254.1.1 or fe80::1 (Calico, AWS, Azure) give that address to nobody, and a node sends from one of its own.
//!
//! The kernel chooses a probe's source by the node's route to the Pod: an address of the interface that leads there, and where that
//! has none, one of the node's own. So it depends on the network plugin:
//!
//! | plugin | the Pod's gateway | probes come from | found by |
//! |---|---|---|---|
//! | bridge, flannel, Antrea, Weave | the bridge | the bridge | gateway |
//! | ptp, kindnet, GKE | the node's end of the veth pair | that | gateway |
//! | Cilium (tunnel, native routing) | `cilium_host` | `cilium_host` | gateway |
//! | Cilium (endpoint routes, ENI) | `cilium_host` | the node | `HOST_IPS` |
//! | Calico | 169.254.1.1, which nobody has | the node | `HOST_IPS` |
//! | AWS VPC CNI, Azure CNI | 169.254.1.1, which nobody has | the node | `HOST_IPS` |
//! | OVN-Kubernetes | a distributed router | the node's management port | nothing: name it in `ProbeSources` |
//! | macvlan, ipvlan | a router of the network | the node, by another way | nothing: name it in `ProbeSources` |
//!
//! *What a wrong guess leads to.* An address that is missing: the probe is captured like any other packet, as it is without all
//! this, and fails or is answered by the proxy. An address that is too many opens the probe ports, and no others, to whoever has it:
//! with macvlan, the router itself. The node's address is also that of its processes, of Pods in its network, and of what it
//! masquerades, such as clients of a NodePort that this node sends on to its own Pod.

use std::net::IpAddr;
use std::{fs, io};

use redirect::Config;

/// Of the current thread's network namespace, which need not be the process's.
const ROUTES_V4: &str = "/proc/thread-self/net/route";
const ROUTES_V6: &str = "/proc/thread-self/net/ipv6_route";

/// The route leads over a gateway (`RTF_GATEWAY`).
const GATEWAY: u32 = 0x2;

/// Names the sources of a configuration that has probe ports and none; `node` are the addresses that the environment tells.
pub fn fill(config: &mut Config, node: &[String]) {
    if config.probe_ports.is_empty() || !config.probe_sources.is_empty() {
        return;
    }
    config.probe_sources = node.to_vec();
    for (file, gateways) in [(ROUTES_V4, gateways_v4 as fn(&str) -> Vec<IpAddr>), (ROUTES_V6, gateways_v6)] {
        match fs::read_to_string(file) {
            Ok(routes) => config.probe_sources.extend(gateways(&routes).iter().map(IpAddr::to_string)),
            // a kernel without IPv6
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file, %error, "the Pod's routes are not known"),
        }
    }
    let (ports, sources) = (config.probe_ports.join(","), config.probe_sources.join(","));
    if config.probe_sources.is_empty() {
        tracing::warn!(
            ports,
            "probes are captured like everything else, because nothing says where they come from: there is neither HOST_IPS nor \
             a default route; name their addresses in ProbeSources"
        );
    } else {
        tracing::info!(ports, sources, "probes go to the application");
    }
}

/// The gateways of the default routes in `/proc/net/route`, whose numbers are in the machine's own byte order.
fn gateways_v4(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok();
        // interface, destination, gateway, flags, references, use, metric, mask
        let (destination, gateway, flags, mask) = (number(1)?, number(2)?, number(3)?, number(7)?);
        let is_default = destination == 0 && mask == 0 && flags & GATEWAY != 0;
        is_default.then(|| IpAddr::from(gateway.to_ne_bytes()))
    };
    routes.lines().filter_map(gateway).filter(is_somebodys).collect()
}

/// The gateways of the default routes in `/proc/net/ipv6_route`.
fn gateways_v6(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // destination and its prefix length, source and its prefix length, gateway, metric, references, use, flags, interface
        let (length, gateway) = (words.get(1)?, u128::from_str_radix(words.get(4)?, 16).ok()?);
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        let is_default = *length == "00" && flags & GATEWAY != 0;
        is_default.then(|| IpAddr::from(gateway.to_be_bytes()))
    };
    routes.lines().filter_map(gateway).filter(is_somebodys).collect()
}

fn is_somebodys(gateway: &IpAddr) -> bool {
    match gateway {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn default_gateways_over_ipv4_but_for_link_local_ones() {
        let routes = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010AF40A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000AF40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t0000600A\t020AF40A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
eth1\t00000000\t0101FEA9\t0003\t0\t0\t8\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t9\t00000000\t0\t0\t0
";
        assert_eq!(gateways_v4(routes), ["10.244.10.1".parse::<IpAddr>().expect("a literal")]);
    }

    #[test]
    fn default_gateways_over_ipv6_but_for_link_local_ones() {
        let none = "0".repeat(32);
        let line = |length: &str, gateway: &str, flags: &str| {
            format!("{none} {length} {none} 00 {gateway} 00000400 00000001 00000000 {flags}     eth0\n")
        };
        let routes = [
            line("00", "fd000010024400000000000000000001", "00000003"),
            line("00", "fe800000000000000000000000000001", "00000003"),
            line("40", "fd000010024400000000000000000002", "00000003"),
            // what the kernel has where there is no route
            line("00", &none, "00200200"),
        ];
        let expected = ["fd00:10:244::1".parse::<IpAddr>().expect("a literal")];
        assert_eq!(gateways_v6(&routes.concat()), expected);
    }

    #[test]
    fn what_is_no_table_of_routes_has_no_gateways() {
        for text in ["", "\n", "a b c d e f g h i j\n", "eth0 00000000 010AF40A\n"] {
            assert!(gateways_v4(text).is_empty() && gateways_v6(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn sources_that_are_given_are_not_guessed_at() {
        let named =
            Config { probe_ports: vec!["9000".into()], probe_sources: vec!["10.0.0.1".into()], ..Config::default() };
        for config in [named, Config::default()] {
            let mut filled = config.clone();
            fill(&mut filled, &["192.0.2.1".to_owned()]);
            assert_eq!(filled, config);
        }
    }
}
