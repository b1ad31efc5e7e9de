//! `/mutate`: reads the review, finds what surrounds the Pod, answers.

use super::Watches;
use super::body::{self, Budget};
use super::metrics::{Metrics, Outcome};
use crate::review::{self, Answer, Review, ReviewError};
use crate::{Settings, Surroundings};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Reviews longer than this are answered on a thread of their own, so that the others need not wait behind them.
const LONG: usize = 64 * 1024;

/// So many of those at one time: a Pod in memory takes many times its length.
const LONG_AT_ONCE: usize = 1;

struct Admission {
    settings: Settings,
    watches: Watches,
    metrics: Metrics,
    budget: Budget,
    long: Semaphore,
}

/// The routes of the HTTPS port.
pub(super) fn routes(settings: Settings, watches: Watches, metrics: Metrics) -> Router {
    let admission = Arc::new(Admission {
        settings,
        watches,
        metrics,
        budget: Budget::default(),
        long: Semaphore::new(LONG_AT_ONCE),
    });
    Router::new().route("/mutate", post(mutate)).with_state(admission)
}

async fn mutate(State(admission): State<Arc<Admission>>, request: Request<Body>) -> Response {
    let read = match body::read(request.into_body(), &admission.budget).await {
        Ok(read) => read,
        Err(unread) => {
            admission.metrics.reject(unread.reason());
            tracing::warn!(error = %unread, "request without a review");
            return (unread.status(), format!("{unread}\n")).into_response();
        }
    };
    match admission.review(read.bytes.clone()).await {
        Ok(answer) => match answer.to_json() {
            Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        },
        Err(error) => {
            admission.metrics.reject("unreadable");
            tracing::warn!(%error, "request without a review");
            (error.status(), format!("{error}\n")).into_response()
        }
    }
}

impl Admission {
    async fn review(self: &Arc<Self>, body: Bytes) -> Result<Answer, Unanswered> {
        let _under_way = self.metrics.review();
        let length = body.len();
        // the semaphore is never closed
        let _turn = if length < LONG { None } else { self.long.acquire().await.ok() };
        let review = work(length, move || Review::parse(&body)).await??;
        let answer = match review.decide(&self.settings) {
            Some(answer) => answer,
            None => match self.watches.surroundings(review.namespace(), review.labels()).await {
                Ok(surroundings) => self.inject(length, review, surroundings).await?,
                Err(error) => review.failed(500, format!("error getting namespace metadata for container: {error}")),
            },
        };
        self.tell(&answer);
        Ok(answer)
    }

    async fn inject(
        self: &Arc<Self>,
        length: usize,
        review: Review,
        surroundings: Surroundings,
    ) -> Result<Answer, Unanswered> {
        let admission = Arc::clone(self);
        work(length, move || review.inject(&surroundings, &admission.settings)).await
    }

    fn tell(&self, answer: &Answer) {
        let outcome = match answer.outcome() {
            review::Outcome::Injected => "injected",
            review::Outcome::Unchanged => "unchanged",
            review::Outcome::Refused => "refused",
            review::Outcome::Failed => "failed",
        };
        self.metrics.reviews.get_or_create(&Outcome { outcome }).inc();
        self.metrics.warnings.inc_by(answer.warnings().len() as u64);
        let (subject, message, warnings) = (answer.subject(), answer.message(), answer.warnings());
        match answer.outcome() {
            review::Outcome::Failed => tracing::warn!(pod = %subject, outcome, message),
            _ if !warnings.is_empty() => tracing::info!(pod = %subject, outcome, message, ?warnings),
            _ => tracing::info!(pod = %subject, outcome, message),
        }
    }
}

/// A request that gets no review for an answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Unreadable(#[from] ReviewError),
    /// A defect of this program. The next review is none the worse for it.
    #[error("failed to answer the review: the webhook has a defect; its log has more")]
    Panicked,
}

impl Unanswered {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Does the work for a review of this length, here or on a thread of its own.
async fn work<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unanswered> {
    let guarded = || catch_unwind(AssertUnwindSafe(work)).map_err(|_| Unanswered::Panicked);
    match length {
        0..LONG => guarded(),
        _ => tokio::task::spawn_blocking(guarded).await.map_err(|_| Unanswered::Panicked)?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::short(1)]
    #[case::long(LONG)]
    #[tokio::test]
    async fn a_defect_ends_one_review(#[case] length: usize) {
        let lines: Vec<u8> = Vec::new();
        let defect = work(length, move || lines[length]).await;
        assert!(matches!(defect, Err(Unanswered::Panicked)), "{defect:?}");
        assert_eq!(work(length, || 1).await.ok(), Some(1));
    }
}
