//! The annotations and labels that the webhook writes for the control plane, the CNI plugin and people.

use crate::access_log::AccessLog;
use crate::intent::Intent;
use crate::{Settings, keys, original};
use k8s_openapi::api::core::v1::{Container, Pod};
use redirect::contract::{
    CONNECT_INJECT_MANAGED_BY, CONNECT_INJECT_STATUS, CONNECT_K8S_VERSION, CONNECT_SERVICE_PORT, CONSUL_K8S_VERSION,
    CONSUL_NAMESPACE, DUAL_STACK, ENABLED, INJECTED, MANAGED_BY, ORIGINAL_POD, PROMETHEUS_PATH, PROMETHEUS_PORT,
    PROMETHEUS_SCRAPE, REDIRECT_TRAFFIC_CONFIG, TRANSPARENT_PROXY_STATUS,
};

/// Version of this webhook, as the annotations show it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What annotations say about the Pod as it was received.
pub(crate) struct Received {
    original: String,
    service_port: Option<String>,
}

impl Received {
    /// To be called before anything is changed. `text` is the Pod's own, where somebody has it.
    pub(crate) fn of(pod: &Pod, text: Option<String>, intent: &Intent) -> Self {
        let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
        Self {
            original: original::json(pod, text, &intent.probes.unchanged),
            service_port: first.and_then(default_ports),
        }
    }
}

/// Writes them.
pub(crate) fn write(pod: &mut Pod, received: Received, intent: &Intent, settings: &Settings) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    if let Some(ports) = received.service_port {
        annotations.entry(CONNECT_SERVICE_PORT.to_owned()).or_insert(ports);
    }
    // What the webhook alone may say is taken away where it has nothing to say: written by hand it would be a lie.
    let status = intent.redirection.as_ref().map(|_| ENABLED.to_owned());
    let config = intent.redirection.as_ref().filter(|_| settings.cni).map(redirect::Config::to_json);
    let logs = intent.access_log.as_ref();
    let log_file = logs.and_then(|log| match log {
        AccessLog::File { path, .. } => Some(path.clone()),
        AccessLog::Stream => None,
    });
    for (key, value) in [
        (ORIGINAL_POD, Some(received.original)),
        (CONNECT_K8S_VERSION, Some(VERSION.to_owned())),
        (CONSUL_K8S_VERSION, Some(VERSION.to_owned())),
        (CONNECT_INJECT_STATUS, Some(INJECTED.to_owned())),
        (DUAL_STACK, Some(settings.dual_stack.to_string())),
        (TRANSPARENT_PROXY_STATUS, status),
        (REDIRECT_TRAFFIC_CONFIG, config),
        (keys::IMPLICIT_EXCLUSIONS, intent.redirection.as_ref().map(|_| intent.implicit.join(", "))),
        (CONSUL_NAMESPACE, intent.consul_namespace.clone()),
        (keys::ACCESS_LOG_ENABLED, logs.map(|_| "true".to_owned())),
        (keys::ACCESS_LOG_PATH, log_file),
    ] {
        match value {
            Some(value) => annotations.insert(key.to_owned(), value),
            None => annotations.remove(key),
        };
    }
    if intent.metrics.enabled {
        annotations.insert(PROMETHEUS_SCRAPE.to_owned(), "true".to_owned());
        annotations.insert(PROMETHEUS_PORT.to_owned(), intent.metrics.scrape_port.to_string());
        annotations.insert(PROMETHEUS_PATH.to_owned(), intent.metrics.scrape_path.clone());
    }
    label(pod);
}

/// Puts the marks back on a Pod that has lost them, so that the control plane knows it again.
pub(crate) fn restore(pod: &mut Pod) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(CONNECT_INJECT_STATUS.to_owned(), INJECTED.to_owned());
    label(pod);
}

fn label(pod: &mut Pod) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(CONNECT_INJECT_STATUS.to_owned(), INJECTED.to_owned());
    labels.insert(CONNECT_INJECT_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
}

/// The first container's ports, by name where they have one.
fn default_ports(container: &Container) -> Option<String> {
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty())?;
    let names = ports.iter().map(|port| match &port.name {
        Some(name) if !name.is_empty() => name.clone(),
        _ => port.container_port.to_string(),
    });
    Some(names.collect::<Vec<_>>().join(","))
}
