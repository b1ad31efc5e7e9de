//! Proves that the harness can fail: things are broken on purpose, one at a time, and scenarios must notice.

mod saboteur;
mod tampers;

use std::collections::BTreeMap;

use crate::suite::Finished;

pub use saboteur::Saboteur;

/// What became of one saboteur.
#[derive(Debug, Clone)]
pub struct Caught {
    /// Which one.
    pub saboteur: Saboteur,
    /// Scenarios that failed, with the failing step.
    pub by: BTreeMap<String, String>,
    /// Those of them that are about it.
    pub about: Vec<String>,
    /// How many scenarios ran.
    pub runs: usize,
}

impl Caught {
    /// Looks for the saboteur in the results of a run.
    #[must_use]
    pub fn by(saboteur: Saboteur, finished: &[Finished]) -> Self {
        let failed = || finished.iter().filter(|f| f.failure.is_some());
        let about = |f: &&Finished| f.tags.iter().any(|t| saboteur.tags().contains(&t.as_str()));
        Self {
            saboteur,
            by: failed()
                .map(|f| (f.name.clone(), f.failure.as_ref().map(|(step, _)| step.clone()).unwrap_or_default()))
                .collect(),
            about: failed().filter(about).map(|f| f.name.clone()).collect(),
            runs: finished.len(),
        }
    }

    /// Whether a scenario that is about it failed.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        !self.about.is_empty()
    }
}
