//! Finds the records for what a name asks for.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::name::{Asked, read};
use crate::abroad::Seen;
use crate::catalog::NODE_META;
use crate::peering;
use crate::place::Place;
use crate::query;
use crate::registration::{Health, Instance};
use crate::world::World;

/// The domain of all names.
pub(super) const DOMAIN: &str = "consul";
/// The domain of names that are made of addresses.
const REVERSE: &str = "arpa";
/// What the service of a proxy adds to the name of its service.
const PROXY_SUFFIX: &str = "-sidecar-proxy";
/// Seconds for which answers may be kept.
const TTL: u32 = 0;
/// Priority and weight of every instance: registration sets none of its own.
const PRIORITY: u16 = 1;
const WEIGHT: u16 = 1;

/// What is said about a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) code: ResponseCode,
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
}

impl Found {
    fn only(code: ResponseCode) -> Self {
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, authoritative: true, answers, authorities, additionals }
    }

    fn records(answers: Vec<Record>, additionals: Vec<Record>) -> Self {
        Self { answers, additionals, ..Self::only(ResponseCode::NoError) }
    }

    /// One record: the answer where its type was asked for, otherwise an addition to no answer.
    fn one(name: &Name, kind: RecordType, address: IpAddr) -> Self {
        match addressed(name, kind, address) {
            Some(answer) => Self::records(vec![answer], Vec::new()),
            None => Self::records(Vec::new(), addressed(name, RecordType::ANY, address).into_iter().collect()),
        }
    }
}

/// Whether anything here can answer for a name. For others somebody else must be asked, whatever is known.
pub(super) fn is_ours(name: &Name) -> bool {
    let is = |last: &[u8]| [DOMAIN, REVERSE].iter().any(|domain| last.eq_ignore_ascii_case(domain.as_bytes()));
    name.iter().next_back().is_some_and(is)
}

/// The records of `name`, in the order of the catalogue. `serial` is that of the domain.
pub(super) fn find(world: &World, name: &Name, kind: RecordType, serial: u32) -> Found {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    if labels.last().is_some_and(|label| label == REVERSE) {
        return reverse(world, name, kind);
    }
    let Some((_, labels)) = labels.split_last().filter(|(last, _)| *last == DOMAIN) else {
        // there are no recursors: somebody else must be asked
        return Found { authoritative: false, ..Found::only(ResponseCode::Refused) };
    };
    let mut found = match kind {
        RecordType::AXFR | RecordType::IXFR => return Found::only(ResponseCode::NotImp),
        RecordType::SOA => return Found::records(soa(serial).into_iter().collect(), Vec::new()),
        // the servers that would be named are no nodes of this catalogue
        RecordType::NS => Found::only(ResponseCode::NoError),
        _ => match read(labels, kind, &world.config.home) {
            Some(Asked::Virtual { service, port, place }) => {
                let of_port = port.and_then(|port| world.vips.get(&format!("{port}.{service}")));
                // Consul's answer about an unknown service or peer: empty, and not that there is no such name
                let known = match place {
                    Place::Here | Place::Datacenter(_) => of_port.or_else(|| world.vips.get(&service)),
                    // its address is the same in every partition
                    Place::Partition(partition) => world.share(&service, &partition).and_then(|e| e.virtual_ip),
                    Place::Peer(peer) => world.vips.get(&peering::id(&service, &peer)),
                };
                return known.map_or_else(
                    || Found::only(ResponseCode::NoError),
                    |address| Found::one(name, kind, address.into()),
                );
            }
            Some(Asked::InGroup { service, group }) => {
                // of a group that is not the default one, Consul says that there is no such name
                let is_default = world.config.groups.get(&group).is_some_and(|group| group.default_for_failover);
                return match world.vips.get(&service).filter(|_| is_default) {
                    Some(address) => Found::one(name, kind, address.into()),
                    None => {
                        Found { authorities: soa(serial).into_iter().collect(), ..Found::only(ResponseCode::NXDomain) }
                    }
                };
            }
            Some(Asked::Address(address)) => return Found::one(name, kind, address),
            Some(Asked::Instances { service, tag, proxies, place }) => {
                instances(world, (name, kind), (&service, proxies), tag.as_deref(), &place)
            }
            Some(Asked::InstancesInGroup { service, group }) => in_group(world, (name, kind), &service, &group),
            Some(Asked::Query(query)) => self::query(world, (name, kind), &query),
            Some(Asked::Node(node)) => self::node(world, name, kind, &node),
            None => Found::only(ResponseCode::NXDomain),
        },
    };
    if found.answers.is_empty() {
        found.authorities.extend(soa(serial));
    }
    found
}

