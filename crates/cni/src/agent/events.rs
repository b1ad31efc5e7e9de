//! Events of Pods and of the node. They are told in version v1 of the core group, which every API server has.

use crate::node::PodName;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

const COMPONENT: &str = "consul-cni";
/// The API server's limit for a message, in bytes.
const LONGEST: usize = 1024;
/// What is forgotten is told as if for the first time.
const REMEMBERED: usize = 4096;

/// Tells, always as a warning. Clones count together.
#[derive(Clone)]
pub(super) struct Events {
    client: Client,
    node: String,
    counts: Arc<Mutex<HashMap<String, i32>>>,
}

impl Events {
    pub(super) fn new(client: Client, node: String) -> Self {
        Self { client, node, counts: Arc::default() }
    }

    /// Tells of a Pod. One that is told again is counted. What cannot be told is no reason to fail.
    pub(super) async fn tell(&self, pod: &PodName, reason: &str, message: &str) {
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        };
        self.tell_of(object, reason, message).await;
    }

    /// Tells of the node.
    pub(super) async fn tell_of_node(&self, reason: &str, message: &str) {
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            // as kubelets have it
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.tell_of(object, reason, message).await;
    }

    async fn tell_of(&self, object: ObjectReference, reason: &str, message: &str) {
        let message = cut(message);
        let mut hasher = DefaultHasher::new();
        (&object.uid, reason, message).hash(&mut hasher);
        let (namespace, of) =
            (object.namespace.clone().unwrap_or_else(|| "default".to_owned()), object.name.clone().unwrap_or_default());
        let name = format!("{of}.{:016x}", hasher.finish());
        let count = {
            // a panic elsewhere leaves a map that is still a map
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if counts.len() > REMEMBERED {
                counts.clear();
            }
            *counts.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1)
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = Time(Timestamp::now());
        if count > 1 {
            let patch = Patch::Merge(json!({"count": count, "lastTimestamp": now}));
            if api.patch(&name, &PatchParams::default(), &patch).await.is_ok() {
                return;
            }
        }
        let event = Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: object,
            type_: Some("Warning".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: Some(self.node.clone()) }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node.clone()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(count),
            ..Event::default()
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            // an agent before this one has told it
            Err(kube::Error::Api(answer)) if answer.code == 409 => {}
            Err(error) => tracing::debug!(reason, error = crate::plugin::causes(&error), "an event was not told"),
        }
    }
}

fn cut(message: &str) -> &str {
    let end = (0..=LONGEST.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or(0)]
}
