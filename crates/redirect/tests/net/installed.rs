//! What each backend leaves in the kernel, read back by other programs than ours.

use netns::NetNs;
use redirect::kernel::{remove, script};
use redirect::rules::{Family, Ruleset, normalise};
use redirect::{Backend, Config, Policy};
use rstest::rstest;

use crate::bed::*;

fn with_safeguards() -> Config {
    let safeguards = list(&["local-direct", "refuse-ipv6", "refuse-udp", "refuse-metadata", "drop-invalid"]);
    Config {
        safeguards,
        exclude_gids: list(&["7", "100-200"]),
        exclude_inbound_ports: list(&["80-90"]),
        ..with_dns(false)
    }
}

fn cases() -> Vec<Policy> {
    let configs = [
        (config(), false),
        (config(), true),
        (with_dns(false), false),
        (with_dns(true), true),
        (with_safeguards(), false),
        (Config { consul_dns_ip: "::1".into(), ..with_safeguards() }, true),
        (Config { safeguards: list(&["refuse-ipv6"]), ..config() }, false),
        (Config { safeguards: list(&["drop-invalid"]), ..config() }, false),
    ];
    configs.iter().map(|(config, dual)| policy(config, *dual)).collect()
}

#[rstest]
fn the_kernel_holds_exactly_what_the_policy_demands(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    for policy in cases() {
        let namespace = NetNs::create().expect("namespace");
        in_force(&namespace, backend, &policy);
        assert_eq!(held(&namespace), expected(backend, &policy), "{backend}");
        assert_eq!(drift(&namespace, backend, &policy), Vec::<String>::new());
        assert_eq!(drift(&namespace, Backend::Auto, &policy), Vec::<String>::new(), "what is there is followed");
    }
}

/// Rules with their handles and counters.
const EVERYTHING: &str = "nft -a list ruleset; (iptables-legacy-save -c; ip6tables-legacy-save -c) | sed '/^#/d'";

#[rstest]
fn applying_twice_is_applying_once(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let namespace = NetNs::create().expect("namespace");
    for policy in cases() {
        assert!(in_force(&namespace, backend, &policy).changed);
        let first = sh(&namespace, EVERYTHING);
        assert!(!in_force(&namespace, backend, &policy).changed);
        let again = sh(&namespace, EVERYTHING);
        assert_eq!(first, again, "{backend}: handles and counters too");
        assert!(namespace.run(remove).expect("enter").expect("remove"));
        assert_eq!(held(&namespace), Vec::<String>::new());
        assert!(!namespace.run(remove).expect("enter").expect("remove"), "nothing is left to remove");
    }
}

/// Nobody but `nft` itself says whether it understands what we put there.
#[test]
fn nft_reads_our_table_as_we_write_it() {
    for policy in cases() {
        let [ours, theirs] = [(); 2].map(|()| NetNs::create().expect("namespace"));
        in_force(&ours, Backend::Nftables, &policy);
        let script = script(Backend::Nftables, &policy).remove(0).1;
        sh(&theirs, &format!("nft -f - <<'END'\n{script}END"));
        assert_eq!(sh(&ours, "nft list ruleset"), sh(&theirs, "nft list ruleset"));
        let json: serde_json::Value = serde_json::from_str(&sh(&ours, "nft -j list ruleset")).expect("JSON");
        let chains = json["nftables"].as_array().expect("a list").iter().filter(|entry| entry.get("chain").is_some());
        assert!(chains.count() >= 7, "{json}");
        // and back: a table that nft made of our words is in force as far as we can see
        assert_eq!(drift(&theirs, Backend::Nftables, &policy), Vec::<String>::new());
    }
}

#[rstest]
fn the_rendered_script_alone_brings_the_same_rules(#[values("nft", "legacy")] variant: &str) {
    for policy in cases() {
        let namespace = NetNs::create().expect("namespace");
        let rules = Ruleset::of(&policy);
        for family in Family::BOTH {
            let script = rules.restore_script(family);
            let program = if family == Family::V4 { "iptables" } else { "ip6tables" };
            sh(&namespace, &format!("{program}-{variant}-restore --noflush <<'END'\n{script}END"));
            assert_eq!(normalise(&dump(&namespace, variant, family)), rules.expected(family));
        }
    }
}

/// Read back by a library of somebody else's.
#[test]
fn the_iptables_library_sees_consuls_chains() {
    let namespace = NetNs::create().expect("namespace");
    in_force(&namespace, Backend::IptablesNft, &policy(&with_dns(false), false));
    let rules = namespace.run(|| {
        let iptables = iptables::new(false).expect("iptables");
        iptables.list("nat", "CONSUL_PROXY_OUTPUT").expect("the chain")
    });
    let rules = rules.expect("enter");
    assert_eq!(rules.first().map(String::as_str), Some("-N CONSUL_PROXY_OUTPUT"));
    assert_eq!(rules[1], "-A CONSUL_PROXY_OUTPUT -m owner --uid-owner 1234 -j RETURN");
    assert_eq!(rules.last().map(String::as_str), Some("-A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT"));
}

/// iptables-nft sends a transaction as one message, whose size an unprivileged user namespace cannot raise; native nf_tables
/// keeps the list in a set.
#[rstest]
#[case(Backend::Nftables, 5000)]
#[case(Backend::IptablesNft, 400)]
#[case(Backend::IptablesLegacy, 2000)]
fn a_large_policy_goes_in_whole(#[case] backend: Backend, #[case] count: u32) {
    let namespace = NetNs::create().expect("namespace");
    let ports = (1..=count).map(|port: u32| (port * 2).to_string()).collect();
    let blocks = (0..count.min(1000)).map(|n| format!("10.{}.{}.0/25", n / 256, n % 256)).collect();
    let blocks = if backend == Backend::Nftables { blocks } else { Vec::new() };
    let policy = policy(&Config { exclude_outbound_ports: ports, exclude_outbound_cidrs: blocks, ..config() }, false);
    in_force(&namespace, backend, &policy);
    assert_eq!(held(&namespace), expected(backend, &policy));
}
