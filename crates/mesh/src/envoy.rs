//! A proxy's Envoy configuration, named and shaped as Consul's: a function from the world to xDS resources.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::ca::Leaf;
use crate::dial::Dial;
use crate::registration::Instance;
use crate::world::World;

mod cluster;
mod dialled;
mod gateway;
mod hcm;
mod inbound;
mod outbound;
mod rbac;
mod routing;
mod tls;

pub(crate) use cluster::memberships;
pub(crate) use outbound::{Choice, Upstream, choose, frame, is_implicit};

/// Prefix of the names of Envoy's types.
macro_rules! typed {
    ($name:literal) => {
        concat!("type.googleapis.com/envoy.", $name)
    };
}
pub(crate) use typed;

/// Resources under construction, by section and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Resources {
    listeners: Map<String, Value>,
    clusters: Map<String, Value>,
    endpoints: Map<String, Value>,
    routes: Map<String, Value>,
    secrets: Map<String, Value>,
}

/// The whole configuration of a proxy: an object of five objects, `listeners`, `clusters`, `endpoints`, `routes` and
/// `secrets`, that map names to resources.
///
/// It is made of parts that do not know each other: what is the proxy's [`own`], an [`Upstream`] for each service that is
/// reached without being named, which is the same for every proxy that [dials](Dial) it alike, and the listener's [`frame`]
/// around the chains to those that this one may reach.
pub(crate) fn render(world: &World, instance: &Instance, leaf: &Leaf, roots_pem: &str) -> Value {
    let mut resources = own(world, instance, leaf, roots_pem);
    if instance.transparent {
        let ids = world.upstreams().into_iter().filter(|id| is_implicit(world, instance, id));
        let upstream = |id: String| {
            let dial = Dial::of(&world.config, &instance.service, &id);
            let upstream = Upstream::of(world, &id, &dial);
            (id, upstream)
        };
        let upstreams: Vec<(String, Upstream)> = ids.map(upstream).collect();
        let chosen = choose(instance, &upstreams.iter().map(|(s, u)| (s.as_str(), u)).collect::<Vec<_>>());
        let mut chains = Vec::new();
        for Choice { upstream, way, addresses, port } in chosen {
            let way = &upstreams[upstream].1.ways[way];
            chains.push(way.chain(&addresses, port));
            resources.extend(way.resources.clone());
        }
        if let Some((name, mut body)) = frame(world, instance, !chains.is_empty(), &mut resources) {
            body["filter_chains"] = json!(chains);
            resources.listeners.insert(name, body);
        }
    }
    let sections = resources.sections().into_iter();
    Value::Object(sections.map(|(section, resources)| (section.to_owned(), Value::Object(resources))).collect())
}

/// What is a proxy's alone: its certificate, what comes in, and upstreams with a local port.
pub(crate) fn own(world: &World, instance: &Instance, leaf: &Leaf, roots_pem: &str) -> Resources {
    let mut resources = Resources::default();
    tls::secrets(world, &mut resources, leaf, roots_pem);
    if instance.gateway.is_some() {
        gateway::render(world, instance, &mut resources);
        return resources;
    }
    inbound::render(world, instance, &mut resources);
    outbound::explicit(world, instance, &mut resources);
    resources
}

impl Resources {
    /// The sections by their names.
    pub(crate) fn sections(self) -> [(&'static str, Map<String, Value>); 5] {
        let Self { listeners, clusters, endpoints, routes, secrets } = self;
        [
            ("listeners", listeners),
            ("clusters", clusters),
            ("endpoints", endpoints),
            ("routes", routes),
            ("secrets", secrets),
        ]
    }

    fn extend(&mut self, other: Self) {
        let Self { listeners, clusters, endpoints, routes, secrets } = other;
        self.listeners.extend(listeners);
        self.clusters.extend(clusters);
        self.endpoints.extend(endpoints);
        self.routes.extend(routes);
        self.secrets.extend(secrets);
    }

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

/// Has Envoy's threads take connections of a listener in equal numbers.
fn exact_balance() -> Value {
    json!({"exact_balance": {}})
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
mod federation;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod queries;
#[cfg(test)]
pub(crate) mod tests;
