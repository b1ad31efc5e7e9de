//! Golden texts of rendered rules, and what a dump is reduced to.

use rstest::rstest;

use super::*;
use crate::Config;

/// The lists of the measurement that shows the order Consul's own commands leave behind.
fn measured() -> Config {
    let list = |entries: &[&str]| entries.iter().map(ToString::to_string).collect();
    Config {
        proxy_user_id: "5995".into(),
        proxy_inbound_port: 20000,
        proxy_outbound_port: 15001,
        exclude_inbound_ports: list(&["20200", "20300", "20400"]),
        exclude_outbound_ports: list(&["9001", "9002"]),
        exclude_outbound_cidrs: list(&["10.1.0.0/16", "10.2.3.4", "fd00:1::/32"]),
        exclude_uids: list(&["5996", "1234"]),
        ..Config::default()
    }
}

fn ruleset(config: &Config, dual_stack: bool) -> Ruleset {
    Ruleset::of(&Policy::from_config(config, dual_stack).expect("a valid configuration"))
}

#[test]
fn the_script_is_one_transaction_in_consuls_order() {
    let config = Config { consul_dns_ip: "127.0.0.1".into(), consul_dns_port: 8600, ..measured() };
    let expected = "\
*nat
:CONSUL_DNS_REDIRECT - [0:0]
:CONSUL_PROXY_INBOUND - [0:0]
:CONSUL_PROXY_IN_REDIRECT - [0:0]
:CONSUL_PROXY_OUTPUT - [0:0]
:CONSUL_PROXY_REDIRECT - [0:0]
-A CONSUL_DNS_REDIRECT -d 127.0.0.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.1:8600
-A CONSUL_DNS_REDIRECT -d 127.0.0.1/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.1:8600
-A CONSUL_PROXY_INBOUND -p tcp -m tcp --dport 20400 -j RETURN
-A CONSUL_PROXY_INBOUND -p tcp -m tcp --dport 20300 -j RETURN
-A CONSUL_PROXY_INBOUND -p tcp -m tcp --dport 20200 -j RETURN
-A CONSUL_PROXY_INBOUND -p tcp -j CONSUL_PROXY_IN_REDIRECT
-A CONSUL_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-ports 20000
-A CONSUL_PROXY_OUTPUT -m owner --uid-owner 1234 -j RETURN
-A CONSUL_PROXY_OUTPUT -m owner --uid-owner 5996 -j RETURN
-A CONSUL_PROXY_OUTPUT -d 10.2.3.4/32 -j RETURN
-A CONSUL_PROXY_OUTPUT -d 10.1.0.0/16 -j RETURN
-A CONSUL_PROXY_OUTPUT -p tcp -m tcp --dport 9002 -j RETURN
-A CONSUL_PROXY_OUTPUT -p tcp -m tcp --dport 9001 -j RETURN
-A CONSUL_PROXY_OUTPUT -m owner --uid-owner 5995 -j RETURN
-A CONSUL_PROXY_OUTPUT -d 127.0.0.1/32 -j RETURN
-A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT
-A CONSUL_PROXY_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -d 127.0.0.1/32 -p udp -m udp --dport 53 -j CONSUL_DNS_REDIRECT
-A OUTPUT -d 127.0.0.1/32 -p tcp -m tcp --dport 53 -j CONSUL_DNS_REDIRECT
-A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
-A PREROUTING -p tcp -j CONSUL_PROXY_INBOUND
COMMIT
";
    assert_eq!(ruleset(&config, false).restore_script(Family::V4), expected);
    assert_eq!(ruleset(&config, false).restore_script(Family::V6), "", "IPv6 is untouched in single stack");
}

