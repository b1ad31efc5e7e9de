//! Starting the shim and hearing whether the program runs.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::spec::{Order, Report, Target};

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The shim program is missing.
    #[error("find sim-container beside {beside} (build it with the runner, or name it in PELLUCID_SIM_CONTAINER)")]
    NoShim {
        /// Our own program.
        beside: PathBuf,
    },
    /// The shim could not be started or talked to.
    #[error("start the container shim {shim}")]
    Shim {
        /// Its path.
        shim: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log could not be made.
    #[error("write the log {path}")]
    Log {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The container could not be made, or its program not be run.
    #[error("{message}")]
    Program {
        /// 125 to 127, as `docker run` exits.
        code: i32,
        /// In runc's words.
        message: String,
    },
}

/// The shim's program: what `PELLUCID_SIM_CONTAINER` says, or `sim-container` beside our own program (or, for test
/// programs, one directory up).
///
/// # Errors
/// [`StartError::NoShim`].
pub fn shim_path() -> Result<PathBuf, StartError> {
    if let Some(path) = std::env::var_os("PELLUCID_SIM_CONTAINER") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("sim-container"))
        .find(|path| path.is_file())
        .ok_or(StartError::NoShim { beside: own })
}

/// A program that runs in a container.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) pid: u32,
    /// Of a new container. While it is open, no other namespace has its inode number.
    pub(super) mount_namespace: Option<File>,
}

/// Runs the shim with `order` and waits until the program runs. Output is piped, standard input is what the order says.
pub(super) async fn launch(shim: &PathBuf, order: &Order) -> Result<Started, StartError> {
    let fail = |source| StartError::Shim { shim: shim.clone(), source };
    let (ours, theirs) = UnixStream::pair().map_err(fail)?;
    ours.set_nonblocking(true).map_err(fail)?;
    let mut child = Command::new(shim)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(fail)?;
    let pid = child.id().unwrap_or_default();
    let socket = tokio::net::UnixStream::from_std(ours).map_err(fail)?;
    let (answers, mut orders) = socket.into_split();
    let mut answers = BufReader::new(answers).lines();
    let mut text = serde_json::to_vec(order).map_err(|e| fail(e.into()))?;
    text.push(b'\n');
    orders.write_all(&text).await.map_err(fail)?;
    // Closing our direction is the word to go on; a new container's shim is looked at first.
    let mut orders = Some(orders).filter(|_| matches!(order.target, Target::New(_)));
    let mut mount_namespace = None;
    while let Some(line) = answers.next_line().await.map_err(fail)? {
        match serde_json::from_str(&line).map_err(|e| fail(e.into()))? {
            Report::Namespaces => {
                mount_namespace = Some(File::open(format!("/proc/{pid}/ns/mnt")).map_err(fail)?);
                drop(orders.take());
            }
            Report::Failed { code, message } => {
                let _ = child.wait().await;
                return Err(StartError::Program { code, message });
            }
        }
    }
    Ok(Started { child, pid, mount_namespace })
}
