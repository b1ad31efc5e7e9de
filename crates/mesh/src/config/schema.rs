//! The fields of the custom resources of group `consul.hashicorp.com` that the mesh acts on.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Protocol;

/// `ServiceIntentions.spec`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServiceIntentions {
    pub(crate) destination: Destination,
    #[serde(default)]
    pub(crate) sources: Vec<IntentionSource>,
}

/// `ServiceIntentions.spec.destination`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Destination {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) namespace: String,
}

/// `ServiceIntentions.spec.sources[]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct IntentionSource {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) namespace: String,
    pub(crate) action: Option<Action>,
    #[serde(default)]
    pub(crate) permissions: Vec<Permission>,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Allow,
    Deny,
}

/// `ServiceIntentions.spec.sources[].permissions[]`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Permission {
    pub(crate) action: Action,
    #[serde(default)]
    pub(crate) http: HttpMatch,
}

/// Which requests a permission or a route is about; what is not said matches.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpMatch {
    pub(crate) path_exact: Option<String>,
    pub(crate) path_prefix: Option<String>,
    pub(crate) path_regex: Option<String>,
    pub(crate) methods: Vec<String>,
    pub(crate) header: Vec<HeaderMatch>,
    pub(crate) query_param: Vec<QueryMatch>,
}

/// A header and what its value must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HeaderMatch {
    pub(crate) name: String,
    pub(crate) present: bool,
    pub(crate) exact: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) suffix: Option<String>,
    pub(crate) contains: Option<String>,
    pub(crate) regex: Option<String>,
    pub(crate) ignore_case: bool,
    pub(crate) invert: bool,
}

/// A query parameter and what its value must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct QueryMatch {
    pub(crate) name: String,
    pub(crate) present: bool,
    pub(crate) exact: Option<String>,
    pub(crate) regex: Option<String>,
}

/// `ServiceDefaults.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceDefaults {
    pub(crate) protocol: Option<Protocol>,
    #[serde(rename = "mutualTLSMode", deserialize_with = "mode")]
    pub(crate) mutual_tls_mode: Option<MutualTlsMode>,
    pub(crate) transparent_proxy: Option<TransparentProxy>,
    pub(crate) expose: Expose,
    pub(crate) max_inbound_connections: Option<u32>,
}

/// `mutualTLSMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MutualTlsMode {
    Strict,
    Permissive,
}

/// An empty string means that the field is not set, as in Go.
fn mode<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<MutualTlsMode>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some("strict") => Ok(Some(MutualTlsMode::Strict)),
        Some("permissive") => Ok(Some(MutualTlsMode::Permissive)),
        Some(other) => Err(serde::de::Error::unknown_variant(other, &["", "strict", "permissive"])),
    }
}

/// `transparentProxy` of service and proxy defaults.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TransparentProxy {
    pub(crate) dialed_directly: bool,
    pub(crate) outbound_listener_port: u16,
}

/// `expose` of service and proxy defaults, and of a registration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Expose {
    pub(crate) paths: Vec<ExposePath>,
}

/// A path that is reachable without TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExposePath {
    pub(crate) listener_port: u16,
    pub(crate) path: String,
    pub(crate) local_path_port: u16,
    pub(crate) protocol: Option<Protocol>,
}

/// `ProxyDefaults.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProxyDefaults {
    pub(crate) config: ProxyConfig,
    #[serde(rename = "mutualTLSMode", deserialize_with = "mode")]
    pub(crate) mutual_tls_mode: Option<MutualTlsMode>,
    pub(crate) transparent_proxy: Option<TransparentProxy>,
    pub(crate) expose: Expose,
}

/// `ProxyDefaults.spec.config`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProxyConfig {
    pub(crate) protocol: Option<Protocol>,
}

/// `Mesh.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MeshEntry {
    pub(crate) transparent_proxy: MeshTransparentProxy,
    #[serde(rename = "allowEnablingPermissiveMutualTLS")]
    pub(crate) allow_enabling_permissive_mutual_tls: bool,
}

/// `Mesh.spec.transparentProxy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MeshTransparentProxy {
    pub(crate) mesh_destinations_only: bool,
}

/// `ServiceResolver.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceResolver {
    pub(crate) default_subset: Option<String>,
    pub(crate) subsets: BTreeMap<String, Subset>,
    pub(crate) redirect: Option<Redirect>,
    pub(crate) failover: BTreeMap<String, Failover>,
    pub(crate) connect_timeout: Option<String>,
}

/// `ServiceResolver.spec.subsets.*`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Subset {
    pub(crate) filter: String,
    pub(crate) only_passing: bool,
}

/// `ServiceResolver.spec.redirect`, and a failover target.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Redirect {
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    pub(crate) datacenter: Option<String>,
}

/// `ServiceResolver.spec.failover.*`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Failover {
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    pub(crate) targets: Vec<Redirect>,
}

/// `ServiceRouter.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceRouter {
    pub(crate) routes: Vec<Route>,
}

/// `ServiceRouter.spec.routes[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Route {
    #[serde(rename = "match")]
    pub(crate) matches: RouteMatch,
    pub(crate) destination: RouteDestination,
}

/// `ServiceRouter.spec.routes[].match`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RouteMatch {
    pub(crate) http: HttpMatch,
}

/// `ServiceRouter.spec.routes[].destination`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RouteDestination {
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
    pub(crate) prefix_rewrite: Option<String>,
    pub(crate) request_timeout: Option<String>,
}

/// `ServiceSplitter.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceSplitter {
    pub(crate) splits: Vec<Split>,
}

/// `ServiceSplitter.spec.splits[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Split {
    /// Percent.
    pub(crate) weight: f64,
    pub(crate) service: Option<String>,
    pub(crate) service_subset: Option<String>,
}
