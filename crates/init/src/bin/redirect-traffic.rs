//! The command `redirect-traffic`, or `consul connect redirect-traffic`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect();
    init::redirect_traffic::main(arguments, |name| std::env::var(name).ok()).into()
}
