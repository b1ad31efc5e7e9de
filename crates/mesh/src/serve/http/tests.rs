//! Requests, and what Consul would answer.

use std::sync::Arc;

use axum::body::Body;
use rstest::rstest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::ca::Authority;
use crate::fixture::{tenant, world};
use crate::intentions::Intention;
use crate::tenancy::Tenancy;

/// Status and body of a request to a mesh with services `web` and `api`.
async fn get(path: &str) -> (u16, String) {
    get_of(Tenancy::default(), path).await
}

/// As [`get`], of a partition.
async fn get_of(tenancy: Tenancy, path: &str) -> (u16, String) {
    let permission = json!({"action": "allow", "http": {"pathExact": "/hello", "header": [{"name": "x", "ignoreCase": true, "exact": "y"}]}});
    let sources = json!([{"name": "*", "action": "deny"}, {"name": "web", "permissions": [permission]}]);
    let entries = [
        (
            "ServiceDefaults",
            "api",
            json!({"protocol": "http", "mutualTLSMode": "strict", "externalSNI": "api.example"}),
        ),
        ("ProxyDefaults", "global", json!({"config": {"protocol": "tcp", "envoy_x": {"deep_field": 1}}})),
        ("Mesh", "mesh", json!({"tls": {"incoming": {"tlsMinVersion": "TLSv1_2"}}})),
        ("ServiceResolver", "api", json!({"connectTimeout": "5s", "subsets": {"v1": {"onlyPassing": true}}})),
        ("ServiceIntentions", "to-api", json!({"destination": {"name": "api"}, "sources": sources})),
        (
            "ServiceIntentions",
            "to-all",
            json!({"destination": {"name": "*"}, "sources": [{"name": "web", "action": "allow"}]}),
        ),
    ];
    let world = tenant(&["web", "api"], &tenancy, Intention::Deny, &entries, &[]);
    let authority = Authority::new(world.names.clone()).expect("an authority");
    let (_, worlds) = tokio::sync::watch::channel(Arc::new(world));
    let router = router(Arc::new(Shared::new(worlds, authority.clone(), authority, None)));
    let request = axum::http::Request::get(path).body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

#[rstest]
#[case("/v1/catalog/datacenters", "", json!(["dc1"]))]
#[case("/v1/catalog/nodes", "/0/Node", json!("node-0-virtual"))]
#[case("/v1/catalog/nodes?filter=Node==other", "", json!([]))]
#[case("/v1/catalog/node/node-0-virtual", "/Services/web-web-sidecar-proxy/Kind", json!("connect-proxy"))]
#[case("/v1/catalog/node/other", "", json!(null))]
#[case("/v1/catalog/node-services/node-0-virtual?filter=Service==web", "/Services/0/ID", json!("web-web"))]
#[case("/v1/catalog/node-services/node-0-virtual?merge-central-config&filter=Kind==connect-proxy",
    "/Services/0/Proxy/Config/protocol", json!("http"))]
#[case("/v1/catalog/services", "", json!({
    "consul": [], "web": [], "web-sidecar-proxy": [], "api": [], "api-sidecar-proxy": [],
}))]
#[case("/v1/catalog/services?filter=ServiceKind==connect-proxy", "",
    json!({"consul": [], "web-sidecar-proxy": [], "api-sidecar-proxy": []}))]
#[case("/v1/catalog/service/web", "/0/ServiceAddress", json!("10.244.0.1"))]
#[case("/v1/catalog/service/web?tag=v9", "", json!([]))]
#[case("/v1/catalog/service/nobody", "", json!([]))]
#[case("/v1/catalog/connect/web", "/0/ServicePort", json!(20000))]
#[case("/v1/health/service/web?passing", "/0/Checks/0/Status", json!("passing"))]
#[case("/v1/health/connect/web", "/0/Service/Proxy/DestinationServiceName", json!("web"))]
#[case("/v1/health/checks/web", "/0/CheckID", json!("default/web-web"))]
#[case("/v1/health/node/node-0-virtual?filter=ServiceName==api", "/0/ServiceID", json!("api-api"))]
#[case("/v1/health/state/critical", "", json!([]))]
#[case("/v1/health/state/any?filter=ServiceName==api", "/0/Type", json!("kubernetes-readiness"))]
#[case("/v1/config/service-defaults", "/0/Name", json!("api"))]
#[case("/v1/config/service-defaults/api", "/MutualTLSMode", json!("strict"))]
#[case("/v1/config/service-defaults/api", "/ExternalSNI", json!("api.example"))]
#[case("/v1/config/service-defaults/api", "/Meta/external-source", json!("kubernetes"))]
#[case("/v1/config/proxy-defaults/global", "/Config", json!({"protocol": "tcp", "envoy_x": {"deep_field": 1}}))]
#[case("/v1/config/mesh/mesh", "/TLS/Incoming/TLSMinVersion", json!("TLSv1_2"))]
#[case("/v1/config/service-resolver/api", "/Subsets", json!({"v1": {"OnlyPassing": true}}))]
#[case("/v1/config/service-intentions/api", "/Sources/0/Permissions/0/HTTP/Header/0",
    json!({"Name": "x", "IgnoreCase": true, "Exact": "y"}))]