/// As [`find`], for who may read no service: nothing is there, and what a virtual name leads to is refused.
pub(super) fn find_nothing(world: &World, name: &Name, kind: RecordType, serial: u32) -> Found {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    let of_consul = labels.split_last().filter(|(last, _)| *last == DOMAIN);
    let asked = of_consul.and_then(|(_, labels)| read(labels, kind, &world.config.home));
    match asked {
        Some(Asked::Virtual { .. }) => Found::only(ResponseCode::ServFail),
        _ => find(&world.hidden(), name, kind, serial),
    }
}

/// An instance as DNS sees it.
struct Listed<'a> {
    address: IpAddr,
    port: u16,
    proxy_port: u16,
    tags: &'a [String],
    passing: bool,
}

impl<'a> Listed<'a> {
    fn of(instance: &'a Instance) -> Self {
        let Instance { address, port, proxy_port, tags, health, .. } = instance;
        Self { address: *address, port: *port, proxy_port: *proxy_port, tags, passing: *health == Health::Passing }
    }

    fn abroad(Seen { address, port, tags, passing, .. }: &'a Seen) -> Self {
        Self { address: address.ip(), port: *port, proxy_port: address.port(), tags, passing: *passing }
    }
}

/// Instances in whatever state but a critical one. Proxies are instances of services of their own too.
fn instances(
    world: &World,
    (name, kind): (&Name, RecordType),
    (service, mut proxies): (&str, bool),
    tag: Option<&str>,
    place: &Place,
) -> Found {
    let of = |service: &str| match place {
        Place::Here => world.catalog.instances(service).iter().map(|instance| Listed::of(instance)).collect(),
        Place::Datacenter(datacenter) => {
            let abroad = world.abroad.get(datacenter).and_then(|abroad| abroad.services.get(service));
            abroad.into_iter().flatten().map(Listed::abroad).collect::<Vec<_>>()
        }
        Place::Partition(partition) => {
            let exported = world.share(service, partition);
            exported.into_iter().flat_map(|exported| &exported.instances).map(Listed::abroad).collect()
        }
        Place::Peer(_) => Vec::new(),
    };
    let mut all = of(service);
    if let Some(proxied) = service.strip_suffix(PROXY_SUFFIX).filter(|_| all.is_empty() && !proxies) {
        (all, proxies) = (of(proxied), true);
    }
    let tagged = |i: &Listed<'_>| tag.is_none_or(|tag| i.tags.iter().any(|own| own.eq_ignore_ascii_case(tag)));
    let chosen = all.into_iter().filter(|i| i.passing && tagged(i));
    let datacenter = match place {
        Place::Datacenter(datacenter) => datacenter,
        _ => world.names.datacenter(),
    };
    listed((name, kind), chosen, proxies, datacenter)
}

/// The instances of a service in the first member that has any. Peers do not tell of theirs, and a group that is not the default one has
/// no names.
fn in_group(world: &World, asked: (&Name, RecordType), service: &str, group: &str) -> Found {
    let group = world.config.groups.get(group).filter(|group| group.default_for_failover);
    let places = group.into_iter().flat_map(|group| world.config.members(group));
    // one that is there and has no address of the type that is asked for ends the search all the same
    let mut found = places.map(|place| instances(world, asked, (service, false), None, &place));
    found.find(|found| found.code == ResponseCode::NoError).unwrap_or_else(|| Found::only(ResponseCode::NXDomain))
}

/// What a prepared query finds; names are the same in large and small letters.
fn query(world: &World, asked: (&Name, RecordType), query: &str) -> Found {
    let Some(query) = world.queries.values().find(|known| known.name.eq_ignore_ascii_case(query)) else {
        return Found::only(ResponseCode::NXDomain);
    };
    let proxies = query.service.connect;
    match query.execute(world).0 {
        query::Found::Here(instances) => {
            let all = instances.into_iter().map(|instance| Listed::of(instance));
            listed(asked, all, proxies, world.names.datacenter())
        }
        query::Found::In(datacenter, seen) => listed(asked, seen.into_iter().map(Listed::abroad), proxies, datacenter),
    }
}

