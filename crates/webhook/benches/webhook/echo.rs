//! The limit over TLS: the webhook's own server with a handler that reads the review and sends the Pod back.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::Path;
use tokio::net::TcpListener;
use webhook::server::certificates::Files;
use webhook::server::https::{self, Acceptor};
use webhook::server::{Certificates, Metrics};

/// First argument of the process that is the echo server; a directory with the certificate and a port follow.
pub(crate) const WORD: &str = "serve-echo";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize, Serialize)]
struct Request {
    uid: String,
    namespace: String,
    object: Pod,
}

async fn echo(body: Bytes) -> Result<Json<Review>, StatusCode> {
    serde_json::from_slice(&body).map(Json).map_err(|_| StatusCode::BAD_REQUEST)
}

/// Serves until the process ends, with as many threads as the webhook has.
pub(crate) fn serve(directory: &Path, port: &str) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        rustls::crypto::ring::default_provider().install_default().ok();
        let certificates = Certificates::none(Metrics::default());
        // the files do not change
        let _files = Files::load(directory, certificates.clone())?;
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
        let (_running, stopping) = tokio::sync::watch::channel(false);
        let routes = Router::new().route("/mutate", post(echo));
        https::serve(listener, Acceptor::Tls(certificates.server_config()?.into()), routes, stopping).await;
        Ok(())
    })
}
