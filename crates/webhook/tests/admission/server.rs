//! The server over TLS on the loopback, with a stand-in for the API server.

use crate::pods::{annotated, container};
use crate::reviews::{patched, review_of};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use redirect::contract::INIT_CONTAINER;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use webhook::Settings;
use webhook::server::{Namespaces, Server, server_config};

type Tested = Result<(), Box<dyn std::error::Error>>;

/// A Namespace without transparent proxy, so that a label that was overlooked is noticed.
fn labelled(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "resourceVersion": "1", "labels": {"consul.hashicorp.com/transparent-proxy": "false"},
    }})
}

/// Knows Namespace `web` by list, and `late` only when it is asked for; answers the list once `open` is true.
async fn api_server(open: watch::Receiver<bool>) -> Result<SocketAddr, std::io::Error> {
    async fn list(State(mut open): State<watch::Receiver<bool>>, uri: Uri) -> Response {
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            return Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>()).into_response();
        }
        open.wait_for(|open| *open).await.ok();
        let list = json!({"apiVersion": "v1", "kind": "NamespaceList", "metadata": {"resourceVersion": "1"}, "items": [labelled("web")]});
        Json(list).into_response()
    }
    async fn one(Path(name): Path<String>) -> Response {
        if name == "late" {
            return Json(labelled("late")).into_response();
        }
        let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404});
        (StatusCode::NOT_FOUND, Json(status)).into_response()
    }
    let routes = Router::new()
        .route("/api/v1/namespaces", get(list))
        .route("/api/v1/namespaces/{name}", get(one))
        .with_state(open);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, routes).await });
    Ok(address)
}

struct Running {
    reviews: SocketAddr,
    health: SocketAddr,
    authority: CertificateDer<'static>,
    open: watch::Sender<bool>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
    _certificates: tempfile::TempDir,
}

async fn start(open: bool) -> Result<Running, Box<dyn std::error::Error>> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("tls.crt"), certified.cert.pem())?;
    std::fs::write(directory.path().join("tls.key"), certified.signing_key.serialize_pem())?;
    let (open, opened) = watch::channel(open);
    let api = api_server(opened).await?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = kube::Client::try_from(kube::Config::new(format!("http://{api}").parse()?))?;
    let server = Server {
        reviews: TcpListener::bind("127.0.0.1:0").await?,
        health: TcpListener::bind("127.0.0.1:0").await?,
        tls: server_config(directory.path())?,
        settings: Settings::default(),
        namespaces: Namespaces::follow(client),
    };
    let (reviews, health) = (server.reviews.local_addr()?, server.health.local_addr()?);
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        stopped.await.ok();
    }));
    let authority = certified.cert.der().clone();
    Ok(Running { reviews, health, authority, open, stop, ended, _certificates: directory })
}

impl Running {
    async fn tls(
        &self,
        protocol: &str,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Box<dyn std::error::Error>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.reviews).await?;
        Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?)
    }

    /// Posts a body with HTTP/2.
    async fn post(&self, body: String) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
        let io = TokioIo::new(self.tls("h2").await?);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        let uri = "https://localhost/mutate?timeout=10s";
        let request = Request::post(uri)
            .header("content-type", "application/json")
            .body(Full::<axum::body::Bytes>::from(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?))
    }

    async fn review(&self, namespace: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let mut review = review_of(&serde_json::to_value(annotated(&[]))?);
        review["request"]["namespace"] = json!(namespace);
        let (status, body) = self.post(review.to_string()).await?;
        assert_eq!(status, StatusCode::OK, "{body}");
        Ok(serde_json::from_str(&body)?)
    }

    async fn ready(&self) -> Result<StatusCode, Box<dyn std::error::Error>> {
        let io = TokioIo::new(TcpStream::connect(self.health).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        let request = Request::get("/readyz/ready").header("host", "localhost").body(String::new())?;
        Ok(sender.send_request(request).await?.status())
    }

    async fn becomes(&self, wanted: StatusCode) -> Tested {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let seen = self.ready().await?;
            if seen == wanted {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "readiness stays {seen}, {wanted} was awaited");
            tokio::task::yield_now().await;
        }
    }
}

/// Whether the answer injects and obeys the Namespace's label.
fn obeys_the_label(answer: &Value) -> Tested {
    let after: Pod = serde_json::from_value(patched(&serde_json::to_value(annotated(&[]))?, answer)?)?;
    let context = container(&after, INIT_CONTAINER).security_context.clone().unwrap_or_default();
    assert_eq!(context.run_as_user, None, "the namespace's label turns transparent proxy off");
    Ok(())
}

#[tokio::test]
async fn a_review_over_tls() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    obeys_the_label(&server.review("web").await?)
}

#[tokio::test]
async fn a_namespace_that_the_watch_does_not_know_is_asked_for() -> Tested {
    let server = start(false).await?;
    assert_eq!(server.ready().await?, StatusCode::SERVICE_UNAVAILABLE);
    obeys_the_label(&server.review("late").await?)?;
    server.open.send_replace(true);
    server.becomes(StatusCode::OK).await?;
    obeys_the_label(&server.review("late").await?)
}

#[tokio::test]
async fn a_namespace_that_nobody_knows_is_a_failure() -> Tested {
    let server = start(true).await?;
    let answer = server.review("nowhere").await?;
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(answer["response"]["status"]["code"], 500);
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("error getting namespace metadata") && message.contains("nowhere"), "{message}");
    Ok(())
}

#[tokio::test]
async fn nonsense_leaves_it_serving() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    for body in [String::new(), "{".to_owned(), "[".repeat(100_000)] {
        let (status, text) = server.post(body).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    }
    let (status, _) = server.post(" ".repeat(9 * 1024 * 1024)).await?;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    obeys_the_label(&server.review("web").await?)
}

#[tokio::test]
async fn a_request_under_way_is_finished() -> Tested {
    let server = start(true).await?;
    server.becomes(StatusCode::OK).await?;
    let io = TokioIo::new(server.tls("http/1.1").await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    // The head is sent with half of the body, then the server is told to stop, then the rest follows.
    let body = review_of(&serde_json::to_value(annotated(&[]))?).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let (halves, rest) = tokio::sync::mpsc::unbounded_channel::<Result<String, std::io::Error>>();
    halves.send(Ok(first.to_owned()))?;
    let stream = futures::stream::unfold(rest, async |mut rest| Some((rest.recv().await?, rest)));
    let request = Request::post("/mutate").header("host", "localhost").body(Body::from_stream(stream))?;
    let response = tokio::spawn(sender.send_request(request));
    // Another connection sees the request's predecessor answered, so the head above has been read by then.
    obeys_the_label(&server.review("web").await?)?;
    let Running { stop, ended, reviews, .. } = server;
    stop.send(()).map_err(|()| "the server is gone")?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(reviews).await.is_ok() {
        assert!(Instant::now() < deadline, "the server still accepts connections");
        tokio::task::yield_now().await;
    }
    halves.send(Ok(second.to_owned()))?;
    drop(halves);
    let answer = response.await??;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?;
    assert_eq!(answer["response"]["allowed"], true);
    tokio::time::timeout(Duration::from_secs(5), ended).await??;
    Ok(())
}
