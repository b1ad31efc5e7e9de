//! The fields of the custom resources of group `consul.hashicorp.com` that the mesh acts on.

use serde::Deserialize;

use super::Protocol;
use crate::place::GatewayMode;

mod http;
mod proxy;
mod routing;
mod upstream;

pub(crate) use http::*;
pub(crate) use proxy::*;
pub(crate) use routing::*;
pub(crate) use upstream::*;

/// `ServiceIntentions.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceIntentions {
    pub(crate) destination: Destination,
    pub(crate) sources: Vec<IntentionSource>,
}

/// `ServiceIntentions.spec.destination`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Destination {
    pub(crate) name: String,
}

/// `ServiceIntentions.spec.sources[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IntentionSource {
    pub(crate) name: String,
    /// The mesh that it is in, if it is not ours.
    pub(crate) peer: Option<String>,
    /// The partition that it is in, if it is another one of ours.
    pub(crate) partition: Option<String>,
    /// The group of which it is in any member.
    #[serde(rename = "samenessGroup")]
    pub(crate) sameness_group: Option<String>,
    pub(crate) action: Option<Action>,
    pub(crate) permissions: Vec<Permission>,
    pub(crate) description: String,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Allow,
    Deny,
}

/// `ServiceIntentions.spec.sources[].permissions[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Permission {
    pub(crate) action: Option<Action>,
    pub(crate) http: HttpMatch,
}

/// `ServiceDefaults.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceDefaults {
    pub(crate) protocol: Option<Protocol>,
    #[serde(rename = "mutualTLSMode")]
    pub(crate) mutual_tls_mode: Option<MutualTlsMode>,
    pub(crate) transparent_proxy: Option<TransparentProxy>,
    pub(crate) expose: Expose,
    pub(crate) max_inbound_connections: Option<u32>,
    pub(crate) local_connect_timeout_ms: u32,
    pub(crate) local_request_timeout_ms: u32,
    pub(crate) balance_inbound_connections: String,
    pub(crate) mesh_gateway: MeshGateway,
    pub(crate) upstream_config: UpstreamConfig,
}

/// `meshGateway` of service and proxy defaults, and of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct MeshGateway {
    pub(crate) mode: Option<GatewayMode>,
}

/// `mutualTLSMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MutualTlsMode {
    Strict,
    Permissive,
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
    #[serde(rename = "mutualTLSMode")]
    pub(crate) mutual_tls_mode: Option<MutualTlsMode>,
    pub(crate) transparent_proxy: Option<TransparentProxy>,
    pub(crate) expose: Expose,
    pub(crate) mesh_gateway: MeshGateway,
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

/// `ExportedServices.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedServices {
    pub(crate) services: Vec<ExportedService>,
}

/// `ExportedServices.spec.services[]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedService {
    pub(crate) name: String,
    pub(crate) consumers: Vec<Consumer>,
}

/// `ExportedServices.spec.services[].consumers[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Consumer {
    pub(crate) peer: Option<String>,
    pub(crate) partition: Option<String>,
    pub(crate) sameness_group: Option<String>,
}

/// `SamenessGroup.spec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SamenessGroup {
    pub(crate) default_for_failover: bool,
    pub(crate) include_local: bool,
    pub(crate) members: Vec<Member>,
}

/// `SamenessGroup.spec.members[]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Member {
    pub(crate) partition: Option<String>,
    pub(crate) peer: Option<String>,
}
