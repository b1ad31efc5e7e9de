//! Reads the labels of a name in the domain: what is asked for, and where.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use crate::config::Home;
use crate::names::DEFAULT;
use crate::place::Place;
use crate::tenancy::Tenancy;

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The virtual address of a service, of ours, of another partition or of a peer, or that of one of its ports.
    Virtual {
        service: String,
        /// What stands before the service: a port, if it has one of that name.
        port: Option<String>,
        place: Place,
    },
    /// The virtual address of a service that fails over within a sameness group.
    InGroup {
        service: String,
        group: String,
    },
    /// Instances of a service that bear a tag, or their proxies; here, or in the datacenter or partition that is named.
    Instances {
        service: String,
        tag: Option<String>,
        proxies: bool,
        place: Place,
    },
    /// Instances of a service in the first member of a sameness group that has any.
    InstancesInGroup {
        service: String,
        group: String,
    },
    Node(String),
    /// What the prepared query of this name finds.
    Query(String),
    Address(IpAddr),
}

/// Labels that say what the labels before them name.
const KINDS: [&str; 7] = ["service", "connect", "virtual", "ingress", "node", "query", "addr"];

/// Labels that say what the label before them is.
const LABELS: [&str; 6] = ["dc", "peer", "port", "sg", "ns", "ap"];

/// Reads the labels left of the domain, in small letters. Nothing is what no name that is known here looks like: malformed,
/// of a node of another datacenter, of instances of a peer, or of a kind of which there are none (ingress gateways).
pub(super) fn read(labels: &[String], kind: RecordType, home: &Home) -> Option<Asked> {
    // RFC 2782 names need no kind label, but only service records have such names
    let implied = |label: &str| kind == RecordType::SRV && label.starts_with('_');
    let at = labels.iter().rposition(|label| KINDS.contains(&label.as_str()) || implied(label))?;
    let (what, parts) = match labels[at].as_str() {
        label if implied(label) => ("service", &labels[..=at]),
        label => (label, &labels[..at]),
    };
    let suffix = Suffix::read(&labels[at + 1..], &home.tenancy)?;
    match what {
        "virtual" => {
            let (service, before) = parts.split_last()?;
            if let Some(group) = suffix.group {
                let is_ours = suffix.is_of_our_group(&home.tenancy);
                return is_ours.then(|| Asked::InGroup { service: service.clone(), group: group.to_owned() });
            }
            let place = suffix.of_virtual(&home.tenancy)?;
            Some(Asked::Virtual { service: service.clone(), port: before.last().cloned(), place })
        }
        "addr" => address(parts).map(Asked::Address),
        // groups are the Enterprise edition's
        "service" if suffix.group.is_some() && home.tenancy.is_on() => {
            let group = suffix.group.filter(|_| suffix.is_of_our_group(&home.tenancy))?.to_owned();
            match service(parts, Place::Here)? {
                Asked::Instances { service, tag: None, .. } => Some(Asked::InstancesInGroup { service, group }),
                _ => None,
            }
        }
        "service" => service(parts, suffix.of_instances(home)?),
        // tags play no part
        "connect" => {
            let place = suffix.of_instances(home)?;
            Some(Asked::Instances { service: parts.last()?.clone(), tag: None, proxies: true, place })
        }
        _ if suffix.of_instances(home)? != Place::Here => None,
        "node" if !parts.is_empty() => Some(Asked::Node(parts.join("."))),
        "query" if !parts.is_empty() => Some(Asked::Query(parts.join("."))),
        _ => None,
    }
}

/// `_service._tag`, where `tcp` is no tag, or `tag.service`, where the tag may have dots.
fn service(parts: &[String], place: Place) -> Option<Asked> {
    if let [service, tag] = parts
        && let (Some(service), Some(tag)) = (service.strip_prefix('_'), tag.strip_prefix('_'))
    {
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Some(Asked::Instances { service: service.to_owned(), tag, proxies: false, place });
    }
    let (service, tag) = parts.split_last()?;
    let tag = (!tag.is_empty()).then(|| tag.join("."));
    Some(Asked::Instances { service: service.clone(), tag, proxies: false, place })
}

/// An address in hexadecimal digits.
fn address(parts: &[String]) -> Option<IpAddr> {
    let [digits] = parts else { return None };
    // a sign would be read as part of the number
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => u32::from_str_radix(digits, 16).ok().map(|n| IpAddr::from(n.to_be_bytes())),
        32 => u128::from_str_radix(digits, 16).ok().map(|n| IpAddr::from(n.to_be_bytes())),
        _ => None,
    }
}

