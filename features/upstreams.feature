@each-mechanism
Feature: Upstreams that an annotation names have a local port of their own
  Background:
    Given a mesh
    And the workload "static-server"

  @UPS-01 @peer @sim @kind
  Scenario Outline: Every form that means a service of the datacenter leads to it
    Given the workload "explicit" with:
      | annotation connect-service-upstreams | <upstream> |
    When "explicit" requests "http://<dialled>"
    Then it is answered
    And it is mutual TLS for "static-server" from "explicit" to "static-server"
    And it uses port 20000 from "explicit" to "static-server"
    And "static-server" received it through its proxy

    Examples:
      | upstream                                           | dialled         |
      | static-server:1234                                 | 127.0.0.1:1234  |
      | static-server.svc:1234                             | 127.0.0.1:1234  |
      | static-server:1234:dc1                             | 127.0.0.1:1234  |
      | static-server.svc.dc1.dc:1234                      | 127.0.0.1:1234  |
      | static-server:0x4D2                                | 127.0.0.1:1234  |
      | static-server:1234:?local_bind_address=127.0.0.77  | 127.0.0.77:1234 |
      | static-server:1234:dc1?mesh_gateway_mode=none      | 127.0.0.1:1234  |
      | other:1233, static-server:1234                     | 127.0.0.1:1234  |

  # Its own listener takes the place of the chain in the outbound listener, so that the address of the Service leads past the mesh:
  # plaintext meets a proxy that demands a certificate.
  @UPS-02 @beyond @sim @kind
  Scenario: An upstream that is named is no implicit one
    Given the workload "explicit" with:
      | annotation connect-service-upstreams | static-server:1234 |
    When "explicit" requests "http://static-server"
    Then it is blocked
    And nothing from "explicit" reached "app(static-server)"
    When "explicit" requests "http://127.0.0.1:1234"
    Then it is answered

  # With its datacenter an upstream has another name, and both ways are there.
  @UPS-03 @beyond @sim @kind
  Scenario: An upstream that is named with its datacenter is an implicit one as well
    Given the workload "explicit" with:
      | annotation connect-service-upstreams | static-server:1234:dc1 |
    When "explicit" requests "http://static-server"
    Then it is answered
    And it is mutual TLS for "static-server" from "explicit" to "static-server"
    When "explicit" requests "http://127.0.0.1:1234"
    Then it is answered

  @UPS-04 @beyond @sim @kind
  Scenario: An upstream is configured without an intention, and the destination decides
    Given a default intention of deny
    And the workload "explicit" with:
      | annotation connect-service-upstreams | static-server:1234 |
    When "explicit" requests "http://127.0.0.1:1234"
    Then it is blocked
    And nothing from "explicit" reached "app(static-server)"
    When "explicit" may now reach "static-server"
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "explicit" to "static-server"

  @UPS-05 @beyond @sim @kind
  Scenario Outline: An upstream that cannot be read is named, and the pod does not start
    When the workload "explicit" is submitted with:
      | annotation connect-service-upstreams | <upstream> |
    Then the submission is rejected
    And the error names "<upstream>"
    And the error names "connect-service-upstreams"

    Examples:
      | upstream                              |
      | static-server                         |
      | static-server:                        |
      | static-server:none                    |
      | static-server.svc.dc1.err:1234        |
      | static-server:1234:colour=red         |
      | static-server:1234:mesh_gateway_mode=x |

  # A query is made through Consul's HTTP API; until somebody does, nobody answers.
  @UPS-07 @beyond @sim @kind
  Scenario: An upstream may be a prepared query, and one that nobody made leads nowhere
    Given the workload "explicit" with:
      | annotation connect-service-upstreams | prepared_query:geo:1234 |
    When "explicit" requests "http://localhost:1234"
    Then it is blocked
    And "explicit" becomes ready

  @UPS-06 @peer @sim @kind
  Scenario: An upstream may mean one port of several
    Given the workload "multiport" with:
      | listens      | http 9090    |
      | listens      | http 9091    |
      | service port | api 9090     |
      | service port | metrics 9091 |
    And the workload "explicit" with:
      | annotation connect-service-upstreams | multiport:1234, multiport.svc:1235:metrics |
    When "explicit" requests "http://127.0.0.1:1234"
    Then the answer contains "api"
    When "explicit" requests "http://127.0.0.1:1235"
    Then the answer contains "metrics"
    And it is mutual TLS from "explicit" to "multiport"
