//! Upstreams that are prepared queries: names and addresses, and Envoy's own word on it.

use std::sync::Arc;

use rstest::rstest;
use serde_json::json;

use super::conformance::accepted;
use super::federation::federated;
use super::*;
use crate::fixture::{TRUST_DOMAIN, instance};
use crate::query::{Failover, Query, Service};

/// A query `geo` for a service, which turns to `dc2`.
fn asking(service: &str) -> Query {
    let failover = Failover { datacenters: vec!["dc1".to_owned(), "dc2".to_owned()], ..Failover::default() };
    let service = Service { service: service.to_owned(), failover, ..Service::default() };
    Query { id: "id".to_owned(), name: "geo".to_owned(), service }
}

#[rstest]
#[case::here(Some("google"), &["10.244.0.2"], "dc1/svc/google")]
#[case::elsewhere(Some("db"), &["10.245.0.1", "10.245.0.2"], "dc2/svc/db")]
#[case::nowhere(Some("away"), &[], "dc1/svc/away")]
#[case::no_query(None, &[], "dc1/svc/")]
fn a_query_is_dialled_as_a_service_is(#[case] service: Option<&str>, #[case] found: &[&str], #[case] identity: &str) {
    let mut world = federated("prepared_query:geo:1234", &[]);
    world.queries = Arc::new(service.map(|service| ("id".to_owned(), asking(service))).into_iter().collect());
    let authority = crate::ca::Authority::new(world.names.clone()).expect("a root");
    let leaf = authority.issue("client", crate::ca::Validity::Now).expect("a leaf");
    let rendered = render(&world, instance(&world, "client"), &leaf, &authority.root_pem());
    let name = format!("geo.default.dc1.query.{TRUST_DOMAIN}");
    let listener = &rendered["listeners"]["prepared_query:geo:127.0.0.1:1234"];
    let proxy = &listener["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!((&proxy["cluster"], &proxy["stat_prefix"]), (&json!(name), &json!("upstream.prepared_query_geo")));
    let tls = &rendered["clusters"][&name]["transport_socket"]["typed_config"];
    assert_eq!(tls["sni"], json!(name));
    let names = &tls["common_tls_context"]["combined_validation_context"]["default_validation_context"];
    let expected = format!("spiffe://{TRUST_DOMAIN}/ns/default/dc/{identity}");
    assert_eq!(names["match_typed_subject_alt_names"], json!([{"san_type": "URI", "matcher": {"exact": expected}}]));
    let endpoints = rendered["endpoints"][&name]["endpoints"][0]["lb_endpoints"].as_array().into_iter().flatten();
    let addresses: Vec<_> = endpoints.map(|e| &e["endpoint"]["address"]["socket_address"]).collect();
    assert_eq!(
        addresses.iter().map(|a| &a["address"]).collect::<Vec<_>>(),
        found.iter().map(|a| json!(a)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
    assert!(addresses.iter().all(|address| address["port_value"] == 20000), "{addresses:?}");
    accepted(&rendered);
}
