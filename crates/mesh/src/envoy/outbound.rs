//! What goes out: one listener with a chain for each upstream that is meant by its address, and one for each that has a
//! local port of its own.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use redirect::contract;
use serde_json::{Value, json};

use super::cluster::{self, ORIGINAL_DESTINATION};
use super::{Resources, bind, exact_balance, hcm, original_dst_filter, prefix, socket_address, tcp_proxy, typed};
use crate::chain::Chain;
use crate::dial::{self, Dial};
use crate::feed::config_source;
use crate::intentions::visible;
use crate::names::Names;
use crate::partition;
use crate::peering;
use crate::place::Place;
use crate::registration::Instance;
use crate::upstreams;
use crate::world::World;

/// A service that can be reached without being named, and what a proxy needs for it: the same for every proxy that dials it alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upstream {
    /// By its virtual addresses first, then by those of its instances.
    pub(crate) ways: Vec<Way>,
}

/// Addresses, and where connections to them go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Way {
    pub(crate) addresses: Vec<IpAddr>,
    /// The port that must have been dialled, if it matters.
    pub(crate) port: Option<u16>,
    /// The Kubernetes cluster whose proxies go this way; all if `None`.
    clients: Option<usize>,
    /// Whether the addresses are those of instances.
    direct: bool,
    pub(crate) filter: Value,
    /// What the filter leads to.
    pub(crate) resources: Resources,
}

impl Upstream {
    /// The ways to `service`, or to what a peer exports, for whoever dials it so.
    pub(crate) fn of(world: &World, service: &str, dial: &Dial) -> Self {
        let mut resources = Resources::default();
        if let Some(peered) = peering::parse(service) {
            let filter = peered_filter(world, peered, dial, &mut resources);
            // only what has instances is meant by its address
            let is_there = world.import(peered.0, peered.1).is_some_and(|(_, exported)| exported.has_instances);
            let address = world.vips.get(service).filter(|_| is_there).map(IpAddr::from);
            let addresses = address.into_iter().collect();
            return Self { ways: vec![Way { addresses, port: None, clients: None, direct: false, filter, resources }] };
        }
        if let Some(shared) = partition::parse(service) {
            let filter = shared_filter(world, shared, dial, &mut resources);
            // what it is called by is its proxies', so that one without instances has no chain
            let exported = world.share(shared.0, shared.1).filter(|exported| !exported.instances.is_empty());
            let addresses = exported.and_then(|exported| exported.virtual_ip).map(IpAddr::from).into_iter().collect();
            return Self { ways: vec![Way { addresses, port: None, clients: None, direct: false, filter, resources }] };
        }
        let chain = Chain::of(&world.config, service, Place::Here, dial);
        let filter = upstream_filter(world, service, service, &chain, &mut resources);
        let addresses = |cluster| world.virtual_addresses(service, cluster).into_iter().collect();
        let way =
            Way { addresses: addresses(0), port: None, clients: clients(world, 0), direct: false, filter, resources };
        let elsewhere = |cluster| Way { addresses: addresses(cluster), clients: Some(cluster), ..way.clone() };
        let more: Vec<Way> = (1..world.clusters).map(elsewhere).collect();
        let mut ways = vec![way];
        ways.extend(more);
        further_ports(world, service, dial, &mut ways);
        for resolved in chain.resolved().filter(|r| world.config.dialed_directly(&r.target.service)) {
            let mut resources = Resources::default();
            let (name, addresses) = cluster::passthrough(world, resolved, &mut resources);
            let filter = tcp_proxy(&world.names.stat_prefix(service), &name);
            ways.push(Way { addresses, port: None, clients: None, direct: true, filter, resources });
        }
        Self { ways }
    }
}

impl Way {
    /// The chain for these of its addresses, at any port or at one.
    pub(crate) fn chain(&self, addresses: &[IpAddr], port: Option<u16>) -> Value {
        filter_chain(addresses, port, &self.filter)
    }
}

