//! Deployments: a ReplicaSet per template, and the way from one to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::rollout::{self, Count, Slack};
use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use super::{events, pods, replica_set};

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) struct Deployments {
    client: kube::Client,
    view: Arc<View>,
}

impl Deployments {
    pub(super) fn new((client, view): (kube::Client, Arc<View>)) -> Self {
        Self { client, view }
    }

    fn sets(&self, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
        let uid = deployment.metadata.uid.as_deref();
        let namespace = &deployment.metadata.namespace;
        self.view
            .replica_sets
            .select(|set| set.metadata.namespace == *namespace && pods::is_controlled_by(&set.metadata, uid))
    }

    fn api(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default())
    }

    async fn create_set(
        &self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        revision: i64,
        replicas: usize,
    ) -> Result {
        let hash = pods::template_hash(&spec.template);
        let mut template = spec.template.clone();
        let labels = &mut template.metadata.get_or_insert_default().labels;
        labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", deployment.name_any())),
                namespace: deployment.namespace(),
                labels: template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()),
                annotations: Some(BTreeMap::from([(REVISION.to_owned(), revision.to_string())])),
                owner_references: deployment.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: i32::try_from(replicas).ok(),
                selector,
                template: Some(template),
                min_ready_seconds: spec.min_ready_seconds,
            },
            status: None,
        };
        if let Some(created) = settled(self.api(deployment).create(&PostParams::default(), &set).await)? {
            self.view.replica_sets.observe(Arc::new(created));
        }
        Ok(())
    }

    async fn scale(&self, set: &ReplicaSet, replicas: usize) -> Result {
        if replica_set::replicas(set) == replicas {
            return Ok(());
        }
        self.patch(set, json!({ "spec": { "replicas": replicas } })).await
    }

    async fn patch(&self, set: &ReplicaSet, patch: serde_json::Value) -> Result {
        let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let written = api.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        if let Some(written) = settled(written)? {
            self.view.replica_sets.observe(Arc::new(written));
        }
        Ok(())
    }

    /// One step towards the wanted state.
    async fn roll(&self, deployment: &Deployment, spec: &DeploymentSpec) -> Result {
        let hash = pods::template_hash(&spec.template);
        let (new, old): (Vec<_>, Vec<_>) =
            self.sets(deployment).into_iter().partition(|set| set.labels().get(HASH) == Some(&hash));
        let newest = old.iter().chain(&new).map(|set| revision(set)).max().unwrap_or(0);
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let paused = spec.paused == Some(true);
        let Some(new) = new.first() else {
            if paused {
                return Ok(());
            }
            let wait = recreates(spec) && self.has_pods(&old);
            if wait {
                return self.scale_down(&old).await;
            }
            let room = match recreates(spec) {
                true => wanted,
                false => first_step(spec, wanted, &old),
            };
            return self.create_set(deployment, spec, newest + 1, room).await;
        };
        if revision(new) < newest && !paused {
            let annotations = json!({ REVISION: (newest + 1).to_string() });
            self.patch(new, json!({ "metadata": { "annotations": annotations } })).await?;
        }
        if paused {
            return Ok(());
        }
        if recreates(spec) {
            self.scale_down(&old).await?;
            return if self.has_pods(&old) { Ok(()) } else { self.scale(new, wanted).await };
        }
        let numbers: Vec<_> = old.iter().map(|set| count(set)).collect();
        let (next_new, next_old) = rollout::step(wanted, slack(spec, wanted), count(new), &numbers);
        self.scale(new, next_new).await?;
        for (set, next) in old.iter().zip(next_old) {
            self.scale(set, next).await?;
        }
        Ok(())
    }

    async fn scale_down(&self, sets: &[Arc<ReplicaSet>]) -> Result {
        for set in sets {
            self.scale(set, 0).await?;
        }
        Ok(())
    }

    fn has_pods(&self, sets: &[Arc<ReplicaSet>]) -> bool {
        sets.iter().any(|set| pods::controlled_by(&self.view, &set.metadata).iter().any(|pod| !pods::is_finished(pod)))
    }

    async fn update_status(&self, deployment: &Deployment, spec: &DeploymentSpec) -> Result {
        let sets = self.sets(deployment);
        let hash = pods::template_hash(&spec.template);
        let new = sets.iter().find(|set| set.labels().get(HASH) == Some(&hash));
        let sum = |of: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(|set| of(set)).sum::<i32>();
        let replicas = sum(&|set| set.status.as_ref().map_or(0, |status| status.replicas));
        let ready = sum(&|set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0));
        let updated = new.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
        let wanted = spec.replicas.unwrap_or(1);
        let least = wanted - i32::try_from(slack(spec, usize::try_from(wanted).unwrap_or(0)).unavailable).unwrap_or(0);
        let done = updated == wanted && replicas == wanted && ready == wanted;
        let before = deployment.status.clone().unwrap_or_default();
        let mut conditions = vec![
            if ready >= least {
                ("Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
            } else {
                (
                    "Available",
                    false,
                    "MinimumReplicasUnavailable",
                    "Deployment does not have minimum availability.".to_owned(),
                )
            },
            match (new, done) {
                (Some(new), true) => (
                    "Progressing",
                    true,
                    "NewReplicaSetAvailable",
                    format!("ReplicaSet \"{}\" has successfully progressed.", new.name_any()),
                ),
                (Some(new), false) => (
                    "Progressing",
                    true,
                    "ReplicaSetUpdated",
                    format!("ReplicaSet \"{}\" is progressing.", new.name_any()),
                ),
                (None, _) => ("Progressing", true, "NewReplicaSetCreated", "Created new replica set".to_owned()),
            },
        ];
        let failures =
            sets.iter().filter_map(|set| set.status.as_ref()).flat_map(|status| status.conditions.iter().flatten());
        if let Some(failure) =
            failures.into_iter().find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"))
        {
            conditions.push(("ReplicaFailure", true, "FailedCreate", failure.message.clone().unwrap_or_default()));
        }
        let status = DeploymentStatus {
            replicas: Some(replicas),
            updated_replicas: Some(updated),
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            unavailable_replicas: Some((wanted.max(replicas) - ready).max(0)),
            observed_generation: deployment.metadata.generation,
            conditions: Some(conditions.into_iter().map(|new| condition(new, &before)).collect()),
            ..DeploymentStatus::default()
        };
        if status == before {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let api = Api::<Deployment>::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        let written = api.patch_status(&deployment.name_any(), &PatchParams::default(), &patch).await;
        if let Some(written) = settled(written)? {
            self.view.deployments.observe(Arc::new(written));
        }
        Ok(())
    }

    /// Deletes old, empty ReplicaSets beyond the history limit.
    async fn forget(&self, deployment: &Deployment, spec: &DeploymentSpec) -> Result {
        let hash = pods::template_hash(&spec.template);
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let mut old = self.sets(deployment);
        old.retain(|set| {
            let empty = set.status.as_ref().is_none_or(|status| status.replicas == 0);
            set.labels().get(HASH) != Some(&hash) && empty && replica_set::replicas(set) == 0
        });
        old.sort_by_key(|set| revision(set));
        let surplus = old.len().saturating_sub(limit);
        for set in &old[..surplus] {
            settled(self.api(deployment).delete(&set.name_any(), &Default::default()).await)?;
            self.view.replica_sets.remove(set);
        }
        Ok(())
    }
}

