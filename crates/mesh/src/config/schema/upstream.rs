//! `ServiceDefaults.spec.upstreamConfig`: how a service dials others.

use serde::{Deserialize, Serialize};

use super::MeshGateway;
use crate::config::Protocol;

/// `ServiceDefaults.spec.upstreamConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct UpstreamConfig {
    /// Of every upstream.
    pub(crate) defaults: UpstreamSettings,
    /// Of those that are named.
    pub(crate) overrides: Vec<UpstreamSettings>,
}

/// `ServiceDefaults.spec.upstreamConfig.defaults`, and one of its `overrides`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct UpstreamSettings {
    /// The upstream, in an override.
    pub(crate) name: String,
    /// The mesh that it is in, if it is not ours.
    pub(crate) peer: Option<String>,
    /// The admin partition that it is in.
    pub(crate) partition: Option<String>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) limits: Option<Limits>,
    pub(crate) passive_health_check: Option<PassiveHealthCheck>,
    pub(crate) mesh_gateway: MeshGateway,
    pub(crate) balance_outbound_connections: String,
}

/// How much one proxy asks of an upstream at a time. None at all is a limit as well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Limits {
    pub(crate) max_connections: Option<u32>,
    pub(crate) max_pending_requests: Option<u32>,
    pub(crate) max_concurrent_requests: Option<u32>,
}

/// When a proxy turns away from an instance that fails, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PassiveHealthCheck {
    pub(crate) interval: Option<String>,
    pub(crate) max_failures: u32,
    /// The resource of consul-k8s spells it otherwise than all the rest.
    #[serde(rename = "enforcingConsecutive5xx", alias = "enforcing_consecutive_5xx")]
    pub(crate) enforcing_consecutive_5xx: Option<u32>,
    pub(crate) max_ejection_percent: Option<u32>,
    pub(crate) base_ejection_time: Option<String>,
}
