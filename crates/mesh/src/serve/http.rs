//! Consul's HTTP API, as far as init containers and operators read it, with blocking queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use crate::catalog::{health_entry, node_services, service_entry};
use crate::filter::Filter;
use crate::go;
use crate::registration::{Health, Instance};
use crate::world::World;

/// How long a blocking query waits when it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);
/// How long it may wait.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/catalog/node-services/{node}", get(node))
        .route("/v1/catalog/services", get(services))
        .route("/v1/catalog/service/{name}", get(catalog_service))
        .route("/v1/health/service/{name}", get(health_service))
        .route("/v1/health/connect/{name}", get(health_connect))
        .route("/v1/connect/ca/roots", get(roots))
        .route("/v1/status/leader", get(|| async { axum::Json("127.0.0.1:8300") }))
        .with_state(shared)
}

#[derive(Deserialize)]
struct Parameters {
    index: Option<u64>,
    wait: Option<String>,
    filter: Option<String>,
    #[serde(rename = "merge-central-config")]
    merge: Option<String>,
    passing: Option<String>,
}

type Answer = Result<Response, (StatusCode, String)>;

async fn node(State(shared): State<Arc<Shared>>, Path(node): Path<String>, Query(query): Query<Parameters>) -> Answer {
    answer(&shared, &query, |world, filter| {
        let (described, mut services) = node_services(world, &node, query.merge.is_some());
        services.retain(|s| filter.accepts(s));
        json!({"Node": described, "Services": services})
    })
    .await
}

async fn services(State(shared): State<Arc<Shared>>, Query(query): Query<Parameters>) -> Answer {
    answer(&shared, &query, |world, _| {
        let mut tags: BTreeMap<String, Vec<&String>> = BTreeMap::from([("consul".to_owned(), vec![])]);
        for service in world.catalog.services() {
            let all = || world.catalog.instances(service).iter().flat_map(|i| &i.tags);
            for name in [service.to_owned(), format!("{service}-sidecar-proxy")] {
                let list = tags.entry(name).or_default();
                list.extend(all());
                list.sort();
                list.dedup();
            }
        }
        json!(tags)
    })
    .await
}

async fn catalog_service(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<Parameters>,
) -> Answer {
    answer(&shared, &query, |world, filter| entries(world, &name, filter, |_| true, service_entry)).await
}

async fn health_service(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<Parameters>,
) -> Answer {
    let wanted = |i: &Instance| query.passing.is_none() || i.health == Health::Passing;
    answer(&shared, &query, |world, filter| entries(world, &name, filter, wanted, health_entry)).await
}

async fn health_connect(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<Parameters>,
) -> Answer {
    let wanted = |i: &Instance| query.passing.is_none() || i.health == Health::Passing;
    let name = format!("{name}-sidecar-proxy");
    answer(&shared, &query, |world, filter| entries(world, &name, filter, wanted, health_entry)).await
}

/// The instances of an application, or of its proxies when the name ends so.
fn entries(
    world: &World,
    name: &str,
    filter: &Filter,
    wanted: impl Fn(&Instance) -> bool,
    entry: impl Fn(&World, &Instance, bool) -> Value,
) -> Value {
    let (service, proxy) = match name.strip_suffix("-sidecar-proxy") {
        Some(service) if world.catalog.instances(name).is_empty() => (service, true),
        _ => (name, false),
    };
    let instances = world.catalog.instances(service).iter().filter(|i| wanted(i));
    let entries = instances.map(|i| entry(world, i, proxy)).filter(|e| filter.accepts(e));
    Value::Array(entries.collect())
}

async fn roots(State(shared): State<Arc<Shared>>, Query(query): Query<Parameters>) -> Answer {
    let root = shared.authority.root_pem();
    answer(&shared, &query, |world, _| {
        json!({
            "ActiveRootID": "pellucid", "TrustDomain": world.names.trust_domain(),
            "Roots": [{
                "ID": "pellucid", "Name": "Pellucid CA Root Cert", "RootCert": root, "Active": true,
                "PrivateKeyType": "ec", "PrivateKeyBits": 256,
            }],
        })
    })
    .await
}

/// Waits as the query demands, then answers with the world that is there.
async fn answer(shared: &Shared, query: &Parameters, body: impl Fn(&World, &Filter) -> Value) -> Answer {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    let filter = Filter::parse(query.filter.as_deref().unwrap_or_default()).map_err(|e| bad(e.to_string()))?;
    let wait = match &query.wait {
        Some(text) => go::duration(text).ok_or_else(|| bad(format!("invalid wait time {text:?}")))?,
        None => DEFAULT_WAIT,
    };
    let mut worlds = shared.worlds();
    if let Some(index) = query.index.filter(|i| *i > 0) {
        // an index from before a restart is above ours and must not wait for ever
        let newer = worlds.wait_for(|w| w.index > index || w.index < index.saturating_sub(1));
        let _ = tokio::time::timeout(wait.min(MAX_WAIT), newer).await;
    }
    let world = worlds.borrow().clone();
    let mut response = axum::Json(body(&world, &filter)).into_response();
    let headers = response.headers_mut();
    headers.insert("X-Consul-Index", HeaderValue::from(world.index));
    headers.insert("X-Consul-Knownleader", HeaderValue::from_static("true"));
    headers.insert("X-Consul-Lastcontact", HeaderValue::from_static("0"));
    Ok(response)
}
