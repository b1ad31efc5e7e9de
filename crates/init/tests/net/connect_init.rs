//! `connect-init` in a network namespace of its own: what it leaves there, and what it says when it cannot.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redirect::kernel::demanded;
use redirect::{Backend, Policy};
use rstest::rstest;

use crate::fake::{Consul, DEADLINE, REGISTERED};
use crate::pod::*;

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
fn with_acls_it_logs_in_and_out_past_the_rules_of_an_earlier_run() {
    let (pod, consul) = Pod::with_consul();
    consul.demand_logins_with("bearer", (403, "Permission denied"));
    let file = pod.volume.path().join("token");
    fs::write(&file, "bearer").expect("written");
    let login = [
        ("CONSUL_LOGIN_AUTH_METHOD", "consul-k8s-auth-method"),
        ("CONSUL_LOGIN_BEARER_TOKEN_FILE", file.to_str().expect("UTF-8")),
    ];
    for run in 1..=2 {
        let output = pod.connect_init_saying(&["-service-account-name=web"], &login);
        assert!(output.status.success(), "{}", told(&output));
        assert_eq!((consul.acls().logins.len(), consul.acls().tokens), (run, Vec::new()));
        assert!(!pod.rules().is_empty());
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

#[test]
fn as_the_first_process_of_its_namespace_it_ends_at_sigterm() {
    let pod = Pod::new();
    let listener = pod.namespace.tcp_listen(format!("{SERVERS}:8500").parse().expect("literal")).expect("listen");
    let consul = Consul::serve(listener, "[]", true);
    // `unshare` waits for its child and passes its status on; the kernel spares a first process what it does not handle
    let unshare = pod.start(PATH, &["/usr/bin/unshare", "--pid", "--fork", "--kill-child"], Backend::Auto, false);
    consul.until(|requests| requests.len() == 2);
    let children = format!("/proc/{0}/task/{0}/children", unshare.id());
    let first = fs::read_to_string(children).expect("its children").trim().parse().expect("one child");
    let told = Instant::now();
    kill(Pid::from_raw(first), Signal::SIGTERM).expect("it runs");
    let output = unshare.wait_with_output().expect("it ends");
    assert!(told.elapsed() < DEADLINE, "{:?}", told.elapsed());
    assert_eq!(output.status.code(), Some(143), "{}", crate::pod::told(&output));
    assert_eq!(pod.rules(), Vec::new());
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
