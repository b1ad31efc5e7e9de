//! Running a further command in a container.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::oneshot;

use super::container::{Container, exit_code};
use super::launch::{self, StartError};
use super::spec::{Order, Target};
use crate::{AgentError, ExecSession};

impl Container {
    /// Runs `command` with the container's environment, user and capabilities. A command that cannot be run is no error
    /// of ours: as with runc, its words are on standard error and the exit code is 126 or 127.
    ///
    /// # Errors
    /// When the container does not run, or the shim does not start.
    pub async fn exec(&self, command: &[String], stdin: bool) -> Result<ExecSession, AgentError> {
        let not_running = || {
            let name = self.log.path().file_stem().unwrap_or_default();
            AgentError::NotRunning(name.to_string_lossy().into_owned())
        };
        if !self.is_running() {
            return Err(not_running());
        }
        let mut process = self.process.clone();
        process.args = command.to_vec();
        // The shim opens our end anew: its own standard input is busy. Both ends are ours until then.
        let pipe = if stdin { Some(pipe::pipe()?) } else { None };
        process.stdin = pipe
            .as_ref()
            .map(|(_, read)| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), read.as_raw_fd())));
        let order = Order { target: Target::Join { pid: self.pid }, process };
        let started = launch::further(&self.shim, &order, &self.pids).await;
        let stdin = pipe.map(|(write, _)| Box::new(write) as Box<_>);
        match started {
            Ok(mut child) => {
                let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
                    return Err(std::io::Error::other("the shim's output was taken").into());
                };
                let exit = attend(child);
                Ok(ExecSession { stdin, stdout: Box::new(stdout), stderr: Box::new(stderr), exit })
            }
            Err(StartError::Program { code, message }) => {
                let text = format!(
                    "OCI runtime exec failed: exec failed: unable to start container process: {message}: unknown\n"
                );
                Ok(ExecSession {
                    stdin,
                    stdout: Box::new(tokio::io::empty()),
                    stderr: Box::new(std::io::Cursor::new(text.into_bytes())),
                    exit: futures::future::ready(code).boxed(),
                })
            }
            Err(StartError::Ended) => Err(not_running()),
            Err(error) => Err(std::io::Error::other(error).into()),
        }
    }
}

/// The exit code of a command, which ends when nobody wants to know it any more.
///
/// The command is waited for whether or not anybody asks: the kernel does not let a container's main process end before
/// the last one of its namespace has been.
fn attend(mut child: Child) -> BoxFuture<'static, i32> {
    let (mut sender, code) = oneshot::channel();
    tokio::spawn(async move {
        let status = tokio::select! {
            status = child.wait() => status,
            () = sender.closed() => {
                // It may have ended by itself.
                let _ = child.kill().await;
                return;
            }
        };
        let _ = sender.send(status.map_or(255, exit_code));
    });
    async move { code.await.unwrap_or(255) }.boxed()
}
