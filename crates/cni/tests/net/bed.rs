//! A node and a Pod on a veth pair, and the plugin run between them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use netns::NetNs;
use nix::unistd::{Uid, setfsuid};
use redirect::contract::{CONNECT_INJECT_STATUS, DUAL_STACK, REDIRECT_TRAFFIC_CONFIG, TRANSPARENT_PROXY_STATUS};
use redirect::kernel::held;
use redirect::{Config, Policy};
use serde_json::{Value, json};

pub(crate) const POD: &str = "10.9.0.1";
pub(crate) const NODE: &str = "10.9.0.2";
/// Another address of the node, which it never sends to the Pod from.
pub(crate) const ELSEWHERE: &str = "10.9.0.3";
const POD_V6: &str = "fd00:9::1";
pub(crate) const NODE_V6: &str = "fd00:9::2";

/// Generous: only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

pub(crate) fn config() -> Config {
    Config {
        proxy_user_id: "5995".into(),
        proxy_inbound_port: 20000,
        proxy_outbound_port: 15001,
        exclude_uids: vec!["5996".into()],
        ..Config::default()
    }
}

/// Annotations of a Pod of the mesh.
pub(crate) fn annotations(config: &Config, dual_stack: bool) -> Value {
    json!({
        CONNECT_INJECT_STATUS: "injected",
        TRANSPARENT_PROXY_STATUS: "enabled",
        REDIRECT_TRAFFIC_CONFIG: config.to_json(),
        DUAL_STACK: dual_stack.to_string(),
    })
}

/// What the plugin before this one has made. The bytes are not those that a serialiser would write.
pub(crate) fn previous() -> String {
    format!(
        r#"{{ "cniVersion": "1.0.0", "ips": [{{"address":"{POD}/24"}}, {{"address":"{POD_V6}/64"}}], "ours": 1e2 }}"#
    )
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) succeeded: bool,
}

impl Called {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self { stdout: text(output.stdout), stderr: text(output.stderr), succeeded: output.status.success() }
    }

    /// The error, of a call that failed.
    pub(crate) fn error(&self) -> Value {
        assert!(!self.succeeded, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn fails(&self, code: u64, part: &str) {
        let error = self.error();
        let text = [&error["msg"], &error["details"]].map(|text| text.as_str().unwrap_or_default()).join(" ");
        assert!(error["code"] == code && text.contains(part), "expected {code} and {part:?}: {error}");
    }
}

pub(crate) struct Node {
    pub(crate) namespace: NetNs,
    pub(crate) pod: NetNs,
    pub(crate) directory: tempfile::TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        let node = Self {
            namespace: NetNs::create().expect("a namespace"),
            pod: NetNs::create().expect("a namespace"),
            directory: tempfile::tempdir().expect("a directory"),
        };
        let pod = node.pod.proc_path();
        sh(&node.namespace, &format!(
            "ip link set lo up
             ip link add veth0 type veth peer name eth0 netns {pod}
             ip addr add {NODE}/24 dev veth0; ip addr add {ELSEWHERE}/24 dev veth0; ip -6 addr add {NODE_V6}/64 dev veth0 nodad
             ip link set veth0 up",
            pod = pod.display(),
        ));
        sh(
            &node.pod,
            &format!(
                "ip addr add {POD}/24 dev eth0; ip -6 addr add {POD_V6}/64 dev eth0 nodad; ip link set eth0 up
             ip route add default via {NODE}"
            ),
        );
        node
    }

    /// The entry of a configuration list, as a runtime completes it.
    pub(crate) fn conf(&self, annotations: Option<&Value>) -> String {
        self.conf_with(annotations, "")
    }

    /// With further keys, each with a comma behind it.
    pub(crate) fn conf_with(&self, annotations: Option<&Value>, more: &str) -> String {
        let runtime = annotations.map_or_else(String::new, |annotations| {
            format!(r#""runtimeConfig": {{"io.kubernetes.cri.pod-annotations": {annotations}}},"#)
        });
        let previous = previous();
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "net", "type": "consul-cni", {runtime} {more} "prevResult": {previous}}}"#
        )
    }

    pub(crate) fn add(&self, stdin: &str) -> Called {
        self.call("ADD", stdin, &[])
    }

    /// Runs the plugin on the node.
    pub(crate) fn call(&self, verb: &str, stdin: &str, variables: &[(&str, &str)]) -> Called {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consul-cni"));
        command.env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u-1"),
        ]);
        command.env("CNI_NETNS", self.pod.proc_path()).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.namespace.run(|| command.spawn()).expect("enter").expect("start the plugin");
        // a plugin that ends before it has read everything is judged by what it says
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).ok();
        Called::of(child.wait_with_output().expect("wait"))
    }

    /// How many rules the Pod has.
    pub(crate) fn rules(&self) -> usize {
        self.pod.run(held).expect("enter").expect("read the rules").len()
    }

    /// Whether the Pod's rules are those of a configuration, and no others.
    pub(crate) fn obeys(&self, config: &Config, dual_stack: bool) {
        let config = Config { proof: true, proxy_group_id: config.proxy_user_id.clone(), ..config.clone() };
        self.has_rules_of(&config, dual_stack);
    }

    pub(crate) fn has_rules_of(&self, config: &Config, dual_stack: bool) {
        let policy = Policy::from_config(config, dual_stack).expect("a valid configuration");
        let verified = self.pod.run(|| redirect::verify(&policy)).expect("enter").expect("read the rules");
        assert!(verified.drift.is_empty(), "{:?}", verified.drift);
    }

    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        let listener = self.pod.tcp_listen(SocketAddr::new([0, 0, 0, 0].into(), port)).expect("listen");
        listener.set_nonblocking(false).expect("a plain listener");
        listener
    }

    /// Dials the Pod from an address of the node.
    pub(crate) fn dial_pod(&self, from: &str, port: u16) -> TcpStream {
        let from: IpAddr = from.parse().expect("an address");
        let to = SocketAddr::new(POD.parse().expect("an address"), port);
        let dial = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), DEADLINE)?;
            Ok::<TcpStream, std::io::Error>(socket.into())
        };
        self.namespace.run(dial).expect("enter").expect("connect")
    }

    /// Dials from the Pod as a user.
    pub(crate) fn dial_as(&self, uid: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
        let dial = || {
            setfsuid(Uid::from_raw(uid));
            TcpStream::connect_timeout(&to, DEADLINE)
        };
        self.pod.run(dial).expect("enter")
    }
}

/// Runs a shell script in the namespace.
pub(crate) fn sh(namespace: &NetNs, script: &str) {
    let run = || Command::new("sh").args(["-ec", script]).stdin(Stdio::null()).output();
    let output = namespace.run(run).expect("enter").expect("start sh");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}
