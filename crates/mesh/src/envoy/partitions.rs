//! How services of other partitions are reached, and what is let in from there: names, addresses and identities, and Envoy's own word on
//! it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::conformance::accepted;
use super::federation::{gateway, rendered_for};
use super::*;
use crate::abroad::Seen;
use crate::catalog::Catalog;
use crate::config::Protocol;
use crate::fixture::{TRUST_DOMAIN, instance, tenant};
use crate::intentions::Intention;
use crate::partition::{self, Exported, Told};
use crate::peering;
use crate::tenancy::Tenancy;

/// Where `db` of the other partition is meant by.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(241, 0, 0, 1);

/// Partition `own` of `default` and `ap1`, with `client` and `google`, and a gateway at 10.244.0.9:8443. The other one exports `db`, of
/// which one instance is healthy if `passing`, `web`, which speaks HTTP, and `idle`, of which there is none; its gateway is 172.19.0.2:30443.
fn partitioned(own: &str, upstreams: &str, entries: &[(&str, &str, Value)], passing: bool) -> World {
    let all = ["default".into(), "ap1".into()];
    let annotations = [("client", "consul.hashicorp.com/connect-service-upstreams", upstreams)];
    let annotations = if upstreams.is_empty() { &[] } else { &annotations[..] };
    let tenancy = Tenancy::new(own, &all);
    let mut world = tenant(&["client", "google"], &tenancy, Intention::Allow, entries, annotations);
    let of_services = world.catalog.services().flat_map(|name| world.catalog.instances(name)).cloned();
    let instances: Vec<Arc<Instance>> = of_services.chain(gateway()).collect();
    world.catalog = Catalog::new(&instances);
    let seen = |last: u8, passing| Seen {
        address: SocketAddr::from(([10, 245, 0, last], 20000)),
        passing,
        subsets: if last == 1 { ["v1".to_owned()].into() } else { [].into() },
        port: 8080,
        port_name: "http".to_owned(),
        tags: Vec::new(),
        ports: vec!["admin".to_owned()],
    };
    let exported =
        |protocol, instances| Exported { protocol, gateway_mode: None, virtual_ip: Some(VIRTUAL), instances };
    let services = [
        ("db", exported(Protocol::Tcp, vec![seen(1, passing), seen(2, false)])),
        ("web", exported(Protocol::Http, vec![seen(3, true)])),
        ("idle", exported(Protocol::Tcp, Vec::new())),
    ];
    let told = Told {
        is_whole: true,
        gateways: vec![SocketAddr::from(([172, 19, 0, 2], 30443))],
        services: services.map(|(name, exported)| (name.to_owned(), exported)).into(),
    };
    let other = if own == "default" { "ap1" } else { "default" };
    world.partitions = Arc::new([(other.into(), Arc::new(told))].into());
    let addressed = world.addressed();
    Arc::make_mut(&mut world.vips).assign(addressed.iter().map(String::as_str));
    world
}

fn reached(rendered: &Value, cluster: &str) -> Vec<String> {
    let endpoints = rendered["endpoints"][cluster]["endpoints"].as_array().expect("a cluster of this name").iter();
    let endpoints = endpoints.flat_map(|group| group["lb_endpoints"].as_array().into_iter().flatten());
    let shown = endpoints.map(|endpoint| {
        let at = &endpoint["endpoint"]["address"]["socket_address"];
        format!("{}:{}", at["address"].as_str().unwrap_or_default(), at["port_value"])
    });
    shown.collect()
}

fn of_ap1(service: &str) -> String {
    format!("{service}.default.ap1.dc1.internal-v1.{TRUST_DOMAIN}")
}

fn mode(kind: &'static str, name: &'static str, mode: &str) -> (&'static str, &'static str, Value) {
    (kind, name, json!({"meshGateway": {"mode": mode}}))
}

const DIRECTLY: &[&str] = &["10.245.0.1:20000"];
const BY_OURS: &[&str] = &["10.244.0.9:8443"];
const BY_THEIRS: &[&str] = &["172.19.0.2:30443"];

