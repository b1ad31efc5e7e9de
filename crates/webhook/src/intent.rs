//! What is wanted for one Pod: annotations, namespace labels and settings, read once into values that cannot be wrong later.

use crate::metrics::PodMetrics;
use crate::probes::LISTENERS_PER_PROBE;
use crate::reader::Reader;
use crate::redirect_config::Switches;
use crate::settings::{Lifecycle, Resources};
use crate::upstreams::Upstream;
use crate::{
    Mistake, Refusal, Settings, boolean, guard, keys, lifecycle, metrics, probes, redirect_config, resources, upstreams,
};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec, Volume, VolumeMount};
use redirect::contract;
use serde::de::DeserializeOwned;

/// Everything the mutation needs to know.
pub(crate) struct Intent {
    /// What to redirect; `None` means no transparent proxy.
    pub(crate) redirection: Option<redirect::Config>,
    /// Send HTTP probes through the sidecar. Implies transparent proxy.
    pub(crate) overwrite_probes: bool,
    /// Resolve names by Consul. Implies transparent proxy.
    pub(crate) dns: bool,
    /// Probe the sidecar by its own `/ready`.
    pub(crate) proxy_health: bool,
    /// Explicit upstreams.
    pub(crate) upstreams: Vec<Upstream>,
    /// The sidecar's life cycle.
    pub(crate) lifecycle: Lifecycle,
    /// Metrics.
    pub(crate) metrics: PodMetrics,
    /// The sidecar's resources.
    pub(crate) resources: Resources,
    /// Envoy's worker threads.
    pub(crate) concurrency: u32,
    /// Further arguments for Envoy.
    pub(crate) envoy_extra_args: Vec<String>,
    /// Seconds the sidecar has to start.
    pub(crate) startup_failure_seconds: u32,
    /// Seconds of failing liveness probes before a restart.
    pub(crate) liveness_failure_seconds: u32,
    /// Containers that get the shared volume mounted.
    pub(crate) mount_into: Vec<String>,
    /// The user's volumes for the sidecar.
    pub(crate) user_volumes: Vec<Volume>,
    /// Where the sidecar mounts volumes of the user's.
    pub(crate) user_mounts: Vec<VolumeMount>,
}

impl Intent {
    /// Reads everything, or refuses with every mistake there is.
    pub(crate) fn read(pod: &Pod, spec: &PodSpec, namespace: &Namespace, settings: &Settings) -> Result<Self, Refusal> {
        let mut reader = Reader::new(pod);
        let transparent_proxy = reader
            .boolean(contract::TRANSPARENT_PROXY)
            .or_else(|| label(&mut reader, namespace, contract::TRANSPARENT_PROXY))
            .unwrap_or(settings.default_transparent_proxy);
        let dns = transparent_proxy
            && reader
                .boolean(contract::CONSUL_DNS)
                .or_else(|| label(&mut reader, namespace, contract::CONSUL_DNS))
                .unwrap_or(settings.consul_dns);
        let overwrite_probes = transparent_proxy
            && reader.boolean(contract::OVERWRITE_PROBES).unwrap_or(settings.default_overwrite_probes);
        let proxy_health = reader.filled_boolean(contract::USE_PROXY_HEALTH_CHECK).unwrap_or(false);
        let metrics = metrics::of_pod(&mut reader, spec, &settings.metrics);
        several_services(&mut reader, transparent_proxy);
        native_sidecar(&mut reader);
        let switches = Switches { dns, proxy_health, overwrite_probes, metrics: &metrics };
        let redirection = transparent_proxy.then(|| redirect_config::of_pod(&mut reader, spec, settings, &switches));
        let intent = Self {
            redirection,
            overwrite_probes,
            dns,
            proxy_health,
            upstreams: upstreams::of_pod(&mut reader, spec),
            lifecycle: lifecycle::of_pod(&mut reader, &settings.lifecycle),
            metrics,
            resources: resources::of_sidecar(&mut reader, &settings.sidecar_resources),
            concurrency: reader.number(contract::ENVOY_PROXY_CONCURRENCY).unwrap_or(settings.concurrency),
            envoy_extra_args: reader
                .parsed(contract::ENVOY_EXTRA_ARGS, "words as a shell would split them", |text| {
                    shell_words::split(text).ok()
                })
                .unwrap_or_else(|| settings.envoy_extra_args.clone()),
            startup_failure_seconds: reader
                .number(keys::STARTUP_FAILURE_SECONDS)
                .unwrap_or(settings.startup_failure_seconds),
            liveness_failure_seconds: reader
                .number(keys::LIVENESS_FAILURE_SECONDS)
                .unwrap_or(settings.liveness_failure_seconds),
            mount_into: reader
                .filled(contract::CONNECT_INJECT_MOUNT_VOLUME)
                .map(|names| names.split(',').map(|name| name.trim().to_owned()).collect())
                .unwrap_or_default(),
            user_volumes: json_array(&mut reader, keys::SIDECAR_USER_VOLUME, "a JSON array of volumes"),
            user_mounts: json_array(&mut reader, keys::SIDECAR_USER_VOLUME_MOUNT, "a JSON array of volume mounts"),
        };
        let mut mistakes = reader.mistakes;
        let containers = probes::containers(spec);
        if overwrite_probes && containers > usize::from(LISTENERS_PER_PROBE) {
            mistakes.push(Mistake::TooManyContainers { containers });
        }
        mistakes.extend(guard::mistakes(spec, transparent_proxy, dns));
        Refusal::check(mistakes)?;
        Ok(intent)
    }
}

/// A boolean label of the Namespace; a label that is present must be readable.
fn label(reader: &mut Reader<'_>, namespace: &Namespace, key: &'static str) -> Option<bool> {
    let text = namespace.metadata.labels.as_ref()?.get(key)?;
    // An unreadable annotation is refused already, and would have won over the label.
    if reader.text(key).is_some() {
        return None;
    }
    let value = boolean::parse(text);
    if value.is_none() {
        reader.mistakes.push(Mistake::NamespaceLabel {
            key,
            namespace: namespace.metadata.name.clone().unwrap_or_default(),
            problem: format!("{text:?} is not allowed; allowed is {}", boolean::ALLOWED),
        });
    }
    value
}

fn several_services(reader: &mut Reader<'_>, transparent_proxy: bool) {
    let Some(value) = reader.filled(contract::CONNECT_SERVICE).filter(|value| value.contains(',')) else { return };
    reader.mistakes.push(if transparent_proxy {
        Mistake::SeveralServices { value: value.to_owned(), with: "transparent proxy" }
    } else {
        Mistake::Unsupported {
            what: format!("several services for one pod, annotation {}: {value:?}", contract::CONNECT_SERVICE),
        }
    });
}

fn native_sidecar(reader: &mut Reader<'_>) {
    if reader.filled_boolean(keys::NATIVE_SIDECAR) == Some(true) {
        let what = format!("the sidecar as a restartable init container, annotation {}", keys::NATIVE_SIDECAR);
        reader.mistakes.push(Mistake::Unsupported { what });
    }
}

/// A JSON array of Kubernetes objects; an empty annotation counts as absent.
fn json_array<T: DeserializeOwned>(reader: &mut Reader<'_>, key: &'static str, allowed: &str) -> Vec<T> {
    let Some(text) = reader.filled(key) else { return Vec::new() };
    serde_json::from_str(text).unwrap_or_else(|error| {
        let problem = format!("not readable ({error}); allowed is {allowed}");
        reader.mistakes.push(Mistake::Annotation { key, problem });
        Vec::new()
    })
}
