@each-mechanism
Feature: Transparent proxy is on exactly where it was asked for
  The Helm value sets the cluster default, a namespace label overrides it,
  a pod annotation overrides both.

  @EN-01 @documented @sim @kind
  Scenario: A default installation redirects every injected pod
    Given a mesh
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And "static-client" sent it through its proxy
    And "static-server" received it through its proxy

  @EN-02 @documented @sim @kind
  Scenario Outline: The Helm value switches the whole cluster
    Given a mesh with:
      | connectInject.transparentProxy.defaultEnabled | <value> |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is answered
    And the redirect rules of "static-client" are <rules>
    And it is <wire> from "static-client" to "static-server"

    Examples:
      | value | rules    | wire       |
      | true  | in place | mutual TLS |
      | false | absent   | plaintext  |

  @EN-03 @documented @sim @kind
  Scenario Outline: A namespace label overrides the Helm value
    Given a mesh with:
      | connectInject.transparentProxy.defaultEnabled | <helm> |
    And the namespace "my-app" labelled "consul.hashicorp.com/transparent-proxy=<label>"
    And the workload "static-server" with:
      | namespace | my-app |
    And the workload "bystander" with:
      | namespace | other |
    When "outsider" requests "http://pod(static-server):8080"
    Then it is <outcome>
    And the redirect rules of "static-server" are <labelled>
    And the redirect rules of "bystander" are <unlabelled>

    Examples:
      | helm  | label | outcome  | labelled | unlabelled |
      | false | true  | reset    | in place | absent     |
      | true  | false | answered | absent   | in place   |

  @EN-04 @documented @sim @kind
  Scenario Outline: A pod annotation overrides the label and the Helm value
    Given a mesh with:
      | connectInject.transparentProxy.defaultEnabled | <helm> |
    And the namespace "my-app" labelled "consul.hashicorp.com/transparent-proxy=<label>"
    And the workload "static-server" with:
      | namespace                    | my-app       |
      | annotation transparent-proxy | <annotation> |
    When "outsider" requests "http://pod(static-server):8080"
    Then it is <outcome>
    And the redirect rules of "static-server" are <rules>

    Examples: the annotation wins in every combination
      | helm  | label | annotation | outcome  | rules    |
      | true  | true  | false      | answered | absent   |
      | true  | false | true       | reset    | in place |
      | true  | none  | false      | answered | absent   |
      | false | true  | false      | answered | absent   |
      | false | false | true       | reset    | in place |
      | false | none  | true       | reset    | in place |
      | true  | true  | true       | reset    | in place |
      | false | false | false      | answered | absent   |

    Examples: without an annotation the label decides
      | helm  | label | annotation | outcome  | rules    |
      | true  | false | none       | answered | absent   |
      | false | true  | none       | reset    | in place |

  @EN-05 @beyond @sim @kind
  Scenario: Relabelling a namespace changes only pods created afterwards
    Given a mesh with:
      | connectInject.transparentProxy.defaultEnabled | false |
    And the workload "static-server" with:
      | namespace | my-app |
    When the namespace "my-app" is relabelled "consul.hashicorp.com/transparent-proxy=true"
    Then the redirect rules of "static-server" are absent
    When "static-server" is restarted
    Then the redirect rules of "static-server" are in place

  @EN-06 @peer @sim @kind
  Scenario Outline: Excluded namespaces are never touched
    Given a mesh with:
      | connectInject.k8sDenyNamespaces | tenant-x |
    And the workload "plain" with:
      | namespace                    | <namespace> |
      | annotation connect-inject    | true        |
      | annotation transparent-proxy | true        |
    When "outsider" requests "http://pod(plain):8080"
    Then it is answered
    And the redirect rules of "plain" are absent

    Examples:
      | namespace   |
      | kube-system |
      | kube-public |
      | tenant-x    |

  @EN-07 @documented @sim @kind
  Scenario Outline: The same application manifest works outside and inside the mesh
    Given a mesh
    And the workload "static-server" with:
      | annotation connect-inject | <inject> |
    And the workload "static-client" with:
      | annotation connect-inject | <inject> |
    When "static-client" requests "http://static-server"
    Then it is answered
    And the answer contains "hello world"
    And it is <wire> from "static-client" to "static-server"

    Examples:
      | inject | wire       |
      | false  | plaintext  |
      | true   | mutual TLS |

  @EN-08 @one-mechanism @documented @sim @kind
  Scenario Outline: Versions below the documented minimum are refused before anything is installed
    Given a mesh with:
      | consul version | <consul> |
      | chart version  | <chart>  |
      | cni.enabled    | <cni>    |
    When the preflight check runs
    Then the preflight check <result>

    Examples:
      | consul | chart  | cni   | result |
      | 1.9.17 | 0.32.0 | false | fails  |
      | 1.10.0 | 0.31.1 | false | fails  |
      | 1.10.0 | 0.32.0 | false | passes |
      | 1.13.0 | 0.47.1 | true  | fails  |
      | 1.13.0 | 0.48.0 | true  | passes |

  @EN-09 @one-mechanism @documented @sim
  Scenario: A node without ip_tables fails closed
    Given a mesh with:
      | node lacks | ip_tables |
    When the workload "static-client" is submitted
    Then "static-client" stays unready
    And the error names "ip_tables"
    And nothing left "static-client" for "external(web)"

  @EN-10 @peer @sim @kind
  Scenario: Without transparent proxy an explicit upstream still works
    Given a mesh
    And the workload "static-server"
    And the workload "static-client" with:
      | annotation transparent-proxy         | false              |
      | annotation connect-service-upstreams | static-server:1234 |
    When "static-client" requests "http://localhost:1234"
    Then it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"
    And the redirect rules of "static-client" are absent

  @EN-11 @one-mechanism @peer @sim @kind
  Scenario: Without a webhook the mesh waits, and everything else starts
    Given a mesh
    And the workload "static-server"
    When the webhook is stopped
    And the workload "caller" is submitted
    Then the submission is rejected
    And the error names "failed calling webhook"
    When the workload "on-the-node" is submitted with:
      | host network              | true |
      | annotation connect-inject | none |
    Then "on-the-node" becomes ready
    When the workload "system" is submitted with:
      | namespace | kube-system |
    Then "system" becomes ready
    When the webhook is started
    Then "caller" becomes ready
    When "caller" requests "http://static-server"
    Then it is answered
    And "caller" sent it through its proxy