#[rstest]
#[case::unset("db.default.ap1:1", vec![], "", DIRECTLY)]
#[case::labeled("db.svc.default.ns.ap1.ap:1", vec![], "", DIRECTLY)]
#[case::without_being_named("", vec![], "", DIRECTLY)]
#[case::none("db.default.ap1:1", vec![mode("ProxyDefaults", "global", "none")], "", DIRECTLY)]
#[case::local("db.default.ap1:1", vec![mode("ProxyDefaults", "global", "local")], "", BY_OURS)]
#[case::remote("", vec![mode("ProxyDefaults", "global", "remote")], "", BY_THEIRS)]
#[case::not_of_our_service_of_that_name("", vec![mode("ServiceDefaults", "db", "remote")], "", DIRECTLY)]
#[case::of_the_upstream("db.default.ap1:1:mesh_gateway_mode=local", vec![], "local~", BY_OURS)]
fn where_a_service_of_a_partition_is_reached(
    #[case] upstreams: &str,
    #[case] entries: Vec<(&str, &str, Value)>,
    #[case] via: &str,
    #[case] expected: &[&str],
) {
    let world = partitioned("default", upstreams, &entries, true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    assert_eq!(reached(&rendered, &format!("{via}{}", of_ap1("db"))), expected);
    accepted(&rendered);
}

#[rstest]
#[case::explicit("db.default.ap1:1234")]
#[case::implicit("")]
fn how_a_service_of_a_partition_is_dialled_is_the_callers_to_say(#[case] upstreams: &str) {
    let said = json!({"upstreamConfig": {"overrides": [
        {"name": "db", "connectTimeoutMs": 200}, {"name": "db", "partition": "ap1", "connectTimeoutMs": 100},
    ]}});
    let world = partitioned("default", upstreams, &[("ServiceDefaults", "client", said)], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let clusters = rendered["clusters"].as_object().expect("clusters").iter();
    let timeouts: Vec<&Value> =
        clusters.filter(|(name, _)| name.ends_with(&of_ap1("db"))).map(|(_, c)| &c["connect_timeout"]).collect();
    assert_eq!(timeouts, ["0.1s"]);
    accepted(&rendered);
}

#[test]
fn the_identity_of_the_partition_is_demanded() {
    let world = partitioned("default", "db.default.ap1:1234, web.default.ap1:1235", &[], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let tls = &rendered["clusters"][of_ap1("db")]["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], of_ap1("db"));
    let common = &tls["common_tls_context"]["combined_validation_context"];
    assert_eq!(common["validation_context_sds_secret_config"]["name"], "roots", "it is the same trust domain");
    assert_eq!(
        common["default_validation_context"]["match_typed_subject_alt_names"],
        json!([{"san_type": "URI", "matcher": {"exact": format!("spiffe://{TRUST_DOMAIN}/ap/ap1/ns/default/dc/dc1/svc/db")}}])
    );
    let filter = |listener: &str| rendered["listeners"][listener]["filter_chains"][0]["filters"][0].clone();
    let db = filter("ap1/default/db:127.0.0.1:1234");
    assert_eq!(db["typed_config"]["cluster"], of_ap1("db"));
    assert_eq!(db["typed_config"]["stat_prefix"], "upstream.db.default.ap1.dc1");
    let web = filter("ap1/default/web:127.0.0.1:1235");
    assert_eq!(web["name"], "envoy.filters.network.http_connection_manager", "its protocol is known by its partition");
    accepted(&rendered);
}

#[rstest]
#[case::healthy("db.default.ap1:1", true, 1)]
#[case::nobody_is_healthy("db.default.ap1:1", false, 0)]
#[case::not_exported("api.default.ap1:1", true, 0)]
#[case::no_such_partition("db.default.ap9:1", true, 0)]
fn what_is_not_exported_leads_nowhere(#[case] upstream: &str, #[case] passing: bool, #[case] expected: usize) {
    let world = partitioned("default", upstream, &[], passing);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let listeners = rendered["listeners"].as_object().expect("listeners");
    let (_, listener) = listeners.iter().find(|(name, _)| name.ends_with(":127.0.0.1:1")).expect("its listener");
    let cluster = &listener["filter_chains"][0]["filters"][0]["typed_config"]["cluster"];
    assert_eq!(reached(&rendered, cluster.as_str().expect("a cluster")).len(), expected);
    accepted(&rendered);
}

#[test]
fn why_an_upstream_leads_nowhere_is_said() {
    let upstreams = "db.default.ap1:1, api.default.ap1:2, db.default.ap9:3, google:4";
    let world = partitioned("default", upstreams, &[], true);
    let said: Vec<String> = partition::unreachable(&world).into_iter().map(|problem| problem.message).collect();
    assert_eq!(
        said,
        [
            "upstream \"api\" of partition \"ap1\" leads nowhere: it does not export \"api\" to partition \"default\": name both in the \
             ExportedServices \"ap1\" there",
            "upstream \"db\" of partition \"ap9\" leads nowhere: there is no such partition; there are default, ap1",
        ]
    );
}

#[test]
fn it_is_meant_by_the_address_that_it_has_there() {
    let world = partitioned("default", "", &[], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    let chains =
        rendered["listeners"]["outbound_listener:127.0.0.1:15001"]["filter_chains"].as_array().expect("chains");
    let of = |name: &str| {
        let leads = |chain: &&Value| chain["filters"][0]["typed_config"]["cluster"] == name;
        chains.iter().find(leads)
    };
    let chain = of(&of_ap1("db")).expect("a chain");
    assert_eq!(chain["filter_chain_match"]["prefix_ranges"], json!([{"address_prefix": VIRTUAL, "prefix_len": 32}]));
    assert!(of(&of_ap1("idle")).is_none(), "nothing of it is there");
}

#[test]
fn what_is_ours_has_the_names_of_our_partition() {
    let world = partitioned("ap1", "google.default.ap1:1, db.default.default:2", &[], true);
    let rendered = rendered_for(&world, instance(&world, "client"));
    assert_eq!(reached(&rendered, &of_ap1("google")), ["10.244.0.2:20000"]);
    let theirs = format!("db.default.dc1.internal.{TRUST_DOMAIN}");
    assert_eq!(reached(&rendered, &theirs), DIRECTLY);
    assert_eq!(rendered["clusters"][&theirs]["transport_socket"]["typed_config"]["sni"], theirs);
    let listeners: Vec<&String> = rendered["listeners"].as_object().expect("listeners").keys().collect();
    assert!(listeners.contains(&&"google:127.0.0.1:1".to_owned()), "{listeners:?}");
    accepted(&rendered);
}

#[test]
fn a_gateway_passes_on_to_other_partitions() {
    let world = partitioned("ap1", "", &[], true);
    let gateway = world.catalog.gateways().next().expect("one").clone();
    let rendered = rendered_for(&world, &gateway);
    let chains = rendered["listeners"]["default:10.244.0.9:8443"]["filter_chains"].as_array().expect("chains");
    let matches: Vec<&Value> = chains.iter().map(|chain| &chain["filter_chain_match"]).collect();
    assert_eq!(matches, [&json!({"server_names": [format!("*.dc1.internal.{TRUST_DOMAIN}")]}), &Value::Null]);
    assert_eq!(reached(&rendered, &format!("dc1.internal.{TRUST_DOMAIN}")), BY_THEIRS);
    assert_eq!(reached(&rendered, &of_ap1("google")), ["10.244.0.2:20000"], "by the name that others ask for");
    assert!(chains.iter().all(|chain| chain["transport_socket"].is_null()), "it ends no TLS");
    accepted(&rendered);
    let world = partitioned("default", "", &[], true);
    let gateway = world.catalog.gateways().next().expect("one").clone();
    assert_eq!(reached(&rendered_for(&world, &gateway), &format!("ap1.dc1.internal-v1.{TRUST_DOMAIN}")), BY_THEIRS);
}

#[rstest]
#[case::of_ours("default", json!([{"name": "client", "action": "allow"}]), &["/ns/default"], &["/ap/"])]
#[case::of_ours_by_name(
    "ap1", json!([{"name": "client", "partition": "ap1", "action": "allow"}]), &["/ap/ap1/ns/default"], &[]
)]
#[case::of_another("default", json!([{"name": "client", "partition": "ap1", "action": "allow"}]), &["/ap/ap1/ns/default"], &[])]
#[case::of_the_default_one(
    "ap1", json!([{"name": "client", "partition": "default", "action": "allow"}]), &["/ns/default"], &["/ap/"]
)]
#[case::all_of_another(
    "default", json!([{"name": "*", "partition": "ap1", "action": "allow"}]), &["/ap/ap1/ns/default/dc/[^/]+/svc/[^/]+$"], &[]
)]
fn who_is_let_in(#[case] own: &str, #[case] sources: Value, #[case] expected: &[&str], #[case] not: &[&str]) {
    let entry = json!({"destination": {"name": "google"}, "sources": sources});
    let mut world = partitioned(own, "", &[("ServiceIntentions", "google", entry)], true);
    world.default_intention = Intention::Deny;
    let rendered = rendered_for(&world, instance(&world, "google"));
    let filter = &rendered["listeners"]["public_listener:10.244.0.2:20000"]["filter_chains"][0]["filters"][0];
    let principals = filter["typed_config"]["rules"]["policies"]["consul-intentions-layer4"]["principals"].to_string();
    let begin = format!("^spiffe://{}{}", regex::escape(TRUST_DOMAIN), expected[0]).replace('\\', "\\\\");
    assert!(principals.contains(&begin), "{principals}");
    assert!(not.iter().all(|part| !principals.contains(part)), "{principals}");
    accepted(&rendered);
}

