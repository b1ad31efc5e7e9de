//! The network namespaces of a node's Pods, as containerd and CRI-O keep them: mounted under `/var/run/netns`. Which is whose is
//! told by the addresses in it, which no two Pods share.

use crate::plugin::sources::own_addresses;
use netns::NetNs;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why a Pod's namespace is not had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    /// None has the Pod's addresses.
    #[error("no network namespace in {0} has the pod's addresses")]
    NotFound(PathBuf),
    /// Several have.
    #[error("several network namespaces have the pod's addresses: {0}")]
    Ambiguous(String),
    /// The directory cannot be read.
    #[error("{0}: {1}; check that it is mounted, with mountPropagation HostToContainer")]
    Directory(PathBuf, String),
}

/// The directory, and what was found in it before.
pub(super) struct Namespaces {
    directory: PathBuf,
    /// By path: the namespace's inode, and its addresses.
    known: HashMap<PathBuf, (u64, Vec<IpAddr>)>,
}

impl Namespaces {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, known: HashMap::new() }
    }

    /// The one namespace that has all of these addresses.
    pub(super) fn with(&mut self, addresses: &[IpAddr]) -> Result<NetNs, Missing> {
        let failed = |error: std::io::Error| Missing::Directory(self.directory.clone(), error.to_string());
        let entries = std::fs::read_dir(&self.directory).map_err(failed)?;
        let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        self.known.retain(|path, _| paths.contains(path));
        let own = NetNs::current().ok();
        let mut found: Vec<(&Path, NetNs)> = Vec::new();
        for path in &paths {
            // one that goes at this moment is nobody's any more
            let Ok(netns) = NetNs::open(path) else { continue };
            if own.as_ref() == Some(&netns) || found.iter().any(|(_, known)| *known == netns) {
                continue;
            }
            if self.addresses(path, &netns).is_some_and(|has| addresses.iter().all(|address| has.contains(address))) {
                found.push((path, netns));
            }
        }
        match found.len() {
            0 => Err(Missing::NotFound(self.directory.clone())),
            1 => Ok(found.remove(0).1),
            _ => {
                let paths: Vec<String> = found.iter().map(|(path, _)| path.display().to_string()).collect();
                Err(Missing::Ambiguous(paths.join(", ")))
            }
        }
    }

    fn addresses(&mut self, path: &Path, netns: &NetNs) -> Option<Vec<IpAddr>> {
        if let Some((inode, addresses)) = self.known.get(path)
            && *inode == netns.inode()
            && !addresses.is_empty()
        {
            return Some(addresses.clone());
        }
        // a mere file is no namespace and cannot be entered
        let addresses = netns.run(own_addresses).ok()?;
        self.known.insert(path.to_owned(), (netns.inode(), addresses.clone()));
        Some(addresses)
    }
}
