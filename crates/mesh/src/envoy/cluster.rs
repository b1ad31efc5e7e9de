//! Clusters: instances of an upstream, the application itself, and the ways to addresses as they were dialled.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Resources, dialled, routing, socket_address, tls, typed};
use crate::abroad::Seen;
use crate::catalog::health_entry;
use crate::chain::{CONNECT_TIMEOUT, Resolved, Target};
use crate::config::{Protocol, Subset};
use crate::dial::Dial;
use crate::feed::config_source;
use crate::filter::Filter;
use crate::names::Names;
use crate::place::{GatewayMode, Place};
use crate::query::Found;
use crate::registration::{Health, Instance};
use crate::world::World;

/// The cluster of connections that go where they were dialled, without TLS.
pub(super) const ORIGINAL_DESTINATION: &str = "original-destination";
/// The cluster of the application beside the proxy.
pub(super) const LOCAL_APP: &str = "local_app";

/// Adds the cluster of a target, with its failover, and returns its name.
pub(super) fn resolved(world: &World, resolved: &Resolved, resources: &mut Resources) -> String {
    let name = name(world, &resolved.target, &resolved.dial);
    if resolved.failover.is_empty() {
        instances(world, resolved, &resolved.target, name.clone(), resources);
        routing::load_balancer(resolved, &name, resources);
        return name;
    }
    let targets = std::iter::once(&resolved.target).chain(&resolved.failover);
    let members: Vec<String> = targets
        .enumerate()
        .map(|(i, target)| {
            // after the aggregate, so that no other chain gives a member of this name another timeout
            let member = format!("failover-target~{i}~{name}");
            instances(world, resolved, target, member.clone(), resources);
            routing::load_balancer(resolved, &member, resources);
            member
        })
        .collect();
    resources.cluster(
        name.clone(),
        json!({
            "connect_timeout": seconds(resolved.connect_timeout), "lb_policy": "CLUSTER_PROVIDED",
            "cluster_type": {
                "name": "envoy.clusters.aggregate",
                "typed_config": {
                    "@type": typed!("extensions.clusters.aggregate.v3.ClusterConfig"), "clusters": members,
                },
            },
        }),
    );
    name
}

/// The name of a target's cluster: its server name, with what whoever dials has to say before it.
fn name(world: &World, target: &Target, dial: &Dial) -> String {
    let name = match &target.place {
        Place::Peer(peer) => peered_name(world, &target.service, peer),
        _ => sni(world, target),
    };
    distinct(world, name, (&target.service, &target.place), dial)
}

/// A cluster's name with a mark of what whoever dials says that the entries do not, and the way to go to another place: another
/// upstream of the same proxy may lead to the same target, and be dialled as the entries say.
fn distinct(world: &World, name: String, (service, place): (&str, &Place), dial: &Dial) -> String {
    let name = match dial.mark() {
        Some(mark) => format!("{mark}~{name}"),
        None => name,
    };
    let mode = match place {
        Place::Partition(partition) => partition_mode(world, service, partition),
        _ => world.config.gateway_mode(service),
    };
    match dial.via.filter(|via| *place != Place::Here && *via != mode) {
        Some(via) => format!("{}~{name}", via.as_str()),
        None => name,
    }
}

fn sni(world: &World, target: &Target) -> String {
    world.names.at(&target.place).sni(&target.service, target.subset.as_deref())
}

/// The name of the cluster of a service that a peer exports.
fn peered_name(world: &World, service: &str, peer: &str) -> String {
    let trust_domain = world.peers.get(peer).map_or("", |told| &told.trust_domain);
    Names::peer_cluster(service, peer, trust_domain)
}

/// Adds the cluster of a service that a peer exports, and returns its name.
pub(super) fn peered(world: &World, (service, peer): (&str, &str), dial: &Dial, resources: &mut Resources) -> String {
    let name = distinct(world, peered_name(world, service, peer), (service, &Place::Peer(peer.into())), dial);
    let timeout = dial.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    peer_instances(world, (service, peer), dial, (name.clone(), timeout), resources);
    name
}

/// What is spoken with a service that a peer exports.
pub(super) fn peered_protocol(world: &World, (service, peer): (&str, &str), dial: &Dial) -> Protocol {
    let exported = || Some(world.import(service, peer)?.1.protocol());
    dial.protocol.or_else(exported).unwrap_or_default()
}

