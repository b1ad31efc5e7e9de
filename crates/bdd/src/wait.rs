//! Waiting for something with a deadline, and saying what was seen last when it passes.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(25);

/// Looks at a condition until it holds. `look` answers `Ok(value)` when it does, and `Err(what was seen)` otherwise.
///
/// # Errors
/// What was awaited, for how long, and what was seen last.
pub(crate) async fn until<T, E: Display, F: Future<Output = Result<T, E>>>(
    awaited: &str,
    patience: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = match look().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if start.elapsed() >= patience {
            return Err(anyhow!("waited {:.1} s for {awaited}; seen last: {seen:#}", start.elapsed().as_secs_f64()));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
