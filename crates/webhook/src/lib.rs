//! The mutating admission webhook: Pod in, mutated Pod out.
//!
//! The library is pure: [`inject`] maps a Pod, its Namespace and the [`Settings`] to the injected Pod or to a [`Refusal`]
//! that lists every mistake; [`decide`] says beforehand whether anything is to be done at all. The admission server
//! around it lives in [`server`].
//!
//! The result is what consul-k8s writes, with these deliberate differences, each a mended fault:
//!
//! * Lists of ports, blocks and user ids are trimmed, validated and freed of duplicates; a wrong value is refused here
//!   instead of breaking the Pod when its rules are made. All mistakes are reported together.
//! * A Pod in the host network is refused (or left alone, when it did not ask), because its rules would be the node's.
//! * The annotation `connect-inject-status` alone does not stop injection: the injected containers must be there.
//! * The user ids of sidecar and init container are refused on init containers too.
//! * `original-pod` is bounded, so that it cannot push a Pod over the limit for annotations.
//! * More containers than there are listeners for overwritten probes are refused, instead of sharing them.
//! * An upstream annotation that the control plane could not read is refused, instead of a Pod that waits for ever.
//! * `use-proxy-health-check` follows the same boolean grammar as every other switch.
//! * No more than the three name servers that a Pod may have are written, the sidecar's first.
//! * Bookkeeping annotations set by hand are overwritten or removed.
//!
//! Beyond consul-k8s, and without a trace in the result unless they are used: the annotations
//! `transparent-proxy-exclude-gids` and `transparent-proxy-safeguards` (see [`redirect::Safeguard`]), whose default is the flag
//! `-transparent-proxy-default-safeguards`, and the flag `-rule-backend`, which connect-init is given.
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

mod annotations;
mod boolean;
mod decide;
mod dns;
mod env;
mod guard;
mod init_container;
mod inject;
mod intent;
mod keys;
mod lifecycle;
mod lists;
mod metrics;
mod original;
mod ports;
mod probes;
mod quantity;
mod reader;
mod redirect_config;
mod refusal;
mod resources;
mod sidecar;
mod upstreams;
mod volumes;

pub mod flags;
pub mod patch;
pub mod resolv;
pub mod review;
pub mod server;
pub mod settings;
pub mod surroundings;

pub use decide::{Decision, SkipReason, decide};
pub use inject::inject;
pub use refusal::{Mistake, Refusal};
pub use settings::Settings;
pub use surroundings::Surroundings;
