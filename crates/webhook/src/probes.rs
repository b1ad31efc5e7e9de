//! Probes of the application: which of them the sidecar's listeners stand in for, and which reach the application itself.
//!
//! | probe | of a container | of an init container that restarts |
//! |---|---|---|
//! | HTTP | rewritten to a listener of the sidecar | reaches its port |
//! | HTTP on a port that is excluded for all | as it is | as it is |
//! | HTTPS, gRPC, TCP | reaches its port | reaches its port |
//! | exec | as it is | as it is |
//!
//! "Reaches its port": the port is let through for the node's own addresses, [`redirect::Config::probe_ports`].
//!
//! A container with an HTTP probe that stays as it is keeps all its HTTP probes. The endpoints controller makes a listener of
//! every HTTP probe of a container that it finds in the annotation `original-pod`, changed or not: on the application's own
//! port, where it takes the application's place, or twice on one, which Consul refuses. So such a container has no probes there.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use redirect::PortRange;
use redirect::contract::{LIVENESS_PORT_BASE, READINESS_PORT_BASE, SIDECAR_CONTAINER, STARTUP_PORT_BASE};
use std::collections::HashSet;

/// What is done about a Pod's probes. The default is nothing.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Containers whose HTTP probes stay as they are.
    pub(crate) unchanged: HashSet<String>,
    /// Ports that probes must reach themselves, in order, each once.
    pub(crate) ports: Vec<u16>,
}

impl Plan {
    /// For a Pod whose probes are to be overwritten; `open` are the ports that are open to all.
    pub(crate) fn of(spec: &PodSpec, open: &[PortRange]) -> Self {
        let is_open = |port: &u16| open.iter().any(|range| range.contains(*port));
        let mut plan = Self::default();
        for container in application(&spec.containers) {
            let mut gets = probes(container).into_iter().flatten().filter_map(|probe| probe.http_get.as_ref());
            let keeps = gets.any(|get| is_https(get) || port(container, &get.port).as_ref().is_some_and(is_open));
            if keeps {
                plan.unchanged.insert(container.name.clone());
            }
            plan.ports.extend(direct(container, keeps).filter(|port| !is_open(port)));
        }
        let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
        plan.ports.extend(sidecars.flat_map(|container| direct(container, true)).filter(|port| !is_open(port)));
        let mut seen = HashSet::new();
        plan.ports.retain(|port| seen.insert(*port));
        plan
    }

    /// The listener ports of the HTTP probes, each with its probe: containers in order, and per container liveness, readiness,
    /// startup.
    pub(crate) fn listeners(&self, spec: &PodSpec) -> Vec<(u16, String)> {
        let mut ports = Vec::new();
        for (index, container) in INDICES.zip(application(&spec.containers)) {
            for ((probe, base), kind) in probes(container).into_iter().zip(BASES).zip(KINDS) {
                if self.rewrites(container) && probe.is_some_and(|probe| probe.http_get.is_some()) {
                    ports.push((base + index, format!("{kind} probe of container {}", container.name)));
                }
            }
        }
        ports
    }

    /// Points the HTTP probes to their listeners; path, scheme, host and headers stay.
    pub(crate) fn overwrite(&self, spec: &mut PodSpec) {
        let containers = spec.containers.iter_mut().filter(|container| container.name != SIDECAR_CONTAINER);
        for (index, container) in INDICES.zip(containers) {
            if !self.rewrites(container) {
                continue;
            }
            let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
            for (probe, base) in probes.into_iter().zip(BASES) {
                if let Some(Probe { http_get: Some(get), .. }) = probe {
                    get.port = IntOrString::Int(i32::from(base + index));
                }
            }
        }
    }

    fn rewrites(&self, container: &Container) -> bool {
        !self.unchanged.contains(&container.name)
    }
}

/// How many containers have listeners of their own; beyond them, those of one kind of probe would be those of another.
pub(crate) const LISTENERS_PER_PROBE: u16 = READINESS_PORT_BASE - LIVENESS_PORT_BASE;

const INDICES: std::ops::Range<u16> = 0..LISTENERS_PER_PROBE;

const KINDS: [&str; 3] = ["liveness", "readiness", "startup"];

const BASES: [u16; 3] = [LIVENESS_PORT_BASE, READINESS_PORT_BASE, STARTUP_PORT_BASE];

/// How many containers have listeners set aside for them.
pub(crate) fn containers(spec: &PodSpec) -> usize {
    application(&spec.containers).count()
}

fn application(containers: &[Container]) -> impl Iterator<Item = &Container> {
    containers.iter().filter(|container| container.name != SIDECAR_CONTAINER)
}

