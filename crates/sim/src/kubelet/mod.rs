//! A node's kubelet: watches the Pods bound to its node and runs each of them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::Network;
use crate::{ImageTable, Missing, NodeInfo, Primary, ProbeOutcome, SandboxInfo, SandboxObserver};

mod agent;
mod boot;
mod cni;
mod env;
mod etc;
mod events;
mod expand;
mod fields;
mod hooks;
mod host;
mod lifecycle;
mod node;
mod pod;
mod probe;
mod probing;
mod processes;
mod security;
mod state;
mod status;
mod supervise;
mod tempo;
mod termination;
mod volumes;

pub(crate) use node::host_root;

use node::Node;
use pod::PodRuntime;

/// Issues the token of a Pod: namespace, service account, name of the Pod, uid of the Pod.
pub type IssueToken = Arc<dyn Fn(&str, &str, &str, &str) -> String + Send + Sync>;

/// What a kubelet takes from the API server besides what its client can get.
#[derive(Clone)]
pub struct KubeletApi {
    /// The cluster's CA, for `kube-root-ca.crt`.
    pub ca_pem: String,
    /// The API server as Pods reach it: the ClusterIP and port of the Service `kubernetes`.
    pub server: SocketAddr,
    /// Issues the Pods' tokens.
    pub issue_token: IssueToken,
}

/// What a kubelet is made of.
pub struct KubeletOptions {
    /// Its node.
    pub node: NodeInfo,
    /// An administrator's client.
    pub client: kube::Client,
    /// Makes the Pods' networks.
    pub network: Arc<Network>,
    /// Tokens and addresses of the API server.
    pub api: KubeletApi,
    /// What image names stand for.
    pub images: ImageTable,
    /// Told of every sandbox before its first process.
    pub observer: Arc<dyn SandboxObserver>,
    /// Volumes go here, and go with the Pod. Kubelets of a lab may share it.
    pub scratch: PathBuf,
    /// Logs go to `logs/<namespace>_<pod>/` here.
    pub artifacts: PathBuf,
    /// How many times faster than real time probe periods and back-offs pass.
    pub tempo: f64,
    /// What the kernel must pretend to lack.
    pub lacks: Vec<Missing>,
    /// The cluster's DNS, as Pods reach it.
    pub cluster_dns: IpAddr,
    /// The runtime hands the Pods' annotations to CNI plugins that declare the capability, as containerd and CRI-O do.
    pub hands_over_annotations: bool,
}

/// A running kubelet.
pub struct Kubelet {
    node: Arc<Node>,
    pods: Mutex<HashMap<String, Handle>>,
    stop: CancellationToken,
    /// Whether the node has power.
    powered: watch::Sender<bool>,
    /// How many Pods run.
    count: watch::Sender<usize>,
    tasks: TaskTracker,
}

/// A Pod that the kubelet runs, by uid.
struct Handle {
    runtime: Arc<PodRuntime>,
    /// Order of arrival: of two Pods with one name, the later is meant.
    sequence: u64,
}

