@each-mechanism
Feature: What applications say to each other survives redirection
  Background:
    Given a mesh
    And the workload "static-server"
    And the workload "static-client"
    And the external endpoint "web" at "198.51.100.10:80"

  @RD-06 @peer @sim @kind
  Scenario Outline: Each application protocol survives redirection unchanged
    Given the workload "echo" with:
      | listens | <protocol> 9000 |
    When "static-client" sends "<payload>" over <protocol> to "echo:9000"
    Then the answer contains "<payload>"
    And "static-client" sent it through its proxy
    And it is mutual TLS for "echo" from "static-client" to "echo"

    Examples:
      | protocol | payload              |
      | http     | ping-http1           |
      | grpc     | ping-grpc            |
      | tcp      | ping-tcp             |
      | tls      | ping-application-tls |

  @RD-07 @peer @sim @kind
  Scenario: A server that speaks first is not held up by protocol detection
    Given the workload "greeter" with:
      | listens | server-first 5432 |
    When "static-client" dials tcp "greeter:5432"
    Then it is answered
    And the answer contains "220 greeter"
    And it is mutual TLS for "greeter" from "static-client" to "greeter"

  @RD-08 @beyond @sim @kind
  Scenario Outline: A large or half-closed stream arrives whole
    Given the workload "echo" with:
      | listens | tcp 9000 |
    When "static-client" sends "<stream>" over tcp to "echo:9000"
    Then the answer contains "sha256 of <stream>"
    And "echo" received it through its proxy

    Examples:
      | stream                       |
      | 64 MiB                       |
      | 64 MiB then half-close       |
      | 1 byte every 500 ms for 10 s |

  @RD-09 @peer @sim @kind
  Scenario Outline: Destinations outside the mesh
    Given the Mesh "mesh" with:
      | transparentProxy.meshDestinationsOnly | <only> |
    When "static-client" requests "http://external(web):80"
    Then it is <outcome>
    And "static-client" sent it through its proxy

    Examples:
      | only  | outcome  |
      | false | answered |
      | true  | blocked  |

  @RD-10 @beyond @sim @kind
  Scenario Outline: What is not TCP is not redirected
    When "static-client" sends "ping" over <protocol> to "<target>"
    Then "static-client" sent it around its proxy
    And it is plaintext from "static-client" to "<target>"

    Examples:
      | protocol | target             |
      | udp      | static-server:9999 |
      | udp      | external(web):443  |
      | icmp     | pod(static-server) |

  @RD-12 @peer @sim @kind
  Scenario Outline: Where the application must listen to be reached through the proxy
    Given the workload "binder" with:
      | listens | http 8080 |
      | binds   | <bind>    |
    When "static-client" requests "http://binder"
    Then it is <outcome>

    Examples:
      | bind     | outcome  |
      | wildcard | answered |
      | loopback | answered |
      | pod IP   | blocked  |

  @RD-13 @peer @sim @kind
  Scenario: The Kubernetes API stays reachable from a redirected pod
    When "static-client" dials tls "kubernetes.default.svc:443"
    Then it is answered
    And "static-client" sent it through its proxy

  @UP-05 @peer @sim @kind
  Scenario: Onboarding through permissive mTLS and back to strict
    When "outsider" requests "http://pod(static-server):8080"
    Then it is reset
    When the Mesh "mesh" is changed to:
      | allowEnablingPermissiveMutualTLS | true |
    And the ServiceDefaults "static-server" is changed to:
      | mutualTLSMode | permissive |
    Then within 30 seconds it is answered
    When the ServiceDefaults "static-server" is changed to:
      | mutualTLSMode | strict |
    Then within 30 seconds it is reset

  # The proxy of an http service answers what is no HTTP by itself.
  @PT-01 @beyond @sim @kind
  Scenario Outline: The protocol of a service goes before that of all
    Given the ProxyDefaults "global" with:
      | config.protocol | http |
    And the ServiceDefaults "echo" with:
      | protocol | <protocol> |
    And the workload "echo" with:
      | listens | tcp 9000 |
    When "static-client" sends "NOT-HTTP" over tcp to "echo:9000"
    Then the answer contains "<answer>"

    Examples:
      | protocol | answer          |
      | tcp      | NOT-HTTP        |
      | http     | 400 Bad Request |
