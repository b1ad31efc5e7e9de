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
  Scenario Outline: Probes that are not HTTP
    Given the workload "probed" with:
      | probe readiness | <probe> |
    When the kubelet probes "probed"
    Then it is <outcome>

    Examples:
      | probe                    | outcome  |
      | exec test -f /tmp/ok     | answered |
      | tcp 8080                 | answered |
      | grpc 9000                | reset    |

  @PR-06 @beyond @sim @kind
  Scenario: An overwritten probe still fails when the application fails
    Given the workload "probed" with:
      | probe readiness | http 8080 /healthz |
    When "probed" becomes unhealthy
    And the kubelet probes "probed"
    Then it is blocked
    And "probed" stays unready
