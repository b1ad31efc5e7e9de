//! The controllers that make a cluster of an API server: scheduler, workloads, endpoints, garbage collection.
//!
//! All of them look at one copy of the cluster that watches keep up to date, and act when something in it changes; none
//! polls. What is left out: `minReadySeconds`, a Job's `activeDeadlineSeconds` and back-off delay, adoption of orphans,
//! persistent volumes (a StatefulSet's claims become `emptyDir`).

mod daemon_set;
mod deployment;
mod endpoints;
mod events;
mod garbage;
mod graph;
mod job;
mod kinds;
mod namespace;
mod pods;
mod replica_set;
mod rollout;
mod scheduler;
mod stateful_set;
mod view;
mod work;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Families;
use graph::Graph;
use view::{Listener, View};
use work::Controller;

/// What the controllers need to know.
pub struct ControllerOptions {
    /// Names of the nodes that Pods can be put on.
    pub nodes: Vec<String>,
    /// Address families of Services that do not say theirs.
    pub families: Families,
}

/// Running controllers. Dropping them stops them.
pub struct Controllers {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Starts every controller. Must be called in a tokio runtime.
#[must_use]
pub fn start(client: kube::Client, options: ControllerOptions) -> Controllers {
    let ControllerOptions { nodes, families } = options;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let view = Arc::new(View::default());
    let graph = Arc::new(Graph::default());
    let scope = || (client.clone(), view.clone());
    let mut wiring = Wiring { tasks: &tasks, stop: &stop, listeners: vec![graph.clone().listener()] };
    wiring.add(scheduler::Scheduler::new(scope(), nodes.clone()));
    wiring.add(deployment::Deployments::new(scope()));
    wiring.add(replica_set::ReplicaSets::new(scope()));
    wiring.add(stateful_set::StatefulSets::new(scope()));
    wiring.add(daemon_set::DaemonSets::new(scope(), nodes));
    wiring.add(job::Jobs::new(scope()));
    wiring.add(endpoints::Endpoints::new(scope(), families));
    wiring.add(garbage::Garbage::new(client.clone(), graph.clone()));
    wiring.add(namespace::Namespaces::new(scope(), graph.clone()));
    let listeners = wiring.listeners;
    view::watch(client, view, graph, Arc::new(listeners), &tasks, &stop);
    Controllers { tasks, stop }
}

struct Wiring<'a> {
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
    listeners: Vec<Listener>,
}

impl Wiring<'_> {
    /// Runs a controller on the changes that concern it.
    fn add<C: Controller>(&mut self, controller: C) {
        let controller = Arc::new(controller);
        let (queue, keys) = mpsc::unbounded_channel();
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(work::run(controller.clone(), keys)));
        self.listeners.push(Box::new(move |change| {
            controller.concerns(change, &mut |key| {
                // Fails only once the controller has been stopped.
                let _ = queue.send(key);
            });
        }));
    }
}

impl Controllers {
    /// Ends the controllers and waits for that.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
