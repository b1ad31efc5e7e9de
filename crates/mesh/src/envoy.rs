//! A proxy's Envoy configuration, named and shaped as Consul's: a function from the world to xDS resources.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::ca::Leaf;
use crate::registration::Instance;
use crate::world::World;

mod cluster;
mod hcm;
mod inbound;
mod outbound;
mod rbac;
mod tls;

/// Prefix of the names of Envoy's types.
macro_rules! typed {
    ($name:literal) => {
        concat!("type.googleapis.com/envoy.", $name)
    };
}
pub(crate) use typed;

/// Resources of one proxy under construction, by section and name.
#[derive(Default)]
struct Resources {
    listeners: Map<String, Value>,
    clusters: Map<String, Value>,
    endpoints: Map<String, Value>,
    routes: Map<String, Value>,
    secrets: Map<String, Value>,
}

/// The whole configuration of a proxy: an object of five objects, `listeners`, `clusters`, `endpoints`, `routes` and
/// `secrets`, that map names to resources.
pub(crate) fn render(world: &World, instance: &Instance, leaf: &Leaf, roots_pem: &str) -> Value {
    let mut resources = Resources::default();
    tls::secrets(&mut resources, leaf, roots_pem);
    inbound::render(world, instance, &mut resources);
    outbound::render(world, instance, &mut resources);
    let Resources { listeners, clusters, endpoints, routes, secrets } = resources;
    json!({
        "listeners": listeners, "clusters": clusters, "endpoints": endpoints, "routes": routes, "secrets": secrets,
    })
}

impl Resources {
    fn listener(&mut self, name: String, mut body: Value) {
        body["@type"] = json!(typed!("config.listener.v3.Listener"));
        body["name"] = json!(name);
        self.listeners.insert(name, body);
    }

    fn cluster(&mut self, name: String, mut body: Value) {
        body["@type"] = json!(typed!("config.cluster.v3.Cluster"));
        body["name"] = json!(name);
        self.clusters.insert(name, body);
    }
}

fn socket_address(address: IpAddr, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

/// Makes a listener listen at a port of every one of these addresses; the first one, with the port, is what it is named after.
fn bind(listener: &mut Value, mut addresses: impl Iterator<Item = IpAddr>, port: u16) -> SocketAddr {
    let first = addresses.next().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    listener["address"] = socket_address(first, port);
    let more: Vec<Value> = addresses.map(|address| json!({"address": socket_address(address, port)})).collect();
    if !more.is_empty() {
        listener["additional_addresses"] = json!(more);
    }
    SocketAddr::new(first, port)
}

/// A range of exactly one address.
fn prefix(address: &IpAddr) -> Value {
    json!({"address_prefix": address, "prefix_len": if address.is_ipv4() { 32 } else { 128 }})
}

fn tcp_proxy(stat_prefix: &str, cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": typed!("extensions.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": stat_prefix, "cluster": cluster,
        },
    })
}

fn original_dst_filter() -> Value {
    json!({
        "name": "envoy.filters.listener.original_dst",
        "typed_config": {"@type": typed!("extensions.filters.listener.original_dst.v3.OriginalDst")},
    })
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod tests;
