@each-mechanism
Feature: What Consul's rules leave open can be closed

  @beyond @sim @kind
  Scenario Outline: What a pod sends to itself
    Given a mesh
    And the workload "static-server" with:
      | annotation transparent-proxy-safeguards | <safeguards> |
    When "static-server" dials tcp "<address>:8080"
    Then it is answered
    And "static-server" sent it <path> its proxy

    Examples: as with Consul, only 127.0.0.1 is exempt
      | safeguards | address            | path    |
      | none       | 127.0.0.1          | around  |
      | none       | 127.0.0.2          | through |
      | none       | pod(static-server) | through |

    Examples: or it all stays where it is
      | safeguards   | address            | path   |
      | local-direct | 127.0.0.1          | around |
      | local-direct | 127.0.0.2          | around |
      | local-direct | pod(static-server) | around |

  @beyond @sim @kind
  Scenario: As with Consul, a cloud's metadata service is reached through the proxy
    Given a mesh
    And the external endpoint "metadata" at "169.254.169.254:80"
    And the workload "static-client"
    When "static-client" requests "http://external(metadata):80"
    Then it is answered
    And "static-client" sent it through its proxy

  @beyond @sim @kind
  Scenario Outline: Or it is refused
    Given a mesh with:
      | rule backend | <backend> |
    And the external endpoint "metadata" at "169.254.169.254:80"
    And the external endpoint "web" at "198.51.100.10:80"
    And the workload "static-client" with:
      | annotation transparent-proxy-safeguards | refuse-metadata |
    When "static-client" requests "http://external(web):80"
    Then it is answered
    When "static-client" requests "http://external(metadata):80"
    Then it is refused
    And nothing left "static-client" for "external(metadata)"

    Examples:
      | backend         |
      | nftables        |
      | iptables-nft    |
      | iptables-legacy |

  @beyond @sim @kind
  Scenario: As with Consul, QUIC and all other UDP goes around the proxy
    Given a mesh
    And the external endpoint "web" at "198.51.100.10:443"
    And the workload "static-client"
    When "static-client" sends "ping" over udp to "external(web):443"
    Then it is answered
    And "static-client" sent it around its proxy

  @beyond @sim @kind
  Scenario Outline: Or UDP is refused, and names are still found
    Given a mesh with:
      | rule backend | <backend> |
    And the external endpoint "web" at "198.51.100.10:443"
    And the workload "static-server"
    And the workload "static-client" with:
      | annotation transparent-proxy-safeguards | refuse-udp |
    When "static-client" sends "ping" over udp to "external(web):443"
    Then it is blocked
    And nothing left "static-client" for "external(web)"
    When "static-client" requests "http://static-server"
    Then it is answered

    Examples:
      | backend         |
      | nftables        |
      | iptables-nft    |
      | iptables-legacy |
