//! The outermost stage: makes the namespaces, has the ids mapped, starts init, and ends as it ends.

use std::io::Write;
use std::process::Stdio;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::getpid;

use super::process::{again, attend, block_signals};
use super::{Error, refusal};

/// Returns the status of the program inside.
pub(super) fn run() -> Result<i32, Error> {
    let process = |what| move |source| Error::Process { what, source };
    let signals = block_signals()?;
    let own = getpid().as_raw();
    // Started before, because it writes the maps from the namespace that we leave.
    let mut mapper = again("map", own)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(process("start"))?;

    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if let Err(error) = nix::sched::unshare(flags) {
        drop(mapper.stdin.take());
        let _ = mapper.wait();
        return Err(Error::Namespaces { hint: refusal::namespaces(error), source: error.into() });
    }
    // Whoever started the sandbox takes it along. After `unshare`, which forgets the wish.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| process("tie the life of")(e.into()))?;
    if let Some(mut go) = mapper.stdin.take() {
        go.write_all(b"\n").map_err(process("start"))?;
    }
    let mapped = mapper.wait_with_output().map_err(process("wait for"))?;
    if !mapped.status.success() {
        return Err(Error::IdMap(String::from_utf8_lossy(&mapped.stderr).trim().to_owned()));
    }

    // The first child is pid 1 of the new namespace.
    let init = again("init", own).spawn().map_err(process("start"))?;
    let pid = i32::try_from(init.id()).map_err(|e| process("start")(std::io::Error::other(e)))?;
    attend(pid, &signals)
}