#[rstest]
#[case::addressed("::1", 8600, "-d ::1/128 -p tcp -m tcp --dport 53", "[::1]:8600")]
#[case::default_server("", 8600, "-d ::1/128 -p tcp -m tcp --dport 53", "[::1]:8600")]
#[case::everything("fd00::53", 0, "-p tcp -m tcp --dport 53", "fd00::53")]
fn dual_stack_keeps_families_apart(
    #[case] server: &str,
    #[case] port: i64,
    #[case] matching: &str,
    #[case] target: &str,
) {
    let config = Config { consul_dns_ip: server.into(), consul_dns_port: port, ..measured() };
    let rules = ruleset(&config, true);
    let (v4, v6) = (rules.expected(Family::V4), rules.expected(Family::V6));
    let has = |rules: &[String], line: &str| rules.iter().any(|rule| rule == line);

    assert!(!v4.iter().any(|rule| rule.contains("--dport 53")), "DNS is IPv6's: {v4:#?}");
    assert!(has(&v6, &format!("-A CONSUL_DNS_REDIRECT {matching} -j DNAT --to-destination {target}")), "{v6:#?}");
    assert!(has(&v6, &format!("-A OUTPUT {matching} -j CONSUL_DNS_REDIRECT")), "{v6:#?}");
    assert!(has(&v4, "-A CONSUL_PROXY_OUTPUT -d 10.1.0.0/16 -j RETURN"));
    assert!(has(&v6, "-A CONSUL_PROXY_OUTPUT -d fd00:1::/32 -j RETURN"));
    assert!(has(&v6, "-A CONSUL_PROXY_OUTPUT -d ::1/128 -j RETURN"));
    assert!(!v4.iter().any(|rule| rule.contains("fd00")) && !v6.iter().any(|rule| rule.contains("10.")));
}

#[test]
fn a_probe_is_exempt_by_source_and_port_behind_the_exclusions() {
    let list = |entries: &[&str]| entries.iter().map(ToString::to_string).collect();
    let config = Config {
        exclude_inbound_ports: list(&["20200"]),
        probe_ports: list(&["9000", "8443:8444"]),
        probe_sources: list(&["172.18.0.2", "fd00::1"]),
        ..measured()
    };
    let inbound = |family, dual_stack| -> Vec<String> {
        let rules = ruleset(&config, dual_stack).expected(family);
        rules.into_iter().filter_map(|rule| Some(rule.strip_prefix("-A CONSUL_PROXY_INBOUND ")?.to_owned())).collect()
    };
    let around = |source: &str| {
        [
            "-p tcp -m tcp --dport 20200 -j RETURN".to_owned(),
            format!("-s {source} -p tcp -m tcp --dport 8443:8444 -j RETURN"),
            format!("-s {source} -p tcp -m tcp --dport 9000 -j RETURN"),
            "-p tcp -j CONSUL_PROXY_IN_REDIRECT".to_owned(),
        ]
    };
    assert_eq!(inbound(Family::V4, false), around("172.18.0.2/32"));
    assert_eq!(inbound(Family::V6, true), around("fd00::1/128"));
    assert_eq!(inbound(Family::V6, false), [""; 0]);
    for (ports, sources) in [(&["9000"][..], &[][..]), (&[], &["172.18.0.2"])] {
        let half = Config { probe_ports: list(ports), probe_sources: list(sources), ..measured() };
        assert_eq!(ruleset(&half, false), ruleset(&measured(), false), "half an exemption is none");
    }
}

#[test]
fn a_proof_comes_before_every_exclusion() {
    let config = Config { proof: true, ..measured() };
    for (dual_stack, family, count) in [(false, Family::V4, 1), (true, Family::V4, 1), (true, Family::V6, 0)] {
        let rules = ruleset(&config, dual_stack).expected(family);
        let outbound: Vec<&String> = rules.iter().filter(|rule| rule.starts_with("-A CONSUL_PROXY_OUTPUT")).collect();
        let proof = "-A CONSUL_PROXY_OUTPUT -d 127.0.0.127/32 -p tcp -m tcp --dport 15127 -j CONSUL_PROXY_REDIRECT";
        assert_eq!(outbound.iter().filter(|rule| **rule == proof).count(), count, "{outbound:#?}");
        assert!(count == 0 || outbound[0] == proof, "{outbound:#?}");
    }
}

