//! How services of peers are reached, and what is passed on to peers: names, addresses and identities, and Envoy's own word on it.

use std::net::SocketAddr;
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::conformance::accepted;
use super::federation::{federated, rendered_for};
use super::*;
use crate::fixture::{TRUST_DOMAIN, instance};
use crate::peering::{Exported, Told};

const PEER_TRUST_DOMAIN: &str = "99999999-2222-3333-4444-555555555555.consul";

/// As [`federated`], with a peer `east` that calls us `west` and exports `db`, of which an instance is healthy if `passing`, and `idle`,
/// of which there is none.
fn peered(upstreams: &str, entries: &[(&str, &str, Value)], passing: bool) -> World {
    let mut world = federated(upstreams, entries);
    let authority = crate::ca::Authority::new(crate::names::Names::new("dc9", PEER_TRUST_DOMAIN)).expect("a root");
    let exported = |service: &str, has_instances: bool| Exported {
        protocol: if service == "web" { "http".to_owned() } else { "tcp".to_owned() },
        has_instances,
        passing: has_instances && passing,
        identities: vec![format!("spiffe://{PEER_TRUST_DOMAIN}/ns/default/dc/dc9/svc/{service}")],
    };
    let told = Told {
        your_name: "west".to_owned(),
        trust_domain: PEER_TRUST_DOMAIN.to_owned(),
        partition: "default".to_owned(),
        roots: authority.root_pem(),
        gateways: vec![SocketAddr::from(([172, 20, 0, 2], 30443))],
        services: [("db", true), ("idle", false), ("web", true)]
            .map(|(service, is_there)| (service.to_owned(), exported(service, is_there)))
            .into(),
    };
    world.peers = Arc::new([("east".into(), Arc::new(told))].into());
    let addressed = world.addressed();
    Arc::make_mut(&mut world.vips).assign(addressed.iter().map(String::as_str));
    world
}

fn reached(rendered: &Value, cluster: &str) -> Vec<String> {
    let endpoints = rendered["endpoints"][cluster]["endpoints"].as_array().expect("a cluster of this name").iter();
    let endpoints = endpoints.flat_map(|group| group["lb_endpoints"].as_array().into_iter().flatten());
    endpoints.map(|endpoint| endpoint["endpoint"]["address"]["socket_address"]["address"].to_string()).collect()
}

fn cluster(service: &str) -> String {
    format!("{service}.default.east.external.{PEER_TRUST_DOMAIN}")
}

fn mode(mode: &str) -> Vec<(&'static str, &'static str, Value)> {
    vec![("ProxyDefaults", "global", json!({"meshGateway": {"mode": mode}}))]
}

#[rstest]
#[case::unset(vec![], true, &["\"172.20.0.2\""])]
#[case::none(mode("none"), true, &["\"172.20.0.2\""])]
#[case::remote(mode("remote"), true, &["\"172.20.0.2\""])]
#[case::local(mode("local"), true, &["\"10.244.0.9\""])]
#[case::nobody_is_healthy(vec![], false, &[])]
fn a_service_of_a_peer_is_reached_through_gateways(
    #[case] entries: Vec<(&str, &str, Value)>,
    #[case] passing: bool,
    #[case] expected: &[&str],
) {
    let world = peered("", &entries, passing);
    let rendered = rendered_for(&world, instance(&world, "client"));
    assert_eq!(reached(&rendered, &cluster("db")), expected);
    accepted(&rendered);
}

