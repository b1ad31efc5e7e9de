//! The node agent's second task: what needs the API server, all of it off the path of a Pod's start.
//!
//! - Answers the plugin where the runtime hands over no annotations ([`socket`]).
//! - Writes annotation `transparent-proxy-status`: `waiting` for a Pod that the plugin has refused, `complete` for one that is
//!   redirected ([`status`]).
//! - Finds Pods of the mesh that are not redirected, and redirects them in place or has them evicted ([`repair`]).
//! - Tells of containers that run as the proxy's user because their image says so ([`users`]), and of connections that the rules
//!   have counted because another process took that user ([`repair`]).
//!
//! An API server that is away costs nothing but these: the plugin on the node works as before.

mod events;
mod metrics;
mod namespaces;
mod pods;
mod repair;
mod socket;
mod status;
mod users;

pub use metrics::{Metrics, serve as serve_metrics};
pub use repair::Repair;

use crate::install::Progress;
use crate::node::CONTEST;
use events::Events;
use kube::Client;
use namespaces::Namespaces;
use pods::Pods;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What the task is made of.
pub struct Options {
    /// Of the agent's service account.
    pub client: Client,
    /// Name of the node.
    pub node: String,
    /// Where the plugin asks.
    pub socket: PathBuf,
    /// Where the runtime keeps the Pods' network namespaces.
    pub netns_dir: PathBuf,
    /// What is done with a Pod that is not redirected.
    pub repair: Repair,
    /// How the first task goes.
    pub progress: watch::Receiver<Progress>,
    /// The numbers.
    pub metrics: Metrics,
}

/// Runs until it is dropped.
pub async fn run(options: Options) {
    let Options { client, node, socket, netns_dir, repair, progress, metrics } = options;
    let (pods, following) = Pods::follow(client.clone(), &node);
    let (status, writing) = status::writer(client.clone(), metrics.clone());
    let events = Events::new(client.clone(), node);
    let socket = socket::Socket { path: socket, pods: pods.clone(), status: status.clone(), metrics: metrics.clone() };
    let repairer = repair::Repairer {
        client,
        repair,
        pods: pods.clone(),
        namespaces: Arc::new(Mutex::new(Namespaces::new(netns_dir))),
        status,
        events: events.clone(),
        metrics: metrics.clone(),
        memory: repair::Memory::default(),
    };
    let contest = tell_of_contest(progress, events.clone());
    tokio::join!(following, writing, contest, socket.serve(), repairer.run(), users::watch(pods, events, metrics));
}

/// An event each time that another program begins to take the plugin out.
async fn tell_of_contest(mut progress: watch::Receiver<Progress>, events: Events) {
    let mut before = false;
    while progress.changed().await.is_ok() {
        let now = progress.borrow_and_update().contested;
        if now && !before {
            events.tell_of_node("ConsulCNIContested", CONTEST).await;
        }
        before = now;
    }
}
