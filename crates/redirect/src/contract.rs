//! The contract between webhook, CNI plugin, init container and control plane, written once: annotation and label keys,
//! ports, user ids, paths and names, as consul-k8s uses them.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Prefix of every annotation and label key below.
pub const PREFIX: &str = "consul.hashicorp.com/";

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $key:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!("consul.hashicorp.com/", $key);)*

        /// All of them.
        pub const KEYS: &[&str] = &[$($name),*];
    };
}

keys! {
    /// Pod annotation, boolean: inject this Pod, or do not.
    CONNECT_INJECT = "connect-inject";
    /// Pod annotation and label written by the webhook: `injected`.
    CONNECT_INJECT_STATUS = "connect-inject-status";
    /// The same of the generation of consul-k8s after the one that is followed here.
    MESH_INJECT_STATUS = "mesh-inject-status";
    /// Pod label written by the webhook; the endpoints controller registers only Pods that carry it.
    CONNECT_INJECT_MANAGED_BY = "connect-inject-managed-by";
    /// Pod annotation: containers that get the shared volume mounted, comma separated.
    CONNECT_INJECT_MOUNT_VOLUME = "connect-inject-mount-volume";
    /// Pod annotation: the Consul service name, when it differs from the Kubernetes Service's.
    CONNECT_SERVICE = "connect-service";
    /// Pod annotation: name of the one Kubernetes Service that registers this Pod.
    KUBERNETES_SERVICE = "kubernetes-service";
    /// Pod annotation: the application's ports, names or numbers, comma separated.
    CONNECT_SERVICE_PORT = "connect-service-port";
    /// Pod annotation: which of the ports is the default one.
    CONNECT_SERVICE_DEFAULT_PORT = "connect-service-default-port";
    /// Pod annotation: explicit upstreams.
    CONNECT_SERVICE_UPSTREAMS = "connect-service-upstreams";
    /// Pod annotation: probe the sidecar by its own `/ready` instead of a TCP dial of its inbound port.
    USE_PROXY_HEALTH_CHECK = "use-proxy-health-check";
    /// Pod annotation: further arguments for Envoy.
    ENVOY_EXTRA_ARGS = "envoy-extra-args";
    /// Pod annotation: Envoy's worker threads.
    ENVOY_PROXY_CONCURRENCY = "consul-envoy-proxy-concurrency";
    /// Pod annotation written by the webhook: the Pod as it was received.
    ORIGINAL_POD = "original-pod";
    /// Pod annotation written by the webhook: its version.
    CONNECT_K8S_VERSION = "connect-k8s-version";
    /// Pod annotation written by the webhook: its version, newer name.
    CONSUL_K8S_VERSION = "consul-k8s-version";
    /// Pod annotation and Namespace label, boolean: transparent proxy on or off.
    TRANSPARENT_PROXY = "transparent-proxy";
    /// Pod annotation and Namespace label, boolean: Consul DNS on or off.
    CONSUL_DNS = "consul-dns";
    /// Pod annotation: `enabled` (webhook), `waiting` and `complete` (CNI).
    TRANSPARENT_PROXY_STATUS = "transparent-proxy-status";
    /// Pod annotation, boolean: send HTTP probes through the proxy.
    OVERWRITE_PROBES = "transparent-proxy-overwrite-probes";
    /// Pod annotation: inbound ports that are not redirected.
    EXCLUDE_INBOUND_PORTS = "transparent-proxy-exclude-inbound-ports";
    /// Pod annotation: outbound ports that are not redirected.
    EXCLUDE_OUTBOUND_PORTS = "transparent-proxy-exclude-outbound-ports";
    /// Pod annotation: destination blocks that are not redirected.
    EXCLUDE_OUTBOUND_CIDRS = "transparent-proxy-exclude-outbound-cidrs";
    /// Pod annotation: user ids whose traffic is not redirected.
    EXCLUDE_UIDS = "transparent-proxy-exclude-uids";
    /// Pod annotation: group ids whose traffic is not redirected. Ours.
    EXCLUDE_GIDS = "transparent-proxy-exclude-gids";
    /// Pod annotation: names of safeguards, comma separated, or `none`. Ours; Consul's rules have none of them.
    SAFEGUARDS = "transparent-proxy-safeguards";
    /// Pod annotation, boolean: the Pod's containers may run as the user ids of the injected ones, past the proxy. Ours.
    ALLOW_PROXY_UIDS = "transparent-proxy-allow-proxy-uids";
    /// Pod annotation: `blocked` or `allowed`, what init containers may send before there is a proxy. Ours.
    INIT_CONTAINERS = "transparent-proxy-init-containers";
    /// Pod annotation: opaque configuration of the proxy, as JSON.
    PROXY_CONFIG_MAP = "proxy-config-map";
    /// Pod annotation written by the webhook: the Consul namespace (Enterprise).
    CONSUL_NAMESPACE = "consul-namespace";
    /// Pod annotation written by the webhook in CNI mode: the configuration of the rules, as JSON.
    REDIRECT_TRAFFIC_CONFIG = "redirect-traffic-config";
    /// Pod annotation written by the webhook: whether both address families are redirected.
    DUAL_STACK = "dual-stack";
    /// Pod annotation, boolean: expose merged metrics.
    ENABLE_METRICS = "enable-metrics";
    /// Service label, boolean: do not register the Pods this Service selects.
    SERVICE_IGNORE = "service-ignore";
}

