//! One Pod on the node, from its arrival to its last trace.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use netns::NetNs;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RETRY;
use super::events::Severity;
use super::fields::Fields;
use super::node::Node;
use super::state::{Slot, State};
use super::{status, volumes};
use crate::SandboxInfo;

pub(super) struct PodRuntime {
    pub(super) node: Arc<Node>,
    /// The newest the API server told.
    pod: watch::Sender<Arc<Pod>>,
    pub(super) state: watch::Sender<State>,
    pub(super) sandbox: OnceLock<SandboxInfo>,
    /// Volumes and such; goes with the Pod.
    pub(super) directory: PathBuf,
    /// Stays.
    pub(super) logs: PathBuf,
    /// The object is gone, or the kubelet stops: no more courtesies.
    gone: CancellationToken,
    /// The node has lost its power.
    cut: CancellationToken,
}

/// Why the Pod's life ended.
enum End {
    /// By deletion, with this long to end in order.
    Deleted(Duration),
    /// At once.
    Abandoned,
    /// With the node. The Pod's directory stays, and its network is taken down by nobody.
    CutOff,
}

impl PodRuntime {
    pub(super) fn new(node: Arc<Node>, pod: Pod) -> Arc<Self> {
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let directory = node.pods.join(text(&meta.uid));
        let logs = node.logs.join(format!("{}_{}", text(&meta.namespace), text(&meta.name)));
        Arc::new(Self {
            state: watch::Sender::new(State::new(&pod)),
            pod: watch::Sender::new(Arc::new(pod)),
            sandbox: OnceLock::new(),
            gone: CancellationToken::new(),
            cut: CancellationToken::new(),
            node,
            directory,
            logs,
        })
    }

    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        let pod = self.pod();
        pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
    }

    pub(super) fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.pod.borrow())
    }

    pub(super) fn update(&self, pod: Pod) {
        self.pod.send_replace(Arc::new(pod));
    }

    pub(super) fn updates(&self) -> watch::Receiver<Arc<Pod>> {
        self.pod.subscribe()
    }

    pub(super) fn abandon(&self) {
        self.gone.cancel();
    }

    pub(super) fn cut_off(&self) {
        self.cut.cancel();
    }

    pub(super) fn sandbox(&self) -> Option<&SandboxInfo> {
        self.sandbox.get()
    }

    pub(super) fn on_host_network(&self) -> bool {
        self.pod().spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    /// The network namespace of the Pod's processes, once there is one.
    pub(super) fn netns(&self) -> Option<&NetNs> {
        if self.on_host_network() {
            return Some(&self.node.info.netns);
        }
        self.sandbox.get().map(|sandbox| &sandbox.netns)
    }

    /// Runs `read` on the Pod's fields as they are now.
    pub(super) fn with_fields<T>(&self, read: impl FnOnce(&Fields<'_>) -> T) -> T {
        let pod = self.pod();
        let pod_ips: Vec<IpAddr> = self.state.borrow().pod_ips.clone();
        read(&Fields { pod: &pod, pod_ips: &pod_ips, host_ips: &self.node.info.addresses })
    }

    pub(super) fn edit(&self, index: usize, change: impl FnOnce(&mut Slot)) {
        self.state.send_modify(|state| {
            if let Some(slot) = state.slots.get_mut(index) {
                change(slot);
            }
        });
    }

    pub(super) fn slot(&self, index: usize) -> Slot {
        self.state.borrow().slots[index].clone()
    }

    pub(super) fn event(&self, container: Option<&str>, severity: Severity, reason: &'static str, message: String) {
        self.node.events.record(&self.pod(), container, severity, reason, message);
    }

    /// Everything: until the Pod is deleted and nothing of it is left but its logs.
    pub(super) async fn run(self: Arc<Self>) {
        if let Err(error) = self.make_directories() {
            tracing::error!(directory = %self.directory.display(), %error, "making a pod's directories");
        }
        let publishing = {
            let runtime = Arc::clone(&self);
            tokio::spawn(async move { runtime.publish().await })
        };
        let mut tasks = JoinSet::new();
        let end = tokio::select! {
            biased;
            () = self.cut.cancelled() => End::CutOff,
            () = self.gone.cancelled() => End::Abandoned,
            grace = self.deletion() => End::Deleted(grace),
            () = self.live(&mut tasks) => End::Abandoned,
        };
        tasks.shutdown().await;
        if let End::Deleted(grace) = end {
            tokio::select! {
                () = self.gone.cancelled() => {}
                () = self.cut.cancelled() => {}
                () = self.terminate(grace) => {}
            }
        }
        self.kill_all().await;
        if self.cut.is_cancelled() {
            publishing.abort();
            self.lose_network().await;
            // as the control plane says of Pods on a node that is not heard of: not ready
            self.state.send_replace(State::new(&self.pod()));
            if let Err(error) = self.patch_status(&self.status()).await {
                tracing::debug!(%error, "publishing the status of a pod that is gone");
            }
            return;
        }
        self.leave_network().await;
        publishing.abort();
        volumes::remove(&self.pod(), &self.directory);
        if !self.gone.is_cancelled() {
            // The last word before the object goes, for those who watch it.
            let _ = self.patch_status(&self.status()).await;
            self.delete_object().await;
        }
    }

    fn make_directories(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        // A Pod of the same name before this one leaves its logs under a number.
        let earlier = (1..).map(|number| numbered(&self.logs, number)).find(|path| !path.exists());
        if let Some(earlier) = earlier.filter(|_| self.logs.exists()) {
            std::fs::rename(&self.logs, earlier)?;
        }
        std::fs::create_dir_all(&self.logs)
    }

    /// Waits until the Pod is being deleted; how long it has then.
    async fn deletion(&self) -> Duration {
        let mut updates = self.updates();
        let deleted = updates.wait_for(|pod| pod.metadata.deletion_timestamp.is_some()).await;
        let Some(pod) = deleted.ok().map(|pod| Arc::clone(&pod)) else { return std::future::pending().await };
        let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    async fn leave_network(&self) {
        let Some(sandbox) = self.sandbox.get() else { return };
        self.node.observer.removed(sandbox).await;
        while let Err(error) = self.node.networking.del(&self.node.info, sandbox).await {
            self.event(None, Severity::Warning, "FailedKillPod", format!("error killing pod: {error}"));
            tokio::select! {
                () = self.gone.cancelled() => break,
                () = self.cut.cancelled() => break,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        self.node.networking.forget(sandbox);
        self.detach(sandbox).await;
    }

    /// The namespace goes without a word to the plugins.
    async fn lose_network(&self) {
        let Some(sandbox) = self.sandbox.get() else { return };
        self.node.observer.removed(sandbox).await;
        self.node.networking.forget(sandbox);
        self.detach(sandbox).await;
    }

    async fn detach(&self, sandbox: &SandboxInfo) {
        if let Err(error) = self.node.network.detach_pod(sandbox).await {
            tracing::warn!(pod = %sandbox.pod, %error, "detaching a pod");
        }
    }

    fn status(&self) -> PodStatus {
        let pod = self.pod();
        // Not seen as a change by those who wait for one: it follows from what they have seen.
        self.state.send_if_modified(|state| {
            status::note_conditions(state, &pod);
            false
        });
        status::status(&self.state.borrow(), &pod, &self.node.info.addresses)
    }

    /// Keeps the object's status up to date. While one patch is on its way, changes collect for the next.
    async fn publish(&self) {
        let (mut state, mut pod) = (self.state.subscribe(), self.updates());
        let mut published = None;
        loop {
            state.mark_unchanged();
            let status = self.status();
            if published.as_ref() != Some(&status) {
                match self.patch_status(&status).await {
                    Ok(()) => published = Some(status),
                    Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => return,
                    Err(error) => {
                        tracing::warn!(%error, "publishing a pod's status");
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                }
            }
            let still_there = tokio::select! {
                changed = state.changed() => changed,
                changed = pod.changed() => changed,
            };
            if still_there.is_err() {
                return;
            }
        }
    }

    fn api(&self) -> (Api<Pod>, String, Option<String>) {
        let pod = self.pod();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let api = Api::namespaced(self.node.client.clone(), namespace);
        (api, pod.metadata.name.clone().unwrap_or_default(), pod.metadata.uid.clone())
    }

    async fn patch_status(&self, status: &PodStatus) -> Result<(), kube::Error> {
        let (api, name, uid) = self.api();
        let patch = json!({"metadata": {"uid": uid}, "status": status});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Tells the API server that nothing is left, and waits for its word that the object is gone.
    async fn delete_object(&self) {
        let (api, name, uid) = self.api();
        let parameters =
            DeleteParams::default().grace_period(0).preconditions(Preconditions { uid, ..Preconditions::default() });
        while let Err(error) = api.delete(&name, &parameters).await {
            match error {
                kube::Error::Api(answer) if matches!(answer.code, 404 | 409) => break,
                error => tracing::warn!(%name, %error, "deleting a pod that has ended"),
            }
            tokio::select! {
                () = self.gone.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        self.gone.cancelled().await;
    }
}

/// `name.1`: a Pod's name may have dots, so this is no extension.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}
