//! Reads the labels of a name in the domain: what is asked for, and where.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

/// What a name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The virtual address of a service, of ours or of a peer, or that of one of its ports.
    Virtual {
        service: String,
        /// What stands before the service: a port, if it has one of that name.
        port: Option<String>,
        peer: Option<String>,
    },
    /// The virtual address of a service that fails over within a sameness group.
    InGroup {
        service: String,
        group: String,
    },
    /// Instances of a service that bear a tag, or their proxies; here, or in the datacenter that is named.
    Instances {
        service: String,
        tag: Option<String>,
        proxies: bool,
        datacenter: Option<String>,
    },
    Node(String),
    /// What the prepared query of this name finds.
    Query(String),
    Address(IpAddr),
}

/// Labels that say what the labels before them name.
const KINDS: [&str; 7] = ["service", "connect", "virtual", "ingress", "node", "query", "addr"];

/// Reads the labels left of the domain, in small letters. Nothing is what no name that is known here looks like: malformed,
/// of a node of another datacenter, of instances of a peer, or of a kind of which there are none (ingress gateways).
pub(super) fn read(labels: &[String], kind: RecordType, datacenter: &str) -> Option<Asked> {
    // RFC 2782 names need no kind label, but only service records have such names
    let implied = |label: &str| kind == RecordType::SRV && label.starts_with('_');
    let at = labels.iter().rposition(|label| KINDS.contains(&label.as_str()) || implied(label))?;
    let (what, parts) = match labels[at].as_str() {
        label if implied(label) => ("service", &labels[..=at]),
        label => (label, &labels[..at]),
    };
    let place = Place::read(&labels[at + 1..])?;
    match what {
        "virtual" => {
            let (service, before) = parts.split_last()?;
            if let Some(group) = place.group {
                return place
                    .is_group_alone()
                    .then(|| Asked::InGroup { service: service.clone(), group: group.to_owned() });
            }
            Some(Asked::Virtual { service: service.clone(), port: before.last().cloned(), peer: place.of_virtual()? })
        }
        "addr" => address(parts).map(Asked::Address),
        "service" => service(parts, place.of_instances(datacenter)?),
        // tags play no part
        "connect" => {
            let datacenter = place.of_instances(datacenter)?;
            Some(Asked::Instances { service: parts.last()?.clone(), tag: None, proxies: true, datacenter })
        }
        _ if place.of_instances(datacenter)?.is_some() => None,
        "node" if !parts.is_empty() => Some(Asked::Node(parts.join("."))),
        "query" if !parts.is_empty() => Some(Asked::Query(parts.join("."))),
        _ => None,
    }
}

/// `_service._tag`, where `tcp` is no tag, or `tag.service`, where the tag may have dots.
fn service(parts: &[String], datacenter: Option<String>) -> Option<Asked> {
    if let [service, tag] = parts
        && let (Some(service), Some(tag)) = (service.strip_prefix('_'), tag.strip_prefix('_'))
    {
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Some(Asked::Instances { service: service.to_owned(), tag, proxies: false, datacenter });
    }
    let (service, tag) = parts.split_last()?;
    let tag = (!tag.is_empty()).then(|| tag.join("."));
    Some(Asked::Instances { service: service.clone(), tag, proxies: false, datacenter })
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
struct Place<'a> {
    /// One label alone: a peer after `virtual`, elsewhere a datacenter.
    bare: Option<&'a str>,
    datacenter: Option<&'a str>,
    peer: Option<&'a str>,
    port: Option<&'a str>,
    group: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// One label, or pairs of a value and what it is. Namespaces and partitions are the Enterprise edition's.
    fn read(labels: &'a [String]) -> Option<Self> {
        let mut place = Self::default();
        if let [bare] = labels {
            place.bare = Some(bare);
            return Some(place);
        }
        if !labels.len().is_multiple_of(2) {
            return None;
        }
        for pair in labels.chunks_exact(2) {
            let field = match pair[1].as_str() {
                "dc" => &mut place.datacenter,
                "peer" => &mut place.peer,
                "port" => &mut place.port,
                "sg" => &mut place.group,
                _ => return None,
            };
            if field.replace(&pair[0]).is_some() {
                return None;
            }
        }
        (place.datacenter.is_none() || place.peer.is_none()).then_some(place)
    }

    fn is_group_alone(&self) -> bool {
        self.datacenter.is_none() && self.port.is_none() && self.peer.is_none()
    }

    /// Virtual addresses are those of this datacenter: one cannot ask for another one's, nor for a port.
    fn of_virtual(&self) -> Option<Option<String>> {
        let fits = self.datacenter.is_none() && self.port.is_none();
        fits.then(|| self.peer.or(self.bare).map(str::to_owned))
    }

    /// The other datacenter that instances are in, if they are. Peers do not tell of theirs, and ports have no names.
    fn of_instances(&self, own: &str) -> Option<Option<String>> {
        let fits = self.peer.is_none() && self.group.is_none() && self.port.is_none();
        let other = self.datacenter.or(self.bare).filter(|said| *said != own);
        fits.then(|| other.map(str::to_owned))
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
        assert_eq!(shown(name, RecordType::A), expected);
    }

    #[rstest]
    #[case("_web._tcp", "Instances web")]
    #[case("_web._v1.dc1", "Instances web tagged v1")]
    #[case("_web._v1.dc2", "Instances web tagged v1 in dc2")]
    fn service_records_need_no_kind(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(shown(name, RecordType::SRV), expected);
    }

    fn shown(name: &str, kind: RecordType) -> String {
        let labels: Vec<String> = name.split('.').map(str::to_lowercase).collect();
        match read(&labels, kind, "dc1") {
            None => "nothing".to_owned(),
            Some(Asked::Virtual { service, peer, .. }) => {
                format!("Virtual {service}{}", peer.map(|p| format!(" of {p}")).unwrap_or_default())
            }
            Some(Asked::Instances { service, tag, proxies, datacenter }) => format!(
                "{} {service}{}{}",
                if proxies { "Proxies" } else { "Instances" },
                tag.map(|t| format!(" tagged {t}")).unwrap_or_default(),
                datacenter.map(|d| format!(" in {d}")).unwrap_or_default()
            ),
            Some(Asked::InGroup { service, group }) => format!("Virtual {service} in {group}"),
            Some(Asked::Node(node)) => format!("Node {node}"),
            Some(Asked::Query(query)) => format!("Query {query}"),
            Some(Asked::Address(address)) => format!("Address {address}"),
        }
    }
}
