//! One transaction of `iptables-restore` in the namespace of the calling thread.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Programs that install rules, the quicker first: a transaction of the legacy one takes 3 ms, of the other 28 ms (it waits
/// for the kernel). Distributions' newest kernels have only the second.
const PROGRAMS: [[&str; 2]; 2] =
    [["iptables-legacy-restore", "ip6tables-legacy-restore"], ["iptables-restore", "ip6tables-restore"]];

/// Installs rules; chains that the script does not name stay. Which program works is found out once per process.
pub(super) fn restore(v4: bool, script: &str) -> io::Result<()> {
    static USABLE: OnceLock<usize> = OnceLock::new();
    let family = usize::from(!v4);
    if let Some(program) = USABLE.get() {
        return transaction(PROGRAMS[*program][family], script);
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (number, program) in PROGRAMS.iter().enumerate() {
        match transaction(program[family], script) {
            Ok(()) => {
                let _ = USABLE.set(number);
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn transaction(program: &str, script: &str) -> io::Result<()> {
    let mut child = Command::new(program)
        .args(["--noflush", "--wait", "5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("run {program}: {error} (check: package iptables)")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why on its standard error.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}: {} in:\n{script}", output.status, said.trim())))
}
