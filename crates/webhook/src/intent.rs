//! What is wanted for one Pod: annotations, namespace labels and settings, read once into values that cannot be wrong later.

use crate::access_log::{self, AccessLog};
use crate::identity::{self, FIXED, Ids};
use crate::login::{self, Login};
use crate::metrics::{self, PodMetrics};
use crate::probes::LISTENERS_PER_PROBE;
use crate::reader::Reader;
use crate::redirect_config::Switches;
use crate::services::{self, Instance};
use crate::settings::{Lifecycle, NamespaceMapping, NativeSidecar, Resources};
use crate::upstreams::{self, Upstream};
use crate::{
    Mistake, Refusal, Settings, Surroundings, boolean, guard, init_order, keys, lifecycle, listeners, probes,
    redirect_config, resources, volumes,
};
use init_order::InitOrder;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec, Volume, VolumeMount};
use redirect::contract;
use serde::de::DeserializeOwned;
use std::collections::HashSet;

/// Everything the mutation needs to know.
pub(crate) struct Intent {
    /// What to redirect; `None` means no transparent proxy.
    pub(crate) redirection: Option<redirect::Config>,
    /// What is let past the proxy without anybody's asking, with reasons.
    pub(crate) implicit: Vec<String>,
    /// Send HTTP probes through the sidecar. Implies transparent proxy.
    pub(crate) overwrite_probes: bool,
    /// What is done about probes.
    pub(crate) probes: probes::Plan,
    /// Resolve names by Consul. Implies transparent proxy.
    pub(crate) dns: bool,
    /// Probe the sidecar by its own `/ready`.
    pub(crate) proxy_health: bool,
    /// Explicit upstreams.
    pub(crate) upstreams: Vec<Upstream>,
    /// The sidecar's life cycle.
    pub(crate) lifecycle: Lifecycle,
    /// The sidecar is a restartable init container.
    pub(crate) native: Option<NativeSidecar>,
    /// Where the injected init containers stand among the Pod's own.
    pub(crate) init_order: InitOrder,
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
    pub(crate) mount_into: HashSet<String>,
    /// The user's volumes for the sidecar.
    pub(crate) user_volumes: Vec<Volume>,
    /// Where the sidecar mounts volumes of the user's.
    pub(crate) user_mounts: Vec<VolumeMount>,
    /// User and group ids of the injected containers.
    pub(crate) ids: Ids,
    /// The Pod's services, each with containers of its own.
    pub(crate) services: Vec<Instance>,
    /// How each of them logs in to Consul.
    pub(crate) logins: Vec<Option<Login>>,
    /// Name of the only service, where the Pod gives it.
    pub(crate) service_name: Option<String>,
    /// The Pod's Consul namespace (Enterprise).
    pub(crate) consul_namespace: Option<String>,
    /// The Consul namespace that the auth method is in (Enterprise).
    pub(crate) login_namespace: Option<String>,
    /// Access logs.
    pub(crate) access_log: Option<AccessLog>,
    /// A file for access logs that no volume can be mounted for.
    pub(crate) unusable_access_log: Option<String>,
}

