@each-mechanism
Feature: Kubernetes health probes keep working under redirection
  Background:
    Given a mesh

  @PR-01 @documented @sim @kind
  Scenario: Without overwriting, an HTTP probe fails
    Given the workload "probed" with:
      | probe readiness                               | http 8080 /healthz |
      | annotation transparent-proxy-overwrite-probes | false              |
    When the kubelet probes "probed"
    Then it is reset
    And "probed" stays unready

  @PR-02 @documented @sim @kind
  Scenario Outline: The Helm value makes HTTP probes go through the proxy
    Given a mesh with:
      | connectInject.transparentProxy.defaultOverwriteProbes | true |
    And the workload "probed" with:
      | probe <kind> | http 8080 /healthz |
    When the kubelet probes "probed"
    Then it is answered
    And "probed" becomes ready
    And the pod of "probed" shows:
      | probe <kind> port | <port> |

    Examples:
      | kind      | port  |
      | liveness  | 20300 |
      | readiness | 20400 |
      | startup   | 20500 |

  @PR-03 @documented @sim @kind
  Scenario Outline: The annotation overrides the Helm value
    Given a mesh with:
      | connectInject.transparentProxy.defaultOverwriteProbes | <helm> |
    And the workload "probed" with:
      | probe readiness                               | http 8080 /healthz |
      | annotation transparent-proxy-overwrite-probes | <annotation>       |
    When the kubelet probes "probed"
    Then it is <outcome>

    Examples:
      | helm  | annotation | outcome  |
      | true  | false      | reset    |
      | false | true       | answered |
      | true  | none       | answered |
      | false | none       | reset    |

  @PR-05 @peer @sim @kind
  Scenario Outline: A probe tells a healthy application from one that is not, port excluded: <excluded>
    Given the workload "probed" with:
      | listens                                            | <listens>  |
      | probe startup                                      | <probe>    |
      | probe readiness                                    | <probe>    |
      | probe liveness                                     | <probe>    |
      | annotation transparent-proxy-exclude-inbound-ports | <excluded> |
    When the kubelet probes "probed"
    Then it is answered
    And "probed" becomes ready
    And the redirect rules of "probed" are in place

    Examples:
      | listens    | probe                | excluded |
      | http 8080  | http 8080 /healthz   | none     |
      | http 8080  | http 8080 /healthz   | 8080     |
      | https 8443 | https 8443 /healthz  | none     |
      | https 8443 | https 8443 /healthz  | 8443     |
      | tcp 9000   | tcp 9000             | none     |
      | tcp 9000   | tcp 9000             | 9000     |
      | grpc 9000  | grpc 9000            | none     |
      | grpc 9000  | grpc 9000            | 9000     |
      | tcp 9000   | exec test -f /tmp/ok | none     |
      | tcp 9000   | exec test -f /tmp/ok | 9000     |

  @PR-05 @peer @sim @kind
  Scenario Outline: A <kind> probe of an application that is dead fails: <probe>
    Given the workload "probed" with:
      | listens                                            | http 8080  |
      | probe <kind>                                       | <probe>    |
      | annotation transparent-proxy-exclude-inbound-ports | <excluded> |
    When the kubelet probes "probed"
    Then it is blocked
    And "probed" stays unready

    Examples:
      | kind      | probe                   | excluded |
      | startup   | http 9000 /healthz      | none     |
      | startup   | https 9000 /healthz     | none     |
      | startup   | tcp 9000                | none     |
      | startup   | grpc 9000               | none     |
      | startup   | exec test -d /tmp/never | none     |
      | readiness | http 9000 /healthz      | none     |
      | readiness | https 9000 /healthz     | none     |
      | readiness | tcp 9000                | none     |
      | readiness | grpc 9000               | none     |
      | readiness | exec test -d /tmp/never | none     |
      | readiness | http 9000 /healthz      | 9000     |
      | readiness | https 9000 /healthz     | 9000     |
      | readiness | tcp 9000                | 9000     |
      | readiness | grpc 9000               | 9000     |

  @PR-05 @peer @sim @kind
  Scenario Outline: A liveness probe of an application that is dead fails: <probe>
    Given the workload "probed" with:
      | listens        | http 8080 |
      | probe liveness | <probe>   |
    When the kubelet probes "probed"
    Then it is blocked

    Examples:
      | probe                   |
      | http 9000 /healthz      |
      | https 9000 /healthz     |
      | tcp 9000                |
      | grpc 9000               |
      | exec test -d /tmp/never |

  @PR-05 @beyond @sim @kind
  Scenario Outline: Probes of an init container that goes on, port excluded: <excluded>
    Given the workload "probed" with:
      | init sidecar listens                               | <listens>  |
      | init sidecar probe startup                         | <probe>    |
      | init sidecar probe readiness                       | <probe>    |
      | init sidecar probe liveness                        | <probe>    |
      | annotation transparent-proxy-exclude-inbound-ports | <excluded> |
    When the kubelet probes "probed"
    Then it is answered
    And "probed" becomes ready
    And the redirect rules of "probed" are in place

    Examples:
      | listens    | probe                | excluded |
      | http 8081  | http 8081 /healthz   | none     |
      | http 8081  | http 8081 /healthz   | 8081     |
      | https 8443 | https 8443 /healthz  | none     |
      | https 8443 | https 8443 /healthz  | 8443     |
      | tcp 9000   | tcp 9000             | none     |
      | tcp 9000   | tcp 9000             | 9000     |
      | grpc 9000  | grpc 9000            | none     |
      | grpc 9000  | grpc 9000            | 9000     |
      | tcp 9000   | exec test -f /tmp/ok | none     |
      | tcp 9000   | exec test -f /tmp/ok | 9000     |

  @PR-05 @beyond @sim @kind
  Scenario Outline: Probes of a dead init container that goes on, port excluded: <excluded>
    Given the workload "probed" with:
      | init sidecar listens                               | http 8081  |
      | init sidecar probe readiness                       | <probe>    |
      | annotation transparent-proxy-exclude-inbound-ports | <excluded> |
    When the kubelet probes "probed"
    Then it is blocked
    And "probed" stays unready

    Examples:
      | probe                   | excluded |
      | http 9000 /healthz      | none     |
      | https 9000 /healthz     | none     |
      | tcp 9000                | none     |
      | grpc 9000               | none     |
      | exec test -d /tmp/never | none     |
      | http 9000 /healthz      | 9000     |
      | https 9000 /healthz     | 9000     |
      | tcp 9000                | 9000     |
      | grpc 9000               | 9000     |

  @PR-05 @beyond @sim @kind
  Scenario Outline: A probed port is open to the node alone: <probe> by <backend>
    Given a mesh with:
      | rule backend | <backend> |
    And the workload "probed" with:
      | listens         | <listens> |
      | probe readiness | <probe>   |
    When the kubelet probes "probed"
    Then it is answered
    And "probed" becomes ready
    And the redirect rules of "probed" are in place
    When "outsider" dials tcp "pod(probed):<port>"
    Then it is reset
    And nothing from "outsider" reached "app(probed)"

    Examples:
      | backend         | listens    | probe               | port |
      | nftables        | https 8443 | https 8443 /healthz | 8443 |
      | nftables        | tcp 9000   | tcp 9000            | 9000 |
      | nftables        | grpc 9000  | grpc 9000           | 9000 |
      | iptables-nft    | https 8443 | https 8443 /healthz | 8443 |
      | iptables-nft    | grpc 9000  | grpc 9000           | 9000 |
      | iptables-legacy | https 8443 | https 8443 /healthz | 8443 |
      | iptables-legacy | grpc 9000  | grpc 9000           | 9000 |

  @PR-05 @documented @sim @kind
  Scenario Outline: Without overwriting no probe but a command's is spared
    Given the workload "probed" with:
      | listens                                       | <listens> |
      | probe readiness                               | <probe>   |
      | annotation transparent-proxy-overwrite-probes | false     |
    When the kubelet probes "probed"
    Then it is <outcome>

    Examples:
      | listens    | probe                | outcome  |
      | https 8443 | https 8443 /healthz  | reset    |
      | grpc 9000  | grpc 9000            | reset    |
      | tcp 9000   | tcp 9000             | answered |
      | tcp 9000   | exec test -f /tmp/ok | answered |

  @PR-05 @beyond @sim @kind
  Scenario: Probes that the proxy cannot stand in for stay on their ports
    Given the workload "probed" with:
      | listens         | https 8443          |
      | probe readiness | https 8443 /healthz |
      | probe liveness  | tcp 8443            |
    Then "probed" becomes ready
    And the pod of "probed" shows:
      | probe readiness port | 8443 |
      | probe liveness port  | 8443 |

  @PR-05 @beyond @sim
  Scenario Outline: Probes that are not HTTP over IPv6, with both families
    Given a mesh with:
      | pod addresses | dual-stack |
    And the workload "probed" with:
      | listens         | <listens> |
      | probe readiness | <probe>   |
    When the kubelet probes "probed"
    Then it is answered
    And "probed" becomes ready
    And the redirect rules of "probed" are in place
    When "outsider" dials tcp "pod6(probed):<port>"
    Then it is reset

    Examples:
      | listens    | probe               | port |
      | https 8443 | https 8443 /healthz | 8443 |
      | grpc 9000  | grpc 9000           | 9000 |

  @PR-06 @beyond @sim @kind
  Scenario Outline: A probe fails when the application fails: <probe>
    Given the workload "probed" with:
      | listens         | <listens> |
      | probe readiness | <probe>   |
    When "probed" becomes unhealthy
    And the kubelet probes "probed"
    Then it is blocked
    And "probed" stays unready
    When "probed" becomes healthy
    And the kubelet probes "probed"
    Then it is answered

    Examples:
      | listens    | probe                         |
      | http 8080  | http 8080 /healthz            |
      | https 8443 | https 8443 /healthz           |
      | grpc 9000  | grpc 9000                     |
      | tcp 9000   | exec test ! -f /tmp/unhealthy |

  @PR-08 @peer @sim @kind
  Scenario Outline: Readiness decides whether the mesh sends traffic: <probe>
    Given the workload "static-server" with:
      | listens         | http 8080 |
      | listens         | grpc 9000 |
      | probe readiness | <probe>   |
    And the workload "static-client"
    When "static-server" becomes unhealthy
    And "static-client" requests "http://static-server"
    Then within 30 seconds it is blocked
    When "static-server" becomes healthy
    Then within 30 seconds it is answered

    Examples:
      | probe                         |
      | exec test ! -f /tmp/unhealthy |
      | http 8080 /healthz            |
      | grpc 9000                     |

  @PR-09 @beyond @sim @kind
  Scenario: Overwritten probes and configured expose paths live together
    Given the ServiceDefaults "probed" with:
      | expose.paths[0].path          | /ready |
      | expose.paths[0].localPathPort | 8080   |
      | expose.paths[0].listenerPort  | 22000  |
    And the workload "probed" with:
      | probe readiness                                    | http 8080 /healthz |
      | annotation transparent-proxy-exclude-inbound-ports | 22000              |
    When "outsider" requests "http://pod(probed):22000/ready"
    Then it is answered
    And "probed" becomes ready
