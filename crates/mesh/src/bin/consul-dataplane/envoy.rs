//! The Envoy process: found, started, stopped, and its end passed on.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::settings::Settings;

/// Where the image has it.
const USUAL: &str = "/usr/local/bin/envoy";
/// How long Envoy may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running Envoy; it is killed when the value is dropped.
pub(crate) struct Envoy {
    child: Child,
}

impl Envoy {
    /// Starts Envoy with a bootstrap file.
    pub(crate) fn start(settings: &Settings, bootstrap: &Path) -> anyhow::Result<Self> {
        let program = find(settings.envoy.as_deref(), std::env::var_os("PATH").unwrap_or_default().as_os_str())?;
        let level = match settings.log_level.as_str() {
            "trace" => "trace",
            "debug" => "debug",
            _ => "warning",
        };
        let child = Command::new(&program)
            .arg("--config-path")
            .arg(bootstrap)
            .args(["--log-level", level, "--disable-hot-restart"])
            .args(["--concurrency", &settings.concurrency.to_string()])
            .args(["--drain-time-s", &settings.drain_seconds.to_string()])
            .args(["--drain-strategy", &settings.drain_strategy])
            .args(&settings.envoy_arguments)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        Ok(Self { child })
    }

    /// Returns when Envoy ends.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.context("failed to wait for envoy")
    }

    /// Asks Envoy to end, and makes it end if it does not.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else { return Ok(()) };
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("failed to signal envoy")?;
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            tracing::warn!("envoy does not end; killing it");
            self.child.kill().await.context("failed to kill envoy")?;
        }
        Ok(())
    }
}

/// The status to end with when Envoy ended with `status`.
pub(crate) fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    // an Envoy that ends by itself is a failure, whatever it says
    u8::try_from(code).ok().filter(|c| *c != 0).unwrap_or(1)
}

/// The file named, or else the first `envoy` on the path, or else the usual place.
fn find(named: Option<&Path>, path: &std::ffi::OsStr) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        if named.is_file() {
            return Ok(named.to_owned());
        }
        bail!("failed to find envoy: PELLUCID_ENVOY is {}, which is no file", named.display());
    }
    let on_path = std::env::split_paths(path).map(|directory| directory.join("envoy"));
    match on_path.chain([PathBuf::from(USUAL)]).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("failed to find envoy: it is neither on PATH nor at {USUAL}; put it there or set PELLUCID_ENVOY"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_envoy_is_named() {
        let error = find(Some(Path::new("/nowhere/envoy")), "".as_ref()).expect_err("no such file");
        assert_eq!(error.to_string(), "failed to find envoy: PELLUCID_ENVOY is /nowhere/envoy, which is no file");
    }
}
