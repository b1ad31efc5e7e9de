//! What becomes of a submission, and where its error is named.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::ResourceExt as _;
use serde_json::Value;

use super::World;
use super::ready::{decided_against, has_started, statuses};
use crate::pods::has_condition;
use crate::vocabulary::parameters::Admission;
use crate::workload::Workload;

/// How long an error may take to be written down: an init container says after several tries what it waits for.
const ERROR_PATIENCE: Duration = Duration::from_secs(20);

impl World {
    /// All Pods of a workload become ready. One that was made unready on purpose may still be said to be ready, because no
    /// probe has run since: its probes must succeed now.
    pub(crate) async fn becomes_ready(&mut self, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        let name = self.instance(name)?.workload;
        let deadline = Instant::now() + bed.timing().ready;
        loop {
            self.await_workload(&name).await?;
            if !self.is_disturbed(&name) {
                break;
            }
            let Some(failing) = self.failing_probe(&name).await? else {
                self.disturb(&name, false);
                break;
            };
            if Instant::now() >= deadline {
                bail!("waited for {name} to be ready; seen last: {failing}");
            }
            bed.pods().changed(Duration::from_millis(200)).await;
        }
        bed.converge().await
    }

    /// A readiness probe that fails now.
    async fn failing_probe(&mut self, name: &str) -> Result<Option<String>> {
        let bed = self.bed().await?;
        for pod in self.pods(name).await? {
            let probes = bed.probe(&pod).await?;
            if let Some(failing) = probes.iter().find(|p| p.kind == "readiness" && !p.success) {
                return Ok(Some(format!("{} of {}: {}", failing.container, pod.host(), failing.message)));
            }
        }
        Ok(None)
    }

    /// No Pod of a workload becomes ready: something says that it will not, or it is given the time in which it would,
    /// and then a quiet window.
    pub(crate) async fn stays_unready(&mut self, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        let name = self.instance(name)?.workload;
        let workload = self.spec(&name)?;
        if !self.is_submitted(&name) {
            // it may have been ready before what made it unready
            let awaited = format!("{workload} to be unready");
            crate::wait::until(&awaited, bed.timing().patience, async || self.refuse_ready(&workload)).await?;
        }
        let start = Instant::now();
        let why = loop {
            self.refuse_ready(&workload)?;
            if let Some(why) = self.decided(&workload).await? {
                break why;
            }
            if start.elapsed() >= bed.timing().patience {
                break format!("nothing changed in {:.1} s", start.elapsed().as_secs_f64());
            }
            bed.pods().changed(Duration::from_millis(100)).await;
        };
        let quiet = Instant::now();
        while quiet.elapsed() < bed.timing().quiet {
            self.refuse_ready(&workload)?;
            bed.pods().changed(Duration::from_millis(50)).await;
        }
        self.timeline.note(format!("{workload} stays unready: {why}"));
        Ok(())
    }

    fn refuse_ready(&self, workload: &Workload) -> Result<()> {
        let pods = self.bed_now()?.at(workload.at()).pods().of(&workload.namespace, &workload.name);
        match pods.iter().find(|p| has_condition(p, "Ready")) {
            Some(pod) => bail!("expected that {workload} stays unready, and {} is ready", pod.name_any()),
            None => Ok(()),
        }
    }

    /// What says that a workload will not become ready.
    async fn decided(&self, workload: &Workload) -> Result<Option<String>> {
        if let Some(refusal) = self.refusal(workload).await? {
            return Ok(Some(format!("refused: {refusal}")));
        }
        let pods = self.bed_now()?.at(workload.at()).pods().of(&workload.namespace, &workload.name);
        if let Some(why) = pods.iter().find_map(|p| decided_against(p)) {
            return Ok(Some(why));
        }
        // everything runs, and a probe has spoken against it
        if pods.iter().any(|p| has_started(p)) {
            let events = self.bed_now()?.at(workload.at()).cluster().list("Event", &workload.namespace, "").await?;
            let unhealthy = |e: &&Value| {
                let of = e["involvedObject"]["name"].as_str().unwrap_or_default();
                e["reason"] == "Unhealthy" && pods.iter().any(|p| p.name_any() == of)
            };
            return Ok(events.iter().find(unhealthy).map(|e| format!("probe failed: {}", e["message"])));
        }
        Ok(None)
    }