#[test]
fn a_client_of_another_partition_is_another_one_than_ours_of_the_same_name() {
    let sources = json!({"destination": {"name": "google"}, "sources": [
        {"name": "client", "partition": "ap1", "action": "allow"}, {"name": "client", "action": "deny"},
        {"name": "*", "partition": "ap1", "action": "deny"}, {"name": "*", "action": "allow"},
    ]});
    let mut world = partitioned("default", "", &[("ServiceIntentions", "google", sources)], true);
    world.default_intention = Intention::Deny;
    let rendered = rendered_for(&world, instance(&world, "google"));
    let filter = &rendered["listeners"]["public_listener:10.244.0.2:20000"]["filter_chains"][0]["filters"][0];
    let principals = &filter["typed_config"]["rules"]["policies"]["consul-intentions-layer4"]["principals"];
    let of = |partition: &str, service: &str| {
        let pattern =
            format!("^spiffe://{}{partition}/ns/default/dc/[^/]+/svc/{service}$", regex::escape(TRUST_DOMAIN));
        json!({"authenticated": {"principal_name": {"safe_regex": {"regex": pattern}}}})
    };
    assert_eq!(
        *principals,
        json!([
            of("/ap/ap1", "client"),
            {"and_ids": {"ids": [of("", "[^/]+"), {"not_id": of("", "client")}]}},
        ])
    );
}

