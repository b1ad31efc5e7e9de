//! What an `ADD` refuses, and that nothing is half done then.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::bed::{Node, annotations, config, sh};
use redirect::Config;
use rstest::rstest;
use serde_json::{Value, json};

fn with(key: &str, value: Value) -> Value {
    let mut annotations = annotations(&config(), false);
    annotations[format!("consul.hashicorp.com/{key}")] = value;
    annotations
}

#[rstest]
#[case::no_json(with("redirect-traffic-config", json!("{")), 100, "could not unmarshal consul.hashicorp.com/redirect-traffic-config annotation for default/web pod")]
#[case::port(with("redirect-traffic-config", json!(Config { exclude_inbound_ports: vec!["70000".into()], ..config() }.to_json())), 100, "70000")]
#[case::script(with("redirect-traffic-config", json!(Config { exclude_outbound_cidrs: vec!["$(reboot)".into()], ..config() }.to_json())), 100, "$(reboot)")]
#[case::no_proxy(with("redirect-traffic-config", json!("{}")), 100, "default/web")]
fn settings_of_the_pod(#[case] annotations: Value, #[case] code: u64, #[case] part: &str) {
    let node = Node::new();
    node.add(&node.conf(Some(&annotations))).fails(code, part);
    assert_eq!(node.rules(), 0);
}

#[test]
fn half_of_the_annotations() {
    let node = Node::new();
    let mut half = annotations(&config(), false);
    half.as_object_mut().expect("an object").remove("consul.hashicorp.com/dual-stack");
    node.add(&node.conf(Some(&half))).fails(100, "could not find consul.hashicorp.com/dual-stack annotation");
    assert_eq!(node.rules(), 0);
}

#[rstest]
#[case::no_agent("", "hands over no annotations")]
#[case::agent_away(r#""agent_socket": "/nonexistent/socket","#, "error retrieving pod default/web")]
fn nobody_knows_the_annotations(#[case] more: &str, #[case] part: &str) {
    let node = Node::new();
    let called = node.add(&node.conf_with(None, more));
    assert!(called.error()["msg"].as_str().is_some_and(|message| message.contains(part)), "{called:?}");
    assert_eq!(node.rules(), 0);
}

#[rstest]
#[case::fresh(Some(0), true)]
#[case::a_new_version_is_fetched(Some(200), true)]
#[case::old(Some(600), false)]
#[case::gone(None, false)]
fn leases(#[case] age: Option<u64>, #[case] admitted: bool) {
    let node = Node::new();
    let path = node.directory.path().join("lease");
    if let Some(age) = age {
        let file = File::create(&path).expect("a file");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
    }
    let more = format!(r#""lease": "{}","#, path.display());
    let called = node.add(&node.conf_with(Some(&annotations(&config(), false)), &more));
    if admitted {
        assert!(called.succeeded, "{called:?}");
    } else {
        called.fails(11, "the node agent of consul-cni has");
        assert_eq!(node.rules(), 0);
    }
    assert!(node.add(&node.conf_with(Some(&json!({})), &more)).succeeded, "a Pod that is not of the mesh passes");
}

#[test]
fn another_translation_comes_first() {
    let node = Node::new();
    sh(
        &node.pod,
        "nft add table ip other
         nft add chain ip other out '{ type nat hook output priority -150; }'
         nft add rule ip other out meta l4proto tcp ip daddr != 127.0.0.1 redirect to :9",
    );
    let called = node.add(&node.conf(Some(&annotations(&config(), false))));
    called.fails(102, "a dial of 127.0.0.2");
}

#[test]
fn the_nodes_own_network() {
    let node = Node::new();
    let own = node.namespace.proc_path().display().to_string();
    let called = node.call("ADD", &node.conf(Some(&annotations(&config(), false))), &[("CNI_NETNS", &own)]);
    called.fails(4, "the node's own network");
    let rules = node.namespace.run(redirect::kernel::held).expect("enter").expect("read the rules");
    assert!(rules.is_empty(), "{rules:?}");
}

#[test]
fn a_namespace_that_is_gone() {
    let node = Node::new();
    let called =
        node.call("ADD", &node.conf(Some(&annotations(&config(), false))), &[("CNI_NETNS", "/run/netns/gone")]);
    called.fails(5, "/run/netns/gone");
}

#[test]
fn no_address() {
    let node = Node::new();
    let without = |annotations: &Value| {
        let conf: Value = serde_json::from_str(&node.conf(Some(annotations))).expect("JSON");
        let mut conf = conf;
        conf["prevResult"]["ips"] = json!([]);
        conf.to_string()
    };
    node.add(&without(&annotations(&config(), false))).fails(7, "got no container IPs");
    assert!(node.add(&without(&json!({}))).succeeded, "a Pod that is not of the mesh passes");
}
