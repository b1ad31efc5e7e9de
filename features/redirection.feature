Feature: All TCP in and out of the pod goes through the sidecar
  Background:
    Given a mesh
    And the workload "static-server"
    And the workload "static-client"
    And the external endpoint "web" at "198.51.100.10:80"

  @RD-01 @documented @sim @kind
  Scenario Outline: Outbound TCP is redirected whatever address the application dials
    When "static-client" dials tcp "<target>"
    Then "static-client" sent it through its proxy

    Examples:
      | target                                     |
      | static-server:80                           |
      | static-server.default.svc.cluster.local:80 |
      | clusterip(static-server):80                |
      | pod(static-server):8080                    |
      | external(web):80                           |
      | virtualip(static-server):80                |

  @RD-02 @documented @sim @kind
  Scenario Outline: Inbound TCP is redirected whatever port is dialled
    When "outsider" dials tcp "pod(static-server):<port>"
    Then it is reset
    And the capture of "static-server" shows:
      | interface | direction | to     | content   | count |
      | eth0      | in        | <port> | any       | >0    |
      | lo        | any       | <port> | any       | 0     |

    Examples:
      | port  |
      | 8080  |
      | 9999  |
      | 15001 |
      | 20000 |

  @RD-03 @peer @sim @kind
  Scenario: The proxy's own connections are not redirected back to it
    When "static-client" requests "http://static-server"
    Then it is answered
    And the capture of "static-client" shows:
      | interface | direction | to    | content | count |
      | lo        | any       | 15001 | any     | 1     |
      | eth0      | out       | 20000 | TLS     | 1     |

  @RD-04 @peer @sim @kind
  Scenario Outline: Loopback inside the pod
    When "static-server" dials tcp "<address>:8080"
    Then it is answered
    And "static-server" sent it <path> its proxy

    Examples: exempt
      | address   | path   |
      | 127.0.0.1 | around |
      | localhost | around |

    Examples: only 127.0.0.1/32 is exempt, the rest of 127/8 is not
      | address   | path    |
      | 127.0.0.2 | through |
