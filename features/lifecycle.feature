@each-mechanism
Feature: Redirection holds while things start, stop and break
  Background:
    Given a mesh
    And the workload "static-server"
    And the workload "static-client"

  @LC-01 @peer @sim @kind
  Scenario: Before the proxy is ready traffic fails closed
    When the proxy of "static-client" is stopped
    And "static-client" requests "http://static-server"
    Then it is refused
    And nothing left "static-client" for "static-server"
    When the proxy of "static-client" is started
    Then within 10 seconds it is answered

  @LC-02 @beyond @sim @kind
  Scenario Outline: Killing a proxy under load never opens the pod
    When "static-client" keeps requesting "http://static-server"
    And the proxy of "<victim>" is killed
    Then within 30 seconds it is answered
    And the canary was never in clear outside a pod
    And the redirect rules of "<victim>" are unchanged

    Examples:
      | victim        |
      | static-client |
      | static-server |

  @LC-04 @peer @sim @kind
  Scenario: A job finishes although it carries a proxy
    Given the workload "job-client" with:
      | kind                                                              | Job                              |
      | command                                                           | request http://static-server once |
      | annotation sidecar-proxy-lifecycle-shutdown-grace-period-seconds | 1                                |
    When the proxy of "job-client" is asked to shut down
    Then "job-client" runs to completion
