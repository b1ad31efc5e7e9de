Feature: Configuration entries decide where requests go
  Background:
    Given a mesh
    And the workload "static-client"
    And the workload "static-server"
    And the workload "backend"

  @RO-01 @documented @sim @kind
  Scenario Outline: A router sends requests where their paths say
    Given the ProxyDefaults "global" with:
      | config.protocol | http |
    And the ServiceRouter "static-server" with:
      | routes[0].match.http.pathPrefix                     | /api/   |
      | routes[0].destination.service                       | backend |
      | routes[0].destination.prefixRewrite                 | /v2/    |
      | routes[0].destination.requestHeaders.set.x-routed   | yes     |
      | routes[1].match.http.pathPrefix                     | /       |
      | routes[1].match.http.methods[0]                     | PUT     |
      | routes[1].destination.service                       | backend |
    When "static-client" requests "http://static-server<path>"
    Then it is answered by "<server>"
    And the answer contains "<shown>"
    And it is mutual TLS for "<server>" from "static-client" to "<server>"

    Examples:
      | path       | server        | shown                |
      | /api/hello | backend       | path=/v2/hello       |
      | /api/hello | backend       | header x-routed: yes |
      | /hello     | static-server | path=/hello          |

  @RO-02 @documented @sim @kind
  Scenario: A splitter's shares change under running proxies
    Given the ProxyDefaults "global" with:
      | config.protocol | http |
    And the ServiceSplitter "static-server" with:
      | splits[0].weight  | 100     |
      | splits[0].service | backend |
      | splits[1].weight  | 0       |
    When "static-client" requests "http://static-server" 10 times
    Then no request failed
    And every answer came from "backend"
    When the ServiceSplitter "static-server" is changed to:
      | splits[0].weight                          | 0       |
      | splits[0].service                         | backend |
      | splits[1].weight                          | 100     |
      | splits[1].requestHeaders.set.x-split      | rest    |
    And "static-client" requests "http://static-server" 10 times
    Then no request failed
    And every answer came from "static-server"
    And the answer contains "header x-split: rest"
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @RO-03 @documented @sim @kind
  Scenario Outline: A redirect leads to another service, whatever is spoken
    Given the ProxyDefaults "global" with:
      | config.protocol | <protocol> |
    And the ServiceResolver "static-server" with:
      | redirect.service | backend |
    When "static-client" requests "http://static-server"
    Then it is answered by "backend"
    And it is mutual TLS for "backend" from "static-client" to "backend"
    When the ServiceResolver "static-server" is deleted
    Then within 10 seconds it is answered by "static-server"

    Examples:
      | protocol |
      | tcp      |
      | http     |

  @RO-04 @documented @sim @kind
  Scenario: A subset is the instances whose metadata fit
    Given the workload "older" with:
      | annotation service-meta-version | v1 |
    And the workload "newer" with:
      | annotation connect-service      | older |
      | annotation service-meta-version | v2    |
    And the ServiceResolver "older" with:
      | defaultSubset     | v1                         |
      | subsets.v1.filter | Service.Meta.version == v1 |
      | subsets.v2.filter | Service.Meta.version == v2 |
    When "static-client" requests "http://older" 6 times
    Then no request failed
    And every answer came from "older"
    When the ServiceResolver "older" is changed to:
      | defaultSubset     | v2                         |
      | subsets.v1.filter | Service.Meta.version == v1 |
      | subsets.v2.filter | Service.Meta.version == v2 |
    And "static-client" requests "http://older" 6 times
    Then no request failed
    And every answer came from "newer"
    And it is mutual TLS from "static-client" to "newer"

  @RO-05 @documented @sim @kind
  Scenario Outline: Failover leads to another service until the first is healthy again
    Given the ProxyDefaults "global" with:
      | config.protocol | <protocol> |
    And the ServiceResolver "static-server" with:
      | failover.*.targets[0].service | backend |
    When "static-client" requests "http://static-server"
    Then it is answered by "static-server"
    When "static-server" becomes unhealthy
    And "static-client" requests "http://static-server"
    Then within 20 seconds it is answered by "backend"
    And it is mutual TLS for "backend" from "static-client" to "backend"
    When "static-server" becomes healthy
    And "static-client" requests "http://static-server"
    Then within 20 seconds it is answered by "static-server"

    Examples:
      | protocol |
      | tcp      |
      | http     |

  @RO-06 @documented @sim @kind
  Scenario Outline: A mistake is told at the resource, and what was in force stays
    Given the ProxyDefaults "global" with:
      | config.protocol | http |
    And the ServiceRouter "static-server" with:
      | routes[0].match.http.pathPrefix     | /    |
      | routes[0].destination.prefixRewrite | /v2/ |
    When the ServiceRouter "static-server" is changed to:
      | <field> | <value> |
    Then the error names "<named>"
    When "static-client" requests "http://static-server/hello"
    Then the answer contains "path=/v2/hello"

    Examples: what the API server refuses by the schema
      | field                                  | value | named                                                |
      | routes[0].destination.numRetries       | many  | spec.routes[0].destination.numRetries                |
      | routes[0].match.http.header[0].present | true  | spec.routes[0].match.http.header[0].name: Required   |

    Examples: what the control plane refuses
      | field                                | value | named                                                    |
      | routes[0].destination.prefixRewrite  | /v3/  | spec.routes[0].destination.prefixRewrite needs           |
      | routes[0].destination.requestTimeout | soon  | spec.routes[0].destination.requestTimeout is             |
      | routes[0].destination.serviceSubset  | v9    | does not have a subset named                             |
      | routes[0].destination.partition      | east  | spec.routes[0].destination.partition is                  |

  @RO-07 @documented @sim @kind
  Scenario: A router needs a protocol with requests
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    When the ServiceRouter "backend" is changed to:
      | routes[0].match.http.pathPrefix     | /    |
      | routes[0].destination.prefixRewrite | /v2/ |
    Then the error names "speaks tcp"
    When "static-client" requests "http://backend/hello"
    Then the answer contains "path=/hello"
    When the ServiceDefaults "backend" is changed to:
      | protocol | http |
    And "static-client" requests "http://backend/hello"
    Then the answer contains "path=/v2/hello"

  @RO-08 @documented @sim @kind
  Scenario: A change of protocol that would break a router is refused
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceRouter "static-server" with:
      | routes[0].match.http.pathPrefix     | /    |
      | routes[0].destination.prefixRewrite | /v2/ |
    When "static-client" requests "http://static-server/hello"
    Then the answer contains "path=/v2/hello"
    When the ServiceDefaults "static-server" is changed to:
      | protocol | tcp |
    Then the error names "that would break ServiceRouter"
    When "static-client" requests "http://static-server/hello"
    Then the answer contains "path=/v2/hello"
    When the ServiceRouter "static-server" is deleted
    And "static-client" requests "http://static-server/hello"
    Then the answer contains "path=/hello"

  @RO-09 @beyond @sim @kind
  Scenario: A setting that has no effect is named
    When "static-client" requests "http://static-server"
    Then it is answered
    When the ProxyDefaults "global" is changed to:
      | config.protocol           | http |
      | config.envoy_tracing_json | {}   |
    Then the error names "spec.config.envoy_tracing_json has no effect"

  # The application of one of two instances listens where its proxy does not look for it, and the proxy answers 503.
  @RO-10 @documented @sim @kind
  Scenario: A router has a request sent again to another instance
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the workload "broken" with:
      | annotation connect-service | static-server |
      | binds                      | pod IP        |
    When "static-client" requests "http://static-server"
    Then within 10 seconds it is blocked
    When the ServiceRouter "static-server" is changed to:
      | routes[0].match.http.pathPrefix             | /   |
      | routes[0].destination.numRetries            | 3   |
      | routes[0].destination.retryOnStatusCodes[0] | 503 |
    And "static-client" requests "http://static-server" 6 times
    Then no request failed
    And every answer came from "static-server"

  @RO-11 @documented @sim @kind
  Scenario: A router changes the headers of answers
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceRouter "static-server" with:
      | routes[0].match.http.pathPrefix                   | /   |
      | routes[0].destination.responseHeaders.set.x-route | yes |
    When "static-client" requests "http://static-server"
    Then the answer contains "answer header x-route: yes"

  # The client's proxy makes the cookie that it will choose by.
  @RO-12 @documented @sim @kind
  Scenario: A resolver has instances chosen by a cookie
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceResolver "static-server" with:
      | loadBalancer.policy                              | maglev |
      | loadBalancer.hashPolicies[0].field               | cookie |
      | loadBalancer.hashPolicies[0].fieldValue          | chosen |
      | loadBalancer.hashPolicies[0].cookieConfig.ttl    | 60s    |
      | loadBalancer.hashPolicies[0].cookieConfig.path   | /      |
    When "static-client" requests "http://static-server"
    Then the answer contains "answer header set-cookie: chosen="

  @RO-13 @documented @sim @kind
  Scenario Outline: The dialling service limits what it asks of an upstream
    Given the ServiceDefaults "static-server" with:
      | protocol | <protocol> |
    And the ServiceDefaults "static-client" with:
      | upstreamConfig.overrides[0].name           | static-server |
      | upstreamConfig.overrides[0].limits.<limit> | 0             |
    When "static-client" requests "http://static-server"
    Then it is blocked
    And nothing from "static-client" reached "app(static-server)"
    When "static-client" requests "http://backend"
    Then it is answered by "backend"
    When the ServiceDefaults "static-client" is changed to:
      | upstreamConfig.overrides[0].name           | static-server |
      | upstreamConfig.overrides[0].limits.<limit> | 1             |
    And "static-client" requests "http://static-server"
    Then it is answered by "static-server"

    Examples:
      | protocol | limit                 |
      | tcp      | maxConnections        |
      | http     | maxPendingRequests    |
      | http     | maxConcurrentRequests |

  # Without it, Envoy would look at five failures first.
  @RO-14 @documented @sim @kind
  Scenario: The dialling service turns away from an instance that fails
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the workload "broken" with:
      | annotation connect-service | static-server |
      | binds                      | pod IP        |
    And the ServiceDefaults "static-client" with:
      | upstreamConfig.defaults.passiveHealthCheck.maxFailures        | 1   |
      | upstreamConfig.defaults.passiveHealthCheck.maxEjectionPercent | 50  |
      | upstreamConfig.defaults.passiveHealthCheck.baseEjectionTime   | 10m |
    When "static-client" requests "http://static-server" 3 times
    And "static-client" requests "http://static-server" 6 times
    Then no request failed
    And every answer came from "static-server"

  @RO-15 @documented @sim
  Scenario: The dialling service waits for a connection as long as it says
    Given the workload "far" with:
      | link | 300 ms delay |
    And the ServiceDefaults "static-client" with:
      | upstreamConfig.overrides[0].name             | far |
      | upstreamConfig.overrides[0].connectTimeoutMs | 100 |
    When "static-client" requests "http://far"
    Then it is blocked
    When the ServiceDefaults "static-client" is changed to:
      | upstreamConfig.overrides[0].name             | far  |
      | upstreamConfig.overrides[0].connectTimeoutMs | 3000 |
    And "static-client" requests "http://far"
    Then it is answered by "far"
