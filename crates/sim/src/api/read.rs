//! get and list.

use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;

use super::call::{Call, json_response};
use super::selector::{Fields, Labels};
use super::status::Result;
use super::store::Stored;

/// Which objects of a collection are meant.
pub(crate) struct Filter {
    labels: Labels,
    fields: Fields,
}

impl Filter {
    pub(crate) fn of(call: &Call) -> Result<Self> {
        let mut fields = call.param("fieldSelector").unwrap_or_default().to_owned();
        if let Some(name) = &call.name {
            fields = format!("metadata.name={name}");
        }
        Ok(Self {
            labels: Labels::parse(call.param("labelSelector").unwrap_or_default())?,
            fields: Fields::parse(&fields)?,
        })
    }

    pub(crate) fn matches(&self, object: &Stored) -> bool {
        self.labels.matches(&object.value) && self.fields.matches(&object.value)
    }
}

pub(crate) fn get(call: &Call) -> Result<Response> {
    Ok(call.reply(StatusCode::OK, &*call.current()?))
}

pub(crate) fn list(call: &Call) -> Result<Response> {
    let filter = Filter::of(call)?;
    let (version, objects) = call.cluster.store.list(&call.kind.shelf, call.namespace.as_deref());
    let mut json = BytesMut::new();
    let head = format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{{"resourceVersion":"{version}"}},"items":["#,
        call.kind.kind,
        call.kind.api_version(),
    );
    json.put_slice(head.as_bytes());
    let mut separator: &[u8] = b"";
    for object in objects.iter().filter(|object| filter.matches(object)) {
        json.put_slice(separator);
        json.put_slice(&call.json(object));
        separator = b",";
    }
    json.put_slice(b"]}");
    Ok(json_response(StatusCode::OK, Bytes::from(json)))
}
