//! How other datacenters are reached, and what is passed on to them: names and addresses, and Envoy's own word on it.

use std::net::SocketAddr;
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::conformance::accepted;
use super::*;
use crate::abroad::{Abroad, Seen};
use crate::catalog::Catalog;
use crate::fixture::{TRUST_DOMAIN, annotated, instance};
use crate::intentions::Intention;
use crate::objects::{pod, service, slice};
use crate::registration::{Scope, register};
use crate::tenancy::Tenancy;

/// A mesh gateway at 10.244.0.9:8443 and 172.18.0.2:30443.
pub(super) fn gateway() -> impl Iterator<Item = Arc<Instance>> {
    let mut gateway = pod("mesh-gateway-0", "10.244.0.9", false);
    for (key, value) in
        [("gateway-kind", "mesh-gateway"), ("gateway-wan-address-source", "NodeIP"), ("gateway-wan-port", "30443")]
    {
        gateway["metadata"]["annotations"][format!("consul.hashicorp.com/{key}")] = json!(value);
    }
    let key = ("default".to_owned(), "mesh-gateway-0".to_owned());
    let pods = [(key, serde_json::from_value(gateway).expect("a Pod"))].into();
    let service = serde_json::from_value(service("mesh-gateway", "10.96.0.9")).expect("a Service");
    let slice = slice("mesh-gateway", "mesh-gateway-0", "10.244.0.9", true);
    let slice = serde_json::from_value(slice).expect("a slice");
    let (made, refused) = register(&Scope {
        cluster: 0,
        tenancy: &Tenancy::default(),
        service: &service,
        slices: vec![&slice],
        pods: &pods,
    });
    assert_eq!(refused, []);
    made.into_iter().map(Arc::new)
}

/// Datacenter `dc1` with `client` and `google`, and a gateway at 10.244.0.9:8443 and 172.18.0.2:30443. In `dc2` there are `db`, of which
/// one instance is not healthy, and `away`, of which none is; its gateway is 172.19.0.2:30443.
pub(super) fn federated(upstreams: &str, entries: &[(&str, &str, Value)]) -> World {
    let annotations = [("client", "consul.hashicorp.com/connect-service-upstreams", upstreams)];
    let annotations = if upstreams.is_empty() { &[] } else { &annotations[..] };
    let mut world = annotated(&["client", "google"], Intention::Allow, entries, annotations);
    let of_services = world.catalog.services().flat_map(|name| world.catalog.instances(name)).cloned();
    let all: Vec<Arc<Instance>> = of_services.chain(gateway()).collect();
    world.catalog = Catalog::new(&all);
    let seen = |last: u8, passing| Seen {
        address: SocketAddr::from(([10, 245, 0, last], 20000)),
        passing,
        subsets: if last == 2 { ["v2".to_owned()].into() } else { [].into() },
        port: 8080,
        port_name: "http".to_owned(),
        tags: Vec::new(),
        ports: vec!["admin".to_owned()],
    };
    let abroad = Abroad {
        gateways: vec![SocketAddr::from(([172, 19, 0, 2], 30443))],
        services: [
            ("db".to_owned(), vec![seen(1, true), seen(2, true), seen(3, false)]),
            ("away".to_owned(), vec![seen(4, false)]),
        ]
        .into(),
        resources: Vec::new(),
    };
    world.abroad = Arc::new([("dc2".into(), Arc::new(abroad))].into());
    world
}

pub(super) fn rendered_for(world: &World, instance: &Instance) -> Value {
    let authority = crate::ca::Authority::new(world.names.clone()).expect("a root");
    let leaf = authority.issue(&instance.service, crate::ca::Validity::Now).expect("a leaf");
    render(world, instance, &leaf, &authority.root_pem())
}

/// Addresses of a cluster, its name short of the trust domain.
fn reached(rendered: &Value, name: &str) -> Vec<String> {
    let endpoints = &rendered["endpoints"][format!("{name}.{TRUST_DOMAIN}")]["endpoints"];
    let endpoints = endpoints.as_array().expect("a cluster of this name").iter();
    let endpoints = endpoints.flat_map(|group| group["lb_endpoints"].as_array().into_iter().flatten());
    let shown = endpoints.map(|endpoint| {
        let at = &endpoint["endpoint"]["address"]["socket_address"];
        format!("{}:{}", at["address"].as_str().unwrap_or_default(), at["port_value"])
    });
    shown.collect()
}

