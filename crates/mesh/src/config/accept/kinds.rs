//! The fields of the kinds that can be accepted, and of some of them what they may say.
//!
//! In a path `[]` stands for any index, `*` for any key, `**` for anything below.

use super::fields::Role::{self, Acts, Elsewhere, Idle, Needs, Partition};

const JWT: Role = Needs("a JWTProvider, which this control plane does not have");

const RAW: Role = Needs("Envoy configuration to be passed on as it is written, which this control plane does not do");

type Fields = &'static [(Role, &'static [&'static str])];

/// The fields of the kinds that can be accepted.
pub(super) const KINDS: &[(&str, Fields)] = &[
    (
        "ServiceIntentions",
        &[
            (
                Acts,
                &[
                    "destination.name",
                    "sources[].name",
                    "sources[].peer",
                    "sources[].samenessGroup",
                    "sources[].action",
                    "sources[].description",
                    "sources[].permissions[].action",
                    "sources[].permissions[].http.pathExact",
                    "sources[].permissions[].http.pathPrefix",
                    "sources[].permissions[].http.pathRegex",
                    "sources[].permissions[].http.methods[]",
                    "sources[].permissions[].http.header[].*",
                ],
            ),
            (Partition, &["sources[].partition"]),
            (Elsewhere, &["destination.namespace", "sources[].namespace"]),
            (JWT, &["jwt.**", "sources[].permissions[].jwt.**"]),
        ],
    ),
    (
        "ServiceDefaults",
        &[
            (
                Acts,
                &[
                    "protocol",
                    "mode",
                    "mutualTLSMode",
                    "transparentProxy.dialedDirectly",
                    "transparentProxy.outboundListenerPort",
                    "expose.paths[].*",
                    "maxInboundConnections",
                    "localConnectTimeoutMs",
                    "localRequestTimeoutMs",
                    "balanceInboundConnections",
                    "meshGateway.mode",
                    "upstreamConfig.defaults.name",
                    "upstreamConfig.defaults.namespace",
                    "upstreamConfig.defaults.partition",
                    "upstreamConfig.defaults.peer",
                    "upstreamConfig.defaults.protocol",
                    "upstreamConfig.defaults.connectTimeoutMs",
                    "upstreamConfig.defaults.limits.*",
                    "upstreamConfig.defaults.passiveHealthCheck.*",
                    "upstreamConfig.defaults.meshGateway.mode",
                    "upstreamConfig.defaults.balanceOutboundConnections",
                    "upstreamConfig.overrides[].name",
                    "upstreamConfig.overrides[].peer",
                    "upstreamConfig.overrides[].protocol",
                    "upstreamConfig.overrides[].connectTimeoutMs",
                    "upstreamConfig.overrides[].limits.*",
                    "upstreamConfig.overrides[].passiveHealthCheck.*",
                    "upstreamConfig.overrides[].meshGateway.mode",
                    "upstreamConfig.overrides[].balanceOutboundConnections",
                ],
            ),
            (Elsewhere, &["upstreamConfig.overrides[].namespace"]),
            (Partition, &["upstreamConfig.overrides[].partition"]),
            (
                RAW,
                &[
                    "upstreamConfig.defaults.envoyListenerJSON",
                    "upstreamConfig.defaults.envoyClusterJSON",
                    "upstreamConfig.overrides[].envoyListenerJSON",
                    "upstreamConfig.overrides[].envoyClusterJSON",
                ],
            ),
            (Needs("a terminating gateway, which comes with a later issue"), &["destination.**"]),
            (Idle, &["externalSNI", "expose.checks", "rateLimits.**", "envoyExtensions[].**"]),
        ],
    ),
    (
        "ProxyDefaults",
        &[
            (
                Acts,
                &[
                    "config.protocol",
                    "config.local_connect_timeout_ms",
                    "config.local_request_timeout_ms",
                    "config.local_idle_timeout_ms",
                    "config.max_inbound_connections",
                    "config.balance_inbound_connections",
                    "mode",
                    "mutualTLSMode",
                    "transparentProxy.dialedDirectly",
                    "transparentProxy.outboundListenerPort",
                    "expose.paths[].*",
                    "meshGateway.mode",
                ],
            ),
            (
                Idle,
                &[
                    "config.**",
                    "expose.checks",
                    "accessLogs.*",
                    "failoverPolicy.**",
                    "prioritizeByLocality.mode",
                    "envoyExtensions[].**",
                ],
            ),
        ],
    ),
    (
        "Mesh",
        &[
            (Acts, &["transparentProxy.meshDestinationsOnly", "allowEnablingPermissiveMutualTLS"]),
            // nobody to peer with, and each cluster of the mesh is made with the route that leads to it
            (Acts, &["peering.peerThroughMeshGateways", "validateClusters"]),
            (Idle, &["tls.**", "http.**"]),
        ],
    ),
    (
        "ServiceResolver",
        &[
            (
                Acts,
                &[
                    "defaultSubset",
                    "subsets.*.filter",
                    "subsets.*.onlyPassing",
                    "redirect.service",
                    "redirect.serviceSubset",
                    "redirect.datacenter",
                    "failover.*.service",
                    "failover.*.serviceSubset",
                    "failover.*.datacenters[]",
                    "failover.*.targets[].service",
                    "failover.*.targets[].serviceSubset",
                    "failover.*.targets[].datacenter",
                    "failover.*.targets[].peer",
                    "failover.*.samenessGroup",
                    "redirect.peer",
                    "redirect.samenessGroup",
                    "failover.*.policy.mode",
                    "connectTimeout",
                    "requestTimeout",
                    "prioritizeByLocality.mode",
                    "loadBalancer.policy",
                    "loadBalancer.ringHashConfig.*",
                    "loadBalancer.leastRequestConfig.choiceCount",
                    "loadBalancer.hashPolicies[].**",
                ],
            ),
            (Partition, &["redirect.partition", "failover.*.targets[].partition"]),
            (Elsewhere, &["redirect.namespace", "failover.*.namespace", "failover.*.targets[].namespace"]),
            (Idle, &["failover.*.policy.regions[]"]),
        ],
    ),
    (
        "ExportedServices",
        &[
            (Acts, &["services[].name", "services[].consumers[].peer", "services[].consumers[].samenessGroup"]),
            (Partition, &["services[].consumers[].partition"]),
            (Elsewhere, &["services[].namespace"]),
        ],
    ),
    (
        "SamenessGroup",
        &[(Acts, &["defaultForFailover", "includeLocal", "members[].peer"]), (Partition, &["members[].partition"])],
    ),
    (
        "ServiceRouter",
        &[
            (
                Acts,
                &[
                    "routes[].match.http.pathExact",
                    "routes[].match.http.pathPrefix",
                    "routes[].match.http.pathRegex",
                    "routes[].match.http.caseInsensitive",
                    "routes[].match.http.methods[]",
                    "routes[].match.http.header[].*",
                    "routes[].match.http.queryParam[].*",
                    "routes[].destination.service",
                    "routes[].destination.serviceSubset",
                    "routes[].destination.prefixRewrite",
                    "routes[].destination.requestTimeout",
                    "routes[].destination.idleTimeout",
                    "routes[].destination.numRetries",
                    "routes[].destination.retryOn[]",
                    "routes[].destination.retryOnConnectFailure",
                    "routes[].destination.retryOnStatusCodes[]",
                    "routes[].destination.requestHeaders.**",
                    "routes[].destination.responseHeaders.**",
                ],
            ),
            (Elsewhere, &["routes[].destination.namespace", "routes[].destination.partition"]),
        ],
    ),
    (
        "ServiceSplitter",
        &[
            (
                Acts,
                &[
                    "splits[].weight",
                    "splits[].service",
                    "splits[].serviceSubset",
                    "splits[].requestHeaders.**",
                    "splits[].responseHeaders.**",
                ],
            ),
            (Elsewhere, &["splits[].namespace", "splits[].partition"]),
        ],
    ),
];

/// Fields that take one of a few words.
pub(super) const WORDS: &[(&str, &[&str])] = &[
    ("protocol", &["tcp", "http", "http2", "grpc"]),
    ("config.protocol", &["tcp", "http", "http2", "grpc"]),
    ("mutualTLSMode", &["strict", "permissive"]),
    ("balanceInboundConnections", &["exact_balance"]),
    ("config.balance_inbound_connections", &["exact_balance"]),
    ("expose.paths[].protocol", &["http", "http2"]),
    ("meshGateway.mode", &["none", "local", "remote"]),
    ("upstreamConfig.defaults.protocol", &["tcp", "http", "http2", "grpc"]),
    ("upstreamConfig.overrides[].protocol", &["tcp", "http", "http2", "grpc"]),
    ("upstreamConfig.defaults.balanceOutboundConnections", &["exact_balance"]),
    ("upstreamConfig.overrides[].balanceOutboundConnections", &["exact_balance"]),
    ("upstreamConfig.defaults.meshGateway.mode", &["none", "local", "remote"]),
    ("upstreamConfig.overrides[].meshGateway.mode", &["none", "local", "remote"]),
    ("sources[].action", &["allow", "deny"]),
    ("sources[].permissions[].action", &["allow", "deny"]),
    ("failover.*.policy.mode", &["sequential", "order-by-locality"]),
    ("prioritizeByLocality.mode", &["none", "failover"]),
    ("loadBalancer.policy", &["random", "roundRobin", "leastRequest", "ringHash", "maglev"]),
    ("loadBalancer.hashPolicies[].field", &["header", "cookie", "query_parameter"]),
];

/// Fields that are times.
pub(super) const TIMES: &[&str] = &[
    "connectTimeout",
    "requestTimeout",
    "routes[].destination.requestTimeout",
    "routes[].destination.idleTimeout",
    "loadBalancer.hashPolicies[].cookieConfig.ttl",
    "upstreamConfig.defaults.passiveHealthCheck.interval",
    "upstreamConfig.defaults.passiveHealthCheck.baseEjectionTime",
    "upstreamConfig.overrides[].passiveHealthCheck.interval",
    "upstreamConfig.overrides[].passiveHealthCheck.baseEjectionTime",
];