#[rstest]
#[case::of_the_service_of_that_name_here(json!({"name": "db", "meshGateway": {"mode": "local"}}), "", &["\"172.20.0.2\""])]
#[case::by_gateways(json!({"name": "db", "peer": "east", "meshGateway": {"mode": "local"}}), "local~", &["\"10.244.0.9\""])]
fn the_dialling_service_says_how_a_service_of_a_peer_is_reached(
    #[values("", "db.svc.east.peer:1234")] upstreams: &str,
    #[case] said: Value,
    #[case] mark: &str,
    #[case] expected: &[&str],
) {
    let entries = [("ServiceDefaults", "client", json!({"upstreamConfig": {"overrides": [said]}}))];
    let world = peered(upstreams, &entries, true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    assert_eq!(reached(&rendered, &format!("{mark}{}", cluster("db"))), expected);
    accepted(&rendered);
}

#[test]
fn failures_may_turn_all_of_a_peer_away_whatever_the_dialling_service_says() {
    let said = json!({"defaults": {
        "protocol": "http", "connectTimeoutMs": 100, "passiveHealthCheck": {"maxFailures": 2, "maxEjectionPercent": 10},
    }});
    let world = peered("", &[("ServiceDefaults", "client", json!({"upstreamConfig": said}))], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let all = rendered["clusters"].as_object().expect("clusters");
    let (_, db) = all.iter().find(|(name, _)| name.ends_with(&cluster("db"))).expect("a cluster");
    assert_eq!(db["outlier_detection"], json!({"consecutive_5xx": 2, "max_ejection_percent": 100}));
    assert_eq!(db["connect_timeout"], "0.1s");
    let chains =
        rendered["listeners"]["outbound_listener:127.0.0.1:15001"]["filter_chains"].as_array().expect("chains");
    let of_db = chains.iter().find(|chain| chain.to_string().contains(&cluster("db"))).expect("a chain");
    assert_eq!(of_db["filters"][0]["name"], "envoy.filters.network.http_connection_manager");
    accepted(&rendered);
}

#[test]
fn it_is_meant_by_its_address_here_and_must_be_who_the_peer_says() {
    let world = peered("", &[], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let address = world.vips.get("db?peer=east").expect("an address").to_string();
    let chains =
        rendered["listeners"]["outbound_listener:127.0.0.1:15001"]["filter_chains"].as_array().expect("chains");
    let of = |name: &str| {
        let leads = |chain: &&Value| chain["filters"][0]["typed_config"]["cluster"] == name;
        chains.iter().find(leads)
    };
    let chain = of(&cluster("db")).expect("a chain");
    assert_eq!(chain["filter_chain_match"]["prefix_ranges"], json!([{"address_prefix": address, "prefix_len": 32}]));
    assert_eq!(chain["filters"][0]["typed_config"]["stat_prefix"], "upstream_peered.db.default.east");
    assert!(of(&cluster("idle")).is_none(), "nothing of it is there");
    let tls = &rendered["clusters"][cluster("db")]["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], format!("db.default.default.west.external.{PEER_TRUST_DOMAIN}"));
    let common = &tls["common_tls_context"]["combined_validation_context"];
    assert_eq!(common["validation_context_sds_secret_config"]["name"], "roots~east");
    let names = &common["default_validation_context"]["match_typed_subject_alt_names"];
    assert_eq!(
        names,
        &json!([{"san_type": "URI", "matcher": {"exact": format!("spiffe://{PEER_TRUST_DOMAIN}/ns/default/dc/dc9/svc/db")}}])
    );
}

#[test]
fn who_comes_from_a_peer_is_vouched_for_by_that_peers_roots_only() {
    let world = peered("", &[], true);
    let rendered = rendered_for(&world, instance(&world, "google"));
    let validator = &rendered["secrets"]["bundles"]["validation_context"]["custom_validator_config"];
    let domains = validator["typed_config"]["trust_domains"].as_array().expect("trust domains");
    let names: Vec<&Value> = domains.iter().map(|domain| &domain["name"]).collect();
    assert_eq!(names, [TRUST_DOMAIN, PEER_TRUST_DOMAIN]);
    assert_ne!(domains[0]["trust_bundle"], domains[1]["trust_bundle"]);
    let chain = &rendered["listeners"]["public_listener:10.244.0.2:20000"]["filter_chains"][0];
    let common = &chain["transport_socket"]["typed_config"]["common_tls_context"];
    assert_eq!(common["validation_context_sds_secret_config"]["name"], "bundles");
    accepted(&rendered);
}

#[test]
fn an_explicit_upstream_has_a_port_of_its_own_and_no_chain() {
    let world = peered("db.svc.east.peer:1234, web.svc.east.peer:1235, gone.svc.east.peer:1236", &[], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let filter = |listener: &str| rendered["listeners"][listener]["filter_chains"][0]["filters"][0].clone();
    assert_eq!(filter("db?peer=east:127.0.0.1:1234")["typed_config"]["cluster"], cluster("db"));
    let web = filter("web?peer=east:127.0.0.1:1235");
    assert_eq!(web["name"], "envoy.filters.network.http_connection_manager");
    let chains = rendered["listeners"]["outbound_listener:127.0.0.1:15001"]["filter_chains"].to_string();
    assert!(!chains.contains(&cluster("db")), "an upstream with a port of its own is no implicit one");
    assert!(reached(&rendered, &cluster("gone")).is_empty());
    accepted(&rendered);
}

#[test]
fn a_gateway_passes_on_to_what_is_exported_and_from_here_to_what_is_imported() {
    let exports = json!({"services": [{"name": "google", "consumers": [{"peer": "east"}, {"peer": "north"}]}]});
    let world = peered("", &[("ExportedServices", "default", exports)], true);
    let gateway = world.catalog.gateways().next().expect("one").clone();
    let rendered = rendered_for(&world, &gateway);
    let chains = rendered["listeners"]["default:10.244.0.9:8443"]["filter_chains"].as_array().expect("chains");
    let leads: Vec<(String, String)> = chains
        .iter()
        .map(|chain| {
            let asked = chain["filter_chain_match"]["server_names"][0].as_str().unwrap_or_default().to_owned();
            let filters = chain["filters"].as_array().expect("filters");
            let to = filters.last().expect("one")["typed_config"]["cluster"].as_str().unwrap_or_default().to_owned();
            (asked, to)
        })
        .collect();
    let exported = format!("google.default.default.east.external.{TRUST_DOMAIN}");
    assert!(leads.contains(&(exported, format!("exported~google.default.dc1.internal.{TRUST_DOMAIN}"))), "{leads:?}");
    let imported = format!("db.default.default.west.external.{PEER_TRUST_DOMAIN}");
    assert!(leads.contains(&(imported.clone(), imported.clone())), "{leads:?}");
    assert!(!leads.iter().any(|(asked, _)| asked.contains("north")), "nobody is there to come");
    assert_eq!(reached(&rendered, &imported), ["\"172.20.0.2\""]);
    assert!(chains.iter().all(|chain| chain["transport_socket"].is_null()), "it ends no TLS");
    accepted(&rendered);
    let told = Told::of(&world, "east", "ROOTS");
    assert_eq!(told.services.keys().collect::<Vec<_>>(), ["google"]);
    assert_eq!((told.services["google"].has_instances, told.services["google"].passing), (true, true));
    assert!(Told::of(&world, "south", "ROOTS").services.is_empty());
}

#[test]
fn a_peers_client_is_another_one_than_ours_of_the_same_name() {
    let sources = json!({"destination": {"name": "google"}, "sources": [
        {"name": "client", "peer": "east", "action": "allow"}, {"name": "client", "action": "deny"},
    ]});
    let mut world = peered("", &[("ServiceIntentions", "google", sources)], true);
    world.default_intention = crate::intentions::Intention::Deny;
    let rendered = rendered_for(&world, instance(&world, "google"));
    let filter = &rendered["listeners"]["public_listener:10.244.0.2:20000"]["filter_chains"][0]["filters"][0];
    let principals = filter["typed_config"]["rules"]["policies"]["consul-intentions-layer4"]["principals"].to_string();
    let of = |domain: &str| regex::escape(domain).replace('\\', "\\\\");
    assert!(principals.contains(&of(PEER_TRUST_DOMAIN)) && !principals.contains(&of(TRUST_DOMAIN)), "{principals}");
    accepted(&rendered);
}

fn group(default: bool) -> (&'static str, &'static str, Value) {
    let members = json!([{"partition": "default"}, {"peer": "east"}]);
    ("SamenessGroup", "everywhere", json!({"defaultForFailover": default, "members": members}))
}

#[rstest]
#[case::of_the_default_group(vec![group(true)], "google", &["failover-target~0", "failover-target~1"])]
#[case::of_another_group(vec![group(false)], "google", &[])]
#[case::with_a_resolver_of_its_own(vec![group(true), ("ServiceResolver", "google", json!({"connectTimeout": "2s"}))], "google", &[])]
#[case::whose_resolver_names_the_group(
    vec![group(false), ("ServiceResolver", "google", json!({"failover": {"*": {"samenessGroup": "everywhere"}}}))],
    "google", &["failover-target~0", "failover-target~1"]
)]
#[case::redirected_to_the_group(
    vec![group(false), ("ServiceResolver", "google", json!({"redirect": {"samenessGroup": "everywhere"}}))],
    "google", &["failover-target~0", "failover-target~1"]
)]
#[case::that_is_only_at_a_member(vec![group(true)], "db", &["failover-target~0", "failover-target~1"])]
fn where_a_service_fails_over_to(
    #[case] entries: Vec<(&str, &str, Value)>,
    #[case] service: &str,
    #[case] members: &[&str],
) {
    let world = peered("", &entries, true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let name = format!("{service}.default.dc1.internal.{TRUST_DOMAIN}");
    let found = &rendered["clusters"][&name]["cluster_type"]["typed_config"]["clusters"];
    let expected: Vec<String> = members.iter().map(|member| format!("{member}~{name}")).collect();
    assert_eq!(*found, if expected.is_empty() { Value::Null } else { json!(expected) });
    if !members.is_empty() {
        let peer = &rendered["clusters"][format!("failover-target~1~{name}")]["transport_socket"]["typed_config"];
        assert_eq!(
            peer["common_tls_context"]["combined_validation_context"]["validation_context_sds_secret_config"]["name"],
            "roots~east"
        );
    }
    accepted(&rendered);
}