/// Pod annotation written by the webhook where metrics are on: `true`.
pub const PROMETHEUS_SCRAPE: &str = "prometheus.io/scrape";
/// Pod annotation written by the webhook where metrics are on: the port Prometheus scrapes.
pub const PROMETHEUS_PORT: &str = "prometheus.io/port";
/// Pod annotation written by the webhook where metrics are on: the path Prometheus scrapes.
pub const PROMETHEUS_PATH: &str = "prometheus.io/path";
/// Value of [`CONNECT_INJECT_STATUS`].
pub const INJECTED: &str = "injected";
/// Value of [`TRANSPARENT_PROXY_STATUS`] that the webhook writes.
pub const ENABLED: &str = "enabled";
/// Value of [`CONNECT_INJECT_MANAGED_BY`].
pub const MANAGED_BY: &str = "consul-k8s-endpoints-controller";
/// Environment variable of the init container that carries the configuration of the rules.
pub const REDIRECT_TRAFFIC_CONFIG_ENV: &str = "CONSUL_REDIRECT_TRAFFIC_CONFIG";
/// Environment variable of the init container that says whether IPv6 is redirected too.
pub const DUAL_STACK_ENV: &str = "CONSUL_DUAL_STACK";
/// Environment variable of the init container, where a CNI plugin redirects: port of the outbound listener, that a dial of
/// [`PROOF`] must arrive at before the application may start. Ours.
pub const PROOF_ENV: &str = "CONSUL_REDIRECTION_PROOF";
/// What only redirection answers, whoever dials it, where [`Config::proof`](crate::Config::proof) is set. Nobody has this
/// address, and no packet to it leaves the Pod.
pub const PROOF: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 127), 15127);
/// Environment variable that carries the node's addresses (`status.hostIPs`), separated by commas.
pub const HOST_IPS_ENV: &str = "HOST_IPS";
/// Environment variable that carries the node's first address (`status.hostIP`).
pub const HOST_IP_ENV: &str = "HOST_IP";

/// Environment variables that tell injected containers, and the webhook itself, how to reach the Consul servers.
pub mod servers {
    /// Host names or addresses, or an `exec=` command that yields them.
    pub const ADDRESSES: &str = "CONSUL_ADDRESSES";
    /// gRPC port.
    pub const GRPC_PORT: &str = "CONSUL_GRPC_PORT";
    /// HTTP port.
    pub const HTTP_PORT: &str = "CONSUL_HTTP_PORT";
    /// Timeout of one call, a Go duration.
    pub const API_TIMEOUT: &str = "CONSUL_API_TIMEOUT";
    /// Boolean: TLS.
    pub const USE_TLS: &str = "CONSUL_USE_TLS";
    /// Authority of the servers, PEM.
    pub const CACERT_PEM: &str = "CONSUL_CACERT_PEM";
    /// The same in a file.
    pub const CACERT_FILE: &str = "CONSUL_CACERT_FILE";
    /// Name in the servers' certificates.
    pub const TLS_SERVER_NAME: &str = "CONSUL_TLS_SERVER_NAME";
    /// The Consul node that a Pod is registered on.
    pub const NODE_NAME: &str = "CONSUL_NODE_NAME";
    /// Consul namespace (Enterprise).
    pub const NAMESPACE: &str = "CONSUL_NAMESPACE";
    /// Admin partition (Enterprise).
    pub const PARTITION: &str = "CONSUL_PARTITION";
    /// Auth method to log in with, where the servers have ACLs.
    pub const LOGIN_AUTH_METHOD: &str = "CONSUL_LOGIN_AUTH_METHOD";
    /// File with the service account's token.
    pub const LOGIN_BEARER_TOKEN_FILE: &str = "CONSUL_LOGIN_BEARER_TOKEN_FILE";
    /// What Consul's token is to say of its use: `key=value`, separated by commas.
    pub const LOGIN_META: &str = "CONSUL_LOGIN_META";
    /// Consul namespace of the auth method (Enterprise).
    pub const LOGIN_NAMESPACE: &str = "CONSUL_LOGIN_NAMESPACE";
    /// Admin partition of the auth method (Enterprise).
    pub const LOGIN_PARTITION: &str = "CONSUL_LOGIN_PARTITION";
}

