//! Volumes: directories of this machine filled from the API.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, Volume,
};
use kube::Api;

use super::fields::Fields;
use super::node::Node;
use crate::runtime::Mount;

/// Files of a volume: path below it, content and mode.
type Files = Vec<(String, Vec<u8>, Option<i32>)>;

/// The Pod's volumes: where each is on this machine, and whether it may be written at all.
#[derive(Debug, Clone, Default)]
pub(super) struct Volumes(BTreeMap<String, (PathBuf, bool)>);

/// Why a volume cannot be had yet; in a kubelet's words.
#[derive(Debug)]
pub(super) struct NotReady(pub(super) String);

impl From<io::Error> for NotReady {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Makes and fills all volumes of the Pod below `directory`.
pub(super) async fn prepare(node: &Node, fields: &Fields<'_>, directory: &Path) -> Result<Volumes, NotReady> {
    let spec = fields.pod.spec.clone().unwrap_or_default();
    let group =
        spec.security_context.as_ref().and_then(|context| context.fs_group).and_then(|id| u32::try_from(id).ok());
    let mut volumes = Volumes::default();
    for volume in spec.volumes.iter().flatten() {
        let place = directory.join(&volume.name);
        let filled = fill(node, fields, volume, &place, group)
            .await
            .map_err(|e| NotReady(format!("MountVolume.SetUp failed for volume {:?} : {}", volume.name, e.0)))?;
        volumes.0.insert(volume.name.clone(), filled);
    }
    Ok(volumes)
}

async fn fill(
    node: &Node,
    fields: &Fields<'_>,
    volume: &Volume,
    place: &Path,
    group: Option<u32>,
) -> Result<(PathBuf, bool), NotReady> {
    if let Some(host) = &volume.host_path {
        return host_path(node.networking.host().place(Path::new(&host.path)), &host.path, host.type_.as_deref());
    }
    fs::create_dir_all(place)?;
    let source = Source { node, fields };
    let (files, mode) = if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        (source.secret(name, secret.items.as_deref(), secret.optional).await?, secret.default_mode)
    } else if let Some(map) = &volume.config_map {
        (source.config_map(&map.name, map.items.as_deref(), map.optional).await?, map.default_mode)
    } else if let Some(downward) = &volume.downward_api {
        (source.downward(downward.items.as_deref().unwrap_or_default())?, downward.default_mode)
    } else if let Some(projected) = &volume.projected {
        (source.projected(projected).await?, projected.default_mode)
    } else {
        // emptyDir, in memory or not; and an ephemeral or claimed volume is as empty as one.
        fs::set_permissions(place, fs::Permissions::from_mode(0o777))?;
        own(place, 0o2777, group)?;
        return Ok((place.to_owned(), true));
    };
    for (path, content, own_mode) in files {
        let path = place.join(below(&path).ok_or_else(|| NotReady(format!("path {path:?} leaves the volume")))?);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        let mode = u32::try_from(own_mode.or(mode).unwrap_or(0o644)).unwrap_or(0o644);
        // With a group of its own the group may read, as kubelets arrange it.
        let mode = if group.is_some() { mode | 0o040 } else { mode };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        own(&path, mode, group)?;
    }
    own(place, 0o755, group)?;
    Ok((place.to_owned(), false))
}

fn own(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    let Some(group) = group else { return Ok(()) };
    chown(path, None, Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn host_path(place: PathBuf, path: &str, kind: Option<&str>) -> Result<(PathBuf, bool), NotReady> {
    match kind {
        Some("DirectoryOrCreate") => fs::create_dir_all(&place)?,
        Some("FileOrCreate") if !place.exists() => drop(fs::File::create(&place)?),
        _ => {}
    }
    let fits = match kind {
        Some("Directory") => place.is_dir(),
        Some("File") => place.is_file(),
        _ => place.exists(),
    };
    if fits {
        Ok((place, true))
    } else {
        Err(NotReady(format!("hostPath type check failed: {path} is not a {}", kind.unwrap_or("path"))))
    }
}

/// A relative path that stays below.
fn below(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)).then_some(path)
}

struct Source<'a> {
    node: &'a Node,
    fields: &'a Fields<'a>,
}

