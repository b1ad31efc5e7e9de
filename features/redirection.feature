@each-mechanism
Feature: All TCP in and out of the pod goes through the sidecar, whatever installs the rules

  @RD-01 @documented @sim @kind
  Scenario Outline: Outbound TCP is redirected whatever address the application dials
    Given a mesh with:
      | rule backend | <backend> |
    And the workload "static-server"
    And the workload "static-client"
    And the external endpoint "web" at "198.51.100.10:80"
    When "static-client" dials tcp "<target>"
    Then "static-client" sent it through its proxy

    Examples:
      | backend         | target                                     |
      | nftables        | static-server:80                           |
      | nftables        | static-server.default.svc.cluster.local:80 |
      | nftables        | clusterip(static-server):80                |
      | nftables        | pod(static-server):8080                    |
      | nftables        | external(web):80                           |
      | nftables        | virtualip(static-server):80                |
      | iptables-nft    | static-server:80                           |
      | iptables-nft    | static-server.default.svc.cluster.local:80 |
      | iptables-nft    | clusterip(static-server):80                |
      | iptables-nft    | pod(static-server):8080                    |
      | iptables-nft    | external(web):80                           |
      | iptables-nft    | virtualip(static-server):80                |
      | iptables-legacy | static-server:80                           |
      | iptables-legacy | static-server.default.svc.cluster.local:80 |
      | iptables-legacy | clusterip(static-server):80                |
      | iptables-legacy | pod(static-server):8080                    |
      | iptables-legacy | external(web):80                           |
      | iptables-legacy | virtualip(static-server):80                |

  @RD-02 @documented @sim @kind
  Scenario Outline: Inbound TCP is redirected whatever port is dialled
    Given a mesh with:
      | rule backend | <backend> |
    And the workload "static-server"
    And the workload "static-client"
    And the external endpoint "web" at "198.51.100.10:80"
    When "outsider" dials tcp "pod(static-server):<port>"
    Then it is reset
    And the capture of "static-server" shows:
      | interface | direction | to     | content   | count |
      | eth0      | in        | <port> | any       | >0    |
      | lo        | any       | <port> | any       | 0     |

    Examples:
      | backend         | port  |
      | nftables        | 8080  |
      | nftables        | 9999  |
      | nftables        | 15001 |
      | nftables        | 20000 |
      | iptables-nft    | 8080  |
      | iptables-nft    | 9999  |
      | iptables-nft    | 15001 |
      | iptables-nft    | 20000 |
      | iptables-legacy | 8080  |
      | iptables-legacy | 9999  |
      | iptables-legacy | 15001 |
      | iptables-legacy | 20000 |

  @RD-03 @peer @sim @kind
  Scenario Outline: The proxy's own connections are not redirected back to it
    Given a mesh with:
      | rule backend | <backend> |
    And the workload "static-server"
    And the workload "static-client"
    And the external endpoint "web" at "198.51.100.10:80"
    When "static-client" requests "http://static-server"
    Then it is answered
    And the capture of "static-client" shows:
      | interface | direction | to    | content | count |
      | lo        | any       | 15001 | any     | 1     |
      | eth0      | out       | 20000 | TLS     | 1     |

    Examples:
      | backend         |
      | nftables        |
      | iptables-nft    |
      | iptables-legacy |

  @RD-04 @peer @sim @kind
  Scenario Outline: Loopback inside the pod
    Given a mesh with:
      | rule backend | <backend> |
    And the workload "static-server"
    And the workload "static-client"
    And the external endpoint "web" at "198.51.100.10:80"
    When "static-server" dials tcp "<address>:8080"
    Then it is answered
    And "static-server" sent it <path> its proxy

    Examples: exempt
      | backend         | address   | path   |
      | nftables        | 127.0.0.1 | around |
      | nftables        | localhost | around |
      | iptables-nft    | 127.0.0.1 | around |
      | iptables-nft    | localhost | around |
      | iptables-legacy | 127.0.0.1 | around |
      | iptables-legacy | localhost | around |

    Examples: only 127.0.0.1/32 is exempt, the rest of 127/8 is not
      | backend         | address   | path    |
      | nftables        | 127.0.0.2 | through |
      | iptables-nft    | 127.0.0.2 | through |
      | iptables-legacy | 127.0.0.2 | through |

  # What stands beside a destination is what its proxy finds as the original destination: the SYN-ACK of the redirected connection has
  # it as its source. README.md has the same table.
  @RD-14 @beyond @sim @kind
  Scenario Outline: The proxy is told the destination that was dialled
    Given the workload "db" with:
      | service  | headless |
      | replicas | 1        |
      | listens  | tcp 5432 |
    And the workload "static-server"
    And the external endpoint "web" at "198.51.100.10:80"
    When "static-server" dials tcp "<dialled>"
    Then "static-server" sent it <path> its proxy

    Examples:
      | what                            | dialled                      | path    |
      | the ClusterIP of a service      | clusterip(outsider):80       | through |
      | a pod of a headless service     | db-0.db:5432                 | through |
      | the own pod IP                  | pod(static-server):8080      | through |
      | the own ClusterIP               | clusterip(static-server):80  | through |
      | the own virtual IP              | virtualip(static-server):80  | through |
      | the node                        | node:30080                   | through |
      | another address of the loopback | 127.0.0.2:8080               | through |
      | an address outside the cluster  | external(web):80             | through |
      | the loopback                    | 127.0.0.1:8080               | around  |

  @RD-11 @peer @sim @kind
  Scenario: A service with several ports routes each port
    Given the workload "multiport" with:
      | listens      | http 9090 |
      | listens      | http 9091 |
      | service port | api 9090  |
      | service port | metrics 9091 |
    And the workload "static-client"
    When "static-client" requests "http://multiport:9091"
    Then it is answered
    And the answer contains "metrics"
    And "multiport" received it through its proxy
    When "static-client" requests "http://multiport:9090"
    Then the answer contains "api"

  # A service with one port, which a client dials by a port number that a service with several has as well.
  @RD-15 @beyond @sim @kind
  Scenario: The port of one service does not hide another service
    Given the workload "multiport" with:
      | listens      | http 9090 |
      | listens      | http 9091 |
      | service port | api 9090  |
      | service port | metrics 9091 |
    And the workload "plain-server" with:
      | listens      | http 9091 |
      | service port | web 9091  |
    And the workload "static-client"
    When "static-client" requests "http://plain-server:9091"
    Then it is answered by "plain-server"
    And it is mutual TLS for "plain-server" from "static-client" to "plain-server"
