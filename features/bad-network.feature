Feature: A bad network is no way around the mesh
  Background:
    Given a mesh
    And the workload "static-server"

  @LC-08 @beyond @sim
  Scenario Outline: A bad network does not change who may talk to whom
    Given the workload "far-client" with:
      | link | <impairment> |
    When "far-client" requests "http://static-server" 100 times
    Then no request failed
    And the canary was never in clear outside a pod

    Examples:
      | impairment      |
      | 100 ms delay    |
      | 5 % packet loss |
      | MTU 1280        |
      | 10 Mbit/s limit |
