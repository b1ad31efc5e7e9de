//! The sidecar's arguments, in the order that upstream writes them.

use crate::Settings;
use crate::intent::Intent;
use crate::metrics::{Merge, PrometheusTls};
use crate::services::Instance;
use redirect::contract::{CA_FILE, CONSUL_DNS_PORT, DATA_DIR, ENVOY_ADMIN_PORT, PROXY_HEALTH_PORT, PROXY_ID_FILE};

/// The arguments of one service's sidecar.
pub(crate) fn of(service: &Instance, intent: &Intent, settings: &Settings) -> Vec<String> {
    let mut args = basics(service, intent, settings);
    let several = service.name.is_some();
    let index = service.index;
    let consul = &settings.consul;
    if consul.skip_server_watch {
        args.push("-server-watch-disabled=true".to_owned());
    }
    args.extend(login(service, intent, settings));
    args.extend(intent.consul_namespace.iter().map(|name| format!("-service-namespace={name}")));
    args.extend(settings.partition.iter().map(|name| format!("-service-partition={name}")));
    match &consul.tls {
        Some(tls) => {
            args.extend(tls.server_name.iter().map(|name| format!("-tls-server-name={name}")));
            args.extend(tls.ca_pem.iter().map(|_| format!("-ca-certs={DATA_DIR}/{CA_FILE}")));
        }
        None => args.push("-tls-disabled".to_owned()),
    }
    args.extend(intent.proxy_health.then(|| format!("-envoy-ready-bind-port={}", PROXY_HEALTH_PORT + index)));
    args.extend(several.then(|| format!("-envoy-admin-bind-port={}", ENVOY_ADMIN_PORT + index)));
    args.extend(lifecycle(service, intent));
    args.extend(telemetry(intent));
    args.extend(intent.dns.then(|| format!("-consul-dns-bind-port={CONSUL_DNS_PORT}")));
    let mut envoy: Vec<String> = Vec::new();
    if several {
        envoy.extend(["--base-id".to_owned(), index.to_string()]);
    }
    envoy.extend(intent.envoy_extra_args.iter().map(|arg| passed_on(arg)));
    if !envoy.is_empty() {
        args.push("--".to_owned());
        args.extend(envoy);
    }
    args
}

fn basics(service: &Instance, intent: &Intent, settings: &Settings) -> Vec<String> {
    let Settings { consul, log_level, log_json, .. } = settings;
    let loopback = settings.loopback();
    vec![
        "-addresses".to_owned(),
        consul.addresses.clone(),
        format!("-envoy-admin-bind-address={loopback}"),
        format!("-consul-dns-bind-addr={loopback}"),
        format!("-xds-bind-addr={loopback}"),
        format!("-grpc-port={}", consul.grpc_port),
        format!("-proxy-service-id-path={DATA_DIR}/{}", service.own(PROXY_ID_FILE)),
        format!("-log-level={log_level}"),
        format!("-log-json={log_json}"),
        format!("-envoy-concurrency={}", intent.concurrency),
        format!("-graceful-addr={loopback}"),
    ]
}

fn login(service: &Instance, intent: &Intent, settings: &Settings) -> Vec<String> {
    let Some(login) = intent.login(service) else { return Vec::new() };
    let mut args = vec![
        "-credential-type=login".to_owned(),
        format!("-login-auth-method={}", login.auth_method),
        format!("-login-bearer-token-path={}", login.token_file()),
    ];
    args.extend(intent.login_namespace.iter().map(|name| format!("-login-namespace={name}")));
    args.extend(settings.partition.iter().map(|name| format!("-login-partition={name}")));
    args
}

fn lifecycle(service: &Instance, intent: &Intent) -> Vec<String> {
    let lifecycle = &intent.lifecycle;
    let mut args = vec![format!("-graceful-port={}", lifecycle.graceful_port.saturating_add(service.index))];
    if lifecycle.enabled {
        args.extend(lifecycle.drain_listeners.then(|| "-shutdown-drain-listeners".to_owned()));
        args.push(format!("-shutdown-grace-period-seconds={}", lifecycle.shutdown_grace_seconds));
        args.push(format!("-graceful-shutdown-path={}", lifecycle.shutdown_path));
        args.push(format!("-startup-grace-period-seconds={}", lifecycle.startup_grace_seconds));
        args.push(format!("-graceful-startup-path={}", lifecycle.startup_path));
    }
    args
}

fn telemetry(intent: &Intent) -> Vec<String> {
    let mut args = vec![format!("-telemetry-prom-scrape-path={}", intent.metrics.scrape_path)];
    if let Some(Merge { port, service_url, tls }) = &intent.metrics.merge {
        args.push(format!("-telemetry-prom-merge-port={port}"));
        args.push(format!("-telemetry-prom-service-metrics-url={service_url}"));
        if let Some(PrometheusTls { ca_file, ca_path, cert_file, key_file }) = tls {
            args.extend(ca_file.iter().map(|file| format!("-telemetry-prom-ca-certs-file={file}")));
            args.extend(ca_path.iter().map(|path| format!("-telemetry-prom-ca-certs-path={path}")));
            args.push(format!("-telemetry-prom-cert-file={cert_file}"));
            args.push(format!("-telemetry-prom-key-file={key_file}"));
        }
    }
    args
}

/// A word for Envoy. No shell reads it any more; upstream quotes one that has a space all the same, as Go writes a string.
fn passed_on(word: &str) -> String {
    if word.contains(' ') { format!("{word:?}") } else { word.to_owned() }
}
