//! Processes of a Pod, found by its network namespace, and what is done to its proxy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinHandle;

const SIDECAR: &str = "consul-dataplane";
const ENVOY: &str = "envoy";

/// Process ids in a namespace whose program has this name.
fn of(netns: &NetNs, program: &str) -> Vec<Pid> {
    let namespace = format!("net:[{}]", netns.inode());
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid: i32 = path.file_name()?.to_str()?.parse().ok()?;
            let inside = std::fs::read_link(path.join("ns/net")).ok()? == Path::new(&namespace);
            let command = std::fs::read(path.join("cmdline")).ok()?;
            let first = String::from_utf8_lossy(command.split(|b| *b == 0).next()?).into_owned();
            let name = Path::new(&first).file_name()?.to_str()?.to_owned();
            (inside && name == program).then(|| Pid::from_raw(pid))
        })
        .collect()
}

fn signal(netns: &NetNs, program: &str, signal: Signal) -> Result<usize> {
    let found = of(netns, program);
    for pid in &found {
        match kill(*pid, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(error) => bail!("send {signal} to {program} (pid {pid}): {error}"),
        }
    }
    Ok(found.len())
}

/// Proxies that are to stay down although the kubelet starts them again.
#[derive(Default)]
pub(super) struct Stopped(Mutex<HashMap<u64, JoinHandle<()>>>);

/// How long a proxy that was started again may live: not long enough for Envoy to listen.
const TURN: Duration = Duration::from_millis(5);

impl Stopped {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a proxy and every one that follows it.
    pub(super) fn stop(&self, netns: NetNs) -> Result<()> {
        kill_proxy(&netns)?;
        let inode = netns.inode();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TURN).await;
                // there is none to end for as long as the kubelet backs off
                let _ = kill_proxy(&netns);
            }
        });
        if let Some(earlier) = self.lock().insert(inode, task) {
            earlier.abort();
        }
        Ok(())
    }

    /// Lets the kubelet have its way again.
    pub(super) fn start(&self, netns: &NetNs) -> Result<()> {
        match self.lock().remove(&netns.inode()) {
            Some(task) => task.abort(),
            None => bail!("start the proxy: it was not stopped"),
        }
        Ok(())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.lock().drain().for_each(|(_, task)| task.abort());
    }
}

/// Ends both without warning; the kubelet starts them again.
pub(super) fn kill_proxy(netns: &NetNs) -> Result<()> {
    let ended = signal(netns, ENVOY, Signal::SIGKILL)? + signal(netns, SIDECAR, Signal::SIGKILL)?;
    if ended == 0 {
        bail!("kill the proxy: none runs");
    }
    Ok(())
}
