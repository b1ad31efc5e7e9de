//! What the cluster's DNS answers, by the Kubernetes DNS specification and, where that leaves it open, as CoreDNS does.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::net::services::{EndpointView, Protocol, ServiceView};

/// Seconds for which answers may be kept: CoreDNS's default.
const TTL: u32 = 5;

/// The zone that the cluster answers for.
const ZONE: [&str; 2] = ["cluster", "local"];

/// What to say to a question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// These records.
    Records(Vec<Record>),
    /// The name exists, without records of this type.
    NoData,
    /// There is no such name.
    NoName,
    /// What this server says, to which the name's domain was given.
    Forward(SocketAddr),
}

/// Everything that names can be resolved to.
pub(super) struct Zone<'a> {
    pub(super) services: &'a BTreeMap<(String, String), ServiceView>,
    /// Names outside the cluster.
    pub(super) hosts: &'a BTreeMap<String, Vec<IpAddr>>,
    /// Domains that other servers answer for.
    pub(super) stubs: &'a BTreeMap<String, SocketAddr>,
}

impl Zone<'_> {
    /// Answers a question.
    pub(super) fn reply(&self, name: &Name, kind: RecordType) -> Reply {
        let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let domains = (0..labels.len()).map(|first| labels[first..].join("."));
        if let Some(server) = domains.into_iter().find_map(|domain| self.stubs.get(&domain)) {
            return Reply::Forward(*server);
        }
        match labels.as_slice() {
            [.., "arpa"] => self.reverse(name, kind),
            [rest @ .., "cluster", "local"] => self.in_cluster(name, rest, kind),
            _ => match self.hosts.get(&labels.join(".")) {
                Some(addresses) => addressed(name, addresses, kind),
                None => Reply::NoName,
            },
        }
    }

    fn in_cluster(&self, name: &Name, labels: &[&str], kind: RecordType) -> Reply {
        match labels {
            [] | ["svc" | "pod"] => Reply::NoData,
            [namespace, "svc"] => {
                let known = self.services.keys().any(|(of, _)| of == namespace);
                if known { Reply::NoData } else { Reply::NoName }
            }
            [ip, _, "pod"] => match dashed(ip) {
                Some(address) => addressed(name, &[address], kind),
                None => Reply::NoName,
            },
            [port, protocol, service, namespace, "svc"] if port.starts_with('_') && protocol.starts_with('_') => {
                self.find(namespace, service).map_or(Reply::NoName, |view| ports(name, view, port, protocol, kind))
            }
            [host, service, namespace, "svc"] => {
                let Some(view) = self.find(namespace, service) else { return Reply::NoName };
                let addresses: Vec<_> = visible(view)
                    .filter(|endpoint| host_label(endpoint) == *host)
                    .map(|endpoint| endpoint.address)
                    .collect();
                if addresses.is_empty() { Reply::NoName } else { addressed(name, &addresses, kind) }
            }
            [service, namespace, "svc"] => {
                self.find(namespace, service).map_or(Reply::NoName, |view| self.service(name, view, kind))
            }
            _ => Reply::NoName,
        }
    }

    fn find(&self, namespace: &str, service: &str) -> Option<&ServiceView> {
        self.services.get(&(namespace.to_owned(), service.to_owned()))
    }

    fn service(&self, name: &Name, view: &ServiceView, kind: RecordType) -> Reply {
        if let Some(target) = &view.external_name {
            return self.alias(name, target, kind);
        }
        if kind == RecordType::SRV {
            return every_port(name, view);
        }
        if !view.headless {
            return addressed(name, &view.cluster_ips, kind);
        }
        let addresses: Vec<_> = visible(view).map(|endpoint| endpoint.address).collect();
        if addresses.is_empty() { Reply::NoName } else { addressed(name, &addresses, kind) }
    }

    fn alias(&self, name: &Name, target: &str, kind: RecordType) -> Reply {
        let Ok(mut target) = Name::from_str(target) else { return Reply::NoName };
        target.set_fqdn(true);
        let alias = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
        let mut records = vec![alias];
        // A chain of aliases ends here: the second one is not followed.
        if kind != RecordType::CNAME
            && target != *name
            && let Reply::Records(more) = self.reply(&target, kind)
        {
            records.extend(more);
        }
        Reply::Records(records)
    }

    fn reverse(&self, name: &Name, kind: RecordType) -> Reply {
        let Ok(network) = name.parse_arpa_name() else { return Reply::NoName };
        let address = network.addr();
        if network.prefix_len() != network.max_prefix_len() {
            return Reply::NoName;
        }
        let owner = self.services.iter().find_map(|((namespace, service), view)| {
            if view.cluster_ips.contains(&address) {
                return full_name(&[service, namespace, "svc"]);
            }
            let endpoint = visible(view).find(|endpoint| endpoint.address == address && view.headless)?;
            full_name(&[&host_label(endpoint), service, namespace, "svc"])
        });
        match owner {
            Some(owner) if kind == RecordType::PTR => {
                Reply::Records(vec![Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(owner)))])
            }
            Some(_) => Reply::NoData,
            None => Reply::NoName,
        }
    }
}

