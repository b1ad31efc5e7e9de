//! As much of an API server as the webhook's watches ask for.

use axum::body::Body;
use axum::extract::Path;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// How many Namespaces and Services the cluster has.
const OBJECTS: usize = 200;

/// Lists of Namespaces and Services, empty lists of the mesh's kinds, and watches in which nothing happens.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/api/v1/namespaces", get(|uri: Uri| async move { list(&uri, "NamespaceList", namespaces()) }))
        .route("/api/v1/services", get(|uri: Uri| async move { list(&uri, "ServiceList", services()) }))
        .route(
            "/apis/consul.hashicorp.com/v1alpha1/{plural}",
            get(|_: Path<String>, uri: Uri| async move { list(&uri, "List", Vec::new()) }),
        )
}

fn list(uri: &Uri, kind: &str, items: Vec<Value>) -> Response {
    if uri.query().is_some_and(|query| query.contains("watch=true")) {
        return Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>()).into_response();
    }
    Json(json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items}))
        .into_response()
}

fn namespaces() -> Vec<Value> {
    let name = |n| if n == 0 { "default".to_owned() } else { format!("team-{n}") };
    (0..OBJECTS).map(|n| json!({"metadata": {"name": name(n), "resourceVersion": "1"}})).collect()
}

fn services() -> Vec<Value> {
    let service = |n: usize| {
        let app = if n == 0 { "application".to_owned() } else { format!("application-{n}") };
        json!({"metadata": {"name": app, "namespace": "default", "resourceVersion": "1"}, "spec": {"selector": {"app": app}}})
    };
    (0..OBJECTS).map(service).collect()
}
