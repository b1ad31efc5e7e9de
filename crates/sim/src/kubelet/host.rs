//! A node's own file system: the directories in which a real node's files lie, and a mount namespace for programs that run on the
//! node itself.
//!
//! Everything else of a node's file system is this machine's. [`OWN`] is the node's: Pods see it in `hostPath` volumes, and the
//! runtime finds its network configuration and plugins there. `/run` is the node's for its programs too, as it holds sockets and
//! the names of network namespaces: `/run/netns/cni-<uid>`, as containerd keeps them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use netns::NetNs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Directories that are the node's own, below the directory of the node.
const OWN: [&str; 4] = ["etc/cni", "opt/cni", "run", "var/lib/cni"];
const NETNS: &str = "run/netns";
const NONE: Option<&str> = None;

/// A node's files.
pub(in crate::kubelet) struct Host {
    root: PathBuf,
    /// The same below `/run`, where it is there.
    hidden: Option<PathBuf>,
    /// In which `/run` is the node's.
    mounts: Arc<File>,
}

impl Host {
    /// Makes the directories below `root`, and the mount namespace.
    pub(in crate::kubelet) fn new(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        for directory in OWN.into_iter().chain([NETNS]) {
            std::fs::create_dir_all(root.join(directory))?;
        }
        // what is mounted in there later is to appear in the namespaces made before
        let netns = root.join(NETNS);
        mount(Some(&netns), &netns, NONE, MsFlags::MS_BIND, NONE)?;
        mount(NONE, &netns, NONE, MsFlags::MS_SHARED, NONE)?;
        // where the lab itself is in /run, the plugins would be out of sight
        let hidden = root.strip_prefix("/run").ok().map(Path::to_owned);
        if let Some(hidden) = &hidden {
            std::fs::create_dir_all(root.join("run").join(hidden))?;
        }
        let (own, hidden_there) = (root.clone(), hidden.clone());
        let made = on_a_thread(move || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
            let open = File::open(&own)?;
            mount(Some(&own.join("run")), "/run", NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
            if let Some(hidden) = hidden_there {
                let seen = format!("/proc/thread-self/fd/{}", open.as_raw_fd());
                mount(Some(seen.as_str()), &Path::new("/run").join(hidden), NONE, MsFlags::MS_BIND, NONE)?;
            }
            File::open("/proc/thread-self/ns/mnt")
        });
        Ok(Self { root, hidden, mounts: Arc::new(made?) })
    }

    /// Where a file of the node is on this machine.
    pub(in crate::kubelet) fn place(&self, path: &Path) -> PathBuf {
        let names = path.components().filter(|part| matches!(part, Component::Normal(_)));
        let relative: PathBuf = names.collect();
        let relative = relative.strip_prefix("var/run").map(|rest| Path::new("run").join(rest)).unwrap_or(relative);
        match OWN.iter().any(|own| relative.starts_with(own)) {
            true => self.root.join(relative),
            false => path.to_owned(),
        }
    }

    /// Keeps a Pod's network namespace under a name. Returns the name, as the node's programs see it.
    pub(in crate::kubelet) fn keep(&self, netns: &NetNs, uid: &str) -> Result<PathBuf, netns::Error> {
        let name = format!("cni-{uid}");
        netns.bind(self.root.join(NETNS).join(&name))?;
        Ok(Path::new("/").join(NETNS).join(name))
    }

    /// Gives the name up. It may be gone already.
    pub(in crate::kubelet) fn release(&self, uid: &str) {
        let path = self.root.join(NETNS).join(format!("cni-{uid}"));
        if path.exists()
            && let Err(error) = NetNs::unbind(&path)
        {
            tracing::warn!(%error, "giving up the name of a pod's network");
        }
    }

    /// Starts a program on the node, in this network namespace.
    pub(in crate::kubelet) fn spawn(&self, node: &NetNs, mut command: Command) -> io::Result<Child> {
        let mounts = Arc::clone(&self.mounts);
        let spawned = node.run(|| {
            unshare(CloneFlags::CLONE_FS)?;
            setns(&*mounts, CloneFlags::CLONE_NEWNS)?;
            command.spawn()
        });
        spawned.map_err(io::Error::other)?
    }

    /// Takes the mounts away, so that the directory can be removed.
    pub(in crate::kubelet) fn close(&self) {
        if let Err(error) = umount2(&self.root.join(NETNS), MntFlags::MNT_DETACH) {
            tracing::warn!(%error, "a node's namespaces stay mounted");
        }
    }

    /// What a start of the machine leaves of `/run`: nothing.
    pub(in crate::kubelet) fn power_off(&self) -> io::Result<()> {
        let run = self.root.join("run");
        let ours = self.hidden.as_ref().and_then(|hidden| hidden.iter().next()).map(|first| run.join(first));
        for entry in std::fs::read_dir(&run)? {
            let path = entry?.path();
            if path == self.root.join(NETNS) || Some(&path) == ours.as_ref() {
                continue;
            }
            if path.is_dir() { std::fs::remove_dir_all(&path)? } else { std::fs::remove_file(&path)? }
        }
        Ok(())
    }
}

/// Runs what must not touch the mounts of other threads.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let thread = std::thread::Builder::new().name("node-files".into()).spawn(work)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}
