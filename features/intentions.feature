@each-mechanism
Feature: Intentions make upstreams and guard destinations
  Background:
    Given a mesh
    And a default intention of deny
    And the workload "static-server"
    And the workload "static-client"

  @IN-01 @documented @sim @kind
  Scenario: Under default deny nothing passes without an intention
    When "static-client" requests "http://static-server"
    Then it is blocked
    And "static-client" sent it through its proxy
    And nothing from "static-client" reached "app(static-server)"

  @IN-02 @documented @sim @kind
  Scenario: An intention alone makes an upstream reachable
    When "static-client" requests "http://static-server"
    Then it is blocked
    And the pod of "static-client" shows:
      | annotation connect-service-upstreams | none |
    When "static-client" may now reach "static-server"
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @IN-03 @documented @sim @kind
  Scenario: Under default allow no intention is needed
    Given a default intention of allow
    When "static-client" requests "http://static-server"
    Then it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @IN-04 @documented @sim @kind
  Scenario: The destination enforces, whatever the source proxy believes
    Given "static-client" may not reach "static-server"
    When "static-client" presenting the certificate of "static-client" dials "pod(static-server):20000"
    Then it is denied
    And nothing from "static-client" reached "app(static-server)"
