//! Health and readiness for the kubelet, and numbers for Prometheus.

use super::Watches;
use super::certificates::Certificates;
use super::metrics::Metrics;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::sync::watch;

/// `/healthz` is always well; `/readyz/ready` needs a certificate and what is followed, and ends when the server is to stop.
pub(super) fn routes(watches: Watches, certificates: Certificates, stopping: watch::Receiver<bool>) -> Router {
    let ready = move || {
        let awaited = || {
            let waiting = watches.waiting();
            if !waiting.is_empty() {
                return Some(format!("waiting for the list of {}\n", waiting.join(", ")));
            }
            certificates.waiting().map(|why| format!("waiting for a certificate: {why}\n"))
        };
        let answer = if *stopping.borrow() {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
        } else if let Some(why) = awaited() {
            (StatusCode::SERVICE_UNAVAILABLE, why)
        } else {
            (StatusCode::OK, "ok\n".to_owned())
        };
        async move { answer }
    };
    Router::new()
        .route("/readyz", get(ready.clone()))
        .route("/readyz/ready", get(ready))
        .route("/healthz", get(async || "ok\n"))
        .route("/livez", get(async || "ok\n"))
}

/// `/metrics`.
pub(super) fn metrics(metrics: Metrics) -> Router {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Router::new().route("/metrics", get(async move || ([(CONTENT_TYPE, FORMAT)], metrics.text())))
}
