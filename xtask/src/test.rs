//! Unit, documentation and kernel tests.

use crate::run::{bin_dir, cargo, check};
use crate::{Stop, envoy, packages, report};

/// Test targets that make network namespaces: `test = false` in their crates, run here inside the sandbox.
const KERNEL: &[&str] = &["net", "kubelet", "lab"];
/// Test targets that make sandboxes themselves and look at them from outside.
const OUTSIDE: &[&str] = &["sandbox", "runner"];

/// Sets up and runs everything.
pub(crate) fn run() -> Result<(), Stop> {
    packages::install_for_tests()?;
    let envoy = envoy::locate()?;
    report::step("building");
    check(cargo().args(["build", "--workspace", "--bins", "--quiet"]))?;
    report::step("unit and documentation tests");
    check(cargo().args(["test", "--workspace", "--quiet"]).env("PELLUCID_ENVOY", &envoy))?;
    report::step("kernel tests, in the sandbox");
    let mut kernel = cargo();
    kernel.args(["test", "--workspace", "--quiet"]);
    for name in KERNEL {
        kernel.args(["--test", name]);
    }
    let runner = format!("CARGO_TARGET_{}_RUNNER", host_triple()?.to_uppercase().replace('-', "_"));
    kernel.env(runner, bin_dir().join("sandbox"));
    check(kernel.env("PELLUCID_ENVOY", &envoy).env("PELLUCID_BIN_DIR", bin_dir()))?;
    report::step("the sandbox and the feature runner, from outside");
    let mut outside = cargo();
    outside.args(["test", "--workspace", "--quiet"]);
    for name in OUTSIDE {
        outside.args(["--test", name]);
    }
    check(outside.env("PELLUCID_ENVOY", &envoy).env("PELLUCID_BIN_DIR", bin_dir()))
}

/// The triple that cargo builds for by default.
fn host_triple() -> Result<String, Stop> {
    let text = crate::run::output(crate::run::command("rustc").arg("-vV")).map_err(Stop::could_not_run)?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Stop::could_not_run("rustc -vV names no host"))
}
