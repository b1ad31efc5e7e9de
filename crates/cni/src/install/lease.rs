//! The lease: a file that says who holds the node, and by its age whether they still do. Where a node has two installations at a
//! time, as in a rolling update, the later one takes the lease and the earlier one leaves the node to it.

use super::{InstallError, file, files};
use crate::node::{RENEWAL, lease_text};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// One installation's claim.
pub(super) struct Lease {
    path: PathBuf,
    id: String,
    /// The lease was taken once, from whoever had it: the latest to start is the one that counts.
    has_claimed: AtomicBool,
}

impl Lease {
    pub(super) fn new(path: PathBuf, id: String) -> Self {
        Self { path, id, has_claimed: AtomicBool::new(false) }
    }

    /// Takes the lease, or keeps it from growing old.
    pub(super) fn renew(&self, contested: bool) -> Result<(), InstallError> {
        let text = lease_text(&self.id, contested);
        let age = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        let fresh = age.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < RENEWAL));
        if fresh && std::fs::read_to_string(&self.path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(file("make", directory))?;
        }
        files::replace(&self.path, text.as_bytes(), 0o644).map_err(file("write", &self.path))?;
        self.has_claimed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a later installation has taken the lease: the node is its business from then on.
    pub(super) fn is_superseded(&self) -> bool {
        self.has_claimed.load(Ordering::Relaxed) && self.holder().is_some_and(|holder| holder != self.id)
    }

    /// Whether no later installation has taken over.
    pub(super) fn is_held(&self) -> bool {
        self.holder().is_some_and(|holder| holder == self.id)
    }

    fn holder(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        Some(text.lines().next().unwrap_or_default().to_owned())
    }

    pub(super) fn remove(&self) -> Result<(), InstallError> {
        files::remove(&self.path).map_err(file("remove", &self.path))
    }
}
