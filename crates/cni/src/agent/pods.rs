//! The Pods of this node, as the API server has them.

use crate::node::PodName;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use redirect::contract::{ORIGINAL_POD, PREFIX};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between questions about a Pod that the watch does not have.
const RETRY: Duration = Duration::from_millis(500);

/// The Pods. Clones see the same.
#[derive(Clone)]
pub(super) struct Pods {
    client: Client,
    store: Store<Pod>,
    changed: watch::Receiver<u64>,
}

impl Pods {
    /// The Pods of a node, and what must run for them to be followed.
    pub(super) fn follow(client: Client, node: &str) -> (Self, impl Future<Output = ()> + use<>) {
        let (store, writer) = reflector::store();
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}")).page_size(200);
        let events = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().modify(trim);
        let mut events = Box::pin(reflector::reflector(writer, events));
        let (sender, changed) = watch::channel(0);
        let following = async move {
            let mut failing = false;
            while let Some(event) = events.next().await {
                match event {
                    Ok(_) => {
                        failing = false;
                        sender.send_modify(|count| *count += 1);
                    }
                    // once until it works again
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(
                            error = crate::plugin::causes(&error),
                            "the API server does not tell of this node's pods"
                        );
                    }
                    Err(_) => {}
                }
            }
        };
        (Self { client, store, changed }, following)
    }

    /// Waits until all Pods are known that there are at the beginning.
    pub(super) async fn known(&self) {
        if self.store.wait_until_ready().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Pod>> {
        self.store.state()
    }

    /// Tells of changes.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// The annotations of a Pod. The watch may be behind the runtime: then the API server is asked, again and again, for as long as
    /// the caller waits.
    pub(super) async fn annotations(&self, pod: &PodName) -> Result<BTreeMap<String, String>, String> {
        let key = ObjectRef::new(&pod.name).within(&pod.namespace);
        if let Some(found) = self.store.get(&key).filter(|found| is(found, pod)) {
            return Ok(found.metadata.annotations.clone().unwrap_or_default());
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        loop {
            match api.get_opt(&pod.name).await {
                Ok(Some(found)) if is(&found, pod) => return Ok(found.metadata.annotations.unwrap_or_default()),
                Ok(_) => return Err(format!("the API server has no such pod {}", pod.uid)),
                Err(kube::Error::Api(refused)) if matches!(refused.code, 400..=403) => {
                    return Err(format!("the API server refuses the node agent: {}", refused.message));
                }
                Err(error) => {
                    tracing::info!(%pod, error = crate::plugin::causes(&error), "the API server does not answer");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

fn is(found: &Pod, pod: &PodName) -> bool {
    pod.uid.is_empty() || found.metadata.uid.as_ref() == Some(&pod.uid)
}

/// Of a node's hundreds of Pods no more is kept than is looked at.
fn trim(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.owner_references = None;
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|key, _| key.starts_with(PREFIX) && key != ORIGINAL_POD);
    }
    if let Some(spec) = &mut pod.spec {
        let host_network = spec.host_network;
        *spec = k8s_openapi::api::core::v1::PodSpec { host_network, ..Default::default() };
    }
}

/// A Pod's name.
pub(super) fn name(pod: &Pod) -> PodName {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let meta = &pod.metadata;
    PodName { namespace: text(&meta.namespace), name: text(&meta.name), uid: text(&meta.uid) }
}
