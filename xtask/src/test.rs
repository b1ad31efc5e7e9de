//! Unit, documentation and kernel tests.

use crate::run::{bin_dir, cargo, check, runner_variable};
use crate::{Stop, envoy, packages, report};

/// Test targets that make network namespaces: `test = false` in their crates, run here inside the sandbox.
pub(crate) const KERNEL: &[&str] = &["net", "kubelet", "lab"];
/// Test targets that make sandboxes themselves and look at them from outside.
pub(crate) const OUTSIDE: &[&str] = &["sandbox", "runner"];

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
    kernel.env(runner_variable()?, bin_dir().join("sandbox"));
    check(kernel.env("PELLUCID_ENVOY", &envoy).env("PELLUCID_BIN_DIR", bin_dir()))?;
    report::step("the sandbox and the feature runner, from outside");
    let mut outside = cargo();
    outside.args(["test", "--workspace", "--quiet"]);
    for name in OUTSIDE {
        outside.args(["--test", name]);
    }
    check(outside.env("PELLUCID_ENVOY", &envoy).env("PELLUCID_BIN_DIR", bin_dir()))
}