/// What a negative answer says about the zone: how long it may be kept.
pub(super) fn authority() -> Option<Record> {
    let name = full_name(&[])?;
    let soa = SOA::new(full_name(&["ns", "dns"])?, full_name(&["hostmaster"])?, 1, 7200, 1800, 86400, TTL);
    Some(Record::from_rdata(name, TTL, RData::SOA(soa)))
}

/// The endpoints that a headless Service shows.
fn visible(view: &ServiceView) -> impl Iterator<Item = &EndpointView> {
    view.endpoints.iter().filter(|endpoint| endpoint.ready || view.publish_not_ready)
}

/// The first label of an endpoint's own name.
fn host_label(endpoint: &EndpointView) -> String {
    match (&endpoint.hostname, endpoint.address) {
        (Some(hostname), _) => hostname.clone(),
        (None, address) => address.to_string().replace(['.', ':'], "-"),
    }
}

/// Reads an address whose separators are dashes.
fn dashed(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().or_else(|_| label.replace('-', ":").parse()).ok()
}

fn addressed(name: &Name, addresses: &[IpAddr], kind: RecordType) -> Reply {
    let records: Vec<_> = addresses
        .iter()
        .filter_map(|address| match (kind, address) {
            (RecordType::A | RecordType::ANY, IpAddr::V4(v4)) => Some(RData::A(A(*v4))),
            (RecordType::AAAA | RecordType::ANY, IpAddr::V6(v6)) => Some(RData::AAAA(AAAA(*v6))),
            _ => None,
        })
        .map(|data| Record::from_rdata(name.clone(), TTL, data))
        .collect();
    if records.is_empty() { Reply::NoData } else { Reply::Records(records) }
}

fn ports(name: &Name, view: &ServiceView, port: &str, protocol: &str, kind: RecordType) -> Reply {
    let protocol = match protocol {
        "_tcp" => Protocol::Tcp,
        "_udp" => Protocol::Udp,
        _ => return Reply::NoName,
    };
    let records = located(name, view, |name, of| of == protocol && format!("_{name}") == port);
    match (records.is_empty(), kind) {
        (true, _) => Reply::NoName,
        (false, RecordType::SRV | RecordType::ANY) => Reply::Records(records),
        (false, _) => Reply::NoData,
    }
}

fn every_port(name: &Name, view: &ServiceView) -> Reply {
    let records = located(name, view, |_, _| true);
    if records.is_empty() { Reply::NoData } else { Reply::Records(records) }
}

