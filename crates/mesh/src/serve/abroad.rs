//! Tells other datacenters what there is here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::Shared;
use crate::abroad::{Abroad, PATH, Told};
use crate::go;

/// How long a question is held when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// The route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route(PATH, get(tell)).with_state(shared)
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    index: u64,
    wait: Option<String>,
}

async fn tell(State(shared): State<Arc<Shared>>, Query(query): Query<Parameters>) -> Response {
    let wait = query.wait.as_deref().and_then(go::duration).unwrap_or(DEFAULT_WAIT);
    let mut worlds = shared.worlds();
    // an index of other servers than these is another one
    let newer = worlds.wait_for(|world| world.knows_itself() && world.index != query.index);
    match tokio::time::timeout(wait, newer).await {
        Ok(Ok(world)) => Json(Told { index: world.index, abroad: Abroad::of(&world) }).into_response(),
        // the time is up, or the mesh stops
        Ok(Err(_)) | Err(_) => StatusCode::NOT_MODIFIED.into_response(),
    }
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
    #[case::just_begun(false, true, StatusCode::NOT_MODIFIED)]
    #[case::others_are_awaited(true, true, StatusCode::OK)]
    #[case::it_has_been_waited(false, false, StatusCode::OK)]
    #[tokio::test]
    async fn what_is_not_known_yet_is_not_told(
        #[case] is_whole: bool,
        #[case] is_partial: bool,
        #[case] expected: StatusCode,
    ) {
        let world = World { is_whole, is_partial, ..crate::fixture::world(&["web"], Intention::Allow, &[]) };
        let authority = Authority::new(world.names.clone()).expect("an authority");
        let (_publish, worlds) = tokio::sync::watch::channel(Arc::new(world));
        let router = router(Arc::new(Shared::new(worlds, authority.clone(), authority, None)));
        let request = Request::get(format!("{PATH}?wait=0")).body(Body::empty()).expect("a request");
        assert_eq!(router.oneshot(request).await.expect("an answer").status(), expected);
    }
}
