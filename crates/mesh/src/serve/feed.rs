//! The server's end of the feed: what changed for a proxy since it last asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;

use super::{Shared, dns};
use crate::feed::{DNS_PATH, PROXY_PATH, Update};
use crate::go;
use crate::world::World;

/// How long a proxy's question is held when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// What each proxy has been told.
struct Feed {
    shared: Arc<Shared>,
    /// By node and proxy id.
    proxies: Mutex<HashMap<(Option<String>, String), Told>>,
}

/// A proxy's resources and when each changed last; a resource without value is gone.
#[derive(Default)]
struct Told {
    /// The world that was rendered last.
    world: u64,
    resources: BTreeMap<(String, String), (u64, Option<Value>)>,
}

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let feed = Arc::new(Feed { shared, proxies: Mutex::default() });
    Router::new().route(&format!("{PROXY_PATH}{{id}}"), get(proxy)).route(DNS_PATH, post(query)).with_state(feed)
}

#[derive(Deserialize)]
struct Parameters {
    node: Option<String>,
    #[serde(default)]
    index: u64,
    wait: Option<String>,
}

async fn proxy(State(feed): State<Arc<Feed>>, Path(id): Path<String>, Query(query): Query<Parameters>) -> Response {
    let wait = query.wait.as_deref().and_then(go::duration).unwrap_or(DEFAULT_WAIT);
    let deadline = tokio::time::Instant::now() + wait;
    let mut worlds = feed.shared.worlds();
    loop {
        let world = worlds.borrow_and_update().clone();
        let known = match feed.since(&world, query.node.as_deref(), &id, query.index) {
            Some(update) if !update.resources.is_empty() => return axum::Json(update).into_response(),
            unchanged => unchanged.is_some(),
        };
        match tokio::time::timeout_at(deadline, worlds.changed()).await {
            Ok(Ok(())) => {}
            // the deadline, or the mesh stops
            _ if known => return StatusCode::NOT_MODIFIED.into_response(),
            _ => return (StatusCode::NOT_FOUND, format!("proxy {id:?} is not registered")).into_response(),
        }
    }
}

impl Feed {
    /// What changed after `index`; everything when that index is none of ours. `None`: no such proxy.
    fn since(&self, world: &World, node: Option<&str>, id: &str, index: u64) -> Option<Update> {
        let key = (node.map(str::to_owned), id.to_owned());
        let mut proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(instance) = world.catalog.proxy(node, id) else {
            proxies.remove(&key);
            return None;
        };
        let told = proxies.entry(key).or_default();
        if told.world < world.index {
            told.renew(self.shared.render_in(world, node, id)?, world.index);
        }
        let index = if index > told.world { 0 } else { index };
        let mut update =
            Update { index: told.world, service: instance.service.clone(), full: index == 0, ..Update::default() };
        for ((section, name), (changed, value)) in &told.resources {
            // a proxy that knows nothing need not hear what is gone
            if *changed > index && (index > 0 || value.is_some()) {
                update.resources.entry(section.clone()).or_default().insert(name.clone(), value.clone());
            }
        }
        Some(update)
    }
}

impl Told {
    fn renew(&mut self, rendered: Value, world: u64) {
        self.world = world;
        let mut fresh = BTreeMap::new();
        let Value::Object(sections) = rendered else { return };
        for (section, resources) in sections {
            let Value::Object(resources) = resources else { continue };
            fresh.extend(resources.into_iter().map(|(name, value)| ((section.clone(), name), value)));
        }
        for (key, (changed, value)) in &mut self.resources {
            if value.is_some() && !fresh.contains_key(key) {
                (*changed, *value) = (world, None);
            }
        }
        for (key, value) in fresh {
            let entry = self.resources.entry(key).or_insert((world, None));
            if entry.1.as_ref() != Some(&value) {
                *entry = (world, Some(value));
            }
        }
    }
}

#[derive(Deserialize)]
struct DnsParameters {
    protocol: Option<String>,
}

async fn query(State(feed): State<Arc<Feed>>, Query(parameters): Query<DnsParameters>, message: Bytes) -> Response {
    let transport = match parameters.protocol.as_deref() {
        Some("tcp") => dns::Transport::Tcp,
        _ => dns::Transport::Udp,
    };
    match dns::answer(&feed.shared.world(), &message, transport) {
        Some(answer) => ([(header::CONTENT_TYPE, "application/dns-message")], answer).into_response(),
        None => (StatusCode::BAD_REQUEST, "not a DNS query").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let mut told = Told::default();
        told.renew(json!({"clusters": {"a": 1, "b": 1}}), 5);
        told.renew(json!({"clusters": {"a": 1, "c": 1}}), 6);
        let changes: Vec<_> = told.resources.iter().map(|((_, n), (i, v))| (n.as_str(), *i, v.is_some())).collect();
        assert_eq!(changes, [("a", 5, true), ("b", 6, false), ("c", 6, true)]);
    }
}
