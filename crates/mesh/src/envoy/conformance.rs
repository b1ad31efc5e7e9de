//! What is rendered beside the names and shapes that Consul's proxies have on the wire and in their admin interface, and Envoy's
//! own word on all of it.

use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::feed::XDS_CLUSTER;
use crate::fixture::{TRUST_DOMAIN, annotated, instance};
use crate::intentions::Intention;

type Entries = Vec<(&'static str, &'static str, Value)>;

/// Services `client`, `google` and `db`; the client names `upstreams` in its annotation.
pub(super) fn rendered(service: &str, default: Intention, upstreams: &str, entries: &[(&str, &str, Value)]) -> Value {
    let annotations = match upstreams {
        "" => vec![],
        list => vec![("client", "consul.hashicorp.com/connect-service-upstreams", list)],
    };
    let world = annotated(&["client", "google", "db"], default, entries, &annotations);
    let authority = crate::ca::Authority::new(world.names.clone()).expect("a root");
    let leaf = authority.issue(service, crate::ca::Validity::Now).expect("a leaf");
    render(&world, instance(&world, service), &leaf, &authority.root_pem())
}

fn http(service: &'static str) -> (&'static str, &'static str, Value) {
    ("ServiceDefaults", service, json!({"protocol": "http"}))
}

fn speaks(protocol: &str) -> Entries {
    vec![("ServiceDefaults", "google", json!({"protocol": protocol}))]
}

fn rewritten() -> Entries {
    let routes = json!({"routes": [
        {"match": {"http": {"pathPrefix": "/"}}, "destination": {"prefixRewrite": "/v2/"}},
    ]});
    vec![http("google"), ("ServiceRouter", "google", routes)]
}

fn failing_over() -> Entries {
    vec![("ServiceResolver", "google", json!({"connectTimeout": "2s", "failover": {"*": {"service": "db"}}}))]
}

fn permissive() -> Entries {
    vec![
        ("Mesh", "mesh", json!({"allowEnablingPermissiveMutualTLS": true})),
        ("ServiceDefaults", "google", json!({"mutualTLSMode": "permissive"})),
    ]
}

fn exposing() -> Entries {
    let paths = json!([{"path": "/health-z/1", "localPathPort": 9090, "listenerPort": 20400}]);
    vec![("ServiceDefaults", "google", json!({"expose": {"paths": paths}}))]
}

fn exposing_all() -> Entries {
    let paths = json!([{"path": "/health-z/1", "localPathPort": 9090, "listenerPort": 20400}]);
    vec![http("google"), ("ProxyDefaults", "global", json!({"expose": {"paths": paths}}))]
}

fn directly() -> Entries {
    vec![("ServiceDefaults", "google", json!({"transparentProxy": {"dialedDirectly": true}}))]
}

/// The facts of the listeners and clusters of a client. `TD` stands for the trust domain, `~` for `/` in a name.
#[rstest]
#[case::direction("", vec![], "/listeners/outbound_listener:127.0.0.1:15001/traffic_direction", json!("OUTBOUND"))]
#[case::original_dst("", vec![], "/listeners/outbound_listener:127.0.0.1:15001/listener_filters/0/name",
    json!("envoy.filters.listener.original_dst"))]
#[case::no_destination_port("", vec![], "/listeners/outbound_listener:127.0.0.1:15001/filter_chains/1/filter_chain_match",
    json!({"prefix_ranges": [
        {"address_prefix": "10.96.0.2", "prefix_len": 32}, {"address_prefix": "240.0.0.3", "prefix_len": 32},
    ]}))]
#[case::passthrough("", vec![], "/clusters/original-destination", json!({
    "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "original-destination",
    "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "5s",
}))]
#[case::explicit("google:1234", vec![], "/listeners/google:127.0.0.1:1234/address/socket_address",
    json!({"address": "127.0.0.1", "port_value": 1234}))]
#[case::explicit_has_no_match("google:1234", vec![], "/listeners/google:127.0.0.1:1234/filter_chains/0/filter_chain_match",
    Value::Null)]
#[case::explicit_with_datacenter("google:1234:dc1", vec![],
    "/listeners/google?dc=dc1:127.0.0.1:1234/filter_chains/0/filters/0/typed_config/stat_prefix",
    json!("upstream.google.default.default.dc1"))]
#[case::inline_route("", speaks("http"),
    "/listeners/outbound_listener:127.0.0.1:15001/filter_chains/1/filters/0/typed_config/route_config",
    json!({"name": "google", "virtual_hosts": [{
        "name": "google.default.default.dc1", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "google.default.dc1.internal.TD"}}],
    }]}))]
#[case::routes_of_a_chain("", rewritten(),
    "/listeners/outbound_listener:127.0.0.1:15001/filter_chains/1/filters/0/typed_config/rds/route_config_name",
    json!("google"))]
