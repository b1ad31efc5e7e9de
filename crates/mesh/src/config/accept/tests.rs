//! What is refused, and in which words.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::tenancy::Tenancy;

fn resource(kind: &str, name: &str, spec: Value) -> Resource {
    Resource {
        kind: kind.into(),
        namespace: "default".into(),
        name: name.into(),
        uid: String::new(),
        generation: 1,
        spec,
    }
}

/// Why each is refused; empty when it is not.
fn verdicts(entries: &[(&str, &str, Value)]) -> Vec<Vec<String>> {
    let resources: Vec<Resource> =
        entries.iter().map(|(kind, name, spec)| resource(kind, name, spec.clone())).collect();
    let (_, verdicts) = accept(&resources, &Home::new("dc1"));
    verdicts.into_iter().map(|(_, verdict)| verdict.err().unwrap_or_default()).collect()
}

#[rstest]
#[case("JWTProvider", "x", json!({}), &["kind JWTProvider comes with a later issue"])]
#[case("SamenessGroup", "x", json!({"members": [{"peer": "a"}, {"peer": "a"}, {"peer": "b", "partition": "default"}, {}]}), &[
    "spec.members[1]: sameness group members must be unique",
    "spec.members[2]: exactly one of partition and peer must be set",
    "spec.members[3]: exactly one of partition and peer must be set",
])]
#[case("SamenessGroup", "x", json!({"members": [{"peer": "a"}]}), &["the local partition must be a member of sameness groups"])]
#[case("SamenessGroup", "x", json!({"includeLocal": true}), &["spec.members is empty"])]
#[case("ExportedServices", "mine", json!({"services": [
    {"name": "a", "consumers": [{"peer": "p", "samenessGroup": "g"}]}, {"name": "a"}, {},
]}), &[
    "metadata.name is \"mine\"; exported-services must be named \"default\"",
    "spec.services[0].consumers[0]: exactly one of peer and samenessGroup must be set",
    "spec.services[1].consumers is empty",
    "spec.services[1]: service \"a\" is listed twice",
    "spec.services[2].name is empty",
    "spec.services[2].consumers is empty",
])]
#[case("ExportedServices", "default", json!({}), &["spec.services is empty"])]
#[case("ServiceDefaults", "x", json!({"protocol": "http", "colour": "red"}),
    &["spec.colour is no field of a ServiceDefaults"])]
#[case("ServiceDefaults", "x", json!({"destination": {"addresses": ["10.0.0.1"], "port": 80}}), &[
    "spec.destination.addresses[0] needs a terminating gateway",
    "spec.destination.port needs a terminating gateway",
])]
#[case("ServiceDefaults", "x",
    json!({"protocol": "udp", "mutualTLSMode": "lax", "balanceInboundConnections": "fair", "meshGateway": {"mode": "far"}}), &[
    "spec.balanceInboundConnections is \"fair\"; it must be one of exact_balance",
    "spec.meshGateway.mode is \"far\"; it must be one of none, local, remote",
    "spec.mutualTLSMode is \"lax\"; it must be one of strict, permissive",
    "spec.protocol is \"udp\"; it must be one of tcp, http, http2, grpc",
])]
#[case("ServiceDefaults", "x", json!({"mode": "direct", "transparentProxy": {"outboundListenerPort": 15002},
    "upstreamConfig": {"defaults": {"name": "y", "peer": "p"}, "overrides": [{}]}, "expose": {"paths": [{"path": "metrics"}]}}), &[
    "spec.transparentProxy.outboundListenerPort is 15002; it cannot be set here",
    "spec.mode is \"direct\"; it cannot be set here, but by the annotation consul.hashicorp.com/transparent-proxy",
    "spec.expose.paths[0].path is \"metrics\"; it must begin with \"/\"",
    "spec.upstreamConfig.defaults.name is \"y\"; names belong in overrides",
    "spec.upstreamConfig.defaults.peer is \"p\"; names belong in overrides",
    "spec.upstreamConfig.overrides[0].name is empty",
])]
#[case("ServiceDefaults", "x", json!({"upstreamConfig": {
    "defaults": {"passiveHealthCheck": {"maxEjectionPercent": 101, "baseEjectionTime": "0s"}},
    "overrides": [{"name": "*"}, {"name": "a"}, {"name": "a", "peer": "p"}, {"name": "a"}],
}}), &[
    "spec.upstreamConfig.defaults.passiveHealthCheck.maxEjectionPercent is 101; it must be a percentage",
    "spec.upstreamConfig.defaults.passiveHealthCheck.baseEjectionTime is \"0s\"; it must be longer",
    "spec.upstreamConfig.overrides[0].name is \"*\"; what is said of every upstream belongs in defaults",
    "spec.upstreamConfig.overrides[3]: upstream \"a\" is listed twice",
])]
#[case("ServiceDefaults", "x", json!({"upstreamConfig": {"defaults": {"envoyClusterJSON": "{}"}, "overrides": [{
    "name": "a", "namespace": "shop", "protocol": "udp", "balanceOutboundConnections": "fair", "passiveHealthCheck": {"interval": "soon"},
}]}}), &[
    "spec.upstreamConfig.defaults.envoyClusterJSON needs Envoy configuration to be passed on as it is written",
    "spec.upstreamConfig.overrides[0].balanceOutboundConnections is \"fair\"; it must be one of exact_balance",
    "spec.upstreamConfig.overrides[0].namespace is \"shop\": there is one namespace",
    "spec.upstreamConfig.overrides[0].passiveHealthCheck.interval is \"soon\", which is not a duration",
    "spec.upstreamConfig.overrides[0].protocol is \"udp\"; it must be one of tcp",
])]
#[case("ServiceDefaults", "x", json!({"upstreamConfig": {"defaults": {"limits": {"maxConnections": -1}}}}),
    &["spec.upstreamConfig.defaults.limits.maxConnections: invalid value"])]
