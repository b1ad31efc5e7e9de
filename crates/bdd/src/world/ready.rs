//! Waiting for Pods, and saying what is wrong with one that is not ready.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use redirect::contract;

use super::World;
use crate::pods::{PodRef, has_condition, is_going};
use crate::workload::{Controller, Workload};

/// Reasons of a waiting container that say that it will not simply come up.
const STUCK: &[&str] = &[
    "CrashLoopBackOff",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Statuses of all containers of a Pod, init containers first.
pub(crate) fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref()).into_iter().flatten();
    let main = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    let ephemeral = status.and_then(|s| s.ephemeral_container_statuses.as_ref()).into_iter().flatten();
    init.chain(main).chain(ephemeral)
}

/// Why a Pod will not be ready, when something about it says so.
pub(crate) fn decided_against(pod: &Pod) -> Option<String> {
    for s in statuses(pod) {
        let state = s.state.as_ref();
        if let Some(reason) = state.and_then(|s| s.waiting.as_ref()?.reason.as_deref())
            && STUCK.contains(&reason)
        {
            return Some(format!("container {} is waiting: {reason}", s.name));
        }
        let terminated = state.and_then(|st| st.terminated.as_ref());
        let terminated = terminated.or_else(|| s.last_state.as_ref()?.terminated.as_ref());
        if let Some(t) = terminated.filter(|t| t.exit_code != 0) {
            return Some(format!("container {} ended with status {}", s.name, t.exit_code));
        }
    }
    None
}

/// Whether every application container has started.
pub(crate) fn has_started(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses
        .is_some_and(|all| !all.is_empty() && all.iter().all(|s| s.state.as_ref().is_some_and(|s| s.running.is_some())))
}

/// Whether every container but the sidecar has ended.
fn has_done_its_work(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let mut own = statuses.into_iter().flatten().filter(|s| s.name != contract::SIDECAR_CONTAINER).peekable();
    own.peek().is_some() && own.all(|s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()))
}

impl World {
    /// Waits until every workload that a step declared (and did not merely submit, or disturb on purpose) is ready.
    pub(crate) async fn await_ready(&mut self) -> Result<()> {
        let bed = self.bed().await?;
        let awaited = |n: &&String| !self.submitted.contains(n) && !self.disturbed.contains(*n);
        let names: Vec<String> = self.workloads.keys().filter(awaited).cloned().collect();
        for name in names {
            self.await_workload(&name).await?;
        }
        bed.converge().await
    }

    /// Waits until one workload is ready. As a Deployment's `progressDeadlineSeconds`, the time for it begins anew with each
    /// further Pod that is ready: a hundred take longer than one.
    pub(crate) async fn await_workload(&mut self, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        let start = Instant::now();
        let (mut deadline, mut most) = (start + bed.timing().ready, 0);
        while !self.is_ready(name)? {
            let ready = self.ready_pods(name)?;
            if ready > most {
                (deadline, most) = (Instant::now() + bed.timing().ready, ready);
            }
            if Instant::now() >= deadline {
                let waited = start.elapsed().as_secs_f64();
                bail!("waited {waited:.1} s for {name} to be ready; seen last: {}", self.diagnose(name).await);
            }
            bed.pods().changed(Duration::from_millis(200)).await;
        }
        self.impair(name).await?;
        self.remember_rules(name).await
    }

    /// Impairs the links of a workload's Pods, if that is how it was described. Before they are ready, nothing is wrong with them.
    async fn impair(&mut self, name: &str) -> Result<()> {
        let Some(impairment) = self.find(name).and_then(|workload| workload.link) else { return Ok(()) };
        for pod in self.pods(name).await? {
            if self.impaired.insert(pod.host()) {
                self.bed_now()?.impair(&pod, impairment).await?;
            }
        }
        Ok(())
    }

    /// How many Pods of a workload are ready and stay.
    fn ready_pods(&self, name: &str) -> Result<usize> {
        let Some(workload) = self.find(name) else { return Ok(0) };
        let pods = self.bed_now()?.at(workload.at()).pods().of(&workload.namespace, &workload.name);
        Ok(pods.iter().filter(|pod| !is_going(pod) && has_condition(pod, "Ready")).count())
    }

    /// Whether all Pods that a workload should have are there and ready, and no other is.
    pub(crate) fn is_ready(&self, name: &str) -> Result<bool> {
        let Some(workload) = self.find(name) else { return Ok(false) };
        let pods = self.bed_now()?.at(workload.at()).pods().of(&workload.namespace, &workload.name);
        if workload.controller == Controller::Job {
            return Ok(!pods.is_empty());
        }
        let wanted = expected(workload);
        let staying = pods.iter().filter(|p| !is_going(p)).count();
        Ok(staying == wanted && self.ready_pods(name)? == wanted)
    }

    /// Waits until the application containers of a workload's Pods have started.
    pub(crate) async fn await_started(&mut self, name: &str) -> Result<()> {
        self.await_a_pod(name, "for the containers to start", has_started).await
    }

    /// Waits until a Job's Pod has done its work, so that only the sidecar is left; other workloads have no such moment.
    pub(crate) async fn await_work(&mut self, name: &str) -> Result<()> {
        match self.spec(name)?.controller {
            Controller::Job => self.await_a_pod(name, "for the work to be done", has_done_its_work).await,
            _ => Ok(()),
        }
    }

