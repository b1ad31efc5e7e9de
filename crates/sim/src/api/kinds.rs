//! The kinds that the server serves: the built-in table and what custom resource definitions add to it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::{admissionregistration, apps, batch, coordination, core, discovery, policy, rbac};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use serde_json::Value;

use super::codec::{Codec, typed};

/// A kind in one version, as discovery tells it.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short: Vec<String>,
    pub(crate) namespaced: bool,
    /// Whether `/status` exists and the main endpoint leaves `status` alone.
    pub(crate) status: bool,
    pub(crate) scale: bool,
    /// The typed reader; absent for custom resources, which have a schema.
    pub(crate) codec: Option<Codec>,
    /// The schema of a custom resource; absent for built-in kinds.
    pub(crate) schema: Option<Value>,
    /// Where the store keeps the objects of every version.
    pub(crate) shelf: String,
}

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub(crate) fn is_pod(&self) -> bool {
        self.is("", "pods")
    }
}

/// Name of a resource's shelf in the store.
pub(crate) fn shelf(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

struct Builtin(&'static str, &'static str, &'static str, &'static str, &'static [&'static str], Traits, Codec);

/// Namespaced, has `/status`, has `/scale`.
struct Traits(bool, bool, bool);

const NAMESPACED: Traits = Traits(true, false, false);
const WITH_STATUS: Traits = Traits(true, true, false);
const SCALABLE: Traits = Traits(true, true, true);
const CLUSTER: Traits = Traits(false, false, false);
const CLUSTER_WITH_STATUS: Traits = Traits(false, true, false);

