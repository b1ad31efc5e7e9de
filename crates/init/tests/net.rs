//! `connect-init` in a network namespace of its own: what it leaves there, and what it says when it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fake::{Consul, REGISTERED};
use netns::NetNs;
use redirect::kernel::{Line, demanded, held};
use redirect::{Backend, Config, Policy};
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
    fn connect_init(&self, path: &str, wrapper: &[&str], backend: Backend, dual_stack: bool) -> Output {
        let program = env!("CARGO_BIN_EXE_connect-init");
        let words: Vec<&str> = wrapper.iter().copied().chain([program]).collect();
        let file = self.volume.path().join("proxyid");
        let run = || {
            Command::new(words[0])
                .args(&words[1..])
                .args(["-pod-name=web-0", "-pod-namespace=shop", "-consul-node-name=node-0-virtual"])
                .arg(format!("-proxy-id-file={}", file.display()))
                .arg(format!("-rule-backend={backend}"))
                .env_clear()
                .env("PATH", path)
                .env("CONSUL_ADDRESSES", SERVERS)
                .env("CONSUL_DUAL_STACK", dual_stack.to_string())
                .env("CONSUL_REDIRECT_TRAFFIC_CONFIG", config().to_json())
                .stdin(Stdio::null())
                .output()
        };
        self.namespace.run(run).expect("enter").expect("start")
    }

    fn rules(&self) -> Vec<Line> {
        self.namespace.run(held).expect("enter").expect("readable")
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
#[case::chosen(Backend::Auto, Backend::Nftables)]
#[case::nftables(Backend::Nftables, Backend::Nftables)]
#[case::iptables_nft(Backend::IptablesNft, Backend::IptablesNft)]
#[case::iptables_legacy(Backend::IptablesLegacy, Backend::IptablesLegacy)]
fn a_registered_pod_is_redirected_as_its_registration_says(
    #[case] asked: Backend,
    #[case] used: Backend,
    #[values(false, true)] dual_stack: bool,
) {
    let (pod, _consul) = Pod::with_consul();
    let mut expected = config();
    expected.proxy_outbound_port = 15002;
    expected.exclude_inbound_ports.push("9102".into());
    let policy = Policy::from_config(&expected, dual_stack).expect("valid");
    // the kubelet may run an init container again in the same sandbox
    for _ in 0..2 {
        let output = pod.connect_init(PATH, &[], asked, dual_stack);
        assert!(output.status.success(), "{}", told(&output));
        assert_eq!(fs::read_to_string(pod.volume.path().join("proxyid")).expect("there"), "web-0-web-sidecar-proxy");
        assert_eq!(pod.rules(), demanded(used, &policy));
        let said = told(&output);
        assert!(said.contains(&format!("backend={used}")), "{said} says by what");
    }
}

#[test]
fn consul_may_come_up_later_than_the_pod() {
    let pod = Pod::new();
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| pod.connect_init(PATH, &[], Backend::Auto, false));
        // no one listens for a while; there is nothing to see from here of the attempts that are refused
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        let listener = pod.namespace.tcp_listen(format!("{SERVERS}:8500").parse().expect("literal")).expect("listen");
        let _consul = Consul::serve(listener, REGISTERED, true);
        running.join().expect("ran")
    });
    assert!(output.status.success(), "{}", told(&output));
}

/// An image without iptables does, unless iptables is asked for.
#[test]
fn a_missing_program_is_named_with_its_package() {
    let (pod, _consul) = Pod::with_consul();
    let empty = tempfile::tempdir().expect("a directory");
    let path = empty.path().display().to_string();
    for (backend, program) in
        [(Backend::IptablesNft, "iptables-nft-restore"), (Backend::IptablesLegacy, "iptables-legacy-restore")]
    {
        let told = failure(&pod.connect_init(&path, &[], backend, false));
        for part in [program, "package iptables", &*path] {
            assert!(told.contains(part), "{told} does not say {part:?}");
        }
        assert_eq!(pod.rules(), Vec::new());
    }
    let output = pod.connect_init(&path, &[], Backend::Auto, false);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_missing_capability_is_named() {
    let pod = Pod::new();
    let without = ["/usr/bin/setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let told = failure(&pod.connect_init(PATH, &without, Backend::Auto, false));
    assert!(told.contains("NET_ADMIN") && told.contains("securityContext"), "{told}");
    assert_eq!(pod.rules(), Vec::new());
}

#[rstest]
#[case(
    Backend::IptablesLegacy,
    "iptables-legacy-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'",
    "unable to initialize table"
)]
#[case(
    Backend::IptablesNft,
    "iptables-nft-restore: Failed to initialize nft: Protocol not supported",
    "Protocol not supported"
)]
fn a_kernel_without_tables_is_told_from_a_missing_capability(
    #[case] backend: Backend,
    #[case] says: &str,
    #[case] words: &str,
) {
    let (pod, _consul) = Pod::with_consul();
    let directory = tempfile::tempdir().expect("a directory");
    let script = format!("echo \"{says}\" >&2; exit 1");
    let path = path_with(directory.path(), &[(&format!("{backend}-restore"), &script)]);
    let told = failure(&pod.connect_init(&path, &[], backend, false));
    for part in ["the kernel does not offer it", words] {
        assert!(told.contains(part), "{told} does not say {part:?}");
    }
    assert!(!told.contains("NET_ADMIN"), "{told}");
}

/// Behaves like the real program, after adding a rule that the kernel refuses: the owner of a packet that comes in is not
/// known.
const SPOILS: &str =
    "sed 's/^COMMIT$/-A PREROUTING -m owner --uid-owner 3 -j RETURN\\nCOMMIT/' | /usr/sbin/PROGRAM-restore \"$@\"";
/// As above, with a rule that the program itself refuses.
const MISSPELLS: &str = "sed 's/^COMMIT$/-A CONSUL_PROXY_OUTPUT -p tcp --dport nonsense -j RETURN\\nCOMMIT/' | /usr/sbin/PROGRAM-restore \"$@\"";

#[rstest]
#[case::by_the_kernel("iptables", SPOILS)]
#[case::by_the_program("iptables", MISSPELLS)]
#[case::in_the_second_family("ip6tables", SPOILS)]
fn a_refused_rule_leaves_nothing_behind(
    #[case] program: &str,
    #[case] script: &str,
    #[values(Backend::IptablesNft, Backend::IptablesLegacy)] backend: Backend,
) {
    let (pod, _consul) = Pod::with_consul();
    let directory = tempfile::tempdir().expect("a directory");
    let program = backend.name().replace("iptables", program);
    let script = script.replace("PROGRAM", &program);
    let path = path_with(directory.path(), &[(&format!("{program}-restore"), &script)]);
    let is_second = program.starts_with("ip6");
    let told = failure(&pod.connect_init(&path, &[], backend, is_second));
    let family = if is_second { "IPv6" } else { "IPv4" };
    assert!(told.contains(&format!("add the {family} rules, line ")), "{told}");
    assert!(told.contains(&format!("{program}-restore refused: ")), "{told}");
    assert_eq!(pod.rules(), Vec::new(), "{told}");
}
