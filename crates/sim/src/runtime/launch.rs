//! Starting the shim and hearing whether the program runs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::pids::Pids;
use super::spec::{Order, Report};

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
    /// The container in which a further program was to run has ended.
    #[error("the container has ended")]
    Ended,
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

/// Runs the shim with `order` as the first process of a new process namespace, and waits until the program runs.
pub(super) async fn first(shim: &Path, order: &Order) -> Result<(Child, Pids), StartError> {
    let (command, socket) = prepare(shim)?;
    let (mut child, pids) = Pids::with_first(command).await.map_err(|source| failed(shim, source))?;
    hand_over(shim, order, socket, &mut child).await?;
    Ok((child, pids))
}

/// As [`first`], as a further process of the namespace `pids`.
pub(super) async fn further(shim: &Path, order: &Order, pids: &Pids) -> Result<Child, StartError> {
    let (command, socket) = prepare(shim)?;
    let mut child = pids.add(command).await.map_err(|source| match source.kind() {
        io::ErrorKind::OutOfMemory => StartError::Ended,
        _ => failed(shim, source),
    })?;
    match hand_over(shim, order, socket, &mut child).await {
        Ok(()) => Ok(child),
        // Killed before it had read its order.
        Err(StartError::Shim { source, .. })
            if matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
        {
            Err(StartError::Ended)
        }
        Err(error) => Err(error),
    }
}

fn failed(shim: &Path, source: io::Error) -> StartError {
    StartError::Shim { shim: shim.to_owned(), source }
}

/// The shim's command, with piped output, and our end of its standard input.
fn prepare(shim: &Path) -> Result<(Command, UnixStream), StartError> {
    let (ours, theirs) = UnixStream::pair().map_err(|source| failed(shim, source))?;
    ours.set_nonblocking(true).map_err(|source| failed(shim, source))?;
    let mut command = Command::new(shim);
    command
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok((command, ours))
}

/// Gives the order and waits until the program runs; its standard input is what the order says.
async fn hand_over(shim: &Path, order: &Order, socket: UnixStream, child: &mut Child) -> Result<(), StartError> {
    let fail = |source| failed(shim, source);
    let mut socket = tokio::net::UnixStream::from_std(socket).map_err(fail)?;
    let mut text = serde_json::to_vec(order).map_err(|e| fail(e.into()))?;
    text.push(b'\n');
    socket.write_all(&text).await.map_err(fail)?;
    let Some(line) = BufReader::new(socket).lines().next_line().await.map_err(fail)? else { return Ok(()) };
    let Report { code, message } = serde_json::from_str(&line).map_err(|e| fail(e.into()))?;
    let _ = child.wait().await;
    Err(StartError::Program { code, message })
}
