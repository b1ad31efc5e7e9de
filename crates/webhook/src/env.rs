//! Environment variables: the upstreams' for the application, and the pieces that injected containers share.

use crate::upstreams::Upstream;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector};

/// A variable with a value.
pub(crate) fn value(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), ..EnvVar::default() }
}

/// A variable that the kubelet fills from a field of the Pod.
pub(crate) fn field(name: &str, path: &str) -> EnvVar {
    let field_ref = ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() };
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() }),
        ..EnvVar::default()
    }
}

/// Tells the application's containers where the sidecar listens for the upstreams.
pub(crate) fn add_upstreams(containers: &mut [Container], upstreams: &[Upstream], loopback: &str) {
    let variables: Vec<_> = upstreams
        .iter()
        .filter_map(|upstream| Some((upstream.name.as_ref()?, upstream.port)))
        .flat_map(|(name, port)| {
            let name = name.replace('-', "_").to_uppercase();
            [
                value(&format!("{name}_CONNECT_SERVICE_HOST"), loopback),
                value(&format!("{name}_CONNECT_SERVICE_PORT"), port.to_string()),
            ]
        })
        .collect();
    if variables.is_empty() {
        return;
    }
    for container in containers {
        container.env.get_or_insert_default().extend_from_slice(&variables);
    }
}
