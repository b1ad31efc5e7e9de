//! What goes out: one listener with a chain for each upstream that is meant by its address, and one for each that has a
//! local port of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use redirect::contract;
use serde_json::{Value, json};

use super::cluster::{self, ORIGINAL_DESTINATION};
use super::{Resources, bind, hcm, original_dst_filter, prefix, socket_address, tcp_proxy};
use crate::chain::Chain;
use crate::feed::config_source;
use crate::intentions::visible;
use crate::registration::Instance;
use crate::upstreams::Upstream;
use crate::world::World;

pub(super) fn render(world: &World, instance: &Instance, resources: &mut Resources) {
    for upstream in &instance.upstreams {
        explicit(world, upstream, resources);
    }
    if instance.transparent {
        outbound_listener(world, instance, resources);
    }
}

/// A way out of the outbound listener.
struct Way {
    addresses: Vec<IpAddr>,
    /// The port that was dialled, if it matters.
    port: Option<u16>,
    filter: Value,
}

/// Ways to all upstreams. Envoy refuses a listener in which two chains match the same address and port: the first service has it.
#[derive(Default)]
struct Ways {
    ways: Vec<Way>,
    taken: BTreeSet<(IpAddr, Option<u16>)>,
}

impl Ways {
    /// Addresses that lead nowhere yet.
    fn free(&mut self, addresses: impl IntoIterator<Item = IpAddr>, port: Option<u16>) -> Vec<IpAddr> {
        addresses.into_iter().filter(|address| self.taken.insert((*address, port))).collect()
    }

    fn add(&mut self, addresses: Vec<IpAddr>, port: Option<u16>, filter: Value) {
        if !addresses.is_empty() {
            self.ways.push(Way { addresses, port, filter });
        }
    }

    /// The filter chains. Envoy looks at the port first, and when any chain names it, only at those which do. So what is
    /// reached by any port has a chain for each of these ports as well.
    fn chains(self) -> Vec<Value> {
        let named: BTreeSet<u16> = self.ways.iter().filter_map(|way| way.port).collect();
        let mut chains = Vec::new();
        for Way { addresses, port, filter } in &self.ways {
            chains.push(filter_chain(addresses, *port, filter));
            for other in named.iter().filter(|_| port.is_none()) {
                let free = |address: &&IpAddr| !self.taken.contains(&(**address, Some(*other)));
                let addresses: Vec<IpAddr> = addresses.iter().filter(free).copied().collect();
                if !addresses.is_empty() {
                    chains.push(filter_chain(&addresses, Some(*other), filter));
                }
            }
        }
        chains
    }
}

fn outbound_listener(world: &World, instance: &Instance, resources: &mut Resources) {
    let explicit: BTreeSet<String> = instance.upstreams.iter().map(Upstream::id).collect();
    let mut ways = Ways::default();
    let own = instance.service.as_str();
    let may = |service: &str| visible(&world.config, world.default_intention, own, service);
    let implicit: Vec<&str> = world.services().into_iter().filter(|s| !explicit.contains(*s) && may(s)).collect();
    for service in implicit.iter().filter(|s| **s != own) {
        let addresses = ways.free(world.virtual_addresses(service), None);
        if !addresses.is_empty() {
            let filter = upstream_filter(world, service, service, resources);
            ways.add(addresses, None, filter);
        }
        further_ports(world, service, &mut ways, resources);
    }
    // members of a set find each other only so, which is why a service is among its own upstreams here
    // several routes, and redirects, may lead to one target: the first takes its addresses, and needs the cluster
    let mut used = BTreeSet::new();
    for service in implicit {
        let chain = Chain::of(&world.config, service);
        for resolved in chain.resolved().filter(|r| world.config.dialed_directly(&r.target.service)) {
            let (name, instances) = cluster::passthrough(world, &resolved.target, resolved.connect_timeout, resources);
            let others = instances.into_iter().filter(|a| instance.addresses().all(|own| own != *a));
            let addresses = ways.free(others, None);
            if addresses.is_empty() {
                if !used.contains(&name) {
                    resources.clusters.remove(&name);
                }
            } else {
                ways.add(addresses, None, tcp_proxy(&world.names.stat_prefix(service), &name));
                used.insert(name);
            }
        }
    }
    // redirection leads to the loopback address of the family that was dialled
    let mut body = json!({"traffic_direction": "OUTBOUND", "listener_filters": [original_dst_filter()]});
    let address = bind(&mut body, instance.loopbacks(), contract::OUTBOUND_PORT);
    let chains = ways.chains();
    if !world.config.mesh.transparent_proxy.mesh_destinations_only {
        cluster::original_destination(resources);
        let filter = tcp_proxy(&format!("upstream.{ORIGINAL_DESTINATION}"), ORIGINAL_DESTINATION);
        body["default_filter_chain"] = json!({"filters": [filter]});
    } else if chains.is_empty() {
        return;
    }
    body["filter_chains"] = json!(chains);
    resources.listener(format!("outbound_listener:{address}"), body);
}

