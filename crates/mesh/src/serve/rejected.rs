//! Takes notice of what proxies refused.

use std::sync::{Arc, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::Shared;
use crate::feed::{REJECTED_PATH, Rejected};

/// The route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route(&format!("{REJECTED_PATH}{{id}}"), post(take)).with_state(shared)
}

async fn take(State(shared): State<Arc<Shared>>, Path(id): Path<String>, Json(rejected): Json<Rejected>) -> StatusCode {
    tracing::error!(proxy = id, section = rejected.section, name = rejected.name, "envoy refused the configuration");
    shared.rejected.lock().unwrap_or_else(PoisonError::into_inner).push((id, rejected));
    StatusCode::NO_CONTENT
}
