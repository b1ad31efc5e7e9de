//! Logging in to Consul with the Pod's service account.

use crate::services::Instance;
use crate::{Mistake, Settings, Surroundings};
use k8s_openapi::api::core::v1::{PodSpec, SecretVolumeSource, Volume, VolumeMount};
use redirect::contract::{TOKEN_DIR, TOKEN_FILE};

/// What one service's injected containers log in with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Login {
    /// Name of the auth method.
    pub(crate) auth_method: String,
    /// Service account that the token belongs to.
    pub(crate) service_account: String,
    /// The mount of the token.
    pub(crate) mount: VolumeMount,
    /// The volume, where the Pod does not have it.
    pub(crate) volume: Option<Volume>,
}

impl Login {
    /// The file with the token.
    pub(crate) fn token_file(&self) -> String {
        format!("{}/{TOKEN_FILE}", self.mount.mount_path)
    }
}

/// One login for each of the Pod's services; none where the servers have no ACLs.
pub(crate) fn of_pod(
    spec: &PodSpec,
    services: &[Instance],
    surroundings: &Surroundings,
    settings: &Settings,
) -> Result<Vec<Option<Login>>, Mistake> {
    let Some(acl) = &settings.acl else { return Ok(vec![None; services.len()]) };
    let own = spec.service_account_name.clone().unwrap_or_default();
    let login = |service_account, mount, volume| {
        Some(Login { auth_method: acl.auth_method.clone(), service_account, mount, volume })
    };
    services
        .iter()
        .map(|service| match &service.name {
            // a service whose account is not the Pod's needs the token of its own account, which a Secret holds
            Some(name) if *name != own => {
                let volume = format!("{name}-service-account");
                let secret = surroundings.token_secrets.get(name).unwrap_or(name).clone();
                let mount = VolumeMount {
                    name: volume.clone(),
                    mount_path: format!("/consul/serviceaccount-{name}"),
                    read_only: Some(true),
                    ..VolumeMount::default()
                };
                let source = SecretVolumeSource { secret_name: Some(secret), ..SecretVolumeSource::default() };
                let volume = Volume { name: volume, secret: Some(source), ..Volume::default() };
                Ok(login(name.clone(), mount, Some(volume)))
            }
            _ => Ok(login(own.clone(), token_mount(spec).cloned().ok_or(Mistake::NoToken)?, None)),
        })
        .collect()
}

/// The mount of the Pod's own token, as the first of its containers has it.
fn token_mount(spec: &PodSpec) -> Option<&VolumeMount> {
    let mut all = spec.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
    all.find(|mount| mount.mount_path == TOKEN_DIR)
}
