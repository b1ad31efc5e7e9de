//! Jobs: Pods until enough have succeeded or too many have failed.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::view::{Change, Object, View};
use super::work::{Controller, Name, Result, settled};
use super::{events, pods};

/// A failed Pod is replaced at once; a Pod has succeeded when its phase says so, whatever its sidecars do.
pub(super) struct Jobs {
    client: kube::Client,
    view: Arc<View>,
}

/// How a Job's Pods stand.
struct Tally {
    active: Vec<Arc<Pod>>,
    succeeded: i32,
    failed: i32,
}

impl Jobs {
    pub(super) fn new((client, view): (kube::Client, Arc<View>)) -> Self {
        Self { client, view }
    }

    fn tally(&self, job: &Job) -> Tally {
        let all = pods::controlled_by(&self.view, &job.metadata);
        let count =
            |phase: &str| i32::try_from(all.iter().filter(|pod| pods::phase(pod) == phase).count()).unwrap_or(i32::MAX);
        let (succeeded, failed) = (count("Succeeded"), count("Failed"));
        Tally { active: all.into_iter().filter(|pod| pods::is_active(pod)).collect(), succeeded, failed }
    }

    async fn step(&self, job: &Job, spec: &JobSpec, tally: &Tally, outcome: Option<&JobCondition>) -> Result {
        let suspended = spec.suspend == Some(true);
        if outcome.is_some() || suspended {
            for pod in &tally.active {
                pods::delete(&self.client, &self.view, pod).await?;
            }
            return Ok(());
        }
        let active = i32::try_from(tally.active.len()).unwrap_or(i32::MAX);
        let parallelism = spec.parallelism.unwrap_or(1);
        // Without `completions`, one success means that no more Pods are started.
        let open = match spec.completions {
            Some(completions) => completions - tally.succeeded,
            None if tally.succeeded > 0 => active,
            None => parallelism,
        };
        for _ in active..parallelism.min(open) {
            let mut pod = pods::from_template(job, &spec.template);
            pod.metadata.generate_name = Some(format!("{}-", job.name_any()));
            pods::create(&self.client, &self.view, &pod).await?;
        }
        Ok(())
    }

    async fn update_status(&self, job: &Job, spec: &JobSpec, outcome: Option<JobCondition>) -> Result {
        let tally = self.tally(job);
        let before = job.status.clone().unwrap_or_default();
        let ready = tally.active.iter().filter(|pod| pods::is_ready(pod)).count();
        let ended = before.conditions.iter().flatten().next().is_some();
        let status = JobStatus {
            active: Some(i32::try_from(tally.active.len()).unwrap_or(i32::MAX)).filter(|&active| active > 0),
            ready: Some(i32::try_from(ready).unwrap_or(i32::MAX)),
            succeeded: Some(tally.succeeded).filter(|&count| count > 0),
            failed: Some(tally.failed).filter(|&count| count > 0),
            start_time: before.start_time.clone().or_else(|| (spec.suspend != Some(true)).then(events::now)),
            completion_time: match &outcome {
                Some(condition) if condition.type_ == "Complete" && !ended => Some(events::now()),
                _ => before.completion_time.clone(),
            },
            conditions: if ended { before.conditions.clone() } else { outcome.map(|outcome| vec![outcome]) },
            terminating: Some(0),
            ..before.clone()
        };
        if status == before {
            return Ok(());
        }
        let mut patch = json!({ "status": status });
        for count in ["active", "succeeded", "failed"] {
            if patch["status"][count].is_null() {
                patch["status"][count] = json!(null);
            }
        }
        let api = Api::<Job>::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        let written = api.patch_status(&job.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        if let Some(written) = settled(written)? {
            self.view.jobs.observe(Arc::new(written));
        }
        Ok(())
    }
}

/// The end of a Job, when it has come to one.
fn outcome(job: &Job, spec: &JobSpec, tally: &Tally) -> Option<JobCondition> {
    let told = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if let Some(told) = told.into_iter().find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed")) {
        return Some(told.clone());
    }
    let (kind, reason, message) = if tally.failed > spec.backoff_limit.unwrap_or(6) {
        ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    } else {
        let complete = match spec.completions {
            Some(completions) => tally.succeeded >= completions,
            None => tally.succeeded > 0 && tally.active.is_empty(),
        };
        if !complete {
            return None;
        }
        ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    };
    Some(JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(events::now()),
        last_transition_time: Some(events::now()),
    })
}

impl Controller for Jobs {
    type Key = Name;

    fn concerns(&self, change: &Change<'_>, tell: &mut dyn FnMut(Name)) {
        match change.object {
            Object::Job(job) if !change.gone => tell((job.namespace().unwrap_or_default(), job.name_any())),
            Object::Pod(pod) => {
                if let Some(name) = pods::controller_name(&pod.metadata, "Job") {
                    tell(name);
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, key: &Name) -> Result {
        let Some(job) = self.view.jobs.get(key) else { return Ok(()) };
        let Some(spec) = job.spec.as_ref().filter(|_| job.metadata.deletion_timestamp.is_none()) else { return Ok(()) };
        let tally = self.tally(&job);
        let outcome = outcome(&job, spec, &tally);
        if let Err(error) = self.step(&job, spec, &tally, outcome.as_ref()).await {
            let message = format!("Error creating: {}", events::words(&error));
            events::warn(&self.client, &*job, "job-controller", "FailedCreate", &message).await;
            return Err(error);
        }
        self.update_status(&job, spec, outcome).await
    }
}
