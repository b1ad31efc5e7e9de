//! Debian's own plugins and ours in one chain, called as libcni calls them: `ptp` with `host-local`, then `portmap`, then ours.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netns::NetNs;
use redirect::Policy;
use serde_json::{Value, json};

use crate::bed::{annotations, config, sh};

const DEBIAN: &str = "/usr/lib/cni";
const NODE: &str = "192.0.2.1";
const HOST_PORT: u16 = 18080;

struct Chain {
    node: NetNs,
    client: NetNs,
    pod: NetNs,
    state: tempfile::TempDir,
}

impl Chain {
    fn new() -> Self {
        let namespace = || NetNs::create().expect("a namespace");
        let chain = Self {
            node: namespace(),
            client: namespace(),
            pod: namespace(),
            state: tempfile::tempdir().expect("a directory"),
        };
        sh(
            &chain.node,
            &format!(
                "ip link set lo up; ip link add out0 type veth peer name eth0 netns {}
             ip addr add {NODE}/24 dev out0; ip link set out0 up; echo 1 > /proc/sys/net/ipv4/ip_forward",
                chain.client.proc_path().display()
            ),
        );
        sh(&chain.client, "ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up");
        chain
    }

    fn plugins(&self) -> Vec<(PathBuf, Value)> {
        let ipam = json!({
            "type": "host-local", "dataDir": self.state.path(),
            "ranges": [[{"subnet": "10.22.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
        });
        let mapping = json!({"hostPort": HOST_PORT, "containerPort": 8080, "protocol": "tcp"});
        let debian = |name: &str| Path::new(DEBIAN).join(name);
        vec![
            (debian("ptp"), json!({"type": "ptp", "ipam": ipam})),
            (debian("portmap"), json!({"type": "portmap", "runtimeConfig": {"portMappings": [mapping]}})),
            (
                env!("CARGO_BIN_EXE_consul-cni").into(),
                json!({"type": "consul-cni", "runtimeConfig": {
                    "io.kubernetes.cri.pod-annotations": annotations(&config(), false),
                }}),
            ),
        ]
    }

    /// One plugin with its entry, completed.
    fn call(&self, verb: &str, (program, entry): &(PathBuf, Value), previous: &Value) -> Value {
        let mut conf = entry.clone();
        conf["cniVersion"] = json!("1.0.0");
        conf["name"] = json!("net");
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        let mut command = Command::new(program);
        command.env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", DEBIAN),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
        ]);
        command.env("CNI_NETNS", self.pod.proc_path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.node.run(|| command.spawn()).expect("enter").unwrap_or_else(|error| {
            panic!("{}: {error}; install Debian's package containernetworking-plugins", program.display())
        });
        child.stdin.take().expect("piped").write_all(conf.to_string().as_bytes()).ok();
        let output = child.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{verb} of {}: {said}", program.display());
        serde_json::from_str(&said).unwrap_or_default()
    }

    fn add(&self) -> Value {
        self.plugins().iter().fold(Value::Null, |previous, plugin| self.call("ADD", plugin, &previous))
    }
}

#[test]
fn one_chain() {
    let chain = Chain::new();
    let (all, ours) = (chain.plugins(), 2);
    let others = all[..ours].iter().fold(Value::Null, |previous, plugin| chain.call("ADD", plugin, &previous));
    let result = chain.call("ADD", &all[ours], &others);
    assert_eq!(result, others, "the result is handed on");

    // what comes in by the mapped port is redirected to the proxy
    let inbound = chain.pod.tcp_listen(SocketAddr::new([0, 0, 0, 0].into(), 20000)).expect("listen");
    inbound.set_nonblocking(false).expect("a plain listener");
    let to = SocketAddr::new(NODE.parse::<IpAddr>().expect("an address"), HOST_PORT);
    let dial = || std::net::TcpStream::connect_timeout(&to, crate::bed::DEADLINE);
    let dialled = chain.client.run(dial).expect("enter").expect("connect");
    let (_, peer) = inbound.accept().expect("accept");
    assert_eq!(peer, dialled.local_addr().expect("an address"));

    let mut wanted = config();
    wanted.proof = true;
    wanted.proxy_group_id.clone_from(&wanted.proxy_user_id);
    let policy = Policy::from_config(&wanted, false).expect("a valid configuration");
    let drift = || chain.pod.run(|| redirect::verify(&policy)).expect("enter").expect("read the rules").drift;
    assert!(drift().is_empty());
    chain.call("CHECK", &all[ours], &result);
    for plugin in all.iter().rev() {
        chain.call("DEL", plugin, &result);
    }
    let leases = std::fs::read_dir(chain.state.path().join("net")).expect("the state").flatten();
    let addresses = leases.filter(|entry| entry.file_name().to_string_lossy().starts_with("10."));
    assert_eq!(addresses.count(), 0, "its address is free");
    let again = chain.add();
    assert!(again["ips"][0]["address"].as_str().is_some_and(|address| address.starts_with("10.22.0.")), "{again}");
}
