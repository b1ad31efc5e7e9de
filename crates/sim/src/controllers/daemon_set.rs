//! DaemonSets: one Pod on every node that fits.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use super::{events, pods};

const REVISION: &str = "controller-revision-hash";

/// An update replaces the Pods one at a time, `OnDelete` none. With `maxSurge` the new Pod of a node starts beside the old one, which
/// goes once the new one is ready.
pub(super) struct DaemonSets {
    client: kube::Client,
    view: Arc<View>,
    nodes: Vec<String>,
}

impl DaemonSets {
    pub(super) fn new((client, view): (kube::Client, Arc<View>), nodes: Vec<String>) -> Self {
        Self { client, view, nodes }
    }

    fn wanted<'a>(&'a self, spec: &'a DaemonSetSpec) -> impl Iterator<Item = &'a String> {
        let selector = spec.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
        self.nodes.iter().filter(move |name| {
            let node = self.view.nodes.get(&(String::new(), (*name).clone()));
            selector.into_iter().flatten().all(|(key, value)| {
                let label = node.as_deref().and_then(|node| node.labels().get(key));
                label == Some(value) || (key == "kubernetes.io/hostname" && label.is_none() && value == *name)
            })
        })
    }

    async fn step(&self, set: &DaemonSet, spec: &DaemonSetSpec) -> Result {
        let all = pods::controlled_by(&self.view, &set.metadata);
        let current = pods::template_hash(&spec.template);
        let mut wanted: Vec<_> = self.wanted(spec).cloned().collect();
        let mut outdated = Vec::new();
        let mut unready = false;
        for pod in &all {
            let place = wanted.iter().position(|name| node_of(pod) == Some(name.as_str()));
            if pods::is_deleting(pod) {
                // Its place is free once it has gone.
                place.map(|place| wanted.swap_remove(place));
                unready = true;
                continue;
            }
            match place {
                Some(place) if !pods::is_finished(pod) => {
                    wanted.swap_remove(place);
                    unready |= !pods::is_ready(pod);
                    if pod.labels().get(REVISION) != Some(&current) {
                        outdated.push(pod);
                    }
                }
                // beside an old one while an update surges
                _ if self.is_beside(pod, &all, spec) => {}
                _ => pods::delete(&self.client, &self.view, pod).await?,
            }
        }
        for node in &wanted {
            self.start(set, spec, node).await?;
        }
        let rolls = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
        if rolls && surges(spec) {
            return self.surge(set, spec, &current, &all).await;
        }
        match outdated.iter().find(|pod| !pods::is_ready(pod)).or(outdated.first().filter(|_| !unready)) {
            Some(pod) if rolls => pods::delete(&self.client, &self.view, pod).await,
            _ => Ok(()),
        }
    }

    async fn start(&self, set: &DaemonSet, spec: &DaemonSetSpec, node: &str) -> Result {
        let mut pod = pods::from_template(set, &spec.template);
        pod.metadata.generate_name = Some(format!("{}-", set.name_any()));
        pods::label(&mut pod, REVISION, pods::template_hash(&spec.template));
        pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
        pods::create(&self.client, &self.view, &pod).await.map(drop)
    }

    /// Whether this Pod is one of two that an update has on a node.
    fn is_beside(&self, pod: &Pod, all: &[Arc<Pod>], spec: &DaemonSetSpec) -> bool {
        let node = node_of(pod);
        let wanted = self.wanted(spec).any(|name| Some(name.as_str()) == node);
        let hash = |pod: &Pod| pod.labels().get(REVISION).cloned();
        let other = all.iter().any(|other| node_of(other) == node && hash(other) != hash(pod));
        surges(spec) && wanted && other && !pods::is_finished(pod)
    }

    /// A node at a time: the new Pod beside the old one, and once it is ready, the old one goes.
    async fn surge(&self, set: &DaemonSet, spec: &DaemonSetSpec, current: &String, all: &[Arc<Pod>]) -> Result {
        let is_current = |pod: &&Arc<Pod>| pod.labels().get(REVISION) == Some(current);
        let old = all.iter().filter(|pod| !is_current(pod) && pods::is_active(pod)).min_by_key(|pod| pod.name_any());
        let Some(old) = old else { return Ok(()) };
        let mut beside = all.iter().filter(is_current).filter(|pod| node_of(pod) == node_of(old));
        match (beside.next(), node_of(old)) {
            (Some(new), _) if pods::is_ready(new) => pods::delete(&self.client, &self.view, old).await,
            (Some(_), _) | (None, None) => Ok(()),
            (None, Some(node)) => self.start(set, spec, node).await,
        }
    }

    async fn update_status(&self, set: &DaemonSet, spec: &DaemonSetSpec) -> Result {
        let all = pods::controlled_by(&self.view, &set.metadata);
        let count = |counts: &dyn Fn(&Pod) -> bool| {
            let active = all.iter().filter(|pod| pods::is_active(pod) && counts(pod)).count();
            i32::try_from(active).unwrap_or(i32::MAX)
        };
        let current = pods::template_hash(&spec.template);
        let wanted = i32::try_from(self.wanted(spec).count()).unwrap_or(i32::MAX);
        let ready = count(&pods::is_ready);
        let before = set.status.clone().unwrap_or_default();
        let status = DaemonSetStatus {
            desired_number_scheduled: wanted,
            current_number_scheduled: count(&|_| true),
            number_misscheduled: 0,
            number_ready: ready,
            number_available: Some(ready),
            number_unavailable: Some((wanted - ready).max(0)),
            updated_number_scheduled: Some(count(&|pod| pod.labels().get(REVISION) == Some(&current))),
            observed_generation: set.metadata.generation,
            collision_count: before.collision_count,
            conditions: before.conditions.clone(),
        };
        if status == before {
            return Ok(());
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let api = Api::<DaemonSet>::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let written = api.patch_status(&set.name_any(), &PatchParams::default(), &patch).await;
        if let Some(written) = settled(written)? {
            self.view.daemon_sets.observe(Arc::new(written));
        }
        Ok(())
    }
}

fn surges(spec: &DaemonSetSpec) -> bool {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    match rolling.and_then(|rolling| rolling.max_surge.as_ref()) {
        Some(IntOrString::Int(count)) => *count > 0,
        Some(IntOrString::String(share)) => !share.starts_with('0'),
        None => false,
    }
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

impl Controller for DaemonSets {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        match change.object {
            Object::DaemonSet(set) if !change.gone => tell((set.namespace().unwrap_or_default(), set.name_any())),
            Object::Pod(pod) => {
                if let Some(name) = pods::controller_name(&pod.metadata, "DaemonSet") {
                    tell(name);
                }
            }
            Object::Node(node) => {
                let same = matches!(change.before, Some(Object::Node(before)) if before.labels() == node.labels());
                if !same {
                    for set in self.view.daemon_sets.select(|_| true) {
                        tell((set.namespace().unwrap_or_default(), set.name_any()));
                    }
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(set) = self.view.daemon_sets.get(key) else { return Ok(()) };
        let spec = &set.spec;
        if set.metadata.deletion_timestamp.is_none()
            && let Err(error) = self.step(&set, spec).await
        {
            let message = format!("Error creating: {}", events::words(&error));
            events::warn(&self.client, &*set, "daemonset-controller", "FailedCreate", &message).await;
            return Err(error);
        }
        self.update_status(&set, spec).await
    }
}