/// Adds a cluster in which a service that a peer exports is reached, always through gateways.
fn peer_instances(
    world: &World,
    (service, peer): (&str, &str),
    dial: &Dial,
    (name, connect_timeout): (String, Duration),
    resources: &mut Resources,
) {
    let import = world.import(service, peer);
    let reached = match (import, dial.via.unwrap_or_else(|| world.config.gateway_mode(service))) {
        (Some((_, exported)), _) if !exported.passing => Vec::new(),
        (None, _) => Vec::new(),
        (Some(_), GatewayMode::Local) => world.catalog.gateways().filter_map(|gateway| gateway.lan()).collect(),
        (Some((told, _)), _) => told.gateways.clone(),
    };
    endpoints(&reached, &name, resources);
    let (sni, identities) = match import {
        Some((told, exported)) => (
            Names::peer_sni(service, &told.partition, &told.your_name, &told.trust_domain),
            exported.identities.as_slice(),
        ),
        None => (name.clone(), &[][..]),
    };
    if let Some((told, _)) = import {
        tls::peer_roots(peer, &told.roots, resources);
    }
    let mut body = eds(&name, connect_timeout, tls::upstream_peer(&sni, identities, peer));
    dialled::tune(dial, &mut body);
    // nothing but failures tells that what is behind the peer's gateways is not healthy
    body["outlier_detection"]["max_ejection_percent"] = json!(100);
    if peered_protocol(world, (service, peer), dial).http2() {
        body["typed_extension_protocol_options"] = http2();
    }
    resources.cluster(name, body);
}

/// Adds the cluster of a further port of a service at a place, and returns its name. Such a port has no discovery chain.
pub(super) fn port(
    world: &World,
    (service, port): (&str, &str),
    place: &Place,
    dial: &Dial,
    resources: &mut Resources,
) -> String {
    let names = world.names.at(place);
    let sni = names.port_sni(port, service);
    let socket = tls::upstream(&sni, &names.spiffe(service));
    let name = distinct(world, sni, (service, place), dial);
    let reached = match place {
        Place::Here => {
            let instances = world.catalog.instances(service).iter();
            healthy(instances.filter(|i| i.named_port(port).is_some()))
        }
        Place::Partition(partition) => {
            partitioned(world, (service, partition), dial.via, |seen| seen.ports.iter().any(|name| name == port))
        }
        Place::Datacenter(datacenter) => {
            let has_it = |seen: &&Seen| seen.ports.iter().any(|name| name == port);
            abroad(world, datacenter, service, dial.via, has_it)
        }
        // what is imported has one port
        Place::Peer(_) => Vec::new(),
    };
    endpoints(&reached, &name, resources);
    let mut body = eds(&name, dial.connect_timeout.unwrap_or(CONNECT_TIMEOUT), socket);
    dialled::tune(dial, &mut body);
    resources.cluster(name.clone(), body);
    name
}

/// Adds the cluster of a prepared query, and returns its name. Nobody answers while there is no query of this name. Gateways know
/// nothing of queries: what is in another datacenter is dialled as it is.
pub(super) fn query(world: &World, query: &str, resources: &mut Resources) -> String {
    let name = world.names.query_sni(query);
    let found = world.query(query).map(|query| (query, query.execute(world).0));
    let reached = found.as_ref().map(|(_, found)| found.proxies()).unwrap_or_default();
    endpoints(&reached, &name, resources);
    // as long as nobody is found, no identity is the right one
    let service = found.as_ref().map_or("", |(query, _)| query.service.service.as_str());
    let names = match found.as_ref().map(|(_, found)| found) {
        Some(Found::In(datacenter, _)) => world.names.at(&Place::Datacenter((*datacenter).into())),
        _ => world.names.at(&Place::Here),
    };
    let socket = tls::upstream(&name, &names.spiffe(service));
    resources.cluster(name.clone(), eds(&name, CONNECT_TIMEOUT, socket));
    name
}

/// Where a target is reached, over mutual TLS.
fn instances(world: &World, resolved: &Resolved, target: &Target, name: String, resources: &mut Resources) {
    let dial = &resolved.dial;
    let reached = match &target.place {
        Place::Peer(peer) => {
            let at = (target.service.as_str(), &**peer);
            return peer_instances(world, at, dial, (name, resolved.connect_timeout), resources);
        }
        Place::Here => healthy(selected(world, target)),
        Place::Partition(partition) => {
            let meant = |seen: &&Seen| target.subset.as_ref().is_none_or(|subset| seen.subsets.contains(subset));
            partitioned(world, (&target.service, partition), dial.via, meant)
        }
        Place::Datacenter(datacenter) => {
            let meant = |seen: &&Seen| target.subset.as_ref().is_none_or(|subset| seen.subsets.contains(subset));
            abroad(world, datacenter, &target.service, dial.via, meant)
        }
    };
    endpoints(&reached, &name, resources);
    let mut body = eds(&name, resolved.connect_timeout, transport_socket(world, target));
    dialled::tune(dial, &mut body);
    if dial.protocol.unwrap_or_else(|| protocol(world, target)).http2() {
        body["typed_extension_protocol_options"] = http2();
    }
    resources.cluster(name, body);
}

