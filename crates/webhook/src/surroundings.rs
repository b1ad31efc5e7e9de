//! What decides about a Pod besides the Pod itself and the operator's settings: its Namespace, its Services, the mesh's
//! configuration entries. The server fills it from its watches, so that no review has to ask anybody.

use k8s_openapi::api::core::v1::Namespace;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The surroundings of one Pod.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The Namespace that the Pod is created in.
    pub namespace: Arc<Namespace>,
    /// Names of the Services that select the Pod and are not ignored by label, in order.
    pub services: Vec<String>,
    /// The mesh's proxy-defaults.
    pub proxy_defaults: Arc<ProxyDefaults>,
    /// The mesh's service-defaults, by the name of the Consul service.
    pub service_defaults: Arc<HashMap<String, ServiceDefaults>>,
    /// The Namespace's service accounts that name a Secret with their token, and that Secret.
    pub token_secrets: Arc<HashMap<String, String>>,
    /// Which users OpenShift's security context constraints allow, by their name.
    pub constraints: Arc<HashMap<String, AllowedUsers>>,
}

/// `runAsUser` of a security context constraint of OpenShift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedUsers {
    /// The first to the last of a range of the constraint's own.
    Range(u32, u32),
    /// A single one.
    One(u32),
    /// The range of the Namespace.
    OfNamespace,
    /// Whoever, root at most excepted.
    Any,
}

impl Surroundings {
    /// Nothing but a Namespace.
    #[must_use]
    pub fn of(namespace: Namespace) -> Self {
        Self { namespace: Arc::new(namespace), ..Self::default() }
    }

    /// The Service that selects the Pod, where only one does.
    pub(crate) fn only_service(&self) -> Option<&str> {
        match self.services.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// `spec` of kind ProxyDefaults, as far as it reaches the Pod. What is not understood counts as absent: the control plane
/// judges the entry, and a Pod must not fail for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyDefaults {
    /// Access logs of the sidecar.
    #[serde(deserialize_with = "lenient")]
    pub access_logs: AccessLogs,
    /// Opaque configuration of the proxy.
    #[serde(deserialize_with = "lenient")]
    pub config: ProxyConfig,
    /// Where the listeners of transparent proxy are.
    #[serde(deserialize_with = "lenient")]
    pub transparent_proxy: ListenerPorts,
}

/// `spec` of kind ServiceDefaults, as far as it reaches the Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceDefaults {
    /// Where the listeners of transparent proxy are.
    #[serde(deserialize_with = "lenient")]
    pub transparent_proxy: ListenerPorts,
}

/// Access logs of the sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AccessLogs {
    /// Whether there are any.
    pub enabled: bool,
    /// Where they go: `stdout`, `stderr` or `file`.
    #[serde(rename = "type")]
    pub sink: String,
    /// The file, where they go to one.
    pub path: String,
}

/// The part of a proxy's opaque configuration that decides about redirection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ProxyConfig {
    /// Port of the inbound listener; 0 is the usual one.
    #[serde(deserialize_with = "lenient")]
    pub bind_port: u16,
    /// `address:port` of Envoy's own statistics listener.
    #[serde(deserialize_with = "lenient")]
    pub envoy_stats_bind_addr: String,
}

/// `transparentProxy` of a configuration entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerPorts {
    /// Port of the outbound listener; 0 is the usual one.
    #[serde(deserialize_with = "lenient")]
    pub outbound_listener_port: u16,
}

/// A value, or the type's default where it cannot be read.
fn lenient<'de, D: Deserializer<'de>, T: Default + serde::de::DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(T::deserialize(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_read_counts_as_absent() -> Result<(), serde_json::Error> {
        let read: ProxyDefaults = serde_json::from_value(json!({
            "accessLogs": {"enabled": true, "type": "file", "path": "/var/log/access"},
            "config": {"bind_port": "twenty", "envoy_stats_bind_addr": "0.0.0.0:9999", "protocol": "http"},
            "transparentProxy": null,
            "mode": "transparent",
        }))?;
        let access_logs = AccessLogs { enabled: true, sink: "file".to_owned(), path: "/var/log/access".to_owned() };
        let config = ProxyConfig { bind_port: 0, envoy_stats_bind_addr: "0.0.0.0:9999".to_owned() };
        assert_eq!(read, ProxyDefaults { access_logs, config, transparent_proxy: ListenerPorts::default() });
        Ok(())
    }
}
