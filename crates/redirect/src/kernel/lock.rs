//! One change of a namespace at a time.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use super::ApplyError;

/// How long to wait for another program that is changing the same namespace.
const PATIENCE: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// The lock is on the namespace itself, unlike `/run/xtables.lock`, which makes Pods of a node wait for each other and for the
/// node although their tables have nothing in common.
pub(super) fn lock() -> Result<File, ApplyError> {
    let namespace = File::open("/proc/thread-self/ns/net").map_err(ApplyError::Lock)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match namespace.try_lock() {
            Ok(()) => return Ok(namespace),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(ApplyError::Busy),
            Err(TryLockError::Error(error)) => return Err(ApplyError::Lock(error)),
        }
    }
}
