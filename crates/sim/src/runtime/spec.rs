//! What a container is made of, as data that travels to the shim.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A directory or file of this machine that appears in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On this machine.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
    /// Whether what is mounted below it later appears in the container (`mountPropagation: HostToContainer`).
    pub propagates: bool,
}

/// A container: its root file system and its namespaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// An existing directory of this machine on which the shim mounts the root, in its own mount namespace only: all
    /// containers may share one.
    pub mountpoint: PathBuf,
    /// Path of the network namespace.
    pub netns: PathBuf,
    /// UTS host name.
    pub hostname: String,
    /// Files of the image: path in the container, file on this machine.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// Text files of `/etc`, by name.
    pub etc: Vec<(String, String)>,
    /// Whether everything but the volumes refuses writing.
    pub read_only_root: bool,
    /// Whether `/proc/sys` may be written.
    pub privileged: bool,
}

/// A process in a container: the container's main one, or one of `exec`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment, complete.
    pub env: Vec<(String, String)>,
    /// Working directory, made if missing.
    pub cwd: PathBuf,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The bounding set, and the effective set where the user is root: `CAP_…` names.
    pub capabilities: BTreeSet<String>,
    /// Whether set-uid programs and file capabilities are without effect.
    pub no_new_privileges: bool,
    /// Whether the kernel must seem to have neither xtables nor nf_tables. Implies `no_new_privileges`.
    pub lacks_iptables: bool,
    /// Opened as standard input; `/dev/null` when unset.
    pub stdin: Option<PathBuf>,
}

/// Where the shim runs a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Target {
    /// In a container that it makes.
    New(ContainerSpec),
    /// In the container of a running process.
    Join {
        /// That process.
        pid: u32,
    },
}

/// The whole order to the shim, sent over its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Where.
    pub target: Target,
    /// What.
    pub process: ProcessSpec,
}

/// What the shim answers, as a line of JSON, when the container could not be made or the program not be run. The end of
/// the stream without one means that the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// 126 (cannot be run), 127 (not found) or 125 (our fault).
    pub code: i32,
    /// In runc's words where it has some.
    pub message: String,
}

/// What containerd grants when a Pod says nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The capabilities of a container: containerd's default set, then `drop`, then `add`, as `securityContext.capabilities`
/// means them (`ALL` in either list, names with or without `CAP_`); every capability there is for a privileged one.
#[must_use]
pub fn capability_set(add: &[String], drop: &[String], privileged: bool) -> BTreeSet<String> {
    let all = || caps::all().iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    if privileged {
        return all();
    }
    let canonical = |name: &String| {
        let name = name.to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let add: BTreeSet<String> = add.iter().map(canonical).collect();
    let drop: BTreeSet<String> = drop.iter().map(canonical).collect();
    // containerd looks at both ALLs first, and at the single names after them.
    let mut set: BTreeSet<String> = match (add.contains("ALL"), drop.contains("ALL")) {
        (true, _) => all(),
        (false, true) => BTreeSet::new(),
        (false, false) => DEFAULT_CAPABILITIES.iter().map(ToString::to_string).collect(),
    };
    set.extend(add.iter().filter(|name| *name != "ALL").cloned());
    set.retain(|name| !drop.contains(name));
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[rstest]
    #[case::nothing_said(&[], &[], &["CAP_NET_RAW", "CAP_CHOWN"], &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"])]
    #[case::one_added(&["NET_ADMIN"], &[], &["CAP_NET_ADMIN", "CAP_NET_RAW"], &["CAP_SYS_ADMIN"])]
    #[case::prefix_accepted(&["CAP_NET_ADMIN"], &[], &["CAP_NET_ADMIN"], &[])]
    #[case::all_but_one(&["NET_BIND_SERVICE"], &["ALL"], &["CAP_NET_BIND_SERVICE"], &["CAP_NET_RAW", "CAP_CHOWN"])]
    #[case::one_dropped(&[], &["NET_RAW"], &["CAP_CHOWN"], &["CAP_NET_RAW"])]
    #[case::all_added_one_dropped(&["ALL"], &["SYS_ADMIN"], &["CAP_NET_ADMIN"], &["CAP_SYS_ADMIN"])]
    fn capabilities_are_containerds(
        #[case] add: &[&str],
        #[case] drop: &[&str],
        #[case] has: &[&str],
        #[case] lacks: &[&str],
    ) {
        let set = capability_set(&names(add), &names(drop), false);
        for name in has {
            assert!(set.contains(*name), "{name} missing from {set:?}");
        }
        for name in lacks {
            assert!(!set.contains(*name), "{name} in {set:?}");
        }
    }

    #[test]
    fn privileged_means_every_capability() {
        assert!(capability_set(&[], &names(&["ALL"]), true).contains("CAP_SYS_ADMIN"));
    }
}
