//! What about a Pod is legal and surely not wanted: the API server shows it to whoever creates the Pod.

use crate::intent::Intent;
use crate::{Settings, Surroundings, guard, keys, probes, vocabulary};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use redirect::Config;
use redirect::contract::{self, INBOUND_PORT, INIT_CONTAINERS, OUTBOUND_PORT};
use std::collections::{BTreeMap, HashMap, HashSet};

/// More than these are not read; the API server cuts them off itself.
const MOST: usize = 20;

/// Warnings about a Pod that is injected, the gravest first.
pub(crate) fn of(pod: &Pod, intent: &Intent, surroundings: &Surroundings, settings: &Settings) -> Vec<String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&NONE);
    let mut warnings = Vec::new();
    warnings.extend(several_services(annotations, surroundings));
    warnings.extend(upstreams(intent));
    if let Some(spec) = &pod.spec {
        match &intent.redirection {
            Some(config) => {
                own_ports(config, &mut warnings);
                exempt_application(spec, config, &mut warnings);
                for (kind, container) in containers(spec) {
                    capabilities(kind, container, &mut warnings);
                }
                probes(spec, intent, config, &mut warnings);
                warnings.extend(init_containers(spec, intent, settings));
            }
            None => without_effect(annotations, &mut warnings),
        }
    }
    if let Some(path) = &intent.unusable_access_log {
        warnings.push(format!(
            "no access logs: proxy-defaults put them into {path:?}, which is no file in a directory below /"
        ));
    }
    if let Some(text) = annotations.get(contract::PROXY_CONFIG_MAP)
        && let Err(error) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
    {
        warnings
            .push(format!("annotation {} is passed over: it is no JSON object: {error}", contract::PROXY_CONFIG_MAP));
    }
    warnings.extend(annotations.keys().filter_map(|key| vocabulary::unknown(key)));
    warnings.truncate(MOST);
    warnings
}

fn several_services(annotations: &BTreeMap<String, String>, surroundings: &Surroundings) -> Option<String> {
    let services = &surroundings.services;
    let several = annotations.get(contract::CONNECT_SERVICE).is_some_and(|names| names.contains(','));
    if services.len() < 2 || several || annotations.contains_key(contract::KUBERNETES_SERVICE) {
        return None;
    }
    Some(format!(
        "Services {} select the pod, and it waits until one does: set annotation {} to that one's name, or label the others \
         {}=true",
        services.join(", "),
        contract::KUBERNETES_SERVICE,
        contract::SERVICE_IGNORE,
    ))
}

/// Two listeners cannot share a port, and Envoy takes none of a set that has a wrong one.
fn upstreams(intent: &Intent) -> Option<String> {
    let mut ports = HashMap::new();
    intent.upstreams.iter().filter(|upstream| !upstream.own_address).find_map(|upstream| {
        let name = upstream.name.as_deref().unwrap_or("the prepared query");
        let other = ports.insert(upstream.port, name)?;
        Some(format!(
            "upstreams {other} and {name} have the same port {}: only one of them can listen there",
            upstream.port
        ))
    })
}

fn own_ports(config: &Config, warnings: &mut Vec<String>) {
    let mut warn = |list: &str, entries: &[String], ports: &[i64], meaning: &str| {
        for port in ports {
            if entries.iter().any(|entry| covers(entry, *port)) {
                warnings.push(format!("annotation {list} excludes {port}, a port of the proxy itself: {meaning}"));
            }
        }
    };
    let (inbound, outbound) = (config.proxy_inbound_port, config.proxy_outbound_port);
    warn(
        contract::EXCLUDE_INBOUND_PORTS,
        &config.exclude_inbound_ports,
        &[inbound, outbound],
        "it is reached with or without it",
    );
    warn(
        contract::EXCLUDE_OUTBOUND_PORTS,
        &config.exclude_outbound_ports,
        &[i64::from(INBOUND_PORT), i64::from(OUTBOUND_PORT)],
        "the application could dial other pods' proxies past its own",
    );
}

/// Whether an entry, a port or a range of ports, has this port in it.
fn covers(entry: &str, port: i64) -> bool {
    let (first, last) = entry.split_once(':').unwrap_or((entry, entry));
    let number = |text: &str| text.parse::<i64>().ok();
    number(first).zip(number(last)).is_some_and(|(first, last)| (first..=last).contains(&port))
}

