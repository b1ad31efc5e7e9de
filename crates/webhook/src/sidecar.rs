//! The injected sidecar: consul-dataplane, which runs Envoy.

use crate::init_container::unprivileged;
use crate::intent::Intent;
use crate::{Settings, env, resources, volumes};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, Probe, SecurityContext, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use redirect::contract::{
    CONSUL_DNS_PORT, DATA_DIR, INBOUND_PORT, PROXY_HEALTH_PORT, PROXY_ID_FILE, PROXY_UID, SIDECAR_CONTAINER,
};

/// Adds the sidecar: first, so that it starts first and ends last, or last where the life cycle is not managed.
pub(crate) fn add(spec: &mut PodSpec, intent: &Intent, settings: &Settings) {
    let place = if intent.lifecycle.enabled { 0 } else { spec.containers.len() };
    spec.containers.insert(place, build(intent, settings));
}

fn build(intent: &Intent, settings: &Settings) -> Container {
    let mut mounts = vec![volumes::data_mount()];
    mounts.extend_from_slice(&intent.user_mounts);
    let (readiness, startup, liveness) = probes(intent);
    Container {
        name: SIDECAR_CONTAINER.to_owned(),
        image: Some(settings.dataplane_image.clone()),
        image_pull_policy: settings.pull_policy.clone(),
        args: Some(arguments(intent, settings)),
        env: Some(variables(intent)),
        ports: ports(intent),
        readiness_probe: Some(readiness),
        startup_probe: startup,
        liveness_probe: liveness,
        resources: Some(resources::requirements(&intent.resources)),
        volume_mounts: Some(mounts),
        security_context: Some(SecurityContext {
            run_as_user: Some(PROXY_UID.into()),
            run_as_group: Some(PROXY_UID.into()),
            run_as_non_root: Some(true),
            ..unprivileged()
        }),
        ..Container::default()
    }
}

fn arguments(intent: &Intent, settings: &Settings) -> Vec<String> {
    let Settings { consul, log_level, log_json, .. } = settings;
    let (loopback, lifecycle) = (settings.loopback(), &intent.lifecycle);
    let mut args = vec![
        "-addresses".to_owned(),
        consul.addresses.clone(),
        format!("-envoy-admin-bind-address={loopback}"),
        format!("-consul-dns-bind-addr={loopback}"),
        format!("-xds-bind-addr={loopback}"),
        format!("-grpc-port={}", consul.grpc_port),
        format!("-proxy-service-id-path={DATA_DIR}/{PROXY_ID_FILE}"),
        format!("-log-level={log_level}"),
        format!("-log-json={log_json}"),
        format!("-envoy-concurrency={}", intent.concurrency),
        format!("-graceful-addr={loopback}"),
    ];
    if consul.skip_server_watch {
        args.push("-server-watch-disabled=true".to_owned());
    }
    match &consul.tls {
        Some(tls) => {
            args.extend(tls.server_name.iter().map(|name| format!("-tls-server-name={name}")));
            args.extend(tls.ca_pem.iter().map(|_| format!("-ca-certs={DATA_DIR}/consul-ca.pem")));
        }
        None => args.push("-tls-disabled".to_owned()),
    }
    if intent.proxy_health {
        args.push(format!("-envoy-ready-bind-port={PROXY_HEALTH_PORT}"));
    }
    args.push(format!("-graceful-port={}", lifecycle.graceful_port));
    if lifecycle.enabled {
        args.extend(lifecycle.drain_listeners.then(|| "-shutdown-drain-listeners".to_owned()));
        args.push(format!("-shutdown-grace-period-seconds={}", lifecycle.shutdown_grace_seconds));
        args.push(format!("-graceful-shutdown-path={}", lifecycle.shutdown_path));
        args.push(format!("-startup-grace-period-seconds={}", lifecycle.startup_grace_seconds));
        args.push(format!("-graceful-startup-path={}", lifecycle.startup_path));
    }
    args.push(format!("-telemetry-prom-scrape-path={}", intent.metrics.scrape_path));
    if let Some(merge) = &intent.metrics.merge {
        args.push(format!("-telemetry-prom-merge-port={}", merge.port));
        args.push(format!("-telemetry-prom-service-metrics-url={}", merge.service_url));
    }
    args.extend(intent.dns.then(|| format!("-consul-dns-bind-port={CONSUL_DNS_PORT}")));
    if !intent.envoy_extra_args.is_empty() {
        args.push("--".to_owned());
        args.extend(intent.envoy_extra_args.iter().map(|arg| passed_on(arg)));
    }
    args
}

/// A word for Envoy. No shell reads it any more; upstream quotes one that has a space all the same, as Go writes a string.
fn passed_on(word: &str) -> String {
    if word.contains(' ') { format!("{word:?}") } else { word.to_owned() }
}

fn variables(intent: &Intent) -> Vec<EnvVar> {
    let login_meta = "pod=$(POD_NAMESPACE)/$(POD_NAME)";
    let mut variables = vec![
        env::value("TMPDIR", DATA_DIR),
        env::field("NODE_NAME", "spec.nodeName"),
        env::value("DP_SERVICE_NODE_NAME", "$(NODE_NAME)-virtual"),
        env::field("POD_NAME", "metadata.name"),
        env::field("POD_NAMESPACE", "metadata.namespace"),
        env::field("POD_UID", "metadata.uid"),
        env::value("DP_CREDENTIAL_LOGIN_META", login_meta),
        env::value("DP_CREDENTIAL_LOGIN_META1", login_meta),
        env::value("DP_CREDENTIAL_LOGIN_META2", "pod-uid=$(POD_UID)"),
        env::field("HOST_IP", "status.hostIP"),
    ];
    variables.extend(intent.proxy_health.then(|| env::field("DP_ENVOY_READY_BIND_ADDRESS", "status.podIP")));
    variables
}

fn ports(intent: &Intent) -> Option<Vec<ContainerPort>> {
    let port = |name: &str, number: u16, protocol: Option<&str>| ContainerPort {
        name: Some(name.to_owned()),
        container_port: number.into(),
        protocol: protocol.map(str::to_owned),
        ..ContainerPort::default()
    };
    let health = intent.proxy_health.then(|| port("proxy-health-0", PROXY_HEALTH_PORT, None));
    let metrics = intent.metrics.enabled.then(|| port("prometheus", intent.metrics.scrape_port, Some("TCP")));
    let ports: Vec<_> = health.into_iter().chain(metrics).collect();
    (!ports.is_empty()).then_some(ports)
}

/// Readiness, startup and liveness; the last two only where a time is given.
fn probes(intent: &Intent) -> (Probe, Option<Probe>, Option<Probe>) {
    let handler = if intent.proxy_health {
        Probe {
            http_get: Some(HTTPGetAction {
                port: IntOrString::Int(PROXY_HEALTH_PORT.into()),
                path: Some("/ready".to_owned()),
                ..HTTPGetAction::default()
            }),
            ..Probe::default()
        }
    } else {
        let port = IntOrString::Int(INBOUND_PORT.into());
        Probe { tcp_socket: Some(TCPSocketAction { port, ..TCPSocketAction::default() }), ..Probe::default() }
    };
    let failing_for = |seconds: u32| {
        (seconds > 0).then(|| Probe {
            period_seconds: Some(1),
            failure_threshold: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            ..handler.clone()
        })
    };
    let (startup, liveness) =
        (failing_for(intent.startup_failure_seconds), failing_for(intent.liveness_failure_seconds));
    (Probe { initial_delay_seconds: Some(1), ..handler }, startup, liveness)
}
