//! The node agent: killed at every moment, and against other programs that write the same files.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use measure::stepping::{SHELL, kill_at};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::Value;

use crate::bed::DEADLINE;

const PRIMARY: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"},{"type":"portmap"}]}"#;

/// The directories of a node, with the primary network's configuration.
struct Directories {
    root: tempfile::TempDir,
}

impl Directories {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        for directory in ["source", "bin", "net.d"] {
            std::fs::create_dir(root.path().join(directory)).expect("a directory");
        }
        std::fs::write(root.path().join("source/consul-cni"), "#!/bin/sh\n# version 2\n").expect("a program");
        let directories = Self { root };
        directories.rewrite(PRIMARY);
        directories
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn conflist(&self) -> PathBuf {
        self.path("net.d/10-net.conflist")
    }

    fn rewrite(&self, text: &str) {
        std::fs::write(self.conflist(), text).expect("a file");
    }

    /// As a program does it that cares for its readers.
    fn rename_to(&self, text: &str) {
        let fresh = self.path("net.d/.fresh");
        std::fs::write(&fresh, text).expect("a file");
        std::fs::rename(&fresh, self.conflist()).expect("rename");
    }

    /// As an installation of another version has left it.
    fn installed_before(&self) {
        std::fs::write(self.path("bin/consul-cni"), "#!/bin/sh\n# version 1\n").expect("a program");
        std::fs::set_permissions(self.path("bin/consul-cni"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        std::fs::write(self.path("lease"), "the one before").expect("a lease");
        let list = PRIMARY.replace("]}", r#",{"type":"consul-cni","kubeconfig":"ZZZ"}]}"#);
        self.rewrite(&list);
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        vec![
            format!("-bin-source-dir={}", path("source")),
            format!("-cni-bin-dir={}", path("bin")),
            format!("-cni-net-dir={}", path("net.d")),
            format!("-lease={}", path("lease")),
            "-installation-id=this".into(),
        ]
    }

    fn agent(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_install-cni"));
        command
            .args(self.arguments())
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn succeeds(&self, more: &[&str]) {
        let output = self.agent(more).output().expect("start the agent");
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn types(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.conflist()).expect("a file");
        let list: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let plugins = list["plugins"].as_array().expect("plugins").iter();
        plugins.map(|plugin| plugin["type"].as_str().expect("a type").to_owned()).collect()
    }

    /// What must hold at every moment: Pods start, because whatever is in the chain is there and can be run.
    fn pods_start(&self, when: &str) {
        let types = self.types();
        assert_eq!(types[..2], ["ptp", "portmap"], "{when}");
        if types.len() > 2 {
            assert_eq!(types[2..], ["consul-cni"], "{when}");
            let program = self.path("bin/consul-cni");
            let text = std::fs::read_to_string(&program).unwrap_or_else(|error| panic!("{when}: {error}"));
            let mode = std::fs::metadata(&program).expect("a program").permissions().mode();
            assert!(text.contains("version") && mode & 0o111 == 0o111, "{when}: {mode:o} {text:?}");
        }
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < DEADLINE, "{what}: {:?}", self.types());
            std::thread::yield_now();
        }
    }
}

/// Runs the agent up to its n-th stop at a system call and kills it there. Whether it came that far.
fn killed_at(stop: usize, arguments: &[String]) -> bool {
    let mut child = Command::new("sh")
        .args(SHELL)
        .arg(env!("CARGO_BIN_EXE_install-cni"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start sh");
    kill_at(&mut child, stop).expect("traced")
}

#[rstest]
#[case::install(false, "-once")]
#[case::upgrade(true, "-once")]
#[case::uninstall(true, "-remove")]
fn killed_at_every_step(#[case] was_installed: bool, #[case] what: &str) {
    let mut stop = 1;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let node = Directories::new();
        if was_installed {
            node.installed_before();
        }
        let is_killed = killed_at(stop, &[node.arguments(), vec![what.to_owned()]].concat());
        node.pods_start(&format!("{what} killed at stop {stop}"));
        seen.insert((node.types().len(), node.path("bin/consul-cni").exists()));
        // whoever comes next finishes the work
        node.succeeds(&[what]);
        match what {
            "-remove" => assert!(
                node.types().len() == 2 && !node.path("bin/consul-cni").exists() && !node.path("lease").exists()
            ),
            _ => node.succeeds(&["-check"]),
        }
        if !is_killed {
            break;
        }
        stop += 2;
    }
    assert!(stop > 100 && seen.len() > usize::from(what != "-once" || !was_installed), "{stop} stops, {seen:?}");
}

/// An agent that runs until it is told to end.
struct Running(Child);

impl Running {
    fn start(node: &Directories, more: &[&str]) -> Self {
        let running = Self(node.agent(more).spawn().expect("start the agent"));
        node.until("it is installed", || {
            node.types().len() == 3 && node.agent(&["-check"]).status().is_ok_and(|s| s.success())
        });
        running
    }

    fn terminate(mut self) -> String {
        let pid = Pid::from_raw(self.0.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("it is there");
        assert!(self.0.wait().expect("it ends").success());
        let mut log = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // it may have ended already
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn it_installs_repairs_and_takes_away() {
    let node = Directories::new();
    let agent = Running::start(&node, &[]);
    assert_eq!(node.types(), ["ptp", "portmap", "consul-cni"]);
    // the primary plugin's agent starts again and writes its own once more
    node.rewrite(PRIMARY);
    node.until("the entry comes back", || node.types().len() == 3);
    // another plugin comes last
    node.rewrite(&PRIMARY.replace("]}", r#",{"type":"consul-cni"},{"type":"bandwidth"}]}"#));
    node.until("it is last again", || node.types() == ["ptp", "portmap", "bandwidth", "consul-cni"]);
    std::fs::remove_file(node.path("bin/consul-cni")).expect("remove");
    node.until("the program comes back", || node.path("bin/consul-cni").exists());
    std::fs::remove_file(node.path("lease")).expect("remove");
    node.until("the lease comes back", || node.path("lease").exists());
    // a file that comes first by name is the one that the runtime takes
    std::fs::write(node.path("net.d/05-other.conflist"), PRIMARY).expect("a file");
    let other = || std::fs::read_to_string(node.path("net.d/05-other.conflist")).expect("a file");
    node.until("it is in the other file", || other().contains("consul-cni"));
    agent.terminate();
    assert_eq!(node.types(), ["ptp", "portmap", "bandwidth"]);
    assert!(!other().contains("consul-cni"), "from every file");
    assert!(!node.path("bin/consul-cni").exists() && !node.path("lease").exists());
}

#[test]
fn an_upgrade_leaves_no_gap() {
    let node = Directories::new();
    let old = Running::start(&node, &[]);
    let new = Running::start(&node, &["-installation-id=next"]);
    node.until("it has taken over", || {
        std::fs::read_to_string(node.path("lease")).is_ok_and(|holder| holder == "next")
    });
    let log = old.terminate();
    assert!(log.contains("a later installation has taken over"), "{log}");
    node.pods_start("after the old one");
    assert_eq!(node.types(), ["ptp", "portmap", "consul-cni"]);
    new.terminate();
    assert_eq!(node.types(), ["ptp", "portmap"]);
}

/// Whoever reads while two write never sees half a file; and an agent that is fought slows down and has the node say so.
#[test]
fn another_program_takes_it_out_again_and_again() {
    let node = Directories::new();
    let agent = Running::start(&node, &[]);
    let status = || {
        let stdin = format!(r#"{{"cniVersion":"1.1.0","name":"net","lease":"{}"}}"#, node.path("lease").display());
        crate::bed::Node::new().call("STATUS", &stdin, &[])
    };
    assert!(status().succeeded);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(node.conflist()).expect("a file");
                serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
                reads += 1;
            }
            reads
        });
        let contested = || std::fs::read_to_string(node.path("lease")).is_ok_and(|lease| lease.contains("exclusive"));
        for repair in 1.. {
            node.rename_to(PRIMARY);
            node.until("the entry comes back, or the agent gives way", || node.types().len() == 3 || contested());
            if contested() {
                assert!(repair > 3, "{repair} repairs are no fight");
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("every read was JSON") > 100);
    });
    status().fails(50, "cni.exclusive=false");
    let log = agent.terminate();
    assert!(log.contains("cni.exclusive=false"), "{log}");
    assert_eq!(node.types(), ["ptp", "portmap"]);
}

#[test]
fn a_node_without_a_network_yet() {
    let node = Directories::new();
    std::fs::remove_file(node.conflist()).expect("remove");
    let mut agent = Running(node.agent(&[]).spawn().expect("start the agent"));
    let mut log = BufReader::new(agent.0.stderr.take().expect("piped"));
    let waits = "no valid config files found";
    let mut line = String::new();
    while !line.contains(waits) {
        line.clear();
        assert!(log.read_line(&mut line).expect("text") > 0, "it ends without a word");
    }
    node.rewrite(&PRIMARY[..20]);
    assert!(!node.agent(&["-check"]).status().expect("start").success(), "half a file is no network");
    node.rewrite(PRIMARY);
    node.until("it is installed", || node.types().len() == 3);
    drop(agent);
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("text");
    assert!(!rest.contains(waits), "said once: {rest}");
}

#[test]
fn a_single_plugin_becomes_a_list_that_comes_first() {
    let node = Directories::new();
    std::fs::remove_file(node.conflist()).expect("remove");
    let single = node.path("net.d/10-net.conf");
    std::fs::write(&single, r#"{"cniVersion":"0.4.0","name":"net","type":"bridge"}"#).expect("a file");
    node.succeeds(&["-once"]);
    node.succeeds(&["-check"]);
    let first = cni::install::conflist::first(&node.path("net.d")).expect("a directory").expect("a file");
    assert_ne!(first, single, "the list is read first");
    node.succeeds(&["-once"]);
    assert_eq!(std::fs::read_dir(node.path("net.d")).expect("a directory").count(), 2, "twice is once");
    node.succeeds(&["-remove"]);
    assert_eq!(cni::install::conflist::first(&node.path("net.d")).expect("a directory"), Some(single));
}

#[test]
fn a_directory_that_cannot_be_written() {
    let node = Directories::new();
    std::fs::remove_dir(node.path("bin")).expect("remove");
    let output = node.agent(&["-once"]).output().expect("start the agent");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && log.contains("bin/consul-cni") && log.contains("mounted writable"), "{log}");
    node.pods_start("nothing is half done");
    assert_eq!(node.types().len(), 2);
}
