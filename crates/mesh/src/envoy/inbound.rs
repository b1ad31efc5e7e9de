//! What comes in: the public listener with mutual TLS and intentions, and paths that are reachable without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use redirect::contract;
use serde_json::{Value, json};

use super::cluster::{LOCAL_APP, loopback, seconds};
use super::{Resources, bind, exact_balance, hcm, original_dst_filter, rbac, tcp_proxy, tls, typed};
use crate::config::{ExposePath, Inbound, Protocol, number};
use crate::registration::Instance;
use crate::world::World;

/// What a client may send before the connection to the application stands.
const EARLY_DATA_BYTES: u32 = 64 * 1024;

pub(super) fn render(world: &World, instance: &Instance, resources: &mut Resources) {
    let service = &instance.service;
    let protocol = world.config.protocol(service);
    let says = Inbound::of(&world.config, service, &instance.proxy_config);
    let more_ports = instance.more_ports.iter().map(|port| (local_app(&port.name), port.port));
    for (name, port) in std::iter::once((LOCAL_APP.to_owned(), instance.port)).chain(more_ports) {
        loopback(&name, (application(instance), port), protocol.http2(), resources);
        if let Some(timeout) = says.connect_timeout {
            resources.clusters[&name]["connect_timeout"] = json!(seconds(timeout));
        }
    }
    public_listener(world, instance, (protocol, &says), resources);
    for path in instance.expose.iter().chain(world.config.exposed(service)).filter(|p| p.listener_port > 0) {
        exposed_path(instance, path, resources);
    }
    if let Some((port, path)) = &instance.metrics {
        prometheus(instance, *port, path, resources);
    }
}

fn public_listener(
    world: &World,
    instance: &Instance,
    (protocol, says): (Protocol, &Inbound),
    resources: &mut Resources,
) {
    let service = &instance.service;
    let alpn: &[&str] = match protocol {
        Protocol::Tcp => &[],
        Protocol::Http => &["http/1.1"],
        Protocol::Http2 | Protocol::Grpc => &["h2", "http/1.1"],
    };
    let filters = application_filters(world, service, (protocol, says), LOCAL_APP);
    let mut chains = vec![json!({"filters": filters, "transport_socket": tls::downstream(world, alpn)})];
    let mut body = json!({"traffic_direction": "INBOUND", "listener_filters": []});
    for port in &instance.more_ports {
        // the name that the client asks for says which of the application's ports it means
        body["listener_filters"] = json!([tls::inspector()]);
        let filters = application_filters(world, service, (protocol, says), &local_app(&port.name));
        chains.push(json!({
            "filter_chain_match": {"server_names": [world.names.port_sni(&port.name, service)]},
            "filters": filters, "transport_socket": tls::downstream(world, alpn),
        }));
    }
    let original_dst = |body: &mut Value| {
        if let Some(filters) = body["listener_filters"].as_array_mut() {
            filters.insert(0, original_dst_filter());
        }
    };
    let address = bind(&mut body, instance.addresses(), inbound_port(instance));
    if says.is_balanced {
        body["connection_balance_config"] = exact_balance();
    }
    if instance.transparent && instance.port > 0 && world.config.permissive_mtls(service) {
        original_dst(&mut body);
        chains.push(json!({
            "filter_chain_match": {"destination_port": instance.port},
            "filters": [tcp_proxy("permissive_public_listener", LOCAL_APP)],
        }));
    } else if instance.port > 0 && protocol.http_like() && world.config.dialed_directly(service) {
        // who dials an instance gets TCP, whatever the protocol: the way to it says which it is
        original_dst(&mut body);
        chains.push(json!({
            "filter_chain_match": {"destination_port": instance.port},
            "filters": tcp_filters(world, service, "dialed_directly", LOCAL_APP), "transport_socket": tls::downstream(world, &[]),
        }));
    }
    body["filter_chains"] = json!(chains);
    resources.listener(format!("public_listener:{address}"), body);
}

/// Where the proxy listens for the mesh: where it is registered, or where the Pod puts it. Redirection leads there from any port.
fn inbound_port(instance: &Instance) -> u16 {
    let own = instance.proxy_config.get("bind_port").and_then(number).and_then(|port| u16::try_from(port).ok());
    own.filter(|port| *port > 0).unwrap_or(instance.proxy_port)
}

/// Name of the cluster that is a further port of the application.
fn local_app(port: &str) -> String {
    format!("{LOCAL_APP}_{port}")
}

