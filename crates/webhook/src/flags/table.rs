//! The table of flags.

use super::Kind::{self, Switch, UnsupportedSwitch, Unused, UnusedSwitch, Value};
use super::{Flag, assign};
use crate::settings::AclLogin;
use redirect::Safeguard;

/// Flags that must be given.
pub(super) const REQUIRED: [&str; 3] = ["consul-k8s-image", "consul-dataplane-image", "release-namespace"];

const SERVER: &str = "Server";
const INJECTION: &str = "Which Pods";
const PROXY: &str = "Transparent proxy";
const CONTAINERS: &str = "Injected containers";
const LIFECYCLE: &str = "Life cycle of the sidecar";
const METRICS: &str = "Metrics";
const RESOURCES: &str = "Resources";
const CONSUL: &str = "Consul and the cluster";
const ELSEWHERE: &str = "Of consul-k8s, accepted and without meaning here";

const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
const POLICIES: [&str; 4] = ["", "Always", "IfNotPresent", "Never"];

const fn flag(group: &'static str, name: &'static str, help: &'static str, kind: Kind) -> Flag {
    Flag { name, group, help, kind }
}

/// Every flag, by group.
pub(super) static FLAGS: &[Flag] = &[
    flag(SERVER, "listen", "address and port for reviews, :8080", Value(|o, v| assign::filled(&mut o.listen, v))),
    flag(
        SERVER,
        "health-listen",
        "address and port for health, :9445",
        Value(|o, v| assign::filled(&mut o.health_listen, v)),
    ),
    flag(
        SERVER,
        "metrics-listen",
        "address and port for Prometheus, :9444",
        Value(|o, v| assign::filled(&mut o.metrics_listen, v)),
    ),
    flag(
        SERVER,
        "tls-cert-dir",
        "directory of tls.crt and tls.key, which are read again when they change",
        Value(|o, v| {
            o.tls.directory = Some(v.into());
            if v.is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) }
        }),
    ),
    flag(
        SERVER,
        "tls-auto",
        "instead: make the certificate, for the MutatingWebhookConfiguration of this name",
        Value(|o, v| assign::filled(o.tls.configuration.get_or_insert_default(), v)),
    ),
    flag(
        SERVER,
        "tls-auto-hosts",
        "names and addresses in that certificate, comma separated",
        Value(|o, v| {
            o.tls.hosts = v.split(',').map(|host| host.trim().to_owned()).collect();
            if o.tls.hosts.contains("") { Err("names must not be empty".to_owned()) } else { Ok(()) }
        }),
    ),
    flag(
        SERVER,
        "tls-auto-secret",
        "Secret that it is kept in, consul-connect-inject-webhook-cert",
        Value(|o, v| assign::filled(&mut o.tls.secret, v)),
    ),
    flag(
        SERVER,
        "log-level",
        "trace, debug, info, warn or error; also of the injected containers",
        Value(|o, v| assign::one_of(&mut o.settings.log_level, &v.to_ascii_lowercase(), &LEVELS)),
    ),
    flag(SERVER, "log-json", "log JSON; also the injected containers", Switch(|o| &mut o.settings.log_json)),
    flag(
        INJECTION,
        "default-inject",
        "inject Pods without annotation, true",
        Switch(|o| &mut o.settings.default_inject),
    ),
    flag(
        INJECTION,
        "allow-k8s-namespace",
        "namespace to inject, * for all; may be repeated, none without",
        Value(|o, v| {
            o.settings.allow_namespaces.insert(v.to_owned());
            Ok(())
        }),
    ),
    flag(
        INJECTION,
        "deny-k8s-namespace",
        "namespace never to inject, wins over allowed ones; may be repeated",
        Value(|o, v| {
            o.settings.deny_namespaces.insert(v.to_owned());
            Ok(())
        }),
    ),
    flag(
        PROXY,
        "default-enable-transparent-proxy",
        "transparent proxy where Pod and Namespace do not say, true",
        Switch(|o| &mut o.settings.default_transparent_proxy),
    ),
    flag(
        PROXY,
        "transparent-proxy-default-overwrite-probes",
        "send HTTP probes through the sidecar, true",
        Switch(|o| &mut o.settings.default_overwrite_probes),
    ),
    flag(
        PROXY,
        "transparent-proxy-default-safeguards",
        "what closes what Consul leaves open, comma separated, none",
        Value(|o, v| {
            let mistakes = |mistakes: Vec<redirect::Mistake>| {
                mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            };
            o.settings.safeguards = if v == "none" { Vec::new() } else { Safeguard::list(v).map_err(mistakes)? };
            Ok(())
        }),
    ),
    flag(
        PROXY,
        "rule-backend",
        "how the init container installs rules: auto, nftables, iptables-nft or iptables-legacy; auto",
        Value(|o, v| {
            o.settings.rule_backend = v.parse()?;
            Ok(())
        }),
    ),
    flag(PROXY, "enable-cni", "a CNI plugin redirects, not the init container, false", Switch(|o| &mut o.settings.cni)),
    flag(
        PROXY,
        "enable-consul-dns",
        "resolve names by Consul where Pod and Namespace do not say, false",
        Switch(|o| &mut o.settings.consul_dns),
    ),
    flag(
        PROXY,
        "cluster-dns",
        "name servers behind Consul DNS, comma separated; without, those of the webhook's own /etc/resolv.conf",
        Value(|o, v| {
            let servers = v.split(',').map(|server| server.trim().parse().map_err(|_| server));
            let servers: Result<Vec<std::net::IpAddr>, _> = servers.collect();
            let servers = servers.map_err(|server| format!("{server:?} is no address; allowed are addresses"))?;
            o.cluster_dns = servers.iter().map(ToString::to_string).collect();
            Ok(())
        }),
    ),
    flag(
        CONTAINERS,
        "consul-k8s-image",
        "image of the init container; must be set",
        Value(|o, v| assign::filled(&mut o.settings.consul_k8s_image, v)),
    ),
    flag(
        CONTAINERS,
        "consul-dataplane-image",
        "image of the sidecar; must be set",
        Value(|o, v| assign::filled(&mut o.settings.dataplane_image, v)),
    ),
    flag(
        CONTAINERS,
        "global-image-pull-policy",
        "pull policy of both images",
        Value(|o, v| {
            let mut policy = String::new();
            assign::one_of(&mut policy, v, &POLICIES)?;
            o.settings.pull_policy = (!policy.is_empty()).then_some(policy);
            Ok(())
        }),
    ),
    flag(
        CONTAINERS,
        "release-namespace",
        "namespace of the installation; must be set",
        Value(|o, v| assign::filled(&mut o.settings.release_namespace, v)),
    ),
    flag(
        CONTAINERS,
        "default-envoy-proxy-concurrency",
        "Envoy's worker threads, 2",
        Value(|o, v| assign::number(&mut o.settings.concurrency, v)),
    ),
    flag(
        CONTAINERS,
        "envoy-extra-args",
        "further arguments for Envoy",
        Value(|o, v| {
            o.settings.envoy_extra_args = shell_words::split(v).map_err(|error| error.to_string())?;
            Ok(())
        }),
    ),
    flag(
        CONTAINERS,
        "default-sidecar-proxy-startup-failure-seconds",
        "seconds the sidecar has to start, 0 for no limit",
        Value(|o, v| assign::number(&mut o.settings.startup_failure_seconds, v)),
    ),
    flag(
        CONTAINERS,
        "default-sidecar-proxy-liveness-failure-seconds",
        "seconds without life before a restart, 0 for never",
        Value(|o, v| assign::number(&mut o.settings.liveness_failure_seconds, v)),
    ),
    flag(
        LIFECYCLE,
        "default-enable-sidecar-proxy-lifecycle",
        "the sidecar starts first and ends last, true",
        Switch(|o| &mut o.settings.lifecycle.enabled),
    ),
    flag(
        LIFECYCLE,
        "default-enable-sidecar-proxy-lifecycle-shutdown-drain-listeners",
        "drain inbound listeners on shutdown, true",
        Switch(|o| &mut o.settings.lifecycle.drain_listeners),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-proxy-lifecycle-shutdown-grace-period-seconds",
        "seconds until Envoy ends, 30",
        Value(|o, v| assign::number(&mut o.settings.lifecycle.shutdown_grace_seconds, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-proxy-lifecycle-startup-grace-period-seconds",
        "seconds that start-up may take, 0",
        Value(|o, v| assign::number(&mut o.settings.lifecycle.startup_grace_seconds, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-proxy-lifecycle-graceful-port",
        "port of the lifecycle server, 20600",
        Value(|o, v| assign::port(&mut o.settings.lifecycle.graceful_port, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-proxy-lifecycle-graceful-shutdown-path",
        "path that starts the shutdown",
        Value(|o, v| assign::filled(&mut o.settings.lifecycle.shutdown_path, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-proxy-lifecycle-graceful-startup-path",
        "path that answers once Envoy is up",
        Value(|o, v| assign::filled(&mut o.settings.lifecycle.startup_path, v)),
    ),
    flag(
        LIFECYCLE,
        "default-enable-consul-dataplane-as-sidecar",
        "the sidecar is a restartable init container, false",
        Switch(|o| &mut o.settings.native_sidecar.enabled),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-initial-probe-check-delay-seconds",
        "seconds before its first check, 1",
        Value(|o, v| assign::number(&mut o.settings.native_sidecar.initial_delay_seconds, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-probe-period-seconds",
        "seconds between its checks, 1",
        Value(|o, v| assign::number(&mut o.settings.native_sidecar.period_seconds, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-probe-failure-threshold",
        "failed checks before a restart, 10",
        Value(|o, v| assign::number(&mut o.settings.native_sidecar.failure_threshold, v)),
    ),
    flag(
        LIFECYCLE,
        "default-sidecar-probe-check-timeout-seconds",
        "seconds for one check, 5",
        Value(|o, v| assign::number(&mut o.settings.native_sidecar.timeout_seconds, v)),
    ),
    flag(
        METRICS,
        "default-enable-metrics",
        "expose the sidecar's metrics, false",
        Switch(|o| &mut o.settings.metrics.enabled),
    ),
    flag(
        METRICS,
        "default-enable-metrics-merging",
        "merge the application's metrics into them, false",
        Switch(|o| &mut o.settings.metrics.merging),
    ),
    flag(
        METRICS,
        "default-merged-metrics-port",
        "port of the merged metrics, 20100",
        Value(|o, v| assign::port(&mut o.settings.metrics.merged_port, v)),
    ),
    flag(
        METRICS,
        "default-prometheus-scrape-port",
        "port where Prometheus scrapes, 20200",
        Value(|o, v| assign::port(&mut o.settings.metrics.scrape_port, v)),
    ),
    flag(
        METRICS,
        "default-prometheus-scrape-path",
        "path that Prometheus scrapes, /metrics",
        Value(|o, v| assign::filled(&mut o.settings.metrics.scrape_path, v)),
    ),
    flag(
        RESOURCES,
        "default-sidecar-proxy-cpu-request",
        "CPU request of the sidecar",
        Value(|o, v| assign::quantity(&mut o.settings.sidecar_resources.cpu_request, v)),
    ),
    flag(
        RESOURCES,
        "default-sidecar-proxy-cpu-limit",
        "CPU limit of the sidecar",
        Value(|o, v| assign::quantity(&mut o.settings.sidecar_resources.cpu_limit, v)),
    ),
    flag(
        RESOURCES,
        "default-sidecar-proxy-memory-request",
        "memory request of the sidecar",
        Value(|o, v| assign::quantity(&mut o.settings.sidecar_resources.memory_request, v)),
    ),
    flag(
        RESOURCES,
        "default-sidecar-proxy-memory-limit",
        "memory limit of the sidecar",
        Value(|o, v| assign::quantity(&mut o.settings.sidecar_resources.memory_limit, v)),
    ),
    flag(
        RESOURCES,
        "init-container-cpu-request",
        "CPU request of the init container, 50m",
        Value(|o, v| assign::quantity(&mut o.settings.init_resources.cpu_request, v)),
    ),
    flag(
        RESOURCES,
        "init-container-cpu-limit",
        "CPU limit of the init container, 50m",
        Value(|o, v| assign::quantity(&mut o.settings.init_resources.cpu_limit, v)),
    ),
    flag(
        RESOURCES,
        "init-container-memory-request",
        "memory request of the init container, 25Mi",
        Value(|o, v| assign::quantity(&mut o.settings.init_resources.memory_request, v)),
    ),
    flag(
        RESOURCES,
        "init-container-memory-limit",
        "memory limit of the init container, 150Mi",
        Value(|o, v| assign::quantity(&mut o.settings.init_resources.memory_limit, v)),
    ),
    flag(
        CONSUL,
        "acl-auth-method",
        "auth method that injected containers log in with; none without",
        Value(|o, v| {
            o.settings.acl = (!v.is_empty()).then(|| AclLogin { auth_method: v.to_owned() });
            Ok(())
        }),
    ),
    flag(CONSUL, "enable-namespaces", "Consul namespaces (Enterprise), false", Switch(|o| &mut o.tenancy.namespaces)),
    flag(
        CONSUL,
        "consul-destination-namespace",
        "Consul namespace of all Pods, default",
        Value(|o, v| assign::filled(&mut o.tenancy.destination, v)),
    ),
    flag(
        CONSUL,
        "enable-k8s-namespace-mirroring",
        "each namespace has a Consul namespace of its own, false",
        Switch(|o| &mut o.tenancy.mirroring),
    ),
    flag(
        CONSUL,
        "k8s-namespace-mirroring-prefix",
        "what comes before the name of a mirrored namespace",
        Value(|o, v| {
            v.clone_into(&mut o.tenancy.prefix);
            Ok(())
        }),
    ),
    flag(CONSUL, "enable-partitions", "admin partitions (Enterprise), false", Switch(|o| &mut o.tenancy.partitions)),
    flag(
        CONSUL,
        "partition",
        "this cluster's admin partition; needed with -enable-partitions",
        Value(|o, v| {
            v.clone_into(&mut o.tenancy.partition);
            Ok(())
        }),
    ),
    flag(
        CONSUL,
        "enable-openshift",
        "user ids come from the namespace, and redirecting is privileged, false",
        Switch(|o| &mut o.settings.openshift),
    ),
    flag(ELSEWHERE, "consul-image", "of no use, as in consul-k8s", Unused),
    flag(ELSEWHERE, "release-name", "names objects of controllers", Unused),
    flag(ELSEWHERE, "resource-prefix", "names objects of controllers", Unused),
    flag(ELSEWHERE, "consul-cross-namespace-acl-policy", "namespaces are made by controllers", Unused),
    flag(ELSEWHERE, "node-meta", "nodes are registered by controllers", Unused),
    flag(ELSEWHERE, "pod-security-standards", "of gateways, which controllers make", Unused),
    flag(ELSEWHERE, "default-consul-sidecar-cpu-request", "of a container that there is no more", Unused),
    flag(ELSEWHERE, "default-consul-sidecar-cpu-limit", "of a container that there is no more", Unused),
    flag(ELSEWHERE, "default-consul-sidecar-memory-request", "of a container that there is no more", Unused),
    flag(ELSEWHERE, "default-consul-sidecar-memory-limit", "of a container that there is no more", Unused),
    flag(ELSEWHERE, "enable-peering", "peering is done by controllers", UnusedSwitch),
    flag(ELSEWHERE, "enable-federation", "federation is done by controllers", UnusedSwitch),
    flag(ELSEWHERE, "enable-gateway-metrics", "gateways are made by controllers", UnusedSwitch),
    flag(ELSEWHERE, "enable-telemetry-collector", "is registered by controllers", UnusedSwitch),
    flag(ELSEWHERE, "enable-auto-encrypt", "of clients, which there are no more", UnusedSwitch),
    flag(ELSEWHERE, "enable-webhook-ca-update", "not supported: see -tls-auto", UnsupportedSwitch),
];
