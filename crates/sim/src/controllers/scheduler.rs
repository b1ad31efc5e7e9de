//! Puts Pods on nodes, in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use super::{events, pods};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// Honours `nodeName` (nothing to do), `nodeSelector` and cordoned nodes; no affinity, no resources.
pub(super) struct Scheduler {
    client: kube::Client,
    view: Arc<View>,
    nodes: Vec<String>,
    next: AtomicUsize,
}

impl Scheduler {
    pub(super) fn new((client, view): (kube::Client, Arc<View>), nodes: Vec<String>) -> Self {
        Self { client, view, nodes, next: AtomicUsize::new(0) }
    }

    fn choose(&self, pod: &Pod) -> Option<&str> {
        let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
        let fits = |name: &String| {
            let node = self.view.nodes.get(&(String::new(), name.clone()));
            let cordoned =
                node.as_deref().and_then(|node: &Node| node.spec.as_ref()).and_then(|spec| spec.unschedulable);
            let has = |key: &String, value: &String| {
                let label = node.as_deref().and_then(|node| node.labels().get(key));
                label == Some(value) || (key == HOSTNAME && label.is_none() && value == name)
            };
            cordoned != Some(true) && selector.into_iter().flatten().all(|(key, value)| has(key, value))
        };
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.nodes.len();
        (0..count).map(|step| &self.nodes[(start + step) % count]).find(|name| fits(name)).map(String::as_str)
    }

    async fn unschedulable(&self, pod: &Pod) -> Result {
        let told = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        if told.into_iter().any(|condition| condition.type_ == "PodScheduled" && condition.status == "False") {
            return Ok(());
        }
        let message = format!(
            "0/{} nodes are available: none matches the Pod's node selector and is schedulable.",
            self.nodes.len()
        );
        events::warn(&self.client, pod, "default-scheduler", "FailedScheduling", &message).await;
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": events::now(),
        });
        let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
        let api = Api::<Pod>::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        settled(api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await).map(|_| ())
    }
}

fn wants_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let ours = spec.scheduler_name.as_deref().is_none_or(|name| name == "default-scheduler");
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    ours && !gated && spec.node_name.as_deref().is_none_or(str::is_empty) && pods::is_active(pod)
}

impl Controller for Scheduler {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        let name = |pod: &Pod| (pod.namespace().unwrap_or_default(), pod.name_any());
        match change.object {
            Object::Pod(pod) if !change.gone && wants_node(pod) => tell(name(pod)),
            // A new label or an uncordoned node may be what a Pod waits for; a heartbeat is not.
            Object::Node(node) if !change.gone => {
                let place =
                    |node: &Node| (node.labels().clone(), node.spec.as_ref().and_then(|spec| spec.unschedulable));
                let same = matches!(change.before, Some(Object::Node(before)) if place(before) == place(node));
                if !same {
                    self.view.pods.select(wants_node).iter().for_each(|pod| tell(name(pod)));
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(pod) = self.view.pods.get(key).filter(|pod| wants_node(pod)) else { return Ok(()) };
        let Some(node) = self.choose(&pod) else { return self.unschedulable(&pod).await };
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": { "name": key.1, "namespace": key.0 },
            "target": { "apiVersion": "v1", "kind": "Node", "name": node },
        });
        let request = http::Request::post(format!("/api/v1/namespaces/{}/pods/{}/binding", key.0, key.1))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(binding.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        settled(self.client.request_text(request).await).map(|_| ())
    }
}