/// What a connection from the mesh goes through before it comes to the application at `cluster`.
fn application_filters(
    world: &World,
    service: &str,
    (protocol, says): (Protocol, &Inbound),
    cluster: &str,
) -> Vec<Value> {
    let mut filters = Vec::new();
    if let Some(limit) = says.max_connections {
        filters.push(json!({
            "name": "envoy.filters.network.connection_limit",
            "typed_config": {
                "@type": typed!("extensions.filters.network.connection_limit.v3.ConnectionLimit"),
                "stat_prefix": "inbound_connection_limit", "max_connections": limit,
            },
        }));
    }
    if protocol.http_like() {
        filters.push(http_filters(world, service, (protocol, says), cluster));
    } else {
        filters.extend(tcp_filters(world, service, "public_listener", cluster));
    }
    filters
}

/// Intentions about connections, then the application.
fn tcp_filters(world: &World, service: &str, label: &str, cluster: &str) -> [Value; 2] {
    let mut to_application = tcp_proxy(label, cluster);
    // Envoy's default dials the application for every TCP handshake, before it knows whether the client has a certificate.
    to_application["typed_config"]["upstream_connect_mode"] = json!("ON_DOWNSTREAM_TLS_HANDSHAKE");
    // the mode demands a bound for what the client sends meanwhile; beyond it, the client waits
    to_application["typed_config"]["max_early_data_bytes"] = json!(EARLY_DATA_BYTES);
    [rbac::network(world, service), to_application]
}

fn http_filters(world: &World, service: &str, (protocol, says): (Protocol, &Inbound), cluster: &str) -> Value {
    let mut routes = hcm::single("public_listener", "public_listener", None, cluster);
    for (field, timeout) in [("timeout", says.request_timeout), ("idle_timeout", says.idle_timeout)] {
        if let Some(timeout) = timeout {
            routes["virtual_hosts"][0]["routes"][0]["route"][field] = json!(seconds(timeout));
        }
    }
    let filters = vec![rbac::http(world, service, protocol)];
    let mut manager = hcm::manager("public_listener", protocol, ("route_config", routes), filters);
    let config = &mut manager["typed_config"];
    config["forward_client_cert_details"] = json!("APPEND_FORWARD");
    config["set_current_client_cert_details"] =
        json!({"subject": true, "cert": true, "chain": true, "dns": true, "uri": true});
    config["normalize_path"] = json!(true);
    manager
}

fn exposed_path(instance: &Instance, path: &ExposePath, resources: &mut Resources) {
    let letters: String = path.path.chars().filter(char::is_ascii_alphanumeric).collect();
    let protocol = path.protocol.unwrap_or(Protocol::Http);
    let cluster = if path.local_path_port == instance.port {
        LOCAL_APP.to_owned()
    } else {
        let name = format!("exposed_cluster_{}", path.local_path_port);
        loopback(&name, (application(instance), path.local_path_port), protocol.http2(), resources);
        name
    };
    let label = format!("exposed_path_filter_{letters}_{}", path.listener_port);
    let routes = hcm::single(&label, &label, Some(&path.path), &cluster);
    let filters = vec![hcm::manager(&label, protocol, ("route_config", routes), Vec::new())];
    let mut body = json!({"traffic_direction": "INBOUND", "filter_chains": [{"filters": filters}]});
    let address = bind(&mut body, instance.addresses(), path.listener_port);
    resources.listener(format!("exposed_path_{letters}:{address}"), body);
}

/// Lets Prometheus read Envoy's statistics, and nothing else of its admin interface.
fn prometheus(instance: &Instance, port: u16, path: &str, resources: &mut Resources) {
    const CLUSTER: &str = "prometheus_backend";
    loopback(CLUSTER, (instance.sidecar, contract::ENVOY_ADMIN_PORT), false, resources);
    let label = "envoy_prometheus_metrics";
    let mut routes = hcm::single(label, label, Some(path), CLUSTER);
    routes["virtual_hosts"][0]["routes"][0]["route"]["prefix_rewrite"] = json!("/stats/prometheus");
    let filters = vec![hcm::manager(label, Protocol::Http, ("route_config", routes), Vec::new())];
    let any = instance.addresses().map(|address| match address {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    });
    let mut body = json!({"traffic_direction": "INBOUND", "filter_chains": [{"filters": filters}]});
    bind(&mut body, any, port);
    resources.listener("envoy_prometheus_metrics_listener".to_owned(), body);
}

/// Where the application listens, as far as the proxy is concerned: on IPv4 if the Pod has it, which a program that knows one
/// family only is likelier to know.
fn application(instance: &Instance) -> IpAddr {
    let mut loopbacks = instance.loopbacks();
    loopbacks.find(IpAddr::is_ipv4).unwrap_or(Ipv6Addr::LOCALHOST.into())
}
