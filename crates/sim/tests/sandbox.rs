//! The sandbox as a process: what it is inside, what it leaves outside, and that everything in it dies with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;

/// How long the kernel may take to end what must end.
const SOON: Duration = Duration::from_secs(2);

fn sandbox(command: &[&str]) -> Command {
    let mut sandbox = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    sandbox.arg("--").args(command);
    sandbox
}

fn shell(script: &str) -> Output {
    sandbox(&["sh", "-c", script]).output().expect("the sandbox starts")
}

fn said(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text").trim()
}

#[test]
fn the_caller_is_root_among_fresh_namespaces() {
    let output = shell("id -u; cat /proc/sys/kernel/hostname; ls /run; ls /run/pellucid; cat /proc/2/comm");
    assert_eq!(said(&output), "0\npellucid\nlock\nnetns\npellucid\nsh", "{output:?}");
    for kind in ["user", "mnt", "net", "pid", "ipc", "uts"] {
        let inside = shell(&format!("readlink /proc/self/ns/{kind}"));
        let outside = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        assert_ne!(Path::new(said(&inside)), outside);
    }
}

#[test]
fn only_loopback_is_there_and_it_is_up() {
    let output = shell("ls /proc/sys/net/ipv4/conf; cat /proc/net/if_inet6 | wc -l");
    assert_eq!(said(&output), "all\ndefault\nlo\n1", "lo has ::1 only when it is up: {output:?}");
}

#[rstest]
#[case::success("exit 0", 0)]
#[case::failure("exit 7", 7)]
#[case::signal("kill -KILL $$", 137)]
#[case::children_do_not_count("(exit 3) & wait; exit 4", 4)]
fn the_status_is_passed_on(#[case] script: &str, #[case] status: i32) {
    assert_eq!(shell(script).status.code(), Some(status));
}

#[test]
fn a_command_that_does_not_exist_could_not_run() {
    let output = sandbox(&["/no/such/program"]).output().expect("the sandbox starts");
    assert_eq!(output.status.code(), Some(i32::from(sim::sandbox::COULD_NOT_RUN)));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/program"), "{output:?}");
}

#[test]
fn a_sandbox_in_a_sandbox_is_another_one() {
    let nested =
        [env!("CARGO_BIN_EXE_sandbox"), "--", "sh", "-c", "readlink /proc/self/ns/net /proc/self/ns/pid; exit 5"];
    let script = format!("readlink /proc/self/ns/net /proc/self/ns/pid; true; {}", quoted(&nested));
    let output = shell(&script);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let links: std::collections::BTreeSet<_> = said(&output).lines().collect();
    assert_eq!(links.len(), 4, "{output:?}");
}

#[test]
fn another_user_is_root_inside_with_subordinate_ids() {
    // In a sandbox, /etc can be changed without changing the machine's.
    let inner = [env!("CARGO_BIN_EXE_sandbox"), "--", "sh", "-c", "id -u; cat /proc/self/uid_map | tr -s ' '"];
    let script = format!(
        "echo ann:100000:65536 > /run/sub && mount --bind /run/sub /etc/subuid && mount --bind /run/sub /etc/subgid && \
         (cat /etc/passwd; echo ann:x:1234:1234::/:/bin/sh) > /run/users && mount --bind /run/users /etc/passwd && \
         setpriv --reuid 1234 --regid 1234 --clear-groups {}",
        quoted(&inner)
    );
    let output = shell(&script);
    let lines: Vec<_> = said(&output).lines().map(str::trim).collect();
    assert_eq!(lines, ["0", "0 1234 1", "1 100000 65536"], "{output:?}");
}

#[test]
fn another_user_without_subordinate_ids_is_told_the_line_to_add() {
    let inner = [env!("CARGO_BIN_EXE_sandbox"), "--", "true"];
    let script = format!(
        "touch /run/sub && mount --bind /run/sub /etc/subuid && setpriv --reuid 1234 --regid 1234 --clear-groups {}",
        quoted(&inner)
    );
    let output = shell(&script);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("/etc/subuid") && error.contains("`1234:100000:65536`"), "{error}");
}

#[test]
fn the_machine_is_the_same_before_during_and_after() {
    let links = || fs::read_dir("/proc/sys/net/ipv4/conf").expect("links").count();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let named = || fs::read_dir("/run/netns").map(Iterator::count).unwrap_or_default();
    let before = (links(), mounts(), named());
    let script =
        "ip link add a1 type veth peer name b1 && ip netns add x && mount -t tmpfs t /mnt && echo ready && sleep 1000";
    let (mut child, _) = started(sandbox(&["sh", "-c", script]));
    assert_eq!((links(), mounts(), named()), before, "while it runs");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!((links(), mounts(), named()), before, "after it was killed");
}

#[rstest]
#[case::outer(0)]
#[case::init(1)]
#[case::program(2)]
fn whichever_stage_is_killed_nothing_stays(#[case] stage: usize) {
    // An argument that nothing else on the machine has.
    let mark = format!("{}.{}{stage}", 86400 + std::process::id(), Instant::now().elapsed().as_nanos());
    let script = format!("sleep {mark} & sh -c 'trap \"\" TERM INT; sleep {mark}' & echo ready; wait");
    let (mut outer, mut output) = started(sandbox(&["sh", "-c", &script]));
    let running = |mark: &str| {
        let processes = fs::read_dir("/proc").expect("processes").flatten();
        let is_marked = |path: std::path::PathBuf| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            let mut arguments = line.split(|byte| *byte == 0);
            arguments.next() == Some(b"sleep") && arguments.next() == Some(mark.as_bytes())
        };
        processes.filter(|process| is_marked(process.path())).count()
    };
    wait_until("both sleepers run", || running(&mark) == 2);

    let mut victim = i32::try_from(outer.id()).expect("a pid");
    for _ in 0..stage {
        victim = child_of(victim);
    }
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("the stage runs");
    wait_until("no sleeper runs", || running(&mark) == 0);
    outer.wait().expect("the outer stage ends");
    let mut rest = String::new();
    output.read_line(&mut rest).expect("the pipe is closed by all");
    assert_eq!(rest, "");
}

#[test]
fn a_signal_to_the_outer_stage_reaches_the_program() {
    let script = "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let (mut outer, mut output) = started(sandbox(&["sh", "-c", script]));
    kill(Pid::from_raw(i32::try_from(outer.id()).expect("a pid")), Signal::SIGTERM).expect("it runs");
    assert_eq!(outer.wait().expect("it ends").code(), Some(9));
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    assert_eq!(line, "told\n", "exactly once");
}

/// Starts a command and waits for its first line, `ready`.
fn started(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the sandbox starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    assert_eq!(line, "ready\n");
    (child, output)
}

/// The only child of a stage.
fn child_of(pid: i32) -> i32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    children.split_whitespace().next().expect("a child").parse().expect("a pid")
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::yield_now();
    }
}

fn quoted(command: &[&str]) -> String {
    let words = command.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    words.collect::<Vec<_>>().join(" ")
}
