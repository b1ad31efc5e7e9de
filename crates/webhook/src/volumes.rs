//! Volumes: the one the injected containers share, and those the user wants for the sidecar.

use crate::access_log;
use crate::intent::Intent;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, PodSpec, Volume, VolumeMount};
use redirect::contract::{DATA_DIR, DATA_VOLUME};
use std::collections::HashSet;

/// The mount of the shared volume.
pub(crate) fn data_mount() -> VolumeMount {
    VolumeMount { name: DATA_VOLUME.to_owned(), mount_path: DATA_DIR.to_owned(), ..VolumeMount::default() }
}

/// Adds the shared volume, in memory, and those that logs, logins and the user need.
pub(crate) fn add(spec: &mut PodSpec, intent: &Intent) {
    let volumes = spec.volumes.get_or_insert_default();
    volumes.push(Volume {
        name: DATA_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: Some("Memory".to_owned()), ..EmptyDirVolumeSource::default() }),
        ..Volume::default()
    });
    volumes.extend(intent.access_log.as_ref().and_then(access_log::volume));
    volumes.extend_from_slice(&intent.user_volumes);
    volumes.extend(intent.logins.iter().flatten().filter_map(|login| login.volume.clone()));
}

/// Names of the volumes that are added besides the user's.
pub(crate) fn names(intent: &Intent) -> Vec<&str> {
    let logs = intent.access_log.as_ref().and_then(access_log::volume).map(|_| access_log::VOLUME);
    let logins = intent.logins.iter().flatten().filter_map(|login| Some(login.volume.as_ref()?.name.as_str()));
    std::iter::once(DATA_VOLUME).chain(logs).chain(logins).collect()
}

/// Mounts the shared volume into the application's containers of these names.
pub(crate) fn mount_into(containers: &mut [Container], names: &HashSet<String>) {
    for container in containers.iter_mut().filter(|container| names.contains(&container.name)) {
        container.volume_mounts.get_or_insert_default().push(data_mount());
    }
}