/// User and group id of the sidecar.
pub const PROXY_UID: u32 = 5995;
/// User and group id of the init container where a CNI plugin redirects.
pub const INIT_UID: u32 = 5996;
/// Envoy's inbound ("public") listener.
pub const INBOUND_PORT: u16 = 20000;
/// Envoy's outbound listener, on the loopback.
pub const OUTBOUND_PORT: u16 = 15001;
/// Envoy's own readiness listener.
pub const PROXY_HEALTH_PORT: u16 = 21000;
/// First listener of overwritten liveness probes; the container's index is added.
pub const LIVENESS_PORT_BASE: u16 = 20300;
/// First listener of overwritten readiness probes; the container's index is added.
pub const READINESS_PORT_BASE: u16 = 20400;
/// First listener of overwritten startup probes; the container's index is added.
pub const STARTUP_PORT_BASE: u16 = 20500;
/// The sidecar's lifecycle server.
pub const GRACEFUL_PORT: u16 = 20600;
/// Prometheus scrape listener.
pub const PROMETHEUS_SCRAPE_PORT: u16 = 20200;
/// Merged metrics listener.
pub const MERGED_METRICS_PORT: u16 = 20100;
/// Envoy's admin listener, on the loopback.
pub const ENVOY_ADMIN_PORT: u16 = 19000;
/// The sidecar's DNS proxy, on the loopback.
pub const CONSUL_DNS_PORT: u16 = 8600;

/// Name of the volume the injected containers share.
pub const DATA_VOLUME: &str = "consul-connect-inject-data";
/// Where [`DATA_VOLUME`] is mounted.
pub const DATA_DIR: &str = "/consul/connect-inject";
/// File in [`DATA_DIR`] that carries the proxy's service id.
pub const PROXY_ID_FILE: &str = "proxyid";
/// File in [`DATA_DIR`] that carries the authority of the Consul servers, as PEM.
pub const CA_FILE: &str = "consul-ca.pem";
/// Where Kubernetes mounts the token of a Pod's service account.
pub const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// File in [`TOKEN_DIR`], and in what else a service account's token is mounted at, that carries the token.
pub const TOKEN_FILE: &str = "token";
/// Added to the name of a Kubernetes node: the Consul node that its Pods are registered on.
pub const NODE_SUFFIX: &str = "-virtual";
/// Name of the injected init container.
pub const INIT_CONTAINER: &str = "consul-connect-inject-init";
/// Name of the injected sidecar.
pub const SIDECAR_CONTAINER: &str = "consul-dataplane";

/// The chains. The first five are Consul's in iptables' table `nat`; the two after them are what its nf_tables generation calls
/// the chains that the kernel calls; the others are ours, and only there where a safeguard is asked for.
pub mod chain {
    /// Decides about inbound connections.
    pub const INBOUND: &str = "CONSUL_PROXY_INBOUND";
    /// Redirects inbound connections to the inbound listener.
    pub const IN_REDIRECT: &str = "CONSUL_PROXY_IN_REDIRECT";
    /// Decides about outbound connections.
    pub const OUTPUT: &str = "CONSUL_PROXY_OUTPUT";
    /// Redirects outbound connections to the outbound listener.
    pub const REDIRECT: &str = "CONSUL_PROXY_REDIRECT";
    /// Sends DNS queries to the sidecar.
    pub const DNS: &str = "CONSUL_DNS_REDIRECT";
    /// Called for what processes send, to translate it. In iptables, `OUTPUT`.
    pub const NAT_OUTPUT: &str = "CONSUL_NAT_OUTPUT";
    /// Called for what arrives, to translate it. In iptables, `PREROUTING`.
    pub const NAT_PREROUTING: &str = "CONSUL_NAT_PREROUTING";
    /// Refuses what processes send and a safeguard is against.
    pub const GUARD_OUTPUT: &str = "CONSUL_PROXY_GUARD_OUT";
    /// Refuses what arrives and a safeguard is against.
    pub const GUARD_INPUT: &str = "CONSUL_PROXY_GUARD_IN";
    /// Called for what processes send, to admit it. In iptables, `OUTPUT` of table `filter`.
    pub const FILTER_OUTPUT: &str = "CONSUL_FILTER_OUTPUT";
    /// Called for what arrives, to admit it. In iptables, `INPUT` of table `filter`.
    pub const FILTER_INPUT: &str = "CONSUL_FILTER_INPUT";
}

/// Our table of nf_tables, family `inet`.
pub const NFT_TABLE: &str = "pellucid_tproxy";
/// The table of Consul's own nf_tables generation, family `inet`. We never make it; where it is found, our rules take its place.
pub const CONSUL_NFT_TABLE: &str = "consul_tproxy";
