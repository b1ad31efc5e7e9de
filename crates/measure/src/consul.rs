//! Consul's own way to the same rules: a process for each, started in the namespace by `nsenter`, one after the other.
//!
//! The commands and their order are those of `consul connect redirect-traffic` for one family, written here once more because
//! what is compared must not be made by what it is compared with.

use std::path::Path;
use std::process::{Command, Stdio};

use redirect::Config;

/// The arguments behind `-t nat`, a line for each command.
#[must_use]
pub fn commands(config: &Config) -> Vec<String> {
    let Config {
        consul_dns_ip,
        consul_dns_port,
        proxy_user_id,
        proxy_inbound_port,
        proxy_outbound_port,
        exclude_inbound_ports,
        exclude_outbound_ports,
        exclude_outbound_cidrs,
        exclude_uids,
        exclude_gids: _,
        safeguards: _,
        probe_ports: _,
        probe_sources: _,
        proof: _,
        proxy_group_id: _,
        net_ns: _,
    } = config;
    let chains = ["CONSUL_PROXY_INBOUND", "CONSUL_PROXY_IN_REDIRECT", "CONSUL_PROXY_OUTPUT", "CONSUL_PROXY_REDIRECT"];
    let mut all: Vec<String> = chains.iter().map(|chain| format!("-N {chain}")).collect();
    all.push("-N CONSUL_DNS_REDIRECT".to_owned());
    all.push(format!("-A CONSUL_PROXY_REDIRECT -p tcp -j REDIRECT --to-port {proxy_outbound_port}"));
    if !consul_dns_ip.is_empty() {
        let to = format!("--to-destination {consul_dns_ip}:{consul_dns_port}");
        for (chain, target) in
            [("CONSUL_DNS_REDIRECT", format!("DNAT {to}")), ("OUTPUT", "CONSUL_DNS_REDIRECT".to_owned())]
        {
            for protocol in ["udp", "tcp"] {
                all.push(format!("-A {chain} -p {protocol} -d {consul_dns_ip} --dport 53 -j {target}"));
            }
        }
    }
    all.push("-A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT".to_owned());
    all.push(format!("-A CONSUL_PROXY_OUTPUT -m owner --uid-owner {proxy_user_id} -j RETURN"));
    all.push("-A CONSUL_PROXY_OUTPUT -d 127.0.0.1/32 -j RETURN".to_owned());
    all.push("-A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT".to_owned());
    let spare = |what: String| format!("-I CONSUL_PROXY_OUTPUT {what} -j RETURN");
    all.extend(exclude_outbound_ports.iter().map(|port| spare(format!("-p tcp --dport {port}"))));
    all.extend(exclude_outbound_cidrs.iter().map(|block| spare(format!("-d {block}"))));
    all.extend(exclude_uids.iter().map(|uid| spare(format!("-m owner --uid-owner {uid}"))));
    all.push(format!("-A CONSUL_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-port {proxy_inbound_port}"));
    all.push("-A PREROUTING -p tcp -j CONSUL_PROXY_INBOUND".to_owned());
    all.push("-A CONSUL_PROXY_INBOUND -p tcp -j CONSUL_PROXY_IN_REDIRECT".to_owned());
    let inbound = |port: &String| format!("-I CONSUL_PROXY_INBOUND -p tcp --dport {port} -j RETURN");
    all.extend(exclude_inbound_ports.iter().map(inbound));
    all
}

/// Runs all of them in a namespace, by a program such as `iptables-nft`.
///
/// # Panics
/// One of them fails: something else would be measured than was meant to be.
pub fn install(namespace: &Path, iptables: &str, commands: &[String]) {
    let enter = format!("--net={}", namespace.display());
    for arguments in commands {
        let output = Command::new("nsenter")
            .args([&enter, "--", iptables, "-t", "nat"])
            .args(arguments.split(' '))
            .stdin(Stdio::null())
            .output()
            .expect("start nsenter (package util-linux)");
        assert!(output.status.success(), "{iptables} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
