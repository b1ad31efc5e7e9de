//! The program that runtimes start: environment and standard input in, one JSON document out.

use std::io::{Read, Write};
use std::process::ExitCode;

use cni::plugin::{self, Outcome};

/// No configuration comes near this; what is longer is cut off, and is no JSON then.
const LONGEST: u64 = 16 * 1024 * 1024;

fn main() -> ExitCode {
    let mut stdin = Vec::new();
    // what cannot be read is as good as empty, and the message says so
    let _ = std::io::stdin().lock().take(LONGEST).read_to_end(&mut stdin);
    let Outcome { stdout, failed } = plugin::run(|name| std::env::var(name).ok(), &stdin);
    let written = std::io::stdout().lock().write_all(stdout.as_bytes());
    if failed || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
