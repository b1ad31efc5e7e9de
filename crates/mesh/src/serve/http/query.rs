//! `/v1/query`: prepared queries, made, changed, executed and forgotten.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Answer, Parameters, Refusal, answer, bad, try_answer};
use crate::catalog::health_entry;
use crate::cluster::{self, Change};
use crate::query::{Found, Query, Refused, Request};
use crate::serve::Shared;
use crate::serve::caller::{self, Caller};
use crate::world::World;

/// What the routes share.
struct Made {
    shared: Arc<Shared>,
    changes: mpsc::UnboundedSender<cluster::Told>,
}

/// The routes.
pub(crate) fn router(shared: Arc<Shared>, changes: mpsc::UnboundedSender<cluster::Told>) -> Router {
    let router = Router::new()
        .route("/v1/query", get(list).post(make))
        .route("/v1/query/{id}", get(one).put(change).delete(forget))
        .route("/v1/query/{id}/execute", get(execute))
        .with_state(Arc::new(Made { shared: shared.clone(), changes }));
    caller::known(router, shared)
}

/// An error unless the caller may write queries.
fn must_operate(caller: &Caller) -> Result<(), Refusal> {
    let refused = || (StatusCode::FORBIDDEN, "Permission denied".to_owned());
    caller.rights.operates().then_some(()).ok_or_else(refused)
}

async fn list(State(made): State<Arc<Made>>, query: Parameters) -> Answer {
    answer(&made.shared, &query, |world, _| json!(world.queries.values().collect::<Vec<_>>())).await
}

async fn one(State(made): State<Arc<Made>>, Path(id): Path<String>, query: Parameters) -> Answer {
    try_answer(&made.shared, &query, |world, _| Ok(json!([world.queries.get(&id).ok_or_else(missing)?]))).await
}

async fn make(
    State(made): State<Arc<Made>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Refusal> {
    must_operate(&caller)?;
    let read = Query::parse(&body).map_err(bad)?;
    if !read.id.is_empty() {
        return Err(bad("ID must be empty when creating a new prepared query"));
    }
    let id = crate::mesh::uuid();
    made.put(Query { id: id.clone(), ..read }, true).await?;
    Ok(axum::Json(json!({"ID": id})).into_response())
}

async fn change(
    State(made): State<Arc<Made>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(), Refusal> {
    must_operate(&caller)?;
    let read = Query::parse(&body).map_err(bad)?;
    if !read.id.is_empty() && read.id != id {
        return Err(bad(format!("ID is {:?} in the body and {id:?} in the path", read.id)));
    }
    made.put(Query { id, ..read }, false).await
}

async fn forget(
    State(made): State<Arc<Made>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<(), Refusal> {
    must_operate(&caller)?;
    made.send(|done| Change::Query(Request::Forget(id), done)).await
}

async fn execute(State(made): State<Arc<Made>>, Path(id): Path<String>, query: Parameters) -> Answer {
    try_answer(&made.shared, &query, |world, _| {
        // an id, or a name
        let query = world.queries.get(&id).or_else(|| world.query(&id)).ok_or_else(missing)?;
        let (found, failovers) = query.execute(world);
        let datacenter = match &found {
            Found::Here(_) => world.names.datacenter(),
            Found::In(datacenter, _) => datacenter,
        };
        Ok(json!({
            "Service": query.service.service, "Namespace": "default", "Datacenter": datacenter, "Failovers": failovers,
            "DNS": {"TTL": ""}, "Nodes": nodes(world, &found, query.service.connect),
        }))
    })
    .await
}

/// As `/v1/health/service` has them; of another datacenter, what is known of them here.
fn nodes(world: &World, found: &Found<'_>, proxies: bool) -> Vec<Value> {
    match found {
        Found::Here(instances) => instances.iter().map(|i| health_entry(world, i, proxies)).collect(),
        Found::In(datacenter, seen) => {
            let one = |seen: &&crate::abroad::Seen| {
                let port = if proxies { seen.address.port() } else { seen.port };
                json!({
                    "Node": {"Datacenter": datacenter, "Address": seen.address.ip()},
                    "Service": {"Address": seen.address.ip(), "Port": port, "Tags": seen.tags},
                    "Checks": [],
                })
            };
            seen.iter().map(one).collect()
        }
    }
}

fn missing() -> Refusal {
    (StatusCode::NOT_FOUND, "Query not found".to_owned())
}

impl Made {
    async fn put(&self, query: Query, is_new: bool) -> Result<(), Refusal> {
        self.send(|done| Change::Query(Request::Put(Box::new(query), is_new), done)).await
    }

    /// Returns when the change is in a world.
    async fn send(&self, change: impl FnOnce(oneshot::Sender<Result<(), Refused>>) -> Change) -> Result<(), Refusal> {
        let (done, outcome) = oneshot::channel();
        let stopped = || (StatusCode::SERVICE_UNAVAILABLE, "the servers are stopping".to_owned());
        self.changes.send((0, change(done))).map_err(|_| stopped())?;
        match outcome.await.map_err(|_| stopped())? {
            Ok(()) => Ok(()),
            Err(Refused::Missing) => Err(missing()),
            Err(Refused::Taken(name)) => Err(bad(format!("name {name:?} is that of another query: take another name"))),
        }
    }
}
