//! Where probes come from, found out in the Pod.

use redirect::kernel::demanded;
use redirect::{Backend, Config, Policy};
use rstest::rstest;

use crate::pod::*;

const GATEWAYS: [&str; 3] = ["10.244.1.1", "fd00:10:244:1::1", "fe80::1"];

fn probed() -> Config {
    Config { probe_ports: vec!["9000".into()], ..config() }
}

/// What `connect-init` makes of it, with what the registration says.
fn policy(probe_sources: &[&str]) -> Policy {
    let mut config = Config { proxy_outbound_port: 15002, ..probed() };
    config.exclude_inbound_ports.push("9102".into());
    config.probe_sources = probe_sources.iter().map(ToString::to_string).collect();
    Policy::from_config(&config, true).expect("valid")
}

#[rstest]
#[case::by_routes(&GATEWAYS, &[], &["10.244.1.1", "fd00:10:244:1::1"])]
#[case::by_the_kubelet(&[], &[("HOST_IPS", "172.18.0.2,fd00:172:18::2")], &["172.18.0.2", "fd00:172:18::2"])]
#[case::by_an_older_kubelet(&[], &[("HOST_IP", "172.18.0.2")], &["172.18.0.2"])]
#[case::by_both(&GATEWAYS[..1], &[("HOST_IPS", "172.18.0.2"), ("HOST_IP", "172.18.0.2")], &["172.18.0.2", "10.244.1.1"])]
#[case::by_nothing(&["169.254.1.1"], &[], &[])]
fn probes_come_from_the_node(#[case] gateways: &[&str], #[case] variables: &[(&str, &str)], #[case] sources: &[&str]) {
    let (pod, _consul) = Pod::with_consul();
    pod.route_by(gateways);
    let output = pod.connect_init_with(&probed(), variables, true);
    let said = told(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(pod.rules(), demanded(Backend::Nftables, &policy(sources)), "{said}");
    let expected =
        if sources.is_empty() { "nothing says where they come from" } else { "probes go to the application" };
    assert!(said.contains(expected), "{said}");
}

#[test]
fn sources_that_the_configuration_names_are_the_only_ones() {
    let (pod, _consul) = Pod::with_consul();
    pod.route_by(&GATEWAYS);
    let named = Config { probe_sources: vec!["10.128.0.2".into()], ..probed() };
    let output = pod.connect_init_with(&named, &[("HOST_IPS", "172.18.0.2")], true);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(pod.rules(), demanded(Backend::Nftables, &policy(&["10.128.0.2"])));
}

#[test]
fn a_pod_without_probe_ports_is_not_asked_for_the_node() {
    let (pod, _consul) = Pod::with_consul();
    let output = pod.connect_init_with(&config(), &[("HOST_IPS", "of somebody else's")], false);
    assert!(output.status.success() && !told(&output).contains("probe"), "{}", told(&output));
}

#[test]
fn an_address_that_is_none_is_told_before_the_wait() {
    let pod = Pod::new();
    let told = failure(&pod.connect_init_with(&probed(), &[("HOST_IPS", "172.18.0.2,node-1")], false));
    assert!(told.contains("HOST_IPS entry 2 \"node-1\""), "{told}");
}

/// From outside the namespace, whose routes count.
#[test]
fn redirect_traffic_finds_the_same_sources() {
    let pod = Pod::new();
    pod.route_by(&GATEWAYS);
    let file = pod.volume.path().join("netns");
    pod.namespace.bind(&file).expect("bound");
    let netns = format!("-netns={}", file.display());
    let flags = ["-proxy-uid=5995", "-proxy-inbound-port=20000", "-dual-stack", "-probe-port=9000"];
    let elsewhere = Pod::new();
    let run = |operation: &str, more: &[&str]| {
        let output = elsewhere.redirect_traffic(&[&[operation, &netns], &flags[..], more].concat());
        assert!(output.status.success(), "{}{}", printed(&output), told(&output));
        printed(&output)
    };
    run("apply", &[]);
    run("verify", &["-probe-source=10.244.1.1", "-probe-source=fd00:10:244:1::1"]);
    run("verify", &[]);
    for (source, verdict) in [("10.244.1.1", "goes where it was sent"), ("10.244.1.2", "is redirected to port 20000")] {
        let source = format!("-source={source}");
        let explained = run("explain", &["-direction=in", "-destination=10.244.1.7:9000", &source]);
        assert!(explained.starts_with(verdict), "{explained}");
    }
    netns::NetNs::unbind(&file).expect("unbound");
}
