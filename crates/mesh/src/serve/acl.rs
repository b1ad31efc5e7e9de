//! `/v1/acl`: logging in and out, on the HTTP port for init containers and on that of the feed, where Consul has gRPC, for proxies.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;

use super::Shared;
use super::caller::secret;
use crate::acl::{Acls, LoginError, LogoutError};

type Refusal = (StatusCode, String);

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/acl/login", post(log_in))
        .route("/v1/acl/logout", post(log_out))
        .route("/v1/acl/token/self", get(own))
        .with_state(shared)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Login {
    auth_method: String,
    bearer_token: String,
    #[serde(default)]
    meta: Option<std::collections::BTreeMap<String, String>>,
}

fn acls(shared: &Shared) -> Result<&Acls, Refusal> {
    shared.acls().ok_or_else(|| (StatusCode::UNAUTHORIZED, "ACL support disabled".to_owned()))
}

async fn log_in(State(shared): State<Arc<Shared>>, body: String) -> Result<Json<Value>, Refusal> {
    let acls = acls(&shared)?;
    // what is wrong with it is said, and not what it holds
    let read: Login = serde_json::from_str(&body)
        .map_err(|e| (StatusCode::BAD_REQUEST, format!("Failed to decode request body at column {}", e.column())))?;
    let Login { auth_method, bearer_token, meta } = read;
    let token = acls.log_in(&auth_method, &bearer_token, &meta.unwrap_or_default()).await.map_err(|error| {
        let status = match error {
            LoginError::Method(_) | LoginError::Unbound => StatusCode::FORBIDDEN,
            LoginError::Lookup(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, error.to_string())
    })?;
    Ok(Json(token.json()))
}

async fn log_out(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<bool>, Refusal> {
    acls(&shared)?
        .log_out(secret(&headers, None).as_deref())
        .map_err(|error: LogoutError| (StatusCode::FORBIDDEN, error.to_string()))?;
    Ok(Json(true))
}

async fn own(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let token = acls(&shared)?.token(secret(&headers, None).as_deref());
    token.map(|token| Json(token.json())).map_err(|error| (StatusCode::FORBIDDEN, error.to_string()))
}

#[cfg(test)]
mod tests;
