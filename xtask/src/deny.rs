//! cargo-deny: licences, bans and sources of dependencies. Advisories need the network and are a job of the workflow.

use crate::run::{cargo, check, find_program, output, target_dir};
use crate::{Stop, report};

/// Built here when the machine has none of this version.
const VERSION: &str = "0.20.2";

/// Installs cargo-deny if missing and runs its offline checks.
pub(crate) fn run() -> Result<(), Stop> {
    let tools = target_dir().join("tools");
    let built = tools.join("bin/cargo-deny");
    let program = match find_program("cargo-deny") {
        Some(found) if runs(&found) => found,
        _ if runs(&built) => built,
        _ => {
            report::step("building cargo-deny (once)");
            let mut install = cargo();
            install.args(["install", "--locked", "--quiet", "--version", VERSION, "--root"]).arg(&tools);
            // A profile that compiles quickly: it runs for a second.
            install.args(["--debug", "cargo-deny"]);
            check(&mut install)?;
            built
        }
    };
    report::step("cargo-deny");
    check(crate::run::command(program).args(["--log-level", "warn", "check", "licenses", "bans", "sources"]))
}

fn runs(program: &std::path::Path) -> bool {
    output(crate::run::command(program).arg("--version")).is_ok()
}
