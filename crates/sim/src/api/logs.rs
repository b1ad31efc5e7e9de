//! Container logs, streamed from the Pod's node.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::call::Call;
use super::exec::{agent_error, agent_of};
use super::status::{ApiError, Result};
use crate::LogRequest;

pub(crate) async fn read(call: &Call) -> Result<Response> {
    let (agent, container) = agent_of(call)?;
    let tail_lines = match call.param("tailLines") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            ApiError::bad_request(format!("tailLines: Invalid value: {text:?}: must be a number that is not negative"))
        })?),
    };
    let request = LogRequest {
        namespace: call.namespace().to_owned(),
        pod: call.name().to_owned(),
        container,
        previous: call.flag("previous"),
        follow: call.flag("follow"),
        tail_lines,
    };
    let lines = agent.logs(request).await.map_err(|error| agent_error(call, error))?;
    Ok(([(CONTENT_TYPE, "text/plain")], Body::from_stream(lines)).into_response())
}
