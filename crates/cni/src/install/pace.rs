//! How soon to look again: at once, as long as nobody writes against us.

use crate::node::CONTEST;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const USUAL: Duration = Duration::from_millis(250);
/// Another program that rewrites its configuration all the time is not to be fought at its own speed.
const FIGHT: Duration = Duration::from_secs(10);
/// More repairs than this in a minute are a fight.
const REPAIRS: usize = 6;
const WINDOW: Duration = Duration::from_secs(60);

/// The repairs of the last minute.
#[derive(Default)]
pub(super) struct Pace {
    repairs: VecDeque<Instant>,
    fighting: bool,
}

impl Pace {
    /// Whether another program takes the plugin out again and again.
    pub(super) fn is_fight(&self) -> bool {
        self.fighting
    }

    /// How long to wait after a pass that has repaired the entry, or has not.
    pub(super) fn next(&mut self, repaired: bool, now: Instant) -> Duration {
        if repaired {
            self.repairs.push_back(now);
        }
        while self.repairs.front().is_some_and(|repair| now.duration_since(*repair) > WINDOW) {
            self.repairs.pop_front();
        }
        let fighting = self.repairs.len() > REPAIRS;
        if fighting && !self.fighting {
            tracing::error!(repairs = self.repairs.len(), "{CONTEST}");
        }
        self.fighting = fighting;
        if fighting { FIGHT } else { USUAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_slows_it_down_and_peace_makes_it_quick_again() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let waits: Vec<Duration> = (0..8).map(|n| pace.next(true, start + Duration::from_millis(n * 300))).collect();
        assert_eq!(waits, [USUAL, USUAL, USUAL, USUAL, USUAL, USUAL, FIGHT, FIGHT]);
        assert_eq!(pace.next(false, start + WINDOW + Duration::from_secs(3)), USUAL);
    }
}