/// The further ports of a service: each by its virtual address, and by the Service's address and its port there.
fn further_ports(world: &World, service: &str, ways: &mut Ways, resources: &mut Resources) {
    for (port, service_ports) in world.more_ports(service) {
        let name = cluster::port(world, service, port, resources);
        let filter = tcp_proxy(&world.names.stat_prefix(service), &name);
        let virtual_ip = world.vips.get(&format!("{port}.{service}")).map(IpAddr::from);
        let addresses = ways.free(virtual_ip, None);
        ways.add(addresses, None, filter.clone());
        for service_port in service_ports {
            let cluster_ips = world.catalog.instances(service).iter().flat_map(|i| i.cluster_ips.iter().copied());
            let addresses = ways.free(cluster_ips, Some(service_port));
            ways.add(addresses, Some(service_port), filter.clone());
        }
    }
}

fn filter_chain(addresses: &[IpAddr], port: Option<u16>, filter: &Value) -> Value {
    let ranges: Vec<Value> = addresses.iter().map(prefix).collect();
    let mut matches = json!({"prefix_ranges": ranges});
    if let Some(port) = port {
        matches["destination_port"] = json!(port);
    }
    json!({"filter_chain_match": matches, "filters": [filter]})
}

fn explicit(world: &World, upstream: &Upstream, resources: &mut Resources) {
    let is_default =
        |port: &String| world.catalog.instances(&upstream.service).iter().any(|instance| instance.port_name == *port);
    let filter = match upstream.port.as_ref().filter(|port| !is_default(port)) {
        Some(port) => {
            let cluster = cluster::port(world, &upstream.service, port, resources);
            tcp_proxy(&world.names.stat_prefix(&upstream.service), &cluster)
        }
        None => upstream_filter(world, &upstream.service, &upstream.id(), resources),
    };
    let address = SocketAddr::new(upstream.bind_address, upstream.bind_port);
    resources.listener(
        format!("{}:{address}", upstream.id()),
        json!({
            "address": socket_address(address.ip(), address.port()), "traffic_direction": "OUTBOUND",
            "filter_chains": [{"filters": [filter]}],
        }),
    );
}

/// The filter that sends a connection, or its requests, where the chain of `service` leads; with the clusters for it.
fn upstream_filter(world: &World, service: &str, id: &str, resources: &mut Resources) -> Value {
    let chain = Chain::of(&world.config, service);
    let stat_prefix = world.names.stat_prefix(service);
    if !chain.protocol.http_like() {
        let names: Vec<String> = chain.resolved().map(|r| cluster::resolved(world, r, resources)).collect();
        return tcp_proxy(&stat_prefix, names.first().map_or("", String::as_str));
    }
    let host = world.names.dotted(service);
    let routes = if chain.customised {
        let routes = hcm::of_chain(world, id, &host, &chain, resources);
        resources.routes.insert(id.to_owned(), routes);
        ("rds", json!({"route_config_name": id, "config_source": config_source()}))
    } else {
        let names: Vec<String> = chain.resolved().map(|r| cluster::resolved(world, r, resources)).collect();
        ("route_config", hcm::single(id, &host, None, names.first().map_or("", String::as_str)))
    };
    hcm::manager(&stat_prefix, chain.protocol, routes, Vec::new())
}
