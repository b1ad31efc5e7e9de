//! What kube-proxy does: on every node, traffic to a Service's address goes to one of its endpoints.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::iptables::restore;
use super::services::{Snapshot, follow};
use crate::NodeInfo;

mod rules;

use rules::{NodeView, Rules};

/// Changes that come within this time of each other go to the kernel together.
const COALESCE: Duration = Duration::from_millis(2);

/// How soon a transaction that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The service proxies of all nodes.
pub struct ServiceProxy {
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Per node: whether the first rules are in force.
    synced: Vec<watch::Receiver<bool>>,
}

/// Starts a proxy on each node. Returns at once; see [`ServiceProxy::synced`].
pub fn start(client: &kube::Client, nodes: &[NodeInfo]) -> ServiceProxy {
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let snapshots = follow(client, stop.clone());
    let mut synced = Vec::new();
    for node in nodes {
        for v4 in [true, false] {
            if node.addresses.iter().any(|address| address.is_ipv4() == v4) {
                let (sender, receiver) = watch::channel(false);
                synced.push(receiver);
                tasks.spawn(proxy(node.clone(), v4, snapshots.clone(), sender, stop.clone()));
            }
        }
    }
    tasks.close();
    ServiceProxy { stop, tasks, synced }
}

impl ServiceProxy {
    /// Waits until every node has had its first rules. Returns also when the proxy is stopped before.
    pub async fn synced(&self) {
        for node in &self.synced {
            let _ = node.clone().wait_for(|synced| *synced).await;
        }
    }

    /// Ends following the cluster. Rules stay: they go with the node's namespace.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for ServiceProxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn proxy(
    node: NodeInfo,
    v4: bool,
    mut snapshots: watch::Receiver<Snapshot>,
    synced: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut installed: Option<Rules> = None;
    while let Some(Ok(())) = stop.run_until_cancelled(snapshots.changed()).await {
        tokio::time::sleep(COALESCE).await;
        loop {
            let Some(services) = snapshots.borrow_and_update().clone() else { break };
            let wanted = Rules::of(&services, &NodeView { name: &node.name, addresses: &node.addresses, v4 });
            if installed.as_ref() == Some(&wanted) {
                break;
            }
            let script = wanted.script(installed.as_ref());
            let netns = node.netns.clone();
            let result = tokio::task::spawn_blocking(move || {
                netns.run(|| restore(v4, &script)).map_err(io::Error::other).flatten()
            });
            match result.await.map_err(io::Error::other).flatten() {
                Ok(()) => {
                    installed = Some(wanted);
                    synced.send_replace(true);
                    break;
                }
                Err(error) => {
                    tracing::error!(node = %node.name, %error, "installing the rules of services");
                    if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }
}
