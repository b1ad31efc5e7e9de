//! Health and readiness, for the kubelet.

use super::Namespaces;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

/// `/healthz` is always well; `/readyz/ready` needs the Namespaces, and ends when the server is to stop.
pub(super) fn routes(namespaces: Namespaces, stopping: watch::Receiver<bool>) -> Router {
    let ready = move || {
        let answer = match (namespaces.synced(), *stopping.borrow()) {
            (_, true) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
            (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "waiting for the list of namespaces\n"),
            (true, false) => (StatusCode::OK, "ok\n"),
        };
        async move { answer }
    };
    Router::new()
        .route("/readyz", get(ready.clone()))
        .route("/readyz/ready", get(ready))
        .route("/healthz", get(async || "ok\n"))
        .route("/livez", get(async || "ok\n"))
}
