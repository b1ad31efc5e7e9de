//! The init container's program: `connect-init`, or `consul-k8s-control-plane connect-init`.

use std::process::ExitCode;

use anyhow::Context as _;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    let done = init::termination::end_at_sigterm()
        .context("watch for SIGTERM")
        .and_then(|()| init::main(arguments, |name| std::env::var(name).ok()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect-init: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}
