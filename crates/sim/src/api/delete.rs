//! delete and deletecollection: grace, finalizers, propagation, preconditions.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::admission::{self, Operation};
use super::call::{Call, value_response};
use super::read::Filter;
use super::status::{ApiError, Result};
use super::store::{Refused, Stored};
use super::update::ATTEMPTS;
use super::{bootstrap, disruption, metadata};

/// What a delete came to.
enum Outcome {
    Removed(Arc<Stored>),
    Marked(Arc<Stored>),
}

pub(crate) async fn one(call: &Call, options: Value) -> Result<Response> {
    match delete(call, &options).await? {
        Outcome::Marked(object) => Ok(call.reply(StatusCode::OK, &object)),
        Outcome::Removed(object) => {
            let mut details =
                json!({ "name": call.name(), "kind": call.kind.plural, "uid": object.value["metadata"]["uid"] });
            if !call.kind.group.is_empty() {
                details["group"] = call.kind.group.clone().into();
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            });
            Ok(value_response(StatusCode::OK, &status))
        }
    }
}

pub(crate) async fn collection(call: &Call, options: Value) -> Result<Response> {
    let filter = Filter::of(call)?;
    let (version, objects) = call.cluster.store.list(&call.kind.shelf, call.namespace.as_deref());
    let mut items = Vec::new();
    for object in objects.iter().filter(|object| filter.matches(object)) {
        let metadata = &object.value["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = call.for_object(&text(&metadata["namespace"]), &text(&metadata["name"]));
        match delete(&each, &options).await {
            Ok(Outcome::Removed(object) | Outcome::Marked(object)) => items.push(object.value.clone()),
            Err(error) if error.code() == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let list = json!({
        "kind": format!("{}List", call.kind.kind), "apiVersion": call.kind.api_version(),
        "metadata": { "resourceVersion": version.to_string() }, "items": items,
    });
    Ok(value_response(StatusCode::OK, &list))
}

/// Deletes a Pod if its disruption budgets allow that.
pub(crate) async fn evict(call: &Call, options: Value) -> Result<Response> {
    if let Some(budget) = disruption::exhausted(call, &call.current()?.value) {
        return Err(ApiError::too_many_requests(format!(
            "Cannot evict pod as it would violate the pod's disruption budget {budget}."
        )));
    }
    delete(call, &options).await?;
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    Ok(value_response(StatusCode::CREATED, &status))
}

async fn delete(call: &Call, options: &Value) -> Result<Outcome> {
    let mut attempt = 0;
    loop {
        let current = call.current()?;
        preconditions(call, &current, options)?;
        admission::validate(call, Operation::Delete, None, Some(&current.value)).await?;
        if call.dry_run() {
            return Ok(Outcome::Removed(current));
        }
        match step(call, &current, options) {
            Ok(outcome) => return Ok(outcome),
            Err(Refused::Conflict) if attempt < ATTEMPTS => attempt += 1,
            Err(Refused::NotFound) => return Err(call.not_found()),
            Err(Refused::Conflict | Refused::Exists) => {
                return Err(ApiError::internal("the object changes faster than it can be deleted"));
            }
        }
    }
}

fn preconditions(call: &Call, current: &Stored, options: &Value) -> Result<()> {
    for (key, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, found) = (&options["preconditions"][key], &current.value["metadata"][key]);
        if let (Some(wanted), Some(found)) = (wanted.as_str(), found.as_str())
            && wanted != found
        {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            return Err(ApiError::conflict(&call.kind.group, &call.kind.plural, call.name(), &why));
        }
    }
    Ok(())
}

/// Removes an object, or marks it for those who must act first.
fn step(call: &Call, current: &Arc<Stored>, options: &Value) -> Result<Outcome, Refused> {
    let (store, kind) = (&call.cluster.store, &call.kind);
    let mut object = current.value.clone();
    match propagation(call, options) {
        Some("Foreground") => add_finalizer(&mut object, "foregroundDeletion"),
        Some("Orphan") => add_finalizer(&mut object, "orphan"),
        _ => {}
    }
    let grace = grace(call, current, options);
    if grace == 0 && !metadata::is_held(&object) {
        let removed = store.remove(&kind.shelf, call.namespace(), call.name(), Some(current.version()))?;
        bootstrap::after_remove(&call.cluster, kind, &removed);
        return Ok(Outcome::Removed(removed));
    }
    let before = current.value["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if metadata::is_being_deleted(&object) && before.is_some_and(|before| before <= grace) {
        return Ok(Outcome::Marked(current.clone()));
    }
    let at = Timestamp::now() + SignedDuration::from_secs(grace);
    let metadata = &mut object["metadata"];
    metadata["deletionTimestamp"] = metadata::time(at).into();
    metadata["deletionGracePeriodSeconds"] = grace.into();
    if let Some(generation) = metadata["generation"].as_i64() {
        metadata["generation"] = (generation + 1).into();
    }
    if kind.is("", "namespaces") {
        object["status"]["phase"] = "Terminating".into();
    }
    let marked = store.replace(&kind.shelf, call.namespace(), call.name(), current.version(), object)?;
    Ok(Outcome::Marked(marked))
}

fn propagation<'a>(call: &'a Call, options: &'a Value) -> Option<&'a str> {
    match options["orphanDependents"].as_bool() {
        Some(true) => Some("Orphan"),
        _ => options["propagationPolicy"].as_str().or_else(|| call.param("propagationPolicy")),
    }
}

fn add_finalizer(object: &mut Value, name: &str) {
    let metadata = &mut object["metadata"];
    if metadata["finalizers"].is_null() {
        metadata["finalizers"] = json!([]);
    }
    if let Some(list) = metadata["finalizers"].as_array_mut()
        && !list.iter().any(|found| found == name)
    {
        list.push(name.into());
    }
}

/// Seconds until removal. Only a Pod on a node has someone to wait for.
fn grace(call: &Call, current: &Stored, options: &Value) -> i64 {
    let pod = &current.value;
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !call.kind.is_pod() || pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) || ended {
        return 0;
    }
    options["gracePeriodSeconds"]
        .as_i64()
        .or_else(|| call.param("gracePeriodSeconds").and_then(|text| text.parse().ok()))
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(30)
        .max(0)
}
