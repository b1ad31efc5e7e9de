//! What the operator decided for the whole cluster; flags and environment fill it, see [`crate::flags`].

mod parts;

pub use parts::{AclLogin, ConsulServers, Lifecycle, Metrics, NamespaceMapping, NativeSidecar, Resources, ServerTls};

use crate::resolv::ResolvConf;
use redirect::{Backend, Safeguard};
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
    /// How they log in there; `None` where the servers have no ACLs.
    pub acl: Option<AclLogin>,
    /// Consul namespaces (Enterprise); `None` where there are none.
    pub namespaces: Option<NamespaceMapping>,
    /// Admin partition (Enterprise); `None` where there are none.
    pub partition: Option<String>,
    /// The cluster is OpenShift: user ids come from the Namespace, and redirecting needs a privileged container.
    pub openshift: bool,
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
    /// The sidecar as a restartable init container.
    pub native_sidecar: NativeSidecar,
    /// Metrics.
    pub metrics: Metrics,
}

impl Settings {
    /// The loopback address that the sidecar's own listeners use.
    #[must_use]
    pub fn loopback(&self) -> &'static str {
        if self.dual_stack { "::1" } else { "127.0.0.1" }
    }

    /// The Consul namespace of Pods in this Kubernetes namespace; `None` where there are no Consul namespaces.
    #[must_use]
    pub fn consul_namespace(&self, namespace: &str) -> Option<String> {
        Some(match self.namespaces.as_ref()? {
            NamespaceMapping::Mirror { prefix } => format!("{prefix}{namespace}"),
            NamespaceMapping::Single(name) => name.clone(),
        })
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
            acl: None,
            namespaces: None,
            partition: None,
            openshift: false,
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
            native_sidecar: NativeSidecar::default(),
            metrics: Metrics::default(),
        }
    }
}