#[case("/v1/config/service-intentions/api", "/Sources/1/Precedence", json!(8))]
#[case("/v1/config/exported-services", "", json!([]))]
#[case("/v1/connect/intentions", "/2/DestinationName", json!("*"))]
#[case("/v1/connect/intentions?filter=Action==deny", "/0/SourceName", json!("*"))]
#[case("/v1/connect/intentions/exact?source=web&destination=*", "/Precedence", json!(6))]
#[case("/v1/connect/intentions/check?source=web&destination=web", "", json!({"Allowed": true}))]
#[case("/v1/connect/intentions/check?source=web&destination=api", "", json!({"Allowed": false}))]
#[case("/v1/connect/intentions/match?by=destination&name=api", "/api/0/SourceName", json!("web"))]
#[case("/v1/connect/intentions/match?by=source&name=api&name=web", "/api/0/SourceName", json!("*"))]
#[case("/v1/connect/ca/roots", "/Roots/0/Active", json!(true))]
#[case("/v1/connect/ca/roots", "/Roots/0/IntermediateCerts", json!(null))]
#[case("/v1/status/leader", "", json!("127.0.0.1:8300"))]
#[case("/v1/catalog/nodes?dc=dc1", "/0/Datacenter", json!("dc1"))]
#[tokio::test]
async fn answers(#[case] path: &str, #[case] pointer: &str, #[case] expected: Value) {
    let (status, body) = get(path).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body.pointer(pointer), Some(&expected), "{body:#}");
}

#[rstest]
#[case("/v1/catalog/nodes", "/0/Partition", json!("ap1"))]
#[case("/v1/catalog/service/web", "/0/Partition", json!("ap1"))]
#[case("/v1/catalog/service/web", "/0/Namespace", json!("default"))]
#[case("/v1/catalog/node-services/node-0-virtual?filter=Kind==connect-proxy", "/Services/0/Partition", json!("ap1"))]
#[case("/v1/health/service/web", "/0/Checks/0/Partition", json!("ap1"))]
#[case("/v1/connect/intentions/exact?source=web&destination=*", "/SourcePartition", json!("ap1"))]
#[case("/v1/connect/intentions/exact?source=ap1/default/web&destination=default/*", "/DestinationPartition", json!("ap1"))]
#[tokio::test]
async fn answers_of_a_partition(#[case] path: &str, #[case] pointer: &str, #[case] expected: Value) {
    let (status, body) = get_of(Tenancy::new("ap1", &["default".into(), "ap1".into()]), path).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body.pointer(pointer), Some(&expected), "{body:#}");
}

#[rstest]
#[case("/v1/agent/self", 404, "Invalid URL path: not a recognized HTTP API endpoint")]
#[case("/v1/config/service-defaults/web", 404, "Config entry not found for \"service-defaults\" / \"web\"")]
#[case("/v1/config/wishes", 500, "invalid config entry kind: wishes")]
#[case("/v1/connect/intentions/exact?source=a&destination=b", 404, "Intention not found")]
#[case("/v1/connect/intentions/exact?source=ap9/default/web&destination=*", 404, "Intention not found")]
#[case("/v1/connect/intentions/exact?source=a", 400, "required query parameter 'destination' not set")]
#[case("/v1/connect/intentions/match?by=luck&name=a", 400, "'by' parameter must be one of 'source' or 'destination'")]
#[case("/v1/health/service/web?passing=maybe", 400, "Invalid value for ?passing")]
#[case("/v1/health/state/fine", 400, "Invalid health state \"fine\"")]
#[case("/v1/catalog/nodes?dc=dc2", 500, "No path to datacenter")]
#[case("/v1/catalog/nodes?index=soon", 400, "Invalid index \"soon\"")]
#[case("/v1/catalog/nodes?filter=Node", 400, "parse filter \"Node\" at character 4: expected an operator")]
#[tokio::test]
async fn refusals(#[case] path: &str, #[case] status: u16, #[case] text: &str) {
    assert_eq!(get(path).await, (status, text.to_owned()));
}

