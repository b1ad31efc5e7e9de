//! `/v1/connect/intentions`: each source of each destination as an intention of its own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, Parameters, answer, bad, filtered, must_read, required, try_answer};
use crate::config::json::entries;
use crate::intentions::allowed;
use crate::names::DEFAULT;
use crate::serve::Shared;
use crate::world::World;

/// When an intention was made, of which an entry says nothing.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) async fn list(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    answer(&shared, &query, |world, filter| filtered(all(world), filter)).await
}

pub(super) async fn exact(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    let (source, destination) = (required(&query, "source")?, required(&query, "destination")?);
    must_read(&query, "intentions:read", destination)?;
    try_answer(&shared, &query, |world, _| {
        let own = world.config.home.tenancy.own();
        let named = |i: &Value, side: &str, text: &str| {
            let (partition, name) = split(text, own);
            i[format!("{side}Name")] == name && i[format!("{side}Partition")] == partition
        };
        let is = |i: &Value| named(i, "Source", source) && named(i, "Destination", destination);
        all(world).into_iter().find(is).ok_or_else(|| (StatusCode::NOT_FOUND, "Intention not found".to_owned()))
    })
    .await
}

pub(super) async fn check(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    let (source, destination) = (required(&query, "source")?, required(&query, "destination")?);
    must_read(&query, "intentions:read", destination)?;
    answer(
        &shared,
        &query,
        |world, _| json!({"Allowed": allowed(&world.config, world.default_intention, source, destination)}),
    )
    .await
}

/// The partition and the name that a parameter says: `web`, `default/web`, `ap1/default/web`.
fn split<'a>(text: &'a str, own: &'a str) -> (&'a str, &'a str) {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [partition, _, name] => (*partition, *name),
        [_, name] => (own, *name),
        _ => (own, text),
    }
}

/// What applies to a service as a source or as a destination, what counts first first.
pub(super) async fn matching(State(shared): State<Arc<Shared>>, query: Parameters) -> Answer {
    let side = match required(&query, "by")? {
        "source" => "SourceName",
        "destination" => "DestinationName",
        _ => return Err(bad("'by' parameter must be one of 'source' or 'destination'")),
    };
    must_read(&query, "intentions:read", required(&query, "name")?)?;
    let names = query.query.iter().filter(|(parameter, _)| parameter == "name").map(|(_, name)| name);
    let names: Vec<&String> = names.collect();
    answer(&shared, &query, |world, _| {
        let all = all(world);
        let of = |name: &str| {
            let found = all.iter().filter(|i| i[side] == name || i[side] == "*");
            (name.to_owned(), found.cloned().collect::<Value>())
        };
        Value::Object(names.iter().map(|name| of(name)).collect::<Map<_, _>>())
    })
    .await
}

/// Every intention, by precedence and then by names.
fn all(world: &World) -> Vec<Value> {
    let entries = entries(&world.config, "service-intentions", world.names.datacenter(), world.index);
    let own = world.config.home.tenancy.own();
    let mut found = Vec::new();
    for (destination, entry) in entries.unwrap_or_default() {
        for source in entry["Sources"].as_array().into_iter().flatten() {
            let mut intention = json!({
                "Description": source["Description"].as_str().unwrap_or_default(),
                "SourceNS": DEFAULT, "SourcePartition": source["Partition"].as_str().unwrap_or(own),
                "SourceName": source["Name"], "SourceType": "consul",
                "DestinationNS": DEFAULT, "DestinationPartition": own, "DestinationName": destination,
                "Action": source["Action"].as_str().unwrap_or_default(), "Precedence": source["Precedence"],
                "Meta": entry["Meta"], "CreatedAt": NEVER, "UpdatedAt": NEVER,
                "CreateIndex": world.index, "ModifyIndex": world.index,
            });
            if !source["Permissions"].is_null() {
                intention["Permissions"] = source["Permissions"].clone();
            }
            found.push(intention);
        }
    }
    let text = |i: &Value, side: &str| i[side].as_str().unwrap_or_default().to_owned();
    found.sort_by_key(|i| {
        (std::cmp::Reverse(i["Precedence"].as_u64()), text(i, "DestinationName"), text(i, "SourceName"))
    });
    found
}
