Feature: The CNI plugin redirects, and the pod holds no privilege
  Background:
    Given a mesh
    And redirection by the CNI plugin

  @CN-01 @documented @sim @kind
  Scenario: The plugin redirects a pod that holds no network privilege
    Given the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy
    And the pod of "static-client" shows:
      | containers adding NET_ADMIN | none |
      | init container user         | 5996 |
      | init container non-root     | true |
    And the redirect rules of "static-client" are in place

  @CN-05 @peer @sim @kind
  Scenario Outline: A pod that is not for the mesh passes through the plugin untouched
    Given the workload "plain" with:
      | annotation connect-inject    | <inject> |
      | annotation transparent-proxy | <tproxy> |
    When "outsider" requests "http://pod(plain):8080"
    Then it is answered
    And the redirect rules of "plain" are absent

    Examples:
      | inject | tproxy |
      | false  | true   |
      | false  | none   |
      | true   | false  |

  @CN-10 @peer @sim @kind
  Scenario Outline: Init containers of the application start behind redirection
    Given the external endpoint "web" at "198.51.100.10:80"
    And the workload "migrator" with:
      | init container                            | as user <uid> requests http://external(web):80 |
      | annotation transparent-proxy-exclude-uids | <excluded>                                     |
    Then "migrator" <readiness>

    Examples:
      | uid  | excluded | readiness     |
      | 1000 | none     | stays unready |
      | 1234 | 1234     | becomes ready |

  # With a sidecar that is an init container itself, those behind it are proxied.
  @CN-10 @beyond @sim @kind
  Scenario: Init containers of the application behind a native sidecar reach the world through the proxy
    Given a mesh with:
      | connectInject.dataplaneAsSidecarInitContainer.defaultEnabled | true |
    And the external endpoint "web" at "198.51.100.10:80"
    And the workload "migrator" with:
      | init container | as user 1000 requests http://external(web):80 |
    Then "migrator" becomes ready
    And the capture of "migrator" shows:
      | interface | direction | to               | content   | count |
      | lo        | any       | 15001            | any       | >0    |
      | eth0      | out       | external(web):80 | unproxied | 0     |

  @CN-20 @beyond @sim @kind
  Scenario: Probes of the kubelet reach the application, and nobody else does
    Given a mesh with:
      | connectInject.transparentProxy.defaultOverwriteProbes | true |
    And the workload "probed" with:
      | listens         | grpc 9000 |
      | probe readiness | grpc 9000 |
    When the kubelet probes "probed"
    Then "probed" becomes ready
    When "outsider" dials grpc "pod(probed):9000"
    Then it is blocked
    And nothing from "outsider" reached "app(probed)"

  @CN-02 @documented @sim @kind
  Scenario Outline: Only the CNI mechanism passes a restricted security policy
    Given redirection by the <mechanism>
    And the namespace "locked" labelled "pod-security.kubernetes.io/enforce=restricted"
    When the workload "static-server" is submitted with:
      | namespace | locked |
    Then the submission is <result>

    Examples:
      | mechanism      | result   |
      | init container | rejected |
      | CNI plugin     | accepted |

  @CN-06 @peer @sim @kind @serial
  Scenario: A pod that starts before the plugin never runs unredirected
    Given the external endpoint "web" at "198.51.100.10:80"
    And the CNI plugin is removed
    When the workload "early" is submitted
    And "early" keeps requesting "http://external(web):80"
    Then "early" stays unready
    And nothing left "early" for "external(web)"
    When the CNI plugin is installed
    Then "early" becomes ready
    And the redirect rules of "early" are in place
    And the error names "was not redirected, and is now"

  # Other than consul-k8s, whose plugin asks the API server for every Pod, of the mesh or not.
  @CN-08 @beyond @sim @kind
  Scenario: Without access to the Kubernetes API every pod starts, and pods of the mesh are redirected
    Given the external endpoint "web" at "198.51.100.10:80"
    And the CNI plugin is without credentials
    And the workload "plain"
    And the workload "static-client"
    When "static-client" requests "http://external(web):80"
    Then it is answered
    And "static-client" sent it through its proxy
    And the redirect rules of "plain" are absent

  @CN-08 @beyond @sim
  Scenario: Without access to the Kubernetes API a pod whose annotations nobody knows is refused
    Given a mesh with:
      | runtime passes annotations | false |
    And the external endpoint "web" at "198.51.100.10:80"
    And the CNI plugin is without credentials
    When the workload "static-client" is submitted
    Then "static-client" stays unready
    And the error names "retrieving pod"
    And nothing left "static-client" for "external(web)"
    When the CNI plugin is started
    Then "static-client" becomes ready
    And the redirect rules of "static-client" are in place

  # What the runtime of a node does not tell, the node agent knows; without rights it knows nothing.
  @CN-09 @beyond @sim
  Scenario: A runtime that passes no annotations
    Given a mesh with:
      | runtime passes annotations | false |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy

  @CN-11 @beyond @sim @kind @serial
  Scenario: An upgrade of the plugin leaves no moment without it
    Given the external endpoint "web" at "198.51.100.10:80"
    When the CNI plugin is restarted
    And the workload "static-client" is submitted with:
      | replicas | 3 |
    Then "static-client" becomes ready
    And the redirect rules of "static-client" are in place
    And the node shows:
      | last chained plugin | consul-cni |

  @CN-12 @beyond @sim @kind @serial
  Scenario: Agents that are killed leave a node on which pods start
    When the CNI plugin is killed
    And the workload "plain" is submitted
    And the workload "static-client" is submitted with:
      | replicas | 3 |
    Then "plain" becomes ready
    And "static-client" becomes ready
    And the redirect rules of "plain" are absent
    And the redirect rules of "static-client" are in place

  @CN-13 @beyond @sim @kind @serial
  Scenario: Without the plugin, pods of the mesh do not start and others do
    Given the CNI plugin is removed
    When the workload "plain" is submitted
    And the workload "static-client" is submitted
    Then "plain" becomes ready
    And "static-client" stays unready
    And the error names "consul-cni"
    And the node shows:
      | last chained plugin | not consul-cni |

  @CN-14 @beyond @sim @kind @serial
  Scenario Outline: A node that loses its power comes up without a gap
    Given a mesh with:
      | primary network | <primary> |
    And the external endpoint "web" at "198.51.100.10:80"
    And the workload "static-client"
    And "static-client" keeps requesting "http://external(web):80"
    When the node is restarted
    Then "static-client" becomes ready
    And "static-client" sent it through its proxy
    And the capture of "static-client" shows:
      | interface | direction | to               | content   | count |
      | veth      | out       | external(web):80 | unproxied | 0     |

    Examples:
      | primary                    |
      | default                    |
      | rewrites its configuration |

  @CN-15 @beyond @sim
  Scenario: The runtime may call the plugin as often as it likes
    Given the workload "static-server"
    And the workload "static-client"
    When the CNI plugin runs "CHECK, ADD, ADD, CHECK, STATUS" for "static-client"
    Then the command succeeds
    And the redirect rules of "static-client" are free of duplicates
    When "static-client" requests "http://static-server"
    Then it is answered
    And "static-client" sent it through its proxy

  @CN-16 @documented @sim @kind
  Scenario: The pod says that it is redirected
    Given the workload "static-client"
    Then the pod of "static-client" shows:
      | annotation transparent-proxy-status | complete |

  @CN-19 @beyond @sim
  Scenario: A process that takes the proxy's user goes around the proxy, and is told of
    Given the external endpoint "web" at "198.51.100.10:80"
    And the workload "static-client"
    When "static-client" as user 5995 requests "http://external(web):80"
    Then it is answered
    And "static-client" sent it around its proxy
    And the error names "went around the proxy"

  @CN-17 @beyond @sim @kind @serial
  Scenario: A pod that is not redirected is evicted where it is not to be redirected in place
    Given a mesh with:
      | repair | evict |
    And the CNI plugin is removed
    When the workload "early" is submitted
    Then "early" stays unready
    When the CNI plugin is installed
    Then "early" becomes ready
    And the redirect rules of "early" are in place

  @CN-18 @beyond @sim @kind @serial @slow
  Scenario: Many pods start while the plugin is installed, upgraded and killed
    Given the external endpoint "web" at "198.51.100.10:80"
    And the CNI plugin is removed
    When the workload "eager" is submitted with:
      | replicas | 100                                        |
      | command  | dial external(web):80 before anything else |
    And the CNI plugin is installed
    And the CNI plugin is restarted
    And the CNI plugin is killed
    Then "eager" becomes ready
    And the capture of "eager" shows:
      | interface | direction | to               | content   | count |
      | eth0      | out       | external(web):80 | unproxied | 0     |