#[case("ServiceDefaults", "x", json!({"mutualTLSMode": "permissive"}),
    &["spec.mutualTLSMode is \"permissive\"; that needs allowEnablingPermissiveMutualTLS"])]
#[case("ServiceDefaults", "x", json!({"maxInboundConnections": -1}), &["spec.maxInboundConnections: invalid value"])]
#[case("ProxyDefaults", "mine", json!({}), &["metadata.name is \"mine\"; proxy-defaults must be named \"global\""])]
#[case("ProxyDefaults", "global", json!({"config": {"protocol": "HTTP"}}),
    &["spec.config.protocol is \"HTTP\"; it must be one of tcp"])]
#[case("ProxyDefaults", "global", json!({"config": {"balance_inbound_connections": "fair"}}),
    &["spec.config.balance_inbound_connections is \"fair\"; it must be one of exact_balance"])]
#[case("ProxyDefaults", "global", json!({"config": {"local_idle_timeout_ms": "soon"}}),
    &["spec.config.local_idle_timeout_ms: \"soon\" is no whole number"])]
#[case("Mesh", "mine", json!({}), &["metadata.name is \"mine\"; the mesh resource must be named \"mesh\""])]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "x"}}), &["spec.sources is empty"])]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "sh*p"}, "sources": [{"name": ""}, {"action": "maybe"}]}),
    &["spec.sources[1].action is \"maybe\"; it must be one of allow, deny"])]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "sh*p"}, "sources": [{}, {"name": "a", "action": "allow"}]}), &[
    "spec.destination.name is \"sh*p\": \"*\" stands for a whole name",
    "spec.sources[0].name is empty",
    "spec.sources[0]: one of action and permissions must be set",
])]
#[case("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "peer": "p", "namespace": "shop"}]}), &[
    "spec.sources[0].namespace is \"shop\": there is one namespace and partition, \"default\"",
])]
#[case("ServiceIntentions", "x",
    json!({"destination": {"name": "*"}, "sources": [{"name": "a", "permissions": [{"http": {}}]}]}), &[
    "spec.sources[0]: permissions need an exact destination, not \"*\"",
    "spec.sources[0].permissions[0].action is not set",
])]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": [{"name": "a", "permissions": [
    {"action": "allow", "jwt": {"providers": [{"name": "okta"}]}},
]}]}), &["spec.sources[0].permissions[0].jwt.providers[0].name needs a JWTProvider"])]
#[case("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": [{"name": "a", "permissions": [
    {"action": "allow", "http": {
        "pathExact": "a", "pathRegex": "(", "methods": ["get", "PUT", "PUT"],
        "header": [{"exact": "1", "present": true}, {"name": "x", "present": true, "ignoreCase": true}],
    }},
]}]}), &[
    "spec.sources[0].permissions[0].http: at most one of pathExact, pathPrefix, pathRegex",
    "spec.sources[0].permissions[0].http.pathExact is \"a\"; it must begin with \"/\"",
    "spec.sources[0].permissions[0].http.pathRegex is \"(\", which is not a regular expression",
    "spec.sources[0].permissions[0].http.methods[0] is \"get\"; it must be one of GET",
    "spec.sources[0].permissions[0].http.methods[2]: \"PUT\" is listed twice",
    "spec.sources[0].permissions[0].http.header[0].name is empty",
    "spec.sources[0].permissions[0].http.header[0]: exactly one of exact",
    "spec.sources[0].permissions[0].http.header[1].ignoreCase needs one of",
])]
#[case("ServiceResolver", "x", json!({"redirect": {"service": "y", "datacenter": "dc2", "partition": "ap1"}}), &[
    "spec.redirect.partition is \"ap1\": there is one namespace and partition, \"default\"",
])]
#[case("ServiceResolver", "x", json!({"redirect": {"serviceSubset": "v1"}, "failover": {"*": {}}}), &[
    "spec: redirect and failover exclude each other",
    "spec.redirect.serviceSubset needs redirect.service",
    "spec.failover.* is empty",
])]
#[case("ServiceResolver", "x", json!({"redirect": {}, "subsets": {"V1": {"filter": "Service.Meta.version =="}}}), &[
    "spec.redirect is empty", "spec.subsets: \"V1\" is no name for a subset", "spec.subsets.V1.filter: parse filter",
])]
#[case("ServiceResolver", "x", json!({"connectTimeout": "soon", "requestTimeout": "5"}), &[
    "spec.connectTimeout is \"soon\", which is not a duration", "spec.requestTimeout is \"5\", which is not a duration",
])]
#[case("ServiceResolver", "x", json!({"defaultSubset": "v1", "failover": {"v2": {"serviceSubset": "v3"}}}), &[
    "spec.defaultSubset: service \"x\" does not have a subset named \"v1\"",
    "spec.failover.v2: service \"x\" does not have a subset named \"v2\"",
    "spec.failover.v2.serviceSubset: service \"x\" does not have a subset named \"v3\"",
])]
#[case("ServiceResolver", "x", json!({"loadBalancer": {"policy": "random", "ringHashConfig": {"minimumRingSize": 1},
    "hashPolicies": [{"field": "header", "sourceIP": true}, {}]}}), &[
    "spec.loadBalancer.hashPolicies need the policy ringHash or maglev, not \"random\"",
    "spec.loadBalancer.ringHashConfig needs the policy ringHash",
    "spec.loadBalancer.hashPolicies[0]: field and sourceIP exclude each other",
    "spec.loadBalancer.hashPolicies[0].fieldValue is empty",
    "spec.loadBalancer.hashPolicies[1]: one of field and sourceIP must be set",
])]
#[case("ServiceRouter", "x", json!({"routes": [{"match": {"http": {"queryParam": [{"name": "a"}]}},
    "destination": {"prefixRewrite": "/", "retryOnStatusCodes": [42]}}]}), &[
    "spec.routes[0].match.http.queryParam[0]: exactly one of exact, regex, present",
    "spec.routes[0].destination.prefixRewrite needs match.http.pathPrefix or match.http.pathExact",
    "spec.routes[0].destination.retryOnStatusCodes[0] is 42",
])]
#[case("ServiceRouter", "x", json!({"routes": []}), &["service \"x\" speaks tcp: its discovery chain can have no router"])]
#[case("ServiceSplitter", "x", json!({"splits": [{"weight": 50.005}, {"weight": 49, "service": "x"}]}), &[
    "spec.splits[0].weight is 50.005; it must be a percentage from 0 to 100 with at most two decimals",
    "spec.splits[1]: \"x\" with this subset is listed twice",
    "the sum of all split weights must be 100, but was 99.01",
])]
fn refusals(#[case] kind: &str, #[case] name: &str, #[case] spec: Value, #[case] expected: &[&str]) {
    let found = verdicts(&[(kind, name, spec)]).remove(0);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}

