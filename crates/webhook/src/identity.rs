//! The user and group ids of the injected containers.

use crate::guard::is_ours;
use crate::{Mistake, Settings, Surroundings, openshift};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use redirect::contract::{INIT_UID, PROXY_UID};

/// Who the injected containers run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    /// User of the sidecar, whose traffic is not redirected.
    pub(crate) sidecar: u32,
    /// Group of the sidecar.
    pub(crate) sidecar_group: u32,
    /// User of the init container where it does not redirect itself.
    pub(crate) init: u32,
    /// Group of the init container.
    pub(crate) init_group: u32,
}

/// The ids that are fixed everywhere but in OpenShift.
pub(crate) const FIXED: Ids =
    Ids { sidecar: PROXY_UID, sidecar_group: PROXY_UID, init: INIT_UID, init_group: INIT_UID };

/// The ids for one Pod.
pub(crate) fn of_pod(
    pod: &Pod,
    spec: &PodSpec,
    surroundings: &Surroundings,
    settings: &Settings,
) -> Result<Ids, Mistake> {
    if !settings.openshift {
        return Ok(FIXED);
    }
    let (users, groups) = openshift::ids(pod, spec, surroundings, |container| is_ours(container, settings))?;
    Ok(Ids { sidecar: users.sidecar, sidecar_group: groups.sidecar, init: users.init, init_group: groups.init })
}
