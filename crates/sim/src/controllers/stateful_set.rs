//! StatefulSets: Pods with stable names, one after the other.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use super::{events, pods};

const REVISION: &str = "controller-revision-hash";

pub(super) struct StatefulSets {
    client: kube::Client,
    view: Arc<View>,
}

impl StatefulSets {
    pub(super) fn new((client, view): (kube::Client, Arc<View>)) -> Self {
        Self { client, view }
    }

    /// The next thing to do, if anything: make a missing Pod, remove a surplus or ended one, replace an outdated one.
    async fn step(&self, set: &StatefulSet, spec: &StatefulSetSpec) -> Result {
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
        let all = pods::controlled_by(&self.view, &set.metadata);
        let find = |ordinal: usize| all.iter().find(|pod| ordinal_of(set, pod) == Some(ordinal));

        for ordinal in 0..wanted {
            match find(ordinal) {
                None => {
                    pods::create(&self.client, &self.view, &make(set, spec, ordinal)).await?;
                    if !parallel {
                        return Ok(());
                    }
                }
                Some(pod) if pods::is_finished(pod) && !pods::is_deleting(pod) => {
                    pods::delete(&self.client, &self.view, pod).await?;
                    return Ok(());
                }
                Some(pod) if !parallel && (!pods::is_ready(pod) || pods::is_deleting(pod)) => {
                    return self.replace_broken(set, spec, pod).await;
                }
                Some(_) => {}
            }
        }
        let mut surplus: Vec<_> = all.iter().filter(|pod| ordinal_of(set, pod).is_none_or(|n| n >= wanted)).collect();
        surplus.sort_by_key(|pod| std::cmp::Reverse(ordinal_of(set, pod)));
        for pod in surplus {
            if !pods::is_deleting(pod) {
                pods::delete(&self.client, &self.view, pod).await?;
            }
            if !parallel {
                return Ok(());
            }
        }
        self.update(set, spec, wanted, &all).await
    }

    /// An outdated Pod that does not get ready would hold the update up for ever.
    async fn replace_broken(&self, set: &StatefulSet, spec: &StatefulSetSpec, pod: &Pod) -> Result {
        let outdated = pod.labels().get(REVISION) != Some(&revision(set, spec));
        if outdated && rolls(spec) && !pods::is_deleting(pod) {
            pods::delete(&self.client, &self.view, pod).await?;
        }
        Ok(())
    }

    /// Replaces outdated Pods from the last to the first, each when the ones after it are ready.
    async fn update(&self, set: &StatefulSet, spec: &StatefulSetSpec, wanted: usize, all: &[Arc<Pod>]) -> Result {
        if !rolls(spec) {
            return Ok(());
        }
        let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = usize::try_from(rolling.and_then(|rolling| rolling.partition).unwrap_or(0)).unwrap_or(0);
        let current = revision(set, spec);
        for ordinal in (partition..wanted).rev() {
            let Some(pod) = all.iter().find(|pod| ordinal_of(set, pod) == Some(ordinal)) else { return Ok(()) };
            if pods::is_deleting(pod) {
                return Ok(());
            }
            if pod.labels().get(REVISION) != Some(&current) {
                return pods::delete(&self.client, &self.view, pod).await;
            }
            if !pods::is_ready(pod) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn update_status(&self, set: &StatefulSet, spec: &StatefulSetSpec) -> Result {
        let all = pods::controlled_by(&self.view, &set.metadata);
        let count = |counts: &dyn Fn(&Pod) -> bool| {
            i32::try_from(all.iter().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
        };
        let update = revision(set, spec);
        let ready = count(&|pod| pods::is_ready(pod) && !pods::is_deleting(pod));
        let updated = count(&|pod| pod.labels().get(REVISION) == Some(&update));
        let replicas = count(&|pod| !pods::is_finished(pod));
        let before = set.status.clone().unwrap_or_default();
        let current = match &before.current_revision {
            Some(current) if updated < replicas => current.clone(),
            _ => update.clone(),
        };
        let status = StatefulSetStatus {
            replicas,
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            updated_replicas: Some(updated),
            current_replicas: Some(count(&|pod| pod.labels().get(REVISION) == Some(&current))),
            current_revision: Some(current),
            update_revision: Some(update),
            observed_generation: set.metadata.generation,
            collision_count: before.collision_count,
            conditions: before.conditions.clone(),
        };
        if status == before {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let api = Api::<StatefulSet>::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let written = api.patch_status(&set.name_any(), &PatchParams::default(), &patch).await;
        if let Some(written) = settled(written)? {
            self.view.stateful_sets.observe(Arc::new(written));
        }
        Ok(())
    }
}

fn rolls(spec: &StatefulSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

fn revision(set: &StatefulSet, spec: &StatefulSetSpec) -> String {
    format!("{}-{}", set.name_any(), pods::template_hash(&spec.template))
}

fn ordinal_of(set: &StatefulSet, pod: &Pod) -> Option<usize> {
    let name = pod.metadata.name.as_deref()?;
    name.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?.parse().ok()
}

fn make(set: &StatefulSet, spec: &StatefulSetSpec, ordinal: usize) -> Pod {
    let name = format!("{}-{ordinal}", set.name_any());
    let mut pod = pods::from_template(set, &spec.template);
    pod.metadata.name = Some(name.clone());
    pods::label(&mut pod, "statefulset.kubernetes.io/pod-name", &name);
    pods::label(&mut pod, "apps.kubernetes.io/pod-index", ordinal.to_string());
    pods::label(&mut pod, REVISION, revision(set, spec));
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone();
    // There are no persistent volumes here: a claim is scratch space.
    let claims = spec.volume_claim_templates.iter().flatten().map(|claim| Volume {
        name: claim.name_any(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    pod_spec.volumes.get_or_insert_default().extend(claims);
    pod
}

impl Controller for StatefulSets {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        match change.object {
            Object::StatefulSet(set) if !change.gone => tell((set.namespace().unwrap_or_default(), set.name_any())),
            Object::Pod(pod) => {
                if let Some(name) = pods::controller_name(&pod.metadata, "StatefulSet") {
                    tell(name);
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(set) = self.view.stateful_sets.get(key) else { return Ok(()) };
        let spec = &set.spec;
        if set.metadata.deletion_timestamp.is_none()
            && let Err(error) = self.step(&set, spec).await
        {
            let message = format!("Error creating: {}", events::words(&error));
            events::warn(&self.client, &*set, "statefulset-controller", "FailedCreate", &message).await;
            return Err(error);
        }
        self.update_status(&set, spec).await
    }
}
