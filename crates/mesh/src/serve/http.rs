//! Consul's HTTP API, as far as init containers and operators read it, with blocking queries.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};

use super::Shared;
use super::caller::{self, Caller};
use crate::filter::Filter;
use crate::go;
use crate::world::World;

mod catalog;
mod config;
mod health;
mod intentions;
pub(crate) mod query;
mod roots;

/// How long a blocking query waits when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
/// How long it may wait.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The routes. What only an agent answers is not among them.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/v1/catalog/datacenters", get(catalog::datacenters))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/node/{node}", get(catalog::node))
        .route("/v1/catalog/node-services/{node}", get(catalog::node_services))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/{name}", get(catalog::service))
        .route("/v1/catalog/connect/{name}", get(catalog::connect))
        .route("/v1/health/node/{node}", get(health::node))
        .route("/v1/health/checks/{name}", get(health::checks))
        .route("/v1/health/state/{state}", get(health::state))
        .route("/v1/health/service/{name}", get(health::service))
        .route("/v1/health/connect/{name}", get(health::connect))
        .route("/v1/config/{kind}", get(config::list))
        .route("/v1/config/{kind}/{name}", get(config::entry))
        .route("/v1/connect/intentions", get(intentions::list))
        .route("/v1/connect/intentions/exact", get(intentions::exact))
        .route("/v1/connect/intentions/check", get(intentions::check))
        .route("/v1/connect/intentions/match", get(intentions::matching))
        .route("/v1/connect/ca/roots", get(roots::roots))
        .route("/v1/status/leader", get(|| async { axum::Json("127.0.0.1:8300") }))
        .route("/v1/status/peers", get(|| async { axum::Json(["127.0.0.1:8300"]) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "Invalid URL path: not a recognized HTTP API endpoint") })
        .with_state(shared.clone());
    caller::known(router, shared)
}

/// The parameters of a query, of which some may come several times, and who asks.
struct Parameters {
    query: Vec<(String, String)>,
    caller: Caller,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let query = Query::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
        let Query(query) = query;
        let caller = Extension::<Caller>::from_request_parts(parts, state).await;
        let Extension(caller) = caller.map_err(IntoResponse::into_response)?;
        Ok(Self { query, caller })
    }
}

/// A refusal: its status and its text.
type Refusal = (StatusCode, String);

type Answer = Result<Response, Refusal>;

/// An error unless the caller may read services: for what Consul refuses, and does not merely leave out.
fn must_read(query: &Parameters, permission: &str, of: &str) -> Result<(), Refusal> {
    let rights = &query.caller.rights;
    if rights.reads() { Ok(()) } else { Err((StatusCode::FORBIDDEN, rights.lacking(permission, of))) }
}

fn bad(text: impl Into<String>) -> Refusal {
    (StatusCode::BAD_REQUEST, text.into())
}

fn parameter<'a>(query: &'a Parameters, name: &str) -> Option<&'a str> {
    query.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// A parameter that must be there.
fn required<'a>(query: &'a Parameters, name: &str) -> Result<&'a str, Refusal> {
    let value = parameter(query, name).filter(|value| !value.is_empty());
    value.ok_or_else(|| bad(format!("required query parameter '{name}' not set")))
}

/// Whether a switch is on: it is there, and does not say that it is off.
fn switch(query: &Parameters, name: &str) -> Result<bool, Refusal> {
    match parameter(query, name) {
        None => Ok(false),
        Some("") => Ok(true),
        Some(text) => go::bool(text).ok_or_else(|| bad(format!("Invalid value for ?{name}"))),
    }
}

/// Waits as the query demands, then answers with the world that is there.
async fn answer(shared: &Shared, query: &Parameters, body: impl Fn(&World, &Filter) -> Value) -> Answer {
    try_answer(shared, query, |world, filter| Ok(body(world, filter))).await
}

/// As [`answer`], for what may not be there.
async fn try_answer(
    shared: &Shared,
    query: &Parameters,
    body: impl Fn(&World, &Filter) -> Result<Value, Refusal>,
) -> Answer {
    let filter = Filter::parse(parameter(query, "filter").unwrap_or_default()).map_err(|e| bad(e.to_string()))?;
    let wait = match parameter(query, "wait") {
        Some(text) => go::duration(text).ok_or_else(|| bad(format!("Invalid wait time {text:?}")))?,
        None => DEFAULT_WAIT,
    };
    let index = match parameter(query, "index") {
        Some(text) => text.parse::<u64>().map_err(|_| bad(format!("Invalid index {text:?}")))?,
        None => 0,
    };
    let mut worlds = shared.worlds();
    if let Some(other) = parameter(query, "dc").filter(|dc| !dc.is_empty())
        && other != worlds.borrow().names.datacenter()
    {
        return Err((StatusCode::INTERNAL_SERVER_ERROR, "No path to datacenter".to_owned()));
    }
    if index > 0 {
        // an index of servers whose clock was ahead is above ours and must not wait for ever
        let newer = worlds.wait_for(|w| w.index > index || w.index < index.saturating_sub(1));
        let _ = tokio::time::timeout(wait.min(MAX_WAIT), newer).await;
    }
    drop(worlds);
    let world = shared.world_for(&query.caller.rights);
    let mut response = match body(&world, &filter) {
        Ok(body) => axum::Json(body).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert("X-Consul-Index", HeaderValue::from(world.index));
    headers.insert("X-Consul-Knownleader", HeaderValue::from_static("true"));
    headers.insert("X-Consul-Lastcontact", HeaderValue::from_static("0"));
    Ok(response)
}

/// The entries that the filter of the query accepts.
fn filtered(entries: impl IntoIterator<Item = Value>, filter: &Filter) -> Value {
    json!(entries.into_iter().filter(|entry| filter.accepts(entry)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
