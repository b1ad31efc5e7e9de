//! ReplicaSets: as many Pods as asked for.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use super::{events, pods};

pub(super) struct ReplicaSets {
    client: kube::Client,
    view: Arc<View>,
}

impl ReplicaSets {
    pub(super) fn new((client, view): (kube::Client, Arc<View>)) -> Self {
        Self { client, view }
    }

    /// Makes or deletes Pods until there are as many as asked for.
    async fn balance(&self, set: &ReplicaSet, active: Vec<Arc<Pod>>) -> Result {
        let wanted = replicas(set);
        if active.len() < wanted {
            let Some(template) = &set.spec.template else { return Ok(()) };
            let mut pod = pods::from_template(set, template);
            pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
            let missing = wanted - active.len();
            let made = join_all((0..missing).map(|_| pods::create(&self.client, &self.view, &pod))).await;
            return made.into_iter().find_map(Result::err).map_or(Ok(()), Err);
        }
        let surplus = active.len() - wanted;
        let mut by_worth = active;
        by_worth.sort_by_key(|pod| worth(pod));
        let gone = join_all(by_worth[..surplus].iter().map(|pod| pods::delete(&self.client, &self.view, pod))).await;
        gone.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    async fn update_status(&self, set: &ReplicaSet, failure: Option<&kube::Error>) -> Result {
        let all = pods::controlled_by(&self.view, &set.metadata);
        let active: Vec<_> = all.iter().filter(|pod| pods::is_active(pod)).collect();
        let count = |counts: &dyn Fn(&Pod) -> bool| {
            i32::try_from(active.iter().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
        };
        let labels = set.spec.selector.match_labels.clone().unwrap_or_default();
        let ready = count(&pods::is_ready);
        let before = set.status.clone().unwrap_or_default();
        let conditions = failure.map(|error| {
            vec![ReplicaSetCondition {
                type_: Some("ReplicaFailure".to_owned()),
                status: Some("True".to_owned()),
                reason: Some("FailedCreate".to_owned()),
                message: Some(events::words(error)),
                last_transition_time: before
                    .conditions
                    .iter()
                    .flatten()
                    .find(|found| found.type_.as_deref() == Some("ReplicaFailure"))
                    .map_or_else(|| Some(events::now()), |found| found.last_transition_time.clone()),
            }]
        });
        let status = ReplicaSetStatus {
            replicas: count(&|_| true),
            fully_labeled_replicas: Some(count(&|pod| {
                labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
            })),
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            observed_generation: set.metadata.generation,
            conditions,
            terminating_replicas: None,
        };
        if status == before {
            return Ok(());
        }
        let mut patch = json!({ "status": status });
        if status.conditions.is_none() {
            patch["status"]["conditions"] = json!(null);
        }
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let written = api.patch_status(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        if let Some(written) = settled(written)? {
            self.view.replica_sets.observe(Arc::new(written));
        }
        Ok(())
    }
}

pub(super) fn replicas(set: &ReplicaSet) -> usize {
    let wanted = set.spec.replicas.unwrap_or(1);
    usize::try_from(wanted).unwrap_or(0)
}

/// The Pods least worth keeping first: without a node, not running, not ready, newest.
fn worth(pod: &Pod) -> (bool, bool, bool, std::cmp::Reverse<Option<k8s_openapi::jiff::Timestamp>>) {
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (placed, pods::phase(pod) == "Running", pods::is_ready(pod), std::cmp::Reverse(created))
}

impl Controller for ReplicaSets {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        match change.object {
            Object::ReplicaSet(set) if !change.gone => tell((set.namespace().unwrap_or_default(), set.name_any())),
            Object::Pod(pod) => {
                if let Some(name) = pods::controller_name(&pod.metadata, "ReplicaSet") {
                    tell(name);
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(set) = self.view.replica_sets.get(key) else { return Ok(()) };
        let mut failure = None;
        if set.metadata.deletion_timestamp.is_none() {
            let mut active = pods::controlled_by(&self.view, &set.metadata);
            active.retain(|pod| pods::is_active(pod));
            failure = self.balance(&set, active).await.err();
        }
        if let Some(error) = &failure {
            let message = format!("Error creating: {}", events::words(error));
            events::warn(&self.client, &*set, "replicaset-controller", "FailedCreate", &message).await;
        }
        self.update_status(&set, failure.as_ref()).await?;
        failure.map_or(Ok(()), Err)
    }
}
