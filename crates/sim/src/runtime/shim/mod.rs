//! The inside of the program `sim-container`: namespaces, root, identity, then the container's own program.
//!
//! It is single-threaded and has one purpose, so this is where mount, UTS and IPC namespaces are made and entered; it is
//! born in the container's process namespace. Standard input is a socket: the [`Order`] comes in, a [`Report`] of failure
//! goes out, and because the socket closes on exec, its end tells the parent that the program runs.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use super::spec::{Order, Report, Target};

mod identity;
mod join;
mod layers;
mod program;
mod root;
mod seccomp;

/// Why the shim gave up: an exit code as runc would choose it, and words.
#[derive(Debug)]
struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    /// The container could not be made; not the program's fault.
    fn setup(what: impl std::fmt::Display, cause: impl std::fmt::Display) -> Self {
        Self { code: 125, message: format!("{what}: {cause}") }
    }
}

/// Maps any error to a [`Failure`] that says what was tried.
trait During<T> {
    fn during(self, what: impl std::fmt::Display) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> During<T> for Result<T, E> {
    fn during(self, what: impl std::fmt::Display) -> Result<T, Failure> {
        self.map_err(|cause| Failure::setup(what, cause))
    }
}

/// The whole program. Returns only when the container's program could not be run.
#[must_use]
pub fn main() -> ExitCode {
    let mut parent = match parent() {
        Ok(parent) => parent,
        Err(failure) => {
            let _ = writeln!(
                std::io::stderr(),
                "sim-container is started by a kubelet of the simulator: {}",
                failure.message
            );
            return ExitCode::from(125);
        }
    };
    let failure = match run(&mut parent) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // For `exec`, whose standard error this is; a container's parent reads the report.
    let _ = writeln!(std::io::stderr(), "{}", failure.message);
    report(&mut parent, &Report { code: failure.code, message: failure.message });
    ExitCode::from(u8::try_from(failure.code).unwrap_or(125))
}

/// The socket on standard input, moved to a descriptor that closes on exec.
fn parent() -> Result<UnixStream, Failure> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().during("duplicate standard input")?;
    Ok(UnixStream::from(socket))
}

fn report(parent: &mut UnixStream, report: &Report) {
    // A parent that is gone wants no report.
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _ = parent.write_all(&line);
    }
}

fn run(parent: &mut UnixStream) -> Result<std::convert::Infallible, Failure> {
    let mut text = String::new();
    BufReader::new(&mut *parent).read_line(&mut text).during("read the order")?;
    let order: Order = serde_json::from_str(&text).during("understand the order")?;
    let stdin = order.process.stdin.as_deref().unwrap_or(Path::new("/dev/null"));
    let stdin = std::fs::File::open(stdin).during(format_args!("open {}", stdin.display()))?;
    nix::unistd::dup2_stdin(stdin).during("set standard input")?;
    nix::unistd::setsid().during("lead a session")?;
    match &order.target {
        Target::New(container) => {
            root::make_namespaces(container)?;
            root::assemble(container)?;
        }
        Target::Join { pid } => join::join(*pid)?,
    }
    program::run(&order.process)
}
