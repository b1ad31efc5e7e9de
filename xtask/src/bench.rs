//! Measurements: each a bench target of a crate, which prints ratios.

use crate::run::{bin_dir, cargo, check, is_root, runner_variable};
use crate::{Stop, envoy, packages, report};

/// A measurement: the bench target of this name, in the crate of this name.
const BENCHES: &[&str] = &["redirect", "webhook", "cni", "mesh"];
/// Those that change more than a network namespace of their own, and so need the sandbox even as root; and Envoy.
const IN_SANDBOX: &[&str] = &["mesh"];

/// Runs the one that is named, with the arguments behind its name; or all of them.
pub(crate) fn run(arguments: &[String]) -> Result<(), Stop> {
    let named = arguments.first().filter(|word| !word.starts_with('-'));
    let (benches, arguments) = match named {
        None => (BENCHES, arguments),
        Some(name) => {
            let found = BENCHES.iter().position(|bench| bench == name);
            let at = found.ok_or_else(|| {
                Stop::could_not_run(format!("unknown measurement {name:?}; there are: {}", BENCHES.join(", ")))
            })?;
            (&BENCHES[at..=at], &arguments[1..])
        }
    };
    packages::install_for_tests()?;
    let in_sandbox = |name: &&str| !is_root() || IN_SANDBOX.contains(name);
    if benches.iter().any(in_sandbox) {
        report::step("building the sandbox");
        check(cargo().args(["build", "--package", "sim", "--bin", "sandbox", "--quiet"]))?;
    }
    for name in benches {
        report::step(&format!("measuring {name}"));
        let mut bench = cargo();
        bench.args(["bench", "--quiet", "--package", name, "--bench", name, "--"]).args(arguments);
        if in_sandbox(name) {
            bench.env(runner_variable()?, bin_dir().join("sandbox"));
        }
        if IN_SANDBOX.contains(name) {
            bench.env("PELLUCID_ENVOY", envoy::locate()?);
        }
        check(&mut bench)?;
    }
    Ok(())
}
