//! Asking clients to do something, once, many times, until an outcome holds, or all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use capture::Timestamp;
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::json;
use tokio::task::JoinHandle;
use workload::report::Report;

use super::{CANARY_PREFIX, Last, World};
use crate::action::{Ask, Attempt, Request};
use crate::bed::{Bed, Credentials};
use crate::pods::PodRef;
use crate::vocabulary::parameters::{Certificate, Outcome};
use crate::workload::program::{self, Habits};

/// Time between two attempts for the same outcome.
const PAUSE: Duration = Duration::from_millis(50);
/// Time between two requests of a client that keeps requesting.
const RATE: Duration = Duration::from_millis(100);
/// An attempt that takes longer than this is over.
pub(crate) const ATTEMPT_SECONDS: u64 = 3;

/// A client that keeps requesting until the scenario ends.
pub struct Loop {
    /// What it does.
    pub ask: Ask,
    stop: Arc<AtomicBool>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    task: Option<JoinHandle<()>>,
}

impl Loop {
    /// Every attempt so far.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it after the attempt that is under way.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            // a task that ends late changes nothing any more
            let _ = tokio::time::timeout(Duration::from_secs(ATTEMPT_SECONDS + 1), task).await;
        }
    }
}

/// A new token: what "plaintext" means is that it is found in a packet.
fn token() -> String {
    format!("{CANARY_PREFIX}{}", Alphanumeric.sample_string(&mut rand::rng(), 16))
}

/// Everything that one attempt needs to be made without the World.
#[derive(Clone)]
struct Prepared {
    pod: PodRef,
    container: String,
    request: Request,
    credentials: Option<Credentials>,
    habits: Habits,
}

impl World {
    /// Asks a client to do something, once, and remembers what came of it.
    pub(crate) async fn ask(&mut self, ask: Ask, times: u64) -> Result<()> {
        self.instance(&ask.client)?;
        self.bed().await?;
        self.await_ready().await?;
        let prepared = self.prepared(&ask).await?;
        let mut attempts = Vec::new();
        for _ in 0..times.max(1) {
            attempts.push(self.attempt(&prepared).await?);
        }
        if times > 1 {
            let answered = attempts.iter().filter(|a| a.is(Outcome::Answered)).count();
            self.timeline.note(format!("{ask}: {answered} of {times} attempts were answered"));
        }
        self.last = Some(Last::Asked(ask, attempts));
        Ok(())
    }

    async fn prepared(&mut self, ask: &Ask) -> Result<Prepared> {
        let (pod, container) = self.container(&ask.client, ask.uid).await?;
        let container = match (container, ask.uid) {
            (Some(container), _) => container,
            (None, Some(uid)) => self.visitor(&pod, uid).await?,
            (None, None) => bail!("find a container of {}", ask.client),
        };
        let request = match ask.request.clone() {
            Request::Get(url) => Request::Get(self.text(&url).await?),
            Request::Dial(protocol, target, technique) => Request::Dial(protocol, self.text(&target).await?, technique),
            Request::Send(protocol, payload, target) => Request::Send(protocol, payload, self.text(&target).await?),
            Request::Present(certificate, target) => Request::Present(certificate, self.text(&target).await?),
            lookup @ Request::Lookup(..) => lookup,
        };
        let credentials = match &ask.request {
            Request::Present(certificate, target) => Some(self.credentials(certificate, target).await?),
            _ => None,
        };
        let client = self.spec(&ask.client)?;
        let habits = Habits { library: client.resolver, is_patient: client.link.is_some() };
        Ok(Prepared { pod, container, request, credentials, habits })
    }

    /// What a client presents to a proxy, and which service it asks it for.
    async fn credentials(&mut self, certificate: &Certificate, target: &str) -> Result<Credentials> {
        let named = crate::address::endpoint(target);
        let target = match named.host {
            crate::address::Host::Call(crate::address::Function::Pod(x, _)) => self.spec(&x)?,
            crate::address::Host::Name(name) => self.spec(name.split('.').next().unwrap_or_default())?,
            crate::address::Host::Call(other) => bail!("present a certificate to {other}: name a Pod"),
        };
        let bed = self.bed().await?;
        let certificate = match certificate {
            Certificate::Of(name) => {
                let service = self.find(name).map_or(name.as_str(), |w| w.consul_service());
                Certificate::Of(service.to_owned())
            }
            other => other.clone(),
        };
        bed.at(target.at()).credentials(&certificate, &target.namespace, target.consul_service()).await
    }