/// Partition `ap1` with a peer `east`, whose partition `ap2` calls us `west` and exports `db`.
#[test]
fn a_peering_is_one_of_partitions() {
    const OTHERS: &str = "99999999-2222-3333-4444-555555555555.consul";
    let exports = json!({"services": [{"name": "google", "consumers": [{"peer": "east"}]}]});
    let sources =
        json!({"destination": {"name": "google"}, "sources": [{"name": "client", "peer": "east", "action": "deny"}]});
    let entries = [("ExportedServices", "ap1", exports), ("ServiceIntentions", "google", sources)];
    let mut world = partitioned("ap1", "db.svc.default.ns.east.peer:1", &entries, true);
    let authority = crate::ca::Authority::new(crate::names::Names::new("dc9", OTHERS)).expect("a root");
    let db = peering::Exported {
        protocol: "tcp".to_owned(),
        has_instances: true,
        passing: true,
        identities: vec![format!("spiffe://{OTHERS}/ap/ap2/ns/default/dc/dc9/svc/db")],
    };
    let told = peering::Told {
        your_name: "west".to_owned(),
        trust_domain: OTHERS.to_owned(),
        partition: "ap2".to_owned(),
        roots: authority.root_pem(),
        gateways: vec![SocketAddr::from(([172, 20, 0, 2], 30443))],
        services: [("db".to_owned(), db)].into(),
    };
    world.peers = Arc::new([("east".into(), Arc::new(told))].into());
    let rendered = rendered_for(&world, instance(&world, "client"));
    let cluster = &rendered["clusters"][format!("db.default.east.external.{OTHERS}")];
    let theirs = format!("db.default.ap2.west.external.{OTHERS}");
    assert_eq!(cluster["transport_socket"]["typed_config"]["sni"], theirs);
    accepted(&rendered);
    let rendered = rendered_for(&world, instance(&world, "google"));
    let filter = &rendered["listeners"]["public_listener:10.244.0.2:20000"]["filter_chains"][0]["filters"][0];
    assert!(filter.to_string().contains("/ap/ap2/ns/default"), "{filter}");
    let gateway = world.catalog.gateways().next().expect("one").clone();
    let rendered = rendered_for(&world, &gateway);
    let chains = rendered["listeners"]["default:10.244.0.9:8443"]["filter_chains"].to_string();
    let ours = format!("google.default.ap1.east.external.{TRUST_DOMAIN}");
    assert!(chains.contains(&ours) && chains.contains(&theirs), "{chains}");
    accepted(&rendered);
    let told = peering::Told::of(&world, "east", "ROOTS");
    assert_eq!((told.partition.as_str(), told.services.keys().next().map(String::as_str)), ("ap1", Some("google")));
    assert_eq!(
        told.services["google"].identities,
        [format!("spiffe://{TRUST_DOMAIN}/ap/ap1/ns/default/dc/dc1/svc/google")]
    );
}

