//! Mesh gateways: Pods that say that they are one.

use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::Service;

use super::{Endpoint, Health, Instance, Map, Pod, Scope, contract, health};

/// Pod annotation: what kind of gateway the Pod is.
const KIND: &str = "consul.hashicorp.com/gateway-kind";
/// The only kind that is known here.
const MESH_GATEWAY: &str = "mesh-gateway";
/// Pod annotation: the name of the Consul service.
const SERVICE_NAME: &str = "consul.hashicorp.com/gateway-consul-service-name";
/// Pod annotation: where the gateway listens.
const CONTAINER_PORT: &str = "consul.hashicorp.com/mesh-gateway-container-port";
/// Pod annotation: where its address for others comes from.
const WAN_SOURCE: &str = "consul.hashicorp.com/gateway-wan-address-source";
/// Pod annotation: that address, when it is `Static`.
const WAN_STATIC: &str = "consul.hashicorp.com/gateway-wan-address-static";
/// Pod annotation: the port at that address.
const WAN_PORT: &str = "consul.hashicorp.com/gateway-wan-port";
/// Port of a gateway that does not say.
const DEFAULT_PORT: u16 = 8443;

/// What a gateway has that a sidecar has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gateway {
    /// Where it is reached from outside.
    wan: Option<SocketAddr>,
}

impl Instance {
    /// Where the gateway is reached from inside; `None` while it is not healthy.
    pub(crate) fn lan(&self) -> Option<SocketAddr> {
        (self.health == Health::Passing).then(|| SocketAddr::new(self.address, self.proxy_port))
    }

    /// Where the gateway is reached from outside; `None` while it is not healthy, or is not to be reached.
    pub(crate) fn wan(&self) -> Option<SocketAddr> {
        let wan = self.gateway.as_ref().and_then(|gateway| gateway.wan);
        wan.filter(|_| self.health == Health::Passing)
    }
}

/// Whether the Pod is a gateway of any kind.
pub(super) fn is_one(pod: &Pod) -> bool {
    annotation(pod, KIND).is_some()
}

/// The gateway, nothing while its Pod has no address, or why it cannot be registered.
pub(super) fn instance(scope: &Scope<'_>, endpoint: &Endpoint, pod: &Pod) -> Result<Option<Instance>, String> {
    match annotation(pod, KIND) {
        Some(MESH_GATEWAY) => {}
        kind => {
            let kind = kind.unwrap_or_default();
            return Err(format!(
                "{kind:?} in annotation {KIND} is no gateway of this control plane; it knows {MESH_GATEWAY}"
            ));
        }
    }
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return Ok(None) };
    let (Some(node), Some(host_ip)) = (&spec.node_name, &status.host_ip) else { return Ok(None) };
    let Some(address) = endpoint.addresses.first().and_then(|a| a.parse().ok()) else { return Ok(None) };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let port = port(pod, CONTAINER_PORT)?.unwrap_or(DEFAULT_PORT);
    let wan = wan_host(scope.service, pod, node, host_ip)?;
    let wan_port = self::port(pod, WAN_PORT)?.unwrap_or(443);
    let wan = wan.and_then(|host| host.parse().ok()).map(|host| SocketAddr::new(host, wan_port));
    let service_name = scope.service.metadata.name.as_deref().unwrap_or_default();
    Ok(Some(Instance {
        service: annotation(pod, SERVICE_NAME).unwrap_or(MESH_GATEWAY).to_owned(),
        id: name.clone(),
        proxy_id: name.clone(),
        cluster: scope.cluster,
        node: format!("{node}{}", contract::NODE_SUFFIX),
        node_address: host_ip.clone(),
        address,
        other_addresses: super::pod::other_addresses(status, address),
        sidecar: Ipv4Addr::LOCALHOST.into(),
        proxy_port: port,
        proxy_config: Map::new(),
        port: 0,
        port_name: String::new(),
        more_ports: Vec::new(),
        cluster_ip: None,
        cluster_ips: Vec::new(),
        transparent: false,
        health: health(endpoint),
        expose: Vec::new(),
        metrics: None,
        upstreams: Vec::new(),
        tags: Vec::new(),
        meta: super::pod::meta(pod, service_name, &namespace, &name),
        gateway: Some(Gateway { wan }),
        namespace,
        pod: name,
    }))
}

/// Where the gateway is reached from outside, if anybody knows.
fn wan_host(service: &Service, pod: &Pod, node: &str, host_ip: &str) -> Result<Option<String>, String> {
    Ok(match annotation(pod, WAN_SOURCE) {
        None => None,
        Some("NodeIP") => Some(host_ip.to_owned()),
        Some("NodeName") => Some(node.to_owned()),
        Some("Static") => Some(annotation(pod, WAN_STATIC).unwrap_or_default().to_owned()),
        Some("Service") => of_service(service, host_ip),
        Some(other) => {
            return Err(format!("{other:?} in annotation {WAN_SOURCE} is none of NodeIP, NodeName, Static, Service"));
        }
    })
}

fn of_service(service: &Service, host_ip: &str) -> Option<String> {
    let spec = service.spec.as_ref()?;
    match spec.type_.as_deref() {
        Some("NodePort") => Some(host_ip.to_owned()),
        Some("LoadBalancer") => {
            let status = service.status.as_ref()?.load_balancer.as_ref()?;
            let first = status.ingress.as_ref()?.first()?;
            first.ip.clone().or_else(|| first.hostname.clone())
        }
        _ => spec.cluster_ip.clone(),
    }
}

fn port(pod: &Pod, key: &str) -> Result<Option<u16>, String> {
    let Some(text) = annotation(pod, key) else { return Ok(None) };
    let port = text.parse().ok().filter(|port| *port > 0);
    port.map(Some).ok_or_else(|| format!("{text:?} in annotation {key} is no port, 1 to 65535"))
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
