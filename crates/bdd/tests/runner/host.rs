//! The machine is the same after a run as before it, also after `kill -9`, and two runs do not meet.

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