/// The labels after the kind.
#[derive(Debug, Default)]
struct Suffix<'a> {
    /// One label alone: a peer after `virtual`, elsewhere a datacenter.
    bare: Option<&'a str>,
    datacenter: Option<&'a str>,
    peer: Option<&'a str>,
    port: Option<&'a str>,
    group: Option<&'a str>,
    namespace: Option<&'a str>,
    partition: Option<&'a str>,
}

impl<'a> Suffix<'a> {
    /// One label, or pairs of a value and what it is. Namespaces and partitions are the Enterprise edition's, as is the older form of a
    /// peer's name, in which the namespace is before the peer.
    fn read(labels: &'a [String], tenancy: &Tenancy) -> Option<Self> {
        let mut suffix = Self::default();
        if let [bare] = labels {
            suffix.bare = Some(bare);
            return Some(suffix);
        }
        if let [namespace, bare] = labels
            && tenancy.is_on()
            && !LABELS.contains(&bare.as_str())
        {
            (suffix.namespace, suffix.bare) = (Some(namespace.as_str()), Some(bare.as_str()));
            return Some(suffix);
        }
        if !labels.len().is_multiple_of(2) {
            return None;
        }
        for pair in labels.chunks_exact(2) {
            let field = match pair[1].as_str() {
                "dc" => &mut suffix.datacenter,
                "peer" => &mut suffix.peer,
                "port" => &mut suffix.port,
                "sg" => &mut suffix.group,
                "ns" if tenancy.is_on() => &mut suffix.namespace,
                "ap" if tenancy.is_on() => &mut suffix.partition,
                _ => return None,
            };
            if field.replace(&pair[0]).is_some() {
                return None;
            }
        }
        (suffix.datacenter.is_none() || suffix.peer.is_none()).then_some(suffix)
    }

    /// Whether a group is named, and nothing that would make it another partition's.
    fn is_of_our_group(&self, tenancy: &Tenancy) -> bool {
        let is_alone = self.datacenter.is_none() && self.port.is_none() && self.peer.is_none();
        is_alone && self.is_known_namespace() && tenancy.foreign(self.partition).is_none()
    }

    /// Whether services of the namespace are known here: there is one.
    fn is_known_namespace(&self) -> bool {
        self.namespace.is_none_or(|namespace| namespace == DEFAULT)
    }

    /// Virtual addresses are those of this datacenter: one cannot ask for another one's, nor for a port.
    fn of_virtual(&self, tenancy: &Tenancy) -> Option<Place> {
        let fits = self.datacenter.is_none() && self.port.is_none();
        fits.then(|| match (self.peer.or(self.bare), self.is_known_namespace(), self.partition) {
            (Some(peer), true, _) => Place::Peer(peer.into()),
            (None, true, Some(partition)) => tenancy.place(partition),
            (None, true, None) => Place::Here,
            // nothing is known of what is in another namespace, as nothing is of what is in a partition that is not there
            (_, false, _) => Place::Partition(String::new().into()),
        })
    }