impl Intent {
    /// Reads everything, or refuses with every mistake there is.
    pub(crate) fn read(
        pod: &Pod,
        spec: &PodSpec,
        surroundings: &Surroundings,
        settings: &Settings,
    ) -> Result<Self, Refusal> {
        let namespace = &*surroundings.namespace;
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
        let probes = if overwrite_probes {
            let open = reader.text(contract::EXCLUDE_INBOUND_PORTS).and_then(|list| redirect::parse::ports(list).ok());
            probes::Plan::of(spec, &open.unwrap_or_default())
        } else {
            probes::Plan::default()
        };
        let proxy_health = reader.filled_boolean(contract::USE_PROXY_HEALTH_CHECK).unwrap_or(false);
        let metrics = metrics::of_pod(&mut reader, spec, &settings.metrics);
        let services = services::of_pod(
            &mut reader,
            &[
                (transparent_proxy, "transparent proxy"),
                (metrics.enabled, "metrics"),
                (metrics.merging, "metrics merging"),
            ],
        );
        let service_name = services::single(&mut reader);
        services::ports(&mut reader);
        let native = lifecycle::native(&mut reader, &settings.native_sidecar);
        let ids = identity::of_pod(pod, spec, surroundings, settings).unwrap_or_else(|mistake| {
            reader.mistakes.push(mistake);
            FIXED
        });
        let logins = login::of_pod(spec, &services, surroundings, settings).unwrap_or_else(|mistake| {
            reader.mistakes.push(mistake);
            Vec::new()
        });
        let order = init_order::of_pod(&mut reader, spec, transparent_proxy, native.is_some(), settings);
        let listeners = settings.cni.then(|| {
            let own = listeners::own_config(&reader);
            let service = service_name.as_deref().or_else(|| surroundings.only_service());
            listeners::of_pod(own.as_ref(), service, surroundings)
        });
        let switches = Switches {
            dns,
            proxy_health,
            probes: &probes,
            overwrite_probes,
            metrics: &metrics,
            ids,
            passing: &order.passing,
            listeners,
        };
        let redirection = transparent_proxy.then(|| redirect_config::of_pod(&mut reader, spec, settings, &switches));
        let (redirection, implicit) = redirection.map(|found| (found.config, found.implicit)).unzip();
        let (access_log, unusable_access_log) = match access_log::of_mesh(&surroundings.proxy_defaults.access_logs) {
            Ok(log) => (log, None),
            Err(path) => (None, Some(path)),
        };
        let consul_namespace = settings.consul_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
        let tenancy = settings.namespaces.is_some() || settings.partition.is_some();
        let intent = Self {
            redirection,
            implicit: implicit.unwrap_or_default(),
            overwrite_probes,
            probes,
            dns,
            proxy_health,
            upstreams: upstreams::of_pod(&mut reader, tenancy),
            lifecycle: lifecycle::of_pod(&mut reader, &settings.lifecycle),
            native,
            init_order: order,
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
            ids,
            services,
            logins,
            service_name,
            login_namespace: login_namespace(consul_namespace.as_deref(), settings),
            consul_namespace,
            access_log,
            unusable_access_log,
        };
        let wanted = guard::Wanted {
            transparent_proxy,
            consul_dns: dns,
            allow_proxy_uids: reader.filled_boolean(contract::ALLOW_PROXY_UIDS).unwrap_or(false),
            ids,
            containers: &intent.container_names(),
            volumes: &volumes::names(&intent),
        };
        let mut mistakes = reader.mistakes;
        let containers = probes::containers(spec);
        if overwrite_probes && containers > usize::from(LISTENERS_PER_PROBE) {
            mistakes.push(Mistake::TooManyContainers { containers });
        }
        mistakes.extend(guard::mistakes(spec, &wanted));
        Refusal::check(mistakes)?;
        Ok(intent)
    }

    /// How a service logs in to Consul.
    pub(crate) fn login(&self, service: &Instance) -> Option<&Login> {
        self.logins.get(usize::from(service.index))?.as_ref()
    }

    /// Names of the injected containers.
    fn container_names(&self) -> Vec<String> {
        let names = [contract::INIT_CONTAINER, contract::SIDECAR_CONTAINER];
        let own = self.services.iter().flat_map(|service| names.map(|name| service.own(name)));
        names.map(str::to_owned).into_iter().chain(own).collect()
    }
}

/// With mirroring, the auth method is in the default namespace, since it is there before the mirrored ones are.
fn login_namespace(own: Option<&str>, settings: &Settings) -> Option<String> {
    match settings.namespaces.as_ref()? {
        NamespaceMapping::Mirror { .. } => Some("default".to_owned()),
        NamespaceMapping::Single(_) => own.map(str::to_owned),
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

/// A JSON array of Kubernetes objects; an empty annotation counts as absent.
fn json_array<T: DeserializeOwned>(reader: &mut Reader<'_>, key: &'static str, allowed: &str) -> Vec<T> {
    let Some(text) = reader.filled(key) else { return Vec::new() };
    serde_json::from_str(text).unwrap_or_else(|error| {
        let problem = format!("not readable ({error}); allowed is {allowed}");
        reader.mistakes.push(Mistake::Annotation { key, problem });
        Vec::new()
    })
}
