//! What the server fills in, by kind.

mod pod;
mod service;
mod webhook;
mod workload;

use serde_json::{Value, json};

use super::kinds::Kind;

/// Completes an object, new or updated. Filling in twice is filling in once.
pub(crate) fn fill(kind: &Kind, object: &mut Value) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("", "pods") => pod::pod(object),
        ("", "services") => service::service(object),
        ("", "namespaces") => namespace(object),
        ("", "secrets") => secret(object),
        ("apps", "deployments") => workload::deployment(object),
        ("apps", "replicasets") => workload::replica_set(object),
        ("apps", "statefulsets") => workload::stateful_set(object),
        ("apps", "daemonsets") => workload::daemon_set(object),
        ("batch", "jobs") => workload::job(object),
        ("admissionregistration.k8s.io", _) => webhook::configuration(object),
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition(object),
        _ => {}
    }
}

/// Gives a new object the status it starts with; what a client says of it is not heard.
pub(crate) fn initial_status(kind: &Kind, object: &mut Value) {
    let status = match (kind.group.as_str(), kind.plural.as_str()) {
        // A kubelet registers its Node with its status.
        ("", "nodes") => return,
        ("", "pods") => pod::initial_status(object),
        ("", "namespaces") => json!({ "phase": "Active" }),
        ("", "services") => json!({ "loadBalancer": {} }),
        ("apiextensions.k8s.io", _) => definition_status(object),
        ("apps", "replicasets" | "statefulsets") => json!({ "replicas": 0 }),
        ("apps", "daemonsets") => json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }),
        ("apps" | "batch" | "policy", _) => json!({}),
        _ if kind.status => Value::Null,
        _ => return,
    };
    match status {
        Value::Null => {
            object.as_object_mut().and_then(|object| object.remove("status"));
        }
        status => object["status"] = status,
    }
}

/// Sets a field that is absent.
fn default(object: &mut Value, key: &str, value: impl Into<Value>) {
    if object[key].is_null() {
        object[key] = value.into();
    }
}

fn each<'a>(object: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
    if object["metadata"]["uid"].is_null() {
        object["spec"] = json!({ "finalizers": ["kubernetes"] });
    }
}

fn secret(object: &mut Value) {
    default(object, "type", "Opaque");
    use base64::Engine as _;
    if let Some(Value::Object(texts)) = object.as_object_mut().and_then(|object| object.remove("stringData")) {
        for (key, text) in texts {
            let text = text.as_str().unwrap_or_default();
            object["data"][key] = base64::engine::general_purpose::STANDARD.encode(text).into();
        }
    }
}

fn definition(object: &mut Value) {
    let names = &mut object["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    default(names, "singular", kind.to_lowercase());
    default(names, "listKind", format!("{kind}List"));
    default(&mut object["spec"], "conversion", json!({ "strategy": "None" }));
}

fn definition_status(object: &Value) -> Value {
    let now = super::metadata::now();
    let condition = |kind: &str, reason: &str, message: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now });
    let versions = object["spec"]["versions"].as_array().into_iter().flatten();
    let stored: Vec<_> =
        versions.filter(|version| version["storage"] == true).map(|version| &version["name"]).collect();
    json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": object["spec"]["names"],
        "storedVersions": stored,
    })
}
