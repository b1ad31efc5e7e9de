//! Sets up, builds and becomes the feature runner.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::run::{bin_dir, cargo, check, command, target_dir};
use crate::{Stop, envoy, packages, report};

/// The runner's crate.
const RUNNER: &str = "bdd";
/// Crates whose programs labs start.
const CRATES: &[&str] = &["sim", "mesh", "webhook", "init", "cni", "workload"];

/// Runs the features; `arguments` go to the runner as they are.
pub(crate) fn run(arguments: Vec<String>) -> Result<(), Stop> {
    packages::install()?;
    let envoy = envoy::locate()?;
    report::step("building");
    check(build().args(["--package", RUNNER]))?;
    let mut runner = command(bin_dir().join("pellucid-e2e"));
    runner.arg("--bin-dir").arg(bin_dir()).arg("--envoy").arg(envoy);
    if !arguments.iter().any(|word| word == "--out" || word.starts_with("--out=")) {
        runner.arg("--out").arg(target_dir().join("e2e").join(run_id()));
    }
    // Paths of features are the caller's; without any, the runner takes the repository's, from the root.
    if let (true, Ok(here)) = (names_a_feature(&arguments), std::env::current_dir()) {
        runner.current_dir(here);
    }
    // Becomes the runner, so that whoever kills this process kills the runner and with it the whole lab.
    Err(Stop::could_not_run(format!("start the runner: {}", runner.args(arguments).exec())))
}

/// Builds everything that labs run.
pub(crate) fn build() -> Command {
    let mut build = cargo();
    build.args(["build", "--bins", "--quiet"]);
    for name in CRATES {
        build.args(["--package", name]);
    }
    build
}

/// Whether the caller asks for features of their own.
fn names_a_feature(arguments: &[String]) -> bool {
    arguments.iter().any(|word| word.ends_with(".feature") || std::path::Path::new(word).is_dir())
}

/// Unique among runs on one machine: seconds since the epoch and our process id.
fn run_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", now.as_secs(), std::process::id())
}
