//! Namespaces to measure in, and the settings that are put in force there.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns::NetNs;
use redirect::kernel::{apply_with, verify_with};
use redirect::{Applied, Backend, Config, Policy};

/// The three that do something.
pub(crate) const BACKENDS: [Backend; 3] = [Backend::Nftables, Backend::IptablesLegacy, Backend::IptablesNft];
/// The user whose own connections no rule redirects.
pub(crate) const PROXY: u32 = 5995;
/// Where connections of other users go.
pub(crate) const OUTBOUND: u16 = 15001;

/// What the webhook writes for an ordinary Pod with metrics and HTTP probes: 17 commands of iptables, 21 with DNS.
pub(crate) fn usual(with_dns: bool) -> Config {
    let dns = if with_dns { ("127.0.0.1", 8600) } else { ("", 0) };
    Config {
        consul_dns_ip: dns.0.into(),
        consul_dns_port: dns.1,
        proxy_user_id: PROXY.to_string(),
        proxy_inbound_port: 20000,
        proxy_outbound_port: OUTBOUND.into(),
        exclude_inbound_ports: ["20200", "20300", "20400"].map(String::from).into(),
        exclude_uids: vec!["5996".into()],
        ..Config::default()
    }
}

/// The usual one with so many excluded blocks and so many excluded ports. No two of them touch, so that none are merged.
pub(crate) fn excluding(count: u16) -> Policy {
    let block = |n: u16| format!("10.{}.{}.0/25", n / 256, n % 256);
    policy(&Config {
        exclude_outbound_cidrs: (0..count).map(block).collect(),
        exclude_outbound_ports: (0..count).map(|n| (30_000 + 2 * n).to_string()).collect(),
        ..usual(true)
    })
}

/// IPv4 only, as Consul's usual installation has it.
pub(crate) fn policy(config: &Config) -> Policy {
    Policy::from_config(config, false).expect("the settings of the measurement are valid")
}

pub(crate) fn namespace() -> NetNs {
    NetNs::create().expect("make a network namespace: this needs CAP_SYS_ADMIN")
}

/// Installs as the product does, on a thread that enters the namespace, and says how long the whole of it took.
pub(crate) fn install(pod: &NetNs, backend: Backend, policy: &Policy) -> Result<(Duration, Applied), String> {
    let start = Instant::now();
    let done = pod.run(|| apply_with(backend, policy)).expect("enter the namespace");
    let took = start.elapsed();
    done.map(|applied| (took, applied)).map_err(|error| error.to_string())
}

/// Checks what is installed, and says how long the whole of that took. A difference means that something else was measured
/// than was meant to be.
pub(crate) fn check(pod: &NetNs, backend: Backend, policy: &Policy) -> Duration {
    let start = Instant::now();
    let verified = pod.run(|| verify_with(backend, policy)).expect("enter the namespace").expect("read the rules");
    let took = start.elapsed();
    assert!(verified.drift.is_empty(), "{backend}: {:?}", verified.drift);
    took
}

/// Runs a command in the namespace and returns what it printed.
pub(crate) fn command(pod: &NetNs, words: &[&str]) -> String {
    let output = pod
        .run(|| Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output())
        .expect("enter the namespace")
        .unwrap_or_else(|error| panic!("start {}: {error}", words[0]));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
