//! The machine is the same after a run as before it, also after `kill -9`, and two runs do not meet.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::machine::{Machine, alive, family};
use crate::started::Runner;

/// One scenario that passes, with Envoys, rules and a capture.
const SHORT: &str = r#"
Feature: a short one
  Scenario: it is answered
    Given a mesh
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And "static-client" sent it through its proxy
"#;

/// One that is still busy when it is killed.
const LONG: &str = r#"
Feature: a long one
  Scenario: it goes on
    Given a mesh
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" keeps requesting "http://static-server"
    And 600 seconds pass
    Then no request failed
"#;

/// Waits until `condition` holds; panics with what it says last.
fn await_that(what: &str, seconds: u64, mut condition: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match condition() {
            Ok(()) => return,
            Err(last) if Instant::now() > deadline => panic!("{what}: not within {seconds} s; last seen: {last}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

#[test]
fn a_run_leaves_the_machine_as_it_was() {
    let before = Machine::now();
    let done = Runner::of(SHORT).finish();
    done.expect(0, &["1 passed"]);
    assert_eq!(before, Machine::now());
}

#[test]
fn a_killed_run_leaves_no_process_and_no_mount() {
    let before = Machine::now();
    let mut runner = Runner::of(LONG);
    let mut child = runner.start();
    let mut members = family(child.id());
    await_that("two Envoys run", 60, || {
        members = family(child.id());
        let envoys = members.values().filter(|name| *name == "envoy").count();
        if envoys >= 2 { Ok(()) } else { Err(format!("{members:?}")) }
    });
    child.kill().expect("SIGKILL is delivered");
    child.wait().expect("it ends");
    await_that("everything has ended", 10, || {
        let left = alive(&members);
        if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
    });
    assert_eq!(before, Machine::now());
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let runs = [SHORT, SHORT].map(|feature| std::thread::spawn(move || Runner::of(feature).finish()));
    for run in runs {
        run.join().expect("the thread ends").expect(0, &["1 passed"]);
    }
}

#[test]
fn a_run_leaves_its_evidence() {
    let (done, files) = Runner::of(SHORT).finish_and(|files| files);
    done.expect(0, &["1 passed"]);
    for end in [".pcap", "timeline.txt", "repro.txt", ".log", ".json", ".xml"] {
        assert!(files.iter().any(|file| file.to_string_lossy().ends_with(end)), "no {end} among {files:#?}");
    }
}

/// One that fails, and whose lab is to be looked at.
const FAILS: &str = r#"
Feature: one that fails
  Scenario: it is not blocked
    Given a mesh with:
      | rule backend | iptables-nft |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is blocked
"#;

#[test]
fn a_kept_lab_can_be_joined_and_ends_with_enter() {
    let mut runner = Runner::of(FAILS).with(|command| {
        command.arg("--keep");
    });
    let mut child = runner.converse();
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let join = lines.find(|line| line.contains("default/static-client")).expect("the way to a Pod");
    let join = join.split_once(": ").expect("a command").1;
    let rules = Command::new("sh").arg("-c").arg(format!("{join} iptables-nft-save -t nat")).output().expect("sh runs");
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned() + &String::from_utf8_lossy(&rules.stderr);
    assert!(rules.contains("-A CONSUL_PROXY_REDIRECT"), "{join}: {rules}");
    child.stdin.take().expect("a pipe").write_all(b"\n").expect("it listens");
    assert!(lines.any(|line| line.contains("1 failed")), "a summary");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
}
