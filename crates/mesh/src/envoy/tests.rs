//! What is rendered, against the shapes that Consul renders.

use std::net::Ipv6Addr;
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::catalog::Catalog;
use crate::fixture::{TRUST_DOMAIN, instance, world};
use crate::intentions::Intention;
use crate::registration::NamedPort;

fn rendered(world: &World, service: &str) -> Value {
    let leaf = Leaf { cert_chain_pem: "LEAF".to_owned(), key_pem: "KEY".to_owned() };
    render(world, instance(world, service), &leaf, "ROOT")
}

/// The chains of the outbound listener as `addresses -> cluster (statistics prefix)`.
fn outbound(rendered: &Value) -> Vec<String> {
    let listener = &rendered["listeners"]["outbound_listener:127.0.0.1:15001"];
    let mut chains: Vec<Value> = listener["filter_chains"].as_array().cloned().unwrap_or_default();
    chains.extend(listener.get("default_filter_chain").cloned());
    let show = |chain: &Value| {
        let ranges = chain["filter_chain_match"]["prefix_ranges"].as_array().cloned().unwrap_or_default();
        let range = |r: &Value| format!("{}/{}", r["address_prefix"].as_str().unwrap_or("?"), r["prefix_len"]);
        let ranges: Vec<String> = ranges.iter().map(range).collect();
        let filter = &chain["filters"][0]["typed_config"];
        let cluster = filter["cluster"].as_str().unwrap_or("http").replace(TRUST_DOMAIN, "TD");
        format!("{} -> {cluster} ({})", ranges.join(","), filter["stat_prefix"].as_str().unwrap_or("?"))
    };
    chains.iter().map(show).collect()
}

const PASSTHROUGH: &str = " -> original-destination (upstream.original-destination)";

fn allow(source: &str, destination: &str) -> (&'static str, &'static str, Value) {
    let spec = json!({"destination": {"name": destination}, "sources": [{"name": source, "action": "allow"}]});
    ("ServiceIntentions", "one", spec)
}

#[rstest]
#[case::default_allow(Intention::Allow, vec![], &[
    "10.96.0.2/32,240.0.0.2/32 -> google.default.dc1.internal.TD (upstream.google.default.default.dc1)", PASSTHROUGH,
])]
#[case::default_deny(Intention::Deny, vec![], &[PASSTHROUGH])]
#[case::an_intention_makes_an_upstream(Intention::Deny, vec![allow("client", "google")], &[
    "10.96.0.2/32,240.0.0.2/32 -> google.default.dc1.internal.TD (upstream.google.default.default.dc1)", PASSTHROUGH,
])]
#[case::somebody_elses_intention(Intention::Deny, vec![allow("other", "google")], &[PASSTHROUGH])]
#[case::only_the_mesh(Intention::Allow,
    vec![("Mesh", "mesh", json!({"transparentProxy": {"meshDestinationsOnly": true}}))],
    &["10.96.0.2/32,240.0.0.2/32 -> google.default.dc1.internal.TD (upstream.google.default.default.dc1)"],
)]
#[case::redirect(Intention::Deny,
    vec![
        ("ServiceResolver", "alias", json!({"redirect": {"service": "google"}})), allow("client", "alias"),
    ],
    &["240.0.0.1/32 -> google.default.dc1.internal.TD (upstream.alias.default.default.dc1)", PASSTHROUGH],
)]
#[case::dialed_directly(Intention::Deny,
    vec![
        allow("client", "google"),
        ("ServiceDefaults", "google", json!({"protocol": "http", "transparentProxy": {"dialedDirectly": true}})),
    ],
    &[
        "10.96.0.2/32,240.0.0.2/32 -> http (upstream.google.default.default.dc1)",
        "10.244.0.2/32 -> passthrough~google.default.dc1.internal.TD (upstream.google.default.default.dc1)",
        PASSTHROUGH,
    ],
)]
#[case::dialed_directly_and_routed(Intention::Deny,
    vec![
        allow("client", "google"),
        ("ServiceDefaults", "google", json!({"protocol": "http", "transparentProxy": {"dialedDirectly": true}})),
        ("ServiceRouter", "google", json!({"routes": [
            {"match": {"http": {"pathPrefix": "/"}}, "destination": {"prefixRewrite": "/v2/"}},
        ]})),
    ],
    &[
        "10.96.0.2/32,240.0.0.2/32 -> http (upstream.google.default.default.dc1)",
        "10.244.0.2/32 -> passthrough~google.default.dc1.internal.TD (upstream.google.default.default.dc1)",
        PASSTHROUGH,
    ],
)]
fn outbound_chains(#[case] default: Intention, #[case] entries: Vec<(&str, &str, Value)>, #[case] expected: &[&str]) {
    let world = world(&["client", "google"], default, &entries);
    assert_eq!(outbound(&rendered(&world, "client")), expected);
}

