Feature: Wrong settings are named and never half applied
  Background:
    Given a mesh
    And the workload "static-client"

  @BI-01 @beyond @sim @kind
  Scenario Outline: Values that are not ports
    When the workload "typo" is submitted with:
      | annotation <annotation> | <value> |
    Then "typo" stays unready
    And the error names "<annotation>"
    And the redirect rules of "typo" are complete or absent

    Examples:
      | annotation                               | value      |
      | transparent-proxy-exclude-inbound-ports  | abc        |
      | transparent-proxy-exclude-inbound-ports  | 65536      |
      | transparent-proxy-exclude-inbound-ports  | -1         |
      | transparent-proxy-exclude-inbound-ports  | 8200,,8201 |
      | transparent-proxy-exclude-outbound-ports | 8200;8201  |
      | transparent-proxy-exclude-outbound-ports | 8200-8300  |
      | transparent-proxy-exclude-outbound-ports | 8201 x     |

  @BI-02 @beyond @sim @kind
  Scenario Outline: Values that are not CIDR blocks
    When the workload "typo" is submitted with:
      | annotation transparent-proxy-exclude-outbound-cidrs | <value> |
    Then "typo" stays unready
    And the error names "transparent-proxy-exclude-outbound-cidrs"

    Examples:
      | value       |
      | 3.3.3.3/33  |
      | 3.3.3       |
      | example.com |
      | ::1/129     |
      | 3.3.3.3/    |

  @BI-03 @beyond @sim @kind
  Scenario Outline: Values that are not user IDs
    When the workload "typo" is submitted with:
      | annotation transparent-proxy-exclude-uids | <value> |
    Then "typo" stays unready
    And the error names "transparent-proxy-exclude-uids"

    Examples:
      | value      |
      | nosuchuser |
      | root       |
      | -1         |
      | 4294967295 |
      | 1000-2000  |

  @BI-05 @beyond @sim @kind
  Scenario Outline: Values that are not truth values
    When the workload "typo" is submitted with:
      | annotation transparent-proxy | <value> |
    Then the submission is <result>

    Examples:
      | value | result   |
      | true  | accepted |
      | TRUE  | accepted |
      | 1     | accepted |
      | yes   | rejected |
      | on    | rejected |
      | maybe | rejected |

  @BI-06 @documented @sim @kind
  Scenario Outline: List values are strings
    When the workload "caller" is submitted with:
      | annotation <annotation> | unquoted <number> |
    Then the submission is rejected
    And the error names "annotations"

    Examples:
      | annotation                               | number |
      | transparent-proxy-exclude-inbound-ports  | 8200   |
      | transparent-proxy-exclude-outbound-ports | 8200   |
      | transparent-proxy-exclude-uids           | 4444   |

  @BI-08 @peer @sim @kind
  Scenario Outline: Combinations that are not supported say so
    When the workload "odd" is submitted with:
      | <key 1> | <value 1> |
      | <key 2> | <value 2> |
    Then the submission is rejected
    And the error names "<hint>"

    Examples:
      | key 1                      | value 1   | key 2                        | value 2 | hint             |
      | annotation connect-service | one,two   | annotation transparent-proxy | true    | not compatible   |
      | dns config                 | 8.8.8.8   | annotation consul-dns        | true    | DNSConfig        |
      | host network               | true      | annotation connect-inject    | true    | host network     |
      | uid                        | 5995      | annotation transparent-proxy | true    | 5995             |

  @BI-07 @beyond @sim @kind
  Scenario Outline: Upstream annotations that cannot be read
    When the workload "caller" is submitted with:
      | annotation connect-service-upstreams | <value> |
    Then "caller" stays unready
    And the error names "upstream"

    Examples:
      | value                            |
      | my-service                       |
      | my-service:0                     |
      | my-service:abc                   |
      | my-service:-1                    |
      | prepared_query:geo               |
      | my-service.svc.dc2.wrong:1234    |