    /// An ephemeral container that runs as a user of whom the Pod has none.
    pub(super) async fn visitor(&mut self, pod: &PodRef, uid: u32) -> Result<String> {
        let name = format!("as-user-{uid}");
        let bed = self.bed_now()?;
        let running = |bed: &Arc<dyn Bed>| {
            let pod = bed.at(pod.at()).pods().get(&pod.namespace, &pod.name)?;
            let found = super::ready::statuses(&pod).find(|s| s.name == name)?;
            found.state.as_ref()?.running.as_ref().map(|_| ())
        };
        if running(&bed).is_some() {
            return Ok(name);
        }
        let containers = json!([{
            "name": name, "image": program::IMAGE, "args": program::idle().words,
            "securityContext": {"runAsUser": uid},
        }]);
        bed.at(pod.at())
            .cluster()
            .add_ephemeral(&pod.namespace, &pod.name, &containers)
            .await
            .with_context(|| format!("add a container of user {uid} to {}", pod.host()))?;
        crate::wait::until(&format!("the container {name} of {}", pod.host()), bed.timing().ready, async || {
            running(&bed).ok_or("it does not run")
        })
        .await?;
        Ok(name)
    }

    async fn attempt(&mut self, prepared: &Prepared) -> Result<Attempt> {
        let bed = self.bed_now()?;
        let attempt = attempt(bed.as_ref(), prepared).await?;
        self.canaries.push(attempt.canary.clone());
        self.carriers.push(attempt.carrier());
        self.timeline.note(format!("{} {}: {attempt}", prepared.pod.host(), prepared.request));
        Ok(attempt)
    }