pub(super) fn healthy<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Vec<SocketAddr> {
    let healthy = instances.into_iter().filter(|i| i.health == Health::Passing);
    healthy.map(|i| SocketAddr::new(i.address, i.proxy_port)).collect()
}

/// Where the instances of a service in another datacenter are reached.
fn abroad(
    world: &World,
    datacenter: &str,
    service: &str,
    via: Option<GatewayMode>,
    meant: impl Fn(&&Seen) -> bool,
) -> Vec<SocketAddr> {
    let Some(abroad) = world.abroad.get(datacenter) else { return Vec::new() };
    let seen = abroad.services.get(service).into_iter().flatten().filter(meant);
    let mode = via.unwrap_or_else(|| world.config.gateway_mode(service));
    through(world, mode, seen, &abroad.gateways)
}

/// As [`abroad`], of a service that another partition exports.
fn partitioned(
    world: &World,
    (service, partition): (&str, &str),
    via: Option<GatewayMode>,
    meant: impl Fn(&&Seen) -> bool,
) -> Vec<SocketAddr> {
    let Some(told) = world.partitions.get(partition) else { return Vec::new() };
    let Some(exported) = told.services.get(service) else { return Vec::new() };
    let mode = via.unwrap_or_else(|| partition_mode(world, service, partition));
    through(world, mode, exported.instances.iter().filter(meant), &told.gateways)
}

/// Through which gateways to go to a service of another partition, unless whoever dials says otherwise.
fn partition_mode(world: &World, service: &str, partition: &str) -> GatewayMode {
    let of_service = world.share(service, partition).and_then(|exported| exported.gateway_mode);
    of_service.unwrap_or_else(|| world.config.default_gateway_mode())
}

/// Where instances elsewhere are reached: themselves, or a gateway if any of them is healthy.
fn through<'a>(
    world: &World,
    mode: GatewayMode,
    seen: impl Iterator<Item = &'a Seen>,
    theirs: &[SocketAddr],
) -> Vec<SocketAddr> {
    let mut healthy = seen.filter(|seen| seen.passing).peekable();
    match mode {
        _ if healthy.peek().is_none() => Vec::new(),
        GatewayMode::None => healthy.map(|seen| seen.address).collect(),
        GatewayMode::Local => world.catalog.gateways().filter_map(|gateway| gateway.lan()).collect(),
        GatewayMode::Remote => theirs.to_vec(),
    }
}

/// What a target speaks.
fn protocol(world: &World, target: &Target) -> Protocol {
    match &target.place {
        Place::Partition(partition) => {
            world.share(&target.service, partition).map(|exported| exported.protocol).unwrap_or_default()
        }
        _ => world.config.protocol(&target.service),
    }
}

/// Adds the cluster of a service that another partition exports, and returns its name.
pub(super) fn shared(
    world: &World,
    (service, partition): (&str, &str),
    dial: &Dial,
    resources: &mut Resources,
) -> String {
    let place = Place::Partition(partition.into());
    let target = Target { service: service.to_owned(), subset: None, place };
    let connect_timeout = dial.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let to = Resolved { target, failover: Vec::new(), connect_timeout, load_balancer: None, dial: dial.clone() };
    resolved(world, &to, resources)
}

/// Adds the addresses of an EDS cluster.
pub(super) fn endpoints(reached: &[SocketAddr], name: &str, resources: &mut Resources) {
    let endpoints: Vec<Value> = reached
        .iter()
        .map(|at| {
            json!({
                "endpoint": {"address": socket_address(at.ip(), at.port())},
                "health_status": "HEALTHY", "load_balancing_weight": 1,
            })
        })
        .collect();
    resources.endpoints.insert(
        name.to_owned(),
        json!({
            "@type": typed!("config.endpoint.v3.ClusterLoadAssignment"), "cluster_name": name,
            "endpoints": if endpoints.is_empty() { json!([]) } else { json!([{"lb_endpoints": endpoints}]) },
        }),
    );
}

fn eds(name: &str, connect_timeout: Duration, transport_socket: Value) -> Value {
    let mut body = plain(name, connect_timeout);
    body["transport_socket"] = transport_socket;
    body
}

/// An EDS cluster to which connections are passed on as they are.
fn plain(name: &str, connect_timeout: Duration) -> Value {
    json!({
        "type": "EDS", "eds_cluster_config": {"eds_config": config_source()},
        "connect_timeout": seconds(connect_timeout),
        "alt_stat_name": name,
        "common_lb_config": {"healthy_panic_threshold": {}},
        "outlier_detection": {},
    })
}