#[test]
fn a_source_may_be_in_any_member_of_a_group() {
    let sources = json!({"destination": {"name": "google"}, "sources": [
        {"name": "client", "partition": "ap1", "action": "deny"}, {"name": "client", "samenessGroup": "everywhere", "action": "allow"},
    ]});
    let mut entries = group(json!([{"partition": "default"}, {"partition": "ap1"}]));
    entries.push(("ServiceIntentions", "google", sources));
    let mut world = partitioned("default", "", &entries, true);
    world.default_intention = Intention::Deny;
    let rendered = rendered_for(&world, instance(&world, "google"));
    let filter = &rendered["listeners"]["public_listener:10.244.0.2:20000"]["filter_chains"][0]["filters"][0];
    let principals = filter["typed_config"]["rules"]["policies"]["consul-intentions-layer4"]["principals"].to_string();
    assert!(
        principals.contains("/ns/default") && !principals.contains("/ap/"),
        "the first rule about one counts: {principals}"
    );
}

fn group(members: Value) -> Vec<(&'static str, &'static str, Value)> {
    vec![("SamenessGroup", "everywhere", json!({"defaultForFailover": true, "members": members}))]
}

/// In which order the members of the default group are tried, by the names that they are asked for.
#[rstest]
#[case::ours_first(
    json!([{"partition": "default"}, {"partition": "ap1"}]), "google",
    &["google.default.dc1.internal", "google.default.ap1.dc1.internal-v1"]
)]
#[case::theirs_first(
    json!([{"partition": "ap1"}, {"partition": "default"}]), "google",
    &["google.default.ap1.dc1.internal-v1", "google.default.dc1.internal"]
)]
#[case::only_theirs(
    json!([{"partition": "default"}, {"partition": "ap1"}]), "db",
    &["db.default.dc1.internal", "db.default.ap1.dc1.internal-v1"]
)]
fn partitions_of_a_group_are_tried_in_order(#[case] members: Value, #[case] service: &str, #[case] expected: &[&str]) {
    let world = partitioned("default", "", &group(members), true);
    assert!(world.has_service(service));
    let rendered = rendered_for(&world, instance(&world, "client"));
    let names: Vec<&String> = rendered["clusters"].as_object().expect("clusters").keys().collect();
    let is_it =
        |name: &&&String| !name.starts_with("failover") && name.starts_with(&format!("{}.{TRUST_DOMAIN}", expected[0]));
    let name = names.iter().find(is_it).expect("an aggregate");
    let members: Vec<String> = rendered["clusters"][name.as_str()]["cluster_type"]["typed_config"]["clusters"]
        .as_array()
        .expect("members")
        .iter()
        .map(|member| {
            let cluster = &rendered["clusters"][member.as_str().unwrap_or_default()];
            cluster["transport_socket"]["typed_config"]["sni"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    let expected: Vec<String> = expected.iter().map(|name| format!("{name}.{TRUST_DOMAIN}")).collect();
    assert_eq!(members, expected);
    accepted(&rendered);
}

#[rstest]
#[case::redirect(json!({"redirect": {"service": "db", "partition": "ap1"}}), &["db.default.ap1.dc1.internal-v1"])]
#[case::failover(
    json!({"failover": {"*": {"targets": [{"service": "db", "partition": "ap1"}]}}}),
    &["google.default.dc1.internal", "db.default.ap1.dc1.internal-v1"]
)]
#[case::to_ours(json!({"redirect": {"service": "client", "partition": "default"}}), &["client.default.dc1.internal"])]
#[case::of_a_subset(
    json!({"redirect": {"service": "db", "serviceSubset": "v1", "partition": "ap1"}}), &["v1.db.default.ap1.dc1.internal-v1"]
)]
fn resolvers_lead_to_partitions(#[case] resolver: Value, #[case] expected: &[&str]) {
    let world = partitioned("default", "", &[("ServiceResolver", "google", resolver)], true);
    let chain =
        crate::chain::Chain::of(&world.config, "google", crate::place::Place::Here, &crate::dial::Dial::default());
    let resolved = chain.resolved().next().expect("one");
    let targets = std::iter::once(&resolved.target).chain(&resolved.failover);
    let names = targets.map(|t| world.names.at(&t.place).sni(&t.service, t.subset.as_deref()));
    let expected: Vec<String> = expected.iter().map(|name| format!("{name}.{TRUST_DOMAIN}")).collect();
    assert_eq!(names.collect::<Vec<_>>(), expected);
    accepted(&rendered_for(&world, instance(&world, "client")));
}

