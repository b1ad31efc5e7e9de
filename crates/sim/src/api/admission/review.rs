//! AdmissionReview v1: the question and the answer.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Operation;
use crate::api::call::Call;

pub(super) fn request(call: &Call, operation: Operation, object: Option<&Value>, old: Option<&Value>) -> Value {
    let kind = &call.kind;
    let group_version_kind = json!({ "group": kind.group, "version": kind.version, "kind": kind.kind });
    let resource = json!({ "group": kind.group, "version": kind.version, "resource": kind.plural });
    let options = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut request = json!({
        "uid": Uuid::new_v4().to_string(),
        "kind": group_version_kind,
        "resource": resource,
        "requestKind": group_version_kind,
        "requestResource": resource,
        "operation": operation.name(),
        "userInfo": call.user.info(),
        "object": object,
        "oldObject": old,
        "dryRun": call.dry_run(),
        "options": { "kind": options, "apiVersion": "meta.k8s.io/v1" },
    });
    // A generated name is made after admission: a webhook sees none.
    if let Some(name) = object.or(old).and_then(|object| object["metadata"]["name"].as_str()) {
        request["name"] = name.into();
    }
    if let Some(namespace) = &call.namespace {
        request["namespace"] = namespace.clone().into();
    } else if kind.is("", "namespaces") {
        request["namespace"] = request["name"].clone();
    }
    if let Some(subresource) = &call.subresource {
        request["subResource"] = subresource.clone().into();
        request["requestSubResource"] = subresource.clone().into();
    }
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
}

/// The `response` of a review, if it answers the request.
pub(super) fn response(bytes: &[u8], uid: &Value) -> Result<Value, String> {
    let mut review: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("the answer is not an AdmissionReview: {error}"))?;
    if review["kind"] != "AdmissionReview" || review["apiVersion"] != "admission.k8s.io/v1" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
            review["apiVersion"].as_str().unwrap_or_default(),
            review["kind"].as_str().unwrap_or_default()
        ));
    }
    let response = review["response"].take();
    if !response.is_object() {
        return Err("the AdmissionReview has no response".to_owned());
    }
    if response["uid"] != *uid {
        return Err(format!("expected response.uid={uid}, got {}", response["uid"]));
    }
    let patch = response["patch"].as_str().is_some_and(|patch| !patch.is_empty());
    if patch && response["patchType"] != "JSONPatch" {
        return Err(format!("webhook response has a patch of type {}: only JSONPatch is known", response["patchType"]));
    }
    Ok(response)
}
