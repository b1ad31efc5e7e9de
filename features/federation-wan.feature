# Two clusters that are a datacenter each, federated over mesh gateways (clusters/topologies/federated.yaml).
# Virtual addresses and names of a datacenter are its own: what is in another one is dialled by an explicit upstream, or through a
# resolver here that sends to it. Proxies use the gateways of the other side (mode remote) unless a scenario says otherwise.
Feature: Dialling a service in a federated datacenter
  Background:
    Given clusters "dc1" and "dc2" federated over mesh gateways

  # consul.io, WAN federation; consul-k8s wan-federation/wan_federation_test.go
  @FW-01 @documented @sim @kind @slow
  Scenario: The explicit upstream annotation reaches the other datacenter
    Given the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1                 |
      | annotation connect-service-upstreams | my-service:1234:dc2 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    And it crossed the mesh gateway of "dc2"
    And the canary was never in clear outside a pod
    And the capture of "caller" shows:
      | interface | direction | to              | content | count |
      | lo        | any       | 127.0.0.1:1234  | any     | >0    |
      | lo        | any       | 127.0.0.1:15001 | any     | 0     |

  # a known limitation: neither KubeDNS nor the virtual names of a datacenter cross to another
  @FW-02 @documented @sim @kind @slow
  Scenario Outline: Without the annotation the remote service cannot be dialled by name
    Given the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster | dc1 |
    When "caller" requests "<url>"
    Then it is blocked
    And nothing from "caller" reached "my-service"

    Examples:
      | url                              |
      | http://my-service                |
      | http://my-service.virtual.consul |

  @FW-03 @peer @sim @kind @slow
  Scenario Outline: The gateway mode decides which gateways carry the traffic
    Given the ProxyDefaults "global" with:
      | meshGateway.mode | <mode> |
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1                 |
      | annotation connect-service-upstreams | my-service:1234:dc2 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    And it crossed <gateways>
    And the canary was never in clear outside a pod

    Examples:
      | mode   | gateways                        |
      | local  | the mesh gateways of "dc1, dc2" |
      | remote | the mesh gateway of "dc2"       |
      | none   | no mesh gateway                 |

  # the dialing upstream over the service's defaults, and these over the proxies'
  @documented @sim @kind @slow
  Scenario Outline: Who says more exactly which gateways, decides
    Given the ProxyDefaults "global" with:
      | meshGateway.mode | none |
    And the ServiceDefaults "my-service" with:
      | meshGateway.mode | remote |
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1        |
      | annotation connect-service-upstreams | <upstream> |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    And it crossed <gateways>

    Examples:
      | upstream                                    | gateways                        |
      | my-service:1234:dc2                         | the mesh gateway of "dc2"       |
      | my-service.svc.dc2.dc:1234                  | the mesh gateway of "dc2"       |
      | my-service:1234:dc2?mesh_gateway_mode=local | the mesh gateways of "dc1, dc2" |
      | my-service:1234:?dc=dc2&mesh_gateway_mode=none | no mesh gateway              |

  # an override over the defaults of the dialling service, these over what the service says of itself
  @documented @sim @kind @slow
  Scenario Outline: The dialling service decides through which gateways it goes
    Given the ServiceDefaults "my-service" with:
      | meshGateway.mode | none |
    And the ServiceDefaults "caller" with:
      | upstreamConfig.defaults.meshGateway.mode | remote |
      | upstreamConfig.overrides[0].name             | <named> |
      | upstreamConfig.overrides[0].meshGateway.mode | local   |
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1        |
      | annotation connect-service-upstreams | <upstream> |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    And it crossed <gateways>

    Examples:
      | named      | upstream                                   | gateways                        |
      | another    | my-service:1234:dc2                        | the mesh gateway of "dc2"       |
      | my-service | my-service:1234:dc2                        | the mesh gateways of "dc1, dc2" |
      | my-service | my-service:1234:dc2?mesh_gateway_mode=none | no mesh gateway                 |

  @FW-04 @peer @sim @kind @slow
  Scenario: Failover to the other datacenter and back
    Given the ServiceResolver "my-service" with:
      | failover.*.targets[0].datacenter | dc2 |
    And the workload "my-service" with:
      | cluster | dc1 |
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1             |
      | annotation connect-service-upstreams | my-service:1234 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service@dc1"
    And it crossed no mesh gateway
    When "my-service@dc1" is scaled to 0
    Then within 60 seconds it is answered by "my-service@dc2"
    And it crossed the mesh gateway of "dc2"
    When "my-service@dc1" is scaled to 1
    Then within 60 seconds it is answered by "my-service@dc1"

  # a name of this datacenter works for what is in another, where a resolver sends it there
  @documented @sim @kind @slow
  Scenario Outline: A resolver makes a local name lead to the other datacenter
    Given the ServiceResolver "my-service" with:
      | redirect.datacenter | dc2 |
    And the workload "my-service" with:
      | cluster | dc1 |
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster | dc1 |
    When "caller" requests "<url>"
    Then it is answered by "my-service@dc2"
    And "caller" sent it through its proxy
    And it crossed the mesh gateway of "dc2"
    And nothing from "caller" reached "my-service@dc1"

    Examples:
      | url                              |
      | http://my-service                |
      | http://my-service.virtual.consul |

  @FW-05 @beyond @sim @kind @slow
  Scenario: Losing the gateway fails closed and heals
    Given the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1                 |
      | annotation connect-service-upstreams | my-service:1234:dc2 |
    When the mesh gateway of "dc2" is stopped
    And "caller" requests "http://localhost:1234"
    Then it is blocked
    And the canary was never in clear outside a pod
    When the mesh gateway of "dc2" is started
    Then within 60 seconds it is answered by "my-service"

  @beyond @sim @kind @slow
  Scenario: Servers that are away leave the way to their datacenter open
    Given the ProxyDefaults "global" with:
      | meshGateway.mode | local |
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1                 |
      | annotation connect-service-upstreams | my-service:1234:dc2 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    When "caller" keeps requesting "http://localhost:1234"
    And the control plane of "dc2" is stopped
    And 10 seconds pass
    Then no request failed
    When the control plane of "dc2" is started
    And "my-service" is restarted
    Then within 60 seconds it is answered by "my-service"

  @beyond @sim @kind @slow
  Scenario Outline: Traffic to another datacenter outlives a restart of either control plane
    Given the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1                 |
      | annotation connect-service-upstreams | my-service:1234:dc2 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    When "caller" keeps requesting "http://localhost:1234"
    And the control plane of "<datacenter>" is restarted
    And 10 seconds pass
    Then no request failed

    Examples:
      | datacenter |
      | dc1        |
      | dc2        |

  # intentions count in all datacenters, and are enforced where the destination is
  @beyond @sim @kind @slow
  Scenario Outline: An intention is enforced at the destination's end
    Given a default intention of <default>
    And the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster                              | dc1                 |
      | annotation connect-service-upstreams | my-service:1234:dc2 |
    And "caller" <may> reach "my-service"
    When "caller" requests "http://localhost:1234"
    Then it is <outcome>
    And it crossed the mesh gateway of "dc2"

    Examples:
      | default | may     | outcome  |
      | deny    | may     | answered |
      | allow   | may not | blocked  |

  @beyond @sim @kind @slow
  Scenario Outline: Consul DNS knows instances by their datacenter
    Given the workload "my-service" with:
      | cluster | dc2 |
    And the workload "caller" with:
      | cluster | dc1 |
    When "caller" looks up "<name>"
    Then the lookup yields <answer>
    And the lookup went to Consul DNS

    Examples:
      | name                             | answer                      |
      | my-service.service.dc2.consul    | the pod IPs of "my-service" |
      | my-service.service.dc2.dc.consul | the pod IPs of "my-service" |
      | my-service.service.consul        | no such name                |
      | my-service.service.dc3.consul    | no such name                |
