# Two clusters of one datacenter, each an admin partition (clusters/topologies/partitioned.yaml): one set of servers in the first, whose
# partition is "default", one trust domain, and a catalogue, entries and virtual addresses for each. What one sees of the other is what is
# exported to it. Pods are routed from cluster to cluster, and Services have the same addresses in both.
@enterprise
Feature: Admin partitions share a datacenter and see what is exported
  The Enterprise licence is needed on kind, not in the simulator.

  Background:
    Given clusters "default" and "ap1" sharing one datacenter
    And a mesh with:
      | global.adminPartitions.enabled | true |
    And a default intention of deny
    And the workload "static-server" with:
      | cluster | ap1 |
    And the workload "static-client" with:
      | cluster | default |

  @AP-01 @documented @sim @kind @slow
  Scenario: A service of another partition is dialled by its virtual name
    Given "static-server" exported to "default"
    And "static-client" may reach "static-server"
    When "static-client" looks up "static-server.virtual.default.ns.ap1.ap.consul"
    Then the lookup yields a virtual IP
    And the lookup went to Consul DNS
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is answered by "static-server"
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy
    And it is mutual TLS for "static-server" from "static-client" to "static-server"
    And it uses port 20000 from "static-client" to "static-server"
    And it crossed no mesh gateway
    And the canary was never in clear outside a pod

  # an address of the datacenter: it is the same in every partition
  @AP-01 @beyond @sim @kind @slow
  Scenario: The virtual address is the same in every partition
    Given "static-server" exported to "default"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://virtualip(static-server)"
    Then it is answered by "static-server"
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @AP-02 @documented @sim @kind @slow
  Scenario Outline: An explicit upstream names the partition
    Given "static-server" exported to "default"
    And the workload "explicit" with:
      | cluster                              | default    |
      | annotation connect-service-upstreams | <upstream> |
    And "explicit" may reach "static-server"
    When "explicit" requests "http://localhost:1234"
    Then it is answered by "static-server"
    And it is mutual TLS for "static-server" from "explicit" to "static-server"
    And it crossed no mesh gateway

    Examples:
      | upstream                                 |
      | static-server.default.ap1:1234           |
      | static-server.svc.default.ns.ap1.ap:1234 |

  @AP-03 @peer @sim @kind @slow
  Scenario Outline: Export and intention are both needed
    Given "static-server" <export> to "default"
    And "static-client" <may> reach "static-server"
    And the workload "explicit" with:
      | cluster                              | default                        |
      | annotation connect-service-upstreams | static-server.default.ap1:1234 |
    And "explicit" <may> reach "static-server"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is <outcome>
    When "explicit" requests "http://localhost:1234"
    Then it is <outcome>

    Examples:
      | export       | may     | outcome  |
      | exported     | may     | answered |
      | exported     | may not | blocked  |
      | not exported | may     | blocked  |

  @AP-03 @beyond @sim @kind @slow
  Scenario: Nothing reaches what is not exported, and the control plane says why
    Given "static-client" may reach "static-server"
    And the workload "explicit" with:
      | cluster                              | default                        |
      | annotation connect-service-upstreams | static-server.default.ap1:1234 |
    And "explicit" may reach "static-server"
    When "explicit" requests "http://localhost:1234"
    Then it is blocked
    And nothing from "explicit" reached "static-server"
    And nothing left "explicit" for "static-server"
    And the control plane shows:
      | problems | does not export |

  # changes take effect on proxies that run
  @AP-03 @beyond @sim @kind @slow
  Scenario: What is exported later can be reached, and what is exported no longer cannot
    Given "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is blocked
    When "static-server" exported to "default"
    Then within 30 seconds it is answered by "static-server"
    When "static-server" not exported to "default"
    Then within 30 seconds it is blocked
    And the canary was never in clear outside a pod

  @AP-04 @documented @sim @kind @slow
  Scenario Outline: Names of a partition resolve as far as it exports
    Given "static-server" exported to "default"
    And "static-client" may reach "static-server"
    When "static-client" looks up "<name>"
    Then the lookup yields <answer>

    Examples:
      | name                                           | answer                         |
      | static-server.virtual.default.ns.ap1.ap.consul | a virtual IP                   |
      | static-server.service.default.ns.ap1.ap.consul | the pod IPs of "static-server" |
      | static-client.service.default.ns.ap1.ap.consul | no such name                   |
      | static-server.service.default.ns.ap2.ap.consul | no such name                   |

  @AP-05 @beyond @sim @kind @slow
  Scenario: A service is not taken for one of the same name in another partition
    Given the workload "static-server" with:
      | cluster | default |
    And "static-server@ap1" exported to "default"
    And "static-client" may reach "static-server@ap1"
    And "static-client" may reach "static-server@default"
    When "static-client" requests "http://static-server.virtual.consul"
    Then it is answered by "static-server@default"
    And it is mutual TLS for "static-server@default" from "static-client" to "static-server@default"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is answered by "static-server@ap1"
    And it is mutual TLS for "static-server@ap1" from "static-client" to "static-server@ap1"

  @AP-05 @beyond @sim @kind @slow
  Scenario: A client is not taken for one of the same name in another partition
    Given the workload "static-client" with:
      | cluster | ap1 |
    And "static-server" exported to "default"
    And "static-client@ap1" may reach "static-server"
    When "static-client@ap1" requests "http://static-server.virtual.consul"
    Then it is answered by "static-server"
    When "static-client@default" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is blocked
    When "static-client@ap1" may not reach "static-server"
    And "static-client@default" may reach "static-server"
    And "static-client@default" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is answered by "static-server"
    When "static-client@ap1" requests "http://static-server.virtual.consul"
    Then it is blocked

  @AP-05 @beyond @sim @kind @slow
  Scenario: Any service of a partition may be let in
    Given "static-server" exported to "default"
    And the ServiceIntentions "static-server" with:
      | sources[0].name      | *       |
      | sources[0].partition | default |
      | sources[0].action    | allow   |
    And the workload "caller" with:
      | cluster | ap1 |
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is answered by "static-server"
    When "caller" requests "http://static-server.virtual.consul"
    Then it is blocked

  # what is HTTP stays HTTP: requests are told apart at the destination
  @AP-05 @beyond @sim @kind @slow
  Scenario: A service of another partition may speak HTTP
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceIntentions "static-server" with:
      | sources[0].name                           | static-client |
      | sources[0].partition                      | default       |
      | sources[0].permissions[0].action          | allow         |
      | sources[0].permissions[0].http.pathPrefix | /open         |
    And "static-server" exported to "default"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul/open"
    Then it is answered by "static-server"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul/closed"
    Then it is forbidden

  @AP-06 @peer @sim @kind @slow
  Scenario Outline: The gateway mode decides which gateways carry the traffic
    Given the ProxyDefaults "global" with:
      | meshGateway.mode | <mode> |
    And "static-server" exported to "default"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is answered by "static-server"
    And it crossed <gateways>
    And the canary was never in clear outside a pod

    Examples:
      | mode   | gateways                            |
      | local  | the mesh gateways of "default, ap1" |
      | remote | the mesh gateway of "ap1"           |
      | none   | no mesh gateway                     |

  @AP-07 @documented @sim @kind @slow
  Scenario: The pods are told of their partition
    Given "static-server" exported to "default"
    And the workload "explicit" with:
      | cluster                              | ap1                    |
      | annotation connect-service-upstreams | static-server.svc:1234 |
    And "explicit" may reach "static-server"
    When "explicit" requests "http://localhost:1234"
    Then it is answered by "static-server"
    And it is mutual TLS for "static-server" from "explicit" to "static-server"
    And the pod of "explicit" shows:
      | annotation consul-namespace | default |

  @AP-08 @documented @sim @kind @slow
  Scenario: A group fails over from partition to partition, and back
    Given the sameness group "group-name" of "default, ap1" failing over by default
    And the workload "sample-app" with:
      | cluster | default |
    And the workload "sample-app" with:
      | cluster | ap1 |
    And "static-client" may reach "sample-app@default"
    And "static-client" may reach "sample-app@ap1"
    When "static-client" looks up "sample-app.service.default.ns.group-name.sg.default.ap.consul"
    Then the lookup yields the pod IPs of "sample-app@default"
    When "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then it is answered by "sample-app@default"
    When "sample-app@default" is scaled to 0
    And "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then within 60 seconds it is answered by "sample-app@ap1"
    And it is mutual TLS for "sample-app@ap1" from "static-client" to "sample-app@ap1"
    When "static-client" looks up "sample-app.service.default.ns.group-name.sg.default.ap.consul"
    Then the lookup yields the pod IPs of "sample-app@ap1"
    When "sample-app@default" is scaled to 1
    And "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then within 60 seconds it is answered by "sample-app@default"

  @AP-08 @documented @sim @kind @slow
  Scenario: A resolver fails over to a service of another partition
    Given the ServiceResolver "my-service" with:
      | failover.*.targets[0].service   | static-server |
      | failover.*.targets[0].partition | ap1           |
    And "static-server" exported to "default"
    And the workload "my-service" with:
      | cluster | default |
    And "static-client" may reach "my-service"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://my-service.virtual.consul"
    Then it is answered by "my-service"
    When "my-service" is scaled to 0
    And "static-client" requests "http://my-service.virtual.consul"
    Then within 60 seconds it is answered by "static-server"

  @AP-09 @beyond @sim @kind @slow
  Scenario: Traffic between partitions outlives a control plane outage
    Given "static-server" exported to "default"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server.virtual.default.ns.ap1.ap.consul"
    Then it is answered by "static-server"
    When "static-client" keeps requesting "http://static-server.virtual.default.ns.ap1.ap.consul"
    And the control plane is restarted
    And 10 seconds pass
    Then no request failed
