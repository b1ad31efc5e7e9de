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
