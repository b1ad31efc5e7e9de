//! One container over its restarts.

use std::sync::Arc;
use std::time::Duration;

use super::RETRY;
use super::events::Severity;
use super::lifecycle::Refusal;
use super::pod::PodRuntime;
use super::state::Role;
use super::tempo::Backoff;
use super::volumes::Volumes;
use crate::runtime::{Container, Exit};

impl PodRuntime {
    /// Starts the container, and again whenever its restart policy says so; returns when it is over for good.
    pub(super) async fn supervise(self: &Arc<Self>, index: usize, volumes: &Volumes) {
        let mut restarts = Backoff::restarts(self.node.tempo);
        let mut pulls = Backoff::pulls(self.node.tempo);
        let mut first = true;
        loop {
            match self.start_container(index, volumes).await {
                Ok(container) => {
                    if !std::mem::take(&mut first) {
                        self.edit(index, |slot| slot.restarts += 1);
                    }
                    self.run_to_its_end(index, &container).await;
                }
                Err(Refusal::Image(message)) => {
                    self.pull_failed(index, message, &mut pulls).await;
                    continue;
                }
                Err(Refusal::Config(message)) => {
                    self.failed(index, &message);
                    self.edit(index, |slot| {
                        slot.wait_for("CreateContainerConfigError", Some(message));
                        slot.attempted = true;
                    });
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(Refusal::Start(message)) => {
                    self.failed(index, &message);
                    let count = u32::from(!std::mem::take(&mut first)).cast_signed();
                    self.edit(index, |slot| {
                        slot.restarts += count;
                        slot.end(128, "StartError", Some(message));
                        slot.attempted = true;
                    });
                }
            }
            if !self.restarts_now(index) {
                self.edit(index, |slot| slot.over = true);
                return;
            }
            self.back_off(index, &mut restarts).await;
        }
    }

    fn failed(&self, index: usize, message: &str) {
        let name = self.slot(index).name().to_owned();
        self.event(Some(&name), Severity::Warning, "Failed", format!("Error: {message}"));
    }

    fn restarts_now(&self, index: usize) -> bool {
        let slot = self.slot(index);
        let policy = self.pod().spec.as_ref().and_then(|spec| spec.restart_policy.clone());
        let failed = slot.exit_code() != Some(0);
        if slot.over {
            // Stopped on purpose: a sidecar whose Pod is complete.
            return false;
        }
        match (slot.role, policy.as_deref()) {
            (Role::Sidecar, _) => true,
            (Role::Ephemeral, _) | (_, Some("Never")) => false,
            (Role::Init, _) | (Role::Main, Some("OnFailure")) => failed,
            (Role::Main, _) => true,
        }
    }

    async fn pull_failed(&self, index: usize, message: String, pulls: &mut Backoff) {
        let spec = self.slot(index).spec;
        let image = spec.image.clone().unwrap_or_default();
        self.event(Some(&spec.name), Severity::Normal, "Pulling", format!("Pulling image {image:?}"));
        self.event(Some(&spec.name), Severity::Warning, "Failed", message.clone());
        self.event(Some(&spec.name), Severity::Warning, "Failed", "Error: ErrImagePull".into());
        self.edit(index, |slot| {
            slot.wait_for("ErrImagePull", Some(message.clone()));
            slot.attempted = true;
        });
        // A kubelet's next look at the Pod finds the back-off.
        tokio::time::sleep(self.node.tempo.scale(Duration::from_secs(2))).await;
        let back_off = format!("Back-off pulling image {image:?}");
        self.event(Some(&spec.name), Severity::Normal, "BackOff", back_off.clone());
        self.edit(index, |slot| {
            slot.wait_for("ImagePullBackOff", Some(format!("{back_off}: ErrImagePull: {message}")))
        });
        tokio::time::sleep(pulls.take().1).await;
    }

    async fn back_off(&self, index: usize, restarts: &mut Backoff) {
        let (kubelet, here) = restarts.take();
        if kubelet.is_zero() {
            return;
        }
        let slot = self.slot(index);
        let pod = self.pod();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let who = format!(
            "restarting failed container={} pod={}_{}({})",
            slot.name(),
            text(&pod.metadata.name),
            text(&pod.metadata.namespace),
            text(&pod.metadata.uid)
        );
        let not_started =
            slot.state.terminated.as_ref().is_some_and(|ended| ended.reason.as_deref() == Some("StartError"));
        let event = who.replace("container=", "container ").replace("pod=", "in pod ");
        self.event(Some(slot.name()), Severity::Warning, "BackOff", format!("Back-off {event}"));
        if not_started {
            let message = slot.state.terminated.as_ref().and_then(|ended| ended.message.clone());
            self.edit(index, |slot| slot.wait_for("RunContainerError", message));
            tokio::time::sleep(self.node.tempo.scale(Duration::from_secs(2)).min(here)).await;
        }
        let message = format!("back-off {}s {who}", kubelet.as_secs());
        self.edit(index, |slot| slot.wait_for("CrashLoopBackOff", Some(message)));
        tokio::time::sleep(here).await;
    }

    async fn run_to_its_end(self: &Arc<Self>, index: usize, container: &Arc<Container>) {
        self.edit(index, |slot| slot.run(Arc::clone(container)));
        let name = self.slot(index).name().to_owned();
        let accompany = async {
            if let Err(why) = self.post_start(index, container).await {
                self.edit(index, |slot| slot.attempted = true);
                self.event(Some(&name), Severity::Warning, "FailedPostStartHook", why);
                return (format!("FailedPostStartHook: stopping container {name}"), None);
            }
            self.edit(index, |slot| slot.attempted = true);
            self.probe_until_failure(index, container).await
        };
        let exit = tokio::select! {
            biased;
            exit = container.wait() => exit,
            (why, grace) = accompany => {
                self.event(Some(&name), Severity::Normal, "Killing", why);
                self.stop_one(index, container, grace.unwrap_or_else(|| self.grace())).await
            }
        };
        self.ended(index, container, exit);
    }

    /// Records the end of a container.
    pub(super) fn ended(&self, index: usize, container: &Container, exit: Exit) {
        let slot = self.slot(index);
        if slot.running.is_none() {
            // Who stopped it was quicker than who watched it.
            return;
        }
        let spec = slot.spec;
        let message = self.termination_message(&spec, exit.code != 0, container);
        let reason = if exit.code == 0 { "Completed" } else { "Error" };
        self.edit(index, |slot| {
            slot.attempted = true;
            slot.end(exit.code, reason, message);
        });
    }
}