impl Source<'_> {
    fn namespace(&self) -> &str {
        self.fields.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    async fn secret(&self, name: &str, items: Option<&[KeyToPath]>, optional: Option<bool>) -> Result<Files, NotReady> {
        let found = Api::<Secret>::namespaced(self.node.client.clone(), self.namespace()).get_opt(name).await;
        let data = found
            .map_err(|e| NotReady(e.to_string()))?
            .map(|secret| secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect());
        pick("secret", name, data, items, optional)
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<Files, NotReady> {
        let found = Api::<ConfigMap>::namespaced(self.node.client.clone(), self.namespace()).get_opt(name).await;
        let mut data: Option<BTreeMap<String, Vec<u8>>> = found.map_err(|e| NotReady(e.to_string()))?.map(|map| {
            let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
            text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))).collect()
        });
        if data.is_none() && name == "kube-root-ca.crt" {
            data = Some(BTreeMap::from([("ca.crt".into(), self.node.api.ca_pem.clone().into_bytes())]));
        }
        pick("configmap", name, data, items, optional)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile]) -> Result<Files, NotReady> {
        let file = |item: &DownwardAPIVolumeFile| {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => self.fields.field(&field.field_path),
                (_, Some(resource)) => {
                    self.fields.resource(resource, resource.container_name.as_deref().unwrap_or_default())
                }
                _ => Ok(String::new()),
            };
            Ok((item.path.clone(), value.map_err(NotReady)?.into_bytes(), item.mode))
        };
        items.iter().map(file).collect()
    }

    async fn projected(&self, projected: &ProjectedVolumeSource) -> Result<Files, NotReady> {
        let mut files = Files::new();
        for source in projected.sources.iter().flatten() {
            if let Some(token) = &source.service_account_token {
                files.push((token.path.clone(), self.token().into_bytes(), None));
            }
            if let Some(map) = &source.config_map {
                files.extend(self.config_map(&map.name, map.items.as_deref(), map.optional).await?);
            }
            if let Some(secret) = &source.secret {
                files.extend(self.secret(&secret.name, secret.items.as_deref(), secret.optional).await?);
            }
            if let Some(downward) = &source.downward_api {
                files.extend(self.downward(downward.items.as_deref().unwrap_or_default())?);
            }
        }
        Ok(files)
    }

    fn token(&self) -> String {
        let meta = &self.fields.pod.metadata;
        let account =
            self.fields.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let (name, uid) = (meta.name.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default());
        (self.node.api.issue_token)(self.namespace(), account, name, uid)
    }
}

fn pick(
    kind: &str,
    name: &str,
    data: Option<BTreeMap<String, Vec<u8>>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Result<Files, NotReady> {
    let optional = optional == Some(true);
    let Some(mut data) = data else {
        return if optional { Ok(Files::new()) } else { Err(NotReady(format!("{kind} {name:?} not found"))) };
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(key, content)| (key, content, None)).collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.remove(&item.key) {
            Some(content) => files.push((item.path.clone(), content, item.mode)),
            None if optional => {}
            None => return Err(NotReady(format!("references non-existent {kind} key: {}", item.key))),
        }
    }
    Ok(files)
}

impl Volumes {
    /// The mounts of one container. `lookup` expands `subPathExpr`.
    pub(super) fn mounts(
        &self,
        container: &Container,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let (place, writable) =
                self.0.get(&mount.name).ok_or_else(|| format!("volume {:?} is not in the pod", mount.name))?;
            let expanded = mount.sub_path_expr.as_ref().map(|text| super::expand::expand(text, &lookup));
            let source = match expanded.or_else(|| mount.sub_path.clone()).filter(|path| !path.is_empty()) {
                Some(path) => sub_path(place, &path, *writable)?,
                None => place.clone(),
            };
            let read_only = mount.read_only.unwrap_or(false) || !writable;
            let propagates = matches!(mount.mount_propagation.as_deref(), Some("HostToContainer" | "Bidirectional"));
            mounts.push(Mount { source, target: PathBuf::from(&mount.mount_path), read_only, propagates });
        }
        Ok(mounts)
    }
}

fn sub_path(volume: &Path, path: &str, writable: bool) -> Result<PathBuf, String> {
    let place = volume.join(below(path).ok_or_else(|| format!("subPath {path:?} must not contain '..'"))?);
    if !place.exists() && writable {
        let make = || -> io::Result<()> {
            fs::create_dir_all(&place)?;
            fs::set_permissions(&place, fs::metadata(volume)?.permissions())
        };
        make().map_err(|e| format!("failed to create subPath directory {path:?}: {e}"))?;
    }
    Ok(place)
}

/// The Pod's directory goes, with all volumes.
pub(super) fn remove(pod: &Pod, directory: &Path) {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(pod = pod.metadata.name, directory = %directory.display(), %error, "removing volumes");
        }
        _ => {}
    }
}