#[test]
fn the_first_resource_of_a_name_wins() {
    let entry = |name: &str, action: &str| {
        let sources = json!([{"name": "a", "action": action}]);
        resource("ServiceIntentions", name, json!({"destination": {"name": "x"}, "sources": sources}))
    };
    let mut other = resource("Mesh", "mesh", json!({"transparentProxy": {"meshDestinationsOnly": true}}));
    other.namespace = "other".into();
    let resources = [entry("first", "allow"), entry("second", "deny"), resource("Mesh", "mesh", json!({})), other];
    let (config, verdicts) = accept(&resources, &Home::new("dc1"));
    let refused = |place: usize| verdicts[place].1.clone().expect_err("refused");
    assert_eq!(
        refused(1),
        ["intentions for destination \"x\" exist already in another resource: delete one of the two"]
    );
    assert_eq!(refused(3), ["a mesh resource exists already in another namespace: delete one of the two"]);
    assert_eq!(config.intentions["x"][0].action, Some(Action::Allow));
    assert!(!config.mesh_destinations_only());
}

/// A chain is one of several entries: what fits none stays out, and it is the last one of two that contradict.
#[rstest]
#[case::circle(vec![
    ("ServiceResolver", "a", json!({"redirect": {"service": "b"}})),
    ("ServiceResolver", "b", json!({"redirect": {"service": "c"}})),
    ("ServiceResolver", "c", json!({"redirect": {"service": "a"}})),
], &["", "", "spec.redirect: the discovery chain goes in a circle: c, a, b, c"])]
#[case::splits_in_a_circle(vec![
    ("ServiceSplitter", "a", json!({"splits": [{"weight": 50}, {"weight": 50, "service": "b"}]})),
    ("ServiceSplitter", "b", json!({"splits": [{"weight": 50}, {"weight": 50, "service": "a"}]})),
], &["", "spec.splits: the discovery chain goes in a circle: b, a, b"])]
#[case::a_subset_that_comes_later(vec![
    ("ServiceResolver", "a", json!({"redirect": {"service": "b", "serviceSubset": "v1"}})),
    ("ServiceResolver", "b", json!({"subsets": {"v1": {}}})),
], &["", ""])]
#[case::a_subset_that_does_not_come(vec![
    ("ServiceResolver", "b", json!({"subsets": {"v2": {}}})),
    ("ServiceRouter", "a", json!({"routes": [{"destination": {"service": "b", "serviceSubset": "v1"}}]})),
], &["", "spec.routes[0].destination: service \"b\" does not have a subset named \"v1\": add it to spec.subsets of its ServiceResolver"])]
#[case::two_protocols(vec![
    ("ServiceDefaults", "b", json!({"protocol": "grpc"})),
    ("ServiceSplitter", "a", json!({"splits": [{"weight": 100, "service": "b"}]})),
], &["", "spec.splits[0]: service \"b\" speaks grpc and \"a\" http: all services of a discovery chain must speak the same; \
    set the protocol in their ServiceDefaults"])]
