//! Request bodies: JSON or YAML, into a value.

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::status::{ApiError, Result};

/// Kubernetes' own limit is 3 MiB.
const LIMIT: usize = 3 * 1024 * 1024;

/// The media type without its parameters; empty when not given.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

pub(crate) async fn bytes(body: Body) -> Result<Bytes> {
    axum::body::to_bytes(body, LIMIT).await.map_err(|error| {
        ApiError::bad_request(format!("the request body could not be read (at most {LIMIT} bytes): {error}"))
    })
}

/// Reads an object.
pub(crate) async fn object(headers: &HeaderMap, body: Body) -> Result<Value> {
    let yaml = match media_type(headers) {
        "" | "application/json" => false,
        "application/yaml" => true,
        other => {
            return Err(ApiError::unsupported_media(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got {other})"
            )));
        }
    };
    parse(&bytes(body).await?, yaml)
}

/// Reads an object, if there is one.
pub(crate) async fn optional(headers: &HeaderMap, body: Body) -> Result<Value> {
    let bytes = bytes(body).await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    parse(&bytes, media_type(headers) == "application/yaml")
}

pub(crate) fn parse(bytes: &[u8], yaml: bool) -> Result<Value> {
    let wrong = |error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type Object): {error}"))
    };
    let value: Value = if yaml {
        serde_yaml_ng::from_slice(bytes).map_err(|error| wrong(&error))?
    } else {
        serde_json::from_slice(bytes).map_err(|error| wrong(&error))?
    };
    if value.is_object() || value.is_array() { Ok(value) } else { Err(wrong(&"neither an object nor a list")) }
}
