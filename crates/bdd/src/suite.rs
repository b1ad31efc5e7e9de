//! What all scenarios of a run share: where things are, and what they found out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::selftest::Saboteur;

/// Where the programs are and how the run was asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Reports and evidence go here.
    pub out: PathBuf,
    /// Where the workspace's programs are.
    pub bin_dir: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// Leave failed labs running until a person has looked.
    pub keep: bool,
    /// The runner's process as the machine outside the sandbox knows it.
    pub outer_pid: i32,
    /// What is broken on purpose.
    pub saboteur: Option<Saboteur>,
}

/// How a scenario ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Feature, scenario and row.
    pub name: String,
    /// The feature file.
    pub path: String,
    /// The scenario's name, for a reproducing command.
    pub scenario: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// `None` when it passed; otherwise the step and the message.
    pub failure: Option<(String, String)>,
    /// How long it took.
    pub took: Duration,
    /// When it ended, from the start of the run.
    pub at: Duration,
    /// Where its evidence is.
    pub folder: PathBuf,
    /// Evidence steps, all decided by packets or rules.
    pub proven: usize,
}

#[derive(Debug, Default)]
struct Running {
    step: String,
    since: Option<Instant>,
}

/// One run.
pub struct Suite {
    /// How it was asked for.
    pub settings: Settings,
    /// The labs' own files; gone when the run ends.
    pub work: PathBuf,
    /// When it began.
    pub started: Instant,
    numbers: AtomicUsize,
    finished: Mutex<Vec<Finished>>,
    ready: Mutex<Vec<Duration>>,
    running: Mutex<BTreeMap<String, Running>>,
    /// Held by the one lab that a person is looking at.
    pub looked_at: tokio::sync::Mutex<()>,
}

impl Suite {
    /// A run that begins now.
    #[must_use]
    pub fn new(settings: Settings, work: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            settings,
            work,
            started: Instant::now(),
            numbers: AtomicUsize::new(0),
            finished: Mutex::default(),
            ready: Mutex::default(),
            running: Mutex::default(),
            looked_at: tokio::sync::Mutex::default(),
        })
    }

    /// A number that no other scenario of the run has.
    pub fn number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A scenario is at this step.
    pub fn at_step(&self, scenario: &str, step: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = running.entry(scenario.to_owned()).or_default();
        step.clone_into(&mut entry.step);
        entry.since.get_or_insert_with(Instant::now);
    }

    /// Scenarios that run now, with their step and for how long.
    #[must_use]
    pub fn running(&self) -> Vec<(String, String, Duration)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .iter()
            .map(|(n, r)| (n.clone(), r.step.clone(), r.since.map_or(Duration::ZERO, |s| s.elapsed())))
            .collect()
    }

    /// A scenario has ended.
    pub fn finish(&self, mut finished: Finished) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&finished.name);
        finished.at = self.started.elapsed();
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
    }

    /// Scenarios that have ended.
    #[must_use]
    pub fn finished(&self) -> Vec<Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Times from Pod creation to readiness, of one scenario.
    pub fn ready(&self, times: Vec<Duration>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).extend(times);
    }

    /// The median time from Pod creation to readiness.
    #[must_use]
    pub fn median_ready(&self) -> Option<Duration> {
        let mut times = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}
