//! What goes wrong: no right, no kernel support, refused rules, locks of others, a namespace that goes.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use netns::NetNs;
use nix::unistd::{Uid, setfsuid};
use redirect::kernel::{apply_with, remove, verify_with};
use redirect::{ApplyError, Backend, Policy};
use rstest::rstest;

use crate::bed::*;
use crate::denied::Denied;

fn failure(namespace: &NetNs, backend: Backend, policy: &Policy) -> ApplyError {
    namespace.run(|| apply_with(backend, policy)).expect("enter").expect_err("refused")
}

/// Kernels with both, one or none of nf_tables and x_tables: system calls are answered as those kernels answer them. Whatever
/// works is used, without a look at `/lib/modules`, and native nf_tables without any program.
#[rstest]
#[case::both(&[], Some(Backend::Nftables))]
#[case::no_legacy(&[Denied::Xtables], Some(Backend::Nftables))]
#[case::no_nftables(&[Denied::Nftables], Some(Backend::IptablesLegacy))]
#[case::no_program(&[Denied::Programs], Some(Backend::Nftables))]
#[case::neither(&[Denied::Nftables, Denied::Xtables], None)]
fn what_the_kernel_has_is_used(#[case] denied: &[Denied], #[case] backend: Option<Backend>) {
    let namespace = NetNs::create().expect("namespace");
    let wanted = policy(&config(), true);
    let applied = namespace.run(|| {
        Denied::apply(denied);
        redirect::apply(&wanted)
    });
    match (applied.expect("enter"), backend) {
        (Ok(applied), Some(backend)) => {
            assert_eq!(applied.backend, backend, "{}", applied.reason);
            assert_eq!(held(&namespace), expected(backend, &wanted));
        }
        (Err(error), None) => {
            let told = error.to_string();
            let parts =
                ["nftables: ", "iptables-nft: ", "iptables-legacy: ", "modprobe nf_tables", "modprobe ip_tables"];
            for part in parts {
                assert!(told.contains(part), "{told} does not say {part:?}");
            }
            assert_eq!(held(&namespace), Vec::<String>::new());
        }
        (other, _) => panic!("{other:?}"),
    }
}

/// Verifying and removing choose as applying does.
#[rstest]
fn what_was_installed_can_be_removed_without_programs() {
    let namespace = NetNs::create().expect("namespace");
    in_force(&namespace, Backend::Nftables, &policy(&config(), true));
    let outcome = namespace.run(|| {
        Denied::apply(&[Denied::Programs]);
        let verified = redirect::verify(&policy(&config(), true)).map(|verified| verified.drift);
        (verified.expect("readable"), remove().expect("removable"))
    });
    assert_eq!(outcome.expect("enter"), (Vec::new(), true));
    assert_eq!(sh(&namespace, "nft list ruleset"), "");
}

#[rstest]
fn without_the_capability_it_is_named(#[values(0, 1, 2)] backend: usize) {
    let namespace = NetNs::create().expect("namespace");
    let wanted = policy(&config(), false);
    let refused = namespace.run(|| {
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).expect("one may always have less");
        let verified = verify_with(BACKENDS[backend], &wanted).map(|_| ());
        [apply_with(BACKENDS[backend], &wanted).map(|_| ()), verified, remove().map(|_| ())]
    });
    for result in refused.expect("enter") {
        let told = result.expect_err("refused").to_string();
        assert!(told.contains("NET_ADMIN"), "{told}");
    }
}

