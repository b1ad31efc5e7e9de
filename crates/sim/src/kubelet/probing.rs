//! Probing a running container, time and again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Probe;

use super::events::Severity;
use super::pod::PodRuntime;
use super::probe::{self, Attempt, Check};
use super::state::Slot;
use super::tempo::Tempo;
use crate::ProbeOutcome;
use crate::runtime::Container;

/// A program needs real time to start however fast the kubelet's clock runs: until it has been seen alive once, failures
/// count only after the probe's own patience in real time. For a liveness probe, which is no startup probe, after this much where
/// that is less.
const START: Duration = Duration::from_secs(3);
/// A container that is not ready yet is looked at this soon again, then after twice as long, up to its period.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// Of one probe's failures, no more than one in this time becomes an event.
const EVENTS: Duration = Duration::from_millis(250);

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
            Self::Startup => "startup",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }

    fn of(self, slot: &Slot) -> Option<&Probe> {
        match self {
            Self::Liveness => slot.spec.liveness_probe.as_ref(),
            Self::Readiness => slot.spec.readiness_probe.as_ref(),
            Self::Startup => slot.spec.startup_probe.as_ref(),
        }
    }
}

/// A probe's numbers, with Kubernetes' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// Scaled.
    delay: Duration,
    /// Scaled.
    period: Duration,
    /// Real.
    timeout: Duration,
    successes: u32,
    failures: u32,
    /// Real: before this no failure counts, unless the container has been seen alive.
    patience: Duration,
}

impl Schedule {
    fn of(kind: Kind, probe: &Probe, tempo: Tempo) -> Self {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(
                value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default),
            )
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default).max(1)
        };
        let (delay, period) = (seconds(probe.initial_delay_seconds, 0), seconds(probe.period_seconds, 10));
        let failures = count(probe.failure_threshold, 3);
        Self {
            delay: tempo.scale(delay),
            period: tempo.scale(period),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures,
            patience: match kind {
                Kind::Startup => delay + period * failures,
                Kind::Liveness | Kind::Readiness => START.min(delay + period * failures),
            },
        }
    }

    /// Pauses between looks at a container that has not been seen well yet.
    fn first_pauses(self) -> impl Iterator<Item = Duration> {
        std::iter::successors(Some(FIRST_LOOK.min(self.period)), move |pause| Some((*pause * 2).min(self.period)))
    }
}

impl PodRuntime {
    /// Where probes go.
    pub(super) fn probe_address(&self) -> Option<IpAddr> {
        self.state.borrow().pod_ips.first().copied()
    }