#[test]
fn an_upstream_cluster_trusts_one_identity_only() {
    let world = world(&["client", "google"], Intention::Allow, &[]);
    let rendered = rendered(&world, "client");
    let name = format!("google.default.dc1.internal.{TRUST_DOMAIN}");
    let cluster = &rendered["clusters"][&name];
    assert_eq!(cluster["type"], "EDS");
    assert_eq!(cluster["outlier_detection"], json!({}));
    assert_eq!(cluster["common_lb_config"], json!({"healthy_panic_threshold": {}}));
    let tls = &cluster["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], json!(name));
    let context = &tls["common_tls_context"]["combined_validation_context"]["default_validation_context"];
    let identity = format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc1/svc/google");
    let expected = json!([{"san_type": "URI", "matcher": {"exact": identity}}]);
    assert_eq!(context["match_typed_subject_alt_names"], expected);
    let endpoint = &rendered["endpoints"][&name]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
    assert_eq!(*endpoint, json!({"socket_address": {"address": "10.244.0.2", "port_value": 20000}}));
}

#[test]
fn inbound_is_mutual_tls_to_the_application() {
    let world = world(&["google"], Intention::Deny, &[]);
    let rendered = rendered(&world, "google");
    let listener = &rendered["listeners"]["public_listener:10.244.0.1:20000"];
    let chain = &listener["filter_chains"][0];
    assert_eq!(chain["transport_socket"]["typed_config"]["require_client_certificate"], true);
    assert_eq!(chain["filters"][0]["typed_config"]["stat_prefix"], "connect_authz");
    assert_eq!(chain["filters"][0]["typed_config"]["rules"], json!({}));
    assert_eq!(chain["filters"][1]["typed_config"]["cluster"], "local_app");
    let endpoint = &rendered["clusters"]["local_app"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(endpoint["endpoint"]["address"]["socket_address"], json!({"address": "127.0.0.1", "port_value": 8080}));
}

/// A policy's principals as the sources that it means.
fn shown(rules: &Value) -> Vec<String> {
    let source = |identity: &Value| {
        let pattern = identity["authenticated"]["principal_name"]["safe_regex"]["regex"].as_str().unwrap_or("?");
        pattern.rsplit("/svc/").next().unwrap_or("?").trim_end_matches('$').replace("[^/]+", "*")
    };
    let principal = |p: &Value| match p["and_ids"]["ids"].as_array() {
        None => source(p),
        Some(ids) => {
            let not: Vec<String> = ids[1..].iter().map(|id| format!(" not {}", source(&id["not_id"]))).collect();
            source(&ids[0]) + &not.concat()
        }
    };
    let policies = rules["policies"].as_object().cloned().unwrap_or_default();
    let of_policy = |(name, policy): (&String, &Value)| {
        let principals: Vec<String> = policy["principals"].as_array().into_iter().flatten().map(principal).collect();
        format!("{name}: {}", principals.join(", "))
    };
    let action = rules.get("action").and_then(Value::as_str).unwrap_or("ALLOW").to_owned();
    std::iter::once(action).chain(policies.iter().map(of_policy)).collect()
}

#[rstest]
#[case::deny_nothing_said(Intention::Deny, json!([]), &["ALLOW"])]
#[case::deny_two(Intention::Deny, json!([{"name": "a", "action": "allow"}, {"name": "b", "action": "allow"}]),
    &["ALLOW", "consul-intentions-layer4: a, b"])]
