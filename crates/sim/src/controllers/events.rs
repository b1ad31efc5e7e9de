//! Events and the condition that say why a set cannot make its Pods.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

pub(super) fn now() -> Time {
    Time(Timestamp::now())
}

/// Tells of something about an object; the same words about it are told once. Failing to is no failure.
pub(super) async fn warn<K: Resource<DynamicType = ()>>(
    client: &kube::Client,
    object: &K,
    component: &str,
    reason: &str,
    message: &str,
) {
    let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
    let uid = object.uid().unwrap_or_default();
    let digest = Sha256::digest(format!("{uid}/{reason}/{message}"));
    let suffix: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{suffix}", object.name_any())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(object.name_any()),
            namespace: object.namespace(),
            uid: Some(uid),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        first_timestamp: Some(now()),
        last_timestamp: Some(now()),
        count: Some(1),
        ..Event::default()
    };
    if let Err(error) =
        Api::<Event>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &event).await
    {
        tracing::debug!(%error, reason, "event not recorded");
    }
}

/// The words of an API error, as an event or a condition quotes them.
pub(super) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
