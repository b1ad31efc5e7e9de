//! The World: what a scenario has declared, the bed it runs on once it needs one, and what came of its last action.

mod ask;
mod clusters;
mod declare;
mod judge;
mod ready;
mod resolve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use capture::Timestamp;
use sim::ProbeOutcome;

use crate::action::{Ask, Attempt};
use crate::bed::{Bed, RuleDump};
use crate::evidence::Folder;
use crate::pods::PodRef;
use crate::settings::Settings;
use crate::suite::Suite;
use crate::timeline::Timeline;
use crate::topology::Topology;
use crate::vocabulary::parameters::Verdict;
use crate::workload::Workload;

pub use ask::Loop;
pub use declare::{API_VERSION, Intention, Refusal, Source, Submission, To};

/// How every token begins that requests carry.
pub const CANARY_PREFIX: &str = "canary-";

/// What the last action was.
#[derive(Debug, Clone)]
pub enum Last {
    /// A client was asked to do something; every attempt in order.
    Asked(Ask, Vec<Attempt>),
    /// The kubelet probed a workload.
    Probed(String, Timestamp, Vec<ProbeOutcome>),
}

/// What a command in a Pod came to.
#[derive(Debug, Clone)]
pub struct Command {
    /// As the step wrote it.
    pub line: String,
    /// Its exit status and what it said.
    pub ran: crate::cluster::Ran,
}

/// State of one scenario.
#[derive(Default, cucumber::World)]
pub struct World {
    /// The run it belongs to.
    suite: Option<Arc<Suite>>,
    /// Feature, scenario and row.
    pub name: String,
    started: Option<Instant>,
    /// A command that runs it again.
    pub again: String,
    /// Where its evidence goes.
    pub folder: Folder,
    /// What happened.
    pub timeline: Timeline,
    /// What was said about the mesh.
    pub settings: Settings,
    /// The clusters, where a step named several.
    topology: Option<Topology>,
    /// The cluster, once a step needed one.
    bed: Option<Arc<dyn Bed>>,
    /// Workloads by what each is known by: [`Workload::key`].
    pub workloads: BTreeMap<String, Workload>,
    /// Workloads in the order of their declaration; those already applied are not in it.
    pending: Vec<String>,
    /// Workloads that were submitted without waiting: nothing waits for their readiness.
    submitted: Vec<String>,
    /// Workloads that a step made unready on purpose.
    disturbed: BTreeSet<String>,
    /// Addresses that Pods had before they came back under the same name.
    formers: HashMap<String, std::net::IpAddr>,
    /// Pods whose link was impaired, as their workload wants it.
    impaired: BTreeSet<String>,
    /// Pods that a step deleted and that may take their time.
    leaving: HashMap<String, PodRef>,
    /// How many Pods workloads had that have none now.
    stopped: HashMap<String, u32>,
    /// Namespace labels to apply.
    namespaces: Vec<(String, Option<(String, String)>)>,
    /// External endpoints by name.
    externals: BTreeMap<String, std::net::SocketAddr>,
    /// Intentions by destination and source.
    intentions: BTreeMap<(To, Source), Intention>,
    /// Custom resources to apply, each with its cluster.
    resources: Vec<(Option<String>, serde_json::Value)>,
    /// What clusters share.
    shared: clusters::Shared,
    /// Pods of each workload, in the order they were first seen.
    roster: HashMap<String, Vec<PodRef>>,
    /// The last action.
    pub last: Option<Last>,
    /// Requests that go on until the scenario ends.
    pub loops: Vec<Loop>,
    /// Every token that was to be sent.
    pub canaries: Vec<String>,
    /// The hosts and the local addresses of the connections that were to carry them.
    pub carriers: Vec<(String, Option<std::net::SocketAddr>)>,
    /// What became of the last submission.
    pub submission: Option<Submission>,
    /// Why the last change of a custom resource was refused, if it was.
    pub refusal: Option<Refusal>,
    /// What the control plane had to say of the last custom resource that it accepted, if anything.
    pub remark: Option<String>,
    /// The last command run in a Pod.
    pub command: Option<Command>,
    /// What the preflight check found.
    pub preflight: Option<Vec<String>>,
    /// Rules as they were when a step first looked, or a Pod became ready.
    pub rules: HashMap<String, RuleDump>,
    /// Evidence steps that were decided.
    pub proven: usize,
    /// The failing step and its message.
    pub failure: Option<(String, String)>,
    step: String,
    /// Bytes of the longest stream that the scenario sends.
    bulk: u64,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("name", &self.name).field("step", &self.step).finish_non_exhaustive()
    }
}

/// The panic payload of a step that failed. Cucumber knows no other way to say it.
fn fail(message: String) -> ! {
    std::panic::panic_any(message)
}