#[case::deny_all_but_one(Intention::Deny, json!([{"name": "*", "action": "allow"}, {"name": "a", "action": "deny"}]),
    &["ALLOW", "consul-intentions-layer4: * not a"])]
#[case::same_as_the_default(Intention::Deny, json!([{"name": "a", "action": "deny"}]), &["ALLOW"])]
#[case::allow_nothing_said(Intention::Allow, json!([]), &["DENY"])]
#[case::allow_but_one(Intention::Allow, json!([{"name": "a", "action": "deny"}]),
    &["DENY", "consul-intentions-layer4: a"])]
#[case::allow_one_only(Intention::Allow, json!([{"name": "*", "action": "deny"}, {"name": "a", "action": "allow"}]),
    &["DENY", "consul-intentions-layer4: * not a"])]
#[case::permissions_on_tcp(Intention::Allow,
    json!([{"name": "a", "permissions": [{"action": "allow", "http": {"pathExact": "/"}}]}]),
    &["DENY", "consul-intentions-layer4: a"])]
fn network_rules(#[case] default: Intention, #[case] sources: Value, #[case] expected: &[&str]) {
    let entry = ("ServiceIntentions", "one", json!({"destination": {"name": "google"}, "sources": sources}));
    let entries = if sources == json!([]) { vec![] } else { vec![entry] };
    let world = world(&["google"], default, &entries);
    let rendered = rendered(&world, "google");
    let filters = &rendered["listeners"]["public_listener:10.244.0.1:20000"]["filter_chains"][0]["filters"];
    assert_eq!(shown(&filters[0]["typed_config"]["rules"]), expected);
}

#[rstest]
#[case::deny(Intention::Deny, json!([
    {"and_rules": {"rules": [
        {"url_path": {"path": {"prefix": "/a"}}}, {"not_rule": {"url_path": {"path": {"exact": "/a/secret"}}}},
    ]}},
]))]
#[case::allow(Intention::Allow, json!([{"not_rule": {"or_rules": {"rules": [
    {"and_rules": {"rules": [
        {"url_path": {"path": {"prefix": "/a"}}}, {"not_rule": {"url_path": {"path": {"exact": "/a/secret"}}}},
    ]}},
]}}}]))]
fn request_rules(#[case] default: Intention, #[case] expected: Value) {
    let permissions = json!([
        {"action": "deny", "http": {"pathExact": "/a/secret"}}, {"action": "allow", "http": {"pathPrefix": "/a"}},
    ]);
    let sources = json!([{"name": "client", "permissions": permissions}]);
    let entries = [
        ("ServiceDefaults", "google", json!({"protocol": "http"})),
        ("ServiceIntentions", "one", json!({"destination": {"name": "google"}, "sources": sources})),
    ];
    let world = world(&["google"], default, &entries);
    let rendered = rendered(&world, "google");
    let manager = &rendered["listeners"]["public_listener:10.244.0.1:20000"]["filter_chains"][0]["filters"][0];
    let rules = &manager["typed_config"]["http_filters"][0]["typed_config"]["rules"];
    assert_eq!(rules["policies"]["consul-intentions-layer7-0"]["permissions"], expected);
}

#[test]
fn two_services_with_one_address_do_not_break_the_listener() {
    let mut world = world(&["client", "a", "b"], Intention::Allow, &[]);
    let stolen = instance(&world, "a").cluster_ip.map(|(ip, _)| (0, ip)).into_iter().collect();
    Arc::make_mut(&mut world.manual_vips).insert("b".to_owned(), stolen);
    let chains = outbound(&rendered(&world, "client"));
    assert_eq!(chains.iter().filter(|c| c.contains("10.96.0.2/32")).count(), 1, "{chains:?}");
}