    /// Probes the container until it must be restarted: returns the message of the `Killing` event and, where the probe
    /// has one, its grace period.
    pub(super) async fn probe_until_failure(
        self: &Arc<Self>,
        index: usize,
        container: &Container,
    ) -> (String, Option<Duration>) {
        let slot = self.slot(index);
        if let Some(probe) = Kind::Startup.of(&slot)
            && !self.alive(Kind::Startup, probe, index, container, true).await
        {
            return killed(&slot, Kind::Startup, probe);
        }
        let readiness = Kind::Readiness.of(&slot);
        self.edit(index, |slot| {
            slot.started = true;
            slot.ready = readiness.is_none();
        });
        let lives = async {
            match Kind::Liveness.of(&slot) {
                Some(probe) => {
                    self.alive(Kind::Liveness, probe, index, container, false).await;
                    killed(&slot, Kind::Liveness, probe)
                }
                None => std::future::pending().await,
            }
        };
        let serves = async {
            match readiness {
                Some(probe) => self.follow_readiness(probe, index, container).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            killed = lives => killed,
            () = serves => std::future::pending().await,
        }
    }

    /// Probes until the failures are too many (false) or, if `once`, the successes are enough (true).
    async fn alive(&self, kind: Kind, probe: &Probe, index: usize, container: &Container, once: bool) -> bool {
        let schedule = Schedule::of(kind, probe, self.node.tempo);
        let began = Instant::now();
        let mut said = Said::default();
        let mut pauses = schedule.first_pauses();
        let (mut seen_alive, mut successes, mut failures) = (false, 0, 0);
        tokio::time::sleep(schedule.delay).await;
        loop {
            let attempt = self.attempt(probe, index, container, schedule.timeout).await;
            if attempt.success {
                (seen_alive, successes, failures) = (true, successes + 1, 0);
                if once && successes >= schedule.successes {
                    return true;
                }
            } else {
                (successes, failures) = (0, failures + 1);
                said.failure(self, kind, index, &attempt);
                if failures >= schedule.failures && (seen_alive || began.elapsed() >= schedule.patience) {
                    return false;
                }
            }
            let pause = if once { pauses.next() } else { None };
            tokio::time::sleep(pause.unwrap_or(schedule.period)).await;
        }
    }

    /// Keeps `ready` up to date; never returns.
    async fn follow_readiness(&self, probe: &Probe, index: usize, container: &Container) {
        let schedule = Schedule::of(Kind::Readiness, probe, self.node.tempo);
        let mut said = Said::default();
        let mut pauses = schedule.first_pauses();
        let (mut ever_ready, mut successes, mut failures) = (false, 0, 0);
        tokio::time::sleep(schedule.delay).await;
        loop {
            let attempt = self.attempt(probe, index, container, schedule.timeout).await;
            if attempt.success {
                (successes, failures) = (successes + 1, 0);
            } else {
                (successes, failures) = (0, failures + 1);
                said.failure(self, Kind::Readiness, index, &attempt);
            }
            let ready = self.slot(index).ready;
            if !ready && successes >= schedule.successes {
                ever_ready = true;
                self.edit(index, |slot| slot.ready = slot.running.is_some());
            } else if ready && failures >= schedule.failures {
                self.edit(index, |slot| slot.ready = false);
            }
            let pause = if ever_ready { None } else { pauses.next() };
            tokio::time::sleep(pause.unwrap_or(schedule.period)).await;
        }
    }

    async fn attempt(&self, probe: &Probe, index: usize, container: &Container, timeout: Duration) -> Attempt {
        let slot = self.slot(index);
        match Check::of(probe, &slot.spec, self.probe_address()) {
            Ok(check) => probe::run(&check, &self.node.info.netns, Some(container), timeout).await,
            Err(message) => {
                Attempt { success: false, result: crate::ProbeResult::Refused, message, peer: None, local_port: None }
            }
        }
    }

    /// Runs every declared probe once, all at the same time.
    pub(super) async fn probe_now(&self) -> anyhow::Result<Vec<ProbeOutcome>> {
        self.probe_address().context("run probes: the pod has no address yet")?;
        let slots = self.state.borrow().slots.clone();
        let mut runs = Vec::new();
        for slot in &slots {
            for kind in Kind::ALL {
                let Some(probe) = kind.of(slot) else { continue };
                runs.push(async move {
                    let schedule = Schedule::of(kind, probe, self.node.tempo);
                    let attempt = match Check::of(probe, &slot.spec, self.probe_address()) {
                        Ok(check) => {
                            probe::run(&check, &self.node.info.netns, slot.running.as_deref(), schedule.timeout).await
                        }
                        Err(message) => Attempt {
                            success: false,
                            result: crate::ProbeResult::Refused,
                            message,
                            peer: None,
                            local_port: None,
                        },
                    };
                    let message = if attempt.success {
                        format!("{} probe succeeded", kind.title())
                    } else {
                        failure(kind, &attempt)
                    };
                    ProbeOutcome {
                        container: slot.name().to_owned(),
                        kind: kind.name(),
                        success: attempt.success,
                        result: attempt.result,
                        message,
                        peer: attempt.peer,
                        local_port: attempt.local_port,
                    }
                });
            }
        }
        Ok(join_all(runs).await)
    }
}

fn killed(slot: &Slot, kind: Kind, probe: &Probe) -> (String, Option<Duration>) {
    let grace = probe.termination_grace_period_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    (
        format!("Container {} failed {} probe, will be restarted", slot.name(), kind.name()),
        grace.map(Duration::from_secs),
    )
}

fn failure(kind: Kind, attempt: &Attempt) -> String {
    format!("{} probe failed: {}", kind.title(), attempt.message)
}

/// When a failure was last made an event.
#[derive(Default)]
struct Said(Option<Instant>);

impl Said {
    fn failure(&mut self, pod: &PodRuntime, kind: Kind, index: usize, attempt: &Attempt) {
        if self.0.is_some_and(|before| before.elapsed() < EVENTS) {
            return;
        }
        self.0 = Some(Instant::now());
        let name = pod.slot(index).name().to_owned();
        pod.event(Some(&name), Severity::Warning, "Unhealthy", failure(kind, attempt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn periods_and_delays_pass_faster_and_timeouts_do_not() {
        let probe = serde_json::from_value(json!({"initialDelaySeconds": 8, "periodSeconds": 4, "timeoutSeconds": 3}))
            .expect("a probe");
        let schedule = Schedule::of(Kind::Liveness, &probe, Tempo::new(40.0));
        assert_eq!(schedule.delay, Duration::from_millis(200));
        assert_eq!(schedule.period, Duration::from_millis(100));
        assert_eq!(schedule.timeout, Duration::from_secs(3));
        assert_eq!((schedule.successes, schedule.failures), (1, 3));
        assert_eq!(schedule.patience, Duration::from_secs(3));
        let patience = Schedule::of(Kind::Startup, &probe, Tempo::new(40.0)).patience;
        assert_eq!(patience, Duration::from_secs(20), "a program that may take long to start does");
        let pauses: Vec<_> = schedule.first_pauses().take(6).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn defaults_are_kubernetes() {
        let schedule = Schedule::of(Kind::Readiness, &Probe::default(), Tempo::new(1.0));
        assert_eq!(schedule.period, Duration::from_secs(10));
        assert_eq!(schedule.timeout, Duration::from_secs(1));
        assert_eq!(schedule.delay, Duration::ZERO);
    }
}
