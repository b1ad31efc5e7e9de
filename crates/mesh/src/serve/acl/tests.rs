//! Requests with and without tokens, and what Consul would answer.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::*;
use crate::acl::tests::acls;
use crate::ca::Authority;
use crate::fixture::world;
use crate::intentions::Intention;
use crate::serve::{feed, http};
use crate::world::World;

const WEB: &str = "system:serviceaccount:default:web";

/// All of a mesh's routes over services `web` and `api`.
struct Bed {
    router: Router,
    /// Without it the world would have come to an end.
    _worlds: watch::Sender<Arc<World>>,
}

impl Bed {
    fn new(acls: Option<Acls>) -> Self {
        let entry = ("ServiceDefaults", "api", json!({"protocol": "http"}));
        let world = world(&["web", "api"], Intention::Deny, &[entry, ("ProxyDefaults", "global", json!({}))]);
        let authority = Authority::new(world.names.clone()).expect("an authority");
        let (publish, worlds) = watch::channel(Arc::new(world));
        let shared = Arc::new(Shared::new(worlds, authority.clone(), authority, None).with_acls(acls));
        let (changes, _) = tokio::sync::mpsc::unbounded_channel();
        let routes = http::router(shared.clone()).merge(http::query::router(shared.clone(), changes));
        let router = routes.merge(feed::router(shared.clone())).merge(router(shared));
        Self { router, _worlds: publish }
    }

    async fn ask(&self, request: Request<Body>) -> (u16, String) {
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("X-Consul-Token", token);
        }
        self.ask(request.body(Body::empty()).expect("a request")).await
    }

    async fn log_in(&self, bearer: &str) -> (u16, String) {
        let body =
            json!({"AuthMethod": "consul-k8s-auth-method", "BearerToken": bearer, "Meta": {"pod": "default/web"}});
        self.ask(Request::post("/v1/acl/login").body(Body::from(body.to_string())).expect("a request")).await
    }

    /// The secret of a token of the service `web`.
    async fn web(&self) -> String {
        let (status, body) = self.log_in(WEB).await;
        assert_eq!(status, 200, "{body}");
        let token: Value = serde_json::from_str(&body).expect("JSON");
        token["SecretID"].as_str().expect("a secret").to_owned()
    }
}

/// With ACLs, and nothing for anybody who shows no token.
fn closed() -> Bed {
    Bed::new(Some(acls("serviceaccount.name!=default", false, None)))
}

