//! The protocol: versions, and input that is none.

use crate::bed::{Node, annotations, config};
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case("0.3.0")]
#[case("0.3.1")]
#[case("0.4.0")]
#[case("1.0.0")]
#[case("1.1.0")]
fn every_version(#[case] version: &str) {
    let node = Node::new();
    let ip = if version < "1.0.0" {
        json!({"version": "4", "address": "10.9.0.1/24"})
    } else {
        json!({"address": "10.9.0.1/24"})
    };
    for annotations in [annotations(&config(), false), json!({})] {
        let previous = json!({"cniVersion": version, "ips": [ip], "dns": {}});
        let conf = json!({
            "cniVersion": version, "name": "net", "type": "consul-cni", "prevResult": previous,
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
        });
        let called = node.add(&conf.to_string());
        assert!(called.succeeded, "{called:?}");
        assert_eq!(serde_json::from_str::<Value>(&called.stdout).ok(), Some(previous));
    }
    let refused = node.add(
        &json!({"cniVersion": version, "name": "net", "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {
            "consul.hashicorp.com/connect-inject-status": "x", "consul.hashicorp.com/transparent-proxy-status": "x",
        }}})
        .to_string(),
    );
    assert_eq!(refused.error()["cniVersion"], version, "an error is in the version of the configuration");
}

#[test]
fn versions_are_told() {
    let node = Node::new();
    let called = node.call("VERSION", r#"{"cniVersion":"1.1.0"}"#, &[]);
    let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    let told: Option<Value> = serde_json::from_str(&called.stdout).ok();
    assert_eq!(told, Some(json!({"cniVersion": "1.1.0", "supportedVersions": all})));
}

#[rstest]
#[case::unknown_version(r#"{"cniVersion":"2.0.0","name":"net"}"#, 1, "2.0.0")]
#[case::empty("", 6, "failed to parse network configuration")]
#[case::cut_off(r#"{"cniVersion":"1.0.0""#, 6, "failed to parse network configuration")]
#[case::list("[]", 6, "failed to parse network configuration")]
#[case::wrong_type(r#"{"cniVersion":1}"#, 6, "failed to parse network configuration")]
#[case::previous_of_another_kind(
    r#"{"cniVersion":"1.0.0","name":"net","prevResult":7}"#,
    6,
    "could not parse prevResult"
)]
#[case::annotations_of_another_kind(
    r#"{"cniVersion":"1.0.0","name":"net","runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":1}}}"#,
    6,
    "expected a string"
)]
fn configurations_that_are_none(#[case] stdin: &str, #[case] code: u64, #[case] part: &str) {
    let node = Node::new();
    for verb in ["ADD", "CHECK"] {
        node.call(verb, stdin, &[]).fails(code, part);
    }
    assert_eq!(node.rules(), 0);
}

#[rstest]
#[case::verb(&[("CNI_COMMAND", "add")], "CNI_COMMAND is \"add\"")]
#[case::several_missing(&[("CNI_NETNS", ""), ("CNI_CONTAINERID", "")], "CNI_CONTAINERID, CNI_NETNS must be set")]
#[case::no_pod(&[("CNI_ARGS", "IgnoreUnknown=1")], "not running in a pod")]
#[case::no_pair(&[("CNI_ARGS", "K8S_POD_NAME")], "invalid pair")]
fn environments_that_are_none(#[case] variables: &[(&str, &str)], #[case] part: &str) {
    let node = Node::new();
    node.call("ADD", &node.conf(Some(&annotations(&config(), false))), variables).fails(4, part);
    assert_eq!(node.rules(), 0);
}

#[test]
fn two_megabytes_of_annotations() {
    let node = Node::new();
    let mut annotations = annotations(&config(), false);
    annotations["note"] = json!("x".repeat(2 * 1024 * 1024));
    let called = node.add(&node.conf(Some(&annotations)));
    assert!(called.succeeded, "{} {}", called.stdout, called.stderr);
    node.obeys(&config(), false);
}

#[test]
fn deep_nesting_is_refused() {
    let node = Node::new();
    let conf = format!(r#"{{"cniVersion":"1.0.0","name":"net","args":{}}}"#, "[".repeat(100_000));
    node.add(&conf).fails(6, "failed to parse network configuration");
}
