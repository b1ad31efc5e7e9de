//! A Pod's network namespace, and the programs run in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use netns::NetNs;
use redirect::kernel::{Line, held};
use redirect::{Backend, Config};

use crate::fake::{Consul, REGISTERED};

/// The servers are elsewhere, so that rules apply to the way to them.
pub(crate) const SERVERS: &str = "172.18.255.2";
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn config() -> Config {
    Config {
        proxy_user_id: "5995".into(),
        proxy_inbound_port: 20000,
        proxy_outbound_port: 15001,
        exclude_inbound_ports: vec!["20400".into()],
        exclude_outbound_cidrs: vec!["3.3.3.0/24".into()],
        ..Config::default()
    }
}

/// A Pod's namespace with a catalogue in it, and a volume.
pub(crate) struct Pod {
    pub(crate) namespace: NetNs,
    pub(crate) volume: tempfile::TempDir,
}

impl Pod {
    pub(crate) fn new() -> Self {
        let namespace = NetNs::create().expect("a namespace");
        for words in [&["link", "set", "lo", "up"][..], &["address", "add", SERVERS, "dev", "lo"]] {
            let done = namespace.run(|| Command::new("ip").args(words).status());
            assert!(done.expect("enter").expect("start ip").success(), "{words:?}");
        }
        Self { namespace, volume: tempfile::tempdir().expect("a volume") }
    }

    /// Default routes of both families, as a node's end of a veth pair is one.
    pub(crate) fn route_by(&self, gateways: &[&str]) {
        let ip = |words: &[&str]| {
            let done = self.namespace.run(|| Command::new("ip").args(words).status());
            assert!(done.expect("enter").expect("start ip").success(), "{words:?}");
        };
        ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
        for words in [&["link", "set", "eth0", "up"][..], &["link", "set", "eth1", "up"]] {
            ip(words);
        }
        for gateway in gateways {
            let family = if gateway.contains(':') { "-6" } else { "-4" };
            ip(&[family, "route", "append", "default", "via", gateway, "dev", "eth0", "onlink"]);
        }
    }

    pub(crate) fn with_consul() -> (Self, Consul) {
        let pod = Self::new();
        let listener = pod.namespace.tcp_listen(format!("{SERVERS}:8500").parse().expect("literal")).expect("listen");
        (pod, Consul::serve(listener, REGISTERED, true))
    }

    /// Runs the program behind `wrapper`, which is empty or a program and its arguments.
    pub(crate) fn connect_init(&self, path: &str, wrapper: &[&str], backend: Backend, dual_stack: bool) -> Output {
        self.start(path, wrapper, backend, dual_stack).wait_with_output().expect("ran")
    }

    /// [`Self::connect_init`], which goes on.
    pub(crate) fn start(&self, path: &str, wrapper: &[&str], backend: Backend, dual_stack: bool) -> Child {
        self.start_with(&config(), &[], &[], path, wrapper, backend, dual_stack)
    }

    /// Runs the program with a configuration and variables of the test's own.
    pub(crate) fn connect_init_with(&self, config: &Config, variables: &[(&str, &str)], dual_stack: bool) -> Output {
        let started = self.start_with(config, &[], variables, PATH, &[], Backend::Auto, dual_stack);
        started.wait_with_output().expect("ran")
    }

    /// Runs the program with arguments and variables of the test's own.
    pub(crate) fn connect_init_saying(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let started = self.start_with(&config(), arguments, variables, PATH, &[], Backend::Auto, false);
        started.wait_with_output().expect("ran")
    }

    #[expect(clippy::too_many_arguments, reason = "what tests vary, each by itself")]
    fn start_with(
        &self,
        config: &Config,
        arguments: &[&str],
        variables: &[(&str, &str)],
        path: &str,
        wrapper: &[&str],
        backend: Backend,
        dual_stack: bool,
    ) -> Child {
        let program = env!("CARGO_BIN_EXE_connect-init");
        let words: Vec<&str> = wrapper.iter().copied().chain([program]).collect();
        let file = self.volume.path().join("proxyid");
        let run = || {
            Command::new(words[0])
                .args(&words[1..])
                .args(["-pod-name=web-0", "-pod-namespace=shop", "-consul-node-name=node-0-virtual"])
                .arg(format!("-proxy-id-file={}", file.display()))
                .arg(format!("-rule-backend={backend}"))
                .args(arguments)
                .env_clear()
                .env("PATH", path)
                .env("CONSUL_ADDRESSES", SERVERS)
                .env("CONSUL_DUAL_STACK", dual_stack.to_string())
                .env("CONSUL_REDIRECT_TRAFFIC_CONFIG", config.to_json())
                .envs(variables.iter().copied())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        self.namespace.run(run).expect("enter").expect("start")
    }

    /// Runs `redirect-traffic` in the namespace.
    pub(crate) fn redirect_traffic(&self, arguments: &[&str]) -> Output {
        self.namespace.run(|| redirect_traffic(arguments)).expect("enter")
    }

    pub(crate) fn rules(&self) -> Vec<Line> {
        self.namespace.run(held).expect("enter").expect("readable")
    }
}

/// Runs `redirect-traffic` here.
pub(crate) fn redirect_traffic(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_redirect-traffic"))
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .output()
        .expect("start")
}

/// What it printed as its result.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A failure, and its one line.
pub(crate) fn failure(output: &Output) -> String {
    let told = told(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.matches("connect-init: failed to ").count(), 1, "{told}");
    told
}

/// A directory with the system's iptables programs, some replaced by scripts.
pub(crate) fn path_with(directory: &Path, replaced: &[(&str, &str)]) -> String {
    for (name, script) in replaced {
        let file = directory.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    format!("{}:{PATH}", directory.display())
}
