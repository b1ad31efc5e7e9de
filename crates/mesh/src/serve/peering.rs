//! The accepting side of peerings: tells what is exported, and takes in what the other side exports.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Shared;
use crate::cluster::{self, Change};
use crate::go;
use crate::peering::{Accepted, PATH, Refusal, SECRET, Told};

/// How long a question is held when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

struct Peering {
    shared: Arc<Shared>,
    accepted: Arc<Accepted>,
    changes: mpsc::UnboundedSender<cluster::Told>,
}

/// What is told, and a number that stands for it: the same for the same, whoever counts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) index: u64,
    pub(crate) told: Told,
}

/// With what somebody is sent away.
type Away = (StatusCode, &'static str);

/// The routes.
pub(crate) fn router(
    shared: Arc<Shared>,
    accepted: Arc<Accepted>,
    changes: mpsc::UnboundedSender<cluster::Told>,
) -> Router {
    let state = Arc::new(Peering { shared, accepted, changes });
    Router::new().route(&format!("{PATH}{{id}}"), get(tell).put(hear).delete(end)).with_state(state)
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    index: u64,
    wait: Option<String>,
}

impl Peering {
    fn name(&self, id: &str, headers: &HeaderMap) -> Result<Arc<str>, Away> {
        let secret = headers.get(SECRET).and_then(|value| value.to_str().ok()).unwrap_or_default();
        self.accepted.name(id, secret).map_err(|refusal| match refusal {
            Refusal::Unknown => (StatusCode::NOT_FOUND, "there is no such peering"),
            Refusal::Secret => (StatusCode::FORBIDDEN, "this is not the secret of the peering"),
            Refusal::TooEarly => {
                (StatusCode::SERVICE_UNAVAILABLE, "the servers do not know their peerings yet; try again")
            }
        })
    }

    fn send(&self, name: Arc<str>, told: Option<Told>) {
        // nobody receives after the end, when changes no longer matter
        let _ = self.changes.send((0, Change::Peer(name, told.map(Box::new))));
    }
}

async fn tell(
    State(peering): State<Arc<Peering>>,
    Path(id): Path<String>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Away> {
    let name = peering.name(&id, &headers)?;
    let wait = query.wait.as_deref().and_then(go::duration).unwrap_or(DEFAULT_WAIT);
    let deadline = tokio::time::Instant::now() + wait;
    let mut worlds = peering.shared.worlds();
    let roots = peering.shared.authority.root_pem();
    loop {
        let world = worlds.borrow_and_update().clone();
        let told = Told::of(&world, &name, &roots);
        let index = told.number();
        if world.knows_itself() && index != query.index {
            return Ok(Json(Answer { index, told }).into_response());
        }
        match tokio::time::timeout_at(deadline, worlds.changed()).await {
            // the peering may have ended meanwhile
            Ok(Ok(())) => drop(peering.name(&id, &headers)?),
            // the time is up, or the mesh stops
            Ok(Err(_)) | Err(_) => {
                peering.name(&id, &headers)?;
                return Ok(StatusCode::NOT_MODIFIED.into_response());
            }
        }
    }
}

async fn hear(
    State(peering): State<Arc<Peering>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(told): Json<Told>,
) -> Result<Response, Away> {
    let name = peering.name(&id, &headers)?;
    peering.send(name, Some(told));
    Ok(StatusCode::OK.into_response())
}

async fn end(
    State(peering): State<Arc<Peering>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Away> {
    let name = peering.name(&id, &headers)?;
    peering.accepted.remove(&id);
    peering.send(name, None);
    Ok(StatusCode::OK.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Authority;
    use crate::intentions::Intention;
    use crate::world::World;
    use axum::body::Body;
    use axum::http::Request;
    use rstest::rstest;
    use tower::ServiceExt;

    #[rstest]
    #[case::just_begun("1", false, true, StatusCode::NOT_MODIFIED)]
    #[case::others_are_awaited("1", true, true, StatusCode::OK)]
    #[case::it_has_been_waited("1", false, false, StatusCode::OK)]
    #[case::perhaps_not_read_yet("2", true, true, StatusCode::SERVICE_UNAVAILABLE)]
    #[tokio::test]
    async fn what_is_not_known_yet_is_not_told(
        #[case] id: &str,
        #[case] is_whole: bool,
        #[case] is_partial: bool,
        #[case] expected: StatusCode,
    ) {
        let world = World { is_whole, is_partial, ..crate::fixture::world(&["web"], Intention::Allow, &[]) };
        let authority = Authority::new(world.names.clone()).expect("an authority");
        let (_publish, worlds) = tokio::sync::watch::channel(Arc::new(world));
        let (accepted, (changes, _)) = (Arc::new(Accepted::default()), mpsc::unbounded_channel());
        accepted.add("1", &"east".into(), "s3cret");
        let router = router(Arc::new(Shared::new(worlds, authority.clone(), authority, None)), accepted, changes);
        let request = Request::get(format!("{PATH}{id}?wait=0")).header(SECRET, "s3cret").body(Body::empty());
        let answer = router.oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), expected);
    }
}
