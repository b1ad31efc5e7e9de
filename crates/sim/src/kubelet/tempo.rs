//! Kubelet time: periods, delays and back-offs that pass faster than real ones.

use std::time::Duration;

/// How many times faster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo(f64);

impl Tempo {
    /// Anything that is no sensible factor is real time.
    pub(super) fn new(factor: f64) -> Self {
        Self(if factor.is_finite() && factor > 0.0 { factor } else { 1.0 })
    }

    /// How long a kubelet's `duration` takes here.
    pub(super) fn scale(self, duration: Duration) -> Duration {
        duration.div_f64(self.0)
    }
}

/// Waiting times before a container is tried again: `first`, then twice that, and so on, as a kubelet's.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    tempo: Tempo,
    next: Duration,
}

/// After which a kubelet's back-off grows no more.
const LIMIT: Duration = Duration::from_secs(300);

impl Backoff {
    /// A container's second failure waits 10 s, its first nothing.
    pub(super) fn restarts(tempo: Tempo) -> Self {
        Self { tempo, next: Duration::ZERO }
    }

    /// The first failed pull waits already.
    pub(super) fn pulls(tempo: Tempo) -> Self {
        Self { tempo, next: Duration::from_secs(10) }
    }

    /// Kubelet time to wait now, and the same as it passes here.
    pub(super) fn take(&mut self) -> (Duration, Duration) {
        let now = self.next;
        self.next = if now.is_zero() { Duration::from_secs(10) } else { (now * 2).min(LIMIT) };
        (now, self.tempo.scale(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_0_10_20_40_to_300_seconds() {
        let mut backoff = Backoff::restarts(Tempo::new(10.0));
        let waits: Vec<_> = (0..8).map(|_| backoff.take()).collect();
        let kubelet: Vec<_> = waits.iter().map(|(kubelet, _)| kubelet.as_secs()).collect();
        assert_eq!(kubelet, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(waits[1].1, Duration::from_secs(1));
    }
}