#[test]
fn all_dns_goes_to_one_server_when_no_port_is_set() {
    let config = Config { consul_dns_ip: "10.0.0.53".into(), ..measured() };
    let rules = ruleset(&config, false).expected(Family::V4);
    let dns: Vec<&String> = rules.iter().filter(|rule| rule.contains("--dport 53")).collect();
    assert_eq!(
        dns,
        [
            "-A OUTPUT -p udp -m udp --dport 53 -j CONSUL_DNS_REDIRECT",
            "-A OUTPUT -p tcp -m tcp --dport 53 -j CONSUL_DNS_REDIRECT",
            "-A CONSUL_DNS_REDIRECT -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.0.53",
            "-A CONSUL_DNS_REDIRECT -p tcp -m tcp --dport 53 -j DNAT --to-destination 10.0.0.53",
        ]
    );
}

#[test]
fn the_five_chains_exist_without_dns_too() {
    let rules = ruleset(&measured(), false).expected(Family::V4);
    let chains: Vec<&str> = rules.iter().filter_map(|line| line.strip_prefix("-N ")).collect();
    assert_eq!(
        chains,
        [
            "CONSUL_DNS_REDIRECT",
            "CONSUL_PROXY_INBOUND",
            "CONSUL_PROXY_IN_REDIRECT",
            "CONSUL_PROXY_OUTPUT",
            "CONSUL_PROXY_REDIRECT"
        ]
    );
}

const FOREIGN: &str = "\
# Generated by iptables-save v1.8.9
*filter
:CONSUL_PROXY_OUTPUT - [0:0]
-A OUTPUT -j CONSUL_PROXY_OUTPUT
COMMIT
*nat
:PREROUTING ACCEPT [7:420]
:OUTPUT ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CONSUL_PROXY_OUTPUT - [0:0]
[3:180] -A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
-A OUTPUT -p tcp -m comment --comment \"to CONSUL_PROXY_OUTPUT\" -j CNI-HOSTPORT-DNAT
-A CNI-HOSTPORT-DNAT -g CONSUL_PROXY_OUTPUT
-A CONSUL_PROXY_OUTPUT -d 0:0:0:0:0:0:0:1/128 -j RETURN
COMMIT
";

#[test]
fn a_dump_is_reduced_to_what_is_ours() {
    assert_eq!(
        normalise(FOREIGN),
        [
            "-N CONSUL_PROXY_OUTPUT",
            "-A CNI-HOSTPORT-DNAT -g CONSUL_PROXY_OUTPUT",
            "-A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT",
            "-A CONSUL_PROXY_OUTPUT -d ::1/128 -j RETURN",
        ]
    );
    assert_eq!(normalise(""), Vec::<String>::new());
}

#[test]
fn a_transaction_changes_only_what_differs() {
    let wanted = ruleset(&measured(), false).chains(Family::V4);
    assert_eq!(wanted.script_from(&wanted), "", "nothing to do");

    let script = wanted.script_from(&ChainSet::parse(FOREIGN));
    assert!(script.contains("-D CNI-HOSTPORT-DNAT -g CONSUL_PROXY_OUTPUT\n"), "{script}");
    assert!(script.contains("-A PREROUTING -p tcp -j CONSUL_PROXY_INBOUND\n"), "{script}");
    assert!(!script.contains(" OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT\n"), "that jump is right already: {script}");
}

#[test]
fn removal_takes_jumps_rules_and_chains() {
    let script = ChainSet::default().script_from(&ChainSet::parse(FOREIGN));
    assert_eq!(
        script,
        "\
*nat
:CONSUL_PROXY_OUTPUT - [0:0]
-D CNI-HOSTPORT-DNAT -g CONSUL_PROXY_OUTPUT
-D OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
-X CONSUL_PROXY_OUTPUT
COMMIT
"
    );
}
