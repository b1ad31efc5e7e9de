//! Opens a tap on every interface of a Pod before its first process runs, and keeps what is known of its network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use capture::{Place, Recorder, Tap, Vantage};
use futures::future::join_all;
use netns::NetNs;
use sim::{SandboxInfo, SandboxObserver};

use crate::install::gateway;
use crate::timeline::Timeline;

/// Records every Pod of the scenario. The mesh's own Pods talk to servers outside the mesh and are not part of any
/// statement, but for its gateways.
pub(super) struct Taps {
    pub(super) recorder: Arc<Recorder>,
    pub(super) timeline: Timeline,
    cluster: Option<Arc<str>>,
    is_recorded: bool,
    sandboxes: Mutex<HashMap<(String, String), SandboxInfo>>,
    /// By the Pod's uid: one of the same name may begin before the one before it has ended.
    taps: Mutex<HashMap<String, Vec<Tap>>>,
}

/// All Pods may talk to one station at a time.
const STATION: usize = 16 << 20;
/// Namespace of the mesh's own Pods.
const MESH: &str = "consul";

impl Taps {
    /// Of a cluster, which has a name where there are several. Unless `is_recorded`, nothing is.
    pub(super) fn new(
        recorder: Arc<Recorder>,
        timeline: Timeline,
        cluster: Option<Arc<str>>,
        is_recorded: bool,
    ) -> Self {
        Self { recorder, timeline, cluster, is_recorded, sandboxes: Mutex::default(), taps: Mutex::default() }
    }

    /// A Pod's network, when it has one now.
    pub(super) fn sandbox(&self, namespace: &str, pod: &str) -> Option<SandboxInfo> {
        let sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        sandboxes.get(&(namespace.to_owned(), pod.to_owned())).cloned()
    }

    async fn tap(&self, netns: &NetNs, interface: &str, host: &str, place: Place, bytes: usize) -> Option<Tap> {
        if !self.is_recorded {
            return None;
        }
        let vantage = Vantage { host: host.to_owned(), place };
        let tap = self.recorder.tap_busy(netns, interface, vantage, bytes).await;
        // statements about it will say that nobody recorded it
        tap.inspect_err(|error| self.timeline.note(format!("not recorded: {error}"))).ok()
    }

    /// Records a host that is no Pod.
    pub(super) async fn station(&self, netns: &NetNs, name: &str, place: Place) {
        self.tap(netns, "eth0", name, place, STATION).await;
    }
}

#[async_trait]
impl SandboxObserver for Taps {
    async fn created(&self, sandbox: &SandboxInfo) {
        let key = (sandbox.namespace.clone(), sandbox.pod.clone());
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, sandbox.clone());
        if sandbox.namespace == MESH && !gateway::is_one(&sandbox.namespace, &sandbox.pod) {
            return;
        }
        let host = crate::pods::host(self.cluster.as_deref(), &sandbox.namespace, &sandbox.pod);
        let (lo, eth0, veth) = tokio::join!(
            self.tap(&sandbox.netns, "lo", &host, Place::Loopback, 0),
            self.tap(&sandbox.netns, "eth0", &host, Place::Eth0, 0),
            self.tap(&sandbox.node_netns, &sandbox.host_interface, &host, Place::Veth, 0),
        );
        let taps = [lo, eth0, veth].into_iter().flatten().collect();
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).insert(sandbox.uid.clone(), taps);
    }

    async fn removed(&self, sandbox: &SandboxInfo) {
        let key = (sandbox.namespace.clone(), sandbox.pod.clone());
        {
            let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
            if sandboxes.get(&key).is_some_and(|known| known.uid == sandbox.uid) {
                sandboxes.remove(&key);
            }
        }
        let taps = self.taps.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox.uid);
        join_all(taps.iter().flatten().map(Tap::stop)).await;
    }
}
