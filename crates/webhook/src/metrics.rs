//! Metrics as one Pod wants them.

use crate::reader::Reader;
use crate::settings::Metrics;
use crate::{keys, ports};
use k8s_openapi::api::core::v1::PodSpec;
use redirect::contract::{CONNECT_SERVICE_PORT, ENABLE_METRICS};

/// What the sidecar exposes for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodMetrics {
    /// Expose anything at all.
    pub(crate) enabled: bool,
    /// Where Prometheus scrapes.
    pub(crate) scrape_port: u16,
    /// What it scrapes.
    pub(crate) scrape_path: String,
    /// Merge the application's metrics; only when it is known where they are.
    pub(crate) merge: Option<Merge>,
}

/// Merging of the application's metrics into the sidecar's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Port of the merged metrics.
    pub(crate) port: u16,
    /// The application's own metrics.
    pub(crate) service_url: String,
}

/// Each setting from its annotation, else the cluster's.
pub(crate) fn of_pod(reader: &mut Reader<'_>, spec: &PodSpec, defaults: &Metrics) -> PodMetrics {
    let enabled = reader.filled_boolean(ENABLE_METRICS).unwrap_or(defaults.enabled);
    let merging = reader.filled_boolean(keys::METRICS_MERGING).unwrap_or(defaults.merging);
    let port = reader.port(keys::MERGED_METRICS_PORT, 1024).unwrap_or(defaults.merged_port);
    let service_port = reader.port(keys::SERVICE_METRICS_PORT, 1).or_else(|| first_service_port(reader, spec));
    let path = |key, default: &str| reader.filled(key).unwrap_or(default).to_owned();
    let service_path = path(keys::SERVICE_METRICS_PATH, "/metrics");
    let scrape_path = path(keys::PROMETHEUS_SCRAPE_PATH, &defaults.scrape_path);
    PodMetrics {
        enabled,
        scrape_port: reader.port(keys::PROMETHEUS_SCRAPE_PORT, 1024).unwrap_or(defaults.scrape_port),
        scrape_path,
        merge: service_port
            .filter(|_| enabled && merging)
            .map(|service| Merge { port, service_url: format!("http://127.0.0.1:{service}{service_path}") }),
    }
}

/// The first port of `connect-service-port`, or of what the webhook would write there.
fn first_service_port(reader: &Reader<'_>, spec: &PodSpec) -> Option<u16> {
    match reader.text(CONNECT_SERVICE_PORT) {
        Some(list) => ports::resolve(spec, list.split(',').next().unwrap_or_default().trim()),
        None => {
            let first = spec.containers.first()?.ports.as_ref()?.first()?;
            u16::try_from(first.container_port).ok().filter(|port| *port > 0)
        }
    }
}
