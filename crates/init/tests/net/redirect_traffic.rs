//! `redirect-traffic`: what its operations do to a namespace, and what they say.

use std::net::SocketAddr;
use std::process::Output;

use redirect::kernel::demanded;
use redirect::{Backend, Config, Policy};
use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{Consul, REGISTERED};
use crate::pod::*;

const FLAGS: [&str; 5] = [
    "-proxy-uid=5995",
    "-proxy-inbound-port=20000",
    "-exclude-inbound-port=20400",
    "-exclude-outbound-cidr=3.3.3.0/24",
    "-dual-stack=false",
];

fn words<'a>(operation: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[operation], &FLAGS[..], more].concat()
}

fn policy(config: &Config) -> Policy {
    Policy::from_config(config, false).expect("valid")
}

#[track_caller]
fn ended(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{}{}", printed(output), told(output));
    printed(output)
}

fn document(output: &Output, status: i32) -> Value {
    serde_json::from_str(&ended(output, status)).expect("one JSON document")
}

#[rstest]
#[case(Backend::Nftables)]
#[case(Backend::IptablesNft)]
#[case(Backend::IptablesLegacy)]
fn rules_come_are_checked_and_go(#[case] backend: Backend) {
    let pod = Pod::new();
    let by = format!("-rule-backend={backend}");
    assert!(
        ended(&pod.redirect_traffic(&words("verify", &[&by])), 2).starts_with("Traffic redirection rules differ in ")
    );
    for said in [format!("by {backend}"), "in force already".to_owned()] {
        let text = ended(&pod.redirect_traffic(&words("apply", &[&by])), 0);
        assert!(text.starts_with("Successfully applied traffic redirection rules\n") && text.contains(&said), "{text}");
    }
    assert_eq!(pod.rules(), demanded(backend, &policy(&config())));
    // which backend is found out
    let text = ended(&pod.redirect_traffic(&words("verify", &[])), 0);
    assert!(text.starts_with("Traffic redirection rules are in force\n") && text.contains(backend.name()), "{text}");

    let drift = document(&pod.redirect_traffic(&words("verify", &["-json", "-exclude-uid=1"])), 2);
    assert!(drift["drift"].as_array().is_some_and(|list| !list.is_empty()), "{drift}");
    assert_eq!(drift["backend"], backend.name());

    assert_eq!(document(&pod.redirect_traffic(&["remove", "-json"]), 0), json!({"removed": true}));
    assert_eq!(pod.rules(), Vec::new());
    assert_eq!(document(&pod.redirect_traffic(&["remove", "-json"]), 0), json!({"removed": false}));
}

/// As `consul connect redirect-traffic` is called for another namespace, from outside.
#[test]
fn another_namespace_is_named_by_its_path() {
    let pod = Pod::new();
    let file = pod.volume.path().join("netns");
    pod.namespace.bind(&file).expect("bound");
    let by_path = format!("-netns={}", file.display());
    let elsewhere = Pod::new();
    let arguments = [&["connect", "redirect-traffic"], &FLAGS[..], &[&by_path]].concat();
    ended(&elsewhere.redirect_traffic(&arguments), 0);
    assert_eq!(pod.rules(), demanded(Backend::Nftables, &policy(&config())));
    assert_eq!(elsewhere.rules(), Vec::new());
    netns::NetNs::unbind(&file).expect("unbound");

    let output = elsewhere.redirect_traffic(&arguments);
    ended(&output, 1);
    let told = told(&output);
    assert!(
        told.starts_with("Error setting up traffic redirection rules: follow -netns = ") && told.contains("netns"),
        "{told}"
    );
}

#[test]
fn a_dry_run_prints_for_every_backend_and_does_nothing() {
    let pod = Pod::new();
    let scripts = document(&pod.redirect_traffic(&words("apply", &["-dry-run", "-json"])), 0);
    for (place, backend, word) in [
        ("nftables", "nftables", "table inet pellucid_tproxy"),
        ("iptables", "iptables-nft", "*nat"),
        ("iptables", "iptables-legacy", "-A CONSUL_PROXY_OUTPUT -d 3.3.3.0/24 -j RETURN"),
    ] {
        let found = scripts.as_array().expect("a list").iter().any(|part| {
            part["place"] == place
                && part["backend"] == backend
                && part["script"].as_str().is_some_and(|s| s.contains(word))
        });
        assert!(found, "{backend}: {scripts}");
    }
    let one = ended(&pod.redirect_traffic(&words("apply", &["-dry-run", "-rule-backend=nftables"])), 0);
    assert!(one.starts_with("# nftables: nf_tables\n") && !one.contains("*nat"), "{one}");
    assert_eq!(pod.rules(), Vec::new());
}

