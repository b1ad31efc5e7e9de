//! What a control plane keeps over its restarts, as Consul's servers do in their data directory: the root of the certificates and
//! the virtual addresses, both of which are written into Pods, which outlive it; and the prepared queries.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ca::Leaf;
use crate::names::DEFAULT;
use crate::query::Queries;
use crate::vip::VirtualIps;

/// Name of the file in the data directory.
const FILE: &str = "mesh.json";

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) trust_domain: String,
    pub(crate) root: Leaf,
    #[serde(default)]
    pub(crate) vips: VirtualIps,
    #[serde(default)]
    pub(crate) queries: Queries,
}

/// Why nothing could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The file cannot be read or written.
    #[error("{what} {}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("read {}: it does not hold what a control plane keeps; remove it to begin anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The file, and what is in it.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
    kept: Kept,
    /// The virtual addresses of the last world that is in the file.
    written: Arc<VirtualIps>,
    /// Its prepared queries.
    asked: Arc<Queries>,
}

/// Where what belongs to a partition is kept: beside what the default one and all of them have.
pub(crate) fn directory(data_dir: &Path, partition: &str) -> PathBuf {
    if partition == DEFAULT { data_dir.to_owned() } else { data_dir.join("partitions").join(partition) }
}

/// Reads what an earlier control plane left in `directory`; nothing when there was none.
pub(crate) fn read(directory: &Path) -> Result<Option<Kept>, KeptError> {
    read_file(&directory.join(FILE))
}

/// Reads a file that [`write_file`] has written; nothing when there is none.
pub(crate) fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, KeptError> {
    let path = path.to_owned();
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| KeptError::Content { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeptError::File { what: "read", path, source }),
    }
}

/// Replaces a file, which only its owner may read: keys and tokens are in it.
pub(crate) fn write_file(path: &Path, kept: &impl Serialize) -> Result<(), KeptError> {
    let fail = |source| KeptError::File { what: "write", path: path.to_owned(), source };
    let fresh = path.with_extension("new");
    let text = serde_json::to_vec(kept).map_err(|e| fail(e.into()))?;
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        fs::rename(&fresh, path)
    };
    write().map_err(fail)
}

impl Keeper {
    /// Keeps `kept` in `directory` from now on, which is made if need be.
    pub(crate) fn start(directory: &Path, kept: Kept) -> Result<Self, KeptError> {
        let (written, asked) = (Arc::new(kept.vips.clone()), Arc::new(kept.queries.clone()));
        let keeper = Self { path: directory.join(FILE), kept, written, asked };
        keeper.write()?;
        Ok(keeper)
    }

    /// Writes the virtual addresses and the queries if they are others than those in the file. What could not be written is tried
    /// again the next time.
    pub(crate) fn keep(&mut self, vips: &Arc<VirtualIps>, queries: &Arc<Queries>) -> Result<(), KeptError> {
        // most changes of the world give nobody an address, and it may hold thousands
        if Arc::ptr_eq(&self.written, vips) && Arc::ptr_eq(&self.asked, queries) {
            return Ok(());
        }
        if *self.written != **vips || *self.asked != **queries {
            self.kept.vips = VirtualIps::clone(vips);
            self.kept.queries = Queries::clone(queries);
            self.write()?;
        }
        self.written = Arc::clone(vips);
        self.asked = Arc::clone(queries);
        Ok(())
    }

    fn write(&self) -> Result<(), KeptError> {
        write_file(&self.path, &self.kept)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::query::Query;

    fn kept() -> Kept {
        let root = Leaf { cert_chain_pem: "ROOT".to_owned(), key_pem: "KEY".to_owned() };
        Kept { trust_domain: "td.consul".to_owned(), root, vips: VirtualIps::default(), queries: Queries::default() }
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(read(directory.path()).expect("nothing"), None);
        let mut keeper = Keeper::start(directory.path(), kept()).expect("writable");
        let mut vips = VirtualIps::default();
        vips.assign(["web"]);
        let queries = Queries::from([("id".to_owned(), Query::default())]);
        keeper.keep(&Arc::new(vips.clone()), &Arc::new(queries.clone())).expect("writable");
        let found = read(directory.path()).expect("readable").expect("kept");
        assert_eq!(found, Kept { vips, queries, ..kept() });
        let mode = fs::metadata(directory.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("servers");
        let mut keeper = Keeper::start(&directory, kept()).expect("writable");
        let mut vips = VirtualIps::default();
        vips.assign(["web"]);
        let vips = Arc::new(vips);
        fs::rename(&directory, place.path().join("away")).expect("moved");
        fs::write(&directory, "in the way").expect("writable");
        keeper.keep(&vips, &Arc::default()).expect_err("no directory");
        fs::remove_file(&directory).expect("removed");
        keeper.keep(&vips, &Arc::default()).expect("writable again");
        assert_eq!(read(&directory).expect("readable").map(|kept| kept.vips), Some(VirtualIps::clone(&vips)));
    }

    #[test]
    fn a_file_that_holds_something_else_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(FILE), "{}").expect("writable");
        let error = read(directory.path()).expect_err("no root in it");
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
