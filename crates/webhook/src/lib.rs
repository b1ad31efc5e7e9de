//! The mutating admission webhook: Pod in, mutated Pod out.
//!
//! The library is pure: [`inject`] maps a Pod, its Namespace and the [`Settings`] to the injected Pod or to a [`Refusal`]
//! that lists every mistake; [`admit`] does the same with everything that surrounds the Pod, and adds warnings; [`decide`]
//! says beforehand whether anything is to be done at all. The admission server around it lives in [`server`].
//!
//! # Differences from consul-k8s
//!
//! The result is what consul-k8s writes, in every mode, with these deliberate differences.
//!
//! *Availability.*
//! * No review asks Consul or, as a rule, the API server: namespaces, Services and proxy-defaults are followed by watches. An
//!   outage of Consul holds up no Pod.
//! * Consul namespaces (Enterprise) are not made by an admission; the endpoints controller makes them when it registers.
//!
//! *What is refused.* A refusal has code 422, since the mistake is the Pod's, and names all mistakes at once.
//! * Ports, blocks and user ids in lists are trimmed, validated and freed of duplicates; a wrong one is refused here instead of
//!   breaking the Pod when its rules are made.
//! * A Pod in the host network is refused when it asked for injection and left alone, with a warning, when it did not:
//!   its rules would be the node's.
//! * The user ids of sidecar *and* init container are refused, on the Pod, its containers and its init containers, unless
//!   annotation `transparent-proxy-allow-proxy-uids` says otherwise.
//! * `use-proxy-health-check` follows the same boolean grammar as every other switch; numbers that are none are refused instead
//!   of counting as 0.
//! * Annotations `connect-service-upstreams`, `connect-service-port` and `connect-service-default-port` that the control plane
//!   could not read are refused, instead of a Pod that waits for ever.
//! * Names in `connect-service` are trimmed, as the control plane trims them, and must be names: they become part of a shell
//!   script.
//! * More containers than there are listeners for overwritten probes are refused, instead of sharing them.
//! * Names of injected containers and volumes are refused where the Pod has them already.
//!
//! *What is written.*
//! * `original-pod` is bounded, so that it cannot push a Pod over the limit for annotations, and never holds itself.
//! * The annotation `connect-inject-status` alone does not stop injection: the injected containers must be there. Where they
//!   are and the marks are gone, the marks are put back, and nothing is there twice.
//! * A native sidecar comes before the Pod's own init containers, whose traffic then goes through it.
//! * In CNI mode, ports of listeners that the mesh or the Pod puts elsewhere (`bind_port`, `outboundListenerPort`,
//!   `envoy_stats_bind_addr`) are in the annotation for the plugin; upstream loses them.
//! * No more than the three name servers that a Pod may have are written, the sidecar's first; `-cluster-dns` replaces those of
//!   the webhook's own resolver; search domains and options of the Pod's own are kept.
//! * An access log that no volume can be mounted for is left out, with a warning.
//! * HTTPS, gRPC and TCP probes, and the HTTP probes of init containers that restart, reach the application: their ports are
//!   let through for the node, and HTTPS probes are not rewritten to a listener without TLS. HTTP probes of a port that is
//!   excluded are not rewritten either.
//! * Bookkeeping annotations set by hand are overwritten or removed.
//! * Annotation `transparent-proxy-implicit-exclusions` tells people which ports and users are let past the proxy without
//!   anybody's asking, and why.
//! * In OpenShift, the user ids are those that the security context constraint allows that admitted the Pod; the Namespace's
//!   range is for constraints without one of their own.
//!
//! *Beyond consul-k8s*, and without a trace in the result unless they are used: warnings about what is legal and surely not
//! wanted; the annotations `transparent-proxy-exclude-gids`, `transparent-proxy-safeguards` (see [`redirect::Safeguard`]),
//! `transparent-proxy-allow-proxy-uids` and `transparent-proxy-init-containers` (`blocked` or `allowed`: what the Pod's own
//! init containers may send before there is a proxy); the flags `-transparent-proxy-default-safeguards`, `-rule-backend`
//! (which connect-init is given) and `-cluster-dns`.
//!
//! ```
//! use k8s_openapi::api::core::v1::{Namespace, Pod};
//! use webhook::{Settings, inject};
//!
//! let pod: Pod = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "web", "annotations": {"consul.hashicorp.com/connect-inject": "true"}},
//!     "spec": {"containers": [{"name": "web", "image": "pellucid/workload"}]},
//! }))?;
//! let namespace: Namespace = serde_json::from_value(serde_json::json!({"metadata": {"name": "default"}}))?;
//! let injected = inject(&pod, &namespace, &Settings::default())?;
//! let names: Vec<_> = injected.spec.iter().flat_map(|spec| &spec.containers).map(|c| c.name.as_str()).collect();
//! assert_eq!(names, ["consul-dataplane", "web"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access_log;
mod annotations;
mod arguments;
mod boolean;
mod decide;
mod dns;
mod env;
mod guard;
mod identity;
mod init_container;
mod init_order;
mod inject;
mod intent;
mod keys;
mod lifecycle;
mod listeners;
mod lists;
mod login;
mod metrics;
mod openshift;
mod original;
mod patch;
mod ports;
mod probes;
mod proxy_probes;
mod quantity;
mod reader;
mod redirect_config;
mod refusal;
mod resources;
mod services;
mod sidecar;
mod upstreams;
mod vocabulary;
mod volumes;
mod warnings;

pub mod flags;
pub mod resolv;
pub mod review;
pub mod server;
pub mod settings;
pub mod surroundings;

pub use decide::{Decision, SkipReason, decide};
pub use inject::{Admitted, admit, inject};
pub use refusal::{Mistake, Refusal};
pub use settings::Settings;
pub use surroundings::Surroundings;
