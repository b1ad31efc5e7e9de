//! Which Pods are registered as which Consul services: one instance for each Pod that a Service selects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use redirect::contract;
use serde_json::{Map, Value};

use crate::config::ExposePath;
use crate::go;
use crate::tenancy::Tenancy;
use crate::upstreams::{self, Upstream};

mod gateway;
mod pod;

pub(crate) use gateway::Gateway;
pub(crate) use pod::cluster_ips;

/// An application in a Pod and the proxy beside it, as they are registered together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) service: String,
    /// `<pod>-<service>`.
    pub(crate) id: String,
    /// `<pod>-<service>-sidecar-proxy`.
    pub(crate) proxy_id: String,
    /// The Kubernetes cluster that the Pod is in, by its place among those of the datacenter.
    pub(crate) cluster: usize,
    /// The Consul node, `<Kubernetes node>-virtual`.
    pub(crate) node: String,
    pub(crate) node_address: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) address: IpAddr,
    /// The Pod's addresses of the other family, in dual stack.
    pub(crate) other_addresses: Vec<IpAddr>,
    /// Where the sidecar's own listeners are: on the loopback of IPv6 if the Pod was injected for dual stack.
    pub(crate) sidecar: IpAddr,
    /// Where the proxy is registered to listen: 20000, one more for each service before it in a Pod of several.
    pub(crate) proxy_port: u16,
    /// The Pod's own configuration of the proxy.
    pub(crate) proxy_config: Map<String, Value>,
    /// The application's port; 0 when it has none.
    pub(crate) port: u16,
    /// What `port` is called.
    pub(crate) port_name: String,
    /// Further ports of the application that clients can mean.
    pub(crate) more_ports: Vec<NamedPort>,
    /// ClusterIP of the Service and the Service port that leads to `port` (0 if none does); only with transparent proxy.
    pub(crate) cluster_ip: Option<(IpAddr, u16)>,
    /// The Service's ClusterIPs of both families; only with transparent proxy.
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) transparent: bool,
    pub(crate) health: Health,
    pub(crate) expose: Vec<ExposePath>,
    /// Port and path where Prometheus scrapes.
    pub(crate) metrics: Option<(u16, String)>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: BTreeMap<String, String>,
    /// Set if this is no application with its proxy but a gateway, which `proxy_id` and `proxy_port` are of.
    pub(crate) gateway: Option<Gateway>,
}

impl Instance {
    /// All addresses of the Pod, [`Self::address`] first.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.address).chain(self.other_addresses.iter().copied())
    }

    /// The further port of this name.
    pub(crate) fn named_port(&self, name: &str) -> Option<&NamedPort> {
        self.more_ports.iter().find(|port| port.name == name)
    }

    /// The loopback address of each of the Pod's families, that of [`Self::address`] first.
    pub(crate) fn loopbacks(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().map(|address| match address {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        })
    }
}

/// A port of an application beside its default one. Consul calls a service that has such a multi-port service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedPort {
    /// As the Service calls it, or else the container.
    pub(crate) name: String,
    /// Where the application listens.
    pub(crate) port: u16,
    /// The Service's port that leads there.
    pub(crate) service_port: Option<u16>,
}

/// Health as the readiness of the Pod gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Passing,
    NotReady,
    Terminating,
}

/// What a Service's registration needs to know of the cluster.
pub(crate) struct Scope<'a> {
    /// The cluster's place among those of the datacenter.
    pub(crate) cluster: usize,
    pub(crate) tenancy: &'a Tenancy,
    pub(crate) service: &'a Service,
    pub(crate) slices: Vec<&'a EndpointSlice>,
    pub(crate) pods: &'a BTreeMap<(String, String), Pod>,
}

/// A Pod that could not be registered, and why.
pub(crate) type Refused = (String, String);

/// Namespaces whose Pods are never registered.
const IGNORED_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "local-path-storage"];

/// Registers the Pods of one Service.
pub(crate) fn register(scope: &Scope<'_>) -> (Vec<Instance>, Vec<Refused>) {
    let labels = scope.service.metadata.labels.as_ref();
    let ignored = labels.and_then(|l| l.get(contract::SERVICE_IGNORE)).and_then(|v| go::bool(v)) == Some(true);
    let namespace = scope.service.metadata.namespace.as_deref().unwrap_or_default();
    if ignored || IGNORED_NAMESPACES.contains(&namespace) {
        return (Vec::new(), Vec::new());
    }
    let (mut instances, mut refused) = (BTreeMap::new(), Vec::new());
    for endpoint in endpoints(scope) {
        let Some(pod_name) = endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod")) else {
            continue;
        };
        let key = (namespace.to_owned(), pod_name.name.clone().unwrap_or_default());
        let Some(pod) = scope.pods.get(&key) else { continue };
        let made = match gateway::is_one(pod) {
            true => gateway::instance(scope, endpoint, pod),
            false => pod::instance(scope, endpoint, pod),
        };
        match made {
            Ok(Some(instance)) => drop(instances.insert(instance.proxy_id.clone(), instance)),
            Ok(None) => {}
            Err(message) => refused.push((format!("Pod {}/{}", key.0, key.1), message)),
        }
    }
    (instances.into_values().collect(), refused)
}

/// The endpoints of the Service's first address family, which is all that the older Endpoints object lists.
fn endpoints<'a>(scope: &Scope<'a>) -> Vec<&'a Endpoint> {
    let families = scope.service.spec.as_ref().and_then(|s| s.ip_families.as_ref());
    let first = families.and_then(|f| f.first()).map(String::as_str);
    let wanted = first.or_else(|| {
        let types = || scope.slices.iter().map(|s| s.address_type.as_str());
        types().find(|t| *t == "IPv4").or_else(|| types().next())
    });
    let slices = scope.slices.iter().filter(|s| Some(s.address_type.as_str()) == wanted);
    slices.flat_map(|s| s.endpoints.iter().flatten()).collect()
}

fn health(endpoint: &Endpoint) -> Health {
    let conditions = endpoint.conditions.as_ref();
    if conditions.and_then(|c| c.terminating) == Some(true) {
        Health::Terminating
    } else if conditions.and_then(|c| c.ready).unwrap_or(true) {
        Health::Passing
    } else {
        Health::NotReady
    }
}

#[cfg(test)]
mod tests;
