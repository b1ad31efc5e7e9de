//! What the servers share: the present world, rendered proxies, and a gate that closes and opens all of them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acl::{Acls, Rights, Unknown};
use crate::ca::{Authority, CaError, Leaf, Validity};
use crate::envoy;
use crate::feed::Rejected;
use crate::mesh::EnvoyTamper;
use crate::registration::Instance;
use crate::world::World;

pub(crate) mod abroad;
pub(crate) mod acl;
pub(crate) mod caller;
pub(crate) mod dns;
pub(crate) mod feed;
pub(crate) mod http;
pub(crate) mod peering;
pub(crate) mod rejected;
mod routers;

pub(crate) use routers::Routers;

/// A leaf is replaced when it is this old: half of its life.
const RENEW_AFTER: Duration = Duration::from_secs(36 * 3600);

/// State behind every server.
pub(crate) struct Shared {
    worlds: watch::Receiver<Arc<World>>,
    pub(crate) authority: Authority,
    pub(crate) foreign: Authority,
    acls: Option<Acls>,
    tamper: Option<Arc<dyn EnvoyTamper>>,
    leaves: Mutex<HashMap<String, (Instant, Leaf)>>,
    /// What proxies refused, with their ids, in the order in which they said so.
    rejected: Mutex<Vec<(String, Rejected)>>,
}

impl Shared {
    pub(crate) fn new(
        worlds: watch::Receiver<Arc<World>>,
        authority: Authority,
        foreign: Authority,
        tamper: Option<Arc<dyn EnvoyTamper>>,
    ) -> Self {
        Self { worlds, authority, foreign, acls: None, tamper, leaves: Mutex::default(), rejected: Mutex::default() }
    }

    /// With these ACLs, if any.
    pub(crate) fn with_acls(self, acls: Option<Acls>) -> Self {
        Self { acls, ..self }
    }

    /// The ACLs, if there are any.
    pub(crate) fn acls(&self) -> Option<&Acls> {
        self.acls.as_ref()
    }

    /// What the holder of a secret may do.
    pub(crate) fn rights(&self, secret: Option<&str>) -> Result<Rights, Unknown> {
        self.acls.as_ref().map_or(Ok(Rights::All), |acls| acls.rights(secret))
    }

    /// The present world, as far as somebody may see it.
    pub(crate) fn world_for(&self, rights: &Rights) -> Arc<World> {
        let world = self.world();
        if rights.reads() { world } else { Arc::new(world.hidden()) }
    }

    /// The present world.
    pub(crate) fn world(&self) -> Arc<World> {
        self.worlds.borrow().clone()
    }

    /// The world, once everything in it is known: of an earlier one, somebody would take for missing what only has not been heard
    /// of yet.
    pub(crate) async fn complete_world(&self) -> Arc<World> {
        let mut worlds = self.worlds();
        match worlds.wait_for(|world| !world.is_partial).await {
            Ok(world) => world.clone(),
            // everything stops
            Err(_) => self.world(),
        }
    }

    /// Tells of each new world.
    pub(crate) fn worlds(&self) -> watch::Receiver<Arc<World>> {
        self.worlds.clone()
    }

    /// The Envoy configuration of a proxy in the present world, with the saboteur's edits if there is one.
    pub(crate) fn render(&self, node: Option<&str>, proxy_id: &str) -> Option<Value> {
        let world = self.world();
        let instance = world.catalog.proxy(node, proxy_id)?;
        let leaf = self.leaf_for(instance)?;
        let mut resources = envoy::render(&world, instance, &leaf, &self.authority.root_pem());
        self.tamper(proxy_id, &mut resources);
        Some(resources)
    }

    /// Whether there is a saboteur.
    pub(crate) fn tampers(&self) -> bool {
        self.tamper.is_some()
    }

    /// The saboteur's edits, if there is one.
    pub(crate) fn tamper(&self, proxy_id: &str, resources: &mut Value) {
        if let Some(tamper) = &self.tamper {
            tamper.edit(proxy_id, resources);
        }
    }

    /// The certificate of an instance's service; `None`, and a word in the log, when there can be none.
    pub(crate) fn leaf_for(&self, instance: &Instance) -> Option<Leaf> {
        match self.leaf(&instance.service) {
            Ok(leaf) => Some(leaf),
            Err(error) => {
                let proxy_id = &instance.proxy_id;
                tracing::error!(%proxy_id, error = &error as &dyn std::error::Error, "no certificate for the proxy");
                None
            }
        }
    }

    /// The certificate of a service, shared by its proxies.
    fn leaf(&self, service: &str) -> Result<Leaf, CaError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, leaf)) = leaves.get(service)
            && made.elapsed() < RENEW_AFTER
        {
            return Ok(leaf.clone());
        }
        let leaf = self.authority.issue(service, Validity::Now)?;
        leaves.insert(service.to_owned(), (Instant::now(), leaf.clone()));
        Ok(leaf)
    }

    pub(crate) fn rejected(&self) -> Vec<(String, Rejected)> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn forget_leaves(&self) {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Opens and closes the servers. Closing ends the connections that are open.
#[derive(Clone)]
pub(crate) struct Gate {
    open: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: Arc::new(watch::Sender::new(true)), stop: CancellationToken::new() }
    }
}

impl Gate {
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Cancelled when the mesh stops.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Returns when the gate is closed or the mesh stops.
    pub(crate) async fn closed(&self) {
        let mut open = self.open.subscribe();
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = open.wait_for(|open| !open) => {}
        }
    }
}

/// Serves routers over HTTP/1.1 and HTTP/2 on a listener while the gate is open.
pub(crate) fn tcp(listener: TcpListener, routers: Routers, gate: &Gate, tasks: &TaskTracker) -> std::io::Result<()> {
    let serve = move |stream: tokio::net::TcpStream| {
        let routers = routers.clone();
        async move {
            let service = service_fn(move |request: axum::http::Request<Incoming>| {
                TowerToHyperService::new(routers.of(request.uri())).call(request)
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // a client that goes away is no event here
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            Ok::<(), Infallible>(())
        }
    };
    accept(listener, gate, tasks, serve)
}

/// Runs `serve` for each connection; a connection that comes while the gate is closed is reset.
pub(crate) fn accept<F>(
    listener: TcpListener,
    gate: &Gate,
    tasks: &TaskTracker,
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> std::io::Result<()>
where
    F: Future + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (gate, connections) = (gate.clone(), tasks.clone());
    tasks.spawn(gate.stopped().run_until_cancelled_owned(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // out of file descriptors: others must close first
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            if !gate.is_open() {
                let _ = stream.set_zero_linger();
                continue;
            }
            let _ = stream.set_nodelay(true);
            let (work, gate) = (serve(stream), gate.clone());
            connections.spawn(async move {
                tokio::select! {
                    _ = work => {}
                    () = gate.closed() => {}
                }
            });
        }
    }));
    Ok(())
}
