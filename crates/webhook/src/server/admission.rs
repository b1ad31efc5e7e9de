//! `/mutate`: reads the review, finds the Namespace, answers.

use super::Namespaces;
use crate::review::{Answer, Review, ReviewError};
use crate::{Settings, Surroundings};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::sync::Arc;
use std::time::Duration;

/// Objects have at most 3 MiB in the API server's own limit; a review carries little more.
const LARGEST_BODY: usize = 8 * 1024 * 1024;

/// How long the body of a review may take to arrive. The API server itself waits ten seconds by default.
const PATIENCE: Duration = Duration::from_secs(10);

struct Admission {
    settings: Settings,
    namespaces: Namespaces,
}

/// The routes of the HTTPS port.
pub(super) fn routes(settings: Settings, namespaces: Namespaces) -> Router {
    let admission = Arc::new(Admission { settings, namespaces });
    Router::new().route("/mutate", post(mutate)).with_state(admission)
}

async fn mutate(State(admission): State<Arc<Admission>>, request: Request<Body>) -> Response {
    let body = match tokio::time::timeout(PATIENCE, axum::body::to_bytes(request.into_body(), LARGEST_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, format!("failed to read the body: {error}\n")).into_response();
        }
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "failed to read the body: it takes too long\n").into_response(),
    };
    match admission.review(&body).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            tracing::warn!(%error, "unreadable review");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
    }
}

impl Admission {
    async fn review(&self, body: &[u8]) -> Result<Answer, ReviewError> {
        let review = Review::parse(body)?;
        let answer = self.answer(&review).await;
        tracing::info!(
            namespace = review.namespace(),
            pod = review.name(),
            outcome = ?answer.outcome(),
            message = answer.message(),
        );
        Ok(answer)
    }

    async fn answer(&self, review: &Review) -> Answer {
        let pod = match review.pod() {
            Ok(pod) => pod,
            Err(error) => return review.failed(400, error.to_string()),
        };
        if let Some(answer) = review.decide(pod, &self.settings) {
            return answer;
        }
        match self.namespaces.get(review.namespace()).await {
            Ok(namespace) => review.inject(pod, &Surroundings { namespace, ..Surroundings::default() }, &self.settings),
            Err(error) => review.failed(500, format!("error getting namespace metadata for container: {error}")),
        }
    }
}
