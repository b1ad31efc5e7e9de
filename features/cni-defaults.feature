Feature: The CNI plugin is there where it was asked for

  @CN-03 @documented @sim @kind
  Scenario Outline: The plugin is shipped but off by default
    Given a mesh with:
      | connectInject.cni.enabled | <enabled> |
    And the workload "static-server"
    Then the pod of "static-server" shows:
      | containers adding NET_ADMIN | <privileged> |
    And the node shows:
      | last chained plugin | <last> |
    And the redirect rules of "static-server" are in place

    Examples:
      | enabled | privileged                 | last           |
      | default | consul-connect-inject-init | not consul-cni |
      | true    | none                       | consul-cni     |
