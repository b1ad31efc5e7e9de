//! A network namespace as a value, and the only code that enters one.
//!
//! Entering a namespace is done by a *thread that is born for it and dies in it*: there is no way back to forget, and a
//! panic or an early return cannot leave a thread in the wrong namespace. Async code never enters; it asks for a socket
//! that was made inside ([`NetNs::tcp_listen`], [`NetNs::tcp_connect`] …) and uses it from outside, because a socket
//! belongs to the namespace it was created in for life.
//!
//! ```no_run
//! let pod = netns::NetNs::create()?;
//! let interfaces = pod.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
//! assert!(interfaces.contains("lo:"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is absent: no links, addresses, routes or rules are made here, and nothing but network namespaces is entered.
//! The crate `netns-rs` was considered: it keeps every namespace as a mount under `/var/run/netns` and brings the calling
//! thread back by hand, the two things this crate exists to avoid.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;

mod socket;

/// Why a namespace could not be opened, made, entered or bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is missing, not readable, or not a network namespace.
    #[error("open network namespace {path}")]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// `unshare(CLONE_NEWNET)` was refused, usually for want of `CAP_SYS_ADMIN`.
    #[error("create a network namespace (needs CAP_SYS_ADMIN in the user namespace)")]
    Create(#[source] io::Error),
    /// `setns` was refused.
    #[error("enter {namespace} (needs CAP_SYS_ADMIN in the user namespace that owns it)")]
    Enter {
        /// Which namespace.
        namespace: NetNs,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The thread that would have entered could not be started, or panicked.
    #[error("run a thread in {0}")]
    Thread(NetNs, #[source] io::Error),
    /// The namespace could not be mounted at, or unmounted from, a path.
    #[error("bind a network namespace at {path}")]
    Bind {
        /// The mount point.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A network namespace, held open by a file descriptor and equal to another one when the kernel says so
/// (device and inode), whatever paths led to them.
#[derive(Clone)]
pub struct NetNs {
    file: Arc<File>,
    device: u64,
    inode: u64,
}

impl NetNs {
    /// Opens the namespace that `path` names: a bind mount, or `/proc/<pid>/ns/net`.
    ///
    /// # Errors
    /// [`Error::Open`] when the path cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let fail = |source| Error::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        Ok(Self { device: meta.dev(), inode: meta.ino(), file: Arc::new(file) })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Open`] when `/proc` is not mounted.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// [`Error::Open`] when the process is gone or not ours to look at.
    pub fn of_process(pid: u32) -> Result<Self, Error> {
        Self::open(format!("/proc/{pid}/ns/net"))
    }

    /// Makes a new namespace, with only a loopback interface that is down.
    ///
    /// # Errors
    /// [`Error::Create`] when the kernel refuses.
    pub fn create() -> Result<Self, Error> {
        let made = std::thread::Builder::new().name("netns-create".into()).spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::Create(e.into()))?;
            Self::current()
        });
        made.map_err(Error::Create)?
            .join()
            .unwrap_or_else(|_| Err(Error::Create(io::Error::other("the thread panicked"))))
    }

    /// Runs `work` in this namespace, on a thread that ends with it, and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Enter`] when the kernel refuses, [`Error::Thread`] when no thread could be had or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                self.enter()?;
                Ok(work())
            });
            thread
                .map_err(|e| Error::Thread(self.clone(), e))?
                .join()
                .unwrap_or_else(|_| Err(Error::Thread(self.clone(), io::Error::other("the work panicked"))))
        })
    }

    /// Moves the calling *thread* into this namespace for good. Only for a thread, or a single-threaded process, that
    /// will never do anything else: everyone else wants [`NetNs::run`].
    ///
    /// # Errors
    /// [`Error::Enter`] when the kernel refuses.
    pub fn enter(&self) -> Result<(), Error> {
        nix::sched::setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::Enter { namespace: self.clone(), source: e.into() })
    }

    /// Keeps the namespace alive at `path` (as `ip netns` does under `/run/netns`) until [`NetNs::unbind`].
    ///
    /// # Errors
    /// [`Error::Bind`] when the file cannot be made or mounted on.
    pub fn bind(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let fail = |source| Error::Bind { path: path.to_owned(), source };
        File::create(path).map_err(fail)?;
        let source = self.proc_path();
        nix::mount::mount(Some(&source), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|e| fail(e.into()))
    }

    /// Removes the mount and file that [`NetNs::bind`] made.
    ///
    /// # Errors
    /// [`Error::Bind`] when it is not mounted or the file cannot be removed.
    pub fn unbind(path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let fail = |source| Error::Bind { path: path.to_owned(), source };
        nix::mount::umount2(path, MntFlags::MNT_DETACH).map_err(|e| fail(e.into()))?;
        std::fs::remove_file(path).map_err(fail)
    }

    /// A path that names this namespace for as long as this process holds the value: `/proc/<our pid>/fd/<n>`.
    #[must_use]
    pub fn proc_path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// The inode number, by which the kernel (and `lsns`) names the namespace.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A TCP listener inside the namespace, non-blocking, `SO_REUSEADDR`, usable from any thread.
    ///
    /// # Errors
    /// As [`NetNs::run`], and when the address cannot be bound.
    pub fn tcp_listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.run(|| socket::tcp_listen(address)).map_err(io::Error::other)?
    }

    /// A UDP socket inside the namespace, non-blocking, usable from any thread.
    ///
    /// # Errors
    /// As [`NetNs::run`], and when the address cannot be bound.
    pub fn udp_bind(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        self.run(|| socket::udp_bind(address)).map_err(io::Error::other)?
    }

    /// A non-blocking TCP socket of the namespace that has *begun* to connect to `peer`; it is connected once it is
    /// writable and has no pending socket error (`tokio::net::TcpStream::from_std` and `writable` do).
    ///
    /// # Errors
    /// As [`NetNs::run`], and when the kernel refuses at once (no route).
    pub fn tcp_connect(&self, peer: SocketAddr) -> io::Result<std::net::TcpStream> {
        self.run(|| socket::tcp_connect(peer)).map_err(io::Error::other)?
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Eq for NetNs {}

impl fmt::Debug for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetNs({})", self.inode)
    }
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network namespace net:[{}]", self.inode)
    }
}