#[rstest]
#[case::captured(&["-destination=10.0.0.1:80", "-uid=1000"], "is redirected to port 15001")]
#[case::the_proxy(&["-destination=10.0.0.1:80", "-uid=5995"], "goes where it was sent")]
#[case::excluded(&["-destination=3.3.3.9:80"], "goes where it was sent")]
#[case::arriving(&["-destination=10.0.0.1:80", "-source=10.0.0.2:999", "-direction=in"], "is redirected to port 20000")]
#[case::datagram(&["-destination=10.0.0.1:80", "-protocol=udp"], "goes where it was sent")]
#[case::own_address(&["-destination=172.18.255.2:80", "-safeguard=local-direct"], "goes where it was sent")]
#[case::not_own_address(&["-destination=172.18.255.3:80", "-safeguard=local-direct"], "is redirected to port 15001")]
fn a_packet_is_explained(#[case] packet: &[&str], #[case] verdict: &str) {
    let pod = Pod::new();
    let explained = document(&pod.redirect_traffic(&words("explain", &[packet, &["-json"]].concat())), 0);
    assert_eq!(explained["verdict"], verdict, "{explained}");
    assert!(explained["because"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{explained}");
    let text = ended(&pod.redirect_traffic(&words("explain", packet)), 0);
    assert!(text.starts_with(verdict) && text.lines().count() > 1, "{text}");
}

#[test]
fn the_registration_says_the_ports() {
    let (pod, consul) = Pod::with_consul();
    let proxy = serde_json::from_str::<Vec<Value>>(REGISTERED).expect("JSON").pop().expect("a proxy");
    let consul = Consul::serve(
        pod.namespace.tcp_listen(SocketAddr::new(consul.address.ip(), 8600)).expect("listen"),
        &json!([proxy]).to_string(),
        true,
    );
    let address = format!("-http-addr={}", consul.address);
    let arguments = [
        "-proxy-uid=5995",
        "-proxy-id=web-0-web-sidecar-proxy",
        "-node-name=node-0-virtual",
        "-namespace=team",
        "-stale",
        &address,
        "-exclude-inbound-port=20400",
    ];
    // a second time over the rules of the first, which would lead the look-up to a proxy that is not there
    for _ in 0..2 {
        ended(&pod.redirect_traffic(&arguments), 0);
        let expected = Config {
            proxy_outbound_port: 15002,
            exclude_inbound_ports: vec!["9102".into(), "20400".into()],
            exclude_outbound_cidrs: Vec::new(),
            ..config()
        };
        assert_eq!(pod.rules(), demanded(Backend::Nftables, &policy(&expected)));
    }
    let target = consul.requests().remove(0);
    for part in [
        "/v1/catalog/node-services/node-0-virtual?",
        "ns=team",
        "stale",
        "merge-central-config",
        "filter=ID%20%3D%3D%20%22web-0-web-sidecar-proxy%22",
    ] {
        assert!(target.contains(part), "{target} lacks {part}");
    }
}

#[rstest]
#[case::nothing("null", "proxy service with ID \"web-proxy\" not found on node \"node-0-virtual\"")]
#[case::two(r#"[{"ID": "web-proxy"}, {"ID": "web-proxy"}]"#, "expected to find only one proxy service")]
#[case::an_application(r#"[{"ID": "web-proxy", "Port": 80}]"#, "service web-proxy is not a proxy service")]
#[case::an_odd_value(
    r#"[{"ID": "web-proxy", "Port": 80, "Proxy": {"Config": {"bind_port": "x"}}}]"#,
    "bind_port = \"x\""
)]
fn a_registration_that_is_no_proxys_is_refused(#[case] services: &str, #[case] expected: &str) {
    let pod = Pod::new();
    let listener = pod.namespace.tcp_listen("127.0.0.1:8500".parse().expect("literal")).expect("listen");
    let _consul = Consul::serve(listener, services, true);
    let output = pod.redirect_traffic(&["-proxy-uid=1", "-proxy-id=web-proxy", "-node-name=node-0-virtual", "-json"]);
    let error = document(&output, 1);
    assert!(error["error"].as_str().is_some_and(|text| text.contains(expected)), "{error}");
    assert!(told(&output).starts_with("Error setting up traffic redirection rules: "), "{}", told(&output));
    assert_eq!(pod.rules(), Vec::new());
}

#[test]
fn no_catalogue_and_no_right_are_told() {
    let pod = Pod::new();
    let output = pod.redirect_traffic(&["-proxy-uid=1", "-proxy-id=a", "-node-name=b"]);
    ended(&output, 1);
    assert!(told(&output).contains("ask Consul server 127.0.0.1:8500"), "{}", told(&output));
    let output = pod.redirect_traffic(&["-proxy-uid=1", "-proxy-inbound-port=2", "-exclude-uid=x", "-exclude-gid=y"]);
    ended(&output, 1);
    let told = told(&output);
    assert!(told.contains("ExcludeUIDs entry 1 \"x\"") && told.contains("ExcludeGIDs entry 1 \"y\""), "{told}");
}

/// A value is told as it was given, whatever is in it.
#[test]
fn each_mistake_is_a_line() {
    let output = redirect_traffic(&["-proxy-inbound-port=2; 3", "-rule-backend=nft"]);
    ended(&output, 1);
    let told = told(&output);
    assert_eq!(told.lines().count(), 4, "{told}");
    assert!(told.lines().any(|line| line.starts_with("-proxy-inbound-port = \"2; 3\": must be a port")), "{told}");
}
