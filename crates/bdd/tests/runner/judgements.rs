//! Statements that are false must fail, and say why: a harness that passes one proves nothing. And true ones that are
//! easily taken for false must pass.

use std::fmt::Write as _;

use crate::started::Runner;

/// What every scenario here begins with.
const STATE: &str = r#"
    Given a mesh
    And the workload "server"
    And the workload "static-client"
    And the workload "other""#;

/// Steps that say something false, or mean nothing, and a part of the message.
const FALSE: &[(&str, &str)] = &[
    (
        r#"
    When "static-client" requests "http://external(web):80"
    Then it is plaintext from "static-client" to "server""#,
        "no packet between the two carries it",
    ),
    (
        r#"
    When "static-client" keeps requesting "http://other"
    Then it is answered
    When "server" is stopped
    And "static-client" requests "http://server" 3 times
    Then no request failed"#,
        "3 of ",
    ),
    (
        r#"
    When "static-client" requests "http://server"
    Then the answer contains """#,
        r#"look for "": name something"#,
    ),
    (
        r#"
    When "static-client" requests "http://server"
    Then the error names """#,
        r#"look for "": name something"#,
    ),
    (
        r#"
    When "static-client" requests "http://server"
    Then the capture of "static-client" shows:
      | interface | direction | to | content | count |"#,
        "below its heading row it says nothing",
    ),
    (
        r#"
    Given the workload "echo"
    When "static-client" sends "1 MiB" over tcp to "echo:9000"
    Then the answer contains "sha256 of 2 MiB""#,
        "bytes=1048576",
    ),
    (
        r#"
    When "server" becomes unhealthy
    Then "server" becomes ready"#,
        "waited",
    ),
    (
        r#"
    When the kubelet probes "server"
    Then it is blocked"#,
        "for it to be blocked",
    ),
    (
        r#"
    Given the workload "bare"
      | listens | http 99 |"#,
        "this step takes none",
    ),
    (
        r#"
    Given the workload "bare"
    """
    listens: http 99
    """"#,
        "no step takes one",
    ),
    (
        r#"
    Given the workload "bare" with:
      | listens | http 0 |"#,
        "from 1 to 65535",
    ),
    (
        r#"
    When "static-client" requests "http://server"
    And the mesh is changed to:
      | nodes | 3 |"#,
        "change nodes of a running mesh",
    ),
    (
        r#"
    Given the ServiceDefaults "server" with:
      | protocoll | http |
    When "static-client" requests "http://server"
    Then it is answered"#,
        r#"strict decoding error: unknown field "spec.protocoll""#,
    ),
    (
        r#"
    Given the workload "batch" with:
      | kind | Job |
    And "batch" is scaled to 3"#,
        "neither Deployment nor StatefulSet",
    ),
];

/// Steps that are true.
const TRUE: &[&str] = &[
    r#"
    Given the workload "several" with:
      | replicas | 3 |
    When "static-client" requests "http://several" 9 times
    Then no request failed
    And "several" received it through its proxy
    And it uses port 20000 from "static-client" to "several"
    And the capture of "several" shows:
      | interface | direction | to   | content | count      |
      | lo        | any       | 8080 | any     | exactly 9  |
      | lo        | any       | 8080 | any     | at least 1 |
      | eth0      | in        | 8080 | any     | none       |"#,
    r#"
    When "static-client" requests "http://external(web):80"
    Then the capture of "web" shows:
      | interface | direction | to | content   | count |
      | eth0      | in        | 80 | plaintext | 1     |"#,
    r#"
    When "static-client" keeps requesting "http://server"
    And 5 seconds pass
    Then every answer came from "server""#,
    r#"
    Given the workload "static-server" with:
      | annotation connect-inject | false |
    When "outsider" requests "http://node:30080"
    Then it is answered by "static-server"
    And it is plaintext from "outsider" to "static-server""#,
    r#"
    Given the workload "batch" with:
      | kind                      | Job                        |
      | annotation connect-inject | false                      |
      | command                   | request http://plain once  |
    And the workload "plain"
    Then "batch" runs to completion"#,
    r#"
    Given the workload "caller" with:
      | replicas                                            | 2  |
      | annotation transparent-proxy-exclude-outbound-ports | 80 |
    When "caller" requests "http://external(web):80"
    Then "caller" sent it around its proxy
    When "caller" is changed to:
      | annotation transparent-proxy-exclude-outbound-ports | none |
    And "caller" is restarted
    And "caller" requests "http://external(web):80"
    Then "caller" sent it through its proxy
    When "caller" is stopped
    And "caller" is started
    And "caller-1" requests "http://external(web):80"
    Then it is answered"#,
    r#"
    Given "*" may not reach "server"
    When "static-client" requests "http://server"
    Then it is blocked
    And nothing from "static-client" reached "app(server)""#,
    r#"
    When "static-client" looks up "server.virtual.consul"
    Then the lookup yields a virtual IP
    And the lookup went to Consul DNS
    When "static-client" looks up "server.default.svc.cluster.local"
    Then the lookup yields the cluster IP of "server"
    And the lookup went to the cluster DNS"#,
];

fn feature(name: &str, all: impl Iterator<Item = &'static str>) -> String {
    let mut feature = format!("Feature: {name}\n");
    for (i, steps) in all.enumerate() {
        write!(feature, "\n  Scenario: {name} {i:02}{STATE}{steps}\n").expect("a String takes everything");
    }
    feature
}

#[test]
fn false_statements_fail_and_say_why() {
    let finished = Runner::of(&feature("false", FALSE.iter().map(|(steps, _)| *steps))).finish();
    finished.expect(1, &[&format!("{0} runs, 0 passed, {0} failed", FALSE.len())]);
    for (i, (steps, why)) in FALSE.iter().enumerate() {
        let report = finished.text.split(&format!("✘ false: false {i:02}\n")).nth(1).unwrap_or_default();
        let report = report.split("\n\n").next().unwrap_or_default();
        assert!(report.contains(why), "no {why:?} about:{steps}\nbut:\n{report}");
    }
}

#[test]
fn true_statements_pass() {
    Runner::of(&feature("true", TRUE.iter().copied())).finish().expect(0, &[", 0 failed"]);
}
