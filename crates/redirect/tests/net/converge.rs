//! From whatever a namespace holds to what it should hold, with everybody else's rules left as they are.

use netns::NetNs;
use redirect::kernel::{apply_with, remove, script};
use redirect::rules::{Family, Ruleset};
use redirect::{Backend, Config};
use rstest::rstest;

use crate::bed::*;

/// What a run of Consul's own commands that stopped half way, and an older configuration of ours, may leave.
const LEFTOVER: &str = "\
iptables-VARIANT -t nat -A OUTPUT -p tcp --dport 1 -j RETURN
for c in CONSUL_PROXY_INBOUND CONSUL_PROXY_IN_REDIRECT CONSUL_PROXY_OUTPUT CONSUL_PROXY_REDIRECT; do
  iptables-VARIANT -t nat -N $c
done
iptables-VARIANT -t nat -A CONSUL_PROXY_REDIRECT -p tcp -j REDIRECT --to-port 9999
iptables-VARIANT -t nat -A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
iptables-VARIANT -t nat -A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
iptables-VARIANT -t nat -A CONSUL_PROXY_OUTPUT -m owner --uid-owner 77 -j RETURN
iptables-VARIANT -t nat -A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT
iptables-VARIANT -t nat -A OUTPUT -p tcp --dport 2 -j RETURN
";

/// Consul's coming generation: its table, as its own commands make it.
const CONSUL_NFT: &str = "nft 'add table inet consul_tproxy
add chain inet consul_tproxy CONSUL_PROXY_REDIRECT
add rule inet consul_tproxy CONSUL_PROXY_REDIRECT meta l4proto tcp redirect to :9999
add chain inet consul_tproxy CONSUL_NAT_OUTPUT { type nat hook output priority -100; }
add rule inet consul_tproxy CONSUL_NAT_OUTPUT meta l4proto tcp jump CONSUL_PROXY_REDIRECT'
";

/// Rules of others: a port mapping, a node-local DNS cache, another mesh, a firewall; in both parts of the kernel.
const FOREIGN: &str = "\
for v in nft legacy; do
  iptables-$v -t nat -N CNI-HOSTPORT-DNAT
  iptables-$v -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
  iptables-$v -t nat -A CNI-HOSTPORT-DNAT -p tcp --dport 8080 -j DNAT --to-destination 10.9.0.1:80
  iptables-$v -t raw -A OUTPUT -d 169.254.20.10/32 -p udp --dport 53 -j NOTRACK
  iptables-$v -t nat -N ISTIO_OUTPUT
  iptables-$v -t nat -A ISTIO_OUTPUT -p tcp -m comment --comment 'CONSUL_PROXY_OUTPUT in words only' -j RETURN
  iptables-$v -t nat -A OUTPUT -p tcp -j ISTIO_OUTPUT
  iptables-$v -A OUTPUT -p tcp --dport 25 -j DROP
  iptables-$v -A INPUT -m conntrack --ctstate INVALID -j DROP
  ip6tables-$v -A INPUT -p icmpv6 -j ACCEPT
done
nft 'add table inet istio; add chain inet istio output { type nat hook output priority -105; }
add rule inet istio output ip daddr 192.0.2.1 tcp dport { 80, 443 } counter redirect to :15099
add table ip nodelocal; add set ip nodelocal s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }'
";

