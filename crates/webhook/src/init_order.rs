//! Init containers of the Pod's own: before there is a proxy, their traffic is either blocked or passes it by.

use crate::reader::Reader;
use crate::{Mistake, Settings, guard};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use redirect::contract::INIT_CONTAINERS;
use std::collections::HashSet;

/// Where the injected init containers stand, and who is let past the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InitOrder {
    /// The injected ones come first, so that redirection is there before the Pod's own run. Upstream puts them last.
    pub(crate) first: bool,
    /// Users of the Pod's own init containers that are not redirected.
    pub(crate) passing: Vec<u32>,
    /// Nobody said what becomes of the traffic of the Pod's own init containers.
    pub(crate) undecided: bool,
}

/// What the Pod wants, by annotation; without one, everything is as with upstream.
///
/// A native sidecar is up before the containers behind it, so that their traffic takes the way of the application's.
pub(crate) fn of_pod(
    reader: &mut Reader<'_>,
    spec: &PodSpec,
    transparent_proxy: bool,
    native: bool,
    settings: &Settings,
) -> InitOrder {
    let own = spec.init_containers.as_deref().unwrap_or_default();
    let allowed = reader.parsed(INIT_CONTAINERS, "blocked or allowed", |text| match text {
        "allowed" => Some(true),
        "blocked" => Some(false),
        _ => None,
    });
    if native || !transparent_proxy {
        return InitOrder { first: native, ..InitOrder::default() };
    }
    let undecided = allowed.is_none() && !own.is_empty();
    match (settings.cni, allowed) {
        (false, Some(false)) => InitOrder { first: true, ..InitOrder::default() },
        // the rules are there from the beginning, and know nobody but users
        (true, Some(true)) => InitOrder { passing: users(reader, spec, own), ..InitOrder::default() },
        _ => InitOrder { undecided, ..InitOrder::default() },
    }
}

/// The users that the Pod's own init containers run as, none of which may be the application's.
fn users(reader: &mut Reader<'_>, spec: &PodSpec, own: &[Container]) -> Vec<u32> {
    let user = |container: &Container| guard::user(spec, container);
    let others: HashSet<_> = spec.containers.iter().map(user).collect();
    let mut users = Vec::new();
    for container in own {
        let user = user(container).filter(|id| !others.contains(&Some(*id)) && !others.contains(&None));
        match user.and_then(|id| u32::try_from(id).ok()) {
            Some(id) => users.push(id),
            None => reader.mistakes.push(Mistake::InitContainerUser { name: container.name.clone() }),
        }
    }
    users
}