/// Whether the proxy may reach the service without naming it. Of what peers and other partitions export to us, it
/// may all: they enforce their own intentions.
pub(crate) fn is_implicit(world: &World, instance: &Instance, service: &str) -> bool {
    !instance.upstreams.iter().any(|upstream| upstream.id() == service)
        && (peering::parse(service).is_some()
            || partition::parse(service).is_some()
            || visible(&world.config, world.default_intention, &instance.service, service))
}

/// A way that a proxy takes, and by which addresses.
pub(crate) struct Choice<'a> {
    /// Which of the upstreams, and which of its ways.
    pub(crate) upstream: usize,
    pub(crate) way: usize,
    pub(crate) addresses: Cow<'a, [IpAddr]>,
    pub(crate) port: Option<u16>,
}

/// The ways that a proxy takes to services that it may reach, which are in the order of their names.
///
/// Envoy refuses a listener in which two chains match the same address and port: the first way has it. So several routes, and
/// redirects, may lead to one target. Envoy looks at the port first, and when any chain names it, only at those which do: what is
/// reached by any port has a chain for each of these ports as well.
pub(crate) fn choose<'a>(instance: &Instance, upstreams: &[(&str, &'a Upstream)]) -> Vec<Choice<'a>> {
    let own = instance.service.as_str();
    let mut taken = HashSet::new();
    let mut chosen = Vec::new();
    for direct in [false, true] {
        for (i, (service, upstream)) in upstreams.iter().enumerate() {
            let mine = |way: &Way| way.clients.is_none_or(|cluster| cluster == instance.cluster);
            for (j, way) in upstream.ways.iter().enumerate().filter(|(_, way)| way.direct == direct && mine(way)) {
                // members of a set find each other only so, which is why a service is among its own upstreams then
                if !direct && *service == own {
                    continue;
                }
                let mine = |address: &IpAddr| direct && instance.addresses().any(|own| own == *address);
                let mut addresses = Cow::Borrowed(way.addresses.as_slice());
                // a loop and not a filter: in nearly every case all of them are free, and nothing is copied
                for (k, address) in way.addresses.iter().enumerate() {
                    let free = !mine(address) && taken.insert((*address, way.port));
                    match &mut addresses {
                        Cow::Owned(list) if free => list.push(*address),
                        Cow::Borrowed(_) if !free => addresses = Cow::Owned(way.addresses[..k].to_vec()),
                        _ => {}
                    }
                }
                if !addresses.is_empty() {
                    chosen.push(Choice { upstream: i, way: j, addresses, port: way.port });
                }
            }
        }
    }
    let named: BTreeSet<u16> = chosen.iter().filter_map(|choice| choice.port).collect();
    if named.is_empty() { chosen } else { at_every_port(chosen, &named, &taken) }
}

/// Has what is reached by any port reached by each of these as well, unless another way is.
fn at_every_port<'a>(
    chosen: Vec<Choice<'a>>,
    named: &BTreeSet<u16>,
    taken: &HashSet<(IpAddr, Option<u16>)>,
) -> Vec<Choice<'a>> {
    let mut all = Vec::new();
    for choice in chosen {
        let at = |port: u16| {
            let free = |address: &&IpAddr| !taken.contains(&(**address, Some(port)));
            let addresses: Vec<IpAddr> = choice.addresses.iter().filter(free).copied().collect();
            Choice { addresses: Cow::Owned(addresses), port: Some(port), ..choice }
        };
        let more: Vec<Choice<'a>> = match choice.port {
            Some(_) => Vec::new(),
            None => named.iter().map(|port| at(*port)).filter(|choice| !choice.addresses.is_empty()).collect(),
        };
        all.push(choice);
        all.extend(more);
    }
    all
}

