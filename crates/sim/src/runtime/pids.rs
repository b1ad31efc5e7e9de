//! Process namespaces: every container has one, and its main process is number 1 in it.
//!
//! When that process ends, the kernel ends every other one in the namespace, and only then says so: there is nothing to
//! hunt for. A namespace is made or entered by a *thread that is born for it and dies in it*, as `netns` does. Such a
//! thread stays where it is itself, only its children are born inside; so a container's process is still a child of this
//! program, and nobody in between has to pass signals and exit codes on.

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

/// A container's process namespace. Held open, so that no other one can be taken for it.
#[derive(Debug)]
pub(super) struct Pids(File);

impl Pids {
    /// Starts `command` as the first process of a new namespace.
    ///
    /// # Errors
    /// When the kernel refuses the namespace, which takes `CAP_SYS_ADMIN` in the sandbox, or the process.
    pub(super) async fn with_first(mut command: Command) -> io::Result<(Child, Self)> {
        on_a_thread(move || {
            unshare(CloneFlags::CLONE_NEWPID)?;
            let child = command.spawn()?;
            // Not by the number of the child, which may have ended by now. There is nothing to open before there is one.
            let namespace = File::open("/proc/thread-self/ns/pid_for_children")?;
            Ok((child, Self(namespace)))
        })
        .await
    }

    /// Starts `command` as a further process of the namespace.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] when the first process has ended: the kernel's word for it. Or as
    /// [`Pids::with_first`].
    pub(super) async fn add(&self, mut command: Command) -> io::Result<Child> {
        let namespace = self.0.try_clone()?;
        on_a_thread(move || {
            setns(namespace, CloneFlags::CLONE_NEWPID)?;
            command.spawn()
        })
        .await
    }
}

/// Runs `work` on a thread of its own, within the caller's runtime.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (sender, done) = tokio::sync::oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new().name("pids".into()).spawn(move || {
        // A child's end is the runtime's to notice.
        let _inside = runtime.enter();
        // Who waited may have been dropped: then the child goes with the answer.
        let _ = sender.send(work());
    })?;
    done.await.unwrap_or_else(|_| Err(io::Error::other("the thread that enters the process namespace panicked")))
}
