//! From what a client or a webhook sent to a complete object of its kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::call::Call;
use super::codec::{self, Mismatch};
use super::status::{ApiError, Result};
use super::{defaults, metadata, schema};

/// Takes an object from a client, who is told of fields that the kind does not have.
pub(crate) fn from_client(call: &Call, mut given: Value) -> Result<Value> {
    if !given.is_object() {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): it is a list",
            call.kind.kind
        )));
    }
    metadata::accept(call, &mut given)?;
    if call.kind.codec.is_some() {
        codec::quantities_to_text(&mut given);
    }
    let mut object = decode(call, &given)?;
    let unknown = match &call.kind.schema {
        Some(schema) => schema::fit(schema, &mut object),
        None => codec::unknown_fields(&given, &object),
    };
    let validation = call.param("fieldValidation").unwrap_or("Warn");
    if validation != "Ignore" {
        if validation == "Strict" && !unknown.is_empty() {
            let list: Vec<_> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
            return Err(ApiError::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
                call.kind.kind,
                call.kind.version,
                call.kind.kind,
                list.join(", ")
            )));
        }
        unknown.iter().for_each(|path| call.warn(format!("unknown field \"{path}\"")));
    }
    defaults::fill(&call.kind, &mut object);
    Ok(object)
}

/// Takes an object that a webhook or a patch has changed.
pub(crate) fn from_patch(call: &Call, given: &Value) -> Result<Value> {
    let mut object = decode(call, given)?;
    if let Some(schema) = &call.kind.schema {
        schema::fit(schema, &mut object);
    }
    defaults::fill(&call.kind, &mut object);
    Ok(object)
}

fn decode(call: &Call, given: &Value) -> Result<Value> {
    let kind = &call.kind;
    let wrong = |mismatch: Mismatch| ApiError::bad_request(mismatch.message(&kind.kind, &kind.version));
    match kind.codec {
        Some(codec) => codec(given).map_err(wrong),
        None => {
            // Of a custom resource the server knows the metadata. The wrapper makes the path in a message whole.
            codec::typed::<OnlyMetadata>(&json!({ "metadata": given["metadata"] })).map_err(wrong)?;
            Ok(given.clone())
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct OnlyMetadata {
    metadata: ObjectMeta,
}
