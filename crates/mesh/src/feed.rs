//! The protocol between the control plane and consul-dataplane, which stands in for Consul's gRPC on port 8502.
//!
//! `GET /v1/pellucid/proxy/<proxy id>?node=<Consul node>&index=<N>&wait=<Go duration>` answers with an [`Update`] as soon as the
//! proxy's configuration is newer than `N` (everything, when `N` is 0), with status 304 when nothing changed for so long,
//! and with 404 and a text when the proxy is not registered. `POST /v1/pellucid/dns?protocol=udp|tcp` takes a DNS message and
//! answers with one, as Consul's `DNSService.Query` does. `POST /v1/pellucid/rejected/<proxy id>` with a [`Rejected`] says that Envoy
//! refused what it got, as a NACK does over gRPC.
//!
//! Where there are ACLs, the header `X-Consul-Token` says who asks: a proxy's configuration, with its certificate, is for who may write
//! its service. `POST /v1/acl/login` and `/v1/acl/logout` are served beside it, in place of Consul's `ACLService`.
//!
//! consul-dataplane serves the resources to Envoy over a Unix socket, as xDS in JSON with requests that are held until
//! something changes. Files replaced by rename would be simpler, but Envoy opens one inotify instance for each file it
//! watches, and Linux grants a user 128 of them: a handful of proxies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Path of a proxy's configuration; the proxy id follows.
pub const PROXY_PATH: &str = "/v1/pellucid/proxy/";
/// Path that answers DNS messages.
pub const DNS_PATH: &str = "/v1/pellucid/dns";
/// Path that takes notice of what a proxy refused; the proxy id follows.
pub const REJECTED_PATH: &str = "/v1/pellucid/rejected/";
/// Name of the static Envoy cluster that leads to consul-dataplane.
pub const XDS_CLUSTER: &str = "consul-dataplane";

/// Resources by name. `None`: the resource is gone.
pub type Section = BTreeMap<String, Option<Value>>;

/// What changed in a proxy's configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// What to ask with the next time.
    pub index: u64,
    /// The service that the proxy serves; Envoy's `node.cluster`.
    pub service: String,
    /// Whether these are all resources there are, and not only those that changed.
    pub full: bool,
    /// By the last part of xDS paths: `listeners`, `clusters`, `endpoints`, `routes`, `secrets`. Values are complete xDS
    /// resources with their `@type`.
    pub resources: BTreeMap<String, Section>,
}

/// Resources that an Envoy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// `listeners`, `clusters`, `endpoints`, `routes` or `secrets`.
    pub section: String,
    /// The resource's name; empty for listeners and clusters, which Envoy takes together.
    pub name: String,
}

/// The `ConfigSource` that sends Envoy to consul-dataplane for everything.
#[must_use]
pub fn config_source() -> Value {
    json!({
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [XDS_CLUSTER],
            // the pause between two requests; the requests themselves are held
            "refresh_delay": "0.001s",
            "request_timeout": "3600s",
        },
    })
}
