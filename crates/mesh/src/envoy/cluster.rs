//! Clusters: instances of an upstream, the application itself, and the ways to addresses as they were dialled.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Resources, routing, socket_address, tls, typed};
use crate::catalog::health_entry;
use crate::chain::{CONNECT_TIMEOUT, Resolved, Target};
use crate::feed::config_source;
use crate::filter::Filter;
use crate::registration::{Health, Instance};
use crate::world::World;

/// The cluster of connections that go where they were dialled, without TLS.
pub(super) const ORIGINAL_DESTINATION: &str = "original-destination";
/// The cluster of the application beside the proxy.
pub(super) const LOCAL_APP: &str = "local_app";

/// Adds the cluster of a target, with its failover, and returns its name.
pub(super) fn resolved(world: &World, resolved: &Resolved, resources: &mut Resources) -> String {
    let name = world.names.sni(&resolved.target.service, resolved.target.subset.as_deref());
    if resolved.failover.is_empty() {
        instances(world, &resolved.target, name.clone(), resolved.connect_timeout, resources);
        routing::load_balancer(resolved, &name, resources);
        return name;
    }
    let targets = std::iter::once(&resolved.target).chain(&resolved.failover);
    let members: Vec<String> = targets
        .enumerate()
        .map(|(i, target)| {
            let sni = world.names.sni(&target.service, target.subset.as_deref());
            let member = format!("failover-target~{i}~{sni}");
            instances(world, target, member.clone(), resolved.connect_timeout, resources);
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

/// Adds the cluster of a further port of a service, and returns its name. Such a port has no discovery chain.
pub(super) fn port(world: &World, service: &str, port: &str, resources: &mut Resources) -> String {
    let name = world.names.port_sni(port, service);
    let has_it = |i: &&Arc<Instance>| i.named_port(port).is_some();
    let instances = world.catalog.instances(service).iter().filter(has_it).collect();
    let socket = tls::upstream(&name, &world.names.spiffe(service));
    endpoints(instances, &name, resources);
    resources.cluster(name.clone(), eds(&name, CONNECT_TIMEOUT, socket));
    name
}

/// Healthy instances, over mutual TLS.
fn instances(world: &World, target: &Target, name: String, connect_timeout: Duration, resources: &mut Resources) {
    endpoints(selected(world, target), &name, resources);
    let mut body = eds(&name, connect_timeout, transport_socket(world, target));
    if world.config.protocol(&target.service).http2() {
        body["typed_extension_protocol_options"] = http2();
    }
    resources.cluster(name, body);
}

fn endpoints(instances: Vec<&Arc<Instance>>, name: &str, resources: &mut Resources) {
    let healthy = instances.into_iter().filter(|i| i.health == Health::Passing);
    let endpoints: Vec<Value> = healthy
        .map(|i| {
            json!({
                "endpoint": {"address": socket_address(i.address, i.proxy_port)},
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
    json!({
        "type": "EDS", "eds_cluster_config": {"eds_config": config_source()},
        "connect_timeout": seconds(connect_timeout),
        "alt_stat_name": name,
        "common_lb_config": {"healthy_panic_threshold": {}},
        "outlier_detection": {},
        "transport_socket": transport_socket,
    })
}

/// The instances that a target means, healthy or not.
fn selected<'a>(world: &'a World, target: &Target) -> Vec<&'a Arc<Instance>> {
    let all = world.catalog.instances(&target.service);
    let subset = target.subset.as_ref().and_then(|s| world.config.resolvers.get(&target.service)?.subsets.get(s));
    // the expression was parsed when the resolver was accepted
    let filter = subset.and_then(|s| Filter::parse(&s.filter).ok());
    all.iter().filter(|i| filter.as_ref().is_none_or(|f| f.accepts(&health_entry(world, i, false)))).collect()
}

/// Adds the cluster that dials the instances of a target by their own addresses, and returns its name with them.
pub(super) fn passthrough(
    world: &World,
    target: &Target,
    connect_timeout: Duration,
    resources: &mut Resources,
) -> (String, Vec<IpAddr>) {
    let name = format!("passthrough~{}", world.names.sni(&target.service, target.subset.as_deref()));
    let mut body = original_dst(seconds(connect_timeout));
    body["transport_socket"] = transport_socket(world, target);
    resources.cluster(name.clone(), body);
    (name, selected(world, target).into_iter().flat_map(|i| i.addresses()).collect())
}

fn transport_socket(world: &World, target: &Target) -> Value {
    let sni = world.names.sni(&target.service, target.subset.as_deref());
    tls::upstream(&sni, &world.names.spiffe(&target.service))
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
