//! `postStart` and `preStop`.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::events::Severity;
use super::pod::PodRuntime;
use super::probe::{self, Check};
use crate::runtime::Container;

/// A hook has no timeout of its own; the Pod's grace period bounds `preStop`, this bounds `postStart`.
const LONG: Duration = Duration::from_secs(60);

impl PodRuntime {
    /// Runs the `postStart` hook. The error is an event's message.
    pub(super) async fn post_start(&self, index: usize, container: &Container) -> Result<(), String> {
        let spec = self.slot(index).spec;
        match spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) {
            Some(handler) => self.hook("PostStartHook", handler, index, container, LONG).await,
            None => Ok(()),
        }
    }

    /// Runs the `preStop` hook, for at most `grace`. Whether there was one. Its failure stops nothing.
    pub(super) async fn pre_stop(&self, index: usize, container: &Container, grace: Duration) -> bool {
        let spec = self.slot(index).spec;
        let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else {
            return false;
        };
        if let Err(why) = self.hook("PreStopHook", handler, index, container, grace).await {
            self.event(Some(&spec.name), Severity::Warning, "FailedPreStopHook", why);
        }
        true
    }

    async fn hook(
        &self,
        name: &str,
        handler: &LifecycleHandler,
        index: usize,
        container: &Container,
        timeout: Duration,
    ) -> Result<(), String> {
        if let Some(sleep) = &handler.sleep {
            let seconds = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
            tokio::time::sleep(seconds.min(timeout)).await;
            return Ok(());
        }
        let as_probe = k8s_openapi::api::core::v1::Probe {
            exec: handler.exec.clone(),
            http_get: handler.http_get.clone(),
            tcp_socket: handler.tcp_socket.clone(),
            ..Default::default()
        };
        let slot = self.slot(index);
        let attempt = match Check::of(&as_probe, &slot.spec, self.probe_address()) {
            Ok(check) => probe::run(&check, &self.node.info.netns, Some(container), timeout).await,
            Err(why) => return Err(format!("{name} failed: {why}")),
        };
        if attempt.success { Ok(()) } else { Err(format!("{name} failed: {}", attempt.message)) }
    }
}