fn chains_must_fit_together(#[case] entries: Vec<(&str, &str, Value)>, #[case] expected: &[&str]) {
    let mut all = vec![("ProxyDefaults", "global", json!({"config": {"protocol": "http"}}))];
    all.extend(entries);
    let found: Vec<String> = verdicts(&all).into_iter().skip(1).map(|mistakes| mistakes.join("; ")).collect();
    assert_eq!(found, expected);
}

#[test]
fn permissive_needs_leave() {
    let allowed = json!({"allowEnablingPermissiveMutualTLS": true});
    let lax = ("ServiceDefaults", "x", json!({"mutualTLSMode": "permissive"}));
    assert!(verdicts(&[lax, ("Mesh", "mesh", allowed)]).iter().all(Vec::is_empty));
}

#[test]
fn what_has_no_effect_is_told() {
    let defaults = resource(
        "ProxyDefaults",
        "global",
        json!({
            "config": {"protocol": "http", "envoy_tracing_json": "{}"}, "prioritizeByLocality": {"mode": "none"},
            "accessLogs": {"enabled": true, "path": ""},
        }),
    );
    assert_eq!(
        without_effect(&defaults),
        [
            "spec.accessLogs.enabled has no effect: this control plane does not act on it",
            "spec.config.envoy_tracing_json has no effect: this control plane does not act on it",
        ]
    );
    assert!(accept([&defaults], &Home::new("dc1")).1[0].1.is_ok());
}