/// The name of the outbound listener and the listener without its chains, and what it leads to when none matches. Nothing
/// when it would let nothing through.
pub(crate) fn frame(
    world: &World,
    instance: &Instance,
    has_chains: bool,
    resources: &mut Resources,
) -> Option<(String, Value)> {
    // redirection leads to the loopback address of the family that was dialled
    let mut body = json!({"traffic_direction": "OUTBOUND", "listener_filters": [original_dst_filter()]});
    let address = bind(&mut body, instance.loopbacks(), contract::OUTBOUND_PORT);
    // all upstreams without a port of their own come in here, so only what is said of all of them counts
    if dial::is_balanced(&world.config, &instance.service, None) {
        body["connection_balance_config"] = exact_balance();
    }
    if !world.config.mesh_destinations_only() {
        cluster::original_destination(resources);
        let filter = tcp_proxy(&format!("upstream.{ORIGINAL_DESTINATION}"), ORIGINAL_DESTINATION);
        body["default_filter_chain"] = json!({"filters": [filter]});
    } else if !has_chains {
        return None;
    }
    let name = format!("outbound_listener:{address}");
    body["@type"] = json!(typed!("config.listener.v3.Listener"));
    body["name"] = json!(name);
    Some((name, body))
}

/// The listeners of upstreams that have a local port.
pub(super) fn explicit(world: &World, instance: &Instance, resources: &mut Resources) {
    for upstream in &instance.upstreams {
        explicit_listener(world, &instance.service, upstream, resources);
    }
}

/// The further ports of a service: each by its virtual address, and by the Service's address and its port there.
fn further_ports(world: &World, service: &str, dial: &Dial, ways: &mut Vec<Way>) {
    for (port, service_ports) in world.more_ports(service) {
        let mut resources = Resources::default();
        let name = cluster::port(world, (service, port), &Place::Here, dial, &mut resources);
        let filter = tcp_proxy(&world.names.stat_prefix(service), &name);
        let mut to = |addresses: Vec<IpAddr>, port, clients| {
            let (filter, resources) = (filter.clone(), resources.clone());
            ways.push(Way { addresses, port, clients, direct: false, filter, resources });
        };
        to(world.vips.get(&format!("{port}.{service}")).map(IpAddr::from).into_iter().collect(), None, None);
        for cluster in 0..world.clusters {
            let cluster_ips = world.cluster_ips(service, cluster);
            for service_port in &service_ports {
                to(cluster_ips.iter().copied().collect(), Some(*service_port), clients(world, cluster));
            }
        }
    }
}

/// Whom a way is for that only proxies in one Kubernetes cluster can go. Where there is but one, everybody can.
fn clients(world: &World, cluster: usize) -> Option<usize> {
    (world.clusters > 1).then_some(cluster)
}

fn filter_chain(addresses: &[IpAddr], port: Option<u16>, filter: &Value) -> Value {
    let ranges: Vec<Value> = addresses.iter().map(prefix).collect();
    let mut matches = json!({"prefix_ranges": ranges});
    if let Some(port) = port {
        matches["destination_port"] = json!(port);
    }
    json!({"filter_chain_match": matches, "filters": [filter]})
}