    /// Makes a client request all the time.
    pub(crate) async fn keep_asking(&mut self, ask: Ask) -> Result<()> {
        self.instance(&ask.client)?;
        self.bed().await?;
        if !self.is_submitted(&ask.client) {
            self.await_ready().await?;
        }
        let deadline = Instant::now() + self.bed_now()?.timing().patience;
        // a Pod that was merely submitted may not be there yet, and may never be
        let prepared = loop {
            match self.prepared(&ask).await {
                Ok(prepared) => break Some(prepared),
                Err(error) if Instant::now() >= deadline => {
                    self.timeline.note(format!("{ask}: it cannot: {error:#}"));
                    break None;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let (stop, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let bed = self.bed_now()?;
        let task = prepared.map(|prepared| {
            let (stop, attempts, timeline) = (Arc::clone(&stop), Arc::clone(&attempts), self.timeline.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match attempt(bed.as_ref(), &prepared).await {
                        Ok(one) => {
                            if !one.is(Outcome::Answered) {
                                timeline.note(format!("{} {}: {one}", prepared.pod.host(), prepared.request));
                            }
                            attempts.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                        }
                        Err(error) => timeline.note(format!("{}: {error:#}", prepared.pod.host())),
                    }
                    tokio::time::sleep(RATE).await;
                }
            })
        });
        let running = Loop { ask, stop, attempts, task };
        if !self.is_submitted(&running.ask.client) {
            let first =
                crate::wait::until("the first of the requests", self.bed_now()?.timing().patience, async || {
                    (!running.attempts().is_empty()).then_some(()).ok_or("none was made")
                });
            first.await?;
        }
        self.loops.push(running);
        Ok(())
    }

    /// What the last action's outcome is now, for people.
    pub(crate) fn last_words(&self) -> String {
        match &self.last {
            Some(Last::Asked(ask, attempts)) => {
                let last = attempts.last().map_or_else(|| "no attempt".to_owned(), ToString::to_string);
                format!("{ask}: {last}")
            }
            Some(Last::Probed(name, _, probes)) => {
                let said: Vec<_> = probes.iter().map(|p| format!("{} {:?}: {}", p.kind, p.result, p.message)).collect();
                format!("the kubelet probed {name:?}: {}", said.join("; "))
            }
            None => "nothing was asked of anyone yet".to_owned(),
        }
    }

    /// Holds the last action against an outcome. Fails at once when an answer came where a failure is meant: what got
    /// through got through. Otherwise the same is asked again, while `patience` lasts: proxies learn of changes a moment
    /// later.
    pub(crate) async fn outcome(&mut self, meant: Outcome, by: Option<&str>, patience: Option<Duration>) -> Result<()> {
        self.adopt_loop(patience.is_some());
        let bed = self.bed().await?;
        let given = patience;
        let patience = patience.unwrap_or(bed.timing().patience);
        let start = Instant::now();
        let mut repeated = 0_u32;
        // a Pod that has only just started fails its probes for a moment, and that is not what a step means
        let mut once = !matches!(self.last, Some(Last::Probed(..))) || meant == Outcome::Answered;
        loop {
            let (holds, leaked) = self.holds(meant, by)?;
            if holds && !once {
                once = true;
                tokio::time::sleep(bed.timing().quiet).await;
                self.ask_again().await?;
                continue;
            }
            if holds {
                if repeated > 0 {
                    let after = start.elapsed().as_secs_f64();
                    self.timeline.note(format!("{meant} after asking again {repeated} times, {after:.2} s"));
                }
                return Ok(());
            }
            if leaked && given.is_none() {
                bail!("expected that it is {meant}, and it was not: {}", self.last_words());
            }
            if start.elapsed() >= patience {
                let by = by.map(|b| format!(" by {b}")).unwrap_or_default();
                bail!(
                    "waited {:.1} s for it to be {meant}{by}; seen last: {}",
                    start.elapsed().as_secs_f64(),
                    self.last_words()
                );
            }
            tokio::time::sleep(PAUSE).await;
            if !self.ask_again().await? {
                bail!("expected that it is {meant}, and it was not: {}", self.last_words());
            }
            repeated += 1;
        }
    }

    /// Whether the outcome holds, and whether the application answered where it should not have.
    fn holds(&mut self, meant: Outcome, by: Option<&str>) -> Result<(bool, bool)> {
        match self.last.clone() {
            Some(Last::Asked(_, attempts)) => {
                let by = by.map(|b| self.instance_names(b)).transpose()?;
                let last = attempts.last().context("find an attempt")?;
                let is_by =
                    by.is_none_or(|names| last.report.instance.as_ref().is_some_and(|i| names.iter().any(|n| n == i)));
                let all = attempts.iter().all(|a| a.is(meant));
                let leaked = meant != Outcome::Answered && attempts.iter().any(|a| a.is(Outcome::Answered));
                Ok((all && is_by, leaked))
            }
            Some(Last::Probed(_, _, probes)) => {
                let found = crate::action::classify_probe(&probes);
                let holds = match meant {
                    Outcome::Blocked => found.is_some_and(|o| o != Outcome::Answered),
                    _ => found == Some(meant),
                };
                Ok((holds, meant != Outcome::Blocked && meant != Outcome::Answered && found == Some(Outcome::Answered)))
            }
            None => bail!("look at an outcome: nothing was asked of anyone yet"),
        }
    }

    /// Names that the answers of a workload, an instance of it, or an external endpoint may bear.
    pub(crate) fn instance_names(&mut self, text: &str) -> Result<Vec<String>> {
        if self.is_external(text) {
            return Ok(vec![text.to_owned()]);
        }
        let Ok(instance) = self.instance(text) else {
            // of a name that several clusters have, any of them will do
            let mut names = Vec::new();
            for key in self.meant(text) {
                let workload = self.spec(&key)?;
                names.extend(self.roster_names(&workload)?);
            }
            anyhow::ensure!(!names.is_empty(), "find the workload {text:?}: no step has made one of this name");
            return Ok(names);
        };
        let workload = self.spec(&instance.workload)?;
        let roster = self.roster_names(&workload)?;
        Ok(if instance.one { roster.get(instance.index).cloned().into_iter().collect() } else { roster })
    }

    /// Does the last action again; `false` when that would change something at the other end.
    async fn ask_again(&mut self) -> Result<bool> {
        match self.last.clone() {
            Some(Last::Asked(ask, mut attempts)) => {
                if !ask.request.is_repeatable() && attempts.last().is_some_and(|a| a.is(Outcome::Answered)) {
                    return Ok(false);
                }
                let prepared = self.prepared(&ask).await?;
                let again = self.attempt(&prepared).await?;
                if attempts.len() <= 1 {
                    attempts = vec![again];
                } else {
                    attempts.clear();
                    attempts.push(again);
                }
                self.last = Some(Last::Asked(ask, attempts));
                Ok(true)
            }
            Some(Last::Probed(name, ..)) => self.probe(&name).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The kubelet probes a workload now.
    pub(crate) async fn probe(&mut self, name: &str) -> Result<()> {
        let bed = self.bed().await?;
        self.await_started(name).await?;
        let pod = self.pod(name).await?;
        self.await_sidecar(&pod).await;
        let since = Timestamp::now();
        let probes = bed.probe(&pod).await.with_context(|| format!("probe {}", pod.host()))?;
        if probes.is_empty() {
            bail!("probe {}: it has no probes", pod.host());
        }
        for probe in &probes {
            self.timeline
                .note(format!("probe {} {}: {:?}: {}", probe.container, probe.kind, probe.result, probe.message));
        }
        self.last = Some(Last::Probed(name.to_owned(), since, probes));
        Ok(())
    }

    /// After `keeps requesting`, "it" is the last of those requests; a repeated question is asked anew.
    fn adopt_loop(&mut self, fresh: bool) {
        let Some(running) = self.loops.last() else { return };
        if let Some(Last::Asked(ask, _)) = &self.last
            && (*ask != running.ask || fresh)
        {
            return;
        }
        if let Some(last) = running.attempts().last() {
            self.last = Some(Last::Asked(running.ask.clone(), vec![last.clone()]));
        }
    }

    /// Whether "it" is what a client keeps requesting: then it is its newest request from now on.
    pub(crate) fn asks_on(&mut self) -> bool {
        let Some(running) = self.loops.last() else { return false };
        let kept = match &self.last {
            None => true,
            Some(Last::Asked(ask, _)) => *ask == running.ask,
            Some(Last::Probed(..)) => false,
        };
        if kept {
            self.last = None;
        }
        kept
    }

    /// The last attempt of the last action that a client made.
    pub(crate) fn last_attempt(&mut self) -> Result<(Ask, Attempt)> {
        if self.last.is_none() {
            self.adopt_loop(false);
        }
        match &self.last {
            Some(Last::Asked(ask, attempts)) => {
                Ok((ask.clone(), attempts.last().cloned().context("find an attempt of the last request")?))
            }
            _ => bail!("find the last request: no client has made one"),
        }
    }

    /// The requests that a statement about all of them is about: those of the last action, and those of every client
    /// that keeps requesting. A single request beside such clients is an event of its own, with its own outcome.
    #[must_use]
    pub(crate) fn requests(&self) -> Vec<(Ask, Attempt)> {
        let mut all: Vec<(Ask, Attempt)> = Vec::new();
        for running in &self.loops {
            all.extend(running.attempts().into_iter().map(|a| (running.ask.clone(), a)));
        }
        if let Some(Last::Asked(ask, attempts)) = &self.last
            && (self.loops.is_empty() || attempts.len() > 1)
        {
            all.extend(attempts.iter().map(|a| (ask.clone(), a.clone())));
        }
        all
    }

    /// When the last action began: the moment from which evidence about it counts.
    #[must_use]
    pub(crate) fn since(&self) -> Timestamp {
        match &self.last {
            Some(Last::Asked(_, attempts)) => attempts.first().map_or(Timestamp::START, |a| a.since),
            Some(Last::Probed(_, since, _)) => *since,
            None => Timestamp::START,
        }
    }
}

async fn attempt(bed: &dyn Bed, prepared: &Prepared) -> Result<Attempt> {
    let canary = token();
    let Prepared { pod, container, request, credentials, habits } = prepared;
    let call = program::client(request, &canary, credentials.as_ref(), *habits);
    let since = Timestamp::now();
    let limit = Duration::from_secs(ATTEMPT_SECONDS + 57);
    let run = bed.at(pod.at()).cluster().exec(&pod.namespace, &pod.name, container, &call.words, call.stdin.as_deref());
    let ran =
        tokio::time::timeout(limit, run).await.with_context(|| format!("wait for {}", call.words.join(" ")))??;
    let report = Report::parse_all(&ran.stdout).last().with_context(|| {
        format!(
            "read what the client in {} says: {:?} (standard error: {:?}, status {})",
            pod.host(),
            ran.stdout,
            ran.stderr,
            ran.code
        )
    })?;
    Ok(Attempt { host: pod.host(), since, canary, report })
}
