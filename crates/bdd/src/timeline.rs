//! What happened in a scenario, in order: steps, actions, answers, proofs.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use capture::Timestamp;

/// A scenario's record, shared by everything that has something to tell.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<Mutex<Vec<(Timestamp, String)>>>);

impl Timeline {
    /// Writes something down.
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Timestamp::now(), what.into()));
    }

    /// The record as text, one line per event, times of day in UTC as in packet listings.
    #[must_use]
    pub fn text(&self) -> String {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.sort_by_key(|(at, _)| *at);
        let mut text = String::new();
        for (at, what) in entries {
            let mut lines = what.lines();
            // writing to a String cannot fail
            let _ = writeln!(text, "{at}  {}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(text, "                 {line}");
            }
        }
        text
    }
}
