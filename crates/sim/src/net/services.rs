//! Services and their endpoints as the service proxy and the DNS see them: followed, not asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The label by which an EndpointSlice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// All Services at one moment, by namespace and name. `None` until the first lists have arrived.
pub(crate) type Snapshot = Option<Arc<BTreeMap<(String, String), ServiceView>>>;

/// What matters of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServiceView {
    /// Empty for a headless Service and for `ExternalName`.
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) headless: bool,
    /// The name that an `ExternalName` Service stands for.
    pub(crate) external_name: Option<String>,
    pub(crate) publish_not_ready: bool,
    /// Traffic from outside goes only to endpoints on the node it came to.
    pub(crate) external_local: bool,
    /// Traffic from Pods goes only to endpoints on their node.
    pub(crate) internal_local: bool,
    pub(crate) ports: Vec<PortView>,
    pub(crate) endpoints: Vec<EndpointView>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortView {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

/// Protocols that the lab carries. SCTP is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// An endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointView {
    pub(crate) address: IpAddr,
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) ports: Vec<(String, Protocol, u16)>,
}

impl Protocol {
    /// As iptables and DNS write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some(_) => None,
        }
    }
}

impl ServiceView {
    fn new(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let external = spec.type_.as_deref() == Some("ExternalName");
        let ips = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.clone().into_iter().collect());
        Self {
            cluster_ips: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
            headless: spec.cluster_ip.as_deref() == Some("None"),
            external_name: spec.external_name.filter(|_| external),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            ports: spec
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(|port| {
                    Some(PortView {
                        protocol: Protocol::parse(port.protocol.as_deref())?,
                        port: u16::try_from(port.port).ok()?,
                        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()),
                        name: port.name.unwrap_or_default(),
                    })
                })
                .collect(),
            endpoints: Vec::new(),
        }
    }

    fn add(&mut self, slice: &EndpointSlice) {
        let ports: Vec<_> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let protocol = Protocol::parse(port.protocol.as_deref())?;
                Some((port.name.clone().unwrap_or_default(), protocol, u16::try_from(port.port?).ok()?))
            })
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            // Unset means ready, as the API's documentation says.
            let ready = conditions.ready.unwrap_or(true);
            for address in endpoint.addresses.iter().filter_map(|address| address.parse().ok()) {
                self.endpoints.push(EndpointView {
                    address,
                    hostname: endpoint.hostname.clone(),
                    node: endpoint.node_name.clone(),
                    ready,
                    serving: conditions.serving.unwrap_or(ready),
                    terminating: conditions.terminating.unwrap_or_default(),
                    ports: ports.clone(),
                });
            }
        }
    }
}

/// Puts Services and slices together.
fn join<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> BTreeMap<(String, String), ServiceView> {
    let key = |namespace: &Option<String>, name: &str| (namespace.clone().unwrap_or_default(), name.to_owned());
    let mut views: BTreeMap<_, _> = services
        .into_iter()
        .map(|service| {
            let name = service.metadata.name.clone().unwrap_or_default();
            (key(&service.metadata.namespace, &name), ServiceView::new(service))
        })
        .collect();
    for slice in slices {
        let owner = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let Some(view) = owner.and_then(|name| views.get_mut(&key(&slice.metadata.namespace, name))) {
            view.add(slice);
        }
    }
    for view in views.values_mut() {
        view.endpoints.sort_by_key(|endpoint| endpoint.address);
    }
    views
}

/// Follows the cluster's Services until `stop`. The receiver sees every change, several at once when they come fast.
pub(crate) fn follow(client: &Client, stop: CancellationToken) -> watch::Receiver<Snapshot> {
    let (sender, receiver) = watch::channel(None);
    let (services, service_writer) = reflector::store();
    let (slices, slice_writer) = reflector::store();
    let touched_services = watcher(Api::<Service>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(service_writer)
        .map(|event| event.map(drop))
        .boxed();
    let touched_slices = watcher(Api::<EndpointSlice>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(slice_writer)
        .map(|event| event.map(drop))
        .boxed();
    let mut events = futures::stream::select(touched_services, touched_slices);
    tokio::spawn(async move {
        // Events that wait already are taken together.
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            if let Err(error) = event {
                tracing::warn!(%error, "watching services");
                continue;
            }
            if listed(&services) && listed(&slices) {
                let (services, slices) = (services.state(), slices.state());
                let views = join(services.iter().map(Arc::as_ref), slices.iter().map(Arc::as_ref));
                sender.send_if_modified(|now| {
                    let changed = now.as_deref() != Some(&views);
                    if changed {
                        *now = Some(Arc::new(views));
                    }
                    changed
                });
            }
        }
    });
    receiver
}

/// Whether a store has had its first complete list.
fn listed<K>(store: &Store<K>) -> bool
where
    K: reflector::Lookup + Clone + 'static,
    K::DynamicType: Clone + Eq + std::hash::Hash,
    ObjectRef<K>: Sized,
{
    use futures::FutureExt;
    matches!(store.wait_until_ready().now_or_never(), Some(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_json<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("a valid object")
    }

    #[test]
    fn endpoints_go_to_the_service_their_label_names_in_their_namespace() {
        let service: Service = from_json(serde_json::json!({
            "metadata": {"namespace": "a", "name": "web"},
            "spec": {"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"],
                     "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "s", "port": 1, "protocol": "SCTP"}]}
        }));
        let slice = |namespace: &str| -> EndpointSlice {
            from_json(serde_json::json!({
                "metadata": {"namespace": namespace, "name": "web-1", "labels": {SERVICE_NAME: "web"}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": ["10.244.0.9"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                              {"addresses": ["10.244.0.3"]}]
            }))
        };
        let views = join([&service], [&slice("a"), &slice("b")]);
        let view = &views[&("a".to_owned(), "web".to_owned())];
        assert_eq!(views.len(), 1);
        assert_eq!(view.ports.len(), 1, "SCTP is left out: {view:?}");
        assert_eq!(view.ports[0].node_port, Some(30080));
        let endpoints: Vec<_> = view.endpoints.iter().map(|e| (e.address.to_string(), e.ready, e.serving)).collect();
        assert_eq!(endpoints, [("10.244.0.3".to_owned(), true, true), ("10.244.0.9".to_owned(), false, true)]);
    }

    #[test]
    fn a_headless_service_has_no_address() {
        let service: Service = from_json(
            serde_json::json!({"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]}}),
        );
        let view = ServiceView::new(&service);
        assert!(view.headless && view.cluster_ips.is_empty());
    }
}
