//! patch: JSON patch, merge patch, strategic merge patch and server-side apply.

mod apply;
mod strategic;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

pub(crate) use apply::Applied;

use super::call::Call;
use super::status::{ApiError, FieldError, Result};
use super::{body, create, subresource, update};

/// A patch as the client sent it.
enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    Apply(Value),
}

pub(crate) async fn patch(call: &Call, headers: &HeaderMap, content: Body) -> Result<Response> {
    let media = body::media_type(headers).to_owned();
    let bytes = body::bytes(content).await?;
    let patch = match media.as_str() {
        "application/json-patch+json" => Patch::Json(
            serde_json::from_slice(&bytes)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?,
        ),
        "application/merge-patch+json" => Patch::Merge(body::parse(&bytes, false)?),
        "application/strategic-merge-patch+json" if call.kind.codec.is_some() => {
            Patch::Strategic(body::parse(&bytes, false)?)
        }
        "application/apply-patch+yaml" | "application/apply-patch+json" => Patch::Apply(body::parse(&bytes, true)?),
        other => {
            let mut accepted = vec!["application/json-patch+json", "application/merge-patch+json"];
            if call.kind.codec.is_some() {
                accepted.push("application/strategic-merge-patch+json");
            }
            accepted.push("application/apply-patch+yaml");
            return Err(ApiError::unsupported_media(format!(
                "the body of the request was in an unknown format - accepted media types include: {} (got {other})",
                accepted.join(", ")
            )));
        }
    };
    if call.subresource.as_deref() == Some("scale") && call.kind.scale {
        return subresource::patch_scale(call, |scale| patch.apply_to(scale)).await;
    }
    if let Patch::Apply(configuration) = patch {
        return server_side_apply(call, configuration).await;
    }
    let stored = update::write(call, |current| {
        let mut object = current.clone();
        patch.apply_to(&mut object)?;
        Ok(object)
    })
    .await?;
    Ok(call.reply(StatusCode::OK, &stored))
}

impl Patch {
    fn apply_to(&self, object: &mut Value) -> Result<()> {
        match self {
            Patch::Json(patch) => json_patch::patch(object, patch).map_err(|error| {
                ApiError::unprocessable(format!(
                    "the server rejected our request due to an error in our request: {error}"
                ))
            })?,
            Patch::Merge(patch) => json_patch::merge(object, patch),
            Patch::Strategic(patch) | Patch::Apply(patch) => strategic::merge(object, patch),
        }
        Ok(())
    }
}

/// A create where there is nothing, a merge where there is something; what the same manager applied before and leaves out
/// now goes. Fields have no owners beyond that, so nothing is ever a conflict.
async fn server_side_apply(call: &Call, configuration: Value) -> Result<Response> {
    let Some(manager) = call.param("fieldManager").filter(|manager| !manager.is_empty()) else {
        let mut mistake = FieldError::required("fieldManager");
        mistake.message = "Required value: is required for apply patch".to_owned();
        return Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[mistake]));
    };
    let manager = match &call.subresource {
        Some(subresource) => format!("{manager}/{subresource}"),
        None => manager.to_owned(),
    };
    let applied = &call.cluster.applied;
    let mut attempts = 3;
    let (code, stored) = loop {
        if call.subresource.is_none() && call.current().is_err() {
            match create::create(call, configuration.clone()).await {
                Ok(stored) => break (StatusCode::CREATED, stored),
                // Someone else was faster: merge into theirs.
                Err(error) if error.code() == 409 && attempts > 0 => attempts -= 1,
                Err(error) => return Err(error),
            }
        } else {
            let stored = update::write(call, |current| {
                let before = applied.last(current, &manager);
                let mut object = current.clone();
                if let Some(before) = before {
                    strategic::merge(&mut object, &strategic::removals(&before, &configuration));
                }
                strategic::merge(&mut object, &configuration);
                Ok(object)
            })
            .await?;
            break (StatusCode::OK, stored);
        }
    };
    if !call.dry_run() {
        applied.remember(&stored.value, &manager, configuration);
    }
    Ok(call.reply(code, &stored))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_of_patch() {
        let mut object = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}});
        let patch = Patch::Strategic(json!({"spec": {"containers": [{"name": "a", "image": "y"}]}}));
        patch.apply_to(&mut object).expect("merges");
        assert_eq!(object, json!({"spec": {"containers": [{"name": "a", "image": "y"}, {"name": "b"}]}}));
        let patch = Patch::Merge(json!({"spec": {"containers": null, "x": 1}}));
        patch.apply_to(&mut object).expect("merges");
        assert_eq!(object, json!({"spec": {"x": 1}}));
        let patch = serde_json::from_value(json!([{"op": "test", "path": "/spec/x", "value": 2}])).expect("a patch");
        assert_eq!(Patch::Json(patch).apply_to(&mut object).expect_err("differs").code(), 422);
    }
}
