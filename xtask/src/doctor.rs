//! What this machine can and cannot do for a run, and what to do about each.

use std::fs;
use std::path::Path;

use crate::run::{bin_dir, cargo, command, find_program, is_root, output};
use crate::{Stop, report};

/// What a check found.
enum Finding {
    /// Works; the text says what was seen.
    Good(String),
    /// A part of the features cannot run here; the text says which and what helps.
    Limited(String),
    /// Nothing can run before this is mended; the text says how.
    Missing(String),
}
use Finding::{Good, Limited, Missing};

/// Prints every check; fails when one of them stops everything.
pub(crate) fn run() -> Result<(), Stop> {
    let checks: [(&str, Finding); 12] = [
        ("kernel", kernel()),
        ("user namespaces", user_namespaces()),
        ("subordinate ids", subordinate_ids()),
        ("C compiler", program("cc", "gcc")),
        ("musl (a client in Pods)", program("musl-gcc", "musl-tools")),
        ("libpcap headers", header("/usr/include/pcap/pcap.h", "libpcap-dev")),
        ("iptables", program("iptables-restore", "iptables")),
        ("python3 (fetches Envoy)", program("python3", "python3")),
        ("curl (a client in Pods)", program("curl", "curl")),
        ("Envoy", envoy()),
        ("sandbox", sandbox()),
        ("kind bed", kind()),
    ];
    let mut stopped = 0;
    for (name, finding) in &checks {
        let (mark, text) = match finding {
            Good(text) => ("ok     ", text),
            Limited(text) => ("limited", text),
            Missing(text) => ("MISSING", text),
        };
        stopped += usize::from(matches!(finding, Missing(_)));
        report::line(&format!("{mark}  {name}: {text}"));
    }
    for (name, finding) in in_sandbox() {
        let (mark, text) = match finding {
            Good(text) => ("ok     ", text),
            Limited(text) | Missing(text) => ("limited", text),
        };
        report::line(&format!("{mark}  {name}: {text}"));
    }
    match stopped {
        0 => Ok(()),
        n => Err(Stop::failed(format!("{n} of the above must be mended before a run"))),
    }
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= (5, 11) => Good(release),
        _ => Missing(format!("{release}: 5.11 or newer is needed (overlayfs in user namespaces)")),
    }
}

fn user_namespaces() -> Finding {
    if read("/proc/sys/user/max_user_namespaces") == "0" {
        return Missing("switched off; run: sysctl -w user.max_user_namespaces=10000".into());
    }
    if !is_root() && read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        let knob = "kernel.apparmor_restrict_unprivileged_userns";
        return Missing(format!("AppArmor keeps them from plain users; run as root, or: sysctl -w {knob}=0"));
    }
    Good("available".into())
}

fn subordinate_ids() -> Finding {
    if is_root() {
        return Good("not needed by root".into());
    }
    let user = std::env::var("USER").unwrap_or_default();
    let listed = |file| read(file).lines().any(|line| line.split(':').next() == Some(user.as_str()));
    if find_program("newuidmap").is_none() {
        return Missing("newuidmap is missing; run: sudo apt-get install uidmap".into());
    }
    if listed("/etc/subuid") && listed("/etc/subgid") {
        Good(format!("{user} has ranges in /etc/subuid and /etc/subgid"))
    } else {
        Missing(format!(
            "none for {user}; run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        ))
    }
}

fn program(name: &str, package: &str) -> Finding {
    match find_program(name) {
        Some(path) => Good(path.display().to_string()),
        None => Missing(format!("not found; run: sudo apt-get install {package} (cargo xtask setup does)")),
    }
}

fn header(path: &str, package: &str) -> Finding {
    if Path::new(path).exists() {
        Good(path.into())
    } else {
        Missing(format!("{path} not found; run: sudo apt-get install {package} (cargo xtask setup does)"))
    }
}

fn envoy() -> Finding {
    match crate::envoy::locate() {
        Ok(path) => Good(path.display().to_string()),
        Err(stop) => Missing(stop.message),
    }
}

fn sandbox() -> Finding {
    if let Err(why) = output(cargo().args(["build", "--quiet", "--package", "sim", "--bin", "sandbox"])) {
        return Missing(format!("does not build: {why}"));
    }
    match inside("id -u && readlink /proc/self/ns/net") {
        Ok(_) => Good("user, mount, network, pid namespaces can be made".into()),
        Err(why) => Missing(why),
    }
}

fn kind() -> Finding {
    match (find_program("docker"), find_program("kind")) {
        (Some(_), Some(_)) => Limited("docker and kind are here; the bed comes with a later issue".into()),
        _ => Limited("no docker or no kind: only the simulator; the bed comes with a later issue".into()),
    }
}

/// What only shows in a namespace of one's own: each is a command that works or does not.
fn in_sandbox() -> Vec<(&'static str, Finding)> {
    const RULE: &str =
        "printf '*nat\\n-A OUTPUT -p tcp -m owner --uid-owner 1 -j REDIRECT --to-ports 1\\nCOMMIT\\n' | ";
    let rule = |restore: &str| format!("{RULE}{restore} --noflush");
    let probes: [(&str, String, &str); 7] = [
        ("iptables, nf_tables flavour", rule("iptables-nft-restore"), "rule backend iptables-nft cannot run"),
        (
            "iptables, legacy flavour",
            rule("iptables-legacy-restore"),
            "rule backend iptables-legacy cannot run; modprobe ip_tables iptable_nat",
        ),
        ("ip6tables", rule("ip6tables-restore"), "dual-stack scenarios cannot run; modprobe ip6table_nat"),
        (
            "veth",
            "ip link add left type veth peer name right".into(),
            "nothing can run; modprobe veth (or install iproute2 for this check)",
        ),
        (
            "overlayfs",
            "cd /run && mkdir u w m && mount -t overlay o -o lowerdir=/etc,upperdir=u,workdir=w,userxattr m".into(),
            "containers cannot have a writable /etc",
        ),
        (
            "netem",
            "ip link add left type veth peer name right && tc qdisc add dev left root netem delay 1ms".into(),
            "scenarios with delay or loss (LC-08) cannot run; modprobe sch_netem",
        ),
        ("IPv6", "test -d /proc/sys/net/ipv6".into(), "dual-stack scenarios cannot run"),
    ];
    probes
        .into_iter()
        .map(|(name, script, consequence)| {
            let finding = match inside(&script) {
                Ok(_) => Good("works".into()),
                Err(why) => Limited(format!("{consequence} ({})", why.lines().next_back().unwrap_or_default())),
            };
            (name, finding)
        })
        .collect()
}

/// Runs a shell line in a sandbox of its own.
fn inside(script: &str) -> Result<String, String> {
    output(command(bin_dir().join("sandbox")).args(["--", "sh", "-c", script]))
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
