//! Running a further command in a container.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use futures::FutureExt;
use tokio::net::unix::pipe;

use super::container::{Container, exit_code};
use super::launch::{StartError, launch};
use super::spec::{Order, Target};
use crate::{AgentError, ExecSession};

impl Container {
    /// Runs `command` with the container's environment, user and capabilities. A command that cannot be run is no error
    /// of ours: as with runc, its words are on standard error and the exit code is 126 or 127.
    ///
    /// # Errors
    /// When the container does not run, or the shim does not start.
    pub async fn exec(&self, command: &[String], stdin: bool) -> Result<ExecSession, AgentError> {
        if !self.is_running() {
            return Err(AgentError::NotRunning(
                self.log.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            ));
        }
        let mut process = self.process.clone();
        process.args = command.to_vec();
        // The shim opens our end anew: its own standard input is busy. Both ends are ours until then.
        let pipe = if stdin { Some(pipe::pipe()?) } else { None };
        process.stdin = pipe
            .as_ref()
            .map(|(_, read)| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), read.as_raw_fd())));
        let order = Order { target: Target::Join { pid: self.pid }, process };
        let started = launch(&self.shim, &order).await;
        let stdin = pipe.map(|(write, _)| Box::new(write) as Box<_>);
        match started {
            Ok(mut started) => {
                let (Some(stdout), Some(stderr)) = (started.child.stdout.take(), started.child.stderr.take()) else {
                    return Err(std::io::Error::other("the shim's output was taken").into());
                };
                let exit = async move { started.child.wait().await.map_or(255, exit_code) }.boxed();
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
            Err(error) => Err(std::io::Error::other(error).into()),
        }
    }
}
