//! What Prometheus is told.

use crate::install::Progress;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Label of Pods that were found not redirected: `redirected`, `evicted`, `reported` or `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Outcome {
    pub(super) outcome: &'static str,
}

/// Label of what the plugin said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Said {
    message: &'static str,
}

/// What the plugin said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Annotations,
    Redirected,
    Refused,
}

/// The numbers. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    heard: Family<Said, Counter>,
    pub(super) repairs: Family<Outcome, Counter>,
    pub(super) checks: Counter,
    pub(super) unredirected: Gauge,
    pub(super) exempt_containers: Counter,
    pub(super) bypasses: Counter,
    pub(super) status_failures: Counter,
    installations: Gauge,
    contested: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pellucid_cni");
        let mut metrics = Self {
            registry: Arc::default(),
            heard: Family::default(),
            repairs: Family::default(),
            checks: Counter::default(),
            unredirected: Gauge::default(),
            exempt_containers: Counter::default(),
            bypasses: Counter::default(),
            status_failures: Counter::default(),
            installations: Gauge::default(),
            contested: Gauge::default(),
        };
        let said = metrics.heard.clone();
        registry.register("messages", "What the plugin has asked and told, by kind", said);
        let about = "Pods that were found not redirected, by what became of them";
        registry.register("repairs", about, metrics.repairs.clone());
        registry.register("checks", "Network namespaces of pods that were looked at", metrics.checks.clone());
        let about = "Pods of the mesh on this node that are not redirected now";
        registry.register("unredirected_pods", about, metrics.unredirected.clone());
        let about = "Containers that run as the proxy's user and are not the proxy";
        registry.register("exempt_containers", about, metrics.exempt_containers.clone());
        let about = "Connections that went around the proxy by a process with its user";
        registry.register("bypasses", about, metrics.bypasses.clone());
        let about = "Status annotations that could not be written at once";
        registry.register("status_failures", about, metrics.status_failures.clone());
        let about = "How often program or entry of the plugin were put right on the node";
        registry.register("installations", about, metrics.installations.clone());
        let about = "1 while another program takes the plugin out of the network configuration";
        registry.register("contested", about, metrics.contested.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    pub(super) fn heard(&self, kind: Kind) {
        let message = match kind {
            Kind::Annotations => "annotations",
            Kind::Redirected => "redirected",
            Kind::Refused => "refused",
        };
        self.heard.get_or_create(&Said { message }).inc();
    }

    fn text(&self, progress: Progress) -> String {
        self.installations.set(i64::try_from(progress.changes).unwrap_or(i64::MAX));
        self.contested.set(progress.contested.into());
        let mut text = String::new();
        // writing to a string does not fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Serves `/metrics` until it is dropped.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    metrics: Metrics,
    progress: watch::Receiver<Progress>,
    listener: TcpListener,
) -> std::io::Result<()> {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let numbers = move || {
        let text = metrics.text(*progress.borrow());
        async move { ([(CONTENT_TYPE, FORMAT)], text) }
    };
    let routes = Router::new().route("/metrics", get(numbers));
    axum::serve(listener, routes).await
}
