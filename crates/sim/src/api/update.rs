//! update: what a new state may change, admission, and the next version of an object.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::admission::{self, Operation};
use super::call::Call;
use super::status::{ApiError, FieldError, Result};
use super::store::{Refused, Stored};
use super::{bootstrap, intake, metadata, validate};

/// How often a write without a resourceVersion is tried against others' writes.
pub(crate) const ATTEMPTS: usize = 50;

const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

pub(crate) async fn put(call: &Call, given: Value) -> Result<Response> {
    let stored = write(call, |_| Ok(given.clone())).await?;
    Ok(call.reply(StatusCode::OK, &stored))
}

/// Brings an object from its current state to the one that `next` makes of it. A state that names a resourceVersion
/// holds for that version only; others are tried again after someone else's write.
pub(crate) async fn write(call: &Call, next: impl Fn(&Value) -> Result<Value>) -> Result<Arc<Stored>> {
    let mut attempt = 0;
    loop {
        let current = call.current()?;
        let shown = call.cluster.shown_version(&call.kind, &current.value);
        let given = next(shown.as_ref().unwrap_or(&current.value))?;
        let named = given["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
        // A patch is made from the current state and so has its version, whether or not the client named one.
        let fresh = current.value["metadata"]["resourceVersion"].as_str();
        if named.is_some() && named != fresh {
            return Err(conflict(call, MODIFIED));
        }
        if named.is_none() && call.kind.codec.is_none() {
            let mistake = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            return Err(ApiError::invalid(&call.kind.group, &call.kind.kind, call.name(), &[mistake]));
        }
        same_object(call, &current, &given)?;
        let object = merge(call, &current, given).await?;
        if call.dry_run() {
            return Ok(Stored::new(object));
        }
        match commit(call, &current, object) {
            Err(Refused::Conflict) if attempt < ATTEMPTS => attempt += 1,
            Err(Refused::NotFound) => return Err(call.not_found()),
            Err(Refused::Conflict | Refused::Exists) => return Err(conflict(call, MODIFIED)),
            Ok(stored) => {
                bootstrap::after_update(&call.cluster, &call.kind, &stored);
                return Ok(stored);
            }
        }
    }
}

fn conflict(call: &Call, why: &str) -> ApiError {
    ApiError::conflict(&call.kind.group, &call.kind.plural, call.name(), why)
}

fn same_object(call: &Call, current: &Stored, given: &Value) -> Result<()> {
    match (given["metadata"]["uid"].as_str(), current.value["metadata"]["uid"].as_str()) {
        (Some(given), Some(current)) if !given.is_empty() && given != current => Err(conflict(
            call,
            &format!("Precondition failed: UID in precondition: {given}, UID in object meta: {current}"),
        )),
        _ => Ok(()),
    }
}

/// The complete next state: what the endpoint lets through, admitted and valid.
async fn merge(call: &Call, current: &Stored, given: Value) -> Result<Value> {
    let given = intake::from_client(call, given)?;
    let object = let_through(call, &current.value, given)?;
    let object = admission::mutate(call, Operation::Update, object, Some(&current.value)).await?;
    let mut object = let_through(call, &current.value, object)?;
    validate::update(&call.kind, call.subresource.as_deref(), &current.value, &object)?;
    if call.kind.is("", "services") && call.subresource.is_none() {
        let before = (current.value["spec"]["clusterIP"] != "None").then_some(&current.value);
        call.cluster
            .allocator
            .assign(&mut object, before)
            .map_err(|mistake| ApiError::invalid("", "Service", call.name(), &[mistake]))?;
    }
    admission::validate(call, Operation::Update, Some(&object), Some(&current.value)).await?;
    Ok(object)
}

/// Each endpoint changes its part of the object only.
fn let_through(call: &Call, current: &Value, given: Value) -> Result<Value> {
    let mut object = match call.subresource.as_deref() {
        None => {
            let mut object = given;
            if call.kind.status {
                replace(&mut object, "status", &current["status"]);
            }
            if call.kind.is("", "namespaces") {
                replace(&mut object, "spec", &current["spec"]);
            }
            object
        }
        Some("status") if call.kind.status => {
            let mut object = current.clone();
            replace(&mut object, "status", &given["status"]);
            for part in ["labels", "annotations", "finalizers"] {
                replace(&mut object["metadata"], part, &given["metadata"][part]);
            }
            object
        }
        Some("ephemeralcontainers") if call.kind.is_pod() => {
            let mut object = current.clone();
            replace(&mut object["spec"], "ephemeralContainers", &given["spec"]["ephemeralContainers"]);
            object
        }
        Some("finalize") if call.kind.is("", "namespaces") => {
            let mut object = current.clone();
            replace(&mut object["spec"], "finalizers", &given["spec"]["finalizers"]);
            object
        }
        Some(_) => return Err(ApiError::path_not_found()),
    };
    metadata::stamp_update(current, &mut object);
    Ok(object)
}

/// Sets a part to what it is elsewhere, absence included.
fn replace(object: &mut Value, key: &str, value: &Value) {
    match (value, object.as_object_mut()) {
        (Value::Null, Some(map)) => {
            map.remove(key);
        }
        (value, Some(map)) => {
            map.insert(key.to_owned(), value.clone());
        }
        (_, None) => {}
    }
}

/// Stores the next state; the last finalizer's removal is the removal of the object.
fn commit(call: &Call, current: &Stored, object: Value) -> Result<Arc<Stored>, Refused> {
    let (store, kind) = (&call.cluster.store, &call.kind);
    let waits = object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds > 0);
    if metadata::is_being_deleted(&object) && !metadata::is_held(&object) && !(kind.is_pod() && waits) {
        let removed = store.remove(&kind.shelf, call.namespace(), call.name(), Some(current.version()))?;
        bootstrap::after_remove(&call.cluster, kind, &removed);
        return Ok(Stored::new(object));
    }
    store.replace(&kind.shelf, call.namespace(), call.name(), current.version(), object)
}