impl World {
    /// Begins a scenario, whose longest stream has `bulk` bytes.
    pub fn begin(&mut self, suite: Arc<Suite>, name: String, again: String, folder: Folder, bulk: u64) {
        self.bulk = bulk;
        self.started = Some(Instant::now());
        self.again = again;
        folder.clear();
        suite.at_step(&name, "starting");
        self.suite = Some(suite);
        self.name = name;
        self.folder = folder;
    }

    /// How long the scenario has run.
    #[must_use]
    pub fn elapsed(&self) -> std::time::Duration {
        self.started.map(|s| s.elapsed()).unwrap_or_default()
    }

    /// The run.
    pub(crate) fn suite(&self) -> Result<&Arc<Suite>> {
        self.suite.as_ref().context("find the run that the scenario belongs to")
    }

    /// A step begins.
    pub(crate) fn enter(&mut self, id: &str, step: &gherkin::Step) {
        self.step = format!("{}{}", step.keyword, step.value);
        if let Some(suite) = &self.suite {
            suite.at_step(&self.name, &self.step);
        }
        let rows = step.table.iter().flat_map(|t| &t.rows);
        let table: String = rows.map(|r| format!("\n| {} |", r.join(" | "))).collect();
        self.timeline.note(format!("{} ({id}){table}", self.step));
    }

    /// A step has ended.
    pub(crate) fn leave(&mut self, result: Result<()>) {
        if let Err(error) = result {
            let message = format!("{error:#}");
            self.timeline.note(format!("FAILED: {message}"));
            self.failure = Some((self.step.clone(), message.clone()));
            fail(message);
        }
    }

    /// The bed, when one was needed so far.
    #[must_use]
    pub fn running_bed(&self) -> Option<Arc<dyn Bed>> {
        self.bed.clone()
    }

    /// The bed; built, and everything declared so far applied, by the first call.
    pub(crate) async fn bed(&mut self) -> Result<Arc<dyn Bed>> {
        if self.bed.is_none() {
            self.settings.buildable(self.topology.as_ref())?;
            let suite = Arc::clone(self.suite()?);
            let edited = suite.settings.saboteur.is_some_and(|s| s.rule_edit().is_some());
            if edited || self.settings.failing_rule()?.is_some() {
                self.settings.go_through_iptables();
            }
            let order = crate::bed::sim::Order {
                suite: &suite,
                settings: &self.settings,
                topology: self.topology.as_ref(),
                folder: &self.folder,
                timeline: &self.timeline,
                bulk: self.bulk,
                is_recorded: true,
            };
            let bed = crate::bed::sim::start(&order).await.context("start the lab")?;
            self.timeline.note("the lab is up");
            self.bed = Some(bed);
            if self.settings.default_intention == Some(Verdict::Deny) {
                self.bed_now()?.default_intention(Verdict::Deny).await?;
            }
        }
        // what is declared may need addresses, and addresses need the bed
        Box::pin(self.flush()).await?;
        self.bed_now()
    }

    /// The bed that is already there.
    pub(crate) fn bed_now(&self) -> Result<Arc<dyn Bed>> {
        self.bed.clone().context("find the lab: no step has needed one yet")
    }

    /// A step makes a workload unready on purpose, so that nothing waits for it, or makes it whole again.
    pub(crate) fn disturb(&mut self, workload: &str, disturbed: bool) {
        if disturbed {
            self.disturbed.insert(workload.to_owned());
        } else {
            self.disturbed.remove(workload);
        }
    }

    /// A step deletes a Pod of a workload with grace.
    pub(crate) fn leave_taking(&mut self, workload: &str, pod: Option<&PodRef>) {
        self.leaving.extend(pod.map(|pod| (workload.to_owned(), pod.clone())));
    }

    /// Whether a step made a workload unready on purpose, and none has made it whole again.
    pub(crate) fn is_disturbed(&self, workload: &str) -> bool {
        self.disturbed.contains(workload)
    }

    /// Whether a cluster runs, so that a declaration is a change.
    pub(crate) fn is_live(&self) -> bool {
        self.bed.is_some()
    }

    /// Ends the scenario: loops stop, evidence is written, the lab goes.
    pub async fn finish(&mut self, failure: Option<String>) {
        for running in &mut self.loops {
            running.stop().await;
        }
        if let (None, Some(message)) = (&self.failure, failure) {
            self.failure = Some((self.step.clone(), message));
        }
        if let Some(bed) = self.bed.take() {
            if let Ok(suite) = self.suite() {
                for part in bed.parts() {
                    suite.ready(part.pods().ready_times());
                }
            }
            crate::evidence::collect(self, bed.as_ref()).await;
            if let (Some(_), Some(suite)) = (&self.failure, self.suite.as_ref().filter(|s| s.settings.keep)) {
                crate::report::keep(suite, self, bed.as_ref()).await;
            }
            bed.stop().await;
        } else {
            self.folder.write("timeline.txt", &self.timeline.text());
        }
    }
}
