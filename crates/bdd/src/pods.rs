//! The cluster's Pods as a watch knows them, and how long each took to become ready.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A Pod, by what never changes about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its cluster, where there are several.
    pub cluster: Option<Arc<str>>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses, as far as known.
    pub addresses: Vec<IpAddr>,
}

impl PodRef {
    /// The name under which its packets are recorded.
    #[must_use]
    pub fn host(&self) -> String {
        host(self.at(), &self.namespace, &self.name)
    }

    /// Its cluster, where there are several.
    #[must_use]
    pub fn at(&self) -> Option<&str> {
        self.cluster.as_deref()
    }
}

/// The name under which a Pod's packets are recorded: `<namespace>/<name>`, after its cluster where there are several.
#[must_use]
pub fn host(cluster: Option<&str>, namespace: &str, name: &str) -> String {
    let cluster = cluster.map(|cluster| format!("{cluster}/")).unwrap_or_default();
    format!("{cluster}{namespace}/{name}")
}

/// Addresses in a Pod's status.
#[must_use]
pub fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let many = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok());
    let mut found: Vec<IpAddr> = many.collect();
    if found.is_empty() {
        found.extend(status.pod_ip.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    }
    found
}

/// Whether a Pod's condition is true.
#[must_use]
pub fn has_condition(pod: &Pod, kind: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
}

/// Whether a container of a Pod has ended.
#[must_use]
pub fn has_ended(pod: &Pod, container: &str) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
    statuses
        .into_iter()
        .any(|s| s.name == container && s.state.as_ref().is_some_and(|state| state.terminated.is_some()))
}

/// Whether a Pod is on its way out.
#[must_use]
pub fn is_going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

#[derive(Default)]
struct Known {
    pods: BTreeMap<(String, String), Arc<Pod>>,
    first_seen: BTreeMap<String, Instant>,
    ready_after: BTreeMap<String, Duration>,
}

/// All Pods of a cluster.
pub struct Pods {
    cluster: Option<Arc<str>>,
    known: Arc<Mutex<Known>>,
    changed: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Pods {
    /// Begins to watch a cluster, which has a name where there are several.
    #[must_use]
    pub fn watch(client: Client, cluster: Option<Arc<str>>) -> Self {
        let known = Arc::new(Mutex::new(Known::default()));
        let (tell, changed) = watch::channel(0);
        let task = tokio::spawn(follow(client, Arc::clone(&known), tell));
        Self { cluster, known, changed, task }
    }

    /// One of these Pods, by what never changes about it.
    #[must_use]
    pub fn reference(&self, pod: &Pod) -> PodRef {
        PodRef {
            cluster: self.cluster.clone(),
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            addresses: addresses(pod),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Pod, when it exists.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.lock().pods.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All Pods.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.lock().pods.values().cloned().collect()
    }

    /// Pods of a workload, oldest first; ties by name.
    #[must_use]
    pub fn of(&self, namespace: &str, workload: &str) -> Vec<Arc<Pod>> {
        let known = self.lock();
        let mut found: Vec<_> = known
            .pods
            .values()
            .filter(|p| {
                p.namespace().as_deref() == Some(namespace) && p.labels().get("app").is_some_and(|a| a == workload)
            })
            .cloned()
            .collect();
        let seen = |p: &Arc<Pod>| known.first_seen.get(&p.uid().unwrap_or_default()).copied();
        let created = |p: &Arc<Pod>| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
        found.sort_by(|a, b| {
            (created(a), ordinal(&a.name_any()), seen(a), a.name_any()).cmp(&(
                created(b),
                ordinal(&b.name_any()),
                seen(b),
                b.name_any(),
            ))
        });
        found
    }

    /// Times from the first sight of each Pod to its first Ready condition.
    #[must_use]
    pub fn ready_times(&self) -> Vec<Duration> {
        self.lock().ready_after.values().copied().collect()
    }

    /// Waits for a change, or for `patience` to pass.
    pub async fn changed(&self, patience: Duration) {
        let mut changed = self.changed.clone();
        changed.mark_unchanged();
        // the sender lives as long as the task; a closed channel only means that the wait is over
        let _ = tokio::time::timeout(patience, changed.changed()).await;
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The number at the end of a StatefulSet Pod's name.
fn ordinal(name: &str) -> Option<u32> {
    name.rsplit_once('-')?.1.parse().ok()
}

async fn follow(client: Client, known: Arc<Mutex<Known>>, tell: watch::Sender<u64>) {
    let mut events = watcher::watcher(Api::<Pod>::all(client), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        // the watcher repairs itself; an error is only a pause
        let Ok(event) = event else { continue };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => known.pods.clear(),
            Event::InitApply(pod) | Event::Apply(pod) => known.learn(pod),
            Event::Delete(pod) => {
                known.pods.remove(&(pod.namespace().unwrap_or_default(), pod.name_any()));
            }
            Event::InitDone => {}
        }
        drop(known);
        tell.send_modify(|n| *n += 1);
    }
}

impl Known {
    fn learn(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let first = *self.first_seen.entry(uid.clone()).or_insert_with(Instant::now);
        if has_condition(&pod, "Ready") {
            self.ready_after.entry(uid).or_insert_with(|| first.elapsed());
        }
        self.pods.insert((pod.namespace().unwrap_or_default(), pod.name_any()), Arc::new(pod));
    }
}
