//! What the machine must have for a run to take place at all.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::suite::Settings;

/// Programs of the machine that labs use.
const TOOLS: &[(&str, &str)] = &[("iptables-nft-save", "iptables"), ("iptables-nft-restore", "iptables")];
/// Programs of the workspace.
const PROGRAMS: &[&str] = &["webhook", "connect-init", "consul-dataplane", "consul-cni", "workload", "sim-container"];
/// What the sandbox gives its root user, by number and name.
const CAPABILITIES: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Finds Envoy: where it was said to be, or on PATH.
///
/// # Errors
/// When there is none.
pub fn envoy(said: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = said {
        if path.is_file() {
            return Ok(std::path::absolute(path)?);
        }
        bail!(
            "find Envoy: {} is no file (--envoy or PELLUCID_ENVOY says so); `cargo xtask e2e` fetches the pinned one",
            path.display()
        );
    }
    match on_path("envoy") {
        Some(path) => Ok(path),
        None => bail!(
            "find Envoy: there is none on PATH; run `cargo xtask e2e`, which fetches the pinned one, or say where it is by \
             --envoy or PELLUCID_ENVOY"
        ),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|d| d.join(program)).find(|p| p.is_file())
}

/// Names everything that is missing, and what to do about it.
///
/// # Errors
/// When something is.
pub fn require(settings: &Settings) -> Result<()> {
    let mut missing = Vec::new();
    for (tool, package) in TOOLS {
        if on_path(tool).is_none() {
            missing.push(format!("the program {tool}: install the package {package}"));
        }
    }
    for program in PROGRAMS {
        let path = settings.bin_dir.join(program);
        if !path.is_file() {
            missing.push(format!("{}: build it with `cargo xtask e2e`", path.display()));
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or_default();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap_or_default();
    for (bit, name) in CAPABILITIES {
        if effective >> bit & 1 == 0 {
            missing.push(format!("the capability {name}: run as root, or allow user namespaces to this user"));
        }
    }
    if missing.is_empty() { Ok(()) } else { bail!("find what a lab needs:\n  {}", missing.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_envoy_says_how_to_get_one() {
        let error = envoy(Some(Path::new("/nowhere/envoy"))).expect_err("there is none").to_string();
        assert!(
            error.contains("/nowhere/envoy") && error.contains("PELLUCID_ENVOY") && error.contains("cargo xtask e2e")
        );
    }

    #[test]
    fn missing_programs_are_all_named() {
        let settings = Settings {
            out: PathBuf::new(),
            bin_dir: "/nowhere".into(),
            envoy: PathBuf::new(),
            keep: false,
            outer_pid: 0,
            saboteur: None,
        };
        let error = require(&settings).expect_err("nothing is there").to_string();
        assert!(PROGRAMS.iter().all(|p| error.contains(p)), "{error}");
    }
}
