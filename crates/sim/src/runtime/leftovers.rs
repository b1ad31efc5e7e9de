//! Processes of a container that outlive its main one.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills every process of the container with this mount namespace, until none is left: what the end of process 1 does in
/// a process namespace. Takes the open namespace, not its number, which the kernel gives to the next one at once. Blocks.
pub(super) fn kill_all(mount_namespace: &File) {
    let Ok(own) = mount_namespace.metadata().map(|meta| meta.ino()) else { return };
    // A process that forks faster than we read /proc needs a second look; one that forks forever has lost by then.
    for _ in 0..20 {
        let found = processes(own);
        if found.is_empty() {
            return;
        }
        for pid in found {
            // Gone in between is as good.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn processes(mount_namespace: u64) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Not those that have ended and are not reaped: they have no namespaces any more.
        std::fs::metadata(format!("/proc/{pid}/ns/mnt")).is_ok_and(|meta| meta.ino() == mount_namespace)
    })
    .map(Pid::from_raw)
    .collect()
}
