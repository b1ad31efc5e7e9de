//! `connect-init` in a network namespace of its own: what it leaves there, and what it says when it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use fake::{Consul, DEADLINE, REGISTERED};
use netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redirect::rules::{Family, Ruleset, normalise};
use redirect::{Config, Policy};
use rstest::rstest;

#[expect(dead_code, reason = "the catalogue does not change under these tests")]
mod fake;

/// The servers are elsewhere, so that rules apply to the way to them.
const SERVERS: &str = "172.18.255.2";
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

fn config() -> Config {
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
struct Pod {
    namespace: NetNs,
    volume: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        let namespace = NetNs::create().expect("a namespace");
        for words in [&["link", "set", "lo", "up"][..], &["address", "add", SERVERS, "dev", "lo"]] {
            let done = namespace.run(|| Command::new("ip").args(words).status());
            assert!(done.expect("enter").expect("start ip").success(), "{words:?}");
        }
        Self { namespace, volume: tempfile::tempdir().expect("a volume") }
    }

    fn with_consul() -> (Self, Consul) {
        let pod = Self::new();
        let listener = pod.namespace.tcp_listen(format!("{SERVERS}:8500").parse().expect("literal")).expect("listen");
        (pod, Consul::serve(listener, REGISTERED, true))
    }

    /// Runs the program behind `wrapper`, which is empty or a program and its arguments.
    fn connect_init(&self, path: &str, wrapper: &[&str], dual_stack: bool) -> Output {
        self.start(path, wrapper, dual_stack).wait_with_output().expect("ran")
    }

    fn start(&self, path: &str, wrapper: &[&str], dual_stack: bool) -> Child {
        let program = env!("CARGO_BIN_EXE_connect-init");
        let words: Vec<&str> = wrapper.iter().copied().chain([program]).collect();
        let file = self.volume.path().join("proxyid");
        let run = || {
            Command::new(words[0])
                .args(&words[1..])
                .args(["-pod-name=web-0", "-pod-namespace=shop", "-consul-node-name=node-0-virtual"])
                .arg(format!("-proxy-id-file={}", file.display()))
                .env_clear()
                .env("PATH", path)
                .env("CONSUL_ADDRESSES", SERVERS)
                .env("CONSUL_DUAL_STACK", dual_stack.to_string())
                .env("CONSUL_REDIRECT_TRAFFIC_CONFIG", config().to_json())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        self.namespace.run(run).expect("enter").expect("start")
    }

    fn rules(&self, family: &str) -> Vec<String> {
        let save = self.namespace.run(|| Command::new(format!("{family}-save")).args(["-t", "nat"]).output());
        normalise(&String::from_utf8_lossy(&save.expect("enter").expect("start").stdout))
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A failure, and its one line.
fn failure(output: &Output) -> String {
    let told = told(output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.matches("connect-init: failed to ").count(), 1, "{told}");
    told
}

/// A directory with the system's iptables programs, some replaced by scripts.
fn path_with(directory: &Path, replaced: &[(&str, &str)]) -> String {
    for (name, script) in replaced {
        let file = directory.join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    format!("{}:{PATH}", directory.display())
}

#[rstest]
fn a_registered_pod_is_redirected_as_its_registration_says(#[values(false, true)] dual_stack: bool) {
    let (pod, _consul) = Pod::with_consul();
    let mut expected = config();
    expected.proxy_outbound_port = 15002;
    expected.exclude_inbound_ports.push("9102".into());
    let rules = Ruleset::of(&Policy::from_config(&expected, dual_stack).expect("valid"));
    // the kubelet may run an init container again in the same sandbox
    for _ in 0..2 {
        let output = pod.connect_init(PATH, &[], dual_stack);
        assert!(output.status.success(), "{}", told(&output));
        assert_eq!(fs::read_to_string(pod.volume.path().join("proxyid")).expect("there"), "web-0-web-sidecar-proxy");
        assert_eq!(pod.rules("iptables"), rules.expected(Family::V4));
        assert_eq!(pod.rules("ip6tables"), rules.expected(Family::V6));
    }
}

#[test]
fn consul_may_come_up_later_than_the_pod() {
    let pod = Pod::new();
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| pod.connect_init(PATH, &[], false));
        // no one listens for a while; there is nothing to see from here of the attempts that are refused
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        let listener = pod.namespace.tcp_listen(format!("{SERVERS}:8500").parse().expect("literal")).expect("listen");
        let _consul = Consul::serve(listener, REGISTERED, true);
        running.join().expect("ran")
    });
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn as_the_first_process_of_its_namespace_it_ends_at_sigterm() {
    let pod = Pod::new();
    let listener = pod.namespace.tcp_listen(format!("{SERVERS}:8500").parse().expect("literal")).expect("listen");
    let consul = Consul::serve(listener, "[]", true);
    // `unshare` waits for its child and passes its status on; the kernel spares a first process what it does not handle
    let unshare = pod.start(PATH, &["/usr/bin/unshare", "--pid", "--fork", "--kill-child"], false);
    consul.until(|requests| requests.len() == 2);
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let first = fs::read_to_string(children).expect("its children").trim().parse().expect("one child");
    let told = Instant::now();
    kill(Pid::from_raw(first), Signal::SIGTERM).expect("it runs");
    let output = unshare.wait_with_output().expect("it ends");
    assert!(told.elapsed() < DEADLINE, "{:?}", told.elapsed());
    assert_eq!(output.status.code(), Some(143), "{}", self::told(&output));
    assert_eq!(pod.rules("iptables"), Vec::<String>::new());
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let pod = Pod::new();
    let empty = tempfile::tempdir().expect("a directory");
    let told = failure(&pod.connect_init(&empty.path().display().to_string(), &[], false));
    for part in ["iptables-restore", "iptables-legacy-restore", "package iptables", &*empty.path().to_string_lossy()] {
        assert!(told.contains(part), "{told} does not say {part:?}");
    }
}

#[test]
fn a_missing_capability_is_named() {
    let pod = Pod::new();
    let without = ["/usr/bin/setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let told = failure(&pod.connect_init(PATH, &without, false));
    assert!(told.contains("NET_ADMIN") && told.contains("securityContext"), "{told}");
    assert_eq!(pod.rules("iptables"), Vec::<String>::new());
}

#[test]
fn a_kernel_without_tables_is_told_from_a_missing_capability() {
    let pod = Pod::new();
    let directory = tempfile::tempdir().expect("a directory");
    let legacy = "echo \"iptables-save v1.8.9 (legacy): Cannot initialize: Table does not exist (do you need to insmod?)\" >&2; exit 1";
    let nft = "echo 'iptables-nft-save: Failed to initialize nft: Protocol not supported' >&2; exit 1";
    let replaced = [("iptables-save", legacy), ("iptables-legacy-save", legacy), ("iptables-nft-save", nft)];
    let told = failure(&pod.connect_init(&path_with(directory.path(), &replaced), &[], false));
    for part in ["ip_tables", "modprobe", "nf_tables", "insmod", "Protocol not supported"] {
        assert!(told.contains(part), "{told} does not say {part:?}");
    }
}

/// Behaves like the real program, after adding a rule that the kernel refuses: the owner of a packet that comes in is not
/// known.
const SPOILS: &str =
    "sed 's/^COMMIT$/-A PREROUTING -m owner --uid-owner 3 -j RETURN\\nCOMMIT/' | /usr/sbin/PROGRAM-nft-restore \"$@\"";
/// As above, with a rule that the program itself refuses.
const MISSPELLS: &str = "sed 's/^COMMIT$/-A CONSUL_PROXY_OUTPUT -p tcp --dport nonsense -j RETURN\\nCOMMIT/' | /usr/sbin/PROGRAM-nft-restore \"$@\"";

#[rstest]
#[case::by_the_kernel("iptables", SPOILS, false)]
#[case::by_the_program("iptables", MISSPELLS, false)]
#[case::in_the_second_family("ip6tables", SPOILS, true)]
fn a_refused_rule_leaves_nothing_behind(#[case] program: &str, #[case] script: &str, #[case] dual_stack: bool) {
    let (pod, _consul) = Pod::with_consul();
    let directory = tempfile::tempdir().expect("a directory");
    let script = script.replace("PROGRAM", program);
    let path = path_with(directory.path(), &[(&format!("{program}-restore"), &script)]);
    let told = failure(&pod.connect_init(&path, &[], dual_stack));
    let family = if dual_stack { "IPv6" } else { "IPv4" };
    assert!(told.contains(&format!("add the {family} rules, line ")), "{told}");
    assert!(told.contains(&format!("{program}-restore refused: ")), "{told}");
    assert_eq!((pod.rules("iptables"), pod.rules("ip6tables")), (Vec::new(), Vec::new()), "{told}");
}
