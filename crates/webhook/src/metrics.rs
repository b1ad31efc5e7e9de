//! Metrics as one Pod wants them.

use crate::reader::Reader;
use crate::settings::Metrics;
use crate::{Mistake, keys};
use k8s_openapi::api::core::v1::PodSpec;
use redirect::contract::{CONNECT_SERVICE_PORT, ENABLE_METRICS};

/// What the sidecar exposes for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodMetrics {
    /// Expose anything at all.
    pub(crate) enabled: bool,
    /// Merge the application's metrics.
    pub(crate) merging: bool,
    /// Where Prometheus scrapes.
    pub(crate) scrape_port: u16,
    /// What it scrapes.
    pub(crate) scrape_path: String,
    /// How they are merged; only when they are, and it is known where they are.
    pub(crate) merge: Option<Merge>,
}

/// Merging of the application's metrics into the sidecar's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Port of the merged metrics.
    pub(crate) port: u16,
    /// The application's own metrics.
    pub(crate) service_url: String,
    /// Certificates of the merged metrics; `None` is plain text.
    pub(crate) tls: Option<PrometheusTls>,
}

/// Files for TLS towards Prometheus, in the sidecar; one of the first two at least is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrometheusTls {
    /// Authorities of scrapers, a file.
    pub(crate) ca_file: Option<String>,
    /// Authorities of scrapers, a directory.
    pub(crate) ca_path: Option<String>,
    /// The certificate.
    pub(crate) cert_file: String,
    /// Its key.
    pub(crate) key_file: String,
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
    let tls = tls(reader);
    PodMetrics {
        enabled,
        merging,
        scrape_port: reader.port(keys::PROMETHEUS_SCRAPE_PORT, 1024).unwrap_or(defaults.scrape_port),
        scrape_path,
        merge: service_port.filter(|_| enabled && merging).map(|service| Merge {
            port,
            service_url: format!("http://127.0.0.1:{service}{service_path}"),
            tls,
        }),
    }
}

/// TLS needs all of its parts; some without the others are a mistake.
fn tls(reader: &mut Reader<'_>) -> Option<PrometheusTls> {
    let file = |key| reader.filled(key).map(str::to_owned);
    let (ca_file, ca_path) = (file(keys::PROMETHEUS_CA_FILE), file(keys::PROMETHEUS_CA_PATH));
    let (cert_file, key_file) = (file(keys::PROMETHEUS_CERT_FILE), file(keys::PROMETHEUS_KEY_FILE));
    let has_ca = ca_file.is_some() || ca_path.is_some();
    if !has_ca && cert_file.is_none() && key_file.is_none() {
        return None;
    }
    let mut needed = |present: bool, key: &'static str, one_of: &str| {
        if !present {
            let problem = format!("must set {one_of} when providing prometheus TLS config");
            reader.mistakes.push(Mistake::Annotation { key, problem });
        }
    };
    let either = format!("one of {:?} or {:?}", keys::PROMETHEUS_CA_FILE, keys::PROMETHEUS_CA_PATH);
    needed(has_ca, keys::PROMETHEUS_CA_FILE, &either);
    needed(cert_file.is_some(), keys::PROMETHEUS_CERT_FILE, &format!("{:?}", keys::PROMETHEUS_CERT_FILE));
    needed(key_file.is_some(), keys::PROMETHEUS_KEY_FILE, &format!("{:?}", keys::PROMETHEUS_KEY_FILE));
    Some(PrometheusTls { ca_file, ca_path, cert_file: cert_file?, key_file: key_file? })
}

/// The first port of `connect-service-port`, or of what the webhook would write there.
fn first_service_port(reader: &Reader<'_>, spec: &PodSpec) -> Option<u16> {
    match reader.text(CONNECT_SERVICE_PORT) {
        Some(list) => reader.ports().resolve(list.split(',').next().unwrap_or_default().trim()),
        None => {
            let first = spec.containers.first()?.ports.as_ref()?.first()?;
            u16::try_from(first.container_port).ok().filter(|port| *port > 0)
        }
    }
}