/// Everything in a namespace that is not ours.
fn foreign(namespace: &NetNs) -> String {
    let text = sh(
        namespace,
        "nft list table inet istio; nft list table ip nodelocal; for p in iptables ip6tables; do for v in nft legacy; do $p-$v-save; done; done",
    );
    let kept =
        text.lines().filter(|line| !line.starts_with('#') && !line.contains("CONSUL_") && !line.starts_with(':'));
    // counters move with whatever packets pass
    kept.map(|line| line.split(" counter packets").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[rstest]
fn over_any_leftover_there_is_one_set_of_rules(
    #[values(0, 1, 2)] backend: usize,
    #[values("none", "nft", "legacy", "nft legacy", "consul", "nft legacy consul", "ours")] left: &str,
) {
    let backend = BACKENDS[backend];
    let namespace = NetNs::create().expect("namespace");
    sh(&namespace, FOREIGN);
    for kind in left.split(' ') {
        match kind {
            "none" => {}
            "consul" => drop(sh(&namespace, CONSUL_NFT)),
            "ours" => {
                for other in BACKENDS {
                    let old = Config { safeguards: list(&["refuse-udp"]), exclude_uids: list(&["1-7"]), ..config() };
                    in_force(&namespace, other, &policy(&old, true));
                }
            }
            variant => drop(sh(&namespace, &LEFTOVER.replace("VARIANT", variant))),
        }
    }
    let before = foreign(&namespace);
    let policy = policy(&with_dns(false), false);
    if left != "none" {
        assert!(!drift(&namespace, backend, &policy).is_empty(), "a leftover is drift");
    }
    in_force(&namespace, backend, &policy);
    assert_eq!(held(&namespace), expected(backend, &policy), "{backend} over {left}");
    assert!(!sh(&namespace, "nft list tables").contains("consul_tproxy"));
    assert_eq!(drift(&namespace, backend, &policy), Vec::<String>::new());
    assert_eq!(foreign(&namespace), before, "{backend} over {left}");
    assert!(namespace.run(remove).expect("enter").expect("remove"));
    assert_eq!(held(&namespace), Vec::<String>::new());
    assert_eq!(foreign(&namespace), before, "{backend} over {left}, removed");
}

/// Consul installs one rule after the other, and stops where one fails.
#[rstest]
fn over_any_part_of_the_rules_there_is_one_set(
    #[values(0, 1, 2)] backend: usize,
    #[values("nft", "legacy")] left: &str,
) {
    let backend = BACKENDS[backend];
    let policy = policy(&with_dns(false), false);
    let whole = Ruleset::of(&policy).restore_script(Family::V4);
    let commands: Vec<String> = whole
        .lines()
        .filter_map(|line| match line.strip_prefix(':') {
            Some(chain) => Some(format!("-N {}", chain.split(' ').next().unwrap_or_default())),
            None => line.starts_with("-A ").then(|| line.to_owned()),
        })
        .map(|rule| format!("iptables-{left} -t nat {rule}\n"))
        .collect();
    assert!(commands.len() > 20, "{whole}");
    for count in 1..=commands.len() {
        let namespace = NetNs::create().expect("namespace");
        sh(&namespace, &commands[..count].concat());
        in_force(&namespace, backend, &policy);
        assert_eq!(held(&namespace), expected(backend, &policy), "{backend} over the first {count} of {left}");
    }
}

#[rstest]
#[case::fresh("true", Backend::Nftables)]
#[case::foreign_nft("nft add table inet somebody", Backend::Nftables)]
#[case::iptables_nft(&LEFTOVER.replace("VARIANT", "nft"), Backend::IptablesNft)]
#[case::iptables_legacy(&LEFTOVER.replace("VARIANT", "legacy"), Backend::IptablesLegacy)]
#[case::somebodys_legacy("iptables-legacy -t nat -A OUTPUT -p tcp --dport 1 -j RETURN", Backend::IptablesLegacy)]
#[case::looked_at_only("iptables-legacy -t nat -S", Backend::Nftables)]
#[case::consul(CONSUL_NFT, Backend::Nftables)]
fn what_a_namespace_uses_is_followed(#[case] before: &str, #[case] backend: Backend) {
    let namespace = NetNs::create().expect("namespace");
    sh(&namespace, before);
    let policy = policy(&config(), true);
    let applied = in_force(&namespace, Backend::Auto, &policy);
    assert_eq!(applied.backend, backend, "{}", applied.reason);
    assert_eq!(held(&namespace), expected(backend, &policy));
    assert_eq!(in_force(&namespace, Backend::Auto, &policy).backend, backend, "and again");
}

/// A table of that name which is not Consul's is somebody else's.
#[test]
fn another_table_of_consuls_name_is_left_alone() {
    let namespace = NetNs::create().expect("namespace");
    sh(
        &namespace,
        "nft 'add table inet consul_tproxy; add chain inet consul_tproxy mine { type filter hook input priority 0; }'",
    );
    in_force(&namespace, Backend::Auto, &policy(&config(), false));
    assert!(sh(&namespace, "nft list table inet consul_tproxy").contains("chain mine"));
}

#[test]
fn a_table_that_iptables_cannot_read_is_left_alone() {
    let namespace = NetNs::create().expect("namespace");
    sh(
        &namespace,
        "nft 'add table ip nat; add set ip nat s { type ipv4_addr; }; add chain ip nat own; \
         add rule ip nat own ip daddr @s tcp dport 80 redirect to 9'",
    );
    let before = sh(&namespace, "nft list ruleset");
    let wanted = policy(&config(), false);
    let error = namespace.run(|| apply_with(Backend::IptablesNft, &wanted)).expect("enter").expect_err("refused");
    assert!(error.to_string().contains("nft list table ip nat"), "{error}");
    assert_eq!(sh(&namespace, "nft list ruleset"), before);
    // native rules stand beside it
    in_force(&namespace, Backend::Auto, &wanted);
    assert!(sh(&namespace, "nft list ruleset").contains(before.trim()));
}

#[rstest]
fn drift_names_what_is_missing_extra_and_in_the_wrong_place(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let namespace = NetNs::create().expect("namespace");
    let wanted = policy(&Config { exclude_outbound_cidrs: list(&["3.3.3.0/24"]), ..config() }, false);
    in_force(&namespace, backend, &wanted);
    let chain = "CONSUL_PROXY_OUTPUT";
    let (spoil, told) = if backend == Backend::Nftables {
        let table = "inet pellucid_tproxy";
        (
            format!(
                "nft add element {table} exclude_uids '{{ 42 }}' 2>/dev/null || true
                 nft insert rule {table} {chain} tcp dport 99 return
                 nft flush chain {table} CONSUL_PROXY_INBOUND"
            ),
            ["extra add rule CONSUL_PROXY_OUTPUT", "missing add rule CONSUL_PROXY_INBOUND"],
        )
    } else {
        let program = format!("iptables-{} -t nat", infix(backend));
        (
            format!("{program} -I {chain} -p tcp --dport 99 -j RETURN; {program} -F CONSUL_PROXY_INBOUND"),
            [
                "extra -A CONSUL_PROXY_OUTPUT -p tcp -m tcp --dport 99",
                "missing -A CONSUL_PROXY_INBOUND -p tcp -m tcp --dport 9090",
            ],
        )
    };
    sh(&namespace, &spoil);
    let drift = drift(&namespace, backend, &wanted);
    for part in told {
        assert!(drift.iter().any(|line| line.contains(part)), "{part}: {drift:#?}");
    }
    in_force(&namespace, backend, &wanted);
    assert_eq!(held(&namespace), expected(backend, &wanted));
}

/// Rules that differ from ours by as little as the kernel allows.
#[rstest]
#[case::lookup("@exclude_uids", "!= @exclude_uids")]
#[case::comparison("ip daddr 127.0.0.1", "ip daddr != 127.0.0.1")]
#[case::jump("jump CONSUL_PROXY_REDIRECT", "goto CONSUL_PROXY_REDIRECT")]
#[case::port("redirect to :15001", "redirect to :15002")]
#[case::hook("hook output priority -100", "hook output priority -99")]
fn a_rule_that_means_another_thing_is_drift(#[case] ours: &str, #[case] theirs: &str) {
    let namespace = NetNs::create().expect("namespace");
    let wanted = policy(&config(), false);
    let script = script(Backend::Nftables, &wanted).remove(0).1;
    assert!(script.contains(ours), "{script}");
    sh(&namespace, &format!("nft -f - <<'END'\n{}END", script.replace(ours, theirs)));
    assert_ne!(drift(&namespace, Backend::Nftables, &wanted), Vec::<String>::new());
    in_force(&namespace, Backend::Nftables, &wanted);
    assert_eq!(held(&namespace), expected(Backend::Nftables, &wanted));
}

#[test]
fn rules_in_another_order_are_drift() {
    let namespace = NetNs::create().expect("namespace");
    let wanted = policy(&config(), false);
    in_force(&namespace, Backend::IptablesNft, &wanted);
    sh(
        &namespace,
        "iptables-nft -t nat -D CONSUL_PROXY_OUTPUT 1; iptables-nft -t nat -A CONSUL_PROXY_OUTPUT -m owner --uid-owner 1234 -j RETURN",
    );
    assert_eq!(drift(&namespace, Backend::Auto, &wanted), ["iptables: rules are in another order"]);
}

#[rstest]
fn many_at_once_in_one_namespace_are_one(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let namespace = NetNs::create().expect("namespace");
    let policy = policy(&with_dns(false), false);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| in_force(&namespace, backend, &policy));
        }
    });
    assert_eq!(held(&namespace), expected(backend, &policy));
}

#[rstest]
fn many_namespaces_at_once_do_not_meet(#[values(0, 1, 2)] backend: usize) {
    let backend = BACKENDS[backend];
    let policies: Vec<_> = (1..=32)
        .map(|number| policy(&Config { exclude_uids: vec![number.to_string()], ..config() }, number % 2 == 0))
        .collect();
    std::thread::scope(|scope| {
        for policy in &policies {
            scope.spawn(move || {
                let namespace = NetNs::create().expect("namespace");
                in_force(&namespace, backend, policy);
                assert_eq!(held(&namespace), expected(backend, policy));
            });
        }
    });
}

#[test]
fn ipv6_is_untouched_by_default_in_single_stack() {
    for backend in BACKENDS {
        let namespace = NetNs::create().expect("namespace");
        in_force(&namespace, backend, &policy(&config(), false));
        assert!(!dump(&namespace, infix(backend), Family::V6).contains("-A"), "{backend}");
    }
}