fn builtins() -> Vec<Builtin> {
    use Builtin as B;
    vec![
        B("", "v1", "Pod", "pods", &["po"], WITH_STATUS, typed::<core::v1::Pod>),
        B("", "v1", "Service", "services", &["svc"], WITH_STATUS, typed::<core::v1::Service>),
        B("", "v1", "Endpoints", "endpoints", &["ep"], NAMESPACED, typed::<core::v1::Endpoints>),
        B("", "v1", "Namespace", "namespaces", &["ns"], CLUSTER_WITH_STATUS, typed::<core::v1::Namespace>),
        B("", "v1", "Node", "nodes", &["no"], CLUSTER_WITH_STATUS, typed::<core::v1::Node>),
        B("", "v1", "Secret", "secrets", &[], NAMESPACED, typed::<core::v1::Secret>),
        B("", "v1", "ConfigMap", "configmaps", &["cm"], NAMESPACED, typed::<core::v1::ConfigMap>),
        B("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], NAMESPACED, typed::<core::v1::ServiceAccount>),
        B("", "v1", "Event", "events", &["ev"], NAMESPACED, typed::<core::v1::Event>),
        B("", "v1", "ResourceQuota", "resourcequotas", &["quota"], WITH_STATUS, typed::<core::v1::ResourceQuota>),
        B("apps", "v1", "Deployment", "deployments", &["deploy"], SCALABLE, typed::<apps::v1::Deployment>),
        B("apps", "v1", "ReplicaSet", "replicasets", &["rs"], SCALABLE, typed::<apps::v1::ReplicaSet>),
        B("apps", "v1", "StatefulSet", "statefulsets", &["sts"], SCALABLE, typed::<apps::v1::StatefulSet>),
        B("apps", "v1", "DaemonSet", "daemonsets", &["ds"], WITH_STATUS, typed::<apps::v1::DaemonSet>),
        B("batch", "v1", "Job", "jobs", &[], WITH_STATUS, typed::<batch::v1::Job>),
        B(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
            &[],
            NAMESPACED,
            typed::<discovery::v1::EndpointSlice>,
        ),
        B(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            &[],
            CLUSTER,
            typed::<admissionregistration::v1::MutatingWebhookConfiguration>,
        ),
        B(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            &[],
            CLUSTER,
            typed::<admissionregistration::v1::ValidatingWebhookConfiguration>,
        ),
        B(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            &[],
            CLUSTER_WITH_STATUS,
            typed::<admissionregistration::v1::ValidatingAdmissionPolicy>,
        ),
        B(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            &[],
            CLUSTER,
            typed::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>,
        ),
        B("rbac.authorization.k8s.io", "v1", "Role", "roles", &[], NAMESPACED, typed::<rbac::v1::Role>),
        B(
            "rbac.authorization.k8s.io",
            "v1",
            "RoleBinding",
            "rolebindings",
            &[],
            NAMESPACED,
            typed::<rbac::v1::RoleBinding>,
        ),
        B(
            "rbac.authorization.k8s.io",
            "v1",
            "ClusterRole",
            "clusterroles",
            &[],
            CLUSTER,
            typed::<rbac::v1::ClusterRole>,
        ),
        B(
            "rbac.authorization.k8s.io",
            "v1",
            "ClusterRoleBinding",
            "clusterrolebindings",
            &[],
            CLUSTER,
            typed::<rbac::v1::ClusterRoleBinding>,
        ),
        B(
            "policy",
            "v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            &["pdb"],
            WITH_STATUS,
            typed::<policy::v1::PodDisruptionBudget>,
        ),
        B("coordination.k8s.io", "v1", "Lease", "leases", &[], NAMESPACED, typed::<coordination::v1::Lease>),
        B(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            &["crd", "crds"],
            CLUSTER_WITH_STATUS,
            typed::<apiextensions::CustomResourceDefinition>,
        ),
    ]
}

/// Every served kind.
pub(crate) struct Registry(RwLock<HashMap<(String, String, String), Arc<Kind>>>);

impl Registry {
    pub(crate) fn new() -> Self {
        let kinds = builtins().into_iter().map(|Builtin(group, version, kind, plural, short, traits, codec)| {
            let Traits(namespaced, status, scale) = traits;
            let kind = Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                singular: kind.to_lowercase(),
                short: short.iter().map(|&s| s.to_owned()).collect(),
                namespaced,
                status,
                scale,
                codec: Some(codec),
                schema: None,
                shelf: shelf(group, plural),
            };
            ((group.to_owned(), version.to_owned(), plural.to_owned()), Arc::new(kind))
        });
        Self(RwLock::new(kinds.collect()))
    }

    pub(crate) fn get(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let kinds = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    /// Every kind, ordered by group, version and plural name.
    pub(crate) fn all(&self) -> Vec<Arc<Kind>> {
        let mut kinds: Vec<_> = self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        kinds.sort_by(|a, b| (&a.group, &a.version, &a.plural).cmp(&(&b.group, &b.version, &b.plural)));
        kinds
    }

    /// Serves the versions of a definition, and no others of that resource.
    pub(crate) fn define(&self, definition: &Value) {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
        self.forget(definition);
        let mut kinds = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for version in spec["versions"].as_array().into_iter().flatten().filter(|v| v["served"] == true) {
            let names = &spec["names"];
            let kind = Kind {
                group: group.clone(),
                version: text(&version["name"]),
                kind: text(&names["kind"]),
                plural: plural.clone(),
                singular: match names["singular"].as_str() {
                    None | Some("") => text(&names["kind"]).to_lowercase(),
                    Some(singular) => singular.to_owned(),
                },
                short: names["shortNames"].as_array().into_iter().flatten().map(text).collect(),
                namespaced: spec["scope"] != "Cluster",
                status: version["subresources"]["status"].is_object(),
                scale: version["subresources"]["scale"].is_object(),
                codec: None,
                schema: Some(version["schema"]["openAPIV3Schema"].clone()),
                shelf: shelf(&group, &plural),
            };
            kinds.insert((group.clone(), kind.version.clone(), plural.clone()), Arc::new(kind));
        }
    }

    /// Stops serving what a definition defined.
    pub(crate) fn forget(&self, definition: &Value) {
        let spec = &definition["spec"];
        let (group, plural) = (&spec["group"], &spec["names"]["plural"]);
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(g, _, p), kind| kind.codec.is_some() || group != g.as_str() || plural != p.as_str());
    }
}
