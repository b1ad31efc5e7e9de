//! A Kubernetes API that is just large enough for watches, for tests of the mesh alone.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) mod bed;
mod objects;

pub(crate) use objects::*;

/// Objects by plural name, and what happened to them.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

struct Inner {
    objects: Mutex<Objects>,
    changed: watch::Sender<usize>,
}

#[derive(Default)]
struct Objects {
    now: BTreeMap<(String, String, String), Value>,
    log: Vec<(String, Value)>,
}

impl Api {
    /// An empty cluster that knows the kinds of group `consul.hashicorp.com` named.
    pub(crate) fn new(kinds: &[&str]) -> Self {
        let api = Self(Arc::new(Inner { objects: Mutex::default(), changed: watch::Sender::new(0) }));
        for kind in kinds {
            let plural = kind.to_lowercase();
            api.apply(
                "customresourcedefinitions",
                json!({
                    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                    "metadata": {"name": format!("{plural}.consul.hashicorp.com")},
                    "spec": {
                        "group": "consul.hashicorp.com", "scope": "Namespaced",
                        "names": {"kind": kind, "plural": plural},
                        "versions": [{"name": "v1alpha1", "served": true, "storage": true}],
                    },
                }),
            );
        }
        api
    }

    /// Creates or replaces an object.
    pub(crate) fn apply(&self, plural: &str, mut object: Value) {
        let mut objects = self.0.objects.lock().unwrap_or_else(PoisonError::into_inner);
        object["metadata"]["resourceVersion"] = json!((objects.log.len() + 1).to_string());
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), text("namespace"), text("name"));
        object["metadata"]["uid"] = json!(format!("{}-{}-{}", key.0, key.1, key.2));
        let kind = if objects.now.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        objects.log.push((plural.to_owned(), json!({"type": kind, "object": object})));
        self.0.changed.send_replace(objects.log.len());
    }

    /// An in-process client.
    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    /// What answers.
    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    fn list(&self, plural: &str) -> (usize, Vec<Value>) {
        let objects = self.0.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let found = objects.now.iter().filter(|((p, _, _), _)| p == plural).map(|(_, o)| o.clone()).collect();
        (objects.log.len(), found)
    }

    fn events(&self, plural: &str, after: usize) -> (usize, Vec<Value>) {
        let objects = self.0.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let news = objects.log.iter().skip(after).filter(|(p, _)| p == plural).map(|(_, e)| e.clone()).collect();
        (objects.log.len(), news)
    }
}

async fn answer(State(api): State<Api>, Query(query): Query<BTreeMap<String, String>>, request: Request) -> Response {
    let path = request.uri().path();
    if request.method() == http::Method::POST && path.ends_with("/tokenreviews") {
        return review(request.into_body()).await;
    }
    if request.method() != http::Method::GET {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Some((_, account)) = path.split_once("/serviceaccounts/") {
        let metadata = json!({"name": account, "namespace": "default"});
        return axum::Json(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).into_response();
    }
    let plural = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    if !query.contains_key("watch") {
        let (version, items) = api.list(&plural);
        let list = json!({
            "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version.to_string()}, "items": items,
        });
        return axum::Json(list).into_response();
    }
    let after = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or_default();
    let changed = api.0.changed.subscribe();
    let lines =
        futures::stream::unfold((api, changed, after, plural), |(api, mut changed, after, plural)| async move {
            loop {
                changed.borrow_and_update();
                let (version, events) = api.events(&plural, after);
                if !events.is_empty() {
                    let lines: String = events.iter().map(|e| format!("{e}\n")).collect();
                    return Some((Bytes::from(lines), (api, changed, version, plural)));
                }
                changed.changed().await.ok()?;
            }
        });
    Body::from_stream(lines.map(Ok::<_, Infallible>)).into_response()
}

/// The token of a service account in namespace `default`, as far as this cluster is concerned.
pub(crate) fn token_of(account: &str) -> String {
    format!("token of {account}")
}

/// Says whose a token is.
async fn review(body: Body) -> Response {
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    review["status"] = match token.strip_prefix(&token_of("")) {
        Some(account) => {
            json!({"authenticated": true, "user": {"username": format!("system:serviceaccount:default:{account}")}})
        }
        None => json!({"authenticated": false, "error": "invalid bearer token"}),
    };
    axum::Json(review).into_response()
}

/// A custom resource.
pub(crate) fn resource(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}
