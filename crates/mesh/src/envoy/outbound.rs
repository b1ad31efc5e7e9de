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

fn outbound_listener(world: &World, instance: &Instance, resources: &mut Resources) {
    let explicit: BTreeSet<String> = instance.upstreams.iter().map(Upstream::id).collect();
    let mut chains = Vec::new();
    // Envoy refuses a listener in which two chains match the same address: the first service has it
    let mut taken = BTreeSet::new();
    let mut free = |addresses: &mut dyn Iterator<Item = IpAddr>| -> Vec<IpAddr> {
        addresses.filter(|a| taken.insert(*a)).collect()
    };
    let own = instance.service.as_str();
    let may = |service: &str| visible(&world.config, world.default_intention, own, service);
    let implicit: Vec<&str> = world.services().into_iter().filter(|s| !explicit.contains(*s) && may(s)).collect();
    for service in implicit.iter().filter(|s| **s != own) {
        let addresses = free(&mut world.virtual_addresses(service).into_iter());
        if !addresses.is_empty() {
            let filter = upstream_filter(world, service, service, resources);
            chains.push(filter_chain(&addresses, &filter));
        }
    }
    // members of a set find each other only so, which is why a service is among its own upstreams here
    // several routes, and redirects, may lead to one target: the first takes its addresses, and needs the cluster
    let mut used = BTreeSet::new();
    for service in implicit {
        let chain = Chain::of(&world.config, service);
        for resolved in chain.resolved().filter(|r| world.config.dialed_directly(&r.target.service)) {
            let (name, instances) = cluster::passthrough(world, &resolved.target, resolved.connect_timeout, resources);
            let addresses = free(&mut instances.into_iter().filter(|a| instance.addresses().all(|own| own != *a)));
            if addresses.is_empty() {
                if !used.contains(&name) {
                    resources.clusters.remove(&name);
                }
            } else {
                chains.push(filter_chain(&addresses, &tcp_proxy(&world.names.stat_prefix(service), &name)));
                used.insert(name);
            }
        }
    }
    // redirection leads to the loopback address of the family that was dialled
    let mut body = json!({"traffic_direction": "OUTBOUND", "listener_filters": [original_dst_filter()]});
    let address = bind(&mut body, instance.loopbacks(), contract::OUTBOUND_PORT);
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

fn filter_chain(addresses: &[IpAddr], filter: &Value) -> Value {
    let ranges: Vec<Value> = addresses.iter().map(prefix).collect();
    json!({"filter_chain_match": {"prefix_ranges": ranges}, "filters": [filter]})
}

fn explicit(world: &World, upstream: &Upstream, resources: &mut Resources) {
    let filter = upstream_filter(world, &upstream.service, &upstream.id(), resources);
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
