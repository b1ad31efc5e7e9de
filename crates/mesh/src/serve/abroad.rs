//! Tells other datacenters what there is here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::Shared;
use crate::abroad::{Abroad, PATH, Told};
use crate::go;

/// How long a question is held when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// The route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route(PATH, get(tell)).with_state(shared)
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    index: u64,
    wait: Option<String>,
}

async fn tell(State(shared): State<Arc<Shared>>, Query(query): Query<Parameters>) -> Response {
    let wait = query.wait.as_deref().and_then(go::duration).unwrap_or(DEFAULT_WAIT);
    let mut worlds = shared.worlds();
    // an index of other servers than these is another one
    let newer = worlds.wait_for(|world| world.index != query.index);
    match tokio::time::timeout(wait, newer).await {
        Ok(Ok(world)) => Json(Told { index: world.index, abroad: Abroad::of(&world) }).into_response(),
        // the time is up, or the mesh stops
        Ok(Err(_)) | Err(_) => StatusCode::NOT_MODIFIED.into_response(),
    }
}