fn proxy_defaults(mode: &str) -> (&'static str, &'static str, Value) {
    ("ProxyDefaults", "global", json!({"meshGateway": {"mode": mode}}))
}

/// What `client` says of how it dials: all, and `db`.
fn dialling(all: &str, db: Option<&str>) -> (&'static str, &'static str, Value) {
    let own = db.map(|mode| json!({"name": "db", "meshGateway": {"mode": mode}}));
    let said = json!({"defaults": {"meshGateway": {"mode": all}}, "overrides": own.into_iter().collect::<Vec<_>>()});
    ("ServiceDefaults", "client", json!({"upstreamConfig": said}))
}

const DIRECTLY: &[&str] = &["10.245.0.1:20000", "10.245.0.2:20000"];
const BY_OURS: &[&str] = &["10.244.0.9:8443"];
const BY_THEIRS: &[&str] = &["172.19.0.2:30443"];

#[rstest]
#[case::unset("db:1:dc2", vec![], "db.default.dc2.internal", DIRECTLY)]
#[case::none("db:1:dc2", vec![proxy_defaults("none")], "db.default.dc2.internal", DIRECTLY)]
#[case::local("db:1:dc2", vec![proxy_defaults("local")], "db.default.dc2.internal", BY_OURS)]
#[case::remote("db.svc.dc2.dc:1", vec![proxy_defaults("remote")], "db.default.dc2.internal", BY_THEIRS)]
#[case::of_the_service("db:1:dc2", vec![
    proxy_defaults("local"), ("ServiceDefaults", "db", json!({"meshGateway": {"mode": "remote"}})),
], "db.default.dc2.internal", BY_THEIRS)]
#[case::of_the_upstream("db:1:dc2?mesh_gateway_mode=local", vec![proxy_defaults("remote")],
    "local~db.default.dc2.internal", BY_OURS)]
#[case::of_both_alike("db:1:dc2?mesh_gateway_mode=local", vec![proxy_defaults("local")], "db.default.dc2.internal", BY_OURS)]
#[case::of_the_dialling_service("db:1:dc2", vec![
    proxy_defaults("none"), ("ServiceDefaults", "db", json!({"meshGateway": {"mode": "remote"}})), dialling("local", None),
], "local~db.default.dc2.internal", BY_OURS)]
#[case::of_the_dialling_service_about_one("db:1:dc2", vec![dialling("local", Some("remote"))],
    "remote~db.default.dc2.internal", BY_THEIRS)]
#[case::of_the_upstream_over_the_dialling_service("db:1:dc2?mesh_gateway_mode=none", vec![
    proxy_defaults("remote"), dialling("local", Some("remote")),
], "none~db.default.dc2.internal", DIRECTLY)]
#[case::of_an_implicit_upstream("", vec![
    ("ServiceResolver", "db", json!({"redirect": {"datacenter": "dc2"}})), dialling("remote", Some("local")),
], "local~db.default.dc2.internal", BY_OURS)]
#[case::a_further_port("db:1:dc2?destination_port=admin", vec![proxy_defaults("remote")],
    "admin.db.default.dc2.internal", BY_THEIRS)]
#[case::the_default_port_by_its_name("db:1:dc2?destination_port=http", vec![], "db.default.dc2.internal", DIRECTLY)]
#[case::nobody_is_healthy("away:1:dc2", vec![proxy_defaults("remote")], "away.default.dc2.internal", &[])]
#[case::nobody_is_there("nothing:1:dc2", vec![], "nothing.default.dc2.internal", &[])]
#[case::no_such_datacenter("db:1:dc3", vec![], "db.default.dc3.internal", &[])]
#[case::a_subset("", vec![
    ("ServiceResolver", "db", json!({"subsets": {"v2": {"filter": "Service.Meta.version == 2"}}})),
    ("ServiceResolver", "google", json!({"redirect": {"service": "db", "serviceSubset": "v2", "datacenter": "dc2"}})),
], "v2.db.default.dc2.internal", &["10.245.0.2:20000"])]
#[case::failover_to_a_target("", vec![
    proxy_defaults("remote"),
    ("ServiceResolver", "google", json!({"failover": {"*": {"targets": [{"service": "db", "datacenter": "dc2"}]}}})),
], "failover-target~1~google.default.dc1.internal", BY_THEIRS)]
#[case::failover_to_datacenters("", vec![
    ("ServiceResolver", "google", json!({"failover": {"*": {"service": "db", "datacenters": ["dc3", "dc2"]}}})),
], "failover-target~2~google.default.dc1.internal", DIRECTLY)]
#[case::ours_by_its_name("google:1:dc1", vec![proxy_defaults("local")], "google.default.dc1.internal", &["10.244.0.2:20000"])]
fn where_a_service_is_reached(
    #[case] upstreams: &str,
    #[case] entries: Vec<(&str, &str, Value)>,
    #[case] cluster: &str,
    #[case] expected: &[&str],
) {
    let world = federated(upstreams, &entries);
    let rendered = rendered_for(&world, instance(&world, "client"));
    assert_eq!(reached(&rendered, cluster), expected);
    accepted(&rendered);
}

