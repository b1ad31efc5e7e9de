//! A running container: its main process, its log, its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::watch;

use super::launch::{self, StartError};
use super::log::LogFile;
use super::pids::Pids;
use super::spec::{ContainerSpec, Order, ProcessSpec, Target};

/// How long the log of an ended container is waited for. Its pipes close with its last process, which has ended before the
/// main one is said to have; only a process that handed the pipe out of the container could hold it open.
const DRAIN: Duration = Duration::from_millis(500);

/// How a container's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 + n for signal n.
    pub code: i32,
    /// When.
    pub at: Timestamp,
}

/// A container that was started. Dropping it does not stop it; [`Container::stop`] and [`Container::kill`] do.
#[derive(Debug)]
pub struct Container {
    /// The main process, as the sandbox counts processes; the container counts it as 1.
    pub pid: u32,
    /// When its program began.
    pub started_at: Timestamp,
    /// What it says.
    pub log: Arc<LogFile>,
    pub(super) shim: PathBuf,
    pub(super) process: ProcessSpec,
    pub(super) pids: Pids,
    exit: watch::Receiver<Option<Exit>>,
}

impl Container {
    /// Makes the container and starts its program; returns when the program runs. The log at `log` is begun anew, the
    /// former one is kept at `previous`.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(
        shim: PathBuf,
        container: ContainerSpec,
        process: ProcessSpec,
        log: PathBuf,
        previous: PathBuf,
    ) -> Result<Self, StartError> {
        let file = LogFile::create(&log, &previous).map_err(|source| StartError::Log { path: log, source })?;
        let order = Order { target: Target::New(container), process };
        let log = Arc::new(file);
        let started = launch::first(&shim, &order).await;
        if let Err(StartError::Program { message, .. }) = &started {
            // There a person looks first.
            log.copy(message.as_bytes(), "stderr").await;
        }
        let (mut child, pids) = started?;
        let pid = child.id().unwrap_or_default();
        let (sender, exit) = watch::channel(None);
        let copies = copy_output(&mut child, &log);
        let copied = Arc::clone(&log);
        tokio::spawn(async move {
            let code = child.wait().await.map_or(255, exit_code);
            let at = Timestamp::now();
            let _ = tokio::time::timeout(DRAIN, copies).await;
            copied.close();
            sender.send_replace(Some(Exit { code, at }));
        });
        let Order { process, .. } = order;
        Ok(Self { pid, started_at: Timestamp::now(), log, shim, process, pids, exit })
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Exit {
        match self.exit.clone().wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The task that waits was dropped with its runtime.
            _ => Exit { code: 137, at: Timestamp::now() },
        }
    }

    /// Whether the main process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Sends a signal to the main process, which gets, but for SIGKILL and SIGSTOP, only those that it handles.
    pub fn signal(&self, signal: Signal) {
        if self.is_running() {
            // Gone in between is as good.
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), signal);
        }
    }

    /// SIGTERM, `grace` to end, SIGKILL to whatever is left.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.signal(Signal::SIGTERM);
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(exit) => exit,
            Err(_) => self.kill().await,
        }
    }

    /// SIGKILL to the main process, and so to every process of the container.
    pub async fn kill(&self) -> Exit {
        self.signal(Signal::SIGKILL);
        self.wait().await
    }
}

fn copy_output(child: &mut Child, log: &Arc<LogFile>) -> impl Future<Output = ()> + Send + use<> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (out_log, err_log) = (Arc::clone(log), Arc::clone(log));
    let out = tokio::spawn(async move {
        if let Some(stdout) = stdout {
            out_log.copy(stdout, "stdout").await;
        }
    });
    let err = tokio::spawn(async move {
        if let Some(stderr) = stderr {
            err_log.copy(stderr, "stderr").await;
        }
    });
    async move {
        let _ = tokio::join!(out, err);
    }
}

/// As a shell and the CRI say it.
pub(super) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}
