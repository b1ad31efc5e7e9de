Feature: The init container sets redirection up before the application runs
  Background:
    Given a mesh
    And redirection by the init container

  @IC-01 @documented @sim @kind
  Scenario: By default an init container with NET_ADMIN installs the rules
    Given the workload "static-client"
    Then the pod of "static-client" shows:
      | containers adding NET_ADMIN | consul-connect-inject-init |
      | init container user         | 0                          |
      | privileged containers       | none                       |
    And the redirect rules of "static-client" are in place

  @IC-02 @documented @sim @kind
  Scenario: The very first packet of the application is already redirected
    Given the workload "eager" with:
      | command | dial external(web):80 before anything else |
    Then the capture of "eager" shows:
      | interface | direction | to               | content   | count |
      | eth0      | out       | external(web):80 | unproxied | 0     |
      | lo        | any       | 15001            | any       | >0    |

  @IC-04 @peer @sim @kind
  Scenario Outline: Every rule backend gives the same behaviour
    Given a mesh with:
      | rule backend | <backend> |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy

    Examples:
      | backend         |
      | iptables-legacy |
      | iptables-nft    |
      | nftables        |

  @IC-05 @beyond @sim
  Scenario: Redirection is complete or the pod does not start
    Given a mesh with:
      | failing rule | 7 |
    When the workload "static-client" is submitted
    Then "static-client" stays unready
    And nothing left "static-client" for "external(web)"
    And the redirect rules of "static-client" are complete or absent

  @IC-06 @peer @sim @kind
  Scenario: Running the init container again changes nothing
    Given the workload "static-client"
    When the init container of "static-client" is restarted
    Then the redirect rules of "static-client" are free of duplicates
    And the redirect rules of "static-client" are in place

  @IC-20 @beyond @sim @kind
  Scenario Outline: Init containers of the application have a network
    Given the workload "migrator" with:
      | annotation <annotation> | <value>                                        |
      | init container          | as user 1000 requests http://external(web):80 |
    Then "migrator" becomes ready
    And the capture of "migrator" shows:
      | interface | direction | to               | content   | count       |
      | eth0      | out       | external(web):80 | unproxied | <unproxied> |

    Examples: a native sidecar is there before them; without one they are let past the proxy
      | annotation                         | value   | unproxied |
      | enable-consul-dataplane-as-sidecar | true    | 0         |
      | transparent-proxy-init-containers  | allowed | >0        |

  @IC-21 @beyond @sim @kind
  Scenario: Init containers of the application are blocked until there is a proxy
    When the workload "migrator" is submitted with:
      | annotation transparent-proxy-init-containers | blocked                                        |
      | init container                               | as user 1000 requests http://external(web):80 |
    Then "migrator" stays unready
    And nothing left "migrator" for "external(web)"
