//! `connect-init` where a CNI plugin redirects: it proves that it has.

use redirect::kernel::apply_with;
use redirect::{Backend, Config, Policy};
use rstest::rstest;

use crate::pod::*;

/// What a plugin puts in force: this program's user is exempt, as it is in a cluster.
fn by_plugin() -> Config {
    Config { exclude_uids: vec!["0".into()], proof: true, ..config() }
}

fn variables() -> [(&'static str, &'static str); 2] {
    [("CONSUL_REDIRECT_TRAFFIC_CONFIG", ""), ("CONSUL_REDIRECTION_PROOF", "15001")]
}

#[rstest]
#[case(Backend::Nftables)]
#[case(Backend::IptablesNft)]
#[case(Backend::IptablesLegacy)]
fn a_redirected_pod(#[case] backend: Backend, #[values(false, true)] dual_stack: bool) {
    let (pod, _consul) = Pod::with_consul();
    let policy = Policy::from_config(&by_plugin(), dual_stack).expect("valid");
    pod.namespace.run(|| apply_with(backend, &policy)).expect("enter").expect("apply");
    let rules = pod.rules();
    let output = pod.connect_init_with(&config(), &variables(), dual_stack);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(pod.rules(), rules, "rules are the plugin's business");
}

#[test]
fn a_pod_that_nobody_has_redirected() {
    let (pod, consul) = Pod::with_consul();
    let output = pod.connect_init_with(&config(), &variables(), false);
    assert!(
        !output.status.success() && told(&output).contains("consul-cni has not run for this Pod"),
        "{}",
        told(&output)
    );
    assert!(consul.requests().is_empty(), "nothing is asked before the proof");
}

#[test]
fn rules_without_a_proof_are_none() {
    let (pod, _consul) = Pod::with_consul();
    let policy = Policy::from_config(&Config { proof: false, ..by_plugin() }, false).expect("valid");
    pod.namespace.run(|| apply_with(Backend::Nftables, &policy)).expect("enter").expect("apply");
    let output = pod.connect_init_with(&config(), &variables(), false);
    assert!(!output.status.success(), "{}", told(&output));
}

#[test]
fn the_proxy_runs_already() {
    let (pod, _consul) = Pod::with_consul();
    let policy = Policy::from_config(&by_plugin(), false).expect("valid");
    pod.namespace.run(|| apply_with(Backend::Nftables, &policy)).expect("enter").expect("apply");
    let _proxy = pod.namespace.tcp_listen("127.0.0.1:15001".parse().expect("literal")).expect("listen");
    let output = pod.connect_init_with(&config(), &variables(), false);
    assert!(output.status.success(), "{}", told(&output));
}
