//! Puts the whole program into namespaces of its own, so that the machine is the same before, during and after a run.
//!
//! ```text
//!  outer   as started; makes the namespaces, waits          pid as the machine sees it
//!   ├─ map   writes the outer's id maps from outside, ends
//!   └─ init  pid 1 of the new namespace: mounts, reaps      dies with outer (PR_SET_PDEATHSIG)
//!       └─ inside  pid 2: the program itself                dies with init (the kernel kills the namespace)
//! ```
//!
//! Each stage is this same program, executed again with the same arguments and [`STAGE`] set: forking without executing
//! would need `unsafe`. Only the innermost returns from [`enter`]; the others end the process with the innermost's
//! status. A signal ends all of them, SIGKILL included, whichever of them gets it.
//!
//! What is absent: no file system but `/proc` and `/run` is replaced. Containers get roots of their own (see
//! [`crate::runtime`]); the program itself sees the machine's files, with the caller's rights and not more.

use std::io;
use std::path::PathBuf;

mod idmap;
mod init;
mod outer;
mod process;
mod refusal;

/// Exit status of a program that could not run at all, as opposed to one that ran and found failures.
pub const COULD_NOT_RUN: u8 = 2;

/// Names the stage that a process of the sandbox is, with the pid of the process that started it.
const STAGE: &str = "PELLUCID_SANDBOX";

/// Fresh `tmpfs` for the program's own files.
const WORK: &str = "/run/pellucid";

/// What [`enter`] gives to the innermost stage.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inside {
    /// An empty directory on a `tmpfs` that vanishes with the sandbox.
    pub work: PathBuf,
    /// The process that was started, as the machine outside counts processes: who joins its namespaces is in the sandbox.
    pub outer: i32,
}

/// Why there is no sandbox. Programs end with [`COULD_NOT_RUN`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refuses namespaces to this user.
    #[error("make user, mount, network, pid, ipc and uts namespaces ({hint})")]
    Namespaces {
        /// What to change on the machine.
        hint: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// User ids of the sandbox could not be defined.
    #[error("map user and group ids: {0}")]
    IdMap(String),
    /// A file system of the sandbox could not be mounted.
    #[error("mount {what} in the sandbox ({hint})")]
    Mount {
        /// What was to be mounted.
        what: &'static str,
        /// What to change on the machine.
        hint: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The loopback interface of the sandbox could not be brought up.
    #[error("bring up the loopback interface of the sandbox")]
    Loopback(#[source] Box<crate::net::Error>),
    /// A stage could not be started or watched.
    #[error("{what} the sandbox")]
    Process {
        /// What failed: a verb.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Namespaces can only be entered by a program with a single thread.
    #[error("enter the sandbox: {0} threads run already (call it first in main, before any runtime)")]
    Threads(usize),
}

/// Enters the sandbox, or says that this process is in it. Call it first in `main`, before any thread is started.
///
/// The caller becomes user 0 of the sandbox. As root all ids exist in it; another user's sandbox has the user as 0 and the
/// subordinate ids of `/etc/subuid` and `/etc/subgid` from 1 on.
///
/// # Errors
/// When the machine does not allow it; the message says what to change.
pub fn enter() -> Result<Inside, Error> {
    match process::stage() {
        process::Stage::Outer => {
            let threads = process::threads()?;
            if threads != 1 {
                return Err(Error::Threads(threads));
            }
            std::process::exit(outer::run()?)
        }
        process::Stage::Map { target } => std::process::exit(idmap::run(target)),
        process::Stage::Init { parent } => std::process::exit(init::run(parent)?),
        process::Stage::Inside { outer } => {
            process::unblock_signals()?;
            Ok(Inside { work: PathBuf::from(WORK), outer })
        }
    }
}
