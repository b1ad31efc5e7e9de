//! Admission webhooks: a real HTTPS server behind a Service, asked with AdmissionReviews.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Json;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use sim::Dial;

use crate::cluster::{Cluster, object, pod, refusal};

/// Leads every Service address to the test's webhook, and counts.
struct ToWebhook {
    peer: SocketAddr,
    dialled: AtomicUsize,
}

#[async_trait]
impl Dial for ToWebhook {
    async fn dial(&self, service: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
        assert_eq!(service.port(), 443, "the Service's port");
        self.dialled.fetch_add(1, Ordering::SeqCst);
        tokio::net::TcpStream::connect(self.peer).await
    }
}

struct Webhook {
    cluster: Cluster,
    dial: Arc<ToWebhook>,
    reviews: Arc<Mutex<Vec<Value>>>,
    bundle: String,
}

/// Starts a cluster with a webhook that denies Pods labelled `deny`, warns, and annotates the others.
async fn start() -> Webhook {
    let authority_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, authority_key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["injector.default.svc".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a certificate");

    let reviews = Arc::new(Mutex::new(Vec::new()));
    let seen = reviews.clone();
    let router = axum::Router::new().route(
        "/mutate",
        post(async move |Json(review): Json<Value>| {
            let answer = answer(&review["request"]);
            seen.lock().expect("not poisoned").push(review);
            Json(json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": answer }))
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let peer = listener.local_addr().expect("bound");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate goes away here.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });

    let dial = Arc::new(ToWebhook { peer, dialled: AtomicUsize::new(0) });
    let cluster = Cluster::with(dial.clone(), None).await;
    let service: Service =
        object(json!({ "metadata": { "name": "injector" }, "spec": { "ports": [{ "port": 443 }] } }));
    cluster.api::<Service>().create(&PostParams::default(), &service).await.expect("new");
    Webhook { cluster, dial, reviews, bundle: STANDARD.encode(authority.pem()) }
}

fn answer(request: &Value) -> Value {
    let labels = &request["object"]["metadata"]["labels"];
    if labels["app"] == "deny" {
        return json!({ "uid": request["uid"], "allowed": false,
            "status": { "code": 400, "message": "annotation x has the value \"y\"" } });
    }
    if labels["app"] == "broken" {
        let patch = STANDARD.encode(json!([{ "op": "remove", "path": "/nowhere" }]).to_string());
        return json!({ "uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": patch });
    }
    let patch = json!([{ "op": "add", "path": "/metadata/annotations", "value": { "injected": "true" } }]);
    json!({ "uid": request["uid"], "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
        "warnings": ["mind the gap"] })
}

impl Webhook {
    async fn register(&self, bundle: &str, extra: Value) {
        let mut webhook = json!({
            "name": "injector.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": { "service": { "name": "injector", "namespace": "default", "path": "/mutate" }, "caBundle": bundle },
            "rules": [{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"] }],
        });
        if let (Some(webhook), Some(extra)) = (webhook.as_object_mut(), extra.as_object()) {
            webhook.extend(extra.clone());
        }
        let configuration = json!({ "metadata": { "name": "injector" }, "webhooks": [webhook] });
        let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        self.cluster.post(path, &configuration).await.expect("registered");
    }

    async fn create(&self, name: &str) -> Result<Pod, kube::Error> {
        self.cluster.api::<Pod>().create(&PostParams::default(), &pod(name)).await
    }
}

#[tokio::test]
async fn a_webhook_changes_pods_and_sees_them_complete() {
    let webhook = start().await;
    webhook.register(&webhook.bundle, json!({})).await;
    for name in ["a", "b", "c"] {
        assert_eq!(webhook.create(name).await.expect("allowed").annotations()["injected"], "true");
    }
    assert_eq!(webhook.dial.dialled.load(Ordering::SeqCst), 1, "one connection for all");
    let reviews = webhook.reviews.lock().expect("not poisoned");
    let request = &reviews[0]["request"];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["namespace"], "default");
    assert_eq!(request["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(request["object"]["spec"]["serviceAccountName"], "default");
    assert!(request["object"]["metadata"]["uid"].is_null(), "a Pod has no uid before it exists");
    let volume = request["object"]["spec"]["volumes"][0]["name"].as_str().expect("the token's volume");
    assert!(volume.starts_with("kube-api-access-"));
}

#[tokio::test]
async fn a_denial_is_worded_as_kubernetes_words_it() {
    let webhook = start().await;
    webhook.register(&webhook.bundle, json!({})).await;
    let (code, reason, message) = refusal(webhook.create("deny").await);
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert_eq!(
        message,
        "admission webhook \"injector.example.com\" denied the request: annotation x has the value \"y\""
    );
    let (code, _, message) = refusal(webhook.create("broken").await);
    assert_eq!(code, 500);
    assert!(message.contains("failed to apply the patch of webhook \"injector.example.com\""), "{message}");
}

#[tokio::test]
async fn warnings_reach_the_client() {
    let webhook = start().await;
    webhook.register(&webhook.bundle, json!({})).await;
    let request = http::Request::post("/api/v1/namespaces/default/pods")
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&pod("w")).expect("JSON").into())
        .expect("a request");
    let response = webhook.cluster.client.send(request).await.expect("an answer");
    let warning = response.headers().get("warning").expect("a warning");
    assert_eq!(warning.to_str().expect("text"), "299 - \"mind the gap\"");
}

#[tokio::test]
async fn selectors_say_who_is_asked() {
    let webhook = start().await;
    let not_labelled = json!({ "matchExpressions": [{ "key": "skip", "operator": "DoesNotExist" }] });
    webhook.register(&webhook.bundle, json!({ "namespaceSelector": not_labelled })).await;
    webhook.cluster.namespace("quiet", json!({ "skip": "yes" })).await;
    let quiet = Api::<Pod>::namespaced(webhook.cluster.client.clone(), "quiet");
    quiet.create(&PostParams::default(), &pod("deny")).await.expect("not asked");
    assert!(webhook.reviews.lock().expect("not poisoned").is_empty());
    assert_eq!(refusal(webhook.create("deny").await).0, 400);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_trusted_fails_the_request_unless_ignored() {
    let webhook = start().await;
    let stranger = KeyPair::generate().expect("a key");
    let stranger = CertificateParams::default().self_signed(&stranger).expect("signed").pem();
    webhook.register(&STANDARD.encode(stranger), json!({})).await;
    let (code, _, message) = refusal(webhook.create("a").await);
    assert_eq!(code, 500);
    let wanted = "failed calling webhook \"injector.example.com\": failed to call webhook: Post \"https://injector.default.svc:443/mutate?timeout=10s\"";
    assert!(message.contains(wanted), "{message}");

    let configurations = Api::<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration>::all(
        webhook.cluster.client.clone(),
    );
    let mut configuration = configurations.get("injector").await.expect("there");
    configuration.webhooks.as_mut().expect("one")[0].failure_policy = Some("Ignore".to_owned());
    configurations.replace("injector", &PostParams::default(), &configuration).await.expect("fresh");
    assert!(webhook.create("a").await.expect("ignored").annotations().is_empty());
}
