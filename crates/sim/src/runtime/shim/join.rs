//! Into the namespaces of a running container, for `exec`.

use std::fs::File;

use nix::sched::CloneFlags;

use super::{During, Failure};

/// Enters the network, UTS, IPC and mount namespaces of process `pid`; the root and working directory become the
/// container's. All are opened before any is entered: the container's `/proc` is its own. The number cannot have gone to
/// another process: the shim was born in the process namespace of this one, whose number is in use until all there ended.
pub(super) fn join(pid: u32) -> Result<(), Failure> {
    let gone = || format!("enter the container of process {pid} (has it ended?)");
    let open = |name: &str| File::open(format!("/proc/{pid}/ns/{name}")).during(gone());
    let network = netns::NetNs::of_process(pid).during(gone())?;
    let others = [
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (open("ipc")?, CloneFlags::CLONE_NEWIPC),
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    network.enter().during(gone())?;
    for (file, kind) in others {
        nix::sched::setns(file, kind).during(gone())?;
    }
    Ok(())
}
