//! The control plane as this program asks it, over plain HTTP.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Builder;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mesh::feed::{DNS_PATH, PROXY_PATH, REJECTED_PATH, Rejected, Update};

use crate::credential::Token;
use crate::settings::Settings;

/// How long the server may hold a question.
const HOLD: Duration = Duration::from_secs(60);
/// How long an answer may take beyond that.
const MARGIN: Duration = Duration::from_secs(10);

/// The server is there and does not want to answer this proxy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Denied(String);

/// A client of one server; cheap to clone.
#[derive(Clone)]
pub(crate) struct Control {
    client: Client<HttpConnector, Full<Bytes>>,
    server: String,
    token: Option<Token>,
    /// What says in which partition everything is that is asked for: `&partition=ap1`.
    partition: String,
}

impl Control {
    /// For the servers, and the partition of the proxy.
    pub(crate) fn of(settings: &Settings) -> Self {
        let partition = settings.partition.iter().map(|name| format!("&partition={name}")).collect();
        Self { partition, ..Self::new(settings.server()) }
    }

    /// For a server at `host:port`.
    pub(crate) fn new(server: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            server,
            token: None,
            partition: String::new(),
        }
    }

    /// The same, which shows a token with every request.
    pub(crate) fn showing(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// For the admin interface of the Envoy beside.
    pub(crate) fn admin(settings: &Settings) -> Self {
        Self::new(std::net::SocketAddr::new(settings.admin_address, settings.admin_port).to_string())
    }

    /// What changed for a proxy since `index`; nothing when that was nothing for a minute.
    pub(crate) async fn update(&self, node: Option<&str>, id: &str, index: u64) -> anyhow::Result<Option<Update>> {
        let node = node.map(|n| format!("&node={n}")).unwrap_or_default();
        let partition = &self.partition;
        let path = format!("{PROXY_PATH}{id}?index={index}&wait={}s{node}{partition}", HOLD.as_secs());
        let (status, body) = tokio::time::timeout(HOLD + MARGIN, self.send(Method::GET, &path, Bytes::new()))
            .await
            .context("the server holds the question too long")??;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map(Some).context("the server's answer is no update"),
            StatusCode::NOT_MODIFIED => Ok(None),
            status => bail!("{status}: {}", String::from_utf8_lossy(&body)),
        }
    }

    /// Says that Envoy refused a part of its configuration.
    pub(crate) async fn rejected(&self, id: &str, rejected: &Rejected) -> anyhow::Result<()> {
        let body = serde_json::to_vec(rejected)?.into();
        let request = Request::post(self.uri(&format!("{REJECTED_PATH}{id}?{}", self.partition)))
            .header(CONTENT_TYPE, "application/json");
        let (status, _) = self.ask(request, body).await?;
        ensure!(status.is_success(), "{status}");
        Ok(())
    }

    /// The answer to a DNS message; [`Denied`] where the server has none for this proxy.
    pub(crate) async fn dns(&self, message: Vec<u8>, protocol: &str) -> anyhow::Result<Bytes> {
        let path = format!("{DNS_PATH}?protocol={protocol}{}", self.partition);
        let (status, body) = self.send(Method::POST, &path, message.into()).await?;
        let said = || format!("{status}: {}", String::from_utf8_lossy(&body));
        ensure!(!status.is_client_error(), Denied(said()));
        ensure!(status.is_success(), said());
        Ok(body)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        self.ask(Request::builder().method(method).uri(self.uri(path)), body).await
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.server)
    }

    async fn ask(&self, mut request: Builder, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        if let Some(Token(token)) = &self.token {
            request = request.header("X-Consul-Token", token);
        }
        let request = request.body(Full::new(body))?;
        let response = self.client.request(request).await.with_context(|| format!("ask {}", self.server))?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