    /// Admission's refusal of a workload: of the object itself, or of the Pods that its controller wanted to make.
    async fn refusal(&self, workload: &Workload) -> Result<Option<String>> {
        if let Some(submission) = &self.submission
            && submission.workload == workload.key()
            && let Some(refusal) = &submission.refused
        {
            return Ok(Some(refusal.clone()));
        }
        let events = self.bed_now()?.at(workload.at()).cluster().list("Event", &workload.namespace, "").await?;
        let failed = events.iter().find(|e| {
            let of = e["involvedObject"]["name"].as_str().unwrap_or_default();
            e["reason"] == "FailedCreate" && (of == workload.name || of.starts_with(&format!("{}-", workload.name)))
        });
        Ok(failed.and_then(|e| e["message"].as_str().map(str::to_owned)))
    }

    /// Whether the last submission was accepted: the object is stored and, where a controller makes Pods, one exists.
    pub(crate) async fn judge_submission(&mut self, meant: Admission) -> Result<()> {
        let Some(submission) = self.submission.clone() else { bail!("judge a submission: there was none") };
        let bed = self.bed().await?;
        let workload = self.spec(&submission.workload)?;
        let start = Instant::now();
        loop {
            let refusal = self.refusal(&workload).await?;
            let exists = !bed.at(workload.at()).pods().of(&workload.namespace, &workload.name).is_empty();
            match (meant, refusal, exists) {
                (Admission::Accepted, None, true) | (Admission::Rejected, Some(_), false) => return Ok(()),
                (Admission::Accepted, Some(refusal), _) => bail!("expected {workload} to be accepted: {refusal}"),
                (Admission::Rejected, None, true) => bail!("expected {workload} to be rejected, and it has a Pod"),
                _ if start.elapsed() >= bed.timing().patience => {
                    bail!(
                        "waited for the submission of {workload} to be {meant}; seen last: {}",
                        self.diagnose(&workload.key()).await
                    )
                }
                _ => bed.pods().changed(Duration::from_millis(50)).await,
            }
        }
    }

