//! What a kubelet knows of a Pod's containers while it runs them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Container as ContainerOfPod, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerUser, Pod,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::runtime::Container;

/// What part a container plays in its Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to completion before the next.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// One of `containers`.
    Main,
    /// One of `ephemeralContainers`.
    Ephemeral,
}

/// One container.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) spec: Arc<ContainerOfPod>,
    pub(super) role: Role,
    pub(super) state: ContainerState,
    pub(super) last: Option<ContainerState>,
    pub(super) restarts: i32,
    /// Running, `postStart` done, startup probe passed.
    pub(super) started: bool,
    pub(super) ready: bool,
    /// A start has been tried, with whatever outcome.
    pub(super) attempted: bool,
    /// Has ended and will not be started again.
    pub(super) over: bool,
    pub(super) id: Option<String>,
    /// Who its first process is.
    pub(super) user: Option<ContainerUser>,
    pub(super) running: Option<Arc<Container>>,
}

/// The Pod.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) start_time: Option<Time>,
    pub(super) pod_ips: Vec<IpAddr>,
    /// All init containers have succeeded, or started where they are sidecars.
    pub(super) initialized: bool,
    /// Decided by the kubelet rather than seen from the containers: a Pod that was stopped.
    pub(super) failed: Option<(String, String)>,
    pub(super) slots: Vec<Slot>,
    /// When each condition last changed, and to what.
    pub(super) conditions: BTreeMap<&'static str, (bool, Time)>,
}

impl Slot {
    pub(super) fn new(spec: ContainerOfPod, role: Role, reason: &str) -> Self {
        Self {
            spec: Arc::new(spec),
            role,
            state: waiting(reason, None),
            last: None,
            restarts: 0,
            started: false,
            ready: false,
            attempted: false,
            over: false,
            id: None,
            user: None,
            running: None,
        }
    }

    /// Not running, because of `reason`. A state that ended becomes the last one.
    pub(super) fn wait_for(&mut self, reason: &str, message: Option<String>) {
        let before = std::mem::replace(&mut self.state, waiting(reason, message));
        if before.terminated.is_some() {
            self.last = Some(before);
        }
    }

    pub(super) fn run(&mut self, container: Arc<Container>) {
        let running = ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(container.started_at)) }),
            ..ContainerState::default()
        };
        let before = std::mem::replace(&mut self.state, running);
        if before.terminated.is_some() {
            self.last = Some(before);
        }
        self.id = Some(format!("sim://{:08x}{:016x}", container.pid, container.started_at.as_microsecond()));
        self.running = Some(container);
    }

    pub(super) fn end(&mut self, code: i32, reason: &str, message: Option<String>) {
        let now = Timestamp::now();
        let started_at = self.running.as_ref().map_or(now, |container| container.started_at);
        self.state = ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: code,
                reason: Some(reason.into()),
                message: message.filter(|text| !text.is_empty()),
                started_at: Some(Time(started_at)),
                finished_at: Some(Time(now)),
                container_id: self.id.clone(),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        };
        self.running = None;
        self.ready = false;
        self.started = false;
    }

    /// The exit code it ended with, now or the time before.
    pub(super) fn exit_code(&self) -> Option<i32> {
        self.state.terminated.as_ref().map(|ended| ended.exit_code)
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message }),
        ..ContainerState::default()
    }
}

impl State {
    /// Of a Pod that has just arrived.
    pub(super) fn new(pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let inits = spec.init_containers.unwrap_or_default();
        let reason = if inits.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let mut slots: Vec<Slot> = inits
            .into_iter()
            .map(|container| {
                let sidecar = container.restart_policy.as_deref() == Some("Always");
                Slot::new(container, if sidecar { Role::Sidecar } else { Role::Init }, "PodInitializing")
            })
            .collect();
        slots.extend(spec.containers.into_iter().map(|container| Slot::new(container, Role::Main, reason)));
        // one that has run here before, as when the node was restarted
        let statuses = pod.status.iter().flat_map(|status| {
            let inits = status.init_container_statuses.iter().flatten();
            inits.chain(status.container_statuses.iter().flatten())
        });
        for status in statuses.filter(|status| status.container_id.is_some()) {
            if let Some(slot) = slots.iter_mut().find(|slot| slot.name() == status.name) {
                slot.restarts = status.restart_count + 1;
            }
        }
        Self {
            start_time: Some(Time(Timestamp::now())),
            initialized: !slots.iter().any(|slot| matches!(slot.role, Role::Init | Role::Sidecar)),
            slots,
            ..Self::default()
        }
    }

    /// Indices of containers with this role, in the order of the Pod.
    pub(super) fn with_role(&self, role: Role) -> Vec<usize> {
        (0..self.slots.len()).filter(|index| self.slots[*index].role == role).collect()
    }

    /// `Pending`, `Running`, `Succeeded` or `Failed`, as a kubelet derives it.
    pub(super) fn phase(&self) -> &'static str {
        if self.failed.is_some() {
            return "Failed";
        }
        let init_failed =
            self.slots.iter().any(|slot| slot.role == Role::Init && slot.over && slot.exit_code() != Some(0));
        if init_failed {
            return "Failed";
        }
        let mains: Vec<_> = self.slots.iter().filter(|slot| slot.role == Role::Main).collect();
        if !self.initialized || mains.is_empty() {
            return "Pending";
        }
        if mains.iter().all(|slot| slot.over) {
            return if mains.iter().all(|slot| slot.exit_code() == Some(0)) { "Succeeded" } else { "Failed" };
        }
        let never_ran = |slot: &&Slot| slot.state.waiting.is_some() && slot.last.is_none();
        if mains.iter().any(never_ran) { "Pending" } else { "Running" }
    }
}
