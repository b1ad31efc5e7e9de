//! The init container's program: `connect-init`, or `consul-k8s-control-plane connect-init`.

use std::process::ExitCode;

use anyhow::Context as _;
use init::termination::Termination;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    let done = Termination::at_sigterm()
        .context("watch for SIGTERM")
        .and_then(|termination| init::main(arguments, |name| std::env::var(name).ok(), &termination));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect-init: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}