fn exempt_application(spec: &PodSpec, config: &Config, warnings: &mut Vec<String>) {
    for container in &spec.containers {
        if let Some(user) = guard::user(spec, container)
            && config.exclude_uids.iter().any(|entry| covers(entry, user))
        {
            warnings.push(format!(
                "container {} runs as user {user}, which annotation {} excludes: nothing it sends goes through the proxy",
                container.name,
                contract::EXCLUDE_UIDS,
            ));
        }
    }
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = (&'static str, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| ("init container", container));
    spec.containers.iter().map(|container| ("container", container)).chain(init)
}

fn capabilities(kind: &str, container: &Container, warnings: &mut Vec<String>) {
    let Some(context) = &container.security_context else { return };
    let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    let all: HashSet<_> = added.map(String::as_str).collect();
    let power = match context.privileged {
        Some(true) => "is privileged",
        _ if all.contains("NET_ADMIN") || all.contains("ALL") => "has NET_ADMIN",
        _ => return,
    };
    warnings.push(format!("{kind} {} {power}: it can remove the redirection", container.name));
}

/// Probes that never tell what they are asked, because the proxy stands between.
fn probes(spec: &PodSpec, intent: &Intent, config: &Config, warnings: &mut Vec<String>) {
    const KINDS: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
    for container in &spec.containers {
        for (kind, probe) in KINDS.into_iter().zip(probes::probes(container)) {
            let Some((port, fate)) = probe.and_then(|probe| fate(container, probe, intent.overwrite_probes)) else {
                continue;
            };
            let mut open = config.exclude_inbound_ports.iter().chain(&config.probe_ports);
            let excluded = port.is_some_and(|port| open.any(|entry| covers(entry, port.into())));
            if !excluded {
                warnings.push(format!(
                    "{kind} of container {} {fate} under transparent proxy; use an HTTP or exec probe, or exclude its port \
                     with annotation {}",
                    container.name,
                    contract::EXCLUDE_INBOUND_PORTS,
                ));
            }
        }
    }
}

/// What becomes of a probe that cannot work, and its port.
fn fate(container: &Container, probe: &Probe, overwritten: bool) -> Option<(Option<u16>, &'static str)> {
    if let Some(get) = &probe.http_get {
        let fails = probes::is_https(get) || !overwritten;
        return fails.then(|| (probes::port(container, &get.port), "fails always"));
    }
    if let Some(grpc) = &probe.grpc {
        return Some((u16::try_from(grpc.port).ok(), "fails always"));
    }
    let tcp = probe.tcp_socket.as_ref()?;
    Some((probes::port(container, &tcp.port), "succeeds always, since the proxy answers it,"))
}

fn init_containers(spec: &PodSpec, intent: &Intent, settings: &Settings) -> Option<String> {
    if !intent.init_order.undecided {
        return None;
    }
    let names: Vec<_> = spec.init_containers.iter().flatten().map(|container| container.name.as_str()).collect();
    let fate = if settings.cni { "has no network before the proxy is up" } else { "goes past the proxy" };
    Some(format!(
        "what init container {} sends {fate}; set annotation {INIT_CONTAINERS} to \"blocked\" or \"allowed\", or {} to \"true\"",
        names.join(", "),
        keys::NATIVE_SIDECAR,
    ))
}

fn without_effect(annotations: &BTreeMap<String, String>, warnings: &mut Vec<String>) {
    let meaningless = [
        contract::CONSUL_DNS,
        contract::OVERWRITE_PROBES,
        contract::EXCLUDE_INBOUND_PORTS,
        contract::EXCLUDE_OUTBOUND_PORTS,
        contract::EXCLUDE_OUTBOUND_CIDRS,
        contract::EXCLUDE_UIDS,
        contract::EXCLUDE_GIDS,
        contract::SAFEGUARDS,
        INIT_CONTAINERS,
    ];
    for key in meaningless.into_iter().filter(|key| annotations.contains_key(*key)) {
        warnings.push(format!("annotation {key} has no effect: transparent proxy is off for this pod"));
    }
}
