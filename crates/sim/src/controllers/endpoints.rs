//! EndpointSlices: which Pods stand behind a Service, under which addresses and ports, in which condition.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Resource, ResourceExt};

use super::pods;
use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use crate::Families;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) struct Endpoints {
    client: kube::Client,
    view: Arc<View>,
    families: Families,
}

impl Endpoints {
    pub(super) fn new((client, view): (kube::Client, Arc<View>), families: Families) -> Self {
        Self { client, view, families }
    }

    fn families(&self, spec: &ServiceSpec) -> Vec<String> {
        match spec.ip_families.as_deref() {
            Some(families) if !families.is_empty() => families.to_vec(),
            _ => match self.families {
                Families::V4 | Families::UnannouncedV6 => vec!["IPv4".to_owned()],
                Families::V6 => vec!["IPv6".to_owned()],
                Families::Dual => vec!["IPv4".to_owned(), "IPv6".to_owned()],
            },
        }
    }

    /// The slices that a Service should have: one per family and set of port numbers.
    fn wanted(&self, service: &Service, spec: &ServiceSpec) -> Vec<EndpointSlice> {
        let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else { return Vec::new() };
        let behind = self.view.pods.select(|pod| {
            pod.metadata.namespace == service.metadata.namespace && selects(selector, pod) && !pods::is_finished(pod)
        });
        let mut slices = Vec::new();
        for family in self.families(spec) {
            let mut by_ports: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
            for pod in &behind {
                let Some(endpoint) = endpoint(service, spec, pod, &family) else { continue };
                let ports = ports(spec, pod);
                match by_ports.iter_mut().find(|(found, _)| *found == ports) {
                    Some((_, endpoints)) => endpoints.push(endpoint),
                    None => by_ports.push((ports, vec![endpoint])),
                }
            }
            if by_ports.is_empty() {
                // An empty slice says that the Service was seen and has nobody.
                by_ports.push((Vec::new(), Vec::new()));
            }
            slices.extend(by_ports.into_iter().map(|(ports, endpoints)| slice(service, &family, ports, endpoints)));
        }
        slices
    }

    async fn write(&self, service: &Service, wanted: Vec<EndpointSlice>) -> Result {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &service.namespace().unwrap_or_default());
        let mut found = self.view.slices.select(|slice| {
            let uid = service.metadata.uid.as_deref();
            slice.metadata.namespace == service.metadata.namespace && pods::is_controlled_by(&slice.metadata, uid)
        });
        for mut slice in wanted {
            // The slice with the same ports is kept, else any of the family: watchers see one object change.
            let family = |old: &&Arc<EndpointSlice>| old.address_type == slice.address_type;
            let same = found.iter().position(|old| family(&old) && old.ports == slice.ports);
            match same.or_else(|| found.iter().position(|old| family(&old))).map(|at| found.swap_remove(at)) {
                Some(old)
                    if old.endpoints == slice.endpoints
                        && old.ports == slice.ports
                        && old.labels() == slice.labels() => {}
                Some(old) => {
                    slice.metadata.name = old.metadata.name.clone();
                    slice.metadata.generate_name = old.metadata.generate_name.clone();
                    slice.metadata.resource_version = old.metadata.resource_version.clone();
                    let written = api.replace(&old.name_any(), &PostParams::default(), &slice).await;
                    if let Some(written) = settled(written)? {
                        self.view.slices.observe(Arc::new(written));
                    }
                }
                None => {
                    if let Some(created) = settled(api.create(&PostParams::default(), &slice).await)? {
                        self.view.slices.observe(Arc::new(created));
                    }
                }
            }
        }
        for surplus in found {
            settled(api.delete(&surplus.name_any(), &DeleteParams::default()).await)?;
            self.view.slices.remove(&surplus);
        }
        Ok(())
    }
}

fn selects(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
}

fn slice(service: &Service, family: &str, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: service.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

fn endpoint(service: &Service, spec: &ServiceSpec, pod: &Pod, family: &str) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    let address = all.into_iter().find(|ip| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == (family == "IPv4")))?;
    let ready = pods::is_ready(pod);
    let terminating = pods::is_deleting(pod);
    let pod_spec = pod.spec.as_ref()?;
    let named = pod_spec.subdomain.is_some() && pod_spec.subdomain == service.metadata.name;
    Some(Endpoint {
        addresses: vec![address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(spec.publish_not_ready_addresses == Some(true) || (ready && !terminating)),
            serving: Some(ready),
            terminating: Some(terminating),
        }),
        hostname: pod_spec.hostname.clone().filter(|_| named),
        node_name: pod_spec.node_name.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// The Service's ports as this Pod has them: a named target port is looked up in its containers.
fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let mut ports = Vec::new();
    for port in spec.ports.iter().flatten() {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(name)) => named_port(pod, name, &protocol),
        };
        if let Some(number) = number {
            ports.push(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number),
                protocol: Some(protocol),
                app_protocol: port.app_protocol.clone(),
            });
        }
    }
    ports
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    // An init container that goes on running is a sidecar, and may listen.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let same = |found: &Option<String>| found.as_deref().unwrap_or("TCP") == protocol;
    all.into_iter()
        .find(|port| port.name.as_deref() == Some(name) && same(&port.protocol))
        .map(|port| port.container_port)
}

/// What of a Pod its endpoints depend on.
fn facts(pod: &Pod) -> impl PartialEq + use<'_> {
    let status = pod.status.as_ref();
    (
        pod.labels(),
        status.map(|status| (&status.pod_ip, &status.pod_ips)),
        pods::is_ready(pod),
        pods::is_deleting(pod),
        pods::is_finished(pod),
        pod.spec.as_ref().map(|spec| (&spec.node_name, &spec.hostname)),
    )
}

impl Controller for Endpoints {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        match change.object {
            Object::Service(service) if !change.gone => {
                tell((service.namespace().unwrap_or_default(), service.name_any()))
            }
            Object::EndpointSlice(slice) if change.gone => {
                if let Some(name) = pods::controller_name(&slice.metadata, "Service") {
                    tell(name);
                }
            }
            Object::Pod(pod) => {
                let before = match change.before {
                    Some(Object::Pod(before)) => Some(before),
                    _ => None,
                };
                if !change.gone && before.is_some_and(|before| facts(before) == facts(pod)) {
                    return;
                }
                for service in self.view.services.select(|service| service.metadata.namespace == pod.metadata.namespace)
                {
                    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                    let of =
                        |pod: &Pod| selector.is_some_and(|selector| !selector.is_empty() && selects(selector, pod));
                    if of(pod) || before.is_some_and(of) {
                        tell((service.namespace().unwrap_or_default(), service.name_any()));
                    }
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(service) = self.view.services.get(key) else { return Ok(()) };
        let Some(spec) = service.spec.as_ref() else { return Ok(()) };
        // Without a selector, whoever made the Service also makes its endpoints.
        if service.metadata.deletion_timestamp.is_some() || spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
            return Ok(());
        }
        let wanted = self.wanted(&service, spec);
        self.write(&service, wanted).await
    }
}