    /// Where instances are. Peers do not tell of theirs, and ports have no names.
    fn of_instances(&self, home: &Home) -> Option<Place> {
        let fits = self.peer.is_none() && self.group.is_none() && self.port.is_none() && self.is_known_namespace();
        let datacenter = self.datacenter.or(self.bare).filter(|said| *said != home.datacenter);
        match (datacenter, home.tenancy.foreign(self.partition)) {
            _ if !fits => None,
            (Some(datacenter), None) => Some(Place::Datacenter(datacenter.into())),
            (None, Some(partition)) => Some(Place::Partition(partition.into())),
            (None, None) => Some(Place::Here),
            // no federation has partitions
            (Some(_), Some(_)) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("web.virtual", "Virtual web")]
    #[case("ignored.web.virtual", "Virtual web")]
    #[case("web.virtual.other", "Virtual web of other")]
    #[case("web.virtual.other.peer", "Virtual web of other")]
    #[case("web.virtual.group.sg", "Virtual web in group")]
    #[case("web.virtual.group.sg.dc1.dc", "nothing")]
    #[case("web.service.group.sg", "nothing")]
    #[case("web.virtual.dc1.dc", "nothing")]
    #[case("web.virtual.other.peer.dc1.dc", "nothing")]
    #[case("web.service", "Instances web")]
    #[case("v1.web.service", "Instances web tagged v1")]
    #[case("v1.0.web.service.dc1", "Instances web tagged v1.0")]
    #[case("virtual.service", "Instances virtual")]
    #[case("service.virtual", "Virtual service")]
    #[case("_web._tcp.service", "Instances web")]
    #[case("_web._v1.service.dc1.dc", "Instances web tagged v1")]
    #[case("_web._v1", "nothing")]
    #[case("web.service.dc2", "Instances web in dc2")]
    #[case("web.connect.dc2.dc", "Proxies web in dc2")]
    #[case("node-0.node.dc2", "nothing")]
    #[case("web.service.dc1.dc.dc1.dc", "nothing")]
    #[case("web.service.other.peer", "nothing")]
    #[case("web.service.http.port", "nothing")]
    #[case("web.service.default.ns", "nothing")]
    #[case("web.service.a.b.dc", "nothing")]
    #[case("web.connect.dc1", "Proxies web")]
    #[case("a.b.node.dc1", "Node a.b")]
    #[case("0AF40001.addr.dc1", "Address 10.244.0.1")]
    #[case("fd000000000000000000000000000001.addr", "Address fd00::1")]
    #[case("0af4000.addr", "nothing")]
    #[case("+af40001.addr", "nothing")]
    #[case("a.0af40001.addr", "nothing")]
    #[case("web.ingress", "nothing")]
    #[case("geo.query", "Query geo")]
    #[case("geo.a.query.dc1", "Query geo.a")]
    #[case("geo.query.dc2", "nothing")]
    #[case("query", "nothing")]
    #[case("service", "nothing")]
    #[case("virtual", "nothing")]
    #[case("node", "nothing")]
    #[case("web", "nothing")]
    fn names(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(shown(name, RecordType::A, &Home::new("dc1")), expected);
    }

    #[rstest]
    #[case("web.virtual", "Virtual web")]
    #[case("web.virtual.default.ns", "Virtual web")]
    #[case("web.virtual.default.ns.ap1.ap", "Virtual web of partition ap1")]
    #[case("web.virtual.ap1.ap", "Virtual web of partition ap1")]
    #[case("web.virtual.default.ns.default.ap", "Virtual web")]
    #[case("web.virtual.default.other", "Virtual web of other")]
    #[case("web.virtual.default.ns.other.peer", "Virtual web of other")]
    #[case("web.virtual.shop.ns", "Virtual web of partition ")]
    #[case("web.virtual.default.ns.ap1.ap.dc1.dc", "nothing")]
    #[case("web.virtual.default.ns.group.sg.default.ap", "Virtual web in group")]
    #[case("web.virtual.group.sg.ap1.ap", "nothing")]
    #[case("web.service.default.ns.ap1.ap", "Instances web in partition ap1")]
    #[case("v1.web.service.default.ns.ap1.ap.dc1.dc", "Instances web tagged v1 in partition ap1")]
    #[case("web.connect.ap1.ap", "Proxies web in partition ap1")]
    #[case("web.service.shop.ns", "nothing")]
    #[case("web.service.default.ns.group.sg.default.ap", "Instances web in group")]
    #[case("web.service.default.ns.group.sg.ap1.ap", "nothing")]
    #[case("_web._tcp.service.group.sg", "Instances web in group")]
    #[case("v1.web.service.group.sg", "nothing")]
    #[case("node-0.node.ap1.ap", "nothing")]
    fn names_with_partitions(#[case] name: &str, #[case] expected: &str) {
        let tenancy = Tenancy::new(DEFAULT, &[DEFAULT.into(), "ap1".into()]);
        assert_eq!(shown(name, RecordType::A, &Home { tenancy, ..Home::new("dc1") }), expected);
    }

    #[rstest]
    #[case("_web._tcp", "Instances web")]
    #[case("_web._v1.dc1", "Instances web tagged v1")]
    #[case("_web._v1.dc2", "Instances web tagged v1 in dc2")]
    fn service_records_need_no_kind(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(shown(name, RecordType::SRV, &Home::new("dc1")), expected);
    }

    fn shown(name: &str, kind: RecordType, home: &Home) -> String {
        let labels: Vec<String> = name.split('.').map(str::to_lowercase).collect();
        match read(&labels, kind, home) {
            None => "nothing".to_owned(),
            Some(Asked::Virtual { service, place, .. }) => format!(
                "Virtual {service}{}",
                match place {
                    Place::Peer(peer) => format!(" of {peer}"),
                    Place::Partition(partition) => format!(" of partition {partition}"),
                    _ => String::new(),
                }
            ),
            Some(Asked::Instances { service, tag, proxies, place }) => format!(
                "{} {service}{}{}",
                if proxies { "Proxies" } else { "Instances" },
                tag.map(|t| format!(" tagged {t}")).unwrap_or_default(),
                match place {
                    Place::Datacenter(datacenter) => format!(" in {datacenter}"),
                    Place::Partition(partition) => format!(" in partition {partition}"),
                    _ => String::new(),
                }
            ),
            Some(Asked::InGroup { service, group }) => format!("Virtual {service} in {group}"),
            Some(Asked::InstancesInGroup { service, group }) => format!("Instances {service} in {group}"),
            Some(Asked::Node(node)) => format!("Node {node}"),
            Some(Asked::Query(query)) => format!("Query {query}"),
            Some(Asked::Address(address)) => format!("Address {address}"),
        }
    }
}
