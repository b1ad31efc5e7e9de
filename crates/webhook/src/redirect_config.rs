//! What to redirect in one Pod's network, gathered from probes, metrics and annotations.

use crate::identity::Ids;
use crate::listeners::Listeners;
use crate::metrics::PodMetrics;
use crate::probes::Plan;
use crate::reader::Reader;
use crate::{Settings, lists};
use k8s_openapi::api::core::v1::PodSpec;
use redirect::{Config, contract};
use std::collections::HashSet;

/// The switches that the configuration depends on.
pub(crate) struct Switches<'a> {
    /// Consul DNS.
    pub(crate) dns: bool,
    /// Probe the sidecar by its own `/ready`.
    pub(crate) proxy_health: bool,
    /// What is done about probes.
    pub(crate) probes: &'a Plan,
    /// Send HTTP probes through the sidecar.
    pub(crate) overwrite_probes: bool,
    /// Metrics.
    pub(crate) metrics: &'a PodMetrics,
    /// The ids of the injected containers.
    pub(crate) ids: Ids,
    /// Users that init containers of the Pod's own are let past the proxy as.
    pub(crate) passing: &'a [u32],
    /// What the mesh says about listeners; `None` where connect-init finds out itself.
    pub(crate) listeners: Option<Listeners>,
}

/// What to redirect.
pub(crate) struct Redirection {
    /// For the rules.
    pub(crate) config: Config,
    /// What nobody has asked to let past the proxy and is let past it all the same, each with the reason.
    pub(crate) implicit: Vec<String>,
}

/// The configuration, in the order that readers know; values that the rules could not express are mistakes.
pub(crate) fn of_pod(
    reader: &mut Reader<'_>,
    spec: &PodSpec,
    settings: &Settings,
    switches: &Switches<'_>,
) -> Redirection {
    let &Switches { dns, proxy_health, probes, overwrite_probes, metrics, ids, passing, listeners } = switches;
    let listeners = listeners.unwrap_or_default();
    let mut implicit = Vec::new();
    let mut exempt = |what: &str, value: String, reason: &str| {
        implicit.push(format!("{what} {value} ({reason})"));
        value
    };
    let mut inbound = Vec::new();
    if metrics.enabled {
        inbound.push(exempt("inbound port", metrics.scrape_port.to_string(), "metrics"));
    }
    if proxy_health {
        inbound.push(exempt("inbound port", contract::PROXY_HEALTH_PORT.to_string(), "health of the sidecar"));
    }
    if overwrite_probes {
        let listeners = probes.listeners(spec).into_iter();
        inbound.extend(listeners.map(|(port, probe)| exempt("inbound port", port.to_string(), &probe)));
    }
    inbound.extend(lists::ports(reader, contract::EXCLUDE_INBOUND_PORTS));
    let statistics = listeners.statistics.into_iter();
    inbound.extend(statistics.map(|port| exempt("inbound port", port.to_string(), "statistics of Envoy")));
    let probe_ports =
        probes.ports.iter().map(|port| exempt("inbound port", port.to_string(), "probes, from the node alone"));
    let probe_ports = probe_ports.collect();
    let mut uids = vec![exempt("user", ids.init.to_string(), "the injected init container")];
    uids.extend(passing.iter().map(|uid| exempt("user", uid.to_string(), "init containers that are allowed")));
    exempt("user", ids.sidecar.to_string(), "the sidecar");
    let outbound = lists::ports(reader, contract::EXCLUDE_OUTBOUND_PORTS);
    let cidrs = lists::cidrs(reader, contract::EXCLUDE_OUTBOUND_CIDRS);
    uids.extend(lists::ids(reader, contract::EXCLUDE_UIDS));
    let gids = lists::ids(reader, contract::EXCLUDE_GIDS);
    let safeguards = lists::safeguards(reader, contract::SAFEGUARDS, &settings.safeguards);
    let config = Config {
        consul_dns_ip: if dns { settings.loopback().to_owned() } else { String::new() },
        consul_dns_port: if dns { contract::CONSUL_DNS_PORT.into() } else { 0 },
        proxy_user_id: ids.sidecar.to_string(),
        proxy_inbound_port: listeners.inbound.unwrap_or(contract::INBOUND_PORT).into(),
        proxy_outbound_port: listeners.outbound.unwrap_or(contract::OUTBOUND_PORT).into(),
        exclude_inbound_ports: unique(inbound),
        exclude_outbound_ports: outbound,
        exclude_outbound_cidrs: cidrs,
        exclude_uids: unique(uids),
        exclude_gids: gids,
        safeguards,
        probe_ports,
        // whoever applies the rules knows the node
        probe_sources: Vec::new(),
        // whoever applies the rules decides about it
        proof: false,
        net_ns: String::new(),
        // Consul's readers and ours agree on the rest; who applies the rules knows the sidecar's usual group
        proxy_group_id: String::new(),
    };
    Redirection { config, implicit }
}

/// Without repetitions, the first of each kept in place.
fn unique(values: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    values.into_iter().filter(|value| seen.insert(value.clone())).collect()
}