    async fn await_a_pod(&mut self, name: &str, what: &str, is_so: fn(&Pod) -> bool) -> Result<()> {
        let bed = self.bed().await?;
        let workload = self.spec(name)?;
        let deadline = Instant::now() + bed.timing().ready;
        loop {
            let pods = bed.at(workload.at()).pods().of(&workload.namespace, &workload.name);
            if pods.iter().any(|pod| is_so(pod)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("wait {what} of {name}; seen last: {}", self.diagnose(name).await);
            }
            bed.pods().changed(Duration::from_millis(200)).await;
        }
    }

    /// Waits until a Pod's proxy, when it has one, is ready. One that never is holds nobody up: what is asked next shows it.
    pub(super) async fn await_sidecar(&self, pod: &PodRef) {
        let Ok(bed) = self.bed_now() else { return };
        let deadline = Instant::now() + bed.timing().patience;
        let waits = || {
            let found = bed.at(pod.at()).pods().get(&pod.namespace, &pod.name)?;
            let sidecar = statuses(&found).find(|s| s.name == redirect::contract::SIDECAR_CONTAINER)?;
            (!sidecar.ready).then_some(())
        };
        while waits().is_some() && Instant::now() < deadline {
            bed.pods().changed(Duration::from_millis(50)).await;
        }
    }

    /// The rules of a ready workload as they are now, for `unchanged`, unless some are remembered already.
    async fn remember_rules(&mut self, name: &str) -> Result<()> {
        let bed = self.bed_now()?;
        for pod in self.pods(name).await? {
            if !self.rules.contains_key(&pod.host())
                && let Some(dump) = bed.rules(&pod).await?
            {
                self.rules.insert(pod.host(), dump);
            }
        }
        Ok(())
    }

    /// What a person wants to know about a workload that is not as it should be: conditions, container states, the last
    /// events and the ends of the logs.
    pub(crate) async fn diagnose(&self, text: &str) -> String {
        let Ok(bed) = self.bed_now() else { return "no lab".to_owned() };
        let name = text.split('/').next().unwrap_or(text);
        let Some(workload) = self.find(name) else { return format!("no workload {text:?}") };
        let pods = bed.at(workload.at()).pods().of(&workload.namespace, &workload.name);
        let mut text = String::new();
        if pods.is_empty() {
            text.push_str("there is no Pod");
        }
        for pod in &pods {
            self.describe(bed.at(workload.at()).pods().reference(pod), pod, &mut text).await;
        }
        let names: BTreeSet<String> = pods.iter().map(|p| p.name_any()).collect();
        let events = bed.at(workload.at()).cluster().list("Event", &workload.namespace, "").await.unwrap_or_default();
        let about = |e: &&serde_json::Value| {
            let object = e["involvedObject"]["name"].as_str().unwrap_or_default();
            names.contains(object) || object.starts_with(&workload.name)
        };
        let mut all: Vec<_> = events.iter().filter(about).collect();
        // the API server lists them by name, which says nothing; warnings are what a person looks for
        let when = |e: &serde_json::Value| e["lastTimestamp"].as_str().unwrap_or_default().to_owned();
        all.sort_by_key(|e| (e["type"] == "Warning", when(e)));
        for event in all.iter().rev().take(6).rev() {
            // writing to a String cannot fail
            let _ = write!(
                text,
                "\n  event {} {}: {}",
                event["reason"].as_str().unwrap_or_default(),
                event["involvedObject"]["name"].as_str().unwrap_or_default(),
                event["message"].as_str().unwrap_or_default()
            );
        }
        text
    }

    async fn describe(&self, found: PodRef, pod: &Pod, text: &mut String) {
        let PodRef { namespace, name, .. } = &found;
        let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        let _ = write!(text, "\n  Pod {namespace}/{name} {phase}");
        for c in pod.status.iter().flat_map(|s| s.conditions.iter().flatten()) {
            let _ = write!(text, ", {}={}", c.type_, c.status);
            if let Some(message) = c.message.as_ref().filter(|m| !m.is_empty()) {
                let _ = write!(text, " ({message})");
            }
        }
        for s in statuses(pod) {
            let state = s.state.as_ref();
            let what = if let Some(w) = state.and_then(|s| s.waiting.as_ref()) {
                format!("waiting {} {}", w.reason.as_deref().unwrap_or(""), w.message.as_deref().unwrap_or(""))
            } else if let Some(t) = state.and_then(|s| s.terminated.as_ref()) {
                format!("ended with status {} {}", t.exit_code, t.message.as_deref().unwrap_or(""))
            } else if s.ready {
                "ready".to_owned()
            } else {
                "running, not ready".to_owned()
            };
            let _ = write!(text, "\n    container {}: {what}, {} restarts", s.name, s.restart_count);
            if !s.ready
                && let Ok(bed) = self.bed_now()
            {
                let mut log =
                    bed.at(found.at()).cluster().log(namespace, name, &s.name, false).await.unwrap_or_default();
                if log.is_empty() && s.restart_count > 0 {
                    log = bed.at(found.at()).cluster().log(namespace, name, &s.name, true).await.unwrap_or_default();
                }
                for line in log.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev() {
                    let _ = write!(text, "\n      | {line}");
                }
            }
        }
    }
}

/// How many Pods a workload should have.
fn expected(workload: &Workload) -> usize {
    match workload.controller {
        Controller::Pod | Controller::Job => 1,
        Controller::Deployment | Controller::StatefulSet => usize::try_from(workload.replicas).unwrap_or(1),
    }
}