impl Kubelet {
    /// Starts watching and running Pods.
    ///
    /// # Errors
    /// When the container shim is not beside this program, or a directory cannot be made.
    pub async fn start(options: KubeletOptions) -> anyhow::Result<Arc<Self>> {
        let node = Node::new(options).context("start kubelet")?;
        let kubelet = Arc::new(Self {
            node: Arc::new(node),
            pods: Mutex::default(),
            stop: CancellationToken::new(),
            powered: watch::Sender::new(true),
            count: watch::Sender::new(0),
            tasks: TaskTracker::new(),
        });
        let watching = Arc::clone(&kubelet);
        kubelet.tasks.spawn(async move {
            let stop = watching.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = watching.run() => {}
            }
        });
        Ok(kubelet)
    }

    /// Cuts the node's power, and brings it up again: all processes end at once, the Pods' networks and `/run` are gone, and the
    /// plugins are told nothing. Then the Pods of this node are started anew.
    ///
    /// # Errors
    /// When the node's files cannot be changed.
    pub async fn restart(&self, primary: Primary) -> std::io::Result<()> {
        self.powered.send_replace(false);
        let lost: Vec<_> = self.lock().values().map(|handle| Arc::clone(&handle.runtime)).collect();
        lost.iter().for_each(|runtime| runtime.cut_off());
        drop(lost);
        // the sender is ours: it cannot be gone
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
        self.node.networking.host().power_off()?;
        if primary == Primary::Rewrites {
            self.node.networking.write_primary()?;
        }
        self.powered.send_replace(true);
        Ok(())
    }

    /// The sandbox of a Pod, once it has one. Pods on the host's network have none.
    #[must_use]
    pub fn sandbox(&self, namespace: &str, pod: &str) -> Option<SandboxInfo> {
        self.find(namespace, pod)?.sandbox().cloned()
    }

    /// Runs every probe that the Pod declares once, now, besides the periodic ones.
    ///
    /// # Errors
    /// When the Pod is not on this node or has no sandbox yet.
    pub async fn probe_now(&self, namespace: &str, pod: &str) -> anyhow::Result<Vec<ProbeOutcome>> {
        let runtime = self
            .find(namespace, pod)
            .with_context(|| format!("pod {namespace}/{pod} does not run on node {}", self.node.info.name))?;
        runtime.probe_now().await
    }

    /// Runs a CNI verb for a Pod once more.
    ///
    /// # Errors
    /// When the Pod has no network, or a plugin fails.
    pub async fn run_plugins(&self, namespace: &str, pod: &str, verb: &str) -> anyhow::Result<()> {
        let sandbox = self.sandbox(namespace, pod).with_context(|| format!("find the network of {namespace}/{pod}"))?;
        Ok(self.node.networking.again(verb, &self.node.info, &sandbox).await?)
    }

    /// Kills every Pod at once and waits until all are gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        for handle in self.lock().values() {
            handle.runtime.abandon();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.node.networking.host().close();
        self.node.events.close().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Handle>> {
        // A panic elsewhere leaves a map that is still a map.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, namespace: &str, pod: &str) -> Option<Arc<PodRuntime>> {
        self.lock()
            .values()
            .filter(|handle| handle.runtime.is(namespace, pod))
            .max_by_key(|handle| handle.sequence)
            .map(|handle| Arc::clone(&handle.runtime))
    }

    /// Follows the Pods while the node has power.
    async fn run(self: &Arc<Self>) {
        let mut powered = self.powered.subscribe();
        loop {
            // the sender is ours: it cannot be gone
            let _ = powered.wait_for(|on| *on).await;
            tokio::select! {
                () = self.watch() => return,
                _ = powered.wait_for(|on| !*on) => {}
            }
        }
    }

    async fn watch(self: &Arc<Self>) {
        let api: Api<Pod> = Api::all(self.node.client.clone());
        let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.node.info.name));
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed = Vec::new();
        loop {
            match events.try_next().await {
                Ok(Some(watcher::Event::Apply(pod))) => self.applied(pod),
                Ok(Some(watcher::Event::Delete(pod))) => self.deleted(&pod.uid().unwrap_or_default()),
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(pod))) => {
                    listed.push(pod.uid().unwrap_or_default());
                    self.applied(pod);
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    let gone: Vec<_> = self.lock().keys().filter(|uid| !listed.contains(uid)).cloned().collect();
                    gone.iter().for_each(|uid| self.deleted(uid));
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(node = %self.node.info.name, %error, "watching pods"),
            }
        }
    }

    fn applied(self: &Arc<Self>, pod: Pod) {
        let on_this_node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&self.node.info.name);
        let Some(uid) = pod.uid().filter(|_| on_this_node) else { return };
        if self.stop.is_cancelled() || !*self.powered.borrow() {
            return;
        }
        let mut pods = self.lock();
        if let Some(handle) = pods.get(&uid) {
            handle.runtime.update(pod);
            return;
        }
        let sequence = pods.values().map(|handle| handle.sequence + 1).max().unwrap_or(0);
        let runtime = PodRuntime::new(Arc::clone(&self.node), pod);
        pods.insert(uid.clone(), Handle { runtime: Arc::clone(&runtime), sequence });
        self.count.send_replace(pods.len());
        drop(pods);
        let kubelet = Arc::clone(self);
        self.tasks.spawn(async move {
            runtime.run().await;
            let mut pods = kubelet.lock();
            pods.remove(&uid);
            kubelet.count.send_replace(pods.len());
        });
    }

    fn deleted(&self, uid: &str) {
        if let Some(handle) = self.lock().get(uid) {
            handle.runtime.abandon();
        }
    }
}

/// How long a request for something that is not there yet (a Secret, a ConfigMap) waits before it asks again.
const RETRY: Duration = Duration::from_millis(100);
