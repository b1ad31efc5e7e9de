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

  @LC-03 @peer @sim @kind
  Scenario Outline: A terminating pod keeps or loses its proxy as configured
    Given a mesh with:
      | connectInject.sidecarProxy.lifecycle.defaultShutdownGracePeriodSeconds   | <grace> |
      | connectInject.sidecarProxy.lifecycle.defaultEnableShutdownDrainListeners | <drain> |
    When "static-client" is deleted
    And "static-client" requests "http://static-server"
    Then it is <outgoing>

    Examples:
      | grace | drain | outgoing |
      | 5     | true  | answered |
      | 5     | false | answered |
      | 0     | false | refused  |

  @LC-05 @peer @sim @kind
  Scenario: Scaling and rolling restarts lose no request
    Given "static-server" is scaled to 3
    When "static-client" keeps requesting "http://static-server"
    And "static-server" is restarted
    And "static-server" is scaled to 1
    Then no request failed

  @LC-06 @peer @sim @kind
  Scenario: A force-killed pod is forgotten
    Given "static-server" is scaled to 2
    When "static-server-0" is force-killed
    And 30 seconds pass
    And "static-client" requests "http://static-server" 20 times
    Then no request failed
    And nothing from "static-client" reached "static-server-0"

  @LC-07 @beyond @sim @kind
  Scenario: Traffic outlives a control plane outage
    When "static-client" keeps requesting "http://static-server"
    And the control plane is stopped
    And 30 seconds pass
    Then no request failed
    When the workload "late" is submitted
    Then "late" stays unready

  # The certificates and virtual addresses of the servers that come are those of the servers that went, and every proxy gets a new
  # leaf of its own.
  @LC-09 @beyond @sim @kind
  Scenario: A control plane that starts again changes nothing for who uses it
    When "static-client" keeps requesting "http://virtualip(static-server)"
    And the control plane is restarted
    And 30 seconds pass
    Then no request failed
    When "static-client" requests "http://virtualip(static-server)"
    Then it is answered
    And it is mutual TLS for "static-server" from "static-client" to "static-server"

  @LC-10 @beyond @sim @kind
  Scenario: A pod that starts while the control plane is away says why it waits, and starts when it is back
    When the control plane is stopped
    And the workload "late" is submitted
    Then "late" stays unready
    And the error names "Consul"
    When the control plane is started
    Then "late" becomes ready
    When "late" requests "http://static-server"
    Then it is answered
    And "late" sent it through its proxy

  @LC-11 @peer @sim @kind
  Scenario: With a native sidecar a job finishes by itself
    Given a mesh with:
      | connectInject.dataplaneAsSidecarInitContainer.defaultEnabled | true |
    And the workload "job-client" with:
      | kind    | Job                              |
      | command | request http://static-server once |
    Then "job-client" runs to completion

  # The application goes on for some seconds after it was told to end. What it asks meanwhile is answered through its proxy.
  @LC-12 @beyond @sim @kind
  Scenario Outline: The proxy outlives the application that it serves
    Given a mesh with:
      | connectInject.sidecarProxy.lifecycle.defaultShutdownGracePeriodSeconds | <grace>  |
      | connectInject.dataplaneAsSidecarInitContainer.defaultEnabled           | <native> |
    When "static-client" keeps requesting "http://static-server"
    And "static-client" is deleted
    And <time> seconds pass
    Then no request failed
    And the canary was never in clear outside a pod

    Examples: the proxy has a grace period of its own
      | grace | native | time |
      | 8     | false  | 60   |

    Examples: a native sidecar ends after the containers that it stands beside
      | grace | native | time |
      | 0     | true   | 250  |
