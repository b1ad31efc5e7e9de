//! rustfmt, clippy with warnings denied, and what dependencies are allowed.

use crate::run::{cargo, check};
use crate::test::{KERNEL, OUTSIDE};
use crate::{Stop, deny, packages, report};

/// Runs all of them; the first that fails ends it.
pub(crate) fn run() -> Result<(), Stop> {
    packages::install()?;
    report::step("rustfmt");
    check(cargo().args(["fmt", "--all", "--check"]))?;
    report::step("clippy");
    check(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    // those that `cargo test` leaves alone, "all" leaves out
    let mut apart = cargo();
    apart.args(["clippy", "--workspace", "--quiet"]);
    for name in KERNEL.iter().chain(OUTSIDE) {
        apart.args(["--test", name]);
    }
    check(apart.args(["--", "--deny", "warnings"]))?;
    deny::run()
}
