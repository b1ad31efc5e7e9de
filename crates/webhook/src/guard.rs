//! What about a Pod forbids injection, and how to tell that it is injected already.

use crate::identity::Ids;
use crate::{Mistake, Settings, dns};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use redirect::contract::{INIT_CONTAINER, SIDECAR_CONTAINER};

/// Whether the Pod shares its node's network.
pub(crate) fn in_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// Whether the injected containers are there and do what the injected containers do.
///
/// Images are compared without registry and version: another webhook may have pointed them to a mirror.
pub(crate) fn is_injected(pod: &Pod, settings: &Settings) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let init = init_containers(spec).iter().any(|container| {
        has_name(container, INIT_CONTAINER)
            && same_program(container, &settings.consul_k8s_image)
            && container.command.iter().flatten().any(|word| word.contains(" connect-init "))
    });
    let sidecar = spec.containers.iter().chain(init_containers(spec)).any(|container| {
        has_name(container, SIDECAR_CONTAINER)
            && same_program(container, &settings.dataplane_image)
            && container.args.iter().flatten().any(|word| word.starts_with("-proxy-service-id-path="))
    });
    init && sidecar
}

/// Whether a container has one of our images, whoever put it there.
pub(crate) fn is_ours(container: &Container, settings: &Settings) -> bool {
    let image = container.image.as_deref();
    [&settings.dataplane_image, &settings.consul_k8s_image].into_iter().any(|ours| image == Some(ours))
}

/// What is wanted for a Pod, as far as its specification could forbid it.
pub(crate) struct Wanted<'a> {
    /// Transparent proxy.
    pub(crate) transparent_proxy: bool,
    /// Consul DNS.
    pub(crate) consul_dns: bool,
    /// Containers may run as the ids of the injected ones.
    pub(crate) allow_proxy_uids: bool,
    /// The ids of the injected containers.
    pub(crate) ids: Ids,
    /// Names of all injected containers.
    pub(crate) containers: &'a [String],
    /// Names of all injected volumes.
    pub(crate) volumes: &'a [&'a str],
}

/// Everything in the Pod's own specification that cannot be had together with injection.
pub(crate) fn mistakes(spec: &PodSpec, wanted: &Wanted<'_>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    // Without transparent proxy no rule is written, so the node's network comes to no harm.
    if wanted.transparent_proxy && spec.host_network.unwrap_or(false) {
        mistakes.push(Mistake::HostNetwork);
    }
    if wanted.consul_dns && dns::is_taken(spec) {
        mistakes.push(Mistake::DnsConfig);
    }
    for container in spec.containers.iter().chain(init_containers(spec)) {
        if wanted.containers.contains(&container.name) {
            mistakes.push(Mistake::ReservedName { name: container.name.clone() });
        }
    }
    for volume in spec.volumes.iter().flatten() {
        if wanted.volumes.contains(&volume.name.as_str()) {
            mistakes.push(Mistake::ReservedVolume { name: volume.name.clone() });
        }
    }
    if wanted.allow_proxy_uids {
        return mistakes;
    }
    for (place, uid) in users(spec) {
        let owner = match u32::try_from(uid) {
            Ok(id) if id == wanted.ids.sidecar => SIDECAR_CONTAINER,
            // Without transparent proxy nothing is exempt by this id, so it is free to use.
            Ok(id) if id == wanted.ids.init && wanted.transparent_proxy => INIT_CONTAINER,
            _ => continue,
        };
        mistakes.push(Mistake::ReservedUser { place, uid, owner });
    }
    mistakes
}

/// Every user id that the specification demands, with the path of the field's parent.
fn users(spec: &PodSpec) -> impl Iterator<Item = (String, i64)> {
    let pod = spec.security_context.iter().filter_map(|context| context.run_as_user);
    let container = |kind: &'static str| {
        move |container: &Container| {
            let uid = container.security_context.as_ref()?.run_as_user?;
            Some((format!("spec.{kind}[{}].securityContext", container.name), uid))
        }
    };
    pod.map(|uid| ("spec.securityContext".to_owned(), uid))
        .chain(spec.containers.iter().filter_map(container("containers")))
        .chain(init_containers(spec).iter().filter_map(container("initContainers")))
}

/// The user that a container runs as, where the specification says it: its own before the Pod's.
pub(crate) fn user(spec: &PodSpec, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    own.or_else(|| spec.security_context.as_ref()?.run_as_user)
}

/// Whether a container has this name of ours, or that of one among several.
fn has_name(container: &Container, name: &str) -> bool {
    container.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Whether a container's image has the same last name as the configured one.
fn same_program(container: &Container, image: &str) -> bool {
    container.image.as_deref().is_some_and(|used| last_name(used) == last_name(image))
}

/// `registry:5000/a/name:tag@digest` → `name`.
fn last_name(image: &str) -> &str {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split(':').next().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::last_name;
    use rstest::rstest;

    #[rstest]
    #[case::plain("envoy")]
    #[case::tagged("envoy:1")]
    #[case::registry("registry:5000/mesh/envoy")]
    #[case::digest("registry:5000/mesh/envoy:1@sha256:00")]
    fn last_names(#[case] image: &str) {
        assert_eq!(last_name(image), "envoy");
    }
}