#[test]
fn what_a_partition_tells_is_what_it_exports() {
    let exports = json!({"services": [
        {"name": "google", "consumers": [{"partition": "ap1"}]}, {"name": "client", "consumers": [{"partition": "ap2"}]},
    ]});
    let all = ["default".into(), "ap1".into(), "ap2".into()];
    let world = tenant(
        &["client", "google"],
        &Tenancy::new("default", &all),
        Intention::Allow,
        &[("ExportedServices", "default", exports), mode("ServiceDefaults", "google", "local")],
        &[],
    );
    let told = Told::of(&world, "ap1");
    assert_eq!(told.services.keys().collect::<Vec<_>>(), ["google"]);
    let google = &told.services["google"];
    assert_eq!(google.virtual_ip, world.vips.get("google"));
    assert_eq!(google.gateway_mode, Some(crate::place::GatewayMode::Local));
    assert_eq!(google.instances[0].address, SocketAddr::from(([10, 244, 0, 2], 20000)));
    assert!(Told::of(&world, "ap3").services.is_empty());
}

#[rstest]
#[case::to_a_group_of_which_it_is_a_member(json!([{"partition": "default"}, {"partition": "ap1"}]), 2)]
#[case::to_a_group_of_which_it_is_none(json!([{"partition": "default"}]), 0)]
fn everything_may_be_exported(#[case] members: Value, #[case] expected: usize) {
    let exports = json!({"services": [{"name": "*", "consumers": [{"samenessGroup": "everywhere"}]}]});
    let mut entries = group(members);
    entries.push(("ExportedServices", "default", exports));
    assert_eq!(Told::of(&partitioned("default", "", &entries, true), "ap1").services.len(), expected);
}
