//! HTTPS to webhooks: where they are, TLS as their configuration says, and connections kept for the next call.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use crate::Dial;
use crate::api::store::Store;

/// An answer is an AdmissionReview with a patch; more than this is no answer.
const LIMIT: usize = 8 * 1024 * 1024;

/// Why a webhook could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Address(String),
    #[error("the caBundle is no PEM certificate: {0}")]
    Bundle(String),
    #[error("Post \"{url}\": {why}")]
    Post { url: String, why: String },
}

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    peer: SocketAddr,
    /// Name in the certificate.
    name: String,
    path: String,
    bundle: String,
    /// The endpoints behind the address when it was looked up: a connection to others of them is not reused.
    generation: u64,
}

type Sender = SendRequest<Full<Bytes>>;

/// Calls webhooks.
pub(crate) struct WebhookClient {
    dial: Arc<dyn Dial>,
    tls: Mutex<HashMap<String, Arc<rustls::ClientConfig>>>,
    idle: Mutex<HashMap<Target, Vec<Sender>>>,
}

impl WebhookClient {
    pub(crate) fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, tls: Mutex::default(), idle: Mutex::default() }
    }

    /// Posts a review and gives back the answer's bytes.
    pub(super) async fn call(
        &self,
        store: &Store,
        client_config: &Value,
        review: &Value,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let target = locate(store, client_config)?;
        let url =
            format!("https://{}:{}{}?timeout={}s", target.name, target.peer.port(), target.path, timeout.as_secs());
        let tls = self.tls(&target.bundle)?;
        let body = Bytes::from(review.to_string());
        let answer = tokio::time::timeout(timeout, self.exchange(&target, tls, &url, body)).await;
        match answer {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(why)) => Err(CallError::Post { url, why }),
            Err(_) => Err(CallError::Post { url, why: "context deadline exceeded".to_owned() }),
        }
    }

    async fn exchange(
        &self,
        target: &Target,
        tls: Arc<rustls::ClientConfig>,
        url: &str,
        body: Bytes,
    ) -> Result<Bytes, String> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(target).and_then(Vec::pop);
            let reused = kept.is_some();
            let mut sender = match kept {
                Some(sender) if sender.is_closed() => continue,
                Some(sender) => sender,
                None => self.connect(target, tls.clone()).await?,
            };
            match post(&mut sender, target, url, body.clone()).await {
                Ok(bytes) => {
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    idle.entry(target.clone()).or_default().push(sender);
                    return Ok(bytes);
                }
                // The peer had closed it while it lay idle.
                Err(_) if reused => {}
                Err(why) => return Err(why),
            }
        }
    }

    async fn connect(&self, target: &Target, tls: Arc<rustls::ClientConfig>) -> Result<Sender, String> {
        let stream = self.dial.dial(target.peer).await.map_err(|error| format!("dial tcp {}: {error}", target.peer))?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from(target.name.clone()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(|error: io::Error| format!("tls: failed to verify certificate: {error}"))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn tls(&self, bundle: &str) -> Result<Arc<rustls::ClientConfig>, CallError> {
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(bundle) {
            return Ok(config.clone());
        }
        let wrong = |error: &dyn std::fmt::Display| CallError::Bundle(error.to_string());
        let pem = STANDARD.decode(bundle).map_err(|error| wrong(&error))?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| wrong(&error))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        known.insert(bundle.to_owned(), config.clone());
        Ok(config)
    }
}

async fn post(sender: &mut Sender, target: &Target, url: &str, body: Bytes) -> Result<Bytes, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let path = url.find(&target.path).map_or("/", |at| &url[at..]);
    let request = Request::post(path)
        .header(HOST, format!("{}:{}", target.name, target.peer.port()))
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(Full::new(body))
        .map_err(|error| text(&error))?;
    sender.ready().await.map_err(|error| text(&error))?;
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    let status = response.status();
    let bytes = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| text(&error))?.to_bytes();
    if status != StatusCode::OK {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        return Err(format!("an error on the server ({shown:?}) has prevented the request from succeeding: {status}"));
    }
    Ok(bytes)
}

fn locate(store: &Store, config: &Value) -> Result<Target, CallError> {
    let bundle = config["caBundle"].as_str().unwrap_or_default().to_owned();
    if let Some(url) = config["url"].as_str() {
        return locate_url(url, bundle);
    }
    let text = |key: &str| config["service"][key].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let service = store
        .get("services", namespace, name)
        .ok_or_else(|| CallError::Address(format!("service \"{name}\" not found")))?;
    let ip: IpAddr = service.value["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok()).ok_or_else(|| {
        CallError::Address(format!(
            "service \"{namespace}/{name}\" has no ClusterIP, so webhooks behind it are out of reach"
        ))
    })?;
    let port = config["service"]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
    let (_, slices) = store.list("endpointslices.discovery.k8s.io", Some(namespace));
    let of_service = slices.iter().filter(|s| s.value["metadata"]["labels"]["kubernetes.io/service-name"] == name);
    Ok(Target {
        peer: SocketAddr::new(ip, port),
        name: format!("{name}.{namespace}.svc"),
        path: slashed(text("path")),
        bundle,
        generation: of_service.map(|slice| slice.version()).max().unwrap_or_default(),
    })
}

fn slashed(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A URL with an address in it: the server has no resolver of its own.
fn locate_url(url: &str, bundle: String) -> Result<Target, CallError> {
    let wrong = || {
        CallError::Address(format!(
            "webhook URL {url:?} must be https://ADDRESS[:PORT]/PATH with an IP address or localhost"
        ))
    };
    let parsed: http::Uri = url.parse().map_err(|_| wrong())?;
    let host = parsed.host().unwrap_or_default().trim_matches(['[', ']']);
    let ip = if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse::<IpAddr>().ok() };
    let ip = ip.filter(|_| parsed.scheme_str() == Some("https")).ok_or_else(wrong)?;
    Ok(Target {
        peer: SocketAddr::new(ip, parsed.port_u16().unwrap_or(443)),
        name: host.to_owned(),
        path: slashed(parsed.path()),
        bundle,
        generation: 0,
    })
}
