//! The admission server: reviews over HTTPS, health and numbers over plain HTTP, until it is told to stop.

mod admission;
mod body;
pub mod certificates;
mod health;
pub mod https;
mod metrics;
mod watches;

pub use certificates::{CertificateError, Certificates};
pub use metrics::Metrics;
pub use watches::{NamespaceError, Watches};

use crate::Settings;
use axum::Router;
use https::Acceptor;
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
    /// Where numbers are asked for.
    pub numbers: TcpListener,
    /// What is served with.
    pub certificates: Certificates,
    /// The cluster's settings.
    pub settings: Settings,
    /// What is known of the cluster.
    pub watches: Watches,
    /// The numbers.
    pub metrics: Metrics,
    /// How long connections are still accepted once the server is to stop: so long others may believe that it is there.
    pub linger: Duration,
}

impl Server {
    /// Serves until `stop` completes; then is no longer ready, lingers, and finishes the requests under way, within ten
    /// seconds.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), CertificateError> {
        let Self { reviews, health, numbers, certificates, settings, watches, metrics, linger } = self;
        let tls = Acceptor::Tls(certificates.server_config()?.into());
        let (stopping, stopped) = watch::channel(false);
        let (leaving, left) = watch::channel(false);
        let health_routes = health::routes(watches.clone(), certificates, left);
        let review_routes = admission::routes(settings, watches, metrics.clone());
        let serve = |listener, acceptor, routes: Router| {
            tokio::spawn(https::serve(listener, acceptor, routes, stopped.clone()))
        };
        let health = serve(health, Acceptor::Plain, health_routes);
        let numbers = serve(numbers, Acceptor::Plain, health::metrics(metrics));
        let reviews = serve(reviews, tls, review_routes);
        stop.await;
        leaving.send_replace(true);
        tracing::info!(seconds = linger.as_secs(), "stopping: not ready any more");
        tokio::time::sleep(linger).await;
        tracing::info!(seconds = DRAIN.as_secs(), "no new connections, finishing the requests under way");
        stopping.send_replace(true);
        if tokio::time::timeout(DRAIN, reviews).await.is_err() {
            tracing::warn!("connections were still open at the end of the drain time and are cut");
        }
        health.abort();
        numbers.abort();
        Ok(())
    }
}
