//! The system's part of `metadata`: what a new object gets, what an update cannot change.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::Call;
use super::status::{ApiError, Result};

/// Now, as Kubernetes writes times.
pub(crate) fn now() -> String {
    time(Timestamp::now())
}

pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Five characters as Kubernetes appends to generated names.
pub(crate) fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

/// Checks that a given object is of the kind and namespace that the request's path says, and completes it.
pub(crate) fn accept(call: &Call, object: &mut Value) -> Result<()> {
    let kind = &call.kind;
    let given = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (version, name) = (given("apiVersion"), given("kind"));
    if !version.is_empty() && version != kind.api_version() {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    if !name.is_empty() && name != kind.kind {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): its kind is {name}",
            kind.kind
        )));
    }
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.clone().into();
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    let Some(metadata) = object["metadata"].as_object_mut() else {
        return Err(ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: metadata is not an object",
            kind.kind, kind.version, kind.kind
        )));
    };
    match (&call.namespace, metadata.get("namespace").and_then(Value::as_str)) {
        (Some(wanted), Some(given)) if !given.is_empty() && given != wanted => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        (Some(wanted), _) => {
            metadata.insert("namespace".to_owned(), wanted.clone().into());
        }
        (None, _) => {
            metadata.remove("namespace");
        }
    }
    if let Some(wanted) = &call.name {
        match metadata.get("name").and_then(Value::as_str) {
            Some(given) if !given.is_empty() && given != wanted => {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({wanted})"
                )));
            }
            _ => {
                metadata.insert("name".to_owned(), wanted.clone().into());
            }
        }
    }
    metadata.remove("managedFields");
    metadata.remove("selfLink");
    Ok(())
}

/// Gives a new object what the system gives.
pub(crate) fn stamp_new(object: &mut Value) {
    let has_spec = !object["spec"].is_null();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"] {
            metadata.remove(key);
        }
        metadata.insert("uid".to_owned(), Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".to_owned(), now().into());
        if has_spec {
            metadata.insert("generation".to_owned(), 1.into());
        }
    }
}

/// Puts back what an update must not change, and counts the generation up when the object means something new.
pub(crate) fn stamp_update(current: &Value, object: &mut Value) {
    let before = &current["metadata"];
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in [
            "name",
            "namespace",
            "uid",
            "creationTimestamp",
            "generateName",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
        ] {
            match before.get(key) {
                Some(value) => metadata.insert(key.to_owned(), value.clone()),
                None => metadata.remove(key),
            };
        }
    }
    let same = |key: &&String| matches!(key.as_str(), "metadata" | "status");
    let means = |object: &Value| -> Vec<(String, Value)> {
        let entries = object.as_object().into_iter().flatten();
        entries.filter(|(key, _)| !same(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if let Some(generation) = before["generation"].as_i64()
        && means(current) != means(object)
    {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// Whether something still holds a deleted object back.
pub(crate) fn is_held(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let namespace = object["kind"] == "Namespace" && object["apiVersion"] == "v1";
    finalizers || (namespace && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()))
}

pub(crate) fn is_being_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}