/// A condition, with the time of the last change of its status.
fn condition(
    (kind, status, reason, message): (&str, bool, &str, String),
    before: &DeploymentStatus,
) -> DeploymentCondition {
    let status = if status { "True" } else { "False" };
    let old = before.conditions.iter().flatten().find(|found| found.type_.as_deref() == Some(kind));
    let same = old.filter(|old| old.reason.as_deref() == Some(reason) && old.message.as_ref() == Some(&message));
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        last_transition_time: match old.filter(|old| old.status.as_deref() == Some(status)) {
            Some(old) => old.last_transition_time.clone(),
            None => Some(events::now()),
        },
        last_update_time: match same.filter(|old| old.status.as_deref() == Some(status)) {
            Some(old) => old.last_update_time.clone(),
            None => Some(events::now()),
        },
        message: Some(message),
    }
}

fn recreates(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"))
}

fn slack(spec: &DeploymentSpec, replicas: usize) -> Slack {
    let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    if recreates(spec) {
        return Slack { surge: 0, unavailable: replicas };
    }
    Slack::new(
        replicas,
        rolling.and_then(|rolling| rolling.max_surge.as_ref()),
        rolling.and_then(|rolling| rolling.max_unavailable.as_ref()),
    )
}

fn first_step(spec: &DeploymentSpec, wanted: usize, old: &[Arc<ReplicaSet>]) -> usize {
    let numbers: Vec<_> = old.iter().map(|set| count(set)).collect();
    rollout::step(wanted, slack(spec, wanted), Count { wanted: 0, available: 0 }, &numbers).0
}

fn count(set: &ReplicaSet) -> Count {
    let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    let wanted = replica_set::replicas(set);
    // Pods above the wanted number are on their way out.
    Count { wanted, available: usize::try_from(available).unwrap_or(0).min(wanted) }
}

fn revision(set: &ReplicaSet) -> i64 {
    set.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Controller for Deployments {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        match change.object {
            Object::Deployment(deployment) if !change.gone => {
                tell((deployment.namespace().unwrap_or_default(), deployment.name_any()));
            }
            Object::ReplicaSet(set) => {
                if let Some(name) = pods::controller_name(&set.metadata, "Deployment") {
                    tell(name);
                }
            }
            // The last old Pod's end is what a Recreate waits for.
            Object::Pod(pod) if change.gone => {
                let set = pods::controller_name(&pod.metadata, "ReplicaSet")
                    .and_then(|name| self.view.replica_sets.get(&name));
                if let Some(name) = set.and_then(|set| pods::controller_name(&set.metadata, "Deployment")) {
                    tell(name);
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(deployment) = self.view.deployments.get(key) else { return Ok(()) };
        let spec = &deployment.spec;
        if deployment.metadata.deletion_timestamp.is_none() {
            self.roll(&deployment, spec).await?;
            self.forget(&deployment, spec).await?;
        }
        self.update_status(&deployment, spec).await
    }
}