/// SRV records of the ports that are wanted.
fn located(name: &Name, view: &ServiceView, wanted: impl Fn(&str, Protocol) -> bool) -> Vec<Record> {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    // The Service's own name is the part without a port and protocol.
    let service: Vec<&str> = labels.iter().map(String::as_str).skip_while(|label| label.starts_with('_')).collect();
    let service = &service[..service.len().saturating_sub(ZONE.len())];
    let found: Vec<(Option<Name>, u16)> = if view.headless {
        visible(view)
            .flat_map(|endpoint| {
                let host = host_label(endpoint);
                let mut target = vec![host.as_str()];
                target.extend_from_slice(service);
                let target = full_name(&target);
                let ports = endpoint.ports.iter().filter(|(name, protocol, _)| wanted(name, *protocol));
                ports.map(move |(.., port)| (target.clone(), *port)).collect::<Vec<_>>()
            })
            .collect()
    } else {
        let ports = view.ports.iter().filter(|port| wanted(&port.name, port.protocol));
        ports.map(|port| (full_name(service), port.port)).collect()
    };
    let weight = u16::try_from(100 / found.len().max(1)).unwrap_or(1).max(1);
    found
        .into_iter()
        .filter_map(|(target, port)| {
            Some(Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, port, target?))))
        })
        .collect()
}

