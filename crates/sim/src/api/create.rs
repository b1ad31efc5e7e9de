//! create: defaults, admission, validation, and the first version of an object.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::admission::{self, Operation};
use super::call::Call;
use super::cluster::Cluster;
use super::kinds::Kind;
use super::status::{ApiError, Result};
use super::store::{Refused, Stored};
use super::{bootstrap, defaults, intake, metadata, validate};

pub(crate) async fn post(call: &Call, given: Value) -> Result<Response> {
    let object = create(call, given).await?;
    Ok(call.reply(StatusCode::CREATED, &object))
}

/// Creates an object.
pub(crate) async fn create(call: &Call, given: Value) -> Result<Arc<Stored>> {
    if call.kind.namespaced && call.namespace.is_none() {
        return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
    }
    let mut object = intake::from_client(call, given)?;
    namespace_is_open(call, &object)?;
    if call.kind.is_pod() {
        admission::service_account(call, &mut object)?;
    }
    let mut object = admission::mutate(call, Operation::Create, object, None).await?;
    defaults::initial_status(&call.kind, &mut object);
    validate::new(&call.kind, &object)?;
    if call.kind.is_pod() {
        admission::enforce_pod_security(call, &object)?;
    }
    admission::validate(call, Operation::Create, Some(&object), None).await?;
    if call.dry_run() {
        metadata::stamp_new(&mut object);
        name(&mut object);
        return Ok(Stored::new(object));
    }
    commit(&call.cluster, &call.kind, object)
}

/// Nothing is made in a namespace that is not there or about to go.
fn namespace_is_open(call: &Call, object: &Value) -> Result<()> {
    let Some(namespace) = &call.namespace else { return Ok(()) };
    let Some(found) = call.cluster.store.get("namespaces", "", namespace) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if metadata::is_being_deleted(&found.value) {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        return Err(call.forbidden(object["metadata"]["name"].as_str().unwrap_or_default(), &why));
    }
    Ok(())
}

/// Makes a name from `generateName` where there is none. Says whether it did.
fn name(object: &mut Value) -> bool {
    let metadata = &mut object["metadata"];
    let unnamed = metadata["name"].as_str().is_none_or(str::is_empty);
    if unnamed && let Some(prefix) = metadata["generateName"].as_str().filter(|prefix| !prefix.is_empty()) {
        metadata["name"] = format!("{prefix}{}", metadata::random_suffix()).into();
        return true;
    }
    false
}

/// Stores a complete, admitted object as new, with all that follows from its existence.
pub(crate) fn commit(cluster: &Arc<Cluster>, kind: &Kind, mut object: Value) -> Result<Arc<Stored>> {
    metadata::stamp_new(&mut object);
    let service = kind.is("", "services");
    if service {
        cluster.allocator.assign(&mut object, None).map_err(|mistake| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            ApiError::invalid("", "Service", name, &[mistake])
        })?;
    }
    if kind.is("batch", "jobs") {
        select_own_pods(&mut object);
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let mut attempts = 8;
    loop {
        let mut named = object.clone();
        let generated = name(&mut named);
        if kind.is("", "namespaces") {
            named["metadata"]["labels"]["kubernetes.io/metadata.name"] = named["metadata"]["name"].clone();
        }
        let name = named["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match cluster.store.create(&kind.shelf, &namespace, &name, named) {
            Ok(stored) => {
                bootstrap::after_create(cluster, kind, &stored)?;
                return Ok(stored);
            }
            Err(_) if generated && attempts > 0 => attempts -= 1,
            Err(Refused::Exists | Refused::NotFound | Refused::Conflict) => {
                if service {
                    cluster.allocator.release(&object);
                }
                return Err(ApiError::exists(&kind.group, &kind.plural, &name));
            }
        }
    }
}

/// A Job selects its Pods by its own uid, which its author cannot know.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let uid = job["metadata"]["uid"].clone();
    let name = job["metadata"]["name"].clone();
    let spec = &mut job["spec"];
    spec["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
    let labels = &mut spec["template"]["metadata"]["labels"];
    for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        labels[key] = uid.clone();
    }
    if name.is_string() {
        for key in ["batch.kubernetes.io/job-name", "job-name"] {
            labels[key] = name.clone();
        }
    }
}
