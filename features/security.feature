@each-mechanism
Feature: There is no way around the mesh
  Background:
    Given a mesh
    And a default intention of deny
    And the workload "static-server"
    And the workload "static-client"
    And "static-client" may reach "static-server"

  @SE-01 @documented @sim @kind
  Scenario Outline: Direct inbound connections from outside the mesh are refused
    When "outsider" requests "<url>"
    Then it is reset
    And nothing from "outsider" reached "app(static-server)"

    Examples:
      | url                                  |
      | http://pod(static-server):8080       |
      | http://clusterip(static-server):80   |
      | http://static-server                 |
      | http://pod(static-server):20000      |
      | http://node:30080                    |

  @SE-02 @peer @sim @kind
  Scenario Outline: A certificate is needed, and it must be the right one
    When "outsider" presenting <certificate> dials "pod(static-server):20000"
    Then it is denied
    And nothing from "outsider" reached "app(static-server)"

    Examples:
      | certificate                              |
      | no certificate                           |
      | a self-signed certificate                |
      | an expired certificate                   |
      | a certificate of another trust domain    |
      | the certificate of "intruder"            |

  @SE-03 @peer @sim @kind
  Scenario Outline: The proxy's own ports are closed to other pods
    When "outsider" dials tcp "pod(static-client):<port>"
    Then it is reset
    And the capture of "static-client" shows:
      | interface | direction | to     | content | count |
      | lo        | any       | <port> | any     | 0     |

    Examples:
      | port  | what               |
      | 15001 | outbound listener  |
      | 19000 | admin              |
      | 20600 | lifecycle          |
      | 8600  | DNS                |

  @SE-05 @beyond @sim @kind
  Scenario Outline: An application cannot talk its way past redirection
    When "static-client" dials tcp "external(web):80" by "<technique>"
    Then "static-client" sent it through its proxy

    Examples:
      | technique                          |
      | a source port below 1024           |
      | an IPv4-mapped IPv6 socket         |
      | TCP fast open                      |
      | multipath TCP                      |

  # The kernel does not let it reach the proxy; what counts is that it reaches nobody else.
  @SE-05 @beyond @sim @kind
  Scenario Outline: A socket that cannot be redirected goes nowhere
    When "static-client" dials tcp "external(web):80" by "<technique>"
    Then it is blocked
    And nothing left "static-client" for "external(web)"

    Examples:
      | technique                          |
      | binding the socket to eth0         |

  @SE-06 @beyond @sim @kind
  Scenario Outline: Nobody but the proxy may run as the proxy's user
    When the workload "masquerader" is submitted with:
      | uid | <uid> |
    Then the submission is rejected
    And the error names "<uid>"

    Examples:
      | uid  |
      | 5995 |
      | 5996 |

  @SE-07 @beyond @sim @kind
  Scenario Outline: The rules are out of the application's hands
    Given redirection by the <mechanism>
    And the workload "tinkerer" with:
      | uid | 0 |
    When "tinkerer" as user 0 runs "iptables -t nat -F"
    Then the command fails
    And the redirect rules of "tinkerer" are unchanged

    Examples:
      | mechanism      |
      | init container |
      | CNI plugin     |

  @SE-08 @beyond @sim @kind
  Scenario Outline: Bookkeeping annotations set by hand give no way out
    When the workload "sly" is submitted with:
      | annotation connect-inject | true    |
      | annotation <annotation>   | <value> |
    And "sly" keeps requesting "http://external(web):80"
    Then the capture of "sly" shows:
      | interface | direction | to               | content   | count |
      | eth0      | out       | external(web):80 | unproxied | 0     |

    Examples:
      | annotation               | value     |
      | connect-inject-status    | injected  |
      | transparent-proxy-status | complete  |
      | redirect-traffic-config  | {}        |

  @SE-09 @documented @sim @kind
  Scenario: No byte of a meshed request is readable between pods
    Given a mesh with:
      | nodes | 2 |
    When "static-client" requests "http://static-server" 100 times
    Then it is answered
    And the canary was never in clear outside a pod
    And the capture of "the network" shows:
      | interface | direction | to    | content   | count |
      | any       | any       | 20000 | TLS       | 100   |
      | any       | any       | any   | plaintext | 0     |
