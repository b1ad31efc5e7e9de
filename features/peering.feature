# Two clusters with a mesh and a trust domain each, peered (clusters/topologies/peered.yaml). Only nodes are routed from one to the
# other, and Pods have the same addresses in both. The first cluster accepts, the second one dials.
Feature: Peered clusters need no explicit upstream
  Background:
    Given clusters "client" and "server" peered
    And a default intention of deny
    And the workload "static-server" with:
      | cluster | server |
    And the workload "static-client" with:
      | cluster | client |

  @PE-01 @documented @sim @kind @slow
  Scenario: A peered service is dialled by its virtual name
    Given "static-server" exported to "client"
    And "static-client" may reach "static-server"
    When "static-client" looks up "static-server.virtual.server.consul"
    Then the lookup yields a virtual IP
    And the lookup went to Consul DNS
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered by "static-server"
    And the pod of "static-client" shows:
      | annotation connect-service-upstreams | none |
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy
    And it crossed the mesh gateway of "server"
    And the canary was never in clear outside a pod

  @PE-02 @peer @sim @kind @slow
  Scenario Outline: Export and intention are both needed
    Given "static-server" <export> to "client"
    And "static-client" <may> reach "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is <outcome>

    Examples:
      | export       | may     | outcome  |
      | exported     | may     | answered |
      | exported     | may not | blocked  |
      | not exported | may     | blocked  |

  @PE-02 @beyond @sim @kind @slow
  Scenario: An export of one service is none of another
    Given the workload "api" with:
      | cluster | server |
    And "static-server" exported to "client"
    And "static-client" may reach "static-server"
    And "static-client" may reach "api"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered by "static-server"
    When "static-client" requests "http://api.virtual.server.consul"
    Then it is blocked
    And nothing from "static-client" reached "api"

  @PE-03 @peer @sim @kind @slow
  Scenario: An explicit upstream to a peer works as well
    Given "static-server" exported to "client"
    And "static-client" may reach "static-server"
    And the workload "explicit" with:
      | cluster                              | client                             |
      | annotation connect-service-upstreams | static-server.svc.server.peer:1234 |
    And "explicit" may reach "static-server"
    When "explicit" requests "http://localhost:1234"
    Then it is answered by "static-server"
    And it crossed the mesh gateway of "server"

  @peer @sim @kind @slow
  Scenario: In mode local the own gateways pass on what goes to a peer
    Given the ProxyDefaults "global" with:
      | meshGateway.mode | local |
    And "static-server" exported to "client"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered by "static-server"
    And it crossed the mesh gateways of "client, server"

  # what is HTTP stays HTTP: requests are told apart at the destination
  @beyond @sim @kind @slow
  Scenario: A service of a peer may speak HTTP
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceIntentions "static-server" with:
      | sources[0].name                              | static-client |
      | sources[0].peer                              | client        |
      | sources[0].permissions[0].action             | allow         |
      | sources[0].permissions[0].http.pathPrefix    | /open         |
    And "static-server" exported to "client"
    When "static-client" requests "http://static-server.virtual.server.consul/open"
    Then it is answered by "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul/closed"
    Then it is forbidden

  # changes take effect on proxies that run
  @beyond @sim @kind @slow
  Scenario: What is exported later can be reached, and what is exported no longer cannot
    Given "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is blocked
    When "static-server" exported to "client"
    Then within 30 seconds it is answered by "static-server"
    When "static-server" not exported to "client"
    Then within 30 seconds it is blocked
    And the canary was never in clear outside a pod

  @PE-04 @beyond @sim @kind @slow
  Scenario Outline: Ending the peering ends the traffic
    Given "static-server" exported to "client"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered
    When "static-client" keeps requesting "http://static-server.virtual.server.consul"
    And the <side> is deleted
    Then within 30 seconds it is blocked
    And the canary was never in clear outside a pod

    Examples:
      | side                     |
      | PeeringDialer "client"   |
      | PeeringAcceptor "server" |

  @PE-05 @beyond @sim @kind @slow
  Scenario: Traffic outlives a control plane outage of the peer
    Given "static-server" exported to "client"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered
    When "static-client" keeps requesting "http://static-server.virtual.server.consul"
    And the control plane of "server" is stopped
    And 30 seconds pass
    Then no request failed

  # servers that begin anew deny no name, and tell proxies nothing, before the peer has told them what it exports
  @beyond @sim @kind @slow
  Scenario Outline: Traffic to a peer outlives a restart of either control plane
    Given "static-server" exported to "client"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered
    When "static-client" keeps requesting "http://static-server.virtual.server.consul"
    And the control plane of "<cluster>" is restarted
    And 10 seconds pass
    Then no request failed

    Examples:
      | cluster |
      | client  |
      | server  |

  # a name of a mesh means its own service, whatever a peer calls its own
  @beyond @sim @kind @slow
  Scenario: A peer's service does not stand in for one of the same name
    Given the workload "static-server" with:
      | cluster | client |
    And "static-server@server" exported to "client"
    And "static-client" may reach "static-server@server"
    And "static-client" may reach "static-server@client"
    When "static-client" requests "http://static-server.virtual.consul"
    Then it is answered by "static-server@client"
    And it crossed no mesh gateway
    When "static-client" requests "http://static-server.virtual.server.consul"
    Then it is answered by "static-server@server"
