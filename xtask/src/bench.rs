//! Measurements: each a bench target or two, which print ratios.

use crate::run::{bin_dir, cargo, check, is_root, runner_variable, target_dir};
use crate::{Stop, e2e, envoy, packages, report};

/// A measurement: bench targets, each with its crate.
const BENCHES: &[(&str, &[(&str, &str)])] = &[
    ("redirect", &[("redirect", "redirect")]),
    ("webhook", &[("webhook", "webhook")]),
    ("cni", &[("cni", "cni")]),
    ("mesh", &[("mesh", "mesh"), ("bdd", "clusters")]),
];
/// Those that change more than a network namespace of their own, and so need the sandbox even as root; and Envoy.
const IN_SANDBOX: &[&str] = &["mesh"];
/// Those that start whole labs. They enter the sandbox themselves.
const LABS: &[&str] = &["clusters"];

/// Runs the one that is named, with the arguments behind its name; or all of them.
pub(crate) fn run(arguments: &[String]) -> Result<(), Stop> {
    let named = arguments.first().filter(|word| !word.starts_with('-'));
    let (benches, arguments) = match named {
        None => (BENCHES, arguments),
        Some(name) => {
            let found = BENCHES.iter().position(|(bench, _)| bench == name);
            let at = found.ok_or_else(|| {
                let names: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
                Stop::could_not_run(format!("unknown measurement {name:?}; there are: {}", names.join(", ")))
            })?;
            (&BENCHES[at..=at], &arguments[1..])
        }
    };
    packages::install_for_tests()?;
    let targets: Vec<_> = benches.iter().flat_map(|(_, targets)| *targets).collect();
    let in_sandbox = |target: &str| !LABS.contains(&target) && (!is_root() || IN_SANDBOX.contains(&target));
    if targets.iter().any(|(_, target)| in_sandbox(target)) {
        report::step("building the sandbox");
        check(cargo().args(["build", "--package", "sim", "--bin", "sandbox", "--quiet"]))?;
    }
    for (package, target) in targets {
        let mut bench = cargo();
        if LABS.contains(target) {
            report::step("building what labs run");
            check(e2e::build().arg("--release"))?;
            bench.env("PELLUCID_BIN_DIR", target_dir().join("release"));
        }
        report::step(&format!("measuring {target}"));
        bench.args(["bench", "--quiet", "--package", package, "--bench", target, "--"]).args(arguments);
        if in_sandbox(target) {
            bench.env(runner_variable()?, bin_dir().join("sandbox"));
        }
        if IN_SANDBOX.contains(target) || LABS.contains(target) {
            bench.env("PELLUCID_ENVOY", envoy::locate()?);
        }
        check(&mut bench)?;
    }
    Ok(())
}
