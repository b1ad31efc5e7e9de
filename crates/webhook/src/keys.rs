//! Annotation keys that nobody but the webhook reads; those it shares with other programs are in `redirect::contract`.

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $key:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = concat!("consul.hashicorp.com/", $key);)*

        /// All of them.
        pub(crate) const KEYS: &[&str] = &[$($name),*];
    };
}

keys! {
    /// Written for people: what is let past the proxy without anybody's asking, with reasons.
    IMPLICIT_EXCLUSIONS = "transparent-proxy-implicit-exclusions";
    /// Seconds of failing liveness probes after which the sidecar is restarted.
    LIVENESS_FAILURE_SECONDS = "sidecar-proxy-liveness-failure-seconds";
    /// Seconds the sidecar has to start.
    STARTUP_FAILURE_SECONDS = "sidecar-proxy-startup-failure-seconds";
    /// The sidecar's CPU limit.
    SIDECAR_CPU_LIMIT = "sidecar-proxy-cpu-limit";
    /// The sidecar's CPU request.
    SIDECAR_CPU_REQUEST = "sidecar-proxy-cpu-request";
    /// The sidecar's memory limit.
    SIDECAR_MEMORY_LIMIT = "sidecar-proxy-memory-limit";
    /// The sidecar's memory request.
    SIDECAR_MEMORY_REQUEST = "sidecar-proxy-memory-request";
    /// Volumes for the sidecar, a JSON array.
    SIDECAR_USER_VOLUME = "consul-sidecar-user-volume";
    /// Volume mounts of the sidecar, a JSON array.
    SIDECAR_USER_VOLUME_MOUNT = "consul-sidecar-user-volume-mount";
    /// Whether the sidecar outlives the application on shutdown.
    LIFECYCLE = "enable-sidecar-proxy-lifecycle";
    /// Whether inbound listeners drain on shutdown.
    LIFECYCLE_DRAIN = "enable-sidecar-proxy-lifecycle-shutdown-drain-listeners";
    /// Seconds between the shutdown signal and the sidecar's end.
    LIFECYCLE_SHUTDOWN_GRACE = "sidecar-proxy-lifecycle-shutdown-grace-period-seconds";
    /// Seconds the sidecar may take to become ready.
    LIFECYCLE_STARTUP_GRACE = "sidecar-proxy-lifecycle-startup-grace-period-seconds";
    /// Port of the lifecycle server.
    LIFECYCLE_PORT = "sidecar-proxy-lifecycle-graceful-port";
    /// Path that starts the shutdown.
    LIFECYCLE_SHUTDOWN_PATH = "sidecar-proxy-lifecycle-graceful-shutdown-path";
    /// Path that answers once the sidecar is up.
    LIFECYCLE_STARTUP_PATH = "sidecar-proxy-lifecycle-graceful-startup-path";
    /// Run the sidecar as a restartable init container.
    NATIVE_SIDECAR = "enable-consul-dataplane-as-sidecar";
    /// Merge the application's metrics into the sidecar's.
    METRICS_MERGING = "enable-metrics-merging";
    /// Port of the merged metrics.
    MERGED_METRICS_PORT = "merged-metrics-port";
    /// Port where Prometheus scrapes.
    PROMETHEUS_SCRAPE_PORT = "prometheus-scrape-port";
    /// Path that Prometheus scrapes.
    PROMETHEUS_SCRAPE_PATH = "prometheus-scrape-path";
    /// Port of the application's own metrics.
    SERVICE_METRICS_PORT = "service-metrics-port";
    /// Path of the application's own metrics.
    SERVICE_METRICS_PATH = "service-metrics-path";
    /// Authorities of scrapers, a file.
    PROMETHEUS_CA_FILE = "prometheus-ca-file";
    /// Authorities of scrapers, a directory.
    PROMETHEUS_CA_PATH = "prometheus-ca-path";
    /// Certificate of the merged metrics.
    PROMETHEUS_CERT_FILE = "prometheus-cert-file";
    /// Key of the merged metrics' certificate.
    PROMETHEUS_KEY_FILE = "prometheus-key-file";
    /// Seconds before the first check of a native sidecar's start-up.
    NATIVE_INITIAL_DELAY = "sidecar-initial-probe-check-delay-seconds";
    /// Seconds between checks of a native sidecar's start-up.
    NATIVE_PERIOD = "sidecar-probe-period-seconds";
    /// Failed checks of a native sidecar's start-up before a restart.
    NATIVE_FAILURE_THRESHOLD = "sidecar-probe-failure-threshold";
    /// Seconds for one check of a native sidecar's start-up.
    NATIVE_TIMEOUT = "sidecar-probe-check-timeout-seconds";
    /// Written by the webhook: the sidecar writes access logs.
    ACCESS_LOG_ENABLED = "consul-sidecar-access-log-enabled";
    /// Written by the webhook: the file that access logs go to.
    ACCESS_LOG_PATH = "consul-sidecar-access-log-path";
}
