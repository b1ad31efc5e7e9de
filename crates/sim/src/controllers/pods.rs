//! What all workload controllers ask of Pods, and how they make and delete them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

use super::view::View;
use super::work::{Name, Result, settled};

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

pub(super) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(super) fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether a Pod counts for its set's replicas.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleting(pod)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The controller that an object belongs to.
pub(super) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub(super) fn is_controlled_by(metadata: &ObjectMeta, uid: Option<&str>) -> bool {
    controller(metadata).is_some_and(|owner| Some(owner.uid.as_str()) == uid)
}

/// Name of the controller of a kind, as a key.
pub(super) fn controller_name(metadata: &ObjectMeta, kind: &str) -> Option<Name> {
    let owner = controller(metadata).filter(|owner| owner.kind == kind)?;
    Some((metadata.namespace.clone().unwrap_or_default(), owner.name.clone()))
}

/// The Pods of an object, those that are going included.
pub(super) fn controlled_by(view: &View, owner: &ObjectMeta) -> Vec<Arc<Pod>> {
    let uid = owner.uid.as_deref();
    view.pods.select(|pod| pod.metadata.namespace == owner.namespace && is_controlled_by(&pod.metadata, uid))
}

/// A Pod as the template says, controlled by `owner`. The caller names it.
pub(super) fn from_template<K: Resource<DynamicType = ()>>(owner: &K, template: &PodTemplateSpec) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: owner.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

pub(super) fn label(pod: &mut Pod, key: &str, value: impl Into<String>) {
    pod.metadata.labels.get_or_insert_with(BTreeMap::new).insert(key.to_owned(), value.into());
}

/// Creates a Pod and puts it into the view. Nothing when its name is taken.
pub(super) async fn create(client: &kube::Client, view: &View, pod: &Pod) -> Result<Option<Arc<Pod>>> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match api.create(&PostParams::default(), pod).await {
        Ok(created) => {
            let created = Arc::new(created);
            view.pods.observe(created.clone());
            Ok(Some(created))
        }
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a Pod, just this one, and tells the view.
pub(super) async fn delete(client: &kube::Client, view: &View, pod: &Pod) -> Result {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match settled(api.delete(&pod.name_any(), &params).await)? {
        Some(outcome) => match outcome.left() {
            Some(marked) => {
                view.pods.observe(Arc::new(marked));
            }
            None => view.pods.remove(pod),
        },
        None => view.pods.remove(pod),
    }
    Ok(())
}

/// Ten characters that are the same for the same template, in the alphabet of generated names.
pub(super) fn template_hash(template: &PodTemplateSpec) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Maps of the type are ordered, so equal templates have equal text.
    let text = serde_json::to_vec(template).unwrap_or_default();
    let digest = Sha256::digest(text);
    digest.iter().take(10).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}