    /// Where an error names something: the admission answer, events, container states, logs, the preflight check, a
    /// command's output. Case does not matter.
    pub(crate) async fn find_error(&mut self, hint: &str) -> Result<String> {
        let start = Instant::now();
        loop {
            let said = self.everything_said().await?;
            let hit = said.iter().find(|(_, text)| text.to_lowercase().contains(&hint.to_lowercase()));
            if let Some((place, text)) = hit {
                let line = text.lines().find(|l| l.to_lowercase().contains(&hint.to_lowercase())).unwrap_or(text);
                return Ok(format!("{place}: {line}"));
            }
            if start.elapsed() >= ERROR_PATIENCE || self.bed.is_none() {
                let mut text = String::new();
                for (place, said) in said {
                    let tail: Vec<_> = said.lines().rev().take(4).collect();
                    // writing to a String cannot fail
                    let _ = write!(text, "\n  {place}: {}", tail.into_iter().rev().collect::<Vec<_>>().join("\n    "));
                }
                bail!("find {hint:?} in an error; what was said:{text}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Everything that may carry an error about the last submission, or about any workload when there was none.
    async fn everything_said(&mut self) -> Result<Vec<(String, String)>> {
        let mut said = Vec::new();
        if let Some(found) = &self.preflight {
            said.push(("the preflight check".to_owned(), found.join("\n")));
        }
        if let Some(refusal) = &self.refusal {
            said.push(("the refusal of a custom resource".to_owned(), refusal.to_string()));
        }
        if let Some(remark) = &self.remark {
            said.push(("the condition of a custom resource".to_owned(), remark.clone()));
        }
        if let Some(command) = &self.command {
            said.push((
                format!("the command {}", command.line),
                format!("{}{}", command.ran.stdout, command.ran.stderr),
            ));
        }
        let Some(bed) = self.bed.clone() else { return Ok(said) };
        let names: Vec<String> = match &self.submission {
            Some(submission) => {
                if let Some(refused) = &submission.refused {
                    said.push(("the admission answer".to_owned(), refused.clone()));
                }
                vec![submission.workload.clone()]
            }
            None => self.workloads.keys().cloned().collect(),
        };
        for name in names {
            let workload = self.spec(&name)?;
            let pods = bed.at(workload.at()).pods().of(&workload.namespace, &workload.name);
            for event in bed.at(workload.at()).cluster().list("Event", &workload.namespace, "").await? {
                let of = event["involvedObject"]["name"].as_str().unwrap_or_default();
                if of.starts_with(&workload.name) && event["type"] == "Warning" {
                    let place = format!("the event {} of {of}", event["reason"].as_str().unwrap_or_default());
                    said.push((place, event["message"].as_str().unwrap_or_default().to_owned()));
                }
            }
            for pod in &pods {
                for s in statuses(pod) {
                    let place = format!("container {} of {}", s.name, pod.name_any());
                    for state in [&s.state, &s.last_state].into_iter().flatten() {
                        let waiting = state.waiting.as_ref();
                        let ended = state.terminated.as_ref();
                        let words = [
                            waiting.and_then(|w| w.reason.clone()),
                            waiting.and_then(|w| w.message.clone()),
                            ended.and_then(|t| t.reason.clone()),
                            ended.and_then(|t| t.message.clone()),
                        ];
                        said.push((
                            format!("the state of {place}"),
                            words.into_iter().flatten().collect::<Vec<_>>().join(" "),
                        ));
                    }
                    for previous in [false, true] {
                        let log = bed
                            .at(workload.at())
                            .cluster()
                            .log(&workload.namespace, &pod.name_any(), &s.name, previous)
                            .await;
                        said.extend(log.ok().filter(|l| !l.is_empty()).map(|l| (format!("the log of {place}"), l)));
                    }
                }
            }
        }
        Ok(said)
    }

    /// All Pods of a workload end with success. A proxy that is asked to end drains first, for as long as its grace period
    /// says.
    pub(crate) async fn completes(&mut self, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        let workload = self.spec(name)?;
        let grace = self.settings.shutdown_grace()?.unwrap_or(30);
        let deadline = Instant::now() + bed.timing().ready + Duration::from_secs(grace.into());
        loop {
            let pods = bed.at(workload.at()).pods().of(&workload.namespace, &workload.name);
            let phase = |p: &k8s_openapi::api::core::v1::Pod| p.status.as_ref().and_then(|s| s.phase.clone());
            if !pods.is_empty() && pods.iter().all(|p| phase(p).as_deref() == Some("Succeeded")) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("wait for {workload} to run to completion; seen last: {}", self.diagnose(name).await);
            }
            bed.pods().changed(Duration::from_millis(100)).await;
        }
    }

    /// Runs a shell command as a user of a workload's Pod.
    pub(crate) async fn run_as(&mut self, name: &str, uid: u32, line: &str) -> Result<crate::cluster::Ran> {
        let (pod, container) = self.container(name, Some(uid)).await?;
        let container = match container {
            Some(container) => container,
            None => self.visitor(&pod, uid).await?,
        };
        let command = ["/bin/sh", "-c", line].map(str::to_owned);
        self.bed_now()?.at(pod.at()).cluster().exec(&pod.namespace, &pod.name, &container, &command, None).await
    }
}
