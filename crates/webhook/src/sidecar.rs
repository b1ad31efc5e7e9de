//! The injected sidecar: consul-dataplane, which runs Envoy.

use crate::init_container::unprivileged;
use crate::intent::Intent;
use crate::services::Instance;
use crate::{Settings, access_log, arguments, env, proxy_probes, resources, volumes};
use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, PodSpec, SecurityContext};
use redirect::contract::{DATA_DIR, HOST_IP_ENV, NODE_SUFFIX, PROXY_HEALTH_PORT, SIDECAR_CONTAINER};

/// Adds the sidecars: first, so that they start first and end last, or last where the life cycle is not managed.
pub(crate) fn add(spec: &mut PodSpec, intent: &Intent, settings: &Settings) {
    let place = if intent.lifecycle.enabled { 0 } else { spec.containers.len() };
    spec.containers.splice(place..place, intent.services.iter().map(|service| build(service, intent, settings)));
}

/// The sidecar of one service.
pub(crate) fn build(service: &Instance, intent: &Intent, settings: &Settings) -> Container {
    let login = intent.login(service);
    let mut mounts = vec![volumes::data_mount()];
    mounts.extend(login.map(|login| login.mount.clone()));
    mounts.extend(intent.access_log.as_ref().and_then(access_log::mount));
    mounts.extend_from_slice(&intent.user_mounts);
    let probes = proxy_probes::of(intent, service);
    Container {
        name: service.own(SIDECAR_CONTAINER),
        image: Some(settings.dataplane_image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        args: Some(arguments::of(service, intent, settings)),
        env: Some(variables(intent)),
        ports: ports(service, intent),
        restart_policy: intent.native.is_some().then(|| "Always".to_owned()),
        readiness_probe: Some(probes.readiness),
        startup_probe: probes.startup,
        liveness_probe: probes.liveness,
        resources: Some(resources::requirements(&intent.resources)),
        volume_mounts: Some(mounts),
        security_context: Some(SecurityContext {
            run_as_user: Some(intent.ids.sidecar.into()),
            run_as_group: Some(intent.ids.sidecar_group.into()),
            run_as_non_root: Some(true),
            ..unprivileged()
        }),
        ..Container::default()
    }
}

fn variables(intent: &Intent) -> Vec<EnvVar> {
    let login_meta = "pod=$(POD_NAMESPACE)/$(POD_NAME)";
    let mut variables = vec![
        env::value("TMPDIR", DATA_DIR),
        env::field("NODE_NAME", "spec.nodeName"),
        env::value("DP_SERVICE_NODE_NAME", format!("$(NODE_NAME){NODE_SUFFIX}")),
        env::field("POD_NAME", "metadata.name"),
        env::field("POD_NAMESPACE", "metadata.namespace"),
        env::field("POD_UID", "metadata.uid"),
        env::value("DP_CREDENTIAL_LOGIN_META", login_meta),
        env::value("DP_CREDENTIAL_LOGIN_META1", login_meta),
        env::value("DP_CREDENTIAL_LOGIN_META2", "pod-uid=$(POD_UID)"),
        env::field(HOST_IP_ENV, "status.hostIP"),
    ];
    variables.extend(intent.proxy_health.then(|| env::field("DP_ENVOY_READY_BIND_ADDRESS", "status.podIP")));
    variables
}

fn ports(service: &Instance, intent: &Intent) -> Option<Vec<ContainerPort>> {
    let port = |name: String, number: u16, protocol: Option<&str>| ContainerPort {
        name: Some(name),
        container_port: number.into(),
        protocol: protocol.map(str::to_owned),
        ..ContainerPort::default()
    };
    let index = service.index;
    let health = intent.proxy_health.then(|| port(format!("proxy-health-{index}"), PROXY_HEALTH_PORT + index, None));
    let metrics =
        intent.metrics.enabled.then(|| port("prometheus".to_owned(), intent.metrics.scrape_port, Some("TCP")));
    let ports: Vec<_> = health.into_iter().chain(metrics).collect();
    (!ports.is_empty()).then_some(ports)
}
