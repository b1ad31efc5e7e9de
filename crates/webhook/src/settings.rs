//! What the operator decided for the whole cluster; flags and environment fill it, see [`crate::flags`].

use crate::resolv::ResolvConf;
use redirect::{Backend, Safeguard, contract};
use std::collections::BTreeSet;

/// The webhook's settings. [`Default`] is what the Helm chart of consul-k8s installs, with image names of this project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Inject Pods that carry no annotation about it.
    pub default_inject: bool,
    /// Namespaces whose Pods may be injected; `*` means all. An empty set allows none.
    pub allow_namespaces: BTreeSet<String>,
    /// Namespaces whose Pods are never injected; no wildcard.
    pub deny_namespaces: BTreeSet<String>,
    /// Transparent proxy where neither Pod nor Namespace says otherwise.
    pub default_transparent_proxy: bool,
    /// Send HTTP probes through the sidecar where the Pod does not say otherwise.
    pub default_overwrite_probes: bool,
    /// What closes what Consul's rules leave open, where the Pod does not say.
    pub safeguards: Vec<Safeguard>,
    /// How the init container installs rules.
    pub rule_backend: Backend,
    /// A CNI plugin puts the rules in place; the init container does not.
    pub cni: bool,
    /// Consul DNS where neither Pod nor Namespace says otherwise.
    pub consul_dns: bool,
    /// Both address families are redirected, and the sidecar's own listeners are on the IPv6 loopback.
    pub dual_stack: bool,
    /// The webhook's own resolver configuration, the source of the Pods' one when Consul DNS is on.
    pub resolv: ResolvConf,
    /// Image of the init container.
    pub consul_k8s_image: String,
    /// Image of the sidecar.
    pub dataplane_image: String,
    /// Pull policy of both; `None` leaves it to the cluster.
    pub pull_policy: Option<String>,
    /// Namespace that the webhook is installed in.
    pub release_namespace: String,
    /// Log level of the injected containers.
    pub log_level: String,
    /// The injected containers log JSON.
    pub log_json: bool,
    /// How the injected containers reach the Consul servers.
    pub consul: ConsulServers,
    /// Resources of the init container.
    pub init_resources: Resources,
    /// Resources of the sidecar.
    pub sidecar_resources: Resources,
    /// Envoy's worker threads.
    pub concurrency: u32,
    /// Further arguments for Envoy, as a shell would split them.
    pub envoy_extra_args: Vec<String>,
    /// Seconds the sidecar has to start; 0 means no startup probe.
    pub startup_failure_seconds: u32,
    /// Seconds of failing liveness probes before a restart; 0 means no liveness probe.
    pub liveness_failure_seconds: u32,
    /// The sidecar's life cycle.
    pub lifecycle: Lifecycle,
    /// Metrics.
    pub metrics: Metrics,
}

/// How the injected containers reach the Consul servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulServers {
    /// Host name, address, or `exec=` command, as the consul-server-connection-manager reads it.
    pub addresses: String,
    /// Port of the servers' gRPC interface.
    pub grpc_port: u16,
    /// Port of the servers' HTTP interface.
    pub http_port: u16,
    /// Timeout of one call, a Go duration.
    pub api_timeout: String,
    /// The address list does not change: do not watch it.
    pub skip_server_watch: bool,
    /// TLS towards the servers; `None` is plain text.
    pub tls: Option<ServerTls>,
}

/// TLS towards the Consul servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// Name to expect in the servers' certificates.
    pub server_name: Option<String>,
    /// Certificate authority to trust, PEM; `None` trusts the image's own roots.
    pub ca_pem: Option<String>,
}

/// Resource requests and limits, each a Kubernetes quantity or absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU request.
    pub cpu_request: Option<String>,
    /// CPU limit.
    pub cpu_limit: Option<String>,
    /// Memory request.
    pub memory_request: Option<String>,
    /// Memory limit.
    pub memory_limit: Option<String>,
}

/// The sidecar's life cycle around the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// The sidecar is started first and ends last.
    pub enabled: bool,
    /// Drain inbound listeners on shutdown.
    pub drain_listeners: bool,
    /// Seconds between the shutdown signal and Envoy's end.
    pub shutdown_grace_seconds: u32,
    /// Seconds that start-up may take.
    pub startup_grace_seconds: u32,
    /// Port of the lifecycle server.
    pub graceful_port: u16,
    /// Path that starts the shutdown.
    pub shutdown_path: String,
    /// Path that answers once Envoy is up.
    pub startup_path: String,
}

/// Metrics of the sidecar and the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Expose the sidecar's metrics.
    pub enabled: bool,
    /// Merge the application's metrics into them.
    pub merging: bool,
    /// Port of the merged metrics.
    pub merged_port: u16,
    /// Port where Prometheus scrapes.
    pub scrape_port: u16,
    /// Path that Prometheus scrapes.
    pub scrape_path: String,
}

impl Settings {
    /// The loopback address that the sidecar's own listeners use.
    #[must_use]
    pub fn loopback(&self) -> &'static str {
        if self.dual_stack { "::1" } else { "127.0.0.1" }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_inject: false,
            allow_namespaces: BTreeSet::from(["*".to_owned()]),
            deny_namespaces: BTreeSet::new(),
            default_transparent_proxy: true,
            default_overwrite_probes: true,
            safeguards: Vec::new(),
            rule_backend: Backend::Auto,
            cni: false,
            consul_dns: false,
            dual_stack: false,
            resolv: ResolvConf::default(),
            consul_k8s_image: "pellucid/consul-k8s-control-plane:dev".to_owned(),
            dataplane_image: "pellucid/consul-dataplane:dev".to_owned(),
            pull_policy: None,
            release_namespace: "consul".to_owned(),
            log_level: "info".to_owned(),
            log_json: false,
            consul: ConsulServers::default(),
            init_resources: Resources {
                cpu_request: Some("50m".to_owned()),
                cpu_limit: Some("50m".to_owned()),
                memory_request: Some("25Mi".to_owned()),
                memory_limit: Some("150Mi".to_owned()),
            },
            sidecar_resources: Resources::default(),
            concurrency: 2,
            envoy_extra_args: Vec::new(),
            startup_failure_seconds: 0,
            liveness_failure_seconds: 0,
            lifecycle: Lifecycle::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for ConsulServers {
    fn default() -> Self {
        Self {
            addresses: "consul-server.consul.svc".to_owned(),
            grpc_port: 8502,
            http_port: 8500,
            api_timeout: "5s".to_owned(),
            skip_server_watch: false,
            tls: None,
        }
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            enabled: true,
            drain_listeners: true,
            shutdown_grace_seconds: 30,
            startup_grace_seconds: 0,
            graceful_port: contract::GRACEFUL_PORT,
            shutdown_path: "/graceful_shutdown".to_owned(),
            startup_path: "/graceful_startup".to_owned(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: false,
            merging: false,
            merged_port: contract::MERGED_METRICS_PORT,
            scrape_port: contract::PROMETHEUS_SCRAPE_PORT,
            scrape_path: "/metrics".to_owned(),
        }
    }
}
