//! `ADD`: which Pods are redirected, and what that does to connections.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use crate::bed::{ELSEWHERE, NODE, NODE_V6, Node, annotations, config, previous, sh};
use redirect::Config;
use rstest::rstest;
use serde_json::{Value, json};

#[test]
fn a_pod_of_the_mesh_is_redirected() {
    let node = Node::new();
    let called = node.add(&node.conf(Some(&annotations(&config(), false))));
    assert!(called.succeeded, "{called:?}");
    assert_eq!(called.stdout, previous(), "the previous result is handed on, byte for byte");
    node.obeys(&config(), false);
    let (proxy, inbound) = (node.listen(15001), node.listen(20000));
    node.dial_as(1000, "192.0.2.1:80".parse().expect("an address")).expect("the proxy answers");
    proxy.accept().expect("the dial has gone to the proxy");
    node.dial_pod(NODE, 8080);
    inbound.accept().expect("the dial has gone to the proxy");
}

#[rstest]
#[case::no_annotations(json!({}))]
#[case::not_injected(json!({"consul.hashicorp.com/connect-inject": "true", "consul.hashicorp.com/transparent-proxy": "true"}))]
#[case::not_transparent(json!({"consul.hashicorp.com/connect-inject-status": "injected"}))]
fn another_pod_is_left_alone(#[case] annotations: Value) {
    let node = Node::new();
    // nothing that the plugin could depend on is there
    let gone = r#""agent_socket": "/nonexistent/socket", "lease": "/nonexistent/lease", "log_file": "/nonexistent/log", "kubeconfig": "x","#;
    let called = node.add(&node.conf_with(Some(&annotations), gone));
    assert!(called.succeeded && called.stdout == previous(), "{called:?}");
    assert_eq!(node.rules(), 0);
}

#[test]
fn twice_is_once() {
    let node = Node::new();
    let conf = node.conf(Some(&annotations(&config(), true)));
    assert!(node.add(&conf).succeeded);
    let rules = node.rules();
    // the proxy runs by then
    let _proxy = node.listen(15001);
    let again = node.add(&conf);
    assert!(again.succeeded && again.stdout == previous(), "{again:?}");
    assert_eq!(node.rules(), rules);
    node.obeys(&config(), true);
}

fn probed() -> Config {
    Config { probe_ports: vec!["8080".into()], ..config() }
}

#[test]
fn probes_reach_the_application_from_the_node_alone() {
    let node = Node::new();
    let called = node.add(&node.conf(Some(&annotations(&probed(), false))));
    assert!(called.succeeded, "{called:?}");
    let (application, proxy) = (node.listen(8080), node.listen(20000));
    node.dial_pod(NODE, 8080);
    application.accept().expect("the probe has reached the application");
    node.dial_pod(ELSEWHERE, 8080);
    proxy.accept().expect("anybody else has reached the proxy");
    node.dial_pod(NODE, 9090);
    proxy.accept().expect("another port is the proxy's");
}

#[test]
fn ports_of_the_mesh_reach_the_rules() {
    let node = Node::new();
    let moved = Config { proxy_inbound_port: 20010, proxy_outbound_port: 15010, ..config() };
    assert!(node.add(&node.conf(Some(&annotations(&moved, false)))).succeeded);
    let (outbound, inbound) = (node.listen(15010), node.listen(20010));
    node.dial_as(1000, "192.0.2.1:80".parse().expect("an address")).expect("the proxy answers");
    outbound.accept().expect("the dial has gone to the proxy");
    node.dial_pod(NODE, 8080);
    inbound.accept().expect("the dial has gone to the proxy");
}

#[test]
fn nomad_brings_its_configuration() {
    let node = Node::new();
    let args = format!("IgnoreUnknown=true;CONSUL_IPTABLES_CONFIG={}", config().to_json());
    let called = node.call("ADD", &node.conf(None), &[("CNI_ARGS", &args)]);
    assert!(called.succeeded && called.stdout == previous(), "{called:?}");
    node.has_rules_of(&config(), false);
}