#[tokio::test]
async fn roots_are_what_their_certificates_say() {
    let (_, body) = get("/v1/connect/ca/roots").await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let root = &body["Roots"][0];
    assert_eq!(root["ID"], body["ActiveRootID"]);
    assert_eq!(root["SigningKeyID"].as_str().map(|id| id.split(':').count()), Some(20), "{root}");
    assert!(root["SerialNumber"].as_u64().is_some_and(|serial| serial > 0), "{root}");
    let time = |field: &str| root[field].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    assert!(time("NotBefore") < Some(jiff::Timestamp::now()) && time("NotAfter") > Some(jiff::Timestamp::now()));
    let (status, pem) = get("/v1/connect/ca/roots?pem=true").await;
    assert_eq!(status, 200);
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
}

/// An API whose changes are taken in, over services `web` and `api`.
fn changing() -> Router {
    let world = world(&["web", "api"], Intention::Deny, &[]);
    let authority = Authority::new(world.names.clone()).expect("an authority");
    let (publish, worlds) = tokio::sync::watch::channel(Arc::new(world));
    let (changes, incoming) = tokio::sync::mpsc::unbounded_channel();
    let (peerings, _) = tokio::sync::watch::channel(Vec::new());
    tokio::spawn(crate::cluster::reconcile(
        Vec::new(),
        crate::cluster::Reconciler::new(0, None),
        peerings,
        incoming,
        publish,
        None,
    ));
    query::router(Arc::new(Shared::new(worlds, authority.clone(), authority, None)), changes)
}

async fn asked(router: &Router, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = axum::http::Request::builder().method(method).uri(path).body(body).expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| text()))
}

#[tokio::test]
async fn queries_are_made_changed_executed_and_forgotten() {
    let api = changing();
    let geo = json!({"Name": "geo", "Service": {"Service": "web", "OnlyPassing": true}});
    let (status, made) = asked(&api, "POST", "/v1/query", geo.clone()).await;
    let id = made["ID"].as_str().expect("an id").to_owned();
    assert_eq!(status, 200);
    let path = format!("/v1/query/{id}");
    assert_eq!(asked(&api, "GET", &path, Value::Null).await.1[0]["Service"]["Service"], "web");
    for named in [&id, "geo"] {
        let (status, found) = asked(&api, "GET", &format!("/v1/query/{named}/execute"), Value::Null).await;
        assert_eq!((status, &found["Nodes"][0]["Service"]["Service"]), (200, &json!("web")), "{found}");
        assert_eq!((&found["Datacenter"], &found["Failovers"]), (&json!("dc1"), &json!(0)));
    }
    assert_eq!(asked(&api, "PUT", &path, json!({"Name": "geo", "Service": {"Service": "api"}})).await.0, 200);
    let (_, found) = asked(&api, "GET", "/v1/query/geo/execute", Value::Null).await;
    assert_eq!(found["Nodes"][0]["Service"]["Service"], "api");
    let (status, said) = asked(&api, "POST", "/v1/query", geo.clone()).await;
    assert_eq!((status, said), (400, json!("name \"geo\" is that of another query: take another name")));
    assert_eq!(asked(&api, "PUT", "/v1/query/other", geo).await, (404, json!("Query not found")));
    assert_eq!(asked(&api, "DELETE", &path, Value::Null).await.0, 200);
    assert_eq!(asked(&api, "DELETE", &path, Value::Null).await.0, 404);
    assert_eq!(asked(&api, "GET", "/v1/query/geo/execute", Value::Null).await.0, 404);
    assert_eq!(asked(&api, "GET", "/v1/query", Value::Null).await, (200, json!([])));
}

#[tokio::test]
async fn a_query_that_cannot_be_is_refused_with_all_mistakes() {
    let wrong = json!({"Template": {"Type": "x"}, "Service": {"Near": "_agent"}});
    let (status, said) = asked(&changing(), "POST", "/v1/query", wrong).await;
    let said = said.as_str().expect("words").to_owned();
    assert!(status == 400 && said.lines().count() == 3 && said.contains("Service.Service is missing"), "{said}");
}
