//! Rules of one node for one address family, as input of `iptables-restore --noflush`: data from data.
//!
//! Chain names are kube-proxy's, so that a dump reads like one of a real node. Unlike kube-proxy's there is no chain per
//! endpoint and no mark: what must be masqueraded is recognised by its connection's original destination.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::net::services::{EndpointView, PortView, Protocol, ServiceView};

const SERVICES: &str = "KUBE-SERVICES";
const NODE_PORTS: &str = "KUBE-NODEPORTS";
const POSTROUTING: &str = "KUBE-POSTROUTING";

/// What the rules of a node are about, besides the Services.
pub(super) struct NodeView<'a> {
    pub(super) name: &'a str,
    pub(super) addresses: &'a [IpAddr],
    pub(super) v4: bool,
}

/// The rules of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rules {
    /// Chains of table `nat` that belong to one port of a Service, with their rules.
    chains: BTreeMap<String, Vec<String>>,
    services: Vec<String>,
    node_ports: Vec<String>,
    postrouting: Vec<String>,
    rejects: Vec<String>,
}

impl Rules {
    /// What the Services demand of a node.
    pub(super) fn of(services: &BTreeMap<(String, String), ServiceView>, node: &NodeView<'_>) -> Self {
        let mut rules = Self::default();
        let mut pods = BTreeSet::new();
        for ((namespace, name), service) in services {
            for port in &service.ports {
                let label = format!("{namespace}/{name}:{} {}", port.name, port.protocol.name());
                let targets = targets(service, port, node.v4);
                pods.extend(targets.iter().map(|(endpoint, _)| endpoint.address));
                for ip in service.cluster_ips.iter().filter(|ip| ip.is_ipv4() == node.v4) {
                    let to = format!("-d {ip} -p {0} -m {0} --dport {1}", port.protocol.name(), port.port);
                    let chosen = local(&targets, service.internal_local, node.name);
                    rules.dispatch(&to, &chain("SVC", &label), port.protocol, &chosen, (Kind::Cluster, node));
                }
                if let Some(number) = port.node_port {
                    let to = format!("-p {0} -m {0} --dport {number}", port.protocol.name());
                    let chosen = local(&targets, service.external_local, node.name);
                    rules.dispatch(&to, &chain("EXT", &label), port.protocol, &chosen, (Kind::Node, node));
                    if !service.external_local && !chosen.is_empty() {
                        // The endpoint may be on another node, and must answer through this one.
                        for address in node.addresses.iter().filter(|address| address.is_ipv4() == node.v4) {
                            rules.postrouting.push(format!(
                                "-p {} -m conntrack --ctstate DNAT --ctorigdst {address} --ctorigdstport {number} -j MASQUERADE",
                                port.protocol.name()
                            ));
                        }
                    }
                }
            }
        }
        // A Pod that reaches itself through a Service must not see itself as the client: it would answer past the node.
        for pod in pods {
            rules.postrouting.push(format!("-s {pod} -d {pod} -m conntrack --ctstate DNAT -j MASQUERADE"));
        }
        rules
    }

