@each-mechanism
Feature: Intentions make upstreams and guard destinations
  Background:
    Given a mesh
    And a default intention of deny
    And the workload "static-server"
    And the workload "static-client"

  @IN-01 @documented @sim @kind
  Scenario: Under default deny nothing passes without an intention
    When "static-client" requests "http://static-server"
    Then it is blocked
    And "static-client" sent it through its proxy
    And nothing from "static-client" reached "app(static-server)"

  @IN-02 @documented @sim @kind
  Scenario: An intention alone makes an upstream reachable
    When "static-client" requests "http://static-server"
    Then it is blocked
    And the pod of "static-client" shows:
      | annotation connect-service-upstreams | none |
    When "static-client" may now reach "static-server"
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @IN-03 @documented @sim @kind
  Scenario: Under default allow no intention is needed
    Given a default intention of allow
    When "static-client" requests "http://static-server"
    Then it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @IN-04 @documented @sim @kind
  Scenario: The destination enforces, whatever the source proxy believes
    Given "static-client" may not reach "static-server"
    When "static-client" presenting the certificate of "static-client" dials "pod(static-server):20000"
    Then it is denied
    And nothing from "static-client" reached "app(static-server)"

  @IN-05 @peer @sim @kind
  Scenario Outline: An HTTP intention allows one method and path
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceIntentions "static-server" with:
      | sources[0].name                          | static-client |
      | sources[0].permissions[0].action         | allow         |
      | sources[0].permissions[0].http.pathExact | /hello        |
    When "static-client" requests "http://static-server<path>"
    Then it is <outcome>

    Examples:
      | path   | outcome   |
      | /hello | answered  |
      | /other | forbidden |

  @IN-06 @documented @sim @kind
  Scenario Outline: The more exact intention decides, of the destination first
    Given the ServiceIntentions "to-server" with:
      | destination.name  | static-server |
      | sources[0].name   | <source>      |
      | sources[0].action | <says>        |
    And the ServiceIntentions "to-all" with:
      | destination.name  | *             |
      | sources[0].name   | <other>       |
      | sources[0].action | <contradicts> |
    When "static-client" requests "http://static-server"
    Then it is <outcome>
    And "static-client" sent it through its proxy

    Examples:
      | source        | says  | other         | contradicts | outcome  |
      | static-client | allow | static-client | deny        | answered |
      | static-client | deny  | *             | allow       | blocked  |
      | *             | allow | static-client | deny        | answered |
      | *             | deny  | static-client | allow       | blocked  |
      | intruder      | deny  | static-client | allow       | answered |

  @IN-07 @documented @sim @kind
  Scenario: Changes of an intention reach proxies that run
    Given the ServiceIntentions "static-server" with:
      | sources[0].name   | static-client |
      | sources[0].action | allow         |
    When "static-client" requests "http://static-server"
    Then it is answered
    When the ServiceIntentions "static-server" is changed to:
      | sources[0].name   | static-client |
      | sources[0].action | deny          |
    Then within 10 seconds it is blocked
    When the ServiceIntentions "static-server" is changed to:
      | sources[0].name   | *     |
      | sources[0].action | allow |
    Then within 10 seconds it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"
    When the ServiceIntentions "static-server" is changed to:
      | sources[0].name   | static-client |
      | sources[0].action | perhaps       |
    Then the error names "sources[0].action"
    When "static-client" requests "http://static-server"
    Then it is answered
    When the ServiceIntentions "static-server" is deleted
    Then within 10 seconds it is blocked

  @IN-08 @documented @sim @kind
  Scenario Outline: Permissions are tried in their order
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceIntentions "static-server" with:
      | sources[0].name                           | static-client |
      | sources[0].permissions[0].action          | <first>       |
      | sources[0].permissions[0].http.<field>    | <value>       |
      | sources[0].permissions[1].action          | <second>      |
      | sources[0].permissions[1].http.pathPrefix | /             |
    When "static-client" requests "http://static-server/hello"
    Then it is <outcome>
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

    Examples:
      | first | field      | value  | second | outcome   |
      | deny  | pathExact  | /hello | allow  | forbidden |
      | deny  | pathExact  | /other | allow  | answered  |
      | allow | pathRegex  | /h.*o  | deny   | answered  |
      | allow | methods[0] | GET    | deny   | answered  |
      | allow | methods[0] | PUT    | deny   | forbidden |

  @IN-09 @documented @sim @kind
  Scenario Outline: A permission is about a header
    Given the ServiceDefaults "static-server" with:
      | protocol | http |
    And the ServiceIntentions "static-server" with:
      | sources[0].name                                  | static-client |
      | sources[0].permissions[0].action                 | allow         |
      | sources[0].permissions[0].http.header[0].name    | <header>      |
      | sources[0].permissions[0].http.header[0].present | true          |
    When "static-client" requests "http://static-server"
    Then it is <outcome>

    Examples: every request of the client carries a canary
      | header   | outcome   |
      | x-canary | answered  |
      | x-ticket | forbidden |

  @IN-10 @documented @sim @kind
  Scenario: Permissions for a destination that speaks TCP are a denial
    Given a default intention of allow
    And the ServiceIntentions "static-server" with:
      | sources[0].name                           | static-client |
      | sources[0].permissions[0].action          | allow         |
      | sources[0].permissions[0].http.pathPrefix | /             |
    When "static-client" requests "http://static-server"
    Then it is blocked
    And nothing from "static-client" reached "app(static-server)"

  @IN-11 @beyond @sim @kind
  Scenario Outline: That a source is allowed does not help with a wrong certificate
    Given "static-client" may reach "static-server"
    When "static-client" requests "http://static-server"
    Then it is answered
    When "static-client" presenting <certificate> dials "pod(static-server):20000"
    Then it is denied
    And nothing from "static-client" reached "app(static-server)"

    Examples:
      | certificate                           |
      | no certificate                        |
      | a self-signed certificate             |
      | an expired certificate                |
      | a certificate of another trust domain |
      | the certificate of "intruder"         |
