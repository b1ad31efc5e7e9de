//! A running server, with a stand-in for the API server, and clients for it.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webhook::Settings;
use webhook::server::{CertificateError, Certificates, Metrics, Server, Watches};

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Tested = Result<(), Failure>;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A Pod that wants to be injected.
pub(crate) fn pod() -> Value {
    json!({
        "metadata": {"name": "app", "labels": {"app": "app"}, "annotations": {"consul.hashicorp.com/connect-inject": "true"}},
        "spec": {"containers": [{"name": "app", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

/// A review of this object.
pub(crate) fn review_of(object: &Value, namespace: &str) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "namespace": namespace,
        "operation": "CREATE",
        "object": object,
    }})
}

/// The object after the patch of this answer.
pub(crate) fn patched(object: &Value, answer: &Value) -> Result<Value, Failure> {
    let text = answer["response"]["patch"].as_str().ok_or_else(|| format!("no patch in {answer}"))?;
    let patch: json_patch::Patch = serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(text)?)?;
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch)?;
    Ok(object)
}

/// A Namespace without transparent proxy, so that a label that was overlooked is noticed.
fn labelled(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "resourceVersion": "1", "labels": {"consul.hashicorp.com/transparent-proxy": "false"},
    }})
}

/// Knows Namespace `web` by list, and `late` only when it is asked for; answers the list once `open` is true. Two Services
/// select the Pod, and the mesh has no kinds.
async fn api_server(open: watch::Receiver<bool>) -> Result<SocketAddr, std::io::Error> {
    async fn list(State(mut open): State<watch::Receiver<bool>>, uri: Uri) -> Response {
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            return Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>()).into_response();
        }
        open.wait_for(|open| *open).await.ok();
        let service = |name: &str, app: &str| json!({"metadata": {"name": name, "namespace": "web", "resourceVersion": "1"}, "spec": {"selector": {"app": app}}});
        let (kind, items) = match uri.path() {
            "/api/v1/services" => {
                ("ServiceList", vec![service("b", "app"), service("a", "app"), service("c", "other")])
            }
            _ => ("NamespaceList", vec![labelled("web")]),
        };
        Json(json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}))
            .into_response()
    }
    async fn one(Path(name): Path<String>) -> Response {
        if name == "late" {
            return Json(labelled("late")).into_response();
        }
        nothing().await
    }
    async fn nothing() -> Response {
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404});
        (StatusCode::NOT_FOUND, Json(status)).into_response()
    }
    let routes = Router::new()
        .route("/api/v1/namespaces", get(list))
        .route("/api/v1/services", get(list))
        .route("/api/v1/namespaces/{name}", get(one))
        .fallback(nothing)
        .with_state(open);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, routes).await });
    Ok(address)
}

pub(crate) struct Running {
    pub(crate) reviews: SocketAddr,
    health: SocketAddr,
    numbers: SocketAddr,
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) certificates: Certificates,
    pub(crate) open: watch::Sender<bool>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<Result<(), CertificateError>>,
}

pub(crate) async fn start(open: bool) -> Result<Running, Failure> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let metrics = Metrics::default();
    let certificates = Certificates::none(metrics.clone());
    let (chain, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    certificates.install(chain.as_bytes(), key.as_bytes(), "the test")?;
    let (open, opened) = watch::channel(open);
    let api = api_server(opened).await?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = kube::Client::try_from(kube::Config::new(format!("http://{api}").parse()?))?;
    let server = server(client, certificates.clone(), metrics).await?;
    let addresses = (server.reviews.local_addr()?, server.health.local_addr()?, server.numbers.local_addr()?);
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        stopped.await.ok();
    }));
    let authority = certified.cert.der().clone();
    let (reviews, health, numbers) = addresses;
    Ok(Running { reviews, health, numbers, authority, certificates, open, stop, ended })
}

/// A server on free ports of the loopback.
pub(crate) async fn server(
    client: kube::Client,
    certificates: Certificates,
    metrics: Metrics,
) -> Result<Server, std::io::Error> {
    Ok(Server {
        reviews: TcpListener::bind("127.0.0.1:0").await?,
        health: TcpListener::bind("127.0.0.1:0").await?,
        numbers: TcpListener::bind("127.0.0.1:0").await?,
        certificates,
        settings: Settings::default(),
        watches: Watches::follow(client, metrics.clone(), &Settings::default()),
        metrics,
        linger: Duration::ZERO,
    })
}

/// Connects with TLS, trusting only this authority.
pub(crate) async fn tls(
    peer: SocketAddr,
    name: &str,
    authority: CertificateDer<'static>,
    protocol: &str,
) -> Result<TlsStream<TcpStream>, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority)?;
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(peer).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned())?, stream).await?)
}

impl Running {
    pub(crate) async fn tls(&self, protocol: &str) -> Result<TlsStream<TcpStream>, Failure> {
        tls(self.reviews, "localhost", self.authority.clone(), protocol).await
    }

    /// Posts a body with HTTP/2.
    pub(crate) async fn post(&self, body: impl Into<axum::body::Bytes>) -> Result<(StatusCode, String), Failure> {
        let io = TokioIo::new(self.tls("h2").await?);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        let uri = "https://localhost/mutate?timeout=10s";
        let request = Request::post(uri).header("content-type", "application/json").body(Full::new(body.into()))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?))
    }

    pub(crate) async fn review(&self, namespace: &str) -> Result<Value, Failure> {
        let (status, body) = self.post(review_of(&pod(), namespace).to_string()).await?;
        assert_eq!(status, StatusCode::OK, "{body}");
        Ok(serde_json::from_str(&body)?)
    }

    pub(crate) async fn ready(&self) -> Result<(StatusCode, String), Failure> {
        plain(self.health, "/readyz/ready").await
    }

    pub(crate) async fn numbers(&self) -> Result<String, Failure> {
        Ok(plain(self.numbers, "/metrics").await?.1)
    }

    pub(crate) async fn becomes(&self, wanted: StatusCode) -> Tested {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (seen, why) = self.ready().await?;
            if seen == wanted {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "readiness stays {seen} ({why}), {wanted} was awaited");
            tokio::task::yield_now().await;
        }
    }
}

/// GET without TLS.
async fn plain(peer: SocketAddr, path: &str) -> Result<(StatusCode, String), Failure> {
    let io = TokioIo::new(TcpStream::connect(peer).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let response = sender.send_request(Request::get(path).header("host", "localhost").body(String::new())?).await?;
    let status = response.status();
    Ok((status, String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?))
}