    fn dispatch(
        &mut self,
        to: &str,
        chain: &str,
        protocol: Protocol,
        targets: &[(&EndpointView, u16)],
        (kind, node): (Kind, &NodeView<'_>),
    ) {
        if targets.is_empty() {
            // As kube-proxy does. For TCP over IPv6 a reset instead: an ICMPv6 error that comes while the client is still
            // in `connect`, as it does between namespaces, is forgotten until the SYN is repeated after a second.
            let how = if !node.v4 && protocol == Protocol::Tcp { " --reject-with tcp-reset" } else { "" };
            match kind {
                Kind::Cluster => self.rejects.push(format!("{to} -j REJECT{how}")),
                Kind::Node => {
                    let own = node.addresses.iter().filter(|address| address.is_ipv4() == node.v4);
                    self.rejects.extend(own.map(|address| format!("-d {address} {to} -j REJECT{how}")));
                }
            }
            return;
        }
        let jumps = match kind {
            Kind::Cluster => &mut self.services,
            Kind::Node => &mut self.node_ports,
        };
        jumps.push(format!("{to} -j {chain}"));
        let rules = self.chains.entry(chain.to_owned()).or_default();
        if rules.is_empty() {
            for (number, (endpoint, port)) in targets.iter().enumerate() {
                let mut rule = format!("-p {}", protocol.name());
                let left = targets.len() - number;
                if left > 1 {
                    let _ = write!(rule, " -m statistic --mode random --probability {:.10}", 1.0 / left as f64);
                }
                let _ =
                    write!(rule, " -j DNAT --to-destination {}", std::net::SocketAddr::new(endpoint.address, *port));
                rules.push(rule);
            }
        }
    }

    /// One transaction that replaces what `before` installed; `None` when nothing of ours is there yet.
    pub(super) fn script(&self, before: Option<&Self>) -> String {
        let mut script = String::from("*nat\n");
        let gone: Vec<_> = before
            .into_iter()
            .flat_map(|rules| rules.chains.keys())
            .filter(|name| !self.chains.contains_key(*name))
            .collect();
        let declared = [SERVICES, NODE_PORTS, POSTROUTING].into_iter().map(str::to_owned);
        for name in declared.chain(self.chains.keys().cloned()).chain(gone.iter().map(|name| (*name).clone())) {
            let _ = writeln!(script, ":{name} - [0:0]");
        }
        if before.is_none() {
            for hook in ["PREROUTING", "OUTPUT"] {
                let _ = writeln!(script, "-A {hook} -j {SERVICES}");
            }
            let _ = writeln!(script, "-A POSTROUTING -j {POSTROUTING}");
        }
        append(&mut script, SERVICES, &self.services);
        let _ = writeln!(script, "-A {SERVICES} -m addrtype --dst-type LOCAL -j {NODE_PORTS}");
        append(&mut script, NODE_PORTS, &self.node_ports);
        append(&mut script, POSTROUTING, &self.postrouting);
        for (name, rules) in &self.chains {
            append(&mut script, name, rules);
        }
        for name in gone {
            let _ = writeln!(script, "-X {name}");
        }
        let _ = write!(script, "COMMIT\n*filter\n:{SERVICES} - [0:0]\n");
        if before.is_none() {
            for hook in ["INPUT", "FORWARD", "OUTPUT"] {
                let _ = writeln!(script, "-A {hook} -m conntrack --ctstate NEW -j {SERVICES}");
            }
        }
        append(&mut script, SERVICES, &self.rejects);
        script.push_str("COMMIT\n");
        script
    }
}

/// Whose address traffic was sent to.
#[derive(Clone, Copy)]
enum Kind {
    Cluster,
    Node,
}

fn append(script: &mut String, chain: &str, rules: &[String]) {
    for rule in rules {
        let _ = writeln!(script, "-A {chain} {rule}");
    }
}

/// The endpoints of a port that get traffic: the ready ones, or when there is none, those that end but still serve.
fn targets<'a>(service: &'a ServiceView, port: &PortView, v4: bool) -> Vec<(&'a EndpointView, u16)> {
    let having = |wanted: fn(&EndpointView) -> bool| -> Vec<_> {
        service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.address.is_ipv4() == v4 && wanted(endpoint))
            .filter_map(|endpoint| {
                let (.., number) = endpoint
                    .ports
                    .iter()
                    .find(|(name, protocol, _)| *name == port.name && *protocol == port.protocol)?;
                Some((endpoint, *number))
            })
            .collect()
    };
    let ready = having(|endpoint| endpoint.ready);
    if ready.is_empty() { having(|endpoint| endpoint.serving && endpoint.terminating) } else { ready }
}

fn local<'a>(targets: &[(&'a EndpointView, u16)], only: bool, node: &str) -> Vec<(&'a EndpointView, u16)> {
    targets.iter().copied().filter(|(endpoint, _)| !only || endpoint.node.as_deref() == Some(node)).collect()
}