/// Adds a cluster to which a mesh gateway passes connections on, whose TLS is none of its business.
pub(super) fn passed_on(name: &str, reached: &[SocketAddr], resources: &mut Resources) {
    endpoints(reached, name, resources);
    resources.cluster(name.to_owned(), plain(name, CONNECT_TIMEOUT));
}

/// Adds the clusters to which a mesh gateway passes on what is for a service here: all of it, each subset, and each further port.
pub(super) fn passed_on_to(world: &World, service: &str, resources: &mut Resources) {
    let subsets = world.config.resolvers.get(service).into_iter().flat_map(|r| r.subsets.keys());
    for subset in subsets.map(Some).chain([None]) {
        let target = Target { service: service.to_owned(), subset: subset.cloned(), place: Place::Here };
        passed_on(&sni(world, &target), &healthy(selected(world, &target)), resources);
    }
    for (port, _) in world.more_ports(service) {
        let instances = world.catalog.instances(service).iter().filter(|i| i.named_port(port).is_some());
        passed_on(&world.names.port_sni(port, service), &healthy(instances), resources);
    }
}

/// Which of these subsets each instance of a service belongs to.
pub(crate) fn memberships(world: &World, service: &str, subsets: &[(&String, &Subset)]) -> Vec<BTreeSet<String>> {
    // expressions were parsed when the resolver was accepted
    let filters = subsets.iter().filter_map(|(name, subset)| Some((*name, Filter::parse(&subset.filter).ok()?)));
    let filters: Vec<(&String, Filter)> = filters.collect();
    let of = |instance: &Arc<Instance>| {
        let entry = health_entry(world, instance, false);
        filters.iter().filter(|(_, filter)| filter.accepts(&entry)).map(|(name, _)| (*name).clone()).collect()
    };
    // nothing is asked of an instance where there are no subsets
    let all = world.catalog.instances(service).iter();
    all.map(|i| if filters.is_empty() { BTreeSet::new() } else { of(i) }).collect()
}

/// The instances that a target means, healthy or not.
pub(super) fn selected<'a>(world: &'a World, target: &Target) -> Vec<&'a Arc<Instance>> {
    let all = world.catalog.instances(&target.service);
    let subset = target.subset.as_ref().and_then(|s| world.config.resolvers.get(&target.service)?.subsets.get(s));
    // the expression was parsed when the resolver was accepted
    let filter = subset.and_then(|s| Filter::parse(&s.filter).ok());
    all.iter().filter(|i| filter.as_ref().is_none_or(|f| f.accepts(&health_entry(world, i, false)))).collect()
}

/// Adds the cluster that dials the instances of a target by their own addresses, and returns its name with them.
pub(super) fn passthrough(
    world: &World,
    Resolved { target, connect_timeout, dial, .. }: &Resolved,
    resources: &mut Resources,
) -> (String, Vec<IpAddr>) {
    let name = format!("passthrough~{}", name(world, target, dial));
    let mut body = original_dst(seconds(*connect_timeout));
    dialled::tune(dial, &mut body);
    body["transport_socket"] = transport_socket(world, target);
    resources.cluster(name.clone(), body);
    let addresses = match &target.place {
        Place::Here => selected(world, target).into_iter().flat_map(|i| i.addresses()).collect(),
        // nobody dials by address what is behind gateways
        Place::Datacenter(_) | Place::Partition(_) | Place::Peer(_) => Vec::new(),
    };
    (name, addresses)
}

fn transport_socket(world: &World, target: &Target) -> Value {
    tls::upstream(&sni(world, target), &world.names.at(&target.place).spiffe(&target.service))
}

/// Adds [`ORIGINAL_DESTINATION`].
pub(super) fn original_destination(resources: &mut Resources) {
    resources.cluster(ORIGINAL_DESTINATION.to_owned(), original_dst("5s".to_owned()));
}

fn original_dst(connect_timeout: String) -> Value {
    json!({"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": connect_timeout})
}

/// Adds a cluster that is one port on the loopback; no endpoint when the port is 0.
pub(super) fn loopback(name: &str, (host, port): (IpAddr, u16), is_http2: bool, resources: &mut Resources) {
    let address = socket_address(host, port);
    let endpoints = if port == 0 { json!([]) } else { json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]) };
    let mut body = json!({
        "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    });
    if is_http2 {
        body["typed_extension_protocol_options"] = http2();
    }
    resources.cluster(name.to_owned(), body);
}

fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": typed!("extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    })
}

/// A duration as protobuf's JSON spells it.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}
