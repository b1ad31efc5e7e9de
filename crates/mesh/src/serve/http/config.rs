//! `/v1/config`: entries as they are in force.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::{Answer, Parameters, Refusal, filtered, must_read, try_answer};
use crate::config::json::entries;
use crate::serve::Shared;
use crate::world::World;

pub(super) async fn list(State(shared): State<Arc<Shared>>, Path(kind): Path<String>, query: Parameters) -> Answer {
    try_answer(&shared, &query, |world, filter| Ok(filtered(all(world, &kind)?.into_values(), filter))).await
}

pub(super) async fn entry(
    State(shared): State<Arc<Shared>>,
    Path((kind, name)): Path<(String, String)>,
    query: Parameters,
) -> Answer {
    if !matches!(kind.as_str(), "proxy-defaults" | "mesh") {
        must_read(&query, "service:read", &name)?;
    }
    try_answer(&shared, &query, |world, _| {
        let missing = || (StatusCode::NOT_FOUND, format!("Config entry not found for {kind:?} / {name:?}"));
        all(world, &kind)?.remove(&name).ok_or_else(missing)
    })
    .await
}

fn all(world: &World, kind: &str) -> Result<std::collections::BTreeMap<String, Value>, Refusal> {
    let found = entries(&world.config, kind, world.names.datacenter(), world.index);
    found.ok_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, format!("invalid config entry kind: {kind}")))
}
