//! Garbage collection: what all its owners have left behind goes; foreground and orphan deletion.

use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;

use super::graph::{Graph, Node};
use super::view::Change;
use super::work::{Controller, Result, settled};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

pub(super) struct Garbage {
    client: kube::Client,
    graph: Arc<Graph>,
}

impl Garbage {
    pub(super) fn new(client: kube::Client, graph: Arc<Graph>) -> Self {
        Self { client, graph }
    }

    /// Deletes an object if it has owners and none of them exists.
    async fn collect(&self, node: &Node) -> Result {
        let owners = node.metadata.owner_references.as_deref().unwrap_or_default();
        if owners.is_empty() || node.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        for owner in owners {
            if self.graph.get(&owner.uid).is_some() {
                return Ok(());
            }
            // The owner may be newer than the watch of its kind.
            let Some(known) = self.graph.kind(&owner.api_version, &owner.kind) else { return Ok(()) };
            let namespace = node.metadata.namespace.as_deref().unwrap_or_default();
            let found = known.api(&self.client, namespace).get_metadata_opt(&owner.name).await?;
            if found.is_some_and(|found| found.metadata.uid.as_deref() == Some(&owner.uid)) {
                return Ok(());
            }
        }
        self.delete(node).await
    }

    async fn delete(&self, node: &Node) -> Result {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let namespace = node.metadata.namespace.as_deref().unwrap_or_default();
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid: node.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        settled(node.known.api(&self.client, namespace).delete(name, &params).await).map(|_| ())
    }

    async fn patch(&self, node: &Node, metadata: serde_json::Value) -> Result {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let namespace = node.metadata.namespace.as_deref().unwrap_or_default();
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let api = node.known.api(&self.client, namespace);
        settled(api.patch_metadata(name, &PatchParams::default(), &patch).await).map(|_| ())
    }

    async fn release(&self, node: &Node, finalizer: &str) -> Result {
        let kept: Vec<_> = node.metadata.finalizers.iter().flatten().filter(|kept| *kept != finalizer).collect();
        // The version: someone else's finalizer must not be lost.
        self.patch(node, json!({ "finalizers": kept, "resourceVersion": node.metadata.resource_version })).await
    }
}

impl Controller for Garbage {
    type Key = String;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(String)) {
        let Some(uid) = &change.metadata.uid else { return };
        let owners = change.metadata.owner_references.as_deref().unwrap_or_default();
        if change.gone {
            tell(uid.clone());
            owners.iter().for_each(|owner| tell(owner.uid.clone()));
        } else if !owners.is_empty() || change.metadata.deletion_timestamp.is_some() {
            tell(uid.clone());
        }
    }

    async fn reconcile(&self, uid: &String) -> Result {
        let Some(node) = self.graph.get(uid) else {
            for dependent in self.graph.dependents(uid) {
                self.collect(&dependent).await?;
            }
            return Ok(());
        };
        let has = |finalizer: &str| node.metadata.finalizers.iter().flatten().any(|found| found == finalizer);
        let deleting = node.metadata.deletion_timestamp.is_some();
        if deleting && has(ORPHAN) {
            for dependent in self.graph.dependents(uid) {
                let others: Vec<_> =
                    dependent.metadata.owner_references.iter().flatten().filter(|owner| owner.uid != *uid).collect();
                self.patch(&dependent, json!({ "ownerReferences": others })).await?;
            }
            return self.release(&node, ORPHAN).await;
        }
        if deleting && has(FOREGROUND) {
            let dependents = self.graph.dependents(uid);
            if dependents.is_empty() {
                return self.release(&node, FOREGROUND).await;
            }
            for dependent in dependents.iter().filter(|dependent| dependent.metadata.deletion_timestamp.is_none()) {
                self.delete(dependent).await?;
            }
            return Ok(());
        }
        self.collect(&node).await
    }
}