#[case::http2_to_the_instance("", speaks("http2"),
    "/clusters/google.default.dc1.internal.TD/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions/explicit_http_config",
    json!({"http2_protocol_options": {}}))]
#[case::failover("", failing_over(), "/clusters/google.default.dc1.internal.TD/cluster_type/typed_config/clusters", json!([
    "failover-target~0~google.default.dc1.internal.TD", "failover-target~1~google.default.dc1.internal.TD",
]))]
#[case::failover_target_trusts_its_own("", failing_over(),
    "/clusters/failover-target~1~google.default.dc1.internal.TD/transport_socket/typed_config/sni",
    json!("db.default.dc1.internal.TD"))]
#[case::connect_timeout("", failing_over(), "/clusters/failover-target~0~google.default.dc1.internal.TD/connect_timeout",
    json!("2s"))]
#[case::direct("", directly(), "/clusters/passthrough~google.default.dc1.internal.TD/lb_policy", json!("CLUSTER_PROVIDED"))]
#[case::direct_has_tls("", directly(),
    "/clusters/passthrough~google.default.dc1.internal.TD/transport_socket/typed_config/sni",
    json!("google.default.dc1.internal.TD"))]
fn client(#[case] upstreams: &str, #[case] entries: Entries, #[case] at: &str, #[case] expected: Value) {
    let rendered = rendered("client", Intention::Allow, upstreams, &entries);
    assert_eq!(found(&rendered, at), expected);
}

/// The facts of the listeners and clusters of a server.
#[rstest]
#[case::application(vec![], "/clusters/local_app/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address",
    json!({"address": "127.0.0.1", "port_value": 8080}))]
#[case::application_is_static(vec![], "/clusters/local_app/type", json!("STATIC"))]
#[case::who_may(vec![], "/listeners/public_listener:10.244.0.2:20000/filter_chains/0/filters/0/typed_config/stat_prefix",
    json!("connect_authz"))]
#[case::then_the_application(vec![],
    "/listeners/public_listener:10.244.0.2:20000/filter_chains/0/filters/1/typed_config/stat_prefix", json!("public_listener"))]
#[case::no_alpn(vec![], &format!("/listeners/public_listener:10.244.0.2:20000/filter_chains/0/{ALPN}"), Value::Null)]
#[case::alpn_of_http(speaks("http"), &format!("/listeners/public_listener:10.244.0.2:20000/filter_chains/0/{ALPN}"),
    json!(["http/1.1"]))]
#[case::alpn_of_grpc(speaks("grpc"), &format!("/listeners/public_listener:10.244.0.2:20000/filter_chains/0/{ALPN}"),
    json!(["h2", "http/1.1"]))]
#[case::client_certificate(speaks("http"),
    "/listeners/public_listener:10.244.0.2:20000/filter_chains/0/filters/0/typed_config/forward_client_cert_details",
    json!("APPEND_FORWARD"))]
#[case::normal_paths(speaks("http"),
    "/listeners/public_listener:10.244.0.2:20000/filter_chains/0/filters/0/typed_config/normalize_path", json!(true))]
#[case::permissive(permissive(), "/listeners/public_listener:10.244.0.2:20000/filter_chains/1/filter_chain_match",
    json!({"destination_port": 8080}))]
#[case::permissive_has_no_tls(
    permissive(),
    "/listeners/public_listener:10.244.0.2:20000/filter_chains/1/transport_socket",
    Value::Null
)]
#[case::permissive_by_name(permissive(),
    "/listeners/public_listener:10.244.0.2:20000/filter_chains/1/filters/0/typed_config/stat_prefix",
    json!("permissive_public_listener"))]
#[case::exposed(exposing(),
    "/listeners/exposed_path_healthz1:10.244.0.2:20400/filter_chains/0/filters/0/typed_config/stat_prefix",
    json!("exposed_path_filter_healthz1_20400"))]
#[case::exposed_by_all(exposing_all(),
    "/listeners/exposed_path_healthz1:10.244.0.2:20400/filter_chains/0/filters/0/typed_config/stat_prefix",
    json!("exposed_path_filter_healthz1_20400"))]
#[case::exposed_route(exposing(),
    "/listeners/exposed_path_healthz1:10.244.0.2:20400/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes",
    json!([{"match": {"path": "/health-z/1"}, "route": {"cluster": "exposed_cluster_9090"}}]))]
fn server(#[case] entries: Entries, #[case] at: &str, #[case] expected: Value) {
    let rendered = rendered("google", Intention::Allow, "", &entries);
    assert_eq!(found(&rendered, at), expected);
}

const ALPN: &str = "transport_socket/typed_config/common_tls_context/alpn_protocols";

/// What is at a place, with the trust domain as `TD`.
fn found(rendered: &Value, at: &str) -> Value {
    // tildes mean something in pointers
    let pointer = at.replace('~', "~0").replace("TD/", &format!("{TRUST_DOMAIN}/"));
    let text = rendered.pointer(&pointer).unwrap_or(&Value::Null).to_string();
    serde_json::from_str(&text.replace(TRUST_DOMAIN, "TD")).expect("JSON")
}

