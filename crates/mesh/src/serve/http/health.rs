//! `/v1/health`: what is registered, with its checks.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::catalog::{entries, tagged};
use super::{Answer, Parameters, answer, filtered, switch};
use crate::catalog::{check_entry, health_entry};
use crate::registration::{Health, Instance};
use crate::serve::Shared;
use crate::world::World;

pub(super) async fn service(State(shared): State<Arc<Shared>>, Path(name): Path<String>, query: Parameters) -> Answer {
    instances(&shared, &name, query).await
}

pub(super) async fn connect(State(shared): State<Arc<Shared>>, Path(name): Path<String>, query: Parameters) -> Answer {
    instances(&shared, &format!("{name}-sidecar-proxy"), query).await
}

async fn instances(shared: &Shared, name: &str, query: Parameters) -> Answer {
    let (passing, tagged) = (switch(&query, "passing")?, tagged(&query));
    let wanted = |i: &Instance| tagged(i) && (!passing || i.health == Health::Passing);
    answer(shared, &query, |world, filter| entries(world, name, filter, wanted, health_entry)).await
}

pub(super) async fn checks(State(shared): State<Arc<Shared>>, Path(name): Path<String>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, filter| entries(world, &name, filter, |_| true, check_entry)).await
}

pub(super) async fn node(State(shared): State<Arc<Shared>>, Path(node): Path<String>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, filter| {
        let instances = world.catalog.on_node(&node).into_iter().flatten();
        filtered(instances.flat_map(|i| both(world, i)), filter)
    })
    .await
}

pub(super) async fn state(State(shared): State<Arc<Shared>>, Path(state): Path<String>, query: Parameters) -> Answer {
    if !matches!(state.as_str(), "any" | "passing" | "warning" | "critical" | "maintenance") {
        return Err((StatusCode::BAD_REQUEST, format!("Invalid health state {state:?}")));
    }
    answer(&shared, &query, |world, filter| {
        let instances = world.catalog.services().flat_map(|service| world.catalog.instances(service));
        let checks = instances.flat_map(|i| both(world, i));
        filtered(checks.filter(|check| state == "any" || check["Status"] == state.as_str()), filter)
    })
    .await
}

/// The checks of an application and of its proxy.
fn both(world: &World, instance: &Instance) -> [Value; 2] {
    [check_entry(world, instance, false), check_entry(world, instance, true)]
}
