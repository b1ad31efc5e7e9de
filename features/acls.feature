@each-mechanism
Feature: With ACLs a Pod is the service that its service account is named after
  Background:
    Given a mesh with:
      | global.acls.manageSystemACLs | true |

  @AC-01 @documented @sim @kind
  Scenario: Who has logged in is of the mesh, and nothing passes without an intention
    Given the workload "static-server"
    And the workload "static-client"
    When "static-client" requests "http://static-server"
    Then it is blocked
    And "static-client" sent it through its proxy
    And nothing from "static-client" reached "app(static-server)"
    When "static-client" may now reach "static-server"
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"
    When "static-client" looks up "static-server.virtual.consul"
    Then the lookup yields a virtual IP
    And the lookup went to Consul DNS

  @AC-02 @documented @sim @kind
  Scenario: Tokens outlive the control plane's restart
    Given the workload "static-server"
    And the workload "static-client"
    When the control plane is restarted
    And "static-client" may now reach "static-server"
    And "static-client" requests "http://static-server"
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @AC-03 @documented @sim @kind
  Scenario Outline: A Pod that would be another service does not start
    When the workload "shop" is submitted with:
      | <key> | web |
    Then "shop" stays unready
    And the error names "<error>"
    And nothing left "shop" for "external(web)"

    Examples:
      | key                        | error                                                               |
      | service                    | service account name shop doesn't match Consul service name web     |
      | annotation connect-service | service account name shop doesn't match annotation service name web |

  @AC-04 @documented @sim @kind
  Scenario: A Pod whose service account may not log in does not start
    Given a mesh with:
      | connectInject.aclBindingRuleSelector | serviceaccount.name!=static-client |
    And the workload "static-server"
    When the workload "static-client" is submitted
    Then "static-client" stays unready
    And the error names "does one of its binding rules select the Pod's service account?"
    And "static-server" becomes ready

  @AC-05 @beyond @sim @kind
  Scenario: A proxy that is killed logs in again
    Given the workload "static-server"
    And the workload "static-client"
    And "static-client" may reach "static-server"
    When "static-client" requests "http://static-server"
    Then within 10 seconds it is answered
    When the proxy of "static-client" is killed
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @AC-06 @documented @sim @kind
  Scenario Outline: Who shows no token may look names up where the chart lets it
    Given a mesh with:
      | dns.enabled           | <enabled> |
      | dns.enableRedirection | false     |
      | cluster DNS forwards  | consul    |
    And the workload "static-server"
    And the workload "static-client"
    When "static-client" looks up "static-server.virtual.consul"
    Then the lookup yields <answer>
    And the lookup went to the cluster DNS

    Examples:
      | enabled | answer       |
      | true    | a virtual IP |
      | false   | an error     |