/// A container's probes, in the order liveness, readiness, startup.
pub(crate) fn probes(container: &Container) -> [Option<&Probe>; 3] {
    [&container.liveness_probe, &container.readiness_probe, &container.startup_probe].map(Option::as_ref)
}

/// Ports that a container's probes dial, those of HTTP only where they are `unchanged`. What a probe says to another host is
/// none of this Pod's.
fn direct(container: &Container, unchanged: bool) -> impl Iterator<Item = u16> {
    let here = |host: &Option<String>| host.as_deref().is_none_or(str::is_empty);
    let dialled = move |probe: &Probe| {
        if let Some(get) = probe.http_get.as_ref().filter(|get| unchanged && here(&get.host)) {
            return port(container, &get.port);
        }
        if let Some(tcp) = probe.tcp_socket.as_ref().filter(|tcp| here(&tcp.host)) {
            return port(container, &tcp.port);
        }
        probe.grpc.as_ref().and_then(|grpc| u16::try_from(grpc.port).ok())
    };
    probes(container).into_iter().flatten().filter_map(dialled)
}

/// Whether a probe dials with TLS.
pub(crate) fn is_https(get: &HTTPGetAction) -> bool {
    get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// A probe's port as the kubelet resolves it: a name is the container's own.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map_or_else(|| name.parse().ok(), |port| u16::try_from(port.container_port).ok())
        }
    };
    number.filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn plan(spec: Value, open: &str) -> (Plan, Vec<u16>) {
        let spec: PodSpec = serde_json::from_value(spec).expect("a specification");
        let open = redirect::parse::ports(open).unwrap_or_default();
        let plan = Plan::of(&spec, &open);
        let listeners = plan.listeners(&spec).into_iter().map(|(port, _)| port).collect();
        (plan, listeners)
    }

    fn get(port: Value, scheme: &str) -> Value {
        json!({"httpGet": {"port": port, "scheme": scheme}})
    }

    #[rstest]
    #[case::http(get(json!("web"), "HTTP"), "", &[], &[20300])]
    #[case::http_on_an_excluded_port(get(json!("web"), "HTTP"), "8000:8100", &[], &[])]
    #[case::https(get(json!(8443), "HTTPS"), "", &[8443], &[])]
    #[case::https_on_an_excluded_port(get(json!(8443), "HTTPS"), "8443", &[], &[])]
    #[case::tcp(json!({"tcpSocket": {"port": "web"}}), "", &[8080], &[])]
    #[case::tcp_on_an_excluded_port(json!({"tcpSocket": {"port": "web"}}), "8080", &[], &[])]
    #[case::tcp_elsewhere(json!({"tcpSocket": {"port": 1, "host": "192.0.2.1"}}), "", &[], &[])]
    #[case::grpc(json!({"grpc": {"port": 9000}}), "", &[9000], &[])]
    #[case::exec(json!({"exec": {"command": ["true"]}}), "", &[], &[])]
    #[case::a_name_that_is_none(json!({"tcpSocket": {"port": "nowhere"}}), "", &[], &[])]
    fn each_kind(#[case] probe: Value, #[case] open: &str, #[case] ports: &[u16], #[case] listeners: &[u16]) {
        let container = json!({"name": "a", "ports": [{"name": "web", "containerPort": 8080}], "livenessProbe": probe});
        let (plan, found) = plan(json!({"containers": [container]}), open);
        assert_eq!((plan.ports.as_slice(), found.as_slice()), (ports, listeners));
        let mut sidecar = container;
        sidecar["restartPolicy"] = json!("Always");
        let restarting = self::plan(json!({"containers": [], "initContainers": [sidecar]}), open).0;
        let http = listeners.first().map(|_| 8080);
        assert_eq!(restarting.ports, http.into_iter().chain(ports.iter().copied()).collect::<Vec<_>>());
    }

    #[test]
    fn one_https_probe_keeps_the_others_of_its_container_and_of_no_other() {
        let spec = json!({"containers": [
            {"name": "a", "livenessProbe": get(json!(8080), "HTTP"), "readinessProbe": get(json!(8443), "https")},
            {"name": "b", "livenessProbe": get(json!(8081), "HTTP"), "startupProbe": {"tcpSocket": {"port": 8443}}},
        ]});
        let (plan, listeners) = plan(spec, "");
        let unchanged = HashSet::from(["a".to_owned()]);
        assert_eq!((plan.unchanged, plan.ports, listeners), (unchanged, vec![8080, 8443], vec![20301]));
    }

    #[test]
    fn an_init_container_that_ends_is_not_probed() {
        let init = json!({"name": "i", "livenessProbe": get(json!(8080), "HTTP")});
        assert!(plan(json!({"containers": [], "initContainers": [init]}), "").0.ports.is_empty());
    }
}
