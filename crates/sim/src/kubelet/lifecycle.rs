//! From a container of a Pod to a process: image, identity, environment, mounts.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container as ContainerOfPod, ContainerUser, LinuxContainerUser, Pod};

use super::env::{self, Sources};
use super::events::Severity;
use super::pod::PodRuntime;
use super::volumes::Volumes;
use super::{etc, expand, processes, security};
use crate::Image;
use crate::runtime::{Container, ContainerSpec, Mount, ProcessSpec, StartError};

/// Why a container did not start.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No such image.
    Image(String),
    /// The Pod asks for what is not there or not allowed.
    Config(String),
    /// The program could not be run.
    Start(String),
}

impl PodRuntime {
    /// Makes the container and starts its program.
    pub(super) async fn start_container(&self, index: usize, volumes: &Volumes) -> Result<Arc<Container>, Refusal> {
        let slot = self.slot(index);
        let container = &slot.spec;
        let pod = self.pod();
        let image = self.image(container)?;
        let (spec, process) = self.describe(&pod, container, image, volumes).await.map_err(Refusal::Config)?;
        let user = LinuxContainerUser {
            uid: process.uid.into(),
            gid: process.gid.into(),
            supplemental_groups: Some(process.groups.iter().copied().map(i64::from).collect()),
        };
        self.edit(index, |slot| slot.user = Some(ContainerUser { linux: Some(user) }));
        let file = |suffix: &str| self.logs.join(format!("{}{suffix}.log", container.name));
        let shim = self.node.shim.clone();
        let started = Container::start(shim, spec, process, file(""), file(".previous")).await;
        let started = started.map_err(|error| match error {
            StartError::Program { message, .. } => Refusal::Start(format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
                 unable to start container process: error during container init: {message}"
            )),
            other => Refusal::Start(format!("{:#}", anyhow::Error::from(other))),
        })?;
        let say = |reason, message| self.event(Some(&container.name), Severity::Normal, reason, message);
        say("Created", format!("Created container: {}", container.name));
        say("Started", format!("Started container {}", container.name));
        Ok(Arc::new(started))
    }

    fn image(&self, container: &ContainerOfPod) -> Result<&Image, Refusal> {
        let name = container.image.as_deref().unwrap_or_default();
        let images = &self.node.images;
        let Some(image) = images.get(name) else {
            let known = images.0.keys().cloned().collect::<Vec<_>>().join(", ");
            let message =
                format!("Failed to pull image {name:?}: no such image in the simulator's table; known images: {known}");
            return Err(Refusal::Image(message));
        };
        let message = format!("Container image {name:?} already present on machine");
        self.event(Some(&container.name), Severity::Normal, "Pulled", message);
        Ok(image)
    }

    async fn describe(
        &self,
        pod: &Pod,
        container: &ContainerOfPod,
        image: &Image,
        volumes: &Volumes,
    ) -> Result<(ContainerSpec, ProcessSpec), String> {
        processes::are_its_own(pod, &container.name)?;
        let identity = security::identity(pod, container, image)?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let sources = Sources::get(&self.node.client, namespace, container).await.map_err(|e| e.to_string())?;
        let hostname = if self.on_host_network() { self.node.info.name.clone() } else { etc::hostname(pod) };
        let server = self.node.api.server;
        let env = self.with_fields(|fields| env::environment(container, image, &hostname, server, &sources, fields))?;
        let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let args = arguments(container, image).into_iter().map(|word| expand::expand(&word, lookup)).collect();
        let mut mounts = volumes.mounts(container, lookup)?;
        mounts.push(self.termination_log(container).map_err(|e| format!("make the termination log: {e}"))?);
        let pod_ips = self.state.borrow().pod_ips.clone();
        let netns = self.netns().ok_or("the pod has no network")?.proc_path();
        let spec = ContainerSpec {
            mountpoint: self.node.mountpoint.clone(),
            netns,
            etc: etc::files(pod, &pod_ips, self.node.cluster_dns),
            hostname,
            files: image.files.clone(),
            mounts,
            read_only_root: identity.read_only_root,
            privileged: identity.privileged,
        };
        let process = ProcessSpec {
            args,
            env,
            cwd: PathBuf::from(container.working_dir.as_deref().unwrap_or("/")),
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups,
            capabilities: identity.capabilities,
            no_new_privileges: identity.no_new_privileges,
            lacks_iptables: self.node.lacks_iptables,
            stdin: None,
        };
        Ok((spec, process))
    }

    fn termination_log(&self, container: &ContainerOfPod) -> std::io::Result<Mount> {
        use std::os::unix::fs::PermissionsExt;
        let source = self.directory.join(format!("{}.termination", container.name));
        std::fs::write(&source, "")?;
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o666))?;
        let target = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        Ok(Mount { source, target: PathBuf::from(target), read_only: false, propagates: false })
    }

    /// What a container that has ended wants remembered.
    pub(super) fn termination_message(
        &self,
        spec: &ContainerOfPod,
        failed: bool,
        container: &Container,
    ) -> Option<String> {
        const LIMIT: usize = 4096;
        let path = self.directory.join(format!("{}.termination", spec.name));
        let mut text = std::fs::read_to_string(path).unwrap_or_default();
        let from_log = spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if text.is_empty() && failed && from_log {
            text = container.log.tail(2048);
        }
        if text.len() > LIMIT {
            let end = (0..=LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        (!text.is_empty()).then_some(text)
    }
}

/// The Pod's `command` replaces entry point and default arguments, its `args` the default arguments.
fn arguments(container: &ContainerOfPod, image: &Image) -> Vec<String> {
    let given = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    match (given(&container.command), given(&container.args)) {
        (Some(command), args) => command.into_iter().chain(args.unwrap_or_default()).collect(),
        (None, Some(args)) => image.entrypoint.iter().cloned().chain(args).collect(),
        (None, None) => image.entrypoint.iter().chain(&image.cmd).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::image_alone(&[], &[], &["entry", "default"])]
    #[case::arguments(&[], &["a"], &["entry", "a"])]
    #[case::command(&["sh"], &[], &["sh"])]
    #[case::both(&["sh"], &["-c"], &["sh", "-c"])]
    fn command_and_args_go_over_entrypoint_and_cmd(
        #[case] command: &[&str],
        #[case] args: &[&str],
        #[case] expected: &[&str],
    ) {
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let image = Image { entrypoint: words(&["entry"]), cmd: words(&["default"]), ..Image::default() };
        let container =
            ContainerOfPod { command: Some(words(command)), args: Some(words(args)), ..ContainerOfPod::default() };
        assert_eq!(arguments(&container, &image), words(expected));
    }
}
