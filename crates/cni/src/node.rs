//! What plugin and node agent say to each other: JSON objects, one line each way, over a socket; and a lease.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the agent may think. It may wait itself for a Pod that its watch has not seen yet.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An agent that has not been heard of for so long is gone. It touches its lease every ten seconds; a new version of it may have to
/// be fetched from far away in between.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// How often the agent touches its lease.
pub const RENEWAL: Duration = Duration::from_secs(10);

/// In the lease while another program takes the plugin out of the network configuration, and why that is bad.
pub const CONTEST: &str = "another program takes consul-cni out of the network configuration again and again; it must be told to \
                           leave other plugins in, as by Cilium's cni.exclusive=false";

/// What the lease says: its holder, and whether the node is contested.
#[must_use]
pub fn lease_text(holder: &str, contested: bool) -> String {
    if contested { format!("{holder}\n{CONTEST}\n") } else { holder.to_owned() }
}

/// Whether a lease says that another program takes the plugin out again and again.
#[must_use]
pub fn is_contested(lease: &str) -> bool {
    lease.contains(CONTEST)
}

/// What the plugin says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// Which annotations has this Pod?
    Annotations(PodName),
    /// This Pod is redirected now. Nothing is answered.
    Redirected(PodName),
    /// This Pod is of the mesh and could not be redirected. Nothing is answered.
    Refused(PodName),
}

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, where the runtime has told it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// The Pod's annotations.
    Annotations(BTreeMap<String, String>),
    /// Why there is no answer.
    Failed(String),
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
