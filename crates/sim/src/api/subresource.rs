//! Subresources that are no view of the object: scale, binding, eviction, token; and TokenReview.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::auth::Bound;
use super::call::{Call, value_response};
use super::cluster::Cluster;
use super::delete;
use super::metadata;
use super::status::{ApiError, Result};
use super::update;

pub(crate) async fn post(call: &Call, subresource: &str, given: Value) -> Result<Response> {
    match subresource {
        "binding" if call.kind.is_pod() => bind(call, &given),
        "eviction" if call.kind.is_pod() => delete::evict(call, given["deleteOptions"].clone()).await,
        "token" if call.kind.is("", "serviceaccounts") => token(call, given),
        _ => Err(ApiError::path_not_found()),
    }
}

/// Puts a Pod on a node, once.
fn bind(call: &Call, binding: &Value) -> Result<Response> {
    let Some(node) = binding["target"]["name"].as_str().filter(|node| !node.is_empty()) else {
        return Err(ApiError::bad_request("a Binding must name its node in target.name"));
    };
    let store = &call.cluster.store;
    for _ in 0..update::ATTEMPTS {
        let current = call.current()?;
        let conflict = |why: &str| ApiError::conflict("", "pods/binding", call.name(), why);
        if metadata::is_being_deleted(&current.value) {
            return Err(conflict(&format!("pod {} is being deleted, cannot be assigned to a host", call.name())));
        }
        if let Some(found) = current.value["spec"]["nodeName"].as_str().filter(|found| !found.is_empty()) {
            return Err(conflict(&format!("pod {} is already assigned to node \"{found}\"", call.name())));
        }
        let mut pod = current.value.clone();
        pod["spec"]["nodeName"] = node.into();
        set_condition(
            &mut pod,
            &json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": metadata::now(),
            }),
        );
        if store.replace(&call.kind.shelf, call.namespace(), call.name(), current.version(), pod).is_ok() {
            let status =
                json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
            return Ok(value_response(StatusCode::CREATED, &status));
        }
    }
    Err(ApiError::internal("the Pod changes faster than it can be bound"))
}

fn set_condition(pod: &mut Value, condition: &Value) {
    if pod["status"]["conditions"].is_null() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.retain(|found| found["type"] != condition["type"]);
        conditions.push(condition.clone());
    }
}

fn token(call: &Call, mut request: Value) -> Result<Response> {
    call.current()?;
    let spec = &request["spec"];
    let audiences: Vec<_> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let bound = &spec["boundObjectRef"];
    let pod = match bound["kind"].as_str() {
        Some("Pod") => {
            let name = bound["name"].as_str().unwrap_or_default();
            let found = call.cluster.store.get("pods", call.namespace(), name);
            let found = found.ok_or_else(|| ApiError::not_found("", "pods", name))?;
            Some(found)
        }
        _ => None,
    };
    let pod = pod.as_ref().map(|pod| {
        let (metadata, spec) = (&pod.value["metadata"], &pod.value["spec"]);
        Bound { pod: text(&metadata["name"]), uid: text(&metadata["uid"]), node: text(&spec["nodeName"]) }
    });
    let issued = call.cluster.auth.issue(call.namespace(), call.name(), pod, &audiences);
    request["kind"] = "TokenRequest".into();
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["metadata"] = json!({
        "name": call.name(), "namespace": call.namespace(), "creationTimestamp": metadata::now(),
    });
    if audiences.is_empty() {
        request["spec"]["audiences"] = json!(["https://kubernetes.default.svc.cluster.local"]);
    }
    request["status"] = json!({ "token": issued.token, "expirationTimestamp": metadata::time(issued.expires) });
    Ok(value_response(StatusCode::CREATED, &request))
}

/// Says whose a token is, as an authenticator behind the API asks.
pub(crate) fn token_review(cluster: &Arc<Cluster>, mut review: Value) -> Result<Response> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    review["status"] = match cluster.auth.user(token) {
        Some(user) => json!({ "authenticated": true, "user": user.info(), "audiences": review["spec"]["audiences"] }),
        None => json!({ "authenticated": false, "user": {}, "error": "invalid bearer token" }),
    };
    review["metadata"] = json!({});
    Ok(value_response(StatusCode::CREATED, &review))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn get_scale(call: &Call) -> Result<Response> {
    Ok(value_response(StatusCode::OK, &scale(&call.current()?.value)))
}

pub(crate) async fn put_scale(call: &Call, given: Value) -> Result<Response> {
    patch_scale(call, |scale| {
        *scale = given.clone();
        Ok(())
    })
    .await
}

/// Changes the scale of an object by changing the Scale that stands for it.
pub(crate) async fn patch_scale(call: &Call, change: impl Fn(&mut Value) -> Result<()>) -> Result<Response> {
    // The object's own endpoint does the rest: generation, admission, conflicts.
    let main = call.for_object(call.namespace(), call.name());
    let stored = update::write(&main, |current| {
        let mut wanted = scale(current);
        change(&mut wanted)?;
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            return Err(ApiError::bad_request(format!(
                "spec.replicas: Invalid value: {replicas}: must not be negative"
            )));
        }
        let mut object = current.clone();
        object["spec"]["replicas"] = replicas.into();
        if wanted["metadata"]["resourceVersion"].is_string() {
            object["metadata"]["resourceVersion"] = wanted["metadata"]["resourceVersion"].clone();
        }
        Ok(object)
    })
    .await?;
    Ok(value_response(StatusCode::OK, &scale(&stored.value)))
}

fn scale(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let pairs = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": { "replicas": object["spec"]["replicas"].as_i64().unwrap_or(0) },
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.join(",") },
    })
}
