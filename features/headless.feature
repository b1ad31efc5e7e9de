@each-mechanism
Feature: Headless services are dialled instance by instance
  Background:
    Given a mesh
    And a default intention of deny
    And the workload "db" with:
      | service  | headless |
      | replicas | 3        |
      | listens  | tcp 5432 |
    And the workload "static-client"
    And "static-client" may reach "db"

  @HL-01 @documented @sim @kind
  Scenario Outline: With dialedDirectly each instance is dialled through both proxies
    Given the ServiceDefaults "db" with:
      | transparentProxy.dialedDirectly | true |
    When "static-client" dials tcp "<instance>.db:5432"
    Then it is answered by "<instance>"
    And "static-client" sent it through its proxy
    And it is mutual TLS for "db" from "static-client" to "<instance>"
    And it uses port 5432 from "static-client" to "<instance>"

    Examples:
      | instance |
      | db-0     |
      | db-1     |
      | db-2     |

  @HL-02 @documented @sim @kind
  Scenario: DNS lists the individual instances
    When "static-client" looks up "db.default.svc.cluster.local"
    Then the lookup yields the pod IPs of "db"
    When "db" is scaled to 4
    And "static-client" looks up "db.default.svc.cluster.local"
    Then the lookup yields the pod IPs of "db"

  @HL-03 @documented @sim @kind
  Scenario: Without dialedDirectly an instance cannot be reached
    When "static-client" dials tcp "db-0.db:5432"
    Then it is blocked
    And "static-client" sent it through its proxy
    And nothing from "static-client" reached "app(db-0)"

  @HL-04 @documented @sim @kind
  Scenario: Intentions are enforced at the instance
    Given the ServiceDefaults "db" with:
      | transparentProxy.dialedDirectly | true |
    And the workload "stranger"
    When "stranger" dials tcp "db-0.db:5432"
    Then it is blocked
    And nothing from "stranger" reached "app(db-0)"

  @HL-05 @documented @sim @kind
  Scenario Outline: Routing rules apply to the service address and not to an instance
    Given the workload "api" with:
      | replicas | 2         |
      | listens  | http 8080 |
    And the ServiceDefaults "api" with:
      | protocol                        | http |
      | transparentProxy.dialedDirectly | true |
    And the ServiceRouter "api" with:
      | routes[0].match.http.pathPrefix     | /    |
      | routes[0].destination.prefixRewrite | /v2/ |
    And "static-client" may reach "api"
    When "static-client" requests "<url>"
    Then the answer contains "<path>"

    Examples:
      | url                          | path      |
      | http://api/hello             | /v2/hello |
      | http://pod(api-0):8080/hello | /hello    |

  @HL-06 @documented @sim @kind
  Scenario Outline: The instance is proxied as plain TCP whatever protocol is configured
    Given the ServiceDefaults "db" with:
      | protocol                        | <protocol> |
      | transparentProxy.dialedDirectly | true       |
    When "static-client" sends "NOT-HTTP\x00\x01\x02" over tcp to "db-0.db:5432"
    Then the answer contains "NOT-HTTP\x00\x01\x02"
    And it is mutual TLS for "db" from "static-client" to "db-0"

    Examples:
      | protocol |
      | tcp      |
      | http     |
      | grpc     |

  @HL-07 @documented @sim @kind
  Scenario: The original destination is kept, never balanced away
    Given the ServiceDefaults "db" with:
      | transparentProxy.dialedDirectly | true |
    When "static-client" requests "tcp://db-1.db:5432" 50 times
    Then every answer came from "db-1"
    And nothing from "static-client" reached "db-0"
    And nothing from "static-client" reached "db-2"

  @HL-08 @peer @sim @kind
  Scenario: Members of a stateful set find each other
    Given the ServiceDefaults "db" with:
      | transparentProxy.dialedDirectly | true |
    And "db" may reach "db"
    When "db-0" dials tcp "db-2.db:5432"
    Then it is answered by "db-2"
    And it is mutual TLS for "db" from "db-0" to "db-2"

  # Consul never makes a service its own upstream, so that without dialedDirectly members cannot reach each other by address; by the
  # virtual name they go to nowhere. The proxies say so on the wire.
  @HL-09 @beyond @sim @kind
  Scenario: Without dialedDirectly members of a stateful set do not find each other
    Given "db" may reach "db"
    When "db-0" dials tcp "db-2.db:5432"
    Then it is blocked
    And nothing from "db-0" reached "app(db-2)"

  @HL-10 @beyond @sim @kind
  Scenario: An instance that moved is dialled at its new address
    Given the ServiceDefaults "db" with:
      | transparentProxy.dialedDirectly | true |
    When "static-client" dials tcp "db-1.db:5432"
    Then it is answered by "db-1"
    When "db-1" is force-killed
    And "static-client" dials tcp "db-1.db:5432"
    Then within 30 seconds it is answered by "db-1"
    And it is mutual TLS for "db" from "static-client" to "db-1"
