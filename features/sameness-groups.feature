# Peered clusters whose services of one name are the same service: a sameness group in each, from its own point of view, to which
# everything is exported. The documentation contradicts itself about the names that fail over: one page has the names of a group for any
# group, another for the default one only, whose plain names fail over as well (consul-k8s' own tests see that). Here names of a group are
# those of the default one, and where there is one, plain names fail over too.
@enterprise
Feature: Sameness groups fail over by name
  The Enterprise licence is needed on kind, not in the simulator.

  Background:
    Given clusters "alpha" and "beta" peered
    And the sameness group "group-name" of "alpha, beta" failing over by default
    And the workload "sample-app" with:
      | cluster | alpha |
    And the workload "sample-app" with:
      | cluster | beta |
    And the workload "static-client" with:
      | cluster | alpha |

  @SG-01 @documented @sim @kind @slow
  Scenario: The group name resolves and reaches the local member first
    When "static-client" looks up "sample-app.virtual.group-name.sg.consul"
    Then the lookup yields a virtual IP
    And the lookup went to Consul DNS
    When "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then it is answered by "sample-app@alpha"
    And it crossed no mesh gateway

  @SG-02 @documented @sim @kind @slow
  Scenario: When the local member is gone the next member answers, and back
    When "sample-app@alpha" is scaled to 0
    And "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then within 60 seconds it is answered by "sample-app@beta"
    And it crossed the mesh gateway of "beta"
    When "sample-app@alpha" is scaled to 1
    Then within 60 seconds it is answered by "sample-app@alpha"

  @SG-03 @documented @sim @kind @slow
  Scenario: The group name needs defaultForFailover
    Given the sameness group "group-name" of "alpha, beta" not failing over by default
    When "static-client" looks up "sample-app.virtual.group-name.sg.consul"
    Then the lookup yields an error
    And nothing left "static-client" for "sample-app"

  @SG-04 @documented @sim @kind @slow
  Scenario Outline: Which name forms fail over
    When "sample-app@alpha" is scaled to 0
    And "static-client" requests "http://<name>"
    Then within 60 seconds it is answered by "sample-app@beta"
    And it crossed the mesh gateway of "beta"

    Examples:
      | name                                    |
      | sample-app.virtual.group-name.sg.consul |
      | sample-app.virtual.consul               |
      | sample-app.default.svc.cluster.local    |

  @SG-05 @peer @sim @kind @slow
  Scenario Outline: Members are tried in the order the group lists them
    Given clusters "alpha" and "gamma" peered
    And the sameness group "group-name" of "<order>" failing over by default
    And the workload "sample-app" with:
      | cluster | gamma |
    When "sample-app@alpha" is scaled to 0
    And "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then within 60 seconds it is answered by "<first>"
    When "<first>" is scaled to 0
    Then within 60 seconds it is answered by "<second>"

    Examples:
      | order              | first            | second           |
      | alpha, beta, gamma | sample-app@beta  | sample-app@gamma |
      | alpha, gamma, beta | sample-app@gamma | sample-app@beta  |

  @SG-06 @beyond @sim @kind @slow
  Scenario Outline: A member that does not qualify is skipped, not leaked to
    When <change>
    And "sample-app@alpha" is scaled to 0
    And "static-client" requests "http://sample-app.virtual.group-name.sg.consul"
    Then it is blocked
    And the canary was never in clear outside a pod

    Examples:
      | change                                 |
      | the ExportedServices "beta" is deleted |
      | the mesh gateway of "beta" is stopped  |
      | "sample-app@beta" becomes unhealthy    |