/// In partition `ap1` of `default` and `ap1`.
#[rstest]
#[case::a_source("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "partition": "default"}]}), &[])]
#[case::sources_of_one_name_are_different_ones("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": [
    {"name": "a", "action": "allow", "partition": "default"}, {"name": "a", "action": "deny", "partition": "ap1"},
]}), &[])]
#[case::the_same_one_twice("ServiceIntentions", "x", json!({"destination": {"name": "x"}, "sources": [
    {"name": "a", "action": "allow"}, {"name": "a", "action": "deny", "partition": "ap1"},
]}), &["spec.sources[1]: source \"a\" is listed twice"])]
#[case::a_source_nowhere("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "partition": "ap9"}]}),
    &["spec.sources[0].partition is \"ap9\": there is no such partition; there are ap1, default"])]
#[case::a_source_in_all("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "partition": "*"}]}),
    &["spec.sources[0].partition is \"*\": there is no such partition"])]
#[case::a_source_in_two_places("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "partition": "default", "peer": "p"}]}),
    &["spec.sources[0]: peer, partition and samenessGroup exclude each other"])]
#[case::sources_in_no_group("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "samenessGroup": "g"}]}),
    &["spec.sources[0].samenessGroup is \"g\": there is no sameness group of this name"])]
#[case::another_namespace("ServiceIntentions", "x",
    json!({"destination": {"name": "x"}, "sources": [{"name": "a", "action": "allow", "namespace": "shop"}]}),
    &["spec.sources[0].namespace is \"shop\": there is one namespace, \"default\""])]
#[case::exports("ExportedServices", "ap1", json!({"services": [{"name": "a", "consumers": [{"partition": "default"}]}]}), &[])]
#[case::exports_of_another("ExportedServices", "default",
    json!({"services": [{"name": "a", "consumers": [{"partition": "default"}]}]}),
    &["metadata.name is \"default\"; exported-services must be named \"ap1\""])]
#[case::exports_to_nobody_and_to_two("ExportedServices", "ap1",
    json!({"services": [{"name": "a", "consumers": [{}, {"partition": "default", "peer": "p"}]}]}), &[
    "spec.services[0].consumers[0]: exactly one of partition, peer and samenessGroup must be set",
    "spec.services[0].consumers[1]: exactly one of partition, peer and samenessGroup must be set",
])]
#[case::exports_to_where_it_is("ExportedServices", "ap1", json!({"services": [{"name": "a", "consumers": [{"partition": "ap1"}]}]}),
    &["spec.services[0].consumers[0].partition is \"ap1\", where the service is itself"])]
#[case::a_group("SamenessGroup", "x", json!({"members": [{"partition": "default"}, {"partition": "ap1"}, {"peer": "p"}]}), &[])]
#[case::a_group_without_ours("SamenessGroup", "x", json!({"members": [{"partition": "default"}]}),
    &["the local partition must be a member of sameness groups"])]
#[case::a_group_that_includes_ours("SamenessGroup", "x", json!({"includeLocal": true, "members": [{"partition": "default"}]}), &[])]
#[case::a_redirect("ServiceResolver", "x", json!({"redirect": {"service": "y", "partition": "default"}}), &[])]
#[case::a_route("ServiceRouter", "x", json!({"routes": [{"destination": {"service": "y", "partition": "default"}}]}),
    &["spec.routes[0].destination.partition is \"default\": only \"ap1\", where the resource is, can be named here"])]
fn entries_of_partitions(#[case] kind: &str, #[case] name: &str, #[case] spec: Value, #[case] expected: &[&str]) {
    let tenancy = Tenancy::new("ap1", &["default".into(), "ap1".into()]);
    let home = Home { tenancy, ..Home::new("dc1") };
    let found = accept([&resource(kind, name, spec)], &home).1.remove(0).1.err().unwrap_or_default();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
}
