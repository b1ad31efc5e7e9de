//! The kinds that controllers look at besides those they work on, and how objects of any kind are reached.

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};

/// A kind, reachable without its type.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) resource: ApiResource,
    pub(super) namespaced: bool,
}

impl Known {
    pub(super) fn new(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Self {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Self { resource: ApiResource::from_gvk_with_plural(&gvk, plural), namespaced }
    }

    /// The objects of a namespace, or of the cluster when the kind has no namespaces.
    pub(super) fn api(&self, client: &kube::Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client.clone(), namespace, &self.resource)
        } else {
            Api::all_with(client.clone(), &self.resource)
        }
    }
}

/// Kinds of which only the metadata is looked at: they can own and be owned.
pub(super) fn metadata_only() -> Vec<Known> {
    vec![
        Known::new("", "v1", "Secret", "secrets", true),
        Known::new("", "v1", "ConfigMap", "configmaps", true),
        Known::new("", "v1", "ServiceAccount", "serviceaccounts", true),
        Known::new("", "v1", "Endpoints", "endpoints", true),
        Known::new("rbac.authorization.k8s.io", "v1", "Role", "roles", true),
        Known::new("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", true),
        Known::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ]
}

/// Kinds that go with their namespace and that nobody watches.
pub(super) fn unwatched() -> Vec<Known> {
    vec![
        Known::new("", "v1", "Event", "events", true),
        Known::new("coordination.k8s.io", "v1", "Lease", "leases", true),
    ]
}