/// A name in the cluster's zone.
fn full_name(labels: &[&str]) -> Option<Name> {
    let mut name = Name::from_labels(labels.iter().chain(&ZONE).map(|label| label.as_bytes())).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::net::services::PortView;

    fn endpoint(address: &str, hostname: Option<&str>, ready: bool) -> EndpointView {
        EndpointView {
            address: address.parse().expect("an address"),
            hostname: hostname.map(str::to_owned),
            node: None,
            ready,
            serving: ready,
            terminating: false,
            ports: vec![("sql".to_owned(), Protocol::Tcp, 5432)],
        }
    }

    fn services() -> BTreeMap<(String, String), ServiceView> {
        let port =
            |name: &str, port| PortView { name: name.to_owned(), protocol: Protocol::Tcp, port, node_port: None };
        let web = ServiceView {
            cluster_ips: vec!["10.96.0.20".parse().expect("v4"), "fd00:10:96::20".parse().expect("v6")],
            ports: vec![port("http", 80)],
            ..ServiceView::default()
        };
        let db = ServiceView {
            headless: true,
            ports: vec![port("sql", 5432)],
            endpoints: vec![
                endpoint("10.244.0.5", Some("db-0"), true),
                endpoint("10.244.1.5", None, true),
                endpoint("10.244.1.6", Some("db-2"), false),
            ],
            ..ServiceView::default()
        };
        let early = ServiceView { publish_not_ready: true, ..db.clone() };
        let alias = |to: &str| ServiceView { external_name: Some(to.to_owned()), ..ServiceView::default() };
        let named = |name: &str, view| (("a".to_owned(), name.to_owned()), view);
        BTreeMap::from([
            named("web", web),
            named("db", db),
            named("early", early),
            named("inside", alias("web.a.svc.cluster.local")),
            named("outside", alias("legacy.example.com")),
            named("empty", ServiceView { headless: true, ..ServiceView::default() }),
        ])
    }

    #[rstest]
    #[case::cluster_ip("web.a.svc.cluster.local.", RecordType::A, "A 10.96.0.20")]
    #[case::case_does_not_matter("WEB.A.svc.Cluster.Local.", RecordType::A, "A 10.96.0.20")]
    #[case::cluster_ip_v6("web.a.svc.cluster.local.", RecordType::AAAA, "AAAA fd00:10:96::20")]
    #[case::other_type("web.a.svc.cluster.local.", RecordType::TXT, "no data")]
    #[case::headless("db.a.svc.cluster.local.", RecordType::A, "A 10.244.0.5, A 10.244.1.5")]
    #[case::headless_v6("db.a.svc.cluster.local.", RecordType::AAAA, "no data")]
    #[case::publish_not_ready("early.a.svc.cluster.local.", RecordType::A, "A 10.244.0.5, A 10.244.1.5, A 10.244.1.6")]
    #[case::hostname("db-0.db.a.svc.cluster.local.", RecordType::A, "A 10.244.0.5")]
    #[case::by_address("10-244-1-5.db.a.svc.cluster.local.", RecordType::A, "A 10.244.1.5")]
    #[case::hostname_not_ready("db-2.db.a.svc.cluster.local.", RecordType::A, "no name")]
    #[case::nobody_ready("empty.a.svc.cluster.local.", RecordType::A, "no name")]
    #[case::srv("_http._tcp.web.a.svc.cluster.local.", RecordType::SRV, "SRV 0 100 80 web.a.svc.cluster.local.")]
    #[case::srv_wrong_protocol("_http._udp.web.a.svc.cluster.local.", RecordType::SRV, "no name")]
    #[case::srv_headless(
        "_sql._tcp.db.a.svc.cluster.local.",
        RecordType::SRV,
        "SRV 0 50 5432 db-0.db.a.svc.cluster.local., SRV 0 50 5432 10-244-1-5.db.a.svc.cluster.local."
    )]
    #[case::pod("10-244-0-5.a.pod.cluster.local.", RecordType::A, "A 10.244.0.5")]
    #[case::pod_v6("fd00-10--5.a.pod.cluster.local.", RecordType::AAAA, "AAAA fd00:10::5")]
    #[case::alias_inside("inside.a.svc.cluster.local.", RecordType::A, "CNAME web.a.svc.cluster.local., A 10.96.0.20")]
    #[case::alias_outside("outside.a.svc.cluster.local.", RecordType::A, "CNAME legacy.example.com., A 198.51.100.10")]
    #[case::no_service("nothing.a.svc.cluster.local.", RecordType::A, "no name")]
    #[case::no_namespace("web.b.svc.cluster.local.", RecordType::A, "no name")]
    #[case::namespace("a.svc.cluster.local.", RecordType::A, "no data")]
    #[case::other_namespace("b.svc.cluster.local.", RecordType::A, "no name")]
    #[case::search_list("web.a.svc.cluster.local.a.svc.cluster.local.", RecordType::A, "no name")]
    #[case::host("legacy.example.com.", RecordType::A, "A 198.51.100.10")]
    #[case::internet("example.com.", RecordType::A, "no name")]
    #[case::consul("web.service.consul.", RecordType::A, "ask 172.18.255.2:8600")]
    #[case::not_consul("web.notconsul.", RecordType::A, "no name")]
    #[case::reverse("20.0.96.10.in-addr.arpa.", RecordType::PTR, "PTR web.a.svc.cluster.local.")]
    #[case::reverse_pod("5.0.244.10.in-addr.arpa.", RecordType::PTR, "PTR db-0.db.a.svc.cluster.local.")]
    #[case::reverse_unknown("9.9.9.9.in-addr.arpa.", RecordType::PTR, "no name")]
    fn answers(#[case] name: &str, #[case] kind: RecordType, #[case] expected: &str) {
        let services = services();
        let legacy = vec!["198.51.100.10".parse().expect("an address")];
        let hosts = BTreeMap::from([("legacy.example.com".to_owned(), legacy)]);
        let stubs = BTreeMap::from([("consul".to_owned(), "172.18.255.2:8600".parse().expect("an address"))]);
        let zone = Zone { services: &services, hosts: &hosts, stubs: &stubs };
        let said = match zone.reply(&Name::from_str(name).expect("a name"), kind) {
            Reply::NoData => "no data".to_owned(),
            Reply::NoName => "no name".to_owned(),
            Reply::Forward(server) => format!("ask {server}"),
            Reply::Records(records) => {
                let records = records.iter().map(|record| format!("{} {}", record.record_type(), record.data));
                records.collect::<Vec<_>>().join(", ")
            }
        };
        assert_eq!(said, expected);
    }
}
