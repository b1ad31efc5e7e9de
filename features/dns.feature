@each-mechanism
Feature: Names lead into the mesh
  Background:
    Given a mesh with:
      | dns.enabled           | true |
      | dns.enableRedirection | true |
    And the workload "sample-app"
    And the workload "static-client"

  @DN-01 @documented @sim @kind
  Scenario Outline: Every form of the KubeDNS name reaches the service through the mesh
    When "static-client" requests "http://<name>"
    Then it is answered
    And it is mutual TLS for "sample-app" from "static-client" to "sample-app"

    Examples:
      | name                                 |
      | sample-app                           |
      | sample-app.default                   |
      | sample-app.default.svc               |
      | sample-app.default.svc.cluster.local |

  @DN-02 @documented @sim @kind
  Scenario Outline: The Kubernetes Service name leads to the Consul service of its pods
    Given a default intention of deny
    And the workload "renamed-app" with:
      | service                    | renamed-app |
      | annotation connect-service | <consul>    |
    And "static-client" may reach "<consul>"
    When "static-client" requests "http://renamed-app"
    Then it is <outcome>

    Examples: the names are equal
      | consul      | outcome  |
      | renamed-app | answered |

    # The documentation asks for equal names. Consul stores the cluster address under whatever name the annotation
    # gives, and so does Pellucid: the Kubernetes name leads to the renamed service.
    Examples: documented otherwise, and answered by Consul all the same
      | consul      | outcome  |
      | other-name  | answered |

  @DN-03 @documented @sim @kind
  Scenario Outline: A pod must be selected by exactly one Service
    When the workload "lonely" is submitted with:
      | service | <service> |
    Then "lonely" <readiness>
    And the error names "<hint>"

    Examples:
      | service             | readiness     | hint                           |
      | none                | stays unready | Kubernetes service             |
      | selector mismatch   | stays unready | Kubernetes service             |
      | lonely and lonely-2 | stays unready | service-ignore                 |
