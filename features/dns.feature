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

  @DN-04 @peer @sim @kind
  Scenario Outline: Consul DNS answers inside a redirected pod
    When "static-client" looks up "<name>" over <protocol>
    Then the lookup yields <answer>
    And the lookup went to Consul DNS

    Examples:
      | name                      | protocol | answer                           |
      | sample-app.virtual.consul | dns/udp  | a virtual IP                     |
      | sample-app.virtual.consul | dns/tcp  | a virtual IP                     |
      | sample-app.service.consul | dns/udp  | the pod IPs of "sample-app"      |
      | nobody.virtual.consul     | dns/udp  | no such name                     |

  @DN-05 @peer @sim @kind
  Scenario: A virtual address is dialable
    When "static-client" requests "http://sample-app.virtual.consul"
    Then it is answered
    And "static-client" sent it through its proxy
    And it is mutual TLS for "sample-app" from "static-client" to "sample-app"

  @DN-07 @peer @sim @kind
  Scenario Outline: Who gets Consul DNS
    Given the namespace "my-app" labelled "consul.hashicorp.com/consul-dns=<label>"
    And the workload "caller" with:
      | namespace                    | my-app   |
      | annotation transparent-proxy | <tproxy> |
      | annotation consul-dns        | <dns>    |
    When "caller" looks up "sample-app.virtual.consul"
    Then the lookup yields <answer>

    Examples:
      | tproxy | label | dns   | answer       |
      | true   | none  | none  | a virtual IP |
      | true   | false | none  | no such name |
      | true   | false | true  | a virtual IP |
      | true   | true  | false | no such name |
      | false  | true  | true  | no such name |

  @DN-08 @peer @sim @kind
  Scenario Outline: A query to another resolver is left alone, over UDP
    Given the external endpoint "resolver" at "198.51.100.53:53"
    When "static-client" sends "A? web.example.test" over <protocol> to "external(resolver):53"
    Then it is answered
    And "static-client" sent it <path> its proxy

    Examples:
      | protocol | path    |
      | dns/udp  | around  |
      | dns/tcp  | through |

  @DN-09 @peer @sim @kind
  Scenario: A virtual service without pods is reached through a resolver
    Given the ServiceResolver "alias" with:
      | redirect.service | sample-app |
    And the workload "alias" with:
      | replicas | 0 |
    When "static-client" requests "http://alias"
    Then it is answered
    And it is mutual TLS for "sample-app" from "static-client" to "sample-app"

  @DN-10 @beyond @sim @kind
  Scenario Outline: The sidecar is the first name server of its pod, and the cluster's is the next
    Given the namespace "my-app" labelled "consul.hashicorp.com/consul-dns=<label>"
    And the workload "caller" with:
      | namespace | my-app |
    Then the pod of "caller" shows:
      | name servers     | <servers>  |
      | search domains   | <searches> |
      | resolver options | <options>  |

    Examples:
      | label | servers               | searches                                                   | options |
      | true  | 127.0.0.1, 10.96.0.10 | my-app.svc.cluster.local, svc.cluster.local, cluster.local | ndots:5 |
      | false | none                  | none                                                       | none    |

  @DN-11 @beyond @sim @kind
  Scenario: Without redirection the cluster's DNS passes names of Consul on
    Given a mesh with:
      | dns.enabled           | true  |
      | dns.enableRedirection | false |
    When "static-client" looks up "sample-app.virtual.consul"
    Then the lookup yields a virtual IP
    And the lookup went to the cluster DNS
    When "static-client" requests "http://sample-app.virtual.consul"
    Then it is answered
    And "static-client" sent it through its proxy
    And it is mutual TLS for "sample-app" from "static-client" to "sample-app"

  # Resolvers differ in how they use two servers of which each knows a part: glibc and the one in Rust go on to the next
  # after a refusal, musl asks both at once and ignores refusals.
  @DN-12 @beyond @sim @kind
  Scenario Outline: Whatever resolves a program's names, they lead into the mesh
    Given the workload "caller" with:
      | resolver | <resolver> |
    When "caller" requests "http://<name>"
    Then it is answered
    And it is mutual TLS for "sample-app" from "caller" to "sample-app"

    Examples:
      | resolver | name                                 |
      | glibc    | sample-app                           |
      | glibc    | sample-app.default.svc.cluster.local |
      | glibc    | sample-app.virtual.consul            |
      | rust     | sample-app                           |
      | rust     | sample-app.default.svc.cluster.local |
      | rust     | sample-app.virtual.consul            |
      | musl     | sample-app                           |
      | musl     | sample-app.default.svc.cluster.local |

  # To musl the first server that knows or denies a name is right, and the cluster's denies names of Consul unless it passes
  # them on. No order of servers in the pod changes that.
  @DN-13 @beyond @sim @kind
  Scenario Outline: A program with musl needs the cluster's DNS to pass names of Consul on
    Given a mesh with:
      | cluster DNS forwards | consul |
    And the workload "caller" with:
      | resolver | musl |
    When "caller" looks up "<name>"
    Then the lookup yields <answer>
    When "caller" requests "http://sample-app.virtual.consul"
    Then it is answered
    And it is mutual TLS for "sample-app" from "caller" to "sample-app"

    Examples:
      | name                      | answer                      |
      | sample-app.virtual.consul | a virtual IP                |
      | sample-app.service.consul | the pod IPs of "sample-app" |
      | nobody.virtual.consul     | no such name                |

  # Consul's own proxy is silent then, and every name costs a resolver its whole patience.
  @DN-14 @beyond @sim @kind
  Scenario Outline: While the control plane is away, names of the cluster are resolved at once
    Given the workload "caller" with:
      | resolver | <resolver> |
    When "caller" requests "http://sample-app"
    Then it is answered
    When the control plane is stopped
    And "caller" requests "http://sample-app" 5 times
    Then no request failed
    And every answer came from "sample-app"

    Examples:
      | resolver |
      | glibc    |
      | rust     |
      | musl     |

  # The proxy goes on as it was told last, and so does the DNS beside it. After a failure a resolver would ask the cluster's DNS, which
  # denies names of Consul.
  @DN-14 @beyond @sim @kind
  Scenario Outline: While the control plane is away, names of Consul that were asked for before are resolved still
    Given the workload "caller" with:
      | resolver | <resolver> |
    When "caller" requests "http://sample-app.virtual.consul"
    Then it is answered
    When the control plane is stopped
    And "caller" requests "http://sample-app.virtual.consul" 5 times
    Then no request failed
    And every answer came from "sample-app"
    When "caller" looks up "nobody.service.consul"
    Then the lookup yields no such name

    Examples:
      | resolver |
      | glibc    |
      | rust     |

  @DN-15 @beyond @sim @kind
  Scenario Outline: The sidecar answers names for its own pod only
    When "outsider" sends "A? sample-app.virtual.consul" over <protocol> to "pod(static-client):8600"
    Then it is blocked

    Examples:
      | protocol |
      | dns/udp  |
      | dns/tcp  |
