//! Stages as processes: which one this is, starting the next, waiting for it while passing signals on.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::{Error, STAGE};

/// `si_code` of a signal from the kernel: a key on the terminal, which reaches every stage by itself.
const SI_KERNEL: i32 = 0x80;

/// Which part of the sandbox this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Outer,
    Map { target: i32 },
    Init { parent: i32 },
    Inside { outer: i32 },
}

/// Looks at the environment, and does not believe it where it was merely inherited.
pub(super) fn stage() -> Stage {
    let value = std::env::var(STAGE).unwrap_or_default();
    parse(&value, getpid().as_raw(), getppid().as_raw())
}

fn parse(value: &str, own: i32, parent: i32) -> Stage {
    match value.split_once(':') {
        Some(("map", target)) => match target.parse() {
            Ok(target) if target == parent => Stage::Map { target },
            _ => Stage::Outer,
        },
        // The first process of a pid namespace, and the first one that it starts.
        Some(("init", parent)) if own == 1 => parent.parse().map_or(Stage::Outer, |parent| Stage::Init { parent }),
        Some(("inside", outer)) if own == 2 && parent == 1 => {
            outer.parse().map_or(Stage::Outer, |outer| Stage::Inside { outer })
        }
        _ => Stage::Outer,
    }
}

/// This program again, as another stage.
pub(super) fn again(stage: &str, number: i32) -> Command {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("pellucid"));
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(arguments).env(STAGE, format!("{stage}:{number}"));
    command
}

/// How many threads this process has.
pub(super) fn threads() -> Result<usize, Error> {
    let tasks = std::fs::read_dir("/proc/self/task");
    Ok(tasks.map_err(|source| Error::Process { what: "look at the threads of", source })?.count())
}

fn handled() -> SigSet {
    SigSet::from_iter([Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT])
}

/// From here on signals wait until [`attend`] takes them.
pub(super) fn block_signals() -> Result<SignalFd, Error> {
    let fail = |source: nix::Error| Error::Process { what: "watch signals of", source: source.into() };
    handled().thread_block().map_err(fail)?;
    SignalFd::new(&handled()).map_err(fail)
}

/// Undoes what was inherited from the stages before.
pub(super) fn unblock_signals() -> Result<(), Error> {
    handled().thread_unblock().map_err(|source| Error::Process { what: "receive signals in", source: source.into() })
}

/// Waits for `child` to end, reaping every other child and passing signals on, and returns its status as a shell does:
/// 128 + n for signal n.
pub(super) fn attend(child: i32, signals: &SignalFd) -> Result<i32, Error> {
    let child = Pid::from_raw(child);
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(128 + signal as i32),
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(Error::Process { what: "wait for", source: error.into() }),
            }
        }
        match signals.read_signal() {
            Ok(Some(info)) => {
                let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
                if let Some(signal) = signal.filter(|signal| *signal != Signal::SIGCHLD)
                    && info.ssi_code != SI_KERNEL
                {
                    // Only a child that has ended cannot be told, and that is seen next.
                    let _ = kill(child, signal);
                }
            }
            Ok(None) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(Error::Process { what: "watch signals of", source: io::Error::from(error) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::started("", 70, 60, Stage::Outer)]
    #[case::map("map:60", 70, 60, Stage::Map { target: 60 })]
    #[case::init("init:60", 1, 0, Stage::Init { parent: 60 })]
    #[case::inside("inside:60", 2, 1, Stage::Inside { outer: 60 })]
    #[case::child_of_inside("inside:1", 3, 2, Stage::Outer)]
    #[case::orphan_of_inside("inside:1", 3, 1, Stage::Outer)]
    #[case::inherited_map("map:60", 80, 70, Stage::Outer)]
    #[case::nonsense("yes", 70, 60, Stage::Outer)]
    fn which_stage(#[case] value: &str, #[case] own: i32, #[case] parent: i32, #[case] stage: Stage) {
        assert_eq!(parse(value, own, parent), stage);
    }
}
