//! The end of a Pod: hooks, SIGTERM, grace, SIGKILL; native sidecars last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::events::Severity;
use super::pod::PodRuntime;
use super::state::Role;
use crate::runtime::{Container, Exit};

/// What a container gets at least after its `preStop` hook has used up the grace period.
const LEAST: Duration = Duration::from_secs(2);

impl PodRuntime {
    /// Stops everything in order, within `grace` of real time.
    pub(super) async fn terminate(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let others = self.running(|role| role != Role::Sidecar);
        join_all(others.iter().map(|(index, container)| self.stop_and_record(*index, container, grace))).await;
        self.stop_sidecars(deadline.saturating_duration_since(Instant::now())).await;
    }

    /// Stops native sidecars, the last started first, within `grace`.
    pub(super) async fn stop_sidecars(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        for (index, container) in self.running(|role| role == Role::Sidecar).into_iter().rev() {
            self.edit(index, |slot| slot.over = true);
            self.stop_and_record(index, &container, deadline.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Ends what still runs.
    pub(super) async fn kill_all(&self) {
        let all = self.running(|_| true);
        join_all(all.iter().map(|(index, container)| async move {
            let exit = container.kill().await;
            self.ended(*index, container, exit);
        }))
        .await;
    }

    fn running(&self, wanted: impl Fn(Role) -> bool) -> Vec<(usize, Arc<Container>)> {
        let state = self.state.borrow();
        let slots = state.slots.iter().enumerate().filter(|(_, slot)| wanted(slot.role));
        slots.filter_map(|(index, slot)| Some((index, Arc::clone(slot.running.as_ref()?)))).collect()
    }

    async fn stop_and_record(&self, index: usize, container: &Container, grace: Duration) {
        let name = self.slot(index).name().to_owned();
        self.event(Some(&name), Severity::Normal, "Killing", format!("Stopping container {name}"));
        let exit = self.stop_one(index, container, grace).await;
        self.ended(index, container, exit);
    }

    /// `preStop`, SIGTERM, and what is left of `grace` until SIGKILL.
    pub(super) async fn stop_one(&self, index: usize, container: &Container, grace: Duration) -> Exit {
        if grace.is_zero() {
            return container.kill().await;
        }
        let deadline = Instant::now() + grace;
        let hooked = tokio::select! {
            exit = container.wait() => return exit,
            hooked = self.pre_stop(index, container, grace) => hooked,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        container.stop(if hooked { left.max(LEAST) } else { left }).await
    }
}
