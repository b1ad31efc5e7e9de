//! The init container's program: `connect-init`, or `consul-k8s-control-plane connect-init`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    match init::main(arguments, |name| std::env::var(name).ok()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect-init: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}
