//! Event objects: posted in the background, repeated ones counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// An event that goes on recurring is updated no more often than this.
const UPDATE: Duration = Duration::from_millis(300);

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// What happened to a Pod, or to one of its containers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Happening {
    namespace: String,
    pod: String,
    uid: String,
    field: Option<String>,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// Posts events. Failures to post are nobody's problem.
pub(super) struct Events {
    sender: Mutex<Option<mpsc::UnboundedSender<Happening>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Events {
    pub(super) fn start(client: kube::Client, node: String) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(post_all(client, node, receiver));
        Self { sender: Mutex::new(Some(sender)), task: Mutex::new(Some(task)) }
    }

    /// Records something; `container` when it is about one.
    pub(super) fn record(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let meta = &pod.metadata;
        tracing::debug!(pod = meta.name, container, reason, message, "event");
        let happening = Happening {
            namespace: meta.namespace.clone().unwrap_or_default(),
            pod: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            field: container.map(|name| field_path(pod, name)),
            severity,
            reason,
            message,
        };
        if let Some(sender) = &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            // The task ends only with the kubelet.
            let _ = sender.send(happening);
        }
    }

    /// Posts what is left, for a moment.
    pub(super) async fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(UPDATE, &mut task).await.is_err()
        {
            task.abort();
        }
    }
}

fn field_path(pod: &Pod, container: &str) -> String {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref());
    let ephemeral = spec.and_then(|spec| spec.ephemeral_containers.as_ref());
    let list = if init.is_some_and(|list| list.iter().any(|c| c.name == container)) {
        "initContainers"
    } else if ephemeral.is_some_and(|list| list.iter().any(|c| c.name == container)) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    format!("spec.{list}{{{container}}}")
}

struct Posted {
    name: String,
    count: i32,
    updated: Instant,
}

async fn post_all(client: kube::Client, node: String, mut receiver: mpsc::UnboundedReceiver<Happening>) {
    let mut known: HashMap<Happening, Posted> = HashMap::new();
    while let Some(happening) = receiver.recv().await {
        let api: Api<Event> = Api::namespaced(client.clone(), &happening.namespace);
        if let Some(posted) = known.get_mut(&happening) {
            posted.count += 1;
            if posted.updated.elapsed() >= UPDATE {
                posted.updated = Instant::now();
                let patch = json!({"count": posted.count, "lastTimestamp": Time(Timestamp::now())});
                let _ = api.patch(&posted.name, &PatchParams::default(), &Patch::Merge(patch)).await;
            }
            continue;
        }
        let event = event(&happening, &node);
        let name = event.metadata.name.clone().unwrap_or_default();
        if api.create(&PostParams::default(), &event).await.is_ok() {
            known.insert(happening, Posted { name, count: 1, updated: Instant::now() });
        }
    }
}

fn event(happening: &Happening, node: &str) -> Event {
    let now = Time(Timestamp::now());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:016x}", happening.pod, rand::random::<u64>())),
            namespace: Some(happening.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(happening.namespace.clone()),
            name: Some(happening.pod.clone()),
            uid: Some(happening.uid.clone()),
            field_path: happening.field.clone(),
            ..ObjectReference::default()
        },
        type_: Some(match happening.severity {
            Severity::Normal => "Normal".into(),
            Severity::Warning => "Warning".into(),
        }),
        reason: Some(happening.reason.into()),
        message: Some(happening.message.clone()),
        count: Some(1),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        ..Event::default()
    }
}
