@each-mechanism
Feature: Both address families are redirected, or neither leaks

  @IP-01 @peer @sim @kind
  Scenario Outline: In a dual-stack pod both families are redirected
    Given a mesh with:
      | pod addresses | dual-stack |
      | rule backend  | <backend>  |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" dials tcp "<target>"
    Then it is answered
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy

    Examples:
      | backend         | target                       |
      | nftables        | clusterip4(static-server):80 |
      | nftables        | clusterip6(static-server):80 |
      | iptables-nft    | clusterip4(static-server):80 |
      | iptables-nft    | clusterip6(static-server):80 |
      | iptables-legacy | clusterip4(static-server):80 |
      | iptables-legacy | clusterip6(static-server):80 |

  @IP-01 @peer @sim @kind
  Scenario Outline: Inbound TCP is redirected over either family
    Given a mesh with:
      | pod addresses | dual-stack |
    And the workload "static-server"
    When "outsider" dials tcp "<target>"
    Then it is reset
    And nothing from "outsider" reached "app(static-server)"

    Examples:
      | target                   |
      | pod4(static-server):8080 |
      | pod6(static-server):8080 |

  # `pod addresses | IPv4` is what the cluster is configured for. The interfaces have IPv6 addresses as well, of which
  # Kubernetes is not told, as where a router advertises a prefix.
  @IP-02 @beyond @sim
  Scenario: By default IPv6 is left alone in a single-stack pod, as Consul leaves it
    Given a mesh with:
      | pod addresses | IPv4 |
    And the workload "static-server"
    And the workload "static-client"
    When "outsider" dials tcp "pod6(static-server):8080"
    Then it is answered
    And "static-server" received it around its proxy
    When "static-client" dials tcp "external6(web):80"
    Then it is answered
    And "static-client" sent it around its proxy

  @IP-02 @beyond @sim
  Scenario Outline: With a safeguard IPv6 is no side door when only IPv4 is configured
    Given a mesh with:
      | pod addresses | IPv4      |
      | rule backend  | <backend> |
    And the workload "static-server" with:
      | annotation transparent-proxy-safeguards | refuse-ipv6 |
    And the workload "static-client" with:
      | annotation transparent-proxy-safeguards | refuse-ipv6 |
    When "<from>" dials tcp "<target>"
    Then it is blocked
    And nothing from "<from>" reached "app(<to>)"

    Examples:
      | backend         | from          | to            | target                   |
      | nftables        | outsider      | static-server | pod6(static-server):8080 |
      | nftables        | static-client | web           | external6(web):80        |
      | iptables-nft    | outsider      | static-server | pod6(static-server):8080 |
      | iptables-nft    | static-client | web           | external6(web):80        |
      | iptables-legacy | outsider      | static-server | pod6(static-server):8080 |
      | iptables-legacy | static-client | web           | external6(web):80        |

  @IP-03 @peer @sim @kind
  Scenario: An IPv6-only cluster works end to end
    Given a mesh with:
      | pod addresses | IPv6 |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @IP-04 @beyond @sim @kind
  Scenario Outline: IPv6 exclusions
    Given a mesh with:
      | pod addresses | dual-stack |
      | rule backend  | <backend>  |
    And the external endpoint "net" at "[<address>]:80"
    And the workload "caller" with:
      | annotation transparent-proxy-exclude-outbound-cidrs | 2001:db8:1::/48,3.3.3.3 |
    When "caller" requests "http://external(net):80"
    Then "caller" sent it <path> its proxy

    Examples:
      | backend         | address          | path    |
      | nftables        | 2001:db8:1::1    | around  |
      | nftables        | 2001:db8:1:ff::1 | around  |
      | nftables        | 2001:db8:2::1    | through |
      | iptables-nft    | 2001:db8:1::1    | around  |
      | iptables-nft    | 2001:db8:1:ff::1 | around  |
      | iptables-nft    | 2001:db8:2::1    | through |
      | iptables-legacy | 2001:db8:1::1    | around  |
      | iptables-legacy | 2001:db8:1:ff::1 | around  |
      | iptables-legacy | 2001:db8:2::1    | through |
