@each-mechanism
Feature: Annotations take chosen traffic out of redirection
  Background:
    Given a mesh
    And a default intention of deny
    And the workload "static-server"
    And the workload "static-client"
    And "static-client" may reach "static-server"

  @EX-01 @documented @sim @kind
  Scenario Outline: Excluded inbound ports reach the application directly
    Given the workload "vault" with:
      | listens                                         | http 8080 |
      | listens                                         | http 8200 |
      | listens                                         | http 8201 |
      | annotation transparent-proxy-exclude-inbound-ports | 8200,8201 |
    When "outsider" requests "http://pod(vault):<port>"
    Then it is <outcome>

    Examples:
      | port | outcome  |
      | 8200 | answered |
      | 8201 | answered |
      | 8080 | reset    |

  @EX-02 @documented @sim @kind
  Scenario Outline: Excluded outbound ports leave the pod directly
    Given the external endpoint "vault" at "198.51.100.20:<port>"
    And the workload "caller" with:
      | annotation transparent-proxy-exclude-outbound-ports | 8200,8201 |
    When "caller" requests "http://external(vault):<port>"
    Then it is answered
    And "caller" sent it <path> its proxy

    Examples:
      | port | path    |
      | 8200 | around  |
      | 8201 | around  |
      | 8202 | through |

  @EX-03 @documented @sim @kind
  Scenario Outline: Excluded CIDR blocks leave the pod directly
    Given the external endpoint "net" at "<address>:80"
    And the workload "caller" with:
      | annotation transparent-proxy-exclude-outbound-cidrs | 3.3.3.3,3.3.3.3/24 |
    When "caller" requests "http://external(net):80"
    Then it is answered
    And "caller" sent it <path> its proxy

    Examples:
      | address   | path    |
      | 3.3.3.3   | around  |
      | 3.3.3.0   | around  |
      | 3.3.3.255 | around  |
      | 3.3.4.0   | through |
      | 3.3.2.255 | through |

  @EX-04 @documented @sim @kind
  Scenario Outline: Excluded users leave the pod directly
    Given the external endpoint "web" at "198.51.100.10:80"
    And the workload "multi-user" with:
      | uid                                      | <uid>      |
      | annotation transparent-proxy-exclude-uids | 4444,44444 |
    When "multi-user" as user <uid> requests "http://external(web):80"
    Then it is answered
    And "multi-user" sent it <path> its proxy

    Examples:
      | uid   | path    |
      | 4444  | around  |
      | 44444 | around  |
      | 1000  | through |
      | 444   | through |

  @EX-05 @documented @sim @kind
  Scenario: An exclusion holds for the annotated pods only
    Given the external endpoint "web" at "198.51.100.10:80"
    And the workload "group" with:
      | replicas                                            | 3  |
      | annotation transparent-proxy-exclude-outbound-ports | 80 |
    When "group-2" requests "http://external(web):80"
    Then "group-2" sent it around its proxy
    When "static-client" requests "http://external(web):80"
    Then "static-client" sent it through its proxy

  @EX-06 @documented @sim @kind
  Scenario Outline: Both mechanisms honour every kind of exclusion
    Given redirection by the <mechanism>
    And the external endpoint "web" at "198.51.100.10:80"
    And the workload "caller" with:
      | annotation <annotation> | <value> |
    When "caller" requests "http://external(web):80"
    Then it is answered
    And "caller" sent it around its proxy

    Examples:
      | mechanism      | annotation                               | value           |
      | init container | transparent-proxy-exclude-outbound-ports | 80              |
      | init container | transparent-proxy-exclude-outbound-cidrs | 198.51.100.0/24 |
      | init container | transparent-proxy-exclude-uids           | 1000            |
      | CNI plugin     | transparent-proxy-exclude-outbound-ports | 80              |
      | CNI plugin     | transparent-proxy-exclude-outbound-cidrs | 198.51.100.0/24 |
      | CNI plugin     | transparent-proxy-exclude-uids           | 1000            |

  @EX-07 @documented @sim @kind
  Scenario Outline: Lists may be written as the documentation writes them
    Given the workload "vault" with:
      | listens                                            | http 8201 |
      | annotation transparent-proxy-exclude-inbound-ports | <list>    |
    When "outsider" requests "http://pod(vault):8201"
    Then it is answered
    And "vault" received it around its proxy

    Examples:
      | list           |
      | 8200,8201      |
      | 8200, 8201     |
      | 8201,8201      |
      | 8201,8200,8199 |

  @EX-08 @beyond @sim @kind
  Scenario: An excluded inbound port is also outside the intentions
    Given the workload "vault" with:
      | listens                                            | http 8200 |
      | annotation transparent-proxy-exclude-inbound-ports | 8200      |
    And "static-client" may not reach "vault"
    When "outsider" requests "http://pod(vault):8200"
    Then it is answered
    And it is plaintext from "outsider" to "vault"

  @EX-11 @peer @sim @kind
  Scenario: The metrics port is excluded without being asked
    Given the workload "metered" with:
      | annotation enable-metrics | true |
    When "outsider" requests "http://pod(metered):20200/metrics"
    Then it is answered
    And the answer contains "envoy_cluster_upstream_cx_total"
    And it is plaintext from "outsider" to "metered"

  @EX-12 @beyond @sim @kind
  Scenario: Changing an exclusion needs a new pod
    Given the external endpoint "web" at "198.51.100.10:80"
    And the workload "caller"
    When "caller" is changed to:
      | annotation transparent-proxy-exclude-outbound-ports | 80 |
    And "caller" requests "http://external(web):80"
    Then "caller" sent it through its proxy
    When "caller" is restarted
    And "caller" requests "http://external(web):80"
    Then "caller" sent it around its proxy
