//! The server's end of the feed: what changed for a proxy since it last asked.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde::Deserialize;

use super::caller::{self, Caller};
use super::{Shared, dns};
use crate::feed::{DNS_PATH, PROXY_PATH};
use crate::go;
use crate::proxies::{Answer, Known, Proxies};

/// How long a proxy's question is held when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

struct Feed {
    shared: Arc<Shared>,
    proxies: Proxies,
}

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let feed = Arc::new(Feed { proxies: Proxies::start(shared.clone()), shared: shared.clone() });
    let router = Router::new().route(&format!("{PROXY_PATH}{{id}}"), get(proxy)).route(DNS_PATH, post(query));
    caller::known(router.with_state(feed), shared)
}

#[derive(Deserialize)]
struct Parameters {
    node: Option<String>,
    #[serde(default)]
    index: u64,
    wait: Option<String>,
}

async fn proxy(
    State(feed): State<Arc<Feed>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(query): Query<Parameters>,
) -> Result<Response, (StatusCode, String)> {
    let wait = query.wait.as_deref().and_then(go::duration).unwrap_or(DEFAULT_WAIT);
    let deadline = tokio::time::Instant::now() + wait;
    let unregistered = || (StatusCode::NOT_FOUND, format!("proxy {id:?} is not registered"));
    // a certificate is made for who may write the service alone, so nothing is begun before that is known
    let mut worlds = feed.shared.worlds();
    let is_registered = worlds.wait_for(|world| world.catalog.proxy(query.node.as_deref(), &id).is_some());
    let Ok(Ok(world)) = tokio::time::timeout_at(deadline, is_registered).await.map(|found| found.map(|w| w.clone()))
    else {
        return Err(unregistered());
    };
    if let Some(instance) = world.catalog.proxy(query.node.as_deref(), &id) {
        caller.must_write(&feed.shared, &instance.service)?;
    }
    let mut known = feed.proxies.of((query.node, id.clone()));
    loop {
        let registered = match &*known.borrow_and_update() {
            Known::Told(told) => match told.update(query.index) {
                Some(update) => {
                    // the token may have been taken away meanwhile
                    caller.must_write(&feed.shared, told.service())?;
                    return Ok(([(header::CONTENT_TYPE, "application/json")], body(update)).into_response());
                }
                None => Some(true),
            },
            Known::Unregistered => Some(false),
            Known::Pending => None,
        };
        let changed = match registered {
            // who waits for nothing is answered all the same
            None => known.changed().await.map_err(drop),
            Some(_) => {
                tokio::time::timeout_at(deadline, known.changed()).await.map_err(drop).and_then(|c| c.map_err(drop))
            }
        };
        match (changed, registered) {
            (Ok(()), _) => {}
            // the deadline, or the mesh stops
            (Err(()), Some(true)) => return Ok(StatusCode::NOT_MODIFIED.into_response()),
            (Err(()), _) => return Err(unregistered()),
        }
    }
}

/// With its length if it is short, and as it is written if it is long.
fn body(mut update: Answer) -> Body {
    let first = update.next().unwrap_or_default();
    if update.at_end() {
        return Body::from(first);
    }
    Body::from_stream(futures::stream::iter(std::iter::once(first).chain(update).map(Ok::<_, Infallible>)))
}

#[derive(Deserialize)]
struct DnsParameters {
    protocol: Option<String>,
}

async fn query(
    State(feed): State<Arc<Feed>>,
    Extension(caller): Extension<Caller>,
    Query(parameters): Query<DnsParameters>,
    message: Bytes,
) -> Response {
    let transport = match parameters.protocol.as_deref() {
        Some("tcp") => dns::Transport::Tcp,
        _ => dns::Transport::Udp,
    };
    let world = feed.shared.world_to_answer(&message).await;
    match dns::answer(&world, &caller.rights, &message, transport) {
        Some(answer) => ([(header::CONTENT_TYPE, "application/dns-message")], answer).into_response(),
        None => (StatusCode::BAD_REQUEST, "not a DNS query").into_response(),
    }
}
