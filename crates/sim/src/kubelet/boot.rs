//! The living part of a Pod: volumes, sandbox, init containers, containers.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container as ContainerOfPod;
use serde_json::json;
use tokio::task::JoinSet;

use super::RETRY;
use super::events::Severity;
use super::pod::PodRuntime;
use super::state::{Role, Slot, State};
use super::volumes::{self, Volumes};
use crate::SandboxInfo;

impl PodRuntime {
    /// Runs the Pod; never returns. Supervisors of its containers go into `tasks`.
    pub(super) async fn live(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let volumes = Arc::new(self.volumes().await);
        self.join_network().await;
        if self.initialize(&volumes, tasks).await {
            self.state.send_modify(|state| {
                state.initialized = true;
                for slot in state.slots.iter_mut().filter(|slot| slot.role == Role::Main) {
                    slot.wait_for("ContainerCreating", None);
                }
            });
            let mains = self.state.borrow().with_role(Role::Main);
            for index in mains {
                self.spawn(index, &volumes, tasks);
                self.wait_until(|state| state.slots[index].attempted).await;
            }
        }
        let complete = async {
            self.wait_until(|state| matches!(state.phase(), "Succeeded" | "Failed")).await;
            self.stop_sidecars(self.grace()).await;
            std::future::pending().await
        };
        tokio::select! {
            () = complete => {}
            () = self.adopt_ephemeral(&volumes, tasks) => {}
        }
    }

    /// Runs the init containers in order. Whether all succeeded.
    async fn initialize(self: &Arc<Self>, volumes: &Arc<Volumes>, tasks: &mut JoinSet<()>) -> bool {
        let count = self.state.borrow().slots.len();
        for index in 0..count {
            let role = self.state.borrow().slots[index].role;
            match role {
                Role::Init => {
                    self.spawn(index, volumes, tasks);
                    self.wait_until(|state| state.slots[index].over).await;
                    if self.slot(index).exit_code() != Some(0) {
                        return false;
                    }
                }
                Role::Sidecar => {
                    self.spawn(index, volumes, tasks);
                    self.wait_until(|state| state.slots[index].started).await;
                }
                Role::Main | Role::Ephemeral => {}
            }
        }
        true
    }

    fn spawn(self: &Arc<Self>, index: usize, volumes: &Arc<Volumes>, tasks: &mut JoinSet<()>) {
        let (runtime, volumes) = (Arc::clone(self), Arc::clone(volumes));
        tasks.spawn(async move { runtime.supervise(index, &volumes).await });
    }

    pub(super) async fn wait_until(&self, condition: impl Fn(&State) -> bool) {
        // The sender is ours: it cannot be gone.
        let _ = self.state.subscribe().wait_for(|state| condition(state)).await;
    }

    async fn volumes(&self) -> Volumes {
        let directory = self.directory.join("volumes");
        loop {
            let pod = self.pod();
            let fields = super::fields::Fields { pod: &pod, pod_ips: &[], host_ips: &self.node.info.addresses };
            match volumes::prepare(&self.node, &fields, &directory).await {
                Ok(volumes) => return volumes,
                Err(not_ready) => self.event(None, Severity::Warning, "FailedMount", not_ready.0),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn join_network(&self) {
        let node = &self.node;
        if self.on_host_network() {
            self.state.send_modify(|state| state.pod_ips.clone_from(&node.info.addresses));
            return;
        }
        let sandbox = loop {
            match self.make_network().await {
                Ok(sandbox) => break sandbox,
                Err(error) => {
                    let message = format!("Failed to create pod sandbox: {error:#}");
                    self.event(None, Severity::Warning, "FailedCreatePodSandBox", message);
                }
            }
            tokio::time::sleep(RETRY).await;
        };
        let sandbox = self.sandbox.get_or_init(|| sandbox);
        self.set_sysctls();
        node.observer.created(sandbox).await;
        self.state.send_modify(|state| state.pod_ips = node.network.announced(&sandbox.addresses));
    }

    /// The lab's own network, and what the node's other plugins make of it. Where one of them fails nothing is left.
    async fn make_network(&self) -> anyhow::Result<SandboxInfo> {
        let node = &self.node;
        let (namespace, name, uid) = self.names();
        let list = node.networking.list()?;
        let sandbox = node.network.attach_pod(&node.info.name, &namespace, &name, &uid).await?;
        let annotations = json!(self.pod().metadata.annotations.clone().unwrap_or_default());
        if let Err(error) = node.networking.add(list, &node.info, &sandbox, annotations).await {
            node.network.detach_pod(&sandbox).await?;
            anyhow::bail!("failed to setup network for sandbox \"{uid}\": {error}");
        }
        Ok(sandbox)
    }

    /// `securityContext.sysctls`, of the network ones.
    fn set_sysctls(&self) {
        let pod = self.pod();
        let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let sysctls = context.and_then(|context| context.sysctls.clone()).unwrap_or_default();
        let (Some(netns), false) = (self.netns(), sysctls.is_empty()) else { return };
        let set = netns.run(|| {
            let write =
                |name: &str, value: &str| std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value);
            sysctls
                .iter()
                .find_map(|sysctl| write(&sysctl.name, &sysctl.value).err().map(|e| format!("{}: {e}", sysctl.name)))
        });
        if let Some(why) = set.unwrap_or_else(|error| Some(error.to_string())) {
            self.event(None, Severity::Warning, "SysctlForbidden", format!("failed to set sysctl {why}"));
        }
    }

    fn names(&self) -> (String, String, String) {
        let meta = self.pod().metadata.clone();
        (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default(), meta.uid.unwrap_or_default())
    }

    /// Real time that a container of this Pod has to end.
    pub(super) fn grace(&self) -> Duration {
        let seconds = self.pod().spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Starts ephemeral containers as they are added; never returns.
    async fn adopt_ephemeral(self: &Arc<Self>, volumes: &Arc<Volumes>, tasks: &mut JoinSet<()>) {
        let mut updates = self.updates();
        loop {
            let pod = Arc::clone(&updates.borrow_and_update());
            let wanted = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
            for ephemeral in wanted {
                if self.state.borrow().slots.iter().any(|slot| slot.name() == ephemeral.name) {
                    continue;
                }
                // An ephemeral container is a container with a target, which `processes` refuses.
                let container = serde_json::to_value(ephemeral).and_then(serde_json::from_value::<ContainerOfPod>);
                let Ok(container) = container else { continue };
                let mut index = 0;
                self.state.send_modify(|state| {
                    index = state.slots.len();
                    state.slots.push(Slot::new(container, Role::Ephemeral, "ContainerCreating"));
                });
                self.spawn(index, volumes, tasks);
            }
            if updates.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