/// A world in which Pods and Services have addresses of both families; the n-th Pod has fd00::n, the n-th Service fd00:96::n.
fn dual_stack(names: &[&str], entries: &[(&str, &str, Value)]) -> World {
    let mut world = world(names, Intention::Allow, entries);
    let instances: Vec<Arc<Instance>> = (1..)
        .zip(names)
        .map(|(n, name)| {
            let mut own = Instance::clone(instance(&world, name));
            own.other_addresses = vec![Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into()];
            own.cluster_ips.push(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, n).into());
            Arc::new(own)
        })
        .collect();
    world.catalog = Catalog::new(&instances);
    world
}

#[test]
fn in_dual_stack_listeners_and_chains_are_of_both_families() {
    let rendered = rendered(&dual_stack(&["client", "server"], &[]), "client");
    for (listener, other) in
        [("outbound_listener:127.0.0.1:15001", "::1"), ("public_listener:10.244.0.1:20000", "fd00::1")]
    {
        let more = &rendered["listeners"][listener]["additional_addresses"];
        assert_eq!(more.as_array().map(Vec::len), Some(1), "{listener}: {rendered}");
        assert_eq!(more[0]["address"]["socket_address"]["address"], other);
    }
    let chains = outbound(&rendered);
    assert!(chains[0].starts_with("10.96.0.2/32,240.0.0.2/32,fd00:96::2/128 -> server."), "{chains:?}");
    let endpoint = &rendered["clusters"]["local_app"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(endpoint["endpoint"]["address"]["socket_address"]["address"], "127.0.0.1");
}

#[test]
fn in_dual_stack_instances_are_dialled_directly_by_either_address() {
    let defaults = json!({"transparentProxy": {"dialedDirectly": true}});
    let world = dual_stack(&["client", "server"], &[("ServiceDefaults", "server", defaults)]);
    let chains = outbound(&rendered(&world, "client"));
    assert!(
        chains.iter().any(|chain| chain.starts_with("10.244.0.2/32,fd00::2/128 -> passthrough~server.")),
        "{chains:?}"
    );
}

/// Who dials an instance gets TCP, whatever the protocol of the service is; who dials the proxy gets the protocol.
#[rstest]
#[case::http(json!({"protocol": "http", "transparentProxy": {"dialedDirectly": true}}), 2)]
#[case::grpc(json!({"protocol": "grpc", "transparentProxy": {"dialedDirectly": true}}), 2)]
#[case::tcp_is_tcp_anyway(json!({"transparentProxy": {"dialedDirectly": true}}), 1)]
#[case::not_dialed_directly(json!({"protocol": "http"}), 1)]
fn an_instance_dialed_directly_speaks_tcp(#[case] defaults: Value, #[case] chains: usize) {
    let entries = [allow("client", "google"), ("ServiceDefaults", "google", defaults)];
    let world = world(&["client", "google"], Intention::Deny, &entries);
    let rendered = rendered(&world, "google");
    let listeners = rendered["listeners"].as_object().expect("listeners");
    let (_, public) = listeners.iter().find(|(name, _)| name.starts_with("public_listener")).expect("the public one");
    let found = public["filter_chains"].as_array().expect("chains");
    assert_eq!(found.len(), chains);
    if let Some(direct) = found.get(1) {
        assert!(direct["filter_chain_match"]["destination_port"].is_number(), "{direct}");
        assert_eq!(direct["transport_socket"]["typed_config"]["require_client_certificate"], true);
        let names: Vec<&Value> = direct["filters"].as_array().expect("filters").iter().map(|f| &f["name"]).collect();
        assert_eq!(names, ["envoy.filters.network.rbac", "envoy.filters.network.tcp_proxy"]);
        assert_eq!(public["listener_filters"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn every_chain_leads_to_a_cluster_that_is_there() {
    let routes = json!({"routes": [
        {"match": {"http": {"pathPrefix": "/"}}, "destination": {"prefixRewrite": "/v2/"}},
    ]});
    let entries = [
        allow("client", "google"),
        ("ServiceDefaults", "google", json!({"protocol": "http", "transparentProxy": {"dialedDirectly": true}})),
        ("ServiceRouter", "google", routes),
    ];
    let rendered = rendered(&world(&["client", "google"], Intention::Deny, &entries), "client");
    let name = format!("passthrough~google.default.dc1.internal.{TRUST_DOMAIN}");
    assert!(rendered["clusters"].get(&name).is_some(), "{}", rendered["clusters"]);
}

/// A world in which the service `many` has a further port, 9091, in front of which the Service has 9191.
fn multi_port() -> World {
    let mut world = world(&["client", "many", "plain"], Intention::Allow, &[]);
    let more_ports = vec![NamedPort { name: "metrics".to_owned(), port: 9091, service_port: Some(9191) }];
    let with_port = |i: &Arc<Instance>| match i.service.as_str() {
        "many" => Arc::new(Instance { more_ports: more_ports.clone(), ..Instance::clone(i) }),
        _ => i.clone(),
    };
    let instances: Vec<Arc<Instance>> =
        ["client", "many", "plain"].iter().map(|name| with_port(instance(&world, name))).collect();
    world.catalog = Catalog::new(&instances);
    let addressed = world.addressed();
    Arc::make_mut(&mut world.vips).assign(addressed.iter().map(String::as_str));
    world
}

#[test]
fn a_further_port_has_an_address_and_a_way_of_its_own() {
    let world = multi_port();
    let rendered = rendered(&world, "client");
    let listener = &rendered["listeners"]["outbound_listener:127.0.0.1:15001"];
    let shown = |chain: &Value| {
        let matches = &chain["filter_chain_match"];
        let ranges = matches["prefix_ranges"].as_array().into_iter().flatten();
        let ranges: Vec<&str> = ranges.filter_map(|r| r["address_prefix"].as_str()).collect();
        let cluster = chain["filters"][0]["typed_config"]["cluster"].as_str().unwrap_or("?");
        let port = matches["destination_port"].as_u64().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port} -> {}", ranges.join(","), cluster.split(".default.").next().unwrap_or("?"))
    };
    let chains = listener["filter_chains"].as_array().expect("chains");
    assert_eq!(
        chains.iter().map(shown).collect::<Vec<_>>(),
        [
            "10.96.0.2,240.0.0.2 -> many",
            // the other chains with a port hide those without: what is dialled at 9191 leads where it led
            "240.0.0.2:9191 -> many",
            "240.0.0.4 -> metrics.many",
            "240.0.0.4:9191 -> metrics.many",
            "10.96.0.2:9191 -> metrics.many",
            "10.96.0.3,240.0.0.3 -> plain",
            "10.96.0.3,240.0.0.3:9191 -> plain",
        ]
    );
    let cluster = &rendered["clusters"][format!("metrics.many.default.dc1.internal.{TRUST_DOMAIN}")];
    let context = &cluster["transport_socket"]["typed_config"];
    assert_eq!(context["sni"], format!("metrics.many.default.dc1.internal.{TRUST_DOMAIN}"));
    assert!(context.to_string().contains("/svc/many\""), "the identity is that of the service: {context}");
}

#[test]
fn the_name_asked_for_leads_to_the_further_port() {
    let rendered = rendered(&multi_port(), "many");
    let listener = &rendered["listeners"]["public_listener:10.244.0.2:20000"];
    assert_eq!(listener["listener_filters"][0]["name"], "envoy.filters.listener.tls_inspector");
    let [main, metrics] = listener["filter_chains"].as_array().expect("chains").as_slice() else {
        panic!("two chains: {listener}")
    };
    assert!(main.get("filter_chain_match").is_none(), "{main}");
    assert_eq!(
        metrics["filter_chain_match"]["server_names"],
        json!([format!("metrics.many.default.dc1.internal.{TRUST_DOMAIN}")])
    );
    assert_eq!(metrics["filters"][0]["name"], "envoy.filters.network.rbac");
    assert_eq!(metrics["filters"][1]["typed_config"]["cluster"], "local_app_metrics");
    let address = &rendered["clusters"]["local_app_metrics"]["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(address["endpoint"]["address"]["socket_address"]["port_value"], 9091);
}
