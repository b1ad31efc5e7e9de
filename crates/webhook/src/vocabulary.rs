//! Annotations that are ours by their prefix and that nobody knows, most of them misspelt.

use redirect::contract::PREFIX;

/// Annotations of injected Pods that some program reads or writes, without their prefix. Those of gateways and of older
/// generations are there too, since nobody is to be warned about them.
const KNOWN: [&str; 66] = [
    "connect-inject",
    "connect-inject-status",
    "connect-inject-managed-by",
    "connect-inject-mount-volume",
    "mesh-inject-status",
    "connect-service",
    "kubernetes-service",
    "connect-service-port",
    "connect-service-default-port",
    "connect-service-upstreams",
    "service-tags",
    "proxy-config-map",
    "use-proxy-health-check",
    "envoy-extra-args",
    "consul-envoy-proxy-concurrency",
    "consul-namespace",
    "original-pod",
    "connect-k8s-version",
    "consul-k8s-version",
    "transparent-proxy",
    "transparent-proxy-status",
    "transparent-proxy-overwrite-probes",
    "transparent-proxy-exclude-inbound-ports",
    "transparent-proxy-exclude-outbound-ports",
    "transparent-proxy-exclude-outbound-cidrs",
    "transparent-proxy-exclude-uids",
    "transparent-proxy-exclude-gids",
    "transparent-proxy-safeguards",
    "transparent-proxy-init-containers",
    "transparent-proxy-allow-proxy-uids",
    "consul-dns",
    "redirect-traffic-config",
    "dual-stack",
    "consul-sidecar-user-volume",
    "consul-sidecar-user-volume-mount",
    "consul-sidecar-access-log-enabled",
    "consul-sidecar-access-log-path",
    "sidecar-proxy-cpu-limit",
    "sidecar-proxy-cpu-request",
    "sidecar-proxy-memory-limit",
    "sidecar-proxy-memory-request",
    "sidecar-proxy-startup-failure-seconds",
    "sidecar-proxy-liveness-failure-seconds",
    "enable-sidecar-proxy-lifecycle",
    "enable-sidecar-proxy-lifecycle-shutdown-drain-listeners",
    "sidecar-proxy-lifecycle-shutdown-grace-period-seconds",
    "sidecar-proxy-lifecycle-startup-grace-period-seconds",
    "sidecar-proxy-lifecycle-graceful-port",
    "sidecar-proxy-lifecycle-graceful-shutdown-path",
    "sidecar-proxy-lifecycle-graceful-startup-path",
    "enable-consul-dataplane-as-sidecar",
    "sidecar-initial-probe-check-delay-seconds",
    "sidecar-probe-period-seconds",
    "sidecar-probe-failure-threshold",
    "sidecar-probe-check-timeout-seconds",
    "enable-metrics",
    "enable-metrics-merging",
    "merged-metrics-port",
    "prometheus-scrape-port",
    "prometheus-scrape-path",
    "service-metrics-port",
    "service-metrics-path",
    "prometheus-ca-file",
    "prometheus-ca-path",
    "prometheus-cert-file",
    "prometheus-key-file",
];

/// Beginnings of annotations with a part of the user's own, or of other programs.
const BEGINNINGS: [&str; 5] = ["service-meta-", "gateway-", "mesh-gateway-", "peering-", "api-gateway-"];

/// A warning about a key, where it has our prefix and no meaning.
pub(crate) fn unknown(key: &str) -> Option<String> {
    let name = key.strip_prefix(PREFIX)?;
    if KNOWN.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
        return None;
    }
    // a name that long is nobody's slip of the pen, and comparing takes its length times theirs
    let candidates = if name.len() <= 64 { KNOWN.as_slice() } else { &[] };
    let nearest = candidates.iter().map(|known| (strsim::osa_distance(known, name), known)).min();
    Some(match nearest {
        Some((distance, known)) if distance <= known.len() / 4 => {
            format!("annotation {key} has no meaning; is {PREFIX}{known} meant?")
        }
        _ => format!("annotation {key} has no meaning for this version of the webhook"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use redirect::contract;
    use rstest::rstest;

    #[rstest]
    #[case::known(contract::TRANSPARENT_PROXY, None)]
    #[case::foreign("example.com/connect-inject", None)]
    #[case::meta("consul.hashicorp.com/service-meta-version", None)]
    #[case::gateway("consul.hashicorp.com/gateway-kind", None)]
    #[case::misspelt("consul.hashicorp.com/transparant-proxy", Some("transparent-proxy meant?"))]
    #[case::singular(
        "consul.hashicorp.com/transparent-proxy-exclude-inbound-port",
        Some("exclude-inbound-ports meant?")
    )]
    #[case::swapped("consul.hashicorp.com/conect-inejct", Some("connect-inject meant?"))]
    #[case::unknown("consul.hashicorp.com/colour", Some("no meaning for this version"))]
    fn keys(#[case] key: &str, #[case] expected: Option<&str>) {
        match (unknown(key), expected) {
            (None, None) => {}
            (Some(warning), Some(part)) => assert!(warning.contains(part) && warning.contains(key), "{warning}"),
            (warning, expected) => panic!("{warning:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_long_key_costs_nothing() {
        assert!(unknown(&format!("{PREFIX}{}", "x".repeat(1 << 20))).is_some());
    }
}