/// Chain names have at most 28 characters, so that a Service's is a hash, as kube-proxy's are.
fn chain(kind: &str, label: &str) -> String {
    let digest = Sha256::digest(label.as_bytes());
    let mut name = format!("KUBE-{kind}-");
    for byte in &digest[..8] {
        let _ = write!(name, "{byte:02X}");
    }
    name
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> EndpointView {
        EndpointView {
            address: address.parse().expect("an address"),
            hostname: None,
            node: Some(if address.starts_with("10.244.0") { "node-0" } else { "node-1" }.to_owned()),
            ready,
            serving,
            terminating,
            ports: vec![("http".to_owned(), Protocol::Tcp, 8080)],
        }
    }

    fn ready(address: &str) -> EndpointView {
        endpoint(address, true, true, false)
    }

    fn service(endpoints: Vec<EndpointView>) -> ServiceView {
        ServiceView {
            cluster_ips: vec!["10.96.0.20".parse().expect("an address")],
            ports: vec![PortView { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: None }],
            endpoints,
            ..ServiceView::default()
        }
    }

    fn script(service: ServiceView) -> String {
        let addresses = ["172.18.0.2".parse().expect("an address")];
        let node = NodeView { name: "node-0", addresses: &addresses, v4: true };
        Rules::of(&BTreeMap::from([(("a".to_owned(), "web".to_owned()), service)]), &node).script(None)
    }

    #[rstest]
    #[case::one(vec![ready("10.244.0.2")], &["-p tcp -j DNAT --to-destination 10.244.0.2:8080"])]
    #[case::two(
        vec![ready("10.244.0.2"), ready("10.244.1.2")],
        &["--probability 0.5000000000 -j DNAT --to-destination 10.244.0.2:8080", "tcp -j DNAT --to-destination 10.244.1.2:8080"]
    )]
    #[case::an_unready_one_gets_nothing(
        vec![ready("10.244.0.2"), endpoint("10.244.1.2", false, false, false)],
        &["-p tcp -j DNAT --to-destination 10.244.0.2:8080"]
    )]
    #[case::only_ending_ones(
        vec![endpoint("10.244.0.2", false, true, true), endpoint("10.244.1.2", false, false, true)],
        &["-p tcp -j DNAT --to-destination 10.244.0.2:8080"]
    )]
    #[case::none(vec![], &["-d 10.96.0.20 -p tcp -m tcp --dport 80 -j REJECT"])]
    fn endpoints_that_get_traffic(#[case] endpoints: Vec<EndpointView>, #[case] expected: &[&str]) {
        let script = script(service(endpoints));
        for rule in expected {
            assert!(script.contains(rule), "{script}");
        }
        let decisions = script.lines().filter(|line| line.contains("DNAT --to") || line.contains("REJECT")).count();
        assert_eq!(decisions, expected.len(), "{script}");
    }

    #[test]
    fn traffic_to_a_node_port_comes_back_through_the_node_unless_it_stays_on_it() {
        let mut view = service(vec![ready("10.244.0.2"), ready("10.244.1.2")]);
        view.ports[0].node_port = Some(30080);
        let cluster = script(view.clone());
        assert!(cluster.contains("--ctorigdst 172.18.0.2 --ctorigdstport 30080 -j MASQUERADE"), "{cluster}");
        view.external_local = true;
        let local = script(view);
        assert!(!local.contains("--ctorigdst"), "{local}");
        let chain = chain("EXT", "a/web:http tcp");
        let rules: Vec<_> = local.lines().filter(|line| line.starts_with(&format!("-A {chain}"))).collect();
        assert_eq!(rules, [format!("-A {chain} -p tcp -j DNAT --to-destination 10.244.0.2:8080")]);
    }

    #[test]
    fn a_chain_that_is_no_longer_needed_goes_in_the_same_transaction() {
        let addresses = [];
        let node = NodeView { name: "node-0", addresses: &addresses, v4: true };
        let key = ("a".to_owned(), "web".to_owned());
        let before = Rules::of(&BTreeMap::from([(key, service(vec![ready("10.244.0.2")]))]), &node);
        let after = Rules::of(&BTreeMap::new(), &node);
        let chain = chain("SVC", "a/web:http tcp");
        let script = after.script(Some(&before));
        assert!(script.contains(&format!(":{chain} - [0:0]")) && script.contains(&format!("-X {chain}")), "{script}");
        assert!(!script.contains("-A PREROUTING"), "jumps are there already: {script}");
    }
}
