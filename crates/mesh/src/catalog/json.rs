//! Catalogue entries in the JSON of Consul's HTTP API.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::NODE_META;
use crate::names::DEFAULT;
use crate::registration::{Health, Instance};
use crate::world::World;

/// What an entry of `/v1/catalog/node-services` describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Application,
    Proxy,
    Gateway,
}

impl Kind {
    /// As Consul spells it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Application => "",
            Self::Proxy => "connect-proxy",
            Self::Gateway => "mesh-gateway",
        }
    }
}

/// `GET /v1/catalog/node-services/<node>` before filtering; `merge` adds what central configuration says of the proxies.
pub(crate) fn node_services(world: &World, node: &str, merge: bool) -> (Value, Vec<Value>) {
    let Some(instances) = world.catalog.on_node(node) else { return (Value::Null, Vec::new()) };
    let mut described = Value::Null;
    let mut services = Vec::new();
    for instance in instances {
        described = node_entry(world, instance);
        let kinds: &[Kind] = match &instance.gateway {
            Some(_) => &[Kind::Gateway],
            None => &[Kind::Application, Kind::Proxy],
        };
        services.extend(kinds.iter().map(|kind| agent_service(world, instance, *kind, merge)));
    }
    (described, services)
}

/// The `Node` block.
fn node_entry(world: &World, instance: &Instance) -> Value {
    let mut entry = json!({
        "ID": "", "Node": instance.node, "Address": instance.node_address,
        "Datacenter": world.names.datacenter(), "TaggedAddresses": null,
        "Meta": NODE_META.into_iter().collect::<BTreeMap<_, _>>(),
        "CreateIndex": world.index, "ModifyIndex": world.index,
    });
    if world.config.home.tenancy.is_on() {
        // nodes are in no namespace
        entry["Partition"] = json!(world.names.partition());
    }
    entry
}

/// Where there are partitions, what is in one says so, and names its namespace.
fn tenanted(world: &World, mut entry: Value) -> Value {
    if world.config.home.tenancy.is_on() {
        entry["Partition"] = json!(world.names.partition());
        entry["Namespace"] = json!(DEFAULT);
    }
    entry
}

/// An element of `GET /v1/catalog/service/<name>`: the application, or with `proxy` the proxy.
pub(crate) fn service_entry(world: &World, instance: &Instance, proxy: bool) -> Value {
    let service = agent_service(world, instance, if proxy { Kind::Proxy } else { Kind::Application }, true);
    let mut entry = node_entry(world, instance);
    entry["NodeMeta"] = entry["Meta"].take();
    let names = [
        ("ServiceID", "ID"),
        ("ServiceName", "Service"),
        ("ServiceKind", "Kind"),
        ("ServiceTags", "Tags"),
        ("ServiceAddress", "Address"),
        ("ServicePort", "Port"),
        ("ServiceMeta", "Meta"),
        ("ServiceTaggedAddresses", "TaggedAddresses"),
        ("ServiceWeights", "Weights"),
        ("ServiceProxy", "Proxy"),
        ("ServiceConnect", "Connect"),
        ("ServiceEnableTagOverride", "EnableTagOverride"),
    ];
    for (to, from) in names {
        entry[to] = service[from].clone();
    }
    if let Some(fields) = entry.as_object_mut() {
        fields.remove("Meta");
    }
    tenanted(world, entry)
}

/// An element of `GET /v1/health/service/<name>`.
pub(crate) fn health_entry(world: &World, instance: &Instance, proxy: bool) -> Value {
    let kind = if proxy { Kind::Proxy } else { Kind::Application };
    let service = agent_service(world, instance, kind, true);
    json!({"Node": node_entry(world, instance), "Checks": [check(world, instance, kind)], "Service": service})
}

/// The checks of an application, or with `proxy` of its proxy.
pub(crate) fn check_entry(world: &World, instance: &Instance, proxy: bool) -> Value {
    check(world, instance, if proxy { Kind::Proxy } else { Kind::Application })
}

/// `GET /v1/catalog/nodes` before filtering.
pub(crate) fn nodes(world: &World) -> Vec<Value> {
    let nodes = world.catalog.nodes().filter_map(|node| world.catalog.on_node(node)?.next());
    nodes.map(|instance| node_entry(world, instance)).collect()
}