#[rstest]
#[case::plain("", vec![])]
#[case::explicit("google:1234, db:1235:dc1, google.svc:1236:?local_bind_address=127.0.0.77", vec![])]
#[case::http("", speaks("http"))]
#[case::http2("", speaks("http2"))]
#[case::grpc("", speaks("grpc"))]
#[case::rewritten("google:1234", rewritten())]
#[case::failing_over("", failing_over())]
#[case::permissive("", permissive())]
#[case::exposing("", exposing())]
#[case::directly("", directly())]
#[case::direct_http("", vec![
    ("ServiceDefaults", "google", json!({"protocol": "http", "transparentProxy": {"dialedDirectly": true}})),
])]
#[case::only_the_mesh("", vec![("Mesh", "mesh", json!({"transparentProxy": {"meshDestinationsOnly": true}}))])]
#[case::limited("", vec![("ServiceDefaults", "google", json!({"maxInboundConnections": 7}))])]
#[case::settings_of_all("", vec![("ProxyDefaults", "global", json!({"config": {
    "protocol": "http", "local_connect_timeout_ms": 250, "local_request_timeout_ms": 0, "local_idle_timeout_ms": 3000,
    "max_inbound_connections": 7, "balance_inbound_connections": "exact_balance",
}}))])]
#[case::split("", vec![
    http("google"), http("db"),
    ("ServiceSplitter", "google", json!({"splits": [{"weight": 99.5}, {"weight": 0.5, "service": "db"}]})),
])]
#[case::permissions("", vec![
    http("google"),
    ("ServiceIntentions", "google", json!({"destination": {"name": "google"}, "sources": [
        {"name": "client", "permissions": [
            {"action": "deny", "http": {"pathExact": "/admin"}},
            {"action": "allow", "http": {"pathRegex": "/v[0-9]+/.*", "methods": ["GET"], "header": [{"name": "x", "present": true}]}},
        ]},
        {"name": "*", "action": "deny"},
    ]})),
])]
fn envoy_accepts(
    #[values("client", "google")] service: &str,
    #[values(Intention::Allow, Intention::Deny)] default: Intention,
    #[case] upstreams: &str,
    #[case] entries: Entries,
) {
    accepted(&rendered(service, default, upstreams, &entries));
}

/// Has Envoy look at a configuration as if it were its own. Routes, secrets and endpoints that it would ask for stand in their places.
pub(super) fn accepted(rendered: &Value) {
    let envoy = std::env::var_os("PELLUCID_ENVOY")
        .expect("PELLUCID_ENVOY is not set: set it to the path of the Envoy binary (`cargo xtask test` does)");
    let all = |section: &str| -> Vec<Value> {
        let resources = rendered[section].as_object().into_iter().flat_map(|s| s.values());
        resources.map(|resource| placed(resource, rendered)).collect()
    };
    let mut clusters = all("clusters");
    clusters.push(json!({
        "name": XDS_CLUSTER, "type": "STATIC",
        "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/nowhere"}}}}]},
        ]},
    }));
    let bootstrap = json!({
        "node": {"id": "proxy", "cluster": "proxy"},
        "static_resources": {"listeners": all("listeners"), "clusters": clusters, "secrets": all("secrets")},
    });
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).expect("writable");
    let output = Command::new(envoy).args(["--mode", "validate", "--config-path"]).arg(&file).output().expect("envoy");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{bootstrap:#}");
}

/// A resource as a bootstrap has it: no type of its own at the top, and what it refers to in it.
fn placed(resource: &Value, rendered: &Value) -> Value {
    let mut placed = resource.clone();
    if let Some(fields) = placed.as_object_mut() {
        fields.remove("@type");
        if let Some(endpoints) = fields.remove("eds_cluster_config").and(rendered["endpoints"].get(name(resource))) {
            fields.insert("type".to_owned(), json!("STATIC"));
            fields.insert("load_assignment".to_owned(), placed_in(endpoints));
        }
    }
    inline(&mut placed, rendered);
    placed
}

fn placed_in(resource: &Value) -> Value {
    let mut placed = resource.clone();
    placed.as_object_mut().and_then(|fields| fields.remove("@type"));
    placed
}

fn name(resource: &Value) -> &str {
    resource["name"].as_str().unwrap_or_default()
}

fn inline(value: &mut Value, rendered: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let route = &rendered["routes"][rds["route_config_name"].as_str().unwrap_or_default()];
                fields.insert("route_config".to_owned(), placed_in(route));
            }
            // a secret without a source is one of the bootstrap's
            fields.remove("sds_config");
            fields.values_mut().for_each(|field| inline(field, rendered));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| inline(item, rendered)),
        _ => {}
    }
}
