//! Pod in, mutated Pod out: the steps of injection in their order.

use crate::annotations::Received;
use crate::intent::Intent;
use crate::{
    Decision, Refusal, Settings, Surroundings, annotations, decide, dns, env, guard, init_container, sidecar, volumes,
    warnings,
};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use std::sync::LazyLock;

/// Injects the Pod if it is to be injected, see [`decide`]; otherwise returns it as it is. Injecting twice is injecting once.
///
/// `namespace` is the Namespace that the Pod is created in; the Pod itself need not name it.
///
/// # Errors
/// Something about the Pod or its Namespace does not allow injection. The refusal lists everything that does not.
pub fn inject(pod: &Pod, namespace: &Namespace, settings: &Settings) -> Result<Pod, Refusal> {
    Ok(admit(pod, &Surroundings::of(namespace.clone()), settings)?.pod)
}

/// As [`inject`], with everything that surrounds the Pod, and with warnings.
///
/// # Errors
/// As [`inject`].
pub fn admit(pod: &Pod, surroundings: &Surroundings, settings: &Settings) -> Result<Admitted, Refusal> {
    let namespace = surroundings.namespace.metadata.name.as_deref().unwrap_or_default();
    let decision = decide(pod, namespace, settings)?;
    let mut pod = pod.clone();
    let warnings = match decision {
        Decision::Skip(_) => Vec::new(),
        Decision::Inject => mutate(&mut pod, None, surroundings, settings)?,
    };
    Ok(Admitted { pod, warnings })
}

/// A Pod with everything that was added to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The Pod.
    pub pod: Pod,
    /// What its author should know: it is legal, and surely not wanted.
    pub warnings: Vec<String>,
}

/// Injects a Pod about which [`decide`] has said so, and returns warnings. `text` is what was received of it, where somebody
/// has it. A Pod that is refused stays as it is.
///
/// What is changed here, [`crate::patch::Before`] knows of.
pub(crate) fn mutate(
    pod: &mut Pod,
    text: Option<String>,
    surroundings: &Surroundings,
    settings: &Settings,
) -> Result<Vec<String>, Refusal> {
    // its marks are gone, and what they stand for is there: injecting once more would make it two
    if guard::is_injected(pod, settings) {
        annotations::restore(pod);
        return Ok(Vec::new());
    }
    static NONE: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
    let intent = Intent::read(pod, pod.spec.as_ref().unwrap_or(&NONE), surroundings, settings)?;
    let warnings = warnings::of(pod, &intent, surroundings, settings);
    let received = Received::of(pod, text, &intent);

    let spec = pod.spec.get_or_insert_default();
    volumes::add(spec, &intent);
    volumes::mount_into(&mut spec.containers, &intent.mount_into);
    env::add_upstreams(&mut spec.containers, &intent.upstreams, settings.loopback());
    if let Some(containers) = &mut spec.init_containers {
        env::add_upstreams(containers, &intent.upstreams, settings.loopback());
    }
    if intent.overwrite_probes {
        intent.probes.overwrite(spec);
    }
    add_containers(spec, &intent, settings);
    if intent.dns {
        dns::configure(spec, surroundings.namespace.metadata.name.as_deref().unwrap_or_default(), settings);
    }
    annotations::write(pod, received, &intent, settings);
    Ok(warnings)
}

fn add_containers(spec: &mut PodSpec, intent: &Intent, settings: &Settings) {
    let mut first: Vec<_> =
        intent.services.iter().map(|service| init_container::build(service, intent, settings)).collect();
    if intent.native.is_some() {
        first.extend(intent.services.iter().map(|service| sidecar::build(service, intent, settings)));
    } else {
        sidecar::add(spec, intent, settings);
    }
    let init_containers = spec.init_containers.get_or_insert_default();
    let place = if intent.init_order.first { 0 } else { init_containers.len() };
    init_containers.splice(place..place, first);
}
