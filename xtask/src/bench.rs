//! Measurements: each a bench target of a crate, which prints ratios.

use crate::run::{bin_dir, cargo, check, is_root, runner_variable};
use crate::{Stop, packages, report};

/// A measurement: the bench target of this name, in the crate of this name.
const BENCHES: &[&str] = &["redirect", "webhook", "cni"];

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
    let mut runner = None;
    if !is_root() {
        report::step("building the sandbox");
        check(cargo().args(["build", "--package", "sim", "--bin", "sandbox", "--quiet"]))?;
        runner = Some((runner_variable()?, bin_dir().join("sandbox")));
    }
    for name in benches {
        report::step(&format!("measuring {name}"));
        let mut bench = cargo();
        bench.args(["bench", "--quiet", "--package", name, "--bench", name, "--"]).args(arguments);
        bench.envs(runner.clone());
        check(&mut bench)?;
    }
    Ok(())
}
