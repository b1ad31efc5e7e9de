//! Bodies of requests: read within a time, a size, and a budget that all of them share.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Objects have at most 3 MiB in the API server's own limit; a review carries little more.
const LARGEST: usize = 8 * 1024 * 1024;

/// How long the body of a review may take to arrive. The API server itself waits ten seconds by default.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all bodies together may take before their reviews are answered, so that slow clients cannot use up the memory.
const TOGETHER: usize = 32 * 1024 * 1024;

/// A body that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// It is longer than any review.
    #[error("failed to read the body: it has more than {LARGEST} bytes")]
    Large,
    /// It takes too long.
    #[error("failed to read the body: it takes more than {} s", PATIENCE.as_secs())]
    Slow,
    /// It ends before its end.
    #[error("failed to read the body: it is cut short")]
    Cut,
    /// Others take all of the memory that is set aside.
    #[error("failed to read the body: other requests take {TOGETHER} bytes already; try again")]
    Busy,
}

impl Unread {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Large => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Cut => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// As metrics name it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::Busy => "busy",
        }
    }
}

/// The memory that bodies may take together.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER)))
    }
}

/// A body, and its part of the budget.
pub(super) struct Read {
    pub(super) bytes: Bytes,
    _budget: Option<OwnedSemaphorePermit>,
}

/// Reads a body to its end.
pub(super) async fn read(body: Body, budget: &Budget) -> Result<Read, Unread> {
    read_within(PATIENCE, body, budget).await
}

async fn read_within(patience: Duration, body: Body, budget: &Budget) -> Result<Read, Unread> {
    tokio::time::timeout(patience, whole(body, budget)).await.unwrap_or(Err(Unread::Slow))
}

async fn whole(mut body: Body, budget: &Budget) -> Result<Read, Unread> {
    let mut taken: Option<OwnedSemaphorePermit> = None;
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| Unread::Cut)?.into_data() else { continue };
        length += piece.len();
        if length > LARGEST {
            return Err(Unread::Large);
        }
        let more = u32::try_from(piece.len()).map_err(|_| Unread::Large)?;
        let part = budget.0.clone().try_acquire_many_owned(more).map_err(|_| Unread::Busy)?;
        match &mut taken {
            Some(taken) => taken.merge(part),
            none => *none = Some(part),
        }
        pieces.push(piece);
    }
    let bytes = match pieces.len() {
        1 => pieces.swap_remove(0),
        _ => pieces.concat().into(),
    };
    Ok(Read { bytes, _budget: taken })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    fn body(pieces: Vec<&'static str>) -> Body {
        Body::from_stream(futures::stream::iter(pieces).map(Ok::<_, std::io::Error>))
    }

    #[tokio::test]
    async fn pieces_become_one() {
        let read = read(body(vec!["a", "", "bc"]), &Budget::default()).await;
        assert_eq!(read.map(|read| read.bytes).ok().as_deref(), Some(b"abc".as_slice()));
    }

    #[tokio::test]
    async fn all_of_them_share_a_budget() {
        let budget = Budget(Arc::new(Semaphore::new(4)));
        let first = read(body(vec!["abc"]), &budget).await;
        assert!(first.is_ok());
        assert_eq!(read(body(vec!["d", "e"]), &budget).await.err(), Some(Unread::Busy));
        drop(first);
        assert!(read(body(vec!["d", "e"]), &budget).await.is_ok());
    }

    #[tokio::test]
    async fn a_slow_one_is_given_up() {
        let slow = Body::from_stream(futures::stream::pending::<Result<&str, std::io::Error>>());
        let read = read_within(Duration::from_millis(1), slow, &Budget::default()).await;
        assert_eq!(read.err(), Some(Unread::Slow));
    }

    #[tokio::test]
    async fn one_that_breaks_off() {
        let pieces = [Ok("a"), Err(std::io::Error::other("gone"))];
        let broken = Body::from_stream(futures::stream::iter(pieces));
        assert_eq!(read(broken, &Budget::default()).await.err(), Some(Unread::Cut));
    }
}
