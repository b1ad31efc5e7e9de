//! Takes notice of what proxies refused.

use std::sync::{Arc, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Extension, Json, Router};

use super::Shared;
use super::caller::{self, Caller};
use crate::feed::{REJECTED_PATH, Rejected};

/// The route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new().route(&format!("{REJECTED_PATH}{{id}}"), post(take)).with_state(shared.clone());
    caller::known(router, shared)
}

async fn take(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(rejected): Json<Rejected>,
) -> Result<StatusCode, (StatusCode, String)> {
    if let Some(instance) = shared.world().catalog.proxy(None, &id) {
        caller.must_write(&shared, &instance.service)?;
    }
    tracing::error!(proxy = id, section = rejected.section, name = rejected.name, "envoy refused the configuration");
    shared.rejected.lock().unwrap_or_else(PoisonError::into_inner).push((id, rejected));
    Ok(StatusCode::NO_CONTENT)
}
