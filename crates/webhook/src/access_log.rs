//! Access logs of the sidecar, which the mesh's proxy-defaults ask for.

use crate::surroundings::AccessLogs;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume, VolumeMount};

/// Name of the volume for logs in a file.
pub(crate) const VOLUME: &str = "envoy-access-logs";

/// Where the logs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessLog {
    /// To the container's own output.
    Stream,
    /// To a file.
    File {
        /// The file.
        path: String,
        /// Its directory.
        directory: String,
    },
}

/// What proxy-defaults ask for; `Err` holds a path that no volume can be mounted for.
pub(crate) fn of_mesh(logs: &AccessLogs) -> Result<Option<AccessLog>, String> {
    if !logs.enabled {
        return Ok(None);
    }
    if logs.sink != "file" {
        return Ok(Some(AccessLog::Stream));
    }
    let directory = logs.path.rsplit_once('/').map(|(directory, file)| (directory.trim_end_matches('/'), file));
    match directory {
        Some((directory, file)) if directory.starts_with('/') && !file.is_empty() => {
            Ok(Some(AccessLog::File { path: logs.path.clone(), directory: directory.to_owned() }))
        }
        _ => Err(logs.path.clone()),
    }
}

/// The volume that a file needs, since nothing else of the sidecar's can be written to.
pub(crate) fn volume(log: &AccessLog) -> Option<Volume> {
    matches!(log, AccessLog::File { .. }).then(|| Volume {
        name: VOLUME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    })
}

/// Its mount.
pub(crate) fn mount(log: &AccessLog) -> Option<VolumeMount> {
    let AccessLog::File { directory, .. } = log else { return None };
    Some(VolumeMount { name: VOLUME.to_owned(), mount_path: directory.clone(), ..VolumeMount::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn file(directory: &str, path: &str) -> Option<AccessLog> {
        Some(AccessLog::File { path: path.to_owned(), directory: directory.to_owned() })
    }

    #[rstest]
    #[case::off(false, "file", "/var/log/a.log", Ok(None))]
    #[case::stdout(true, "stdout", "", Ok(Some(AccessLog::Stream)))]
    #[case::unsaid(true, "", "", Ok(Some(AccessLog::Stream)))]
    #[case::file(true, "file", "/var/log/a.log", Ok(file("/var/log", "/var/log/a.log")))]
    #[case::root(true, "file", "/a.log", Err("/a.log".to_owned()))]
    #[case::relative(true, "file", "logs/a.log", Err("logs/a.log".to_owned()))]
    #[case::directory(true, "file", "/var/log/", Err("/var/log/".to_owned()))]
    #[case::nothing(true, "file", "", Err(String::new()))]
    fn what_the_mesh_asks_for(
        #[case] enabled: bool,
        #[case] sink: &str,
        #[case] path: &str,
        #[case] expected: Result<Option<AccessLog>, String>,
    ) {
        let logs = AccessLogs { enabled, sink: sink.to_owned(), path: path.to_owned() };
        assert_eq!(of_mesh(&logs), expected);
    }
}