fn check(world: &World, instance: &Instance, kind: Kind) -> Value {
    let id = if kind == Kind::Application { &instance.id } else { &instance.proxy_id };
    let pod = format!("\"{}/{}\"", instance.namespace, instance.pod);
    let (status, output) = match instance.health {
        Health::Passing => ("passing", "Kubernetes health checks passing".to_owned()),
        Health::NotReady => ("critical", format!("Pod {pod} is not ready")),
        Health::Terminating => ("critical", format!("Pod {pod} is terminating")),
    };
    let check = json!({
        "Node": instance.node, "CheckID": format!("{}/{id}", instance.namespace),
        "Name": "Kubernetes Readiness Check", "Type": "kubernetes-readiness", "Status": status, "Output": output,
        "ServiceID": id, "ServiceName": name(instance, kind), "ServiceTags": instance.tags, "Notes": "", "Interval": "",
        "Timeout": "", "ExposedPort": 0, "Definition": {}, "CreateIndex": world.index, "ModifyIndex": world.index,
    });
    tenanted(world, check)
}

fn name(instance: &Instance, kind: Kind) -> String {
    match kind {
        Kind::Application | Kind::Gateway => instance.service.clone(),
        Kind::Proxy => format!("{}-sidecar-proxy", instance.service),
    }
}

fn agent_service(world: &World, instance: &Instance, kind: Kind, merge: bool) -> Value {
    let proxy = kind == Kind::Proxy;
    let mut tagged = Map::new();
    if let Some((address, port)) = instance.cluster_ip {
        tagged.insert("virtual".to_owned(), json!({"Address": address, "Port": port}));
    }
    let port = if kind == Kind::Application { instance.port } else { instance.proxy_port };
    if let Some(address) = world.vips.get(&instance.service).filter(|_| proxy) {
        tagged.insert("consul-virtual".to_owned(), json!({"Address": address, "Port": port}));
    }
    if kind == Kind::Gateway {
        for (name, at) in [("lan", instance.lan()), ("wan", instance.wan())] {
            if let Some(at) = at {
                tagged.insert(name.to_owned(), json!({"Address": at.ip(), "Port": at.port()}));
            }
        }
    }
    let service = json!({
        "Kind": kind.as_str(),
        "ID": if kind == Kind::Application { &instance.id } else { &instance.proxy_id },
        "Service": name(instance, kind), "Tags": instance.tags, "Meta": instance.meta,
        "Port": port, "Address": instance.address, "TaggedAddresses": tagged,
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
        "Proxy": if proxy { proxy_block(world, instance, merge) } else { json!({}) },
        "Connect": {}, "CreateIndex": world.index, "ModifyIndex": world.index,
    });
    tenanted(world, service)
}

fn proxy_block(world: &World, instance: &Instance, merge: bool) -> Value {
    let upstreams: Vec<Value> = instance
        .upstreams
        .iter()
        .map(|u| {
            json!({
                "DestinationType": "service", "DestinationName": u.service, "DestinationPort": u.port,
                "Datacenter": u.datacenter, "DestinationPeer": u.peer.as_deref().unwrap_or_default(),
                "DestinationPartition": u.partition.as_deref().unwrap_or_default(),
                "LocalBindAddress": u.bind_address, "LocalBindPort": u.bind_port,
                "MeshGateway": u.gateway_mode.map_or_else(|| json!({}), |mode| json!({"Mode": mode.as_str()})),
            })
        })
        .collect();
    let paths: Vec<Value> = instance
        .expose
        .iter()
        .map(|p| json!({"ListenerPort": p.listener_port, "Path": p.path, "LocalPathPort": p.local_path_port}))
        .collect();
    let mut block = json!({
        "DestinationServiceName": instance.service, "DestinationServiceID": instance.id,
        "Mode": if instance.transparent { "transparent" } else { "" },
        "Config": instance.proxy_config, "Upstreams": upstreams, "Expose": {"Paths": paths},
    });
    if instance.port > 0 {
        block["LocalServiceAddress"] = json!("127.0.0.1");
        block["LocalServicePort"] = json!(instance.port);
    }
    if let Some((port, _)) = &instance.metrics {
        let any = if instance.address.is_ipv4() { "0.0.0.0" } else { "[::]" };
        block["Config"]["envoy_prometheus_bind_addr"] = json!(format!("{any}:{port}"));
    }
    if merge {
        block["Config"]["protocol"] = json!(world.config.protocol(&instance.service).as_str());
        block["TransparentProxy"] = json!({"DialedDirectly": world.config.dialed_directly(&instance.service)});
    }
    block
}
