//! Admission: the service account's token volume, then the registered webhooks, mutating before validating, and the namespace's
//! Pod Security level.

mod conditions;
mod connection;
mod matching;
mod pod_security;
mod policies;
mod review;
mod service_account;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(crate) use connection::WebhookClient;
pub(crate) use pod_security::enforce as enforce_pod_security;
pub(crate) use service_account::service_account;

use super::call::Call;
use super::intake;
use super::status::{ApiError, Result};

const GROUP: &str = "admissionregistration.k8s.io";

/// What is being done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// Sends an object past the mutating webhooks, in order of the configurations' names. Each is called once:
/// `reinvocationPolicy: IfNeeded` is not followed.
pub(crate) async fn mutate(call: &Call, operation: Operation, object: Value, old: Option<&Value>) -> Result<Value> {
    let mut object = object;
    for webhook in webhooks(call, "mutatingwebhookconfigurations") {
        if !matching::matches(call, &webhook, operation, Some(&object), old) {
            continue;
        }
        let Some(response) = ask(call, &webhook, operation, Some(&object), old).await? else { continue };
        if let Some(patch) = response["patch"].as_str().filter(|patch| !patch.is_empty()) {
            let name = webhook["name"].as_str().unwrap_or_default();
            object = patched(call, &object, patch)
                .map_err(|why| ApiError::internal(format!("failed to apply the patch of webhook \"{name}\": {why}")))?;
        }
    }
    Ok(object)
}

fn patched(call: &Call, object: &Value, patch: &str) -> Result<Value, String> {
    let bytes = STANDARD.decode(patch).map_err(|error| error.to_string())?;
    let patch: json_patch::Patch = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let mut object = object.clone();
    json_patch::patch(&mut object, &patch).map_err(|error| error.to_string())?;
    intake::from_patch(call, &object).map_err(|error| error.message().to_owned())
}

/// Sends an object past the validating webhooks; a deletion past the mutating ones as well, which have nothing to change.
pub(crate) async fn validate(
    call: &Call,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<()> {
    policies::check(call, operation, object, old)?;
    let mut all = webhooks(call, "validatingwebhookconfigurations");
    if operation == Operation::Delete {
        all.extend(webhooks(call, "mutatingwebhookconfigurations"));
    }
    for webhook in all {
        if matching::matches(call, &webhook, operation, object, old) {
            ask(call, &webhook, operation, object, old).await?;
        }
    }
    Ok(())
}

fn webhooks(call: &Call, plural: &str) -> Vec<Value> {
    // So that a broken webhook can always be repaired.
    if call.kind.group == GROUP {
        return Vec::new();
    }
    let (_, configurations) = call.cluster.store.list(&super::kinds::shelf(GROUP, plural), None);
    let lists = configurations.iter().filter_map(|configuration| configuration.value["webhooks"].as_array());
    lists.flatten().cloned().collect()
}

/// Calls one webhook. Nothing when its conditions do not hold, or it could not be called and its failure is to be ignored.
async fn ask(
    call: &Call,
    webhook: &Value,
    operation: Operation,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<Option<Value>> {
    let name = webhook["name"].as_str().unwrap_or_default();
    let timeout = Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30));
    let request = review::request(call, operation, object, old);
    let ignored = webhook["failurePolicy"] == "Ignore";
    match conditions::hold(webhook, &request) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(why) if ignored => {
            tracing::warn!(webhook = name, why, "conditions of a webhook failed and it is not asked");
            return Ok(None);
        }
        Err(why) => return Err(ApiError::denied(name, Some(403), None, &why)),
    }
    let uid = request["request"]["uid"].clone();
    let sent = call.cluster.webhooks.call(&call.cluster.store, &webhook["clientConfig"], &request, timeout).await;
    let response = match sent.map_err(|error| error.to_string()).and_then(|bytes| review::response(&bytes, &uid)) {
        Ok(response) => response,
        Err(why) if ignored => {
            tracing::warn!(webhook = name, why, "webhook failed and is ignored");
            return Ok(None);
        }
        Err(why) => {
            return Err(ApiError::internal(format!(
                "failed calling webhook \"{name}\": failed to call webhook: {why}"
            )));
        }
    };
    for warning in response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        call.warn(warning);
    }
    if response["allowed"] == true {
        return Ok(Some(response));
    }
    let status = &response["status"];
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    Err(ApiError::denied(name, code, status["reason"].as_str(), status["message"].as_str().unwrap_or_default()))
}
