//! HTTP probes of the application: which listener of the sidecar stands in for each, and rewriting them to it.

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use redirect::contract::{LIVENESS_PORT_BASE, READINESS_PORT_BASE, SIDECAR_CONTAINER, STARTUP_PORT_BASE};

/// The listener ports of the HTTP probes: containers in order, and per container liveness, readiness, startup.
pub(crate) fn listeners(spec: &PodSpec) -> Vec<u16> {
    let mut ports = Vec::new();
    for (index, container) in INDICES.zip(application(&spec.containers)) {
        let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        for (probe, base) in probes.into_iter().zip(BASES) {
            if probe.as_ref().is_some_and(|probe| probe.http_get.is_some()) {
                ports.push(base + index);
            }
        }
    }
    ports
}

/// Points every HTTP probe to its listener; path, scheme, host and headers stay.
pub(crate) fn overwrite(spec: &mut PodSpec) {
    let containers = spec.containers.iter_mut().filter(|container| container.name != SIDECAR_CONTAINER);
    for (index, container) in INDICES.zip(containers) {
        let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
        for (probe, base) in probes.into_iter().zip(BASES) {
            if let Some(Probe { http_get: Some(get), .. }) = probe {
                get.port = IntOrString::Int(i32::from(base + index));
            }
        }
    }
}

/// How many containers have listeners of their own; beyond them, those of one kind of probe would be those of another.
pub(crate) const LISTENERS_PER_PROBE: u16 = READINESS_PORT_BASE - LIVENESS_PORT_BASE;

const INDICES: std::ops::Range<u16> = 0..LISTENERS_PER_PROBE;

const BASES: [u16; 3] = [LIVENESS_PORT_BASE, READINESS_PORT_BASE, STARTUP_PORT_BASE];

/// How many containers have listeners set aside for them.
pub(crate) fn containers(spec: &PodSpec) -> usize {
    application(&spec.containers).count()
}

fn application(containers: &[Container]) -> impl Iterator<Item = &Container> {
    containers.iter().filter(|container| container.name != SIDECAR_CONTAINER)
}
