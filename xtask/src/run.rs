//! Commands that xtask runs, from the root of the repository, with one way to fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Stop;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the root")
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where the programs of the development profile lie.
pub(crate) fn bin_dir() -> PathBuf {
    target_dir().join("debug")
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command that starts at the root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs it in sight of the user. A program that is missing could not run; one that fails has failed.
pub(crate) fn check(command: &mut Command) -> Result<(), Stop> {
    let status =
        command.status().map_err(|e| Stop::could_not_run(format!("start {}: {e}", command.get_program().display())))?;
    if status.success() { Ok(()) } else { Err(Stop::failed(format!("{} ended with {status}", shown(command)))) }
}

/// Runs it unseen and returns its standard output, or its standard error as the failure.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let done =
        command.stdin(Stdio::null()).output().map_err(|e| format!("start {}: {e}", command.get_program().display()))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
    }
}

/// The variable by which cargo is told what to run tests and benches in.
pub(crate) fn runner_variable() -> Result<String, Stop> {
    let text = output(command("rustc").arg("-vV")).map_err(Stop::could_not_run)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let triple = host.ok_or_else(|| Stop::could_not_run("rustc -vV names no host"))?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace('-', "_")))
}

/// Finds a program as a shell would, and in the system directories that a plain user's PATH lacks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