/// The records of instances in a datacenter, of which there should be one at least.
fn listed<'a>(
    (name, kind): (&Name, RecordType),
    chosen: impl Iterator<Item = Listed<'a>>,
    proxies: bool,
    datacenter: &str,
) -> Found {
    let mut chosen = chosen.peekable();
    if chosen.peek().is_none() {
        return Found::only(ResponseCode::NXDomain);
    }
    let (mut answers, mut additionals) = (Vec::new(), Vec::new());
    for instance in chosen {
        let record = if kind == RecordType::SRV {
            let port = if proxies { instance.proxy_port } else { instance.port };
            let Some(target) = target(datacenter, instance.address) else { continue };
            let address = addressed(&target, RecordType::ANY, instance.address);
            additionals.extend(address.filter(|record| !additionals.contains(record)));
            let data = RData::SRV(SRV::new(PRIORITY, WEIGHT, port, target));
            Some(Record::from_rdata(name.clone(), TTL, data))
        } else {
            addressed(name, kind, instance.address)
        };
        answers.extend(record.filter(|record| !answers.contains(record)));
    }
    Found::records(answers, additionals)
}

/// A node's address, and what is known of it as `key=value`.
fn node(world: &World, name: &Name, kind: RecordType, node: &str) -> Found {
    let first = world.catalog.on_node(node).and_then(|mut instances| instances.next());
    let Some(address) = first.and_then(|instance| instance.node_address.parse().ok()) else {
        return Found::only(ResponseCode::NXDomain);
    };
    let text = |(key, value)| RData::TXT(TXT::new(vec![format!("{key}={value}")]));
    let texts = NODE_META.map(|meta| Record::from_rdata(name.clone(), TTL, text(meta)));
    let addresses: Vec<Record> = addressed(name, kind, address).into_iter().collect();
    match kind {
        RecordType::TXT => Found::records(texts.into(), Vec::new()),
        RecordType::ANY => Found::records(addresses.into_iter().chain(texts).collect(), Vec::new()),
        _ if addresses.is_empty() => Found::only(ResponseCode::NoError),
        _ => Found::records(addresses, texts.into()),
    }
}

/// The node or else the first service that has an address.
fn reverse(world: &World, name: &Name, kind: RecordType) -> Found {
    let Some(network) = name.parse_arpa_name().ok().filter(|n| n.prefix_len() == n.max_prefix_len()) else {
        return Found::only(ResponseCode::NXDomain);
    };
    let all = || world.catalog.services().flat_map(|service| world.catalog.instances(service));
    let address = network.addr();
    let node = all().find(|i| i.node_address.parse() == Ok(address)).map(|i| format!("{}.node", i.node));
    let owner = node.or_else(|| Some(format!("{}.service", all().find(|i| i.address == address)?.service)));
    let owner = owner.and_then(|owner| full(&owner, world.names.datacenter()));
    match owner {
        None => Found::only(ResponseCode::NXDomain),
        Some(owner) if matches!(kind, RecordType::PTR | RecordType::ANY) => {
            Found::records(vec![Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(owner)))], Vec::new())
        }
        Some(_) => Found::only(ResponseCode::NoError),
    }
}

/// `<hex>.addr.<datacenter>.consul`.
fn target(datacenter: &str, address: IpAddr) -> Option<Name> {
    let hex = match address {
        IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
    };
    full(&format!("{hex}.addr"), datacenter)
}

fn full(name: &str, datacenter: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.{datacenter}.{DOMAIN}.")).ok()
}

fn addressed(name: &Name, kind: RecordType, address: IpAddr) -> Option<Record> {
    let data = match address {
        IpAddr::V4(v4) if matches!(kind, RecordType::A | RecordType::ANY) => RData::A(v4.into()),
        IpAddr::V6(v6) if matches!(kind, RecordType::AAAA | RecordType::ANY) => RData::AAAA(v6.into()),
        _ => return None,
    };
    Some(Record::from_rdata(name.clone(), TTL, data))
}

fn soa(serial: u32) -> Option<Record> {
    let name = |host: &str| Name::from_ascii(format!("{host}{DOMAIN}.")).ok();
    let soa = SOA::new(name("ns.")?, name("hostmaster.")?, serial, 3600, 600, 86_400, 0);
    Some(Record::from_rdata(name("")?, TTL, RData::SOA(soa)))
}
