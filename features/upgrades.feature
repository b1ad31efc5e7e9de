Feature: Changing the mechanism does not open the mesh

  @UP-03 @beyond @sim @kind @serial
  Scenario Outline: Switching from the <before> to the <after> touches new pods only
    Given redirection by the <before>
    And the workload "old"
    When the mesh is changed to:
      | redirection | <after> |
    And the workload "new" is submitted
    Then the redirect rules of "old" are unchanged
    And the redirect rules of "new" are in place
    When "old" requests "http://new"
    Then it is answered
    And "old" sent it through its proxy
    And "new" received it through its proxy

    Examples:
      | before         | after          |
      | init container | CNI plugin     |
      | CNI plugin     | init container |