#[test]
fn the_identity_of_another_datacenter_is_demanded_whatever_is_between() {
    for mode in ["none", "local", "remote"] {
        let world = federated("db:1:dc2", &[proxy_defaults(mode)]);
        let rendered = rendered_for(&world, instance(&world, "client"));
        let name = format!("db.default.dc2.internal.{TRUST_DOMAIN}");
        let tls = &rendered["clusters"][&name]["transport_socket"]["typed_config"];
        assert_eq!(tls["sni"], json!(name));
        let demanded = &tls["common_tls_context"]["combined_validation_context"]["default_validation_context"];
        assert_eq!(
            demanded["match_typed_subject_alt_names"],
            json!([{"san_type": "URI", "matcher": {"exact": format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/dc2/svc/db")}}])
        );
        let listener = &rendered["listeners"]["db?dc=dc2:127.0.0.1:1"];
        let filter = &listener["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(filter["stat_prefix"], "upstream.db.default.default.dc2");
    }
}

#[test]
fn a_gateway_passes_on_what_it_does_not_look_into() {
    let subsets = json!({"subsets": {"v1": {"filter": "Service.Meta.version == 1"}}});
    let world = federated("", &[("ServiceResolver", "google", subsets)]);
    let gateway = world.catalog.gateways().next().expect("one").clone();
    let rendered = rendered_for(&world, &gateway);
    let listener = &rendered["listeners"]["default:10.244.0.9:8443"];
    let chains = listener["filter_chains"].as_array().expect("chains");
    let matches: Vec<&Value> = chains.iter().map(|chain| &chain["filter_chain_match"]).collect();
    assert_eq!(matches, [&json!({"server_names": [format!("*.dc2.internal.{TRUST_DOMAIN}")]}), &Value::Null]);
    assert!(chains.iter().all(|chain| chain["transport_socket"].is_null()), "it ends no TLS");
    assert_eq!(chains[1]["filters"][0]["name"], "envoy.filters.network.sni_cluster");
    assert_eq!(reached(&rendered, "dc2.internal"), BY_THEIRS);
    assert_eq!(reached(&rendered, "google.default.dc1.internal"), ["10.244.0.2:20000"]);
    assert!(reached(&rendered, "v1.google.default.dc1.internal").is_empty());
    let sockets = rendered["clusters"].as_object().expect("clusters").values().map(|c| &c["transport_socket"]);
    assert!(sockets.into_iter().all(Value::is_null), "and begins none");
    accepted(&rendered);
}

#[test]
fn gateways_are_no_upstreams() {
    let world = federated("", &[]);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let names: Vec<&String> = rendered["clusters"].as_object().expect("clusters").keys().collect();
    assert!(
        names.iter().any(|name| name.starts_with("google")) && !names.iter().any(|n| n.contains("gateway")),
        "{names:?}"
    );
}

#[test]
fn what_a_datacenter_tells_is_what_there_is() {
    let subsets = json!({"subsets": {"all": {}, "none": {"filter": "Service.Meta.version == 1"}}});
    let world = federated("", &[("ServiceResolver", "google", subsets)]);
    let told = Abroad::of(&world);
    assert_eq!(told.gateways, [SocketAddr::from(([172, 18, 0, 2], 30443))]);
    assert_eq!(told.services.keys().collect::<Vec<_>>(), ["client", "google"]);
    let google = &told.services["google"][0];
    assert_eq!((google.address, google.passing), (SocketAddr::from(([10, 244, 0, 2], 20000)), true));
    assert_eq!(google.subsets, ["all".to_owned()].into());
    let again: Abroad = serde_json::from_str(&serde_json::to_string(&told).expect("JSON")).expect("the same");
    assert_eq!(again, told);
}
