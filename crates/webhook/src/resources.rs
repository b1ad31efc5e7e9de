//! Resource requests and limits of the injected containers.

use crate::reader::Reader;
use crate::settings::Resources;
use crate::{keys, quantity};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// The sidecar's resources: each quantity from its annotation, else from the settings.
pub(crate) fn of_sidecar(reader: &mut Reader<'_>, defaults: &Resources) -> Resources {
    let mut quantity = |key: &'static str, default: &Option<String>| {
        let own = reader.parsed(key, quantity::ALLOWED, |text| quantity::is_valid(text).then(|| text.to_owned()));
        own.or_else(|| default.clone())
    };
    Resources {
        cpu_request: quantity(keys::SIDECAR_CPU_REQUEST, &defaults.cpu_request),
        cpu_limit: quantity(keys::SIDECAR_CPU_LIMIT, &defaults.cpu_limit),
        memory_request: quantity(keys::SIDECAR_MEMORY_REQUEST, &defaults.memory_request),
        memory_limit: quantity(keys::SIDECAR_MEMORY_LIMIT, &defaults.memory_limit),
    }
}

/// As Kubernetes wants them; absent quantities are absent keys.
pub(crate) fn requirements(resources: &Resources) -> ResourceRequirements {
    let Resources { cpu_request, cpu_limit, memory_request, memory_limit } = resources;
    ResourceRequirements {
        requests: pair(cpu_request, memory_request),
        limits: pair(cpu_limit, memory_limit),
        ..ResourceRequirements::default()
    }
}

fn pair(cpu: &Option<String>, memory: &Option<String>) -> Option<BTreeMap<String, Quantity>> {
    let map: BTreeMap<_, _> = [("cpu", cpu), ("memory", memory)]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Quantity(value.clone()?))))
        .collect();
    (!map.is_empty()).then_some(map)
}
