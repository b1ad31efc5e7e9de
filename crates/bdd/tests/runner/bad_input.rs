//! Bad input, each with the message a user gets.

use std::os::unix::process::CommandExt;

use rstest::rstest;

use crate::started::Runner;

#[test]
fn a_malformed_feature_is_named_with_its_line() {
    Runner::of("Feature: broken\n  Scenario: one\n    Given a mesh\n    nonsense here\n")
        .finish()
        .expect(2, &["it.feature", "4"]);
}

#[test]
fn an_undefined_step_fails_and_is_shown() {
    Runner::of("Feature: f\n  Scenario: s\n    Given a mash\n").finish().expect(1, &["a mash"]);
}

#[test]
fn a_phrase_of_a_later_issue_says_so() {
    Runner::of("Feature: f\n  Scenario: s\n    Given a mesh with:\n      | global.peering.enabled | true |\n    When \"outsider\" requests \"http://web\"\n")
        .finish()
        .expect(1, &["global.peering.enabled", "issue 7"]);
}

#[rstest]
#[case::one_and_the_same(r#"Given clusters "a" and "a" peered"#, &["one and the same"])]
#[case::two_kinds(
    "Given clusters \"a\" and \"b\" peered\n    And clusters \"a\" and \"c\" sharing one datacenter",
    &["others of this scenario are peered"]
)]
#[case::too_late(
    "Given the workload \"web\"\n    And clusters \"a\" and \"b\" peered", &["say so before", "web"]
)]
#[case::elsewhere(
    "Given clusters \"a\" and \"b\" peered\n    And the workload \"web\" with:\n      | cluster | c |", &["the clusters are a, b"]
)]
#[case::nowhere("Given the workload \"web\" with:\n      | cluster | c |", &["there is one cluster"])]
#[case::in_both(
    "Given clusters \"a\" and \"b\" peered\n    And the workload \"web\" with:\n      | cluster | a |\n    And the workload \"web\" with:\n      | cluster | b |\n    And \"web\" exported to \"a\"",
    &["web@a and web@b", "say which is meant"]
)]
#[case::to_nobody(
    "Given clusters \"a\" and \"b\" peered\n    And the workload \"web\"\n    And \"web\" exported to \"c\"",
    &["find the cluster \"c\"", "a, b"]
)]
fn clusters_that_cannot_be_are_named(#[case] steps: &str, #[case] expected: &[&str]) {
    Runner::of(&format!("Feature: f\n  Scenario: s\n    {steps}\n")).finish().expect(1, expected);
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest_known_one() {
    Runner::of("Feature: f\n  Scenario: s\n    Given a mesh with:\n      | connectInject.transparentProxy.defaultEnable | true |\n    And the workload \"static-server\"\n")
        .finish()
        .expect(1, &["connectInject.transparentProxy.defaultEnable", "connectInject.transparentProxy.defaultEnabled"]);
}

#[test]
fn a_missing_envoy_says_how_to_get_one() {
    Runner::bare("Feature: f\n  Scenario: s\n    Given a mesh\n")
        .with(|command| {
            command.arg("--envoy").arg("/nonexistent/envoy");
        })
        .finish()
        .expect(2, &["/nonexistent/envoy", "cargo xtask"]);
}

#[test]
fn a_user_without_the_means_is_told_which() {
    // A user with no subordinate ids: the sandbox cannot give Pods their user ids.
    Runner::of("Feature: f\n  Scenario: s\n    Given a mesh\n")
        .with(|command| {
            command.uid(64_999).gid(64_999);
        })
        .finish()
        .expect(2, &["subuid"]);
}

#[test]
fn a_step_that_times_out_says_what_it_awaited_and_what_it_saw_last() {
    let feature = r#"
Feature: f
  Scenario: s
    Given a mesh
    And the workload "never" with:
      | probe readiness | exec test -d /tmp/never |
    Then "never" becomes ready
"#;
    Runner::of(feature).finish().expect(1, &["never", "Readiness probe failed"]);
}

#[test]
fn an_external_endpoint_without_an_address_is_refused() {
    Runner::of("Feature: f\n  Scenario: s\n    Given a mesh\n    And the external endpoint \"web\" at \"nowhere\"\n")
        .finish()
        .expect(1, &["nowhere"]);
}
