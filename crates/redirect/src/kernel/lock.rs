//! One change of a namespace at a time.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::ApplyError;

/// How long to wait for another program that is changing the same namespace.
const PATIENCE: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(10);

/// The lock is on the namespace itself, unlike `/run/xtables.lock`, which makes Pods of a node wait for each other and for the
/// node although their tables have nothing in common.
///
/// Without `/proc`, as in a root that holds nothing but a CNI plugin, there is no name for the namespace, and no lock: what nf_tables
/// changes, it changes at once, and the programs of iptables need more than such a root has.
pub(super) fn lock() -> Result<Option<File>, ApplyError> {
    let namespace = match File::open("/proc/thread-self/ns/net") {
        Ok(namespace) => namespace,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ApplyError::Lock(error)),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match namespace.try_lock() {
            Ok(()) => return Ok(Some(namespace)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(ApplyError::Busy),
            Err(TryLockError::Error(error)) => return Err(ApplyError::Lock(error)),
        }
    }
}