fn explicit_listener(world: &World, own: &str, upstream: &upstreams::Upstream, resources: &mut Resources) {
    let service = &upstream.service;
    let place = upstream.place(world.names.datacenter());
    let dial = &Dial::explicit(&world.config, own, upstream);
    let is_default = |port: &String| match &place {
        Place::Here => world.catalog.instances(service).iter().any(|instance| instance.port_name == *port),
        Place::Datacenter(datacenter) => {
            let seen = world.abroad.get(datacenter).and_then(|abroad| abroad.services.get(service));
            seen.into_iter().flatten().any(|seen| seen.port_name == *port)
        }
        Place::Partition(partition) => {
            let exported = world.share(service, partition);
            exported.is_some_and(|exported| exported.instances.iter().any(|seen| seen.port_name == *port))
        }
        Place::Peer(_) => true,
    };
    let filter = match upstream.port.as_ref().filter(|port| !is_default(port)) {
        _ if upstream.is_query => {
            tcp_proxy(&format!("upstream.prepared_query_{service}"), &cluster::query(world, service, resources))
        }
        Some(port) => {
            let cluster = cluster::port(world, (service, port), &place, dial, resources);
            tcp_proxy(&world.names.at(&place).stat_prefix(service), &cluster)
        }
        None if upstream.peer.is_some() => {
            let peer = upstream.peer.as_deref().unwrap_or_default();
            peered_filter(world, (service, peer), dial, resources)
        }
        None => match &place {
            Place::Partition(partition) => shared_filter(world, (service, partition), dial, resources),
            _ => {
                let chain = Chain::of(&world.config, service, place, dial);
                upstream_filter(world, service, &upstream.id(), &chain, resources)
            }
        },
    };
    let address = SocketAddr::new(upstream.bind_address, upstream.bind_port);
    let mut body = json!({
        "address": socket_address(address.ip(), address.port()), "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [filter]}],
    });
    if dial::is_balanced(&world.config, own, Some(upstream)) {
        body["connection_balance_config"] = exact_balance();
    }
    resources.listener(format!("{}:{address}", upstream.id()), body);
}

/// The filter that sends a connection, or its requests, to a service that a peer exports; with the cluster for it. It has no chain.
fn peered_filter(world: &World, (service, peer): (&str, &str), dial: &Dial, resources: &mut Resources) -> Value {
    let name = cluster::peered(world, (service, peer), dial, resources);
    let stat_prefix = Names::peer_stat_prefix(service, peer);
    let protocol = cluster::peered_protocol(world, (service, peer), dial);
    if !protocol.http_like() {
        return tcp_proxy(&stat_prefix, &name);
    }
    let id = peering::id(service, peer);
    hcm::manager(&stat_prefix, protocol, ("route_config", hcm::single(&id, &id, None, &name)), Vec::new())
}

/// As that, to a service that another partition exports. Its chain is the business of that partition.
fn shared_filter(world: &World, (service, partition): (&str, &str), dial: &Dial, resources: &mut Resources) -> Value {
    let name = cluster::shared(world, (service, partition), dial, resources);
    let names = world.names.in_partition(partition);
    let (stat_prefix, told) = (names.stat_prefix(service), world.share(service, partition).map(|e| e.protocol));
    let protocol = dial.protocol.or(told).unwrap_or_default();
    if !protocol.http_like() {
        return tcp_proxy(&stat_prefix, &name);
    }
    let routes = hcm::single(&partition::id(service, partition), &names.dotted(service), None, &name);
    hcm::manager(&stat_prefix, protocol, ("route_config", routes), Vec::new())
}

/// The filter that sends a connection, or its requests, where the chain of `service` leads; with the clusters for it.
fn upstream_filter(world: &World, service: &str, id: &str, chain: &Chain, resources: &mut Resources) -> Value {
    let names = world.names.at(&chain.place);
    let stat_prefix = names.stat_prefix(service);
    if !chain.protocol.http_like() {
        let names: Vec<String> = chain.resolved().map(|r| cluster::resolved(world, r, resources)).collect();
        return tcp_proxy(&stat_prefix, names.first().map_or("", String::as_str));
    }
    let host = names.dotted(service);
    let routes = if chain.customised {
        let routes = hcm::of_chain(world, id, &host, chain, resources);
        resources.routes.insert(id.to_owned(), routes);
        ("rds", json!({"route_config_name": id, "config_source": config_source()}))
    } else {
        let names: Vec<String> = chain.resolved().map(|r| cluster::resolved(world, r, resources)).collect();
        ("route_config", hcm::single(id, &host, None, names.first().map_or("", String::as_str)))
    };
    hcm::manager(&stat_prefix, chain.protocol, routes, Vec::new())
}
