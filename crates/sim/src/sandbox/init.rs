//! Pid 1 of the sandbox: mounts what must be fresh, starts the program, reaps, and ends as it ends.
//!
//! When pid 1 ends, the kernel kills every process of the namespace: nothing can stay.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use super::process::{again, attend, block_signals};
use super::{Error, WORK, refusal};
use crate::net::rtnl::{Batch, LOOPBACK};

/// Returns the status of the program inside.
pub(super) fn run(parent: i32) -> Result<i32, Error> {
    tie_to(parent)?;
    let signals = block_signals()?;
    mounts()?;
    let _ = nix::unistd::sethostname("pellucid");
    let mut batch = Batch::default();
    batch.up(LOOPBACK);
    batch.commit().map_err(|error| Error::Loopback(Box::new(error)))?;

    let process = |what| move |source| Error::Process { what, source };
    let program = again("inside", parent).spawn().map_err(process("start the program in"))?;
    let pid = i32::try_from(program.id()).map_err(|e| process("start the program in")(io::Error::other(e)))?;
    attend(pid, &signals)
}

/// Dies when the outer stage does. It may have died before the wish was made; the old `/proc`, which is still mounted and
/// counts processes as the outer stage does, says who the parent is now.
fn tie_to(parent: i32) -> Result<(), Error> {
    let process = |source| Error::Process { what: "tie the life of", source };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| process(error.into()))?;
    let status = fs::read_to_string("/proc/self/status").map_err(process)?;
    let now = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
    if now == Some(parent.to_string().as_str()) {
        Ok(())
    } else {
        Err(process(io::Error::other("the process that started it has ended")))
    }
}

fn mounts() -> Result<(), Error> {
    let fail = |what: &'static str| {
        move |error: nix::Error| Error::Mount { what, hint: refusal::mounts(), source: error.into() }
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(fail("/ privately"))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("proc"), "/proc", Some("proc"), quiet | MsFlags::MS_NOEXEC, none).map_err(fail("/proc"))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), quiet, Some("mode=0755")).map_err(fail("/run"))?;
    for directory in ["/run/netns", "/run/lock", WORK] {
        fs::create_dir(Path::new(directory))
            .map_err(|source| Error::Process { what: "make directories of", source })?;
    }
    mount(Some("tmpfs"), WORK, Some("tmpfs"), quiet, Some("mode=0755")).map_err(fail("the work area"))
}
