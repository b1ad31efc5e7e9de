//! Pod in, mutated Pod out: the steps of injection in their order.

use crate::intent::Intent;
use crate::{
    Decision, Refusal, Settings, Surroundings, annotations, decide, dns, env, init_container, probes, sidecar, volumes,
};
use k8s_openapi::api::core::v1::{Namespace, Pod};

/// Injects the Pod if it is to be injected, see [`decide`]; otherwise returns it as it is. Injecting twice is injecting once.
///
/// `namespace` is the Namespace that the Pod is created in; the Pod itself need not name it.
///
/// # Errors
/// Something about the Pod or its Namespace does not allow injection. The refusal lists everything that does not.
pub fn inject(pod: &Pod, namespace: &Namespace, settings: &Settings) -> Result<Pod, Refusal> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    match decide(pod, name, settings)? {
        Decision::Skip(_) => Ok(pod.clone()),
        Decision::Inject => mutate(pod, &Surroundings::of(namespace.clone()), settings),
    }
}

/// Injects a Pod about which [`decide`] has said so.
pub(crate) fn mutate(received: &Pod, surroundings: &Surroundings, settings: &Settings) -> Result<Pod, Refusal> {
    let namespace = &*surroundings.namespace;
    let mut pod = received.clone();
    let spec = pod.spec.get_or_insert_default();
    let intent = Intent::read(received, spec, namespace, settings)?;

    volumes::add(spec, &intent.user_volumes);
    volumes::mount_into(&mut spec.containers, &intent.mount_into);
    env::add_upstreams(&mut spec.containers, &intent.upstreams, settings.loopback());
    if let Some(containers) = &mut spec.init_containers {
        env::add_upstreams(containers, &intent.upstreams, settings.loopback());
    }
    spec.init_containers.get_or_insert_default().push(init_container::build(&intent, settings));
    sidecar::add(spec, &intent, settings);
    if intent.dns {
        dns::configure(spec, namespace.metadata.name.as_deref().unwrap_or_default(), settings);
    }
    if intent.overwrite_probes {
        probes::overwrite(spec);
    }
    annotations::write(&mut pod, received, &intent, settings);
    Ok(pod)
}
