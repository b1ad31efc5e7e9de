//! `CHECK`, `STATUS`, `DEL` and `GC`.

use crate::bed::{Node, annotations, config, sh};
use rstest::rstest;
use serde_json::json;

#[test]
fn check_tells_the_truth() {
    let node = Node::new();
    let conf = node.conf(Some(&annotations(&config(), true)));
    node.call("CHECK", &conf, &[]).fails(103, "the redirection of pod default/web is not in force");
    assert!(node.add(&conf).succeeded);
    let called = node.call("CHECK", &conf, &[]);
    assert!(called.succeeded && called.stdout.is_empty(), "{called:?}");
    sh(&node.pod, "nft flush ruleset");
    node.call("CHECK", &conf, &[]).fails(103, "delete the pod");
    assert!(node.call("CHECK", &node.conf(Some(&json!({}))), &[]).succeeded, "a Pod that is not of the mesh");
}

#[test]
fn status() {
    let node = Node::new();
    let called = node.call("STATUS", r#"{"cniVersion":"1.1.0","name":"net","type":"consul-cni"}"#, &[]);
    assert!(called.succeeded && called.stdout.is_empty() && called.stderr.is_empty(), "{called:?}");
}

#[test]
fn status_without_a_right_to_redirect() {
    let node = Node::new();
    let plugin = env!("CARGO_BIN_EXE_consul-cni");
    let script = format!(
        "echo '{{\"cniVersion\":\"1.1.0\",\"name\":\"net\"}}' | setpriv --bounding-set -all --inh-caps -all {plugin}"
    );
    let run = || std::process::Command::new("sh").args(["-c", &script]).env("CNI_COMMAND", "STATUS").output();
    let output = node.namespace.run(run).expect("enter").expect("start sh");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && answer.contains("\"code\":50"), "{answer}");
}

#[rstest]
#[case::usual("DEL", None)]
#[case::namespace_gone("DEL", Some(("CNI_NETNS", "/run/netns/gone")))]
#[case::no_namespace("DEL", Some(("CNI_NETNS", "")))]
#[case::garbage("GC", None)]
fn nothing_to_remove(#[case] verb: &str, #[case] variable: Option<(&str, &str)>) {
    let node = Node::new();
    for stdin in [node.conf(Some(&annotations(&config(), false))), node.conf(None), "{".to_owned(), String::new()] {
        let called = node.call(verb, &stdin, variable.as_slice());
        assert!(called.succeeded && called.stdout.is_empty(), "{verb} {stdin:?}: {called:?}");
    }
}