/// As Multus calls it: with the configuration of the NetworkAttachmentDefinition, and no result of a plugin before it.
#[test]
fn a_plugin_that_stands_alone() {
    let node = Node::new();
    let manifest = include_str!("../../../../clusters/consul-cni-multus/network.yaml");
    let manifest: Value = serde_yaml_ng::from_str(manifest).expect("YAML");
    let text = manifest["spec"]["config"].as_str().expect("a configuration");
    let mut conf: Value = serde_json::from_str(text).expect("JSON");
    let lease = node.directory.path().join("lease");
    std::fs::write(&lease, "an agent").expect("a lease");
    conf["lease"] = json!(lease);
    conf["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": annotations(&probed(), false)});
    let called = node.add(&conf.to_string());
    assert!(called.succeeded, "{called:?}");
    assert_eq!(serde_json::from_str::<Value>(&called.stdout).ok(), Some(json!({"cniVersion": "0.3.1"})));
    let sources = [NODE, NODE_V6].map(str::to_owned).to_vec();
    node.obeys(&Config { probe_sources: sources, ..probed() }, false);
}

/// An agent that answers one question and hears one message.
fn agent(node: &Node, answer: &Value) -> (String, std::thread::JoinHandle<Vec<Value>>) {
    let path = node.directory.path().join("agent.sock");
    let listener = UnixListener::bind(&path).expect("listen");
    let answer = answer.to_string();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for stream in listener.incoming().take(2) {
            let mut stream = stream.expect("a connection");
            let mut line = String::new();
            BufReader::new(stream.try_clone().expect("a copy")).read_line(&mut line).expect("a line");
            heard.push(serde_json::from_str(&line).expect("JSON"));
            // the plugin need not wait for it
            writeln!(stream, "{answer}").ok();
        }
        heard
    });
    (format!(r#""agent_socket": "{}","#, path.display()), heard)
}

#[test]
fn a_runtime_that_hands_over_nothing() {
    let node = Node::new();
    let (socket, heard) = agent(&node, &json!({"annotations": annotations(&config(), false)}));
    let called = node.add(&node.conf_with(None, &socket));
    assert!(called.succeeded && called.stdout == previous(), "{called:?}");
    node.obeys(&config(), false);
    let web = json!({"namespace": "default", "name": "web", "uid": "u-1"});
    assert_eq!(heard.join().expect("the agent"), [json!({"annotations": web}), json!({"redirected": web})]);
}

#[test]
fn the_application_in_a_user_namespace_of_its_own() {
    // the owner of the network's settings is a user namespace whose root is another user
    let node = Node::new();
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--user", "--net", "sleep", "60"]).stdin(std::process::Stdio::null());
    let mut holder = unshare.spawn().expect("start unshare");
    let own = netns::NetNs::current().expect("ours");
    let namespace = loop {
        match netns::NetNs::of_process(holder.id()) {
            Ok(namespace) if namespace != own => break namespace,
            _ if holder.try_wait().expect("wait").is_some() => panic!("the namespace cannot be made"),
            _ => std::thread::yield_now(),
        }
    };
    for map in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{}/{map}", holder.id()), "0 20000 20000").expect("map the users");
    }
    let conf = node.conf(Some(&annotations(&config(), false)));
    let called = node.call("ADD", &conf, &[("CNI_NETNS", &namespace.proc_path().display().to_string())]);
    holder.kill().expect("end it");
    holder.wait().expect("end it");
    assert!(called.succeeded, "{called:?}");
}

#[test]
fn the_lock_of_iptables_is_in_nobodys_way() {
    let node = Node::new();
    let lock = std::process::Command::new("flock").args(["/run/xtables.lock", "sleep", "60"]).spawn();
    let mut lock = lock.expect("start flock");
    let called = node.add(&node.conf(Some(&annotations(&config(), false))));
    let held = lock.try_wait().expect("look").is_none();
    lock.kill().expect("end it");
    lock.wait().expect("end it");
    assert!(called.succeeded && held, "{called:?}");
}

#[test]
fn nothing_is_started() {
    let node = Node::new();
    // no program could be found, and none that is found could be run
    sh(&node.namespace, "true");
    let called = node.call("ADD", &node.conf(Some(&annotations(&config(), true))), &[("PATH", "/nonexistent")]);
    assert!(called.succeeded, "{called:?}");
    node.obeys(&config(), true);
}
