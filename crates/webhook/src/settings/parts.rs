//! Groups of settings.

use redirect::contract;

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

/// How the injected containers log in to the Consul servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclLogin {
    /// Name of the auth method, which knows this cluster's service accounts.
    pub auth_method: String,
}

/// Which Consul namespace a Kubernetes namespace belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceMapping {
    /// One of the same name, with this in front.
    Mirror {
        /// What comes in front; may be empty.
        prefix: String,
    },
    /// The same one for all.
    Single(String),
}

/// The sidecar as a restartable init container, which is up before the init containers behind it. Times in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeSidecar {
    /// Whether it is one.
    pub enabled: bool,
    /// Before the first check of its start-up.
    pub initial_delay_seconds: u32,
    /// Between checks.
    pub period_seconds: u32,
    /// Failed checks before a restart.
    pub failure_threshold: u32,
    /// For one check.
    pub timeout_seconds: u32,
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

impl Default for NativeSidecar {
    fn default() -> Self {
        Self { enabled: false, initial_delay_seconds: 1, period_seconds: 1, failure_threshold: 10, timeout_seconds: 5 }
    }
}