#[tokio::test]
async fn a_token_opens_what_its_service_may() {
    let bed = closed();
    let secret = bed.web().await;
    let (_, own) = bed.get("/v1/acl/token/self", Some(&secret)).await;
    assert!(own.contains(r#""ServiceIdentities":[{"ServiceName":"web"}]"#), "{own}");
    let (status, services) = bed.get("/v1/catalog/node-services/node-0-virtual", Some(&secret)).await;
    assert!(status == 200 && services.contains("web-sidecar-proxy"), "{services}");
    let bearer = Request::get("/v1/catalog/service/api").header("Authorization", format!("Bearer {secret}"));
    assert!(bed.ask(bearer.body(Body::empty()).expect("a request")).await.1.contains("10.244.0.2"));
    let (status, made) = bed.ask(with(Request::post("/v1/query"), &secret, "{}")).await;
    assert_eq!((status, made.as_str()), (403, "Permission denied"));

    let own = bed.get("/v1/pellucid/proxy/web-web-sidecar-proxy?wait=1s", Some(&secret)).await;
    assert!(own.0 == 200 && own.1.contains("BEGIN CERTIFICATE"), "{}", own.1);
    let others = bed.get("/v1/pellucid/proxy/api-api-sidecar-proxy?wait=1s", Some(&secret)).await;
    assert_eq!(others.0, 403);
    assert!(others.1.ends_with("lacks permission 'service:write' on \"api\""), "{}", others.1);
    assert!(others.1.starts_with("Permission denied: token with AccessorID '"), "{}", others.1);

    assert_eq!(bed.ask(with(Request::post("/v1/acl/logout"), &secret, "")).await, (200, "true".to_owned()));
    let gone = bed.get("/v1/catalog/services", Some(&secret)).await;
    assert_eq!(gone, (403, "ACL not found".to_owned()));
    let gone = bed.get("/v1/pellucid/proxy/web-web-sidecar-proxy?wait=1s", Some(&secret)).await;
    assert_eq!(gone, (403, "ACL not found".to_owned()));
}

fn with(request: axum::http::request::Builder, token: &str, body: &str) -> Request<Body> {
    request.header("X-Consul-Token", token).body(Body::from(body.to_owned())).expect("a request")
}

#[rstest]
#[case("/v1/catalog/nodes", "[]")]
#[case("/v1/catalog/services", "{}")]
#[case("/v1/catalog/service/web", "[]")]
#[case("/v1/catalog/node/node-0-virtual", "null")]
#[case("/v1/catalog/node-services/node-0-virtual", r#"{"Node":null,"Services":[]}"#)]
#[case("/v1/health/service/web", "[]")]
#[case("/v1/config/service-defaults", "[]")]
#[case("/v1/query", "[]")]
#[case("/v1/catalog/datacenters", r#"["dc1"]"#)]
#[tokio::test]
async fn who_shows_no_token_is_shown_nothing(#[case] path: &str, #[case] expected: &str) {
    assert_eq!(closed().get(path, None).await, (200, expected.to_owned()));
}

#[rstest]
#[case("/v1/config/service-defaults/api", "'service:read' on \"api\"")]
#[case("/v1/connect/intentions/exact?source=web&destination=api", "'intentions:read' on \"api\"")]
#[case("/v1/connect/intentions/match?by=source&name=web", "'intentions:read' on \"web\"")]
#[case("/v1/pellucid/proxy/web-web-sidecar-proxy?wait=1s", "'service:write' on \"web\"")]
#[tokio::test]
async fn or_refused(#[case] path: &str, #[case] expected: &str) {
    let (status, said) = closed().get(path, None).await;
    assert_eq!(status, 403);
    assert!(
        said.starts_with("Permission denied: anonymous token lacks permission") && said.contains(expected),
        "{said}"
    );
}

#[tokio::test]
async fn what_is_of_nobody_is_for_all() {
    let (status, entry) = closed().get("/v1/config/proxy-defaults/global", None).await;
    assert!(status == 200 && entry.contains("proxy-defaults"), "{entry}");
    assert_eq!(closed().get("/v1/connect/ca/roots", None).await.0, 200);
}

#[rstest]
#[case::foreign("made-up", 500, "lookup failed: invalid bearer token")]
#[case::left_out("system:serviceaccount:default:default", 403, "Permission denied")]
#[tokio::test]
async fn logins_are_refused(#[case] bearer: &str, #[case] status: u16, #[case] said: &str) {
    assert_eq!(closed().log_in(bearer).await, (status, said.to_owned()));
}

#[tokio::test]
async fn a_login_that_cannot_be_read_is_not_repeated() {
    let body = r#"{"AuthMethod":"m","Token":"s3cret"}"#;
    let request = Request::post("/v1/acl/login").body(Body::from(body)).expect("a request");
    let (status, said) = closed().ask(request).await;
    assert_eq!(status, 400);
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn without_acls_there_is_nothing_to_log_in_to() {
    let bed = Bed::new(None);
    assert_eq!(bed.log_in(WEB).await, (401, "ACL support disabled".to_owned()));
    assert_eq!(bed.get("/v1/catalog/services", Some("any")).await.0, 200);
    assert_eq!(bed.get("/v1/pellucid/proxy/web-web-sidecar-proxy?wait=1s", None).await.0, 200);
}
