//! Compiles the client whose names are resolved by musl, which the program carries. Without musl-gcc it carries nothing, and
//! says so when that client is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SOURCE: &str = "musl/client.c";
const COMPILER: &str = "musl-gcc";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=PATH");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("find OUT_DIR: Cargo sets it")?);
    let program = out.join("musl-client");
    if let Err(why) = compile(&program) {
        println!("cargo::warning=no client with musl's resolver: {why}; install musl-tools (cargo xtask setup does)");
        fs::write(&program, [])?;
        // a file that is not there has always changed: the next build tries again
        println!("cargo::rerun-if-changed={}", out.join("never").display());
    }
    Ok(())
}

fn compile(program: &Path) -> Result<(), String> {
    let flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-static", "-s", "-o"];
    let output = Command::new(COMPILER)
        .args(flags)
        .arg(program)
        .arg(SOURCE)
        .output()
        .map_err(|error| format!("run {COMPILER}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " / ");
    Err(format!("{COMPILER} refuses {SOURCE}: {said}"))
}