/// Another program owns a table of our name: the kernel lets nobody else change it.
#[test]
fn a_refused_transaction_changes_nothing_and_says_what_was_refused() {
    let namespace = NetNs::create().expect("namespace");
    let mut owner = namespace
        .run(|| Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn())
        .expect("enter")
        .expect("start nft");
    let mut input = owner.stdin.take().expect("a pipe");
    input.write_all(b"add table inet pellucid_tproxy { flags owner; }\n").expect("written");
    let deadline = Instant::now() + DEADLINE;
    while !sh(&namespace, "nft list tables").contains("pellucid_tproxy") {
        assert!(Instant::now() < deadline, "nft makes its table");
        std::thread::yield_now();
    }
    let before = sh(&namespace, "nft list ruleset");
    let told = failure(&namespace, Backend::Nftables, &policy(&config(), false)).to_string();
    assert!(told.contains("table inet pellucid_tproxy") && told.contains("not permitted"), "{told}");
    assert_eq!(sh(&namespace, "nft list ruleset"), before);
    drop(input);
    owner.wait().expect("it ends with its input");
}

/// The lock of xtables is one for the machine, and held for long by whoever programs the node. Namespaces have nothing to do with
/// it.
#[rstest]
fn the_xtables_lock_of_another_delays_nothing(#[values(0, 1, 2)] backend: usize) {
    let lock = File::create("/run/xtables.lock").expect("the lock file");
    lock.try_lock().or_else(|_| lock.lock()).expect("locked");
    let (done, finished) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let namespace = NetNs::create().expect("namespace");
        in_force(&namespace, BACKENDS[backend], &policy(&config(), true));
        assert!(drift(&namespace, BACKENDS[backend], &policy(&config(), true)).is_empty());
        assert!(namespace.run(remove).expect("enter").expect("removable"));
        done.send(()).expect("somebody waits");
    });
    let in_time = finished.recv_timeout(DEADLINE);
    drop(lock);
    worker.join().expect("no failure");
    in_time.expect("it does not wait for the lock");
}

/// A namespace that is unmounted while it is worked in lives on for the one who works in it.
#[rstest]
fn a_namespace_that_goes_away_is_worked_in_to_the_end(#[values(0, 1, 2)] backend: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("netns");
    NetNs::create().expect("namespace").bind(&file).expect("bound");
    let namespace = NetNs::open(&file).expect("there");
    let applied = namespace.run(|| {
        NetNs::unbind(&file).expect("unmounted");
        apply_with(BACKENDS[backend], &policy(&config(), false))
    });
    assert!(applied.expect("enter").expect("applied").changed);
    assert!(NetNs::open(&file).is_err(), "nothing keeps it by its name");
}

/// A Pod of its own user namespace, from the node: the owner match of iptables is refused there, and that of nf_tables takes
/// user ids as the Pod has them.
#[test]
fn user_ids_of_a_pod_with_its_own_user_namespace_are_its_own() {
    const OFFSET: u32 = 20_000;
    const COUNT: u32 = 10_000;
    let mut pod = Command::new("unshare")
        .args(["--user", "--net", "sh", "-c", "echo ready && read -r word"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start unshare");
    let mut ready = [0; 6];
    pod.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("the namespaces are made");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{map}", pod.id()), format!("0 {OFFSET} {COUNT}")).expect("mapped");
    }
    let namespace = NetNs::of_process(pod.id()).expect("its namespace");
    sh(&namespace, "ip link set lo up");
    let policy = policy(&config(), false);
    for backend in [Backend::IptablesNft, Backend::IptablesLegacy] {
        let told = failure(&namespace, backend, &policy).to_string();
        assert!(told.contains("user namespace") && told.contains("nftables"), "{backend}: {told}");
        assert_eq!(held(&namespace), Vec::<String>::new());
    }
    let applied = in_force(&namespace, Backend::Auto, &policy);
    assert_eq!(applied.backend, Backend::Nftables, "{}", applied.reason);
    serve(&namespace, 15001, "mesh");
    serve(&namespace, 8080, "service");
    for (uid, name) in [(5995, "service"), (1234, "service"), (1000, "mesh"), (0, "mesh")] {
        let answer = namespace.run(|| {
            setfsuid(Uid::from_raw(OFFSET + uid));
            dial("127.0.0.2:8080".parse().expect("literal"))
        });
        assert_eq!(answer.expect("enter"), name, "user {uid} of the Pod");
    }
    drop(pod.stdin.take());
    pod.wait().expect("it ends");
}
