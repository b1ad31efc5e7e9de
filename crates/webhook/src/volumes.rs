//! Volumes: the one the injected containers share, and those the user wants for the sidecar.

use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, PodSpec, Volume, VolumeMount};
use redirect::contract::{DATA_DIR, DATA_VOLUME};

/// The mount of the shared volume.
pub(crate) fn data_mount() -> VolumeMount {
    VolumeMount { name: DATA_VOLUME.to_owned(), mount_path: DATA_DIR.to_owned(), ..VolumeMount::default() }
}

/// Adds the shared volume, in memory, and the user's.
pub(crate) fn add(spec: &mut PodSpec, user_volumes: &[Volume]) {
    let volumes = spec.volumes.get_or_insert_default();
    volumes.push(Volume {
        name: DATA_VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: Some("Memory".to_owned()), ..EmptyDirVolumeSource::default() }),
        ..Volume::default()
    });
    volumes.extend_from_slice(user_volumes);
}

/// Mounts the shared volume into the application's containers of these names.
pub(crate) fn mount_into(containers: &mut [Container], names: &[String]) {
    for container in containers.iter_mut().filter(|container| names.contains(&container.name)) {
        container.volume_mounts.get_or_insert_default().push(data_mount());
    }
}
