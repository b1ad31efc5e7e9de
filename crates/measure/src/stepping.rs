//! A program that is stopped at every system call, to be killed at one of them.

use std::io::{self, Write};
use std::process::Child;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Arguments of `sh`, before the program and its own: the shell becomes the program once [`kill_at`] says so. Whatever the program
/// starts has descriptor 9 open, and so the shell's standard output.
pub const SHELL: [&str; 3] = ["-c", "read -r go && exec \"$@\" 9>&1", "sh"];

/// Lets the program begin, which is a shell with [`SHELL`] and piped standard input, and kills it at its n-th stop, counted from
/// its first instruction: the entry to a system call or the exit from one. Says whether it came that far; it has ended then.
///
/// # Errors
/// It cannot be traced.
pub fn kill_at(child: &mut Child, stop: usize) -> io::Result<bool> {
    let pid = Pid::from_raw(child.id().try_into().map_err(io::Error::other)?);
    ptrace::seize(pid, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC)?;
    child.stdin.take().ok_or_else(|| io::Error::other("standard input must be a pipe"))?.write_all(b"go\n")?;
    let (mut runs, mut stops, mut is_killed) = (false, 0, false);
    loop {
        let signal = match waitpid(pid, None)? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(is_killed),
            WaitStatus::PtraceEvent(..) => {
                runs = true;
                None
            }
            WaitStatus::PtraceSyscall(_) => {
                stops += usize::from(runs);
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            other => return Err(io::Error::other(format!("{other:?}"))),
        };
        if runs && stops == stop {
            kill(pid, Signal::SIGKILL)?;
            is_killed = true;
        } else if runs {
            ptrace::syscall(pid, signal)?;
        } else {
            ptrace::cont(pid, signal)?;
        }
    }
}
