# Two clusters that share one datacenter (clusters/topologies/one-datacenter.yaml): one catalogue, one set of virtual addresses, servers in
# one of the clusters. Their Services have the same addresses, which mean something in their own cluster only.
Feature: One datacenter over several Kubernetes clusters
  Background:
    Given clusters "k8s-a" and "k8s-b" sharing one datacenter
    And the workload "my-service" with:
      | cluster | k8s-b |

  @SD-01 @documented @sim @kind @slow
  Scenario: The explicit upstream annotation reaches the other cluster
    Given the workload "caller" with:
      | cluster                              | k8s-a           |
      | annotation connect-service-upstreams | my-service:1234 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    And it is mutual TLS for "my-service" from "caller" to "my-service"
    And it uses port 20000 from "caller" to "my-service"

  # a known limitation: KubeDNS knows the Services of its own cluster
  @SD-02 @documented @sim @kind @slow
  Scenario: Without the annotation the other cluster's service has no address
    Given the workload "caller" with:
      | cluster | k8s-a |
    When "caller" requests "http://my-service"
    Then it is blocked
    And nothing from "caller" reached "my-service"

  @SD-03 @peer @sim @kind @slow
  Scenario: The client cluster needs no Consul server of its own
    Given a mesh with:
      | server.enabled          | false           |
      | externalServers.enabled | true            |
      | externalServers.hosts   | server of k8s-b |
    And the workload "caller" with:
      | cluster                              | k8s-a           |
      | annotation connect-service-upstreams | my-service:1234 |
    When "caller" requests "http://localhost:1234"
    Then it is answered by "my-service"
    And it is mutual TLS for "my-service" from "caller" to "my-service"

  # the virtual address is the datacenter's, and so works everywhere in it
  @beyond @sim @kind @slow
  Scenario: The virtual name reaches the other cluster without an annotation
    Given the workload "caller" with:
      | cluster | k8s-a |
    When "caller" looks up "my-service.virtual.consul"
    Then the lookup yields a virtual IP
    When "caller" requests "http://my-service.virtual.consul"
    Then it is answered by "my-service"
    And "caller" sent it through its proxy
    And it is mutual TLS for "my-service" from "caller" to "my-service"

  # upstream's fault 35: two Services with one address made two chains with one match, and Envoy refused the whole listener
  @beyond @sim @kind @slow
  Scenario: An address that two clusters give to two Services means each its own
    Given the workload "static-server" with:
      | cluster | k8s-a |
    And the workload "caller" with:
      | cluster | k8s-a |
    And the workload "reader" with:
      | cluster | k8s-b |
    When "caller" requests "http://clusterip(static-server)"
    Then it is answered by "static-server"
    And nothing from "caller" reached "my-service"
    When "reader" requests "http://clusterip(my-service)"
    Then it is answered by "my-service"
    And nothing from "reader" reached "static-server"

  # one service in both clusters: its instances are those of one catalogue
  @beyond @sim @kind @slow
  Scenario: Instances of one service in two clusters stand in for each other
    Given the workload "my-service" with:
      | cluster | k8s-a |
    And the workload "caller" with:
      | cluster | k8s-a |
    When "my-service@k8s-a" is scaled to 0
    And "caller" requests "http://my-service.virtual.consul"
    Then within 60 seconds it is answered by "my-service@k8s-b"
    When "my-service@k8s-a" is scaled to 1
    And "my-service@k8s-b" is scaled to 0
    And "caller" requests "http://my-service"
    Then within 60 seconds it is answered by "my-service@k8s-a"

  @beyond @sim @kind @slow
  Scenario: An intention counts in both clusters
    Given a default intention of deny
    And the workload "caller" with:
      | cluster                              | k8s-a           |
      | annotation connect-service-upstreams | my-service:1234 |
    When "caller" requests "http://localhost:1234"
    Then it is blocked
    When "caller" may now reach "my-service"
    Then within 10 seconds it is answered by "my-service"
