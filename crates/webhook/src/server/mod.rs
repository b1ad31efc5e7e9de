//! The admission server: reviews over HTTPS, health over plain HTTP, until it is told to stop.

mod admission;
mod certificate;
mod connections;
mod health;
mod namespaces;

pub use certificate::{CertificateError, server_config};
pub use namespaces::{NamespaceError, Namespaces};

use crate::Settings;
use axum::Router;
use connections::Acceptor;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long connections may take to end once the server is to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What the server is made of.
pub struct Server {
    /// Where reviews arrive.
    pub reviews: TcpListener,
    /// Where health is asked for.
    pub health: TcpListener,
    /// Certificate and key.
    pub tls: Arc<rustls::ServerConfig>,
    /// The cluster's settings.
    pub settings: Settings,
    /// The cluster's Namespaces.
    pub namespaces: Namespaces,
}

impl Server {
    /// Serves until `stop` completes; then finishes the requests under way, within ten seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { reviews, health, tls, settings, namespaces } = self;
        let (stopping, stopped) = watch::channel(false);
        let health_routes = health::routes(namespaces.clone(), stopped.clone());
        let review_routes = admission::routes(settings, namespaces);
        let serve = |listener, acceptor, routes: Router| {
            tokio::spawn(connections::serve(listener, acceptor, routes, stopped.clone()))
        };
        let health = serve(health, Acceptor::Plain, health_routes);
        let reviews = serve(reviews, Acceptor::Tls(tls.into()), review_routes);
        stop.await;
        tracing::info!(seconds = DRAIN.as_secs(), "stopping: no new connections, finishing the requests under way");
        stopping.send_replace(true);
        if tokio::time::timeout(DRAIN, reviews).await.is_err() {
            tracing::warn!("connections were still open at the end of the drain time and are cut");
        }
        health.abort();
    }
}
