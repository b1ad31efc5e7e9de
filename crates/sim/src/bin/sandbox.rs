//! Runs a command in the sandbox: `sandbox [--] command [argument…]`. Used as runner for tests that need a kernel of
//! their own, so that `cargo test` needs no root and cannot touch the machine.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use sim::sandbox;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    arguments.next_if(|first| first == "--");
    let Some(program) = arguments.next() else {
        return could_not_run("usage: sandbox [--] command [argument…]");
    };
    if let Err(error) = sandbox::enter() {
        return could_not_run(&format!("failed to {:#}", anyhow::Error::new(error)));
    }
    // Returns only when it fails.
    let error = Command::new(&program).args(arguments).exec();
    could_not_run(&format!("failed to execute {}: {error}", program.display()))
}

fn could_not_run(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sandbox: {why}");
    ExitCode::from(sandbox::COULD_NOT_RUN)
}
