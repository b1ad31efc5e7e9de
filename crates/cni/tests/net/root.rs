//! The plugin in a root that holds nothing else: no program, no library, no `/proc`, no configuration.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bed::{Node, annotations, config, previous};

/// The program linked as it is to be installed on nodes, whose root nobody knows.
fn linked_statically() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "cni", "--bin", "consul-cni", "--target", "x86_64-unknown-linux-gnu"]);
    cargo.arg("--no-default-features");
    cargo.arg("--target-dir").arg(&target).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let built = cargo.stdin(Stdio::null()).output().expect("start cargo");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("x86_64-unknown-linux-gnu/debug/consul-cni")
}

#[test]
fn it_needs_nothing() {
    let node = Node::new();
    let root = node.directory.path();
    std::fs::copy(linked_statically(), root.join("consul-cni")).expect("copy");
    // where the runtime has the Pod's namespace
    node.pod.bind(root.join("netns")).expect("bind");
    let called = node.namespace.run(|| {
        let mut plugin = Command::new("chroot");
        plugin.arg(root).arg("/consul-cni").env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin"),
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/netns"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
        ]);
        let mut child = plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let conf = node.conf(Some(&annotations(&config(), true)));
        child.stdin.take().expect("piped").write_all(conf.as_bytes())?;
        child.wait_with_output()
    });
    netns::NetNs::unbind(root.join("netns")).expect("unbind");
    let output = called.expect("enter").expect("start chroot");
    assert!(
        output.status.success(),
        "{} {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), previous());
    node.obeys(&config(), true);
}
