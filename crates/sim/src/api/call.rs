//! One request for a resource: who asks for what, and how the answer is put.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;

use super::auth::User;
use super::cluster::Cluster;
use super::kinds::Kind;
use super::status::{ApiError, Result};
use super::store::Stored;

/// A parsed request.
pub(crate) struct Call {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) user: User,
    pub(crate) kind: Arc<Kind>,
    /// Absent for cluster-scoped kinds and for reads of all namespaces.
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    query: Vec<(String, String)>,
    warnings: Mutex<Vec<String>>,
}

impl Call {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        user: User,
        kind: Arc<Kind>,
        namespace: Option<String>,
        name: Option<String>,
        subresource: Option<String>,
        query: Vec<(String, String)>,
    ) -> Self {
        Self { cluster, user, kind, namespace, name, subresource, query, warnings: Mutex::default() }
    }

    /// The same request for another object of the collection.
    pub(crate) fn for_object(&self, namespace: &str, name: &str) -> Self {
        let namespace = self.kind.namespaced.then(|| namespace.to_owned());
        let (cluster, user, kind) = (self.cluster.clone(), self.user.clone(), self.kind.clone());
        Self::new(cluster, user, kind, namespace, Some(name.to_owned()), None, self.query.clone())
    }

    /// The namespace as the store has it: empty for what is in none.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn param(&self, key: &str) -> Option<&str> {
        let mut values = self.query.iter().filter(|(found, _)| found == key);
        values.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn params<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// A boolean parameter, as Go reads it.
    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.param(key), Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.params("dryRun").any(|value| value == "All")
    }

    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(text.into());
    }

    /// Adds what was warned of to an answer.
    pub(crate) fn with_warnings(&self, mut response: Response) -> Response {
        for text in self.warnings.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let text = text.replace(['\\', '"'], "'").replace(['\n', '\r'], " ");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
                response.headers_mut().append(HeaderName::from_static("warning"), value);
            }
        }
        response
    }

    /// The object that the request names.
    pub(crate) fn current(&self) -> Result<Arc<Stored>> {
        self.cluster.store.get(&self.kind.shelf, self.namespace(), self.name()).ok_or_else(|| self.not_found())
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.kind.group, &self.kind.plural, self.name())
    }

    pub(crate) fn forbidden(&self, name: &str, why: &str) -> ApiError {
        ApiError::forbidden(&self.kind.group, &self.kind.plural, name, why)
    }

    /// An object as this caller is shown it.
    pub(crate) fn json(&self, object: &Stored) -> Bytes {
        match self.cluster.shown(&self.user, &self.kind, &object.value) {
            Some(edited) => edited.to_string().into(),
            None => object.json(),
        }
    }

    pub(crate) fn reply(&self, code: StatusCode, object: &Stored) -> Response {
        json_response(code, self.json(object))
    }
}

/// A response with a JSON body.
pub(crate) fn json_response(code: StatusCode, json: impl Into<axum::body::Body>) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], json.into()).into_response()
}

/// A response with an object that is stored nowhere.
pub(crate) fn value_response(code: StatusCode, value: &Value) -> Response {
    json_response(code, value.to_string())
}
