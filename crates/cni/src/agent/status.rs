//! Annotation `transparent-proxy-status`, for people who look at a Pod. One field, in one patch.

use super::metrics::Metrics;
use crate::node::PodName;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use redirect::contract::TRANSPARENT_PROXY_STATUS;
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a patch is tried, and the first pause; each is twice as long as the one before.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// How far a Pod's redirection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It is to be redirected, and is not.
    Waiting,
    /// It is redirected.
    Complete,
}

impl Status {
    /// The annotation's value.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Complete => "complete",
        }
    }
}

/// Takes what is to be written. Nobody waits for it.
#[derive(Clone)]
pub(super) struct Writer(mpsc::UnboundedSender<(PodName, Status)>);

impl Writer {
    pub(super) fn set(&self, pod: PodName, status: Status) {
        // the other end lives as long as the agent
        let _ = self.0.send((pod, status));
    }
}

/// The writer, and what must run for anything to be written: in the order of arrival.
pub(super) fn writer(client: Client, metrics: Metrics) -> (Writer, impl Future<Output = ()>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let writing = async move {
        while let Some((pod, status)) = receiver.recv().await {
            write(&client, &metrics, &pod, status).await;
        }
    };
    (Writer(sender), writing)
}

async fn write(client: &Client, metrics: &Metrics, pod: &PodName, status: Status) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let mut metadata = json!({"annotations": {TRANSPARENT_PROXY_STATUS: status.text()}});
    if !pod.uid.is_empty() {
        // another Pod of this name is not meant
        metadata["uid"] = json!(pod.uid);
    }
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let mut pause = PAUSE;
    for _ in 0..ATTEMPTS {
        match api.patch_metadata(&pod.name, &PatchParams::default(), &patch).await {
            Ok(_) => return,
            Err(kube::Error::Api(refused)) if matches!(refused.code, 404 | 409) => return,
            Err(error) => {
                metrics.status_failures.inc();
                tracing::debug!(%pod, error = crate::plugin::causes(&error), "the status annotation was not written");
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    tracing::warn!(%pod, status = status.text(), "the status annotation could not be written");
}
